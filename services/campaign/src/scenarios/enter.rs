//! What a request to enter by call holds, and whom it means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message;
use segue_model::identifier::{VALUE_BYTES_MAX, is_kind};
use segue_model::{FieldViolation, TenantId};
use segue_proto::campaign::v1::entrant::Who;
use segue_proto::campaign::v1::{EnterScenarioRequest, Entrant};
use segue_proto::events::v1::value::Kind as ValueKind;
use segue_proto::events::v1::{Identifier, Value};
use segue_proto::identity::v1::LookupIdentifiersRequest;
use segue_runtime::fields;
use segue_runtime::peers::{PeerError, request};
use tonic::Status;
use xxhash_rust::xxh3::Xxh3;

use crate::error::CampaignError;
use crate::flow::machine::{Entered, json_of};
use crate::peers::Peers;
use crate::persons;

const ENTRANTS_MAX: usize = 1_000;
const REQUEST_ID_BYTES_MAX: usize = 128;
const ENTRY_KEY_BYTES_MAX: usize = 255;
/// Of all properties of an entrant.
const PROPERTIES_BYTES_MAX: usize = 8 << 10;
/// How long identity may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A request that was found right.
#[derive(Debug, Clone)]
pub(super) struct Enter {
    pub(super) scenario: String,
    pub(super) request_id: String,
    /// Stands for what is asked for: another request under the same id has another one.
    pub(super) fingerprint: String,
    pub(super) entrants: Vec<Entering>,
}

/// Who is to enter, and with what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entering {
    pub(super) who: Who,
    pub(super) entry_key: String,
    pub(super) properties: BTreeMap<String, Value>,
}

impl Entering {
    /// What templates see as `event`.
    pub(super) fn event(&self, request_id: &str, now_us: i64) -> Entered {
        Entered {
            time_us: now_us,
            message_id: request_id.to_owned(),
            properties: self.properties.iter().map(|(name, value)| (name.clone(), json_of(value))).collect(),
            ..Entered::default()
        }
    }
}

/// Reads a request.
pub(super) fn parse(request: EnterScenarioRequest) -> Result<Enter, CampaignError> {
    let EnterScenarioRequest { id, entrants, request_id } = request;
    let mut faults = Vec::new();
    if !(1..=REQUEST_ID_BYTES_MAX).contains(&request_id.len()) || request_id.contains('\0') {
        let fault = format!("1 to {REQUEST_ID_BYTES_MAX} bytes, the same when the request is repeated");
        faults.push(FieldViolation::new("request_id", fault));
    }
    if !(1..=ENTRANTS_MAX).contains(&entrants.len()) {
        faults.push(FieldViolation::new("entrants", format!("1 to {ENTRANTS_MAX} entrants: split what is more")));
    }
    // Before anything is done per entrant.
    fields::refuse(std::mem::take(&mut faults))?;
    let entrants: Vec<Entering> =
        entrants.into_iter().enumerate().filter_map(|(at, entrant)| entering(&mut faults, &format!("entrants[{at}]"), entrant)).collect();
    fields::refuse(faults)?;
    Ok(Enter { scenario: id, request_id, fingerprint: fingerprint(&entrants), entrants })
}

