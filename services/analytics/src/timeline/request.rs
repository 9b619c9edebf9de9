//! A request, parsed, and the token that leads to the next page.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use segue_model::FieldViolation;
use segue_proto::analytics::v1::GetPersonTimelineRequest;
use xxhash_rust::xxh3::xxh3_64;

use super::keys::Key;
use crate::filter::fields::{ItemColumn, Resolver};
use crate::question::parse::{self, Events};
use crate::question::time::RangeUs;
use crate::question::{Context, QueryError};
use crate::scan::Column;

const SIZE_DEFAULT: usize = 50;
const SIZE_MAX: usize = 1_000;
/// Layout of tokens; another one gets another number.
const TOKEN_VERSION: u8 = 1;

/// One page of a timeline, ready to be read.
#[derive(Debug)]
pub(super) struct Page {
    /// The survivor's number.
    pub(super) person: u32,
    pub(super) range: RangeUs,
    pub(super) events: Events,
    /// Columns that the filter reads.
    pub(super) columns: Vec<Column>,
    /// Fields of items that it reads.
    pub(super) items: Vec<ItemColumn>,
    /// Events of the page at most.
    pub(super) size: usize,
    /// Only events that come before this one, which was the last of the page before.
    pub(super) before: Option<Key>,
    /// Tells requests apart: a token goes with the request that it came from.
    fingerprint: u64,
}

impl Page {
    /// Checks a request. All faults are reported at once.
    pub(super) fn new(context: &Context<'_>, request: &GetPersonTimelineRequest) -> Result<Page, QueryError> {
        let mut faults = Vec::new();
        if request.person == 0 {
            faults.push(FieldViolation::new("person", "required: the number of a person, see IdentityService.GetPerson"));
        }
        let everything = RangeUs { start: i64::MIN, end: i64::MAX };
        let range = match &request.range {
            None => Some(everything),
            Some(range) => parse::range(Some(range), "range", &mut faults),
        };
        let vocabulary = context.vocabulary();
        let mut resolver = Resolver::new(&vocabulary);
        let (events, _) = parse::selector(request.on.as_ref(), "on", &mut resolver, &mut faults);
        let size = match usize::try_from(request.page_size) {
            Ok(0) => SIZE_DEFAULT,
            Ok(size) if size <= SIZE_MAX => size,
            Ok(_) | Err(_) => {
                faults.push(FieldViolation::new("page_size", format!("between 1 and {SIZE_MAX}; 0 means {SIZE_DEFAULT}")));
                SIZE_DEFAULT
            }
        };
        // Everything that decides which events there are, and where they start; the size of pages may change on the way.
        let same = GetPersonTimelineRequest { page_size: 0, page_token: String::new(), ..request.clone() };
        let fingerprint = xxh3_64(&same.encode_to_vec());
        let before = (!request.page_token.is_empty()).then(|| key_of(&request.page_token, fingerprint));
        if before == Some(None) {
            let description = "not a token of this request's answer: take `next_page_token` as it came and leave the rest as it was";
            faults.push(FieldViolation::new("page_token", description));
        }
        let (Some(range), true) = (range, faults.is_empty()) else { return Err(QueryError::Invalid(faults)) };
        let Resolver { columns, items, .. } = resolver;
        let person = context.snapshot.survivor(request.person);
        Ok(Page { person, range, events, columns, items, size, before: before.flatten(), fingerprint })
    }

    /// The token of the page after the one that ends with this event.
    pub(super) fn token(&self, last: Key) -> String {
        let mut bytes = vec![TOKEN_VERSION];
        bytes.extend(self.fingerprint.to_le_bytes());
        bytes.extend(last.ts.to_le_bytes());
        bytes.extend(last.sequence.to_le_bytes());
        bytes.extend(last.origin.to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn key_of(token: &str, fingerprint: u64) -> Option<Key> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (of_request, rest) = rest.split_first_chunk::<8>()?;
    let (ts, rest) = rest.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let origin = rest.try_into().ok()?;
    let key = Key { ts: i64::from_le_bytes(*ts), sequence: u64::from_le_bytes(*sequence), origin: u32::from_le_bytes(origin) };
    (*version == TOKEN_VERSION && u64::from_le_bytes(*of_request) == fingerprint).then_some(key)
}
