//! Persons in place of lists and of kinds of identifiers.
//!
//! # Lists and persons who were merged
//!
//! A list may hold the number of somebody who was merged since. Analytics takes it for the survivor's, but a list that was cut down to the
//! numbers asked about would have lost it. So a list is put in place whole, up to [`WHOLE_BYTES_MAX`] or when many are asked about. Of a
//! larger one, identity first says which numbers are one person with those asked about, and the list is cut down to all of them: what is cut
//! off is no number of theirs, and decides nothing about them.

use std::collections::BTreeMap;
use std::time::Duration;

use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_proto::identity::v1::SelectIdentifiedRequest;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, ConditionList, Membership, PersonSet, membership::Of};
use segue_runtime::peers::{PeerError, request};

use super::numbers::{ASKED_MAX, damaged};
use super::{Definitions, Expanded};
use crate::error::AudienceError;
use crate::lists::{chunks, store as lists};

/// Largest set of persons that analytics takes, serialised.
pub(crate) const SET_BYTES_MAX: usize = 8 << 20;
/// A list of at most so many bytes is always put in place whole.
const WHOLE_BYTES_MAX: u64 = 1 << 20;
/// Kinds of identifiers that identity answers at once.
const KINDS_MAX: usize = 20;
/// How long identity may take over all persons of a tenant.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(60);

/// What is put in place, serialised.
#[derive(Debug, Default)]
struct Sets {
    lists: BTreeMap<String, Vec<u8>>,
    identified: BTreeMap<String, Vec<u8>>,
}

impl Definitions {
    /// See [`Definitions::resolve`].
    pub(super) async fn resolve_sets(
        &self,
        tenant: &TenantId,
        expanded: &Expanded,
        within: Option<&RoaringBitmap>,
    ) -> Result<Condition, AudienceError> {
        if expanded.lists.is_empty() && expanded.identifier_kinds.is_empty() {
            return Ok(expanded.condition.clone());
        }
        let mut sets = Sets::default();
        if within.is_none_or(|within| !within.is_empty()) {
            self.read_lists(tenant, expanded, within, &mut sets).await?;
            self.ask_who_is_identified(tenant, expanded, within, &mut sets).await?;
        }
        Ok(placed(&expanded.condition, &sets))
    }

    async fn read_lists(
        &self,
        tenant: &TenantId,
        expanded: &Expanded,
        within: Option<&RoaringBitmap>,
        sets: &mut Sets,
    ) -> Result<(), AudienceError> {
        // All numbers of the persons asked about, once they are needed.
        let mut numbers: Option<RoaringBitmap> = None;
        for list in &expanded.lists {
            let persons = match within {
                Some(within) if is_few(within) && lists::bytes(&self.db, tenant, list).await? > WHOLE_BYTES_MAX => {
                    let numbers = match &mut numbers {
                        Some(numbers) => numbers,
                        None => numbers.insert(within | self.persons_of(tenant, within).await?.numbers()),
                    };
                    lists::persons_among(&self.db, tenant, list, numbers).await?
                }
                Some(_) | None => lists::persons(&self.db, tenant, list).await?,
            };
            let bytes = chunks::encode(&persons);
            check_size(&bytes, || format!("the list `{list}`"))?;
            sets.lists.insert(list.clone(), bytes);
        }
        Ok(())
    }

    async fn ask_who_is_identified(
        &self,
        tenant: &TenantId,
        expanded: &Expanded,
        within: Option<&RoaringBitmap>,
        sets: &mut Sets,
    ) -> Result<(), AudienceError> {
        // Beyond what identity takes, everybody is asked for: more than needed decides nothing.
        let within = within.map(chunks::encode).filter(|bytes| bytes.len() <= SET_BYTES_MAX).unwrap_or_default();
        let kinds: Vec<String> = expanded.identifier_kinds.iter().cloned().collect();
        for kinds in kinds.chunks(KINDS_MAX) {
            let message = SelectIdentifiedRequest { kinds: kinds.to_vec(), within: within.clone() };
            let answer = self.peers.identity().select_identified(request(tenant, message, IDENTITY_TIMEOUT)).await;
            let persons = answer.map_err(PeerError::identity)?.into_inner().persons;
            if persons.len() != kinds.len() {
                return Err(damaged().into());
            }
            for (kind, bytes) in kinds.iter().zip(persons) {
                check_size(&bytes, || format!("who has `{kind}`"))?;
                sets.identified.insert(kind.clone(), bytes);
            }
        }
        Ok(())
    }
}

/// Whether identity can be asked about so many at once.
fn is_few(within: &RoaringBitmap) -> bool {
    within.len() <= ASKED_MAX as u64
}

fn check_size(bytes: &[u8], what: impl FnOnce() -> String) -> Result<(), AudienceError> {
    if bytes.len() <= SET_BYTES_MAX {
        return Ok(());
    }
    Err(AudienceError::field("condition", format!("{} takes more than {} MiB: too many persons", what(), SET_BYTES_MAX >> 20)))
}

/// The condition with sets in place; what there is no set for is nobody.
fn placed(condition: &Condition, sets: &Sets) -> Condition {
    let list = |list: &ConditionList| ConditionList { conditions: list.conditions.iter().map(|inner| placed(inner, sets)).collect() };
    let set = |numbers: Option<&Vec<u8>>, label: String| {
        Node::Persons(PersonSet { numbers: numbers.cloned().unwrap_or_else(|| chunks::encode(&RoaringBitmap::new())), label })
    };
    let node = match &condition.node {
        Some(Node::All(inner)) => Some(Node::All(list(inner))),
        Some(Node::Any(inner)) => Some(Node::Any(list(inner))),
        Some(Node::Not(inner)) => Some(Node::Not(Box::new(placed(inner, sets)))),
        Some(Node::MemberOf(Membership { of: Some(Of::List(id)) })) => Some(set(sets.lists.get(id), format!("list {id}"))),
        Some(Node::HasIdentifier(identifier)) => Some(set(sets.identified.get(&identifier.kind), format!("has {}", identifier.kind))),
        other => other.clone(),
    };
    Condition { node }
}