/// Reads an entrant; None: there are faults.
fn entering(faults: &mut Vec<FieldViolation>, path: &str, entrant: Entrant) -> Option<Entering> {
    let Entrant { who, entry_key, properties } = entrant;
    let before = faults.len();
    match &who {
        Some(Who::Identifier(identifier)) => check_identifier(faults, path, identifier),
        Some(Who::Person(_)) => {}
        None => faults.push(FieldViolation::new(path, "set one of person and identifier")),
    }
    // PostgreSQL cannot store the NUL character.
    if entry_key.len() > ENTRY_KEY_BYTES_MAX || entry_key.contains('\0') {
        faults.push(FieldViolation::new(format!("{path}.entry_key"), format!("at most {ENTRY_KEY_BYTES_MAX} bytes")));
    }
    let bytes: usize = properties.iter().map(|(name, value)| name.len() + value.encoded_len()).sum();
    if bytes > PROPERTIES_BYTES_MAX {
        let fault = format!("take more than {} KiB: leave out what no template uses", PROPERTIES_BYTES_MAX >> 10);
        faults.push(FieldViolation::new(format!("{path}.properties"), fault));
    }
    let properties: BTreeMap<String, Value> = properties.into_iter().collect();
    for (name, value) in &properties {
        let holds_nul = match &value.kind {
            Some(ValueKind::StringValue(text) | ValueKind::JsonValue(text)) => text.contains('\0'),
            _ => false,
        };
        if value.kind.is_none() || holds_nul || name.contains('\0') {
            let fault = "a value of one of the kinds, without the NUL character";
            faults.push(FieldViolation::new(format!("{path}.properties[{name:?}]"), fault));
        }
    }
    if faults.len() > before {
        return None;
    }
    Some(Entering { who: who?, entry_key, properties })
}

fn check_identifier(faults: &mut Vec<FieldViolation>, path: &str, identifier: &Identifier) {
    if !is_kind(&identifier.kind) {
        let fault = "1 to 64 characters of a-z, 0-9 and '_', for example `user_id`";
        faults.push(FieldViolation::new(format!("{path}.identifier.kind"), fault));
    }
    if !(1..=VALUE_BYTES_MAX).contains(&identifier.value.len()) || identifier.value.contains('\0') {
        faults.push(FieldViolation::new(format!("{path}.identifier.value"), format!("1 to {VALUE_BYTES_MAX} bytes")));
    }
}

/// Two requests have the same one if they ask for the same, however their properties are ordered.
fn fingerprint(entrants: &[Entering]) -> String {
    let mut hash = Xxh3::new();
    let mut put = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for Entering { who, entry_key, properties } in entrants {
        match who {
            Who::Person(number) => put(&number.to_le_bytes()),
            Who::Identifier(identifier) => {
                put(b"");
                put(identifier.kind.as_bytes());
                put(identifier.value.as_bytes());
            }
        }
        put(entry_key.as_bytes());
        put(&(properties.len() as u64).to_le_bytes());
        for (name, value) in properties {
            put(name.as_bytes());
            put(&value.encode_to_vec());
        }
    }
    format!("{:032x}", hash.digest128())
}

/// Who they are now, in their order; None: nobody.
pub(super) async fn persons_of(peers: &Peers, tenant: &TenantId, entrants: &[Entering]) -> Result<Vec<Option<u32>>, CampaignError> {
    let mut numbers = BTreeSet::new();
    let mut identifiers = Vec::new();
    for entrant in entrants {
        match &entrant.who {
            Who::Person(0) => {}
            Who::Person(number) => {
                numbers.insert(*number);
            }
            Who::Identifier(identifier) => identifiers.push(identifier.clone()),
        }
    }
    let asked = identifiers.len();
    let mut looked_up = Vec::new();
    if asked > 0 {
        let request = request(tenant, LookupIdentifiersRequest { identifiers }, TIMEOUT);
        looked_up = peers.identity().lookup_identifiers(request).await.map_err(PeerError::identity)?.into_inner().persons;
        if looked_up.len() != asked {
            return Err(PeerError::identity(Status::internal(format!("{} persons for {asked} identifiers", looked_up.len()))).into());
        }
    }
    let profiles = persons::get(peers, tenant, &numbers).await?;
    let survivors: BTreeMap<u32, u32> = profiles.into_iter().map(|(number, profile)| (number, profile.number)).collect();
    Ok(told(entrants, looked_up, &survivors))
}

