//! What runs want to know, asked for in batches: of identity, of audiences, of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use segue_log::feed::Followed;
use segue_model::TenantId;
use segue_proto::analytics::v1::LogPosition;
use segue_proto::audience::v1::{EvaluatePersonsRequest, PersonsItem};
use segue_proto::campaign::v1::step::Kind;
use segue_proto::query::v1::Condition;
use segue_runtime::peers::{PeerError, request};
use segue_store::Db;

use super::deck::{Deck, Want};
use super::feed::{Positions, Stream};
use super::store::persons as store;
use super::store::work::bytes_of;
use crate::error::CampaignError;
use crate::peers::Peers;
use crate::persons::{self, Profile};

/// Conditions that are asked for at once.
const ITEMS_MAX: usize = 200;
/// How long audiences may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The same for everyone.
const EVERYONE_MAX: Duration = Duration::from_secs(300);
/// How long analytics may wait for what was read here.
const WAIT_MS: u32 = 5_000;

/// Whom to ask, and as of when.
pub(crate) struct Sources<'s> {
    pub(crate) db: &'s Db,
    pub(crate) peers: &'s Peers,
    pub(crate) tenant: &'s TenantId,
    /// Answers are to hold everything on the log up to here.
    pub(crate) positions: &'s Positions,
    /// Everything before this moment is; 0: not known.
    pub(crate) as_of_us: i64,
}

/// A condition that several runs want to know about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Step { scenario: String, version: u32, step: usize },
    Entry { scenario: String, version: u32 },
}

/// Learns what is wanted. Whoever wants what cannot be learned now is stuck. Answers why, if anybody is.
pub(crate) async fn answer(
    sources: &Sources<'_>,
    deck: &mut Deck,
    wants: Vec<(u32, Want)>,
) -> Result<Option<CampaignError>, CampaignError> {
    let (mut unknown, mut unassigned) = (BTreeSet::new(), BTreeSet::new());
    let mut groups: BTreeMap<Group, Vec<(u32, u64)>> = BTreeMap::new();
    for (person, want) in wants {
        match want {
            Want::Person => drop(unknown.insert(person)),
            Want::Assignments => drop(unassigned.insert(person)),
            Want::Entry { scenario, version } => groups.entry(Group::Entry { scenario, version }).or_default().push((person, 0)),
            Want::Step { run, step } => {
                let Some(slot) = deck.slots.get(&run) else { continue };
                let (scenario, version) = (slot.run.scenario.clone(), slot.run.version);
                groups.entry(Group::Step { scenario, version, step }).or_default().push((person, run));
            }
        }
    }
    if !unassigned.is_empty() {
        let mut assigned = store::assigned(sources.db, sources.tenant, &unassigned).await?;
        for person in unassigned {
            if let Some(queue) = deck.queues.get_mut(&person) {
                queue.assigned = Some(assigned.remove(&person).unwrap_or_default());
            }
        }
    }
    let no_person = learn_persons(sources, deck, unknown).await;
    let no_conditions = learn_conditions(sources, deck, groups).await;
    Ok(no_person.or(no_conditions))
}

async fn learn_persons(sources: &Sources<'_>, deck: &mut Deck, unknown: BTreeSet<u32>) -> Option<CampaignError> {
    if unknown.is_empty() {
        return None;
    }
    let found = persons::get(sources.peers, sources.tenant, &unknown).await;
    let (found, problem) = match found {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error)),
    };
    for person in unknown {
        let Some(queue) = deck.queues.get_mut(&person) else { continue };
        match &found {
            Some(found) => {
                let nobody = || Arc::new(Profile { number: person, ..Profile::default() });
                queue.profile = Some(found.get(&person).cloned().unwrap_or_else(nobody));
            }
            None => queue.is_stuck = true,
        }
    }
    problem
}

/// A group with the persons it is about.
type Asked = (Group, Vec<(u32, u64)>);

