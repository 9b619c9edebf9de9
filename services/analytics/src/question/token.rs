//! Tokens that turn the numbers of an answer into persons: the question, with all that its answer depends on filled in.
//!
//! A token is no secret and no capability: it says nothing that the caller did not send, and using it needs the same rights.

use prost::Message;
use segue_proto::analytics::v1 as pb;
use xxhash_rust::xxh3::xxh3_64;

use super::QueryError;

/// First byte of every token; another layout gets another.
const VERSION: u8 = 1;

/// A question that was answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    Events(pb::QueryEventsRequest),
    Funnel(pb::QueryFunnelRequest),
    Retention(pb::QueryRetentionRequest),
    Sessions(pb::QuerySessionsRequest),
    Path(pb::QueryPathRequest),
}

impl Asked {
    /// The token for an answer.
    pub(crate) fn token(&self) -> String {
        let (kind, body) = match self {
            Asked::Events(request) => (1, request.encode_to_vec()),
            Asked::Funnel(request) => (2, request.encode_to_vec()),
            Asked::Retention(request) => (3, request.encode_to_vec()),
            Asked::Sessions(request) => (4, request.encode_to_vec()),
            Asked::Path(request) => (5, request.encode_to_vec()),
        };
        let mut bytes = vec![VERSION, kind];
        bytes.extend(body);
        let check = xxh3_64(&bytes).to_le_bytes();
        bytes.extend(check);
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
    }

    /// Reads a token of this version.
    pub(crate) fn of_token(token: &str) -> Result<Asked, QueryError> {
        let wrong = || QueryError::invalid("report.persons_token", "not a token of a report's answer: take `persons_token` as it came");
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token).map_err(|_| wrong())?;
        let (content, check) = bytes.split_last_chunk::<8>().ok_or_else(wrong)?;
        if xxh3_64(content).to_le_bytes() != *check {
            return Err(wrong());
        }
        let [VERSION, kind, body @ ..] = content else { return Err(wrong()) };
        let asked = match kind {
            1 => pb::QueryEventsRequest::decode(body).map(Asked::Events),
            2 => pb::QueryFunnelRequest::decode(body).map(Asked::Funnel),
            3 => pb::QueryRetentionRequest::decode(body).map(Asked::Retention),
            4 => pb::QuerySessionsRequest::decode(body).map(Asked::Sessions),
            5 => pb::QueryPathRequest::decode(body).map(Asked::Path),
            _ => return Err(wrong()),
        };
        asked.map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_the_question_back_and_a_damaged_one_is_refused() {
        let asked = Asked::Path(pb::QueryPathRequest { start: "home".to_owned(), ..Default::default() });
        let token = asked.token();
        assert_eq!(Asked::of_token(&token).ok(), Some(asked));
        for broken in ["", "AAAA", &token[1..], &format!("{token}AAAA"), "ü"] {
            assert!(Asked::of_token(broken).is_err(), "{broken}");
        }
    }
}
