//! The values of one dimension or property, the most frequent first: what the author of a filter picks from.
//!
//! Values are counted once per event that carries them, item properties once per item. Ties are in the order of values, *missing*
//! last. A search leaves only texts that contain it, whatever the case; `values_total` counts what is left. Without a range it is
//! the 30 days up to the watermark, `(watermark − 30 d, watermark]`; everything, while a tenant that catches up has none.

mod count;
mod request;

use std::time::Instant;

use segue_proto::analytics::v1 as pb;

use crate::question::{Context, QueryError};
use count::Counts;
use request::Asked;

/// Lists the values.
pub fn query(context: &Context<'_>, request: &pb::ListDimensionValuesRequest) -> Result<pb::ListDimensionValuesResponse, QueryError> {
    let started = Instant::now();
    let asked = Asked::new(context, request)?;
    let mut counts = Counts::new(context.limits.report.cells_max);
    let mut scan = context.snapshot.scan(asked.scan());
    for batch in scan.by_ref() {
        context.check()?;
        counts.add(&asked, &batch?)?;
    }
    let stats = scan.stats();
    let (values, values_total) = counts.most_frequent(asked.limit);
    Ok(pb::ListDimensionValuesResponse {
        values: values.into_iter().map(|(value, count)| pb::DimensionValue { value: Some(value.group_value()), count }).collect(),
        values_total,
        stats: Some(pb::ExecutionStats {
            rows_scanned: stats.rows,
            files: stats.files,
            tail_rows: stats.tail_rows,
            seconds: started.elapsed().as_secs_f64(),
        }),
    })
}
