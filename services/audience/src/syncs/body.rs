//! What a batch says: the JSON of sync.proto.

use std::collections::{BTreeMap, BTreeSet};

use segue_proto::identity::v1::Person;
use serde::Serialize;

/// A message to a destination.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

/// What it is about.
#[derive(Debug, Serialize)]
pub(super) struct Data<'a> {
    pub(super) audience: &'a str,
    pub(super) sync: &'a str,
    pub(super) batch: u64,
    /// Whether it is of those that carry all members.
    pub(super) first: bool,
    /// Whether it is the first of these: whatever the destination had before is to be forgotten.
    pub(super) begins: bool,
    pub(super) entered: Vec<PersonBody>,
    pub(super) left: Vec<PersonBody>,
}

/// Somebody.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct PersonBody {
    person: u32,
    id: String,
    identifiers: BTreeMap<String, Vec<String>>,
}

impl<'a> Body<'a> {
    pub(super) fn new(now_us: i64, data: Data<'a>) -> Self {
        let moment = chrono::DateTime::from_timestamp_micros(now_us).unwrap_or_default();
        Self { r#type: "audience.changed", timestamp: moment.to_rfc3339_opts(chrono::SecondsFormat::Micros, true), data }
    }
}

/// Persons as destinations know them. `found` are these `numbers` in identity: the survivors of those that were merged, empty ones of
/// those that are not known.
pub(super) fn entered(numbers: &[u32], found: Vec<Person>, kinds: &[String]) -> Vec<PersonBody> {
    numbers.iter().zip(found).map(|(number, person)| known(*number, person, kinds)).collect()
}

/// The same of persons who left. Somebody who was merged into one of `members` has left only as a number: the identifiers are that
/// member's now, and a destination that goes by identifiers must not drop them.
pub(super) fn left(numbers: &[u32], found: Vec<Person>, kinds: &[String], members: &BTreeSet<u32>) -> Vec<PersonBody> {
    let one = |(number, person): (&u32, Person)| match members.contains(&person.number) && person.number != *number {
        true => PersonBody { person: *number, id: String::new(), identifiers: none(kinds) },
        false => known(*number, person, kinds),
    };
    numbers.iter().zip(found).map(one).collect()
}

fn known(number: u32, person: Person, kinds: &[String]) -> PersonBody {
    let mut identifiers = none(kinds);
    for identifier in person.identifiers.into_iter().filter_map(|linked| linked.identifier) {
        if let Some(values) = identifiers.get_mut(&identifier.kind) {
            values.push(identifier.value);
        }
    }
    PersonBody { person: number, id: person.id, identifiers }
}

fn none(kinds: &[String]) -> BTreeMap<String, Vec<String>> {
    kinds.iter().map(|kind| (kind.clone(), Vec::new())).collect()
}

#[cfg(test)]
mod tests {
    use segue_proto::events::v1::Identifier;
    use segue_proto::identity::v1::LinkedIdentifier;

    use super::*;

    fn person(number: u32) -> Person {
        let linked = |kind: &str| LinkedIdentifier {
            identifier: Some(Identifier { kind: kind.to_owned(), value: format!("{kind}{number}") }),
            ..LinkedIdentifier::default()
        };
        Person { number, id: format!("id{number}"), identifiers: vec![linked("email"), linked("phone")], ..Person::default() }
    }

    #[test]
    fn a_body_names_persons_with_the_kinds_of_identifiers_that_are_wanted() {
        let kinds = ["email", "user_id"].map(str::to_owned);
        let data = Data {
            audience: "buyers",
            sync: "crm",
            batch: 3,
            first: false,
            begins: false,
            entered: entered(&[7], vec![person(7)], &kinds),
            left: left(&[8, 9], vec![Person::default(), person(9)], &kinds, &BTreeSet::new()),
        };
        let found = serde_json::to_value(Body::new(1_748_426_400_000_001, data)).expect("serializes");
        let somebody = |number: u32, id: &str, emails: &[&str]| {
            let identifiers = serde_json::json!({ "email": emails, "user_id": [] });
            serde_json::json!({ "person": number, "id": id, "identifiers": identifiers })
        };
        let expected = serde_json::json!({
            "type": "audience.changed",
            "timestamp": "2025-05-28T10:00:00.000001Z",
            "data": {
                "audience": "buyers", "sync": "crm", "batch": 3, "first": false, "begins": false,
                "entered": [somebody(7, "id7", &["email7"])],
                "left": [somebody(8, "", &[]), somebody(9, "id9", &["email9"])],
            },
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn who_was_merged_into_a_member_leaves_without_taking_the_members_identifiers_along() {
        let kinds = ["email".to_owned()];
        // 5 was merged into 7, which is a member; 6 into 8, which is none.
        let left = left(&[5, 6, 7], vec![person(7), person(8), person(7)], &kinds, &BTreeSet::from([7]));
        let told: Vec<(u32, &str, usize)> = left.iter().map(|one| (one.person, one.id.as_str(), one.identifiers["email"].len())).collect();
        assert_eq!(told, [(5, "", 0), (6, "id8", 1), (7, "id7", 1)]);
    }
}
