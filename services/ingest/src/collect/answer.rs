//! What the HTTP API answers, as JSON.

use segue_proto::ingest::v1::{CollectResponse, EventOutcome, Outcome, Reason};
use serde_json::{Value, json};

use super::{BODY_BYTES_MAX, EVENT_BYTES_MAX, EVENTS_MAX, EXPANDED_BYTES_MAX};
use crate::service::Counts;

/// Why a request was refused as a whole: nothing was kept, and sending it again unchanged cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not the JSON that is expected.
    #[error("the body cannot be read: {why}")]
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// No such route.
    #[error("there is no route `{route}`: use track, identify, page, screen, group, alias, batch or import")]
    UnknownRoute {
        /// As asked for.
        route: String,
    },
    /// The body is too large.
    #[error("the body has {bytes} bytes: send at most {BODY_BYTES_MAX}")]
    BodyTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// An event is too large.
    #[error("event {index} has {bytes} bytes with the context of its batch: send at most {EVENT_BYTES_MAX}")]
    EventTooLarge {
        /// Which, from 0.
        index: usize,
        /// Its size.
        bytes: usize,
    },
    /// The context of the batch is too large for so many events.
    #[error("with the context of the batch, the events have {bytes} bytes: send at most {EXPANDED_BYTES_MAX}, or a smaller context")]
    ContextTooLarge {
        /// Size of all events, each with the context.
        bytes: usize,
    },
    /// Too many events.
    #[error("the batch has {events} events: send at most {EVENTS_MAX}")]
    TooManyEvents {
        /// How many.
        events: usize,
    },
}

impl Refused {
    /// For machines.
    pub fn code(&self) -> &'static str {
        match self {
            Refused::Malformed { .. } => "MALFORMED_BODY",
            Refused::UnknownRoute { .. } => "UNKNOWN_ROUTE",
            Refused::BodyTooLarge { .. } => "BODY_TOO_LARGE",
            Refused::EventTooLarge { .. } => "EVENT_TOO_LARGE",
            Refused::ContextTooLarge { .. } => "CONTEXT_TOO_LARGE",
            Refused::TooManyEvents { .. } => "TOO_MANY_EVENTS",
        }
    }
}

/// Status 400. `code` and `message` are what clients look for.
pub(super) fn refusal(refused: &Refused) -> CollectResponse {
    let body = json!({ "success": false, "code": refused.code(), "message": refused.to_string() });
    CollectResponse { status: 400, body: body.to_string().into(), accepted: 0, quarantined: 0, rejected: 0 }
}

/// Status 200: all that is kept is on disk. Events that were not plainly accepted are listed.
pub(super) fn outcomes(outcomes: &[EventOutcome]) -> CollectResponse {
    let Counts { accepted, quarantined, rejected } = Counts::of(outcomes);
    let mut body = json!({ "success": true, "accepted": accepted, "quarantined": quarantined, "rejected": rejected });
    let failures: Vec<Value> = outcomes
        .iter()
        .enumerate()
        .filter(|(_, outcome)| outcome.outcome() != Outcome::Accepted)
        .map(|(index, outcome)| {
            json!({
                "index": index,
                "messageId": outcome.message_id,
                "outcome": if outcome.outcome() == Outcome::Quarantined { "quarantined" } else { "rejected" },
                "reasons": outcome.reasons.iter().map(reason).collect::<Vec<_>>(),
            })
        })
        .collect();
    if !failures.is_empty() {
        body["failures"] = failures.into();
    }
    CollectResponse { status: 200, body: body.to_string().into(), accepted, quarantined, rejected }
}

fn reason(reason: &Reason) -> Value {
    let code = reason.code().as_str_name();
    json!({ "code": code.strip_prefix("REASON_CODE_").unwrap_or(code), "field": reason.field, "message": reason.message })
}
