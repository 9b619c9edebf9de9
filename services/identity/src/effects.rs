//! What a transaction has to write: the rules note here what they changed in the registry.

use std::collections::{BTreeMap, HashMap};

use segue_proto::events::v1::Value;
use segue_proto::identity::v1::LinkKind;

use crate::cache::KeyMap;
use crate::identifier::{Id, Key};
use crate::registry::{Link, TraitValue};

/// One record of the link log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRecord {
    /// Ascending per tenant, without gaps.
    pub sequence: u64,
    /// What happened.
    pub kind: LinkKind,
    /// The person concerned; of a merge the survivor.
    pub person: u32,
    /// The other person, or 0.
    pub other_person: u32,
    /// Kind of the identifier; empty if there is none.
    pub identifier_kind: String,
    /// Its value.
    pub identifier_value: String,
    /// Event time of the cause.
    pub time_us: i64,
    /// Why, for people.
    pub reason: String,
}

/// An identifier to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentifierRow {
    /// Which.
    pub id: Id,
    /// What it leads to now.
    pub link: Link,
}

/// Changes since the last commit, of one tenant.
#[derive(Debug, Default)]
pub struct Effects {
    /// Identifiers that are new or changed, each once.
    pub identifiers: Vec<IdentifierRow>,
    identifier_rows: KeyMap<Key, usize>,
    /// When persons that are new or changed were first and last seen.
    pub persons: BTreeMap<u32, (i64, i64)>,
    /// Persons that became part of others, in order.
    pub merges: Vec<(u32, u32)>,
    /// Records for the link log, in order.
    pub links: Vec<LinkRecord>,
    /// Winning traits by person and name.
    pub traits: HashMap<(u32, String), TraitValue>,
}

impl Effects {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.identifiers.is_empty() && self.persons.is_empty() && self.links.is_empty() && self.traits.is_empty()
    }

    /// Notes the present state of an identifier.
    pub fn set_identifier(&mut self, id: &Id, link: Link) {
        match self.identifier_rows.get(&id.key) {
            Some(row) => self.identifiers[*row].link = link,
            None => {
                self.identifier_rows.insert(id.key, self.identifiers.len());
                self.identifiers.push(IdentifierRow { id: id.clone(), link });
            }
        }
    }

    /// Notes a trait that was set; the later event time wins, of equal ones the later call.
    pub fn set_trait(&mut self, person: u32, name: &str, value: &Value, time_us: i64, ordinal: u64) {
        let candidate = TraitValue { value: value.clone(), time_us, ordinal };
        match self.traits.entry((person, name.to_owned())) {
            std::collections::hash_map::Entry::Occupied(mut known) => {
                if candidate.wins_over(known.get()) {
                    known.insert(candidate);
                }
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(candidate);
            }
        }
    }
}