/// Puts together what identity said: persons of the identifiers in their order (0: nobody), and the present numbers of known persons.
fn told(entrants: &[Entering], looked_up: Vec<u32>, survivors: &BTreeMap<u32, u32>) -> Vec<Option<u32>> {
    let mut looked_up = looked_up.into_iter();
    let person = |entrant: &Entering| match &entrant.who {
        Who::Person(number) => survivors.get(number).copied(),
        Who::Identifier(_) => looked_up.next().filter(|number| *number != 0),
    };
    entrants.iter().map(person).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use super::*;

    pub(crate) fn text(text: &str) -> Value {
        Value { kind: Some(ValueKind::StringValue(text.to_owned())) }
    }

    pub(crate) fn person(number: u32, entry_key: &str) -> Entrant {
        Entrant { who: Some(Who::Person(number)), entry_key: entry_key.to_owned(), properties: HashMap::new() }
    }

    fn email(value: &str) -> Entrant {
        let identifier = Identifier { kind: "email".to_owned(), value: value.to_owned() };
        Entrant { who: Some(Who::Identifier(identifier)), ..Entrant::default() }
    }

    fn request(entrants: Vec<Entrant>, request_id: &str) -> EnterScenarioRequest {
        EnterScenarioRequest { id: "s".to_owned(), entrants, request_id: request_id.to_owned() }
    }

    fn fields(request: EnterScenarioRequest) -> Vec<String> {
        match parse(request) {
            Err(CampaignError::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
            other => panic!("not invalid: {other:?}"),
        }
    }

    #[test]
    fn faults_of_a_request_to_enter_are_told_with_their_paths() {
        assert_eq!(fields(request(Vec::new(), "")), ["request_id", "entrants"]);
        assert_eq!(fields(request(vec![person(1, ""); 1_001], &"r".repeat(129))), ["request_id", "entrants"]);
        let odd = Entrant {
            properties: HashMap::from([("a".to_owned(), Value::default()), ("b".to_owned(), text("x\0")), ("c".to_owned(), text("홍"))]),
            ..person(1, &"k".repeat(256))
        };
        let wide = Entrant { properties: HashMap::from([("w".to_owned(), text(&"x".repeat(8 << 10)))]), ..person(1, "a\0") };
        let named =
            Entrant { who: Some(Who::Identifier(Identifier { kind: "E-Mail".to_owned(), value: String::new() })), ..Entrant::default() };
        let expected = [
            "entrants[1]",
            "entrants[2].entry_key",
            "entrants[2].properties[\"a\"]",
            "entrants[2].properties[\"b\"]",
            "entrants[3].entry_key",
            "entrants[3].properties",
            "entrants[4].identifier.kind",
            "entrants[4].identifier.value",
        ];
        assert_eq!(fields(request(vec![person(1, ""), Entrant::default(), odd, wide, named], "r")), expected);
    }

    #[test]
    fn the_same_request_has_the_same_fingerprint_and_another_one_another() {
        let properties: HashMap<String, Value> = (0..20).map(|at| (format!("p{at}"), text("v"))).collect();
        let with = |properties: &HashMap<String, Value>| Entrant { properties: properties.clone(), ..person(1, "k") };
        let of = |entrants: Vec<Entrant>| parse(request(entrants, "r")).expect("a right request").fingerprint;
        // Another map holds the same in another order.
        let again: HashMap<String, Value> = properties.clone().into_iter().collect();
        assert_eq!(of(vec![with(&properties)]), of(vec![with(&again)]));
        let mut fewer = properties.clone();
        fewer.remove("p0");
        let all = [
            vec![with(&properties)],
            vec![with(&fewer)],
            vec![person(1, "k")],
            vec![person(2, "k")],
            vec![person(1, "")],
            vec![person(1, "k"), person(1, "k")],
            vec![email("k")],
            vec![email("l")],
        ];
        let distinct: BTreeSet<String> = all.iter().cloned().map(of).collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn what_identity_says_is_told_in_the_order_of_the_entrants() {
        let entrants = vec![person(7, ""), email("a"), person(0, ""), email("nobody"), person(8, ""), email("b"), person(9, "")];
        let entrants = parse(request(entrants, "r")).expect("a right request").entrants;
        let survivors = BTreeMap::from([(7, 7), (8, 5)]);
        let persons = told(&entrants, vec![3, 0, 5], &survivors);
        assert_eq!(persons, [Some(7), Some(3), None, None, Some(5), Some(5), None]);
    }
}
