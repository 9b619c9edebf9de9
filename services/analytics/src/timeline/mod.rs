//! What one person did, newest first.
//!
//! The order is (ts, sequence, origin), descending: events of persons that were merged may share a sequence, as their batches lie
//! in different partitions, but then they have different origins. A page is found in two steps: the keys of the newest
//! events that match, in bounded memory; then those events in full (`event`). A page's token is the key of its last event,
//! so pages stay put while events come in.

mod event;
mod keys;
mod request;

use segue_proto::analytics::v1 as pb;

use crate::question::time::timestamp;
use crate::question::{Context, QueryError};
pub(crate) use event::{property, read};
pub(crate) use keys::{Key, Keyed, Keys, Newest};
use request::Page;

/// One page of a person's events.
pub fn query(context: &Context<'_>, request: &pb::GetPersonTimelineRequest) -> Result<pb::GetPersonTimelineResponse, QueryError> {
    let page = Page::new(context, request)?;
    // One more than asked for tells whether there is a next page.
    let mut keys = keys::newest(context, &page, page.size + 1)?;
    let more = keys.len() > page.size;
    keys.truncate(page.size);
    let next_page_token = keys.last().filter(|_| more).map(|last| page.token(last.key)).unwrap_or_default();
    Ok(pb::GetPersonTimelineResponse {
        events: read(context, page.person, &keys)?,
        next_page_token,
        person: page.person,
        watermark: Some(timestamp(context.snapshot.watermark_us())),
    })
}
