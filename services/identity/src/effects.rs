//! What a transaction has to write: the rules note here what they changed in the registry.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use segue_proto::identity::v1::LinkKind;

use crate::cache::KeyMap;
use crate::consent::Consent;
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

/// A trait that was set, perhaps several times.
#[derive(Debug, Clone, PartialEq)]
pub struct TraitChange {
    /// The value that won.
    pub winner: TraitValue,
    /// Ordinal of the first value. Where names are limited the first come first, however events are put into transactions.
    pub first_ordinal: u64,
}

/// Traits that were set, by whose they are and by name.
pub type TraitChanges<K> = HashMap<(K, String), TraitChange>;

/// When a person was noted as a member of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Event time of the first GROUP event.
    pub first_seen_us: i64,
    /// Event time of the last one.
    pub last_seen_us: i64,
    /// Place among the memberships of these changes; where they are limited the first come first.
    pub order: u64,
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
    /// Traits of persons.
    pub traits: TraitChanges<u32>,
    /// What was said of messages, in order, with the number of whom it was said.
    pub consents: Vec<(u32, Consent)>,
    /// When accounts were first and last seen.
    pub accounts: BTreeMap<String, (i64, i64)>,
    /// Traits of accounts.
    pub account_traits: TraitChanges<String>,
    /// Memberships by person and account.
    pub memberships: HashMap<(u32, String), Membership>,
}

impl Effects {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        // Traits and memberships of accounts come with an account.
        self.identifiers.is_empty()
            && self.persons.is_empty()
            && self.links.is_empty()
            && self.traits.is_empty()
            && self.consents.is_empty()
            && self.accounts.is_empty()
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

    /// Notes a trait of a person; the later event time wins, of equal ones the later call.
    pub fn set_trait(&mut self, person: u32, name: &str, candidate: TraitValue) {
        set(&mut self.traits, person, name, candidate);
    }

    /// Notes a trait of an account, by the same rule.
    pub fn set_account_trait(&mut self, account: &str, name: &str, candidate: TraitValue) {
        set(&mut self.account_traits, account.to_owned(), name, candidate);
    }

    /// Notes that an event was about an account.
    pub fn see_account(&mut self, account: &str, time_us: i64) {
        match self.accounts.get_mut(account) {
            Some((first, last)) => (*first, *last) = (time_us.min(*first), time_us.max(*last)),
            None => drop(self.accounts.insert(account.to_owned(), (time_us, time_us))),
        }
    }

    /// Notes that a person acted for an account.
    pub fn join_account(&mut self, person: u32, account: &str, time_us: i64) {
        let order = self.memberships.len() as u64;
        let new = Membership { first_seen_us: time_us, last_seen_us: time_us, order };
        let known = self.memberships.entry((person, account.to_owned())).or_insert(new);
        known.first_seen_us = known.first_seen_us.min(time_us);
        known.last_seen_us = known.last_seen_us.max(time_us);
    }
}

fn set<K: Eq + Hash>(changes: &mut TraitChanges<K>, owner: K, name: &str, candidate: TraitValue) {
    match changes.entry((owner, name.to_owned())) {
        Entry::Occupied(mut known) => {
            if candidate.wins_over(&known.get().winner) {
                known.get_mut().winner = candidate;
            }
        }
        Entry::Vacant(free) => {
            let first_ordinal = candidate.ordinal;
            free.insert(TraitChange { winner: candidate, first_ordinal });
        }
    }
}
