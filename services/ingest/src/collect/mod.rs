//! Bodies of the HTTP API that published SDKs speak (Segment's and RudderStack's shapes). See http-ingest.md in the design.
//!
//! A body is cut into its events without reading them (`split`), each event is read by itself (`message`), and what was
//! wrong with one stays with it. To understand one more field: `message` for the envelope, `context` for the context,
//! `commerce` for orders and products.

pub mod answer;
mod commerce;
mod context;
mod message;
mod split;
pub(crate) mod value;

use segue_model::TenantId;
use segue_proto::ingest::v1::{CollectResponse, EventOutcome};
use serde_json::{Map, Value};

use crate::accept::{Candidate, Origin};
use crate::{Accept, IngestError};

pub use answer::Refused;

/// Bytes of one event, as JSON, with the context of its batch.
pub const EVENT_BYTES_MAX: usize = 32 << 10;
/// Bytes of one body.
pub const BODY_BYTES_MAX: usize = 500 << 10;
/// Events of one body.
pub const EVENTS_MAX: usize = 2_500;
/// Bytes of all events of a body, each with the context of the batch.
pub const EXPANDED_BYTES_MAX: usize = 8 << 20;

/// Accepts one request. What is wrong with the request as a whole is a response of status 400, and nothing was kept.
pub async fn collect(accept: &Accept, tenant: &TenantId, origin: Origin, route: &str, body: &[u8]) -> Result<CollectResponse, IngestError> {
    let candidates = match read(route, body, origin.received_at_us) {
        Ok(candidates) => candidates,
        Err(refused) => return Ok(answer::refusal(&refused)),
    };
    let outcomes: Vec<EventOutcome> =
        if candidates.is_empty() { Vec::new() } else { accept.accept_candidates(tenant, origin, candidates).await? };
    Ok(answer::outcomes(&outcomes))
}

/// Reads a body: one candidate per event, in order. Pure; never panics, whatever the bytes.
pub fn read(route: &str, body: &[u8], received_at_us: i64) -> Result<Vec<Candidate>, Refused> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Refused::BodyTooLarge { bytes: body.len() });
    }
    let route_kind = match route {
        "batch" | "import" => None,
        "track" | "identify" | "page" | "screen" | "group" | "alias" => Some(route),
        _ => return Err(Refused::UnknownRoute { route: route.chars().take(40).collect() }),
    };
    let shared = message::Shared { received_at_us, route_kind, context: None, sent_at: None };
    if route_kind.is_some() {
        check_size(0, body.len())?;
        let event: Map<String, Value> = serde_json::from_slice(body).map_err(|error| Refused::Malformed { why: error.to_string() })?;
        return Ok(vec![message::read(event, &shared)]);
    }
    let envelope = split::object(body).map_err(|fault| Refused::Malformed { why: fault.to_string() })?;
    let field = |name: &str| envelope.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value);
    let Some(batch) = field("batch") else { return Err(Refused::Malformed { why: "there is no `batch`".to_owned() }) };
    let elements = split::array(batch).map_err(|fault| Refused::Malformed { why: format!("batch: {fault}") })?;
    if elements.len() > EVENTS_MAX {
        return Err(Refused::TooManyEvents { events: elements.len() });
    }
    // Each event gets the batch's context, so a small body can stand for much more than it holds: before any of it is
    // parsed, each event counts as what it becomes.
    let context = field("context");
    let context_bytes = context.map_or(0, <[u8]>::len);
    for (index, element) in elements.iter().enumerate() {
        check_size(index, element.len() + context_bytes)?;
    }
    let expanded = body.len() + elements.len() * context_bytes;
    if expanded > EXPANDED_BYTES_MAX {
        return Err(Refused::ContextTooLarge { bytes: expanded });
    }
    let shared = message::Shared {
        // What is unreadable here concerns no event in particular; events have their own.
        context: context.and_then(|text| serde_json::from_slice(text).ok()),
        sent_at: field("sentAt").and_then(|text| serde_json::from_slice(text).ok()),
        ..shared
    };
    Ok(elements.into_iter().map(|element| read_element(element, &shared)).collect())
}

fn check_size(index: usize, bytes: usize) -> Result<(), Refused> {
    if bytes > EVENT_BYTES_MAX { Err(Refused::EventTooLarge { index, bytes }) } else { Ok(()) }
}

fn read_element(element: &[u8], shared: &message::Shared<'_>) -> Candidate {
    match serde_json::from_slice::<Map<String, Value>>(element) {
        Ok(event) => message::read(event, shared),
        Err(error) => message::unreadable(&error.to_string()),
    }
}
