//! Everything that a tenant defined, and what refers to what.

use std::collections::{BTreeMap, BTreeSet};

use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, membership::Of};

use super::Mode;
use crate::error::Kind;

/// A segment or audience as it is now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    pub(crate) archived: bool,
    pub(crate) version: u32,
    pub(crate) condition: Condition,
    /// Of an audience.
    pub(crate) mode: Mode,
    /// Of an audience: buckets below this number are held out.
    pub(crate) holdout: u32,
    /// Of an audience: IANA; empty: the tenant's.
    pub(crate) time_zone: String,
}

/// Segments, audiences and lists of a tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    pub(crate) definitions: BTreeMap<(Kind, String), Definition>,
    /// Whether each list is archived.
    pub(crate) lists: BTreeMap<String, bool>,
}

impl Graph {
    /// A segment or audience.
    pub(crate) fn find(&self, kind: Kind, id: &str) -> Option<&Definition> {
        // Keys own their text: a lookup by a borrowed one would need a key of its own as well.
        self.definitions.get(&(kind, id.to_owned()))
    }

    /// What is not archived and refers to this, by kind and id.
    pub(crate) fn users_of(&self, kind: Kind, id: &str) -> Vec<(Kind, &str)> {
        let in_use = self.definitions.iter().filter(|(_, definition)| !definition.archived);
        let users = in_use.filter(|(_, definition)| references(&definition.condition).contains(&(kind, id)));
        users.map(|((kind, id), _)| (*kind, id.as_str())).collect()
    }

    /// What is not archived and refers to this by whatever way.
    pub(crate) fn dependents_of(&self, kind: Kind, id: &str) -> BTreeSet<(Kind, &str)> {
        let mut users: BTreeMap<(Kind, &str), Vec<(Kind, &str)>> = BTreeMap::new();
        for ((user_kind, user), definition) in &self.definitions {
            if !definition.archived {
                for used in references(&definition.condition) {
                    users.entry(used).or_default().push((*user_kind, user));
                }
            }
        }
        let mut found = BTreeSet::new();
        let mut next = vec![(kind, id)];
        while let Some(used) = next.pop() {
            for user in users.get(&used).into_iter().flatten() {
                if found.insert(*user) {
                    next.push(*user);
                }
            }
        }
        found
    }
}

/// What a condition refers to itself.
pub(crate) fn references(condition: &Condition) -> BTreeSet<(Kind, &str)> {
    let mut found = BTreeSet::new();
    let mut next = vec![condition];
    while let Some(condition) = next.pop() {
        match &condition.node {
            Some(Node::All(list) | Node::Any(list)) => next.extend(&list.conditions),
            Some(Node::Not(inner)) => next.push(inner),
            Some(Node::MemberOf(membership)) => found.extend(membership.of.as_ref().map(reference)),
            Some(
                Node::Behavior(_)
                | Node::Sequence(_)
                | Node::Attribute(_)
                | Node::Acquisition(_)
                | Node::RandomBucket(_)
                | Node::Persons(_)
                | Node::HasIdentifier(_),
            )
            | None => {}
        }
    }
    found
}

/// What is referred to.
pub(crate) fn reference(of: &Of) -> (Kind, &str) {
    match of {
        Of::Segment(id) => (Kind::Segment, id),
        Of::Audience(id) => (Kind::Audience, id),
        Of::List(id) => (Kind::List, id),
    }
}
