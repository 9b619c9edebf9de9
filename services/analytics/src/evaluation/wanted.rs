//! What a snapshot has to hold before conditions are evaluated over it.

use std::time::Duration;

use segue_model::FieldViolation;
use segue_proto::analytics::v1::EvaluateConditionsRequest;

use crate::index::{Index, Position, Wanted};
use crate::question::QueryError;

const WAIT_MS_DEFAULT: u32 = 1_000;
const WAIT_MS_MAX: u32 = 10_000;

/// What the snapshot of a request has to hold, and how long to wait for it.
pub(crate) fn wanted(index: &Index, request: &EvaluateConditionsRequest) -> Result<(Wanted, Duration), QueryError> {
    let mut faults = Vec::new();
    let mut positions = Vec::with_capacity(request.at_least.len());
    for (at, asked) in request.at_least.iter().enumerate() {
        match index.followed(&asked.topic, asked.partition) {
            Some((topic, partition)) => positions.push(Position { topic, partition, position: asked.position }),
            None => {
                let what =
                    format!("partition {} of `{}` is not followed here: `resolved` and `identity` are", asked.partition, asked.topic);
                faults.push(FieldViolation::new(format!("at_least[{at}]"), what));
            }
        }
    }
    let wait_ms = if request.wait_ms == 0 { WAIT_MS_DEFAULT } else { request.wait_ms };
    if wait_ms > WAIT_MS_MAX {
        faults.push(FieldViolation::new("wait_ms", format!("at most {WAIT_MS_MAX}; 0 is {WAIT_MS_DEFAULT}")));
    }
    if !faults.is_empty() {
        return Err(QueryError::Invalid(faults));
    }
    // A tenant that is catching up has no watermark: it lacks events of any age.
    Ok((Wanted { positions, watermark_us: 1 }, Duration::from_millis(u64::from(wait_ms))))
}