async fn learn_conditions(sources: &Sources<'_>, deck: &mut Deck, groups: BTreeMap<Group, Vec<(u32, u64)>>) -> Option<CampaignError> {
    let mut groups: Vec<Asked> = groups.into_iter().collect();
    let mut problem = None;
    while !groups.is_empty() {
        let mut items = Vec::new();
        let mut some: Vec<(Asked, usize)> = Vec::new();
        while let Some(asked) = groups.pop() {
            let of_group = items_of(deck, &asked);
            let is_full = !items.is_empty() && items.len() + of_group.len() > ITEMS_MAX;
            if is_full {
                groups.push(asked);
                break;
            }
            some.push((asked, of_group.len()));
            items.extend(of_group);
        }
        match evaluate(sources, items, ANSWER_MAX).await {
            Ok(met) => {
                let mut met = met.into_iter();
                for (asked, count) in some {
                    let answers: Vec<RoaringBitmap> = met.by_ref().take(count).collect();
                    learned(deck, &asked, &answers);
                }
            }
            // One of them is faulty: the others are not to suffer for it.
            Err(error) if !error.is_retryable() && some.len() > 1 => {
                for (asked, _) in some {
                    match evaluate(sources, items_of(deck, &asked), ANSWER_MAX).await {
                        Ok(met) => learned(deck, &asked, &met),
                        Err(error) => problem = Some(stuck(deck, &asked, error)),
                    }
                }
            }
            Err(error) => some.iter().for_each(|(asked, _)| problem = Some(stuck(deck, asked, error.clone()))),
        }
    }
    problem
}

fn stuck(deck: &mut Deck, (_, whose): &Asked, error: CampaignError) -> CampaignError {
    for (person, _) in whose {
        if let Some(queue) = deck.queues.get_mut(person) {
            queue.is_stuck = true;
        }
    }
    error
}

fn learned(deck: &mut Deck, (group, whose): &Asked, answers: &[RoaringBitmap]) {
    for (person, run) in whose {
        match group {
            Group::Entry { scenario, version } => {
                if let Some(queue) = deck.queues.get_mut(person) {
                    let is_met = answers.first().is_some_and(|met| met.contains(*person));
                    queue.entry_met.insert((scenario.clone(), *version), is_met);
                }
            }
            Group::Step { step, .. } => {
                if let Some(slot) = deck.slots.get_mut(run) {
                    slot.conditions.extend(answers.iter().enumerate().map(|(arm, met)| ((*step, arm), met.contains(*person))));
                }
            }
        }
    }
}

fn items_of(deck: &Deck, (group, whose): &Asked) -> Vec<PersonsItem> {
    let (scenario, version) = match group {
        Group::Step { scenario, version, .. } | Group::Entry { scenario, version } => (scenario, version),
    };
    let Some(plan) = deck.definitions.get(scenario).and_then(|scenario| scenario.plans.get(version)) else { return Vec::new() };
    let definition = &plan.compiled.definition;
    let conditions: Vec<Option<&Condition>> = match group {
        Group::Entry { .. } => vec![definition.entry.as_ref().and_then(|entry| entry.only_if.as_ref())],
        Group::Step { step, .. } => match definition.steps.get(*step).and_then(|step| step.kind.as_ref()) {
            Some(Kind::Branch(branch)) => branch.arms.iter().map(|arm| arm.condition.as_ref()).collect(),
            _ => Vec::new(),
        },
    };
    let persons = bytes_of(&whose.iter().map(|(person, _)| *person).collect());
    let zone = plan.compiled.time_zone.name();
    let item = |condition: Option<&Condition>| PersonsItem {
        condition: condition.cloned(),
        time_zone: zone.to_owned(),
        persons: Some(persons.clone()),
    };
    conditions.into_iter().map(item).collect()
}

/// Who of everyone meets a condition.
pub(crate) async fn everyone(sources: &Sources<'_>, condition: Condition, zone: &str) -> Result<RoaringBitmap, CampaignError> {
    let item = PersonsItem { condition: Some(condition), time_zone: zone.to_owned(), persons: None };
    let met = evaluate(sources, vec![item], EVERYONE_MAX).await?;
    Ok(met.into_iter().next().unwrap_or_default())
}

async fn evaluate(sources: &Sources<'_>, items: Vec<PersonsItem>, most: Duration) -> Result<Vec<RoaringBitmap>, CampaignError> {
    let count = items.len();
    let followed = sources.positions.iter().filter(|((stream, _), _)| *stream != Stream::Transitions);
    let at_least = followed.map(|((stream, partition), position)| LogPosition {
        topic: stream.topic().name().to_owned(),
        partition: u32::from(*partition),
        position: *position,
    });
    let message = EvaluatePersonsRequest { items, at_least: at_least.collect(), wait_ms: WAIT_MS, as_of_us: sources.as_of_us };
    let answer =
        sources.peers.audience().evaluate_persons(request(sources.tenant, message, most)).await.map_err(PeerError::audience)?.into_inner();
    let met: Option<Vec<_>> = answer.met.iter().map(|met| RoaringBitmap::deserialize_from(&**met).ok()).collect();
    met.filter(|met| met.len() == count).ok_or_else(|| {
        PeerError::audience(tonic::Status::internal("persons of another number of conditions, or what is no set of persons")).into()
    })
}
