//! `EvaluateConditions`: many conditions over one snapshot, for whoever keeps their persons up to date.
//!
//! | module | does |
//! |---|---|
//! | `request` | checks a request: every distinct condition once, and about whom it is asked |
//! | `wanted` | says which batches of the log the snapshot has to hold |
//!
//! What conditions mean, how those of one call share their work and when time alone may change them is `crate::condition`.

mod request;
mod wanted;

use segue_proto::analytics::v1 as pb;

use crate::condition::{self, Edges};
use crate::index::Position;
use crate::persons::bytes_of;
use crate::question::{Context, QueryError};
use request::{Asked, Item};
pub(crate) use wanted::wanted;

/// A deletion is shown some time after the moment that it names, by another clock than the watermark's: whoever was deleted shortly before
/// a moment may have been seen at it. It harms nobody to be looked at once more.
const DELETION_SLACK_US: i64 = 60_000_000;

/// Who meets the conditions. `kept_from_us`: with `removed_since_us`, the earliest event that has been shown since then.
pub fn evaluate(
    context: &Context<'_>,
    request: &pb::EvaluateConditionsRequest,
    kept_from_us: i64,
) -> Result<pb::EvaluateConditionsResponse, QueryError> {
    let asked = Asked::parse(context, request)?;
    let asks: Vec<_> = asked.items.iter().map(|item| item.ask(&asked.conditions)).collect();
    let met = condition::evaluate_all(context, &asks)?;
    let of_edges: Vec<_> = asked.items.iter().filter_map(|item| item.edges_ask(&asked.conditions)).collect();
    let mut edges = condition::edges_of_all(context, &of_edges)?.into_iter();
    let items = asked.items.iter().zip(&met).map(|(item, met)| {
        let edges = if item.edges.is_some() { edges.next() } else { None };
        answer(item, bytes_of(met), edges)
    });
    let items = items.collect();
    Ok(pb::EvaluateConditionsResponse {
        items,
        as_of_us: asked.now_us,
        watermark_us: context.snapshot.watermark_us(),
        positions: Vec::new(),
        removed: match request.removed_since_us {
            0 => Vec::new(),
            since_us => {
                let deleted = context.snapshot.deleted_since(since_us.saturating_sub(DELETION_SLACK_US));
                bytes_of(&(deleted | context.snapshot.outdated_since(kept_from_us)?))
            }
        },
    })
}

fn answer(item: &Item, met: Vec<u8>, edges: Option<Edges>) -> pb::EvaluatedItem {
    let survivors = item.survivors.as_ref().map(bytes_of).unwrap_or_default();
    let Some(edges) = edges else { return pb::EvaluatedItem { met, survivors, ..pb::EvaluatedItem::default() } };
    let mut before = 0_i64;
    let differences = edges.moments.iter().map(|(at, _)| {
        let difference = at.wrapping_sub(before);
        before = *at;
        difference
    });
    pb::EvaluatedItem {
        met,
        survivors,
        edge_times_us: differences.collect(),
        edge_persons: edges.moments.iter().map(|(_, person)| *person).collect(),
        edges_until_us: edges.until_us,
    }
}

/// As messages have them.
pub(crate) fn messages(positions: Vec<Position>) -> Vec<pb::LogPosition> {
    let message =
        |Position { topic, partition, position }| pb::LogPosition { topic: String::from(topic), partition: u32::from(partition), position };
    positions.into_iter().map(message).collect()
}
