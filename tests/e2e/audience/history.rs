//! Who came and went: everything that watching from the beginning tells, and that it adds up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use segue_proto::audience::v1::{GetLiveStatusRequest, ListAudiencesRequest, Transition, WatchTransitionsRequest};
use segue_proto::events::v1::{TransitionKind, TransitionReason};

use super::tenant::{Tenant, micros};

/// How long a stream may tell nothing new.
const PATIENCE: Duration = Duration::from_secs(60);

/// All transitions of a tenant so far.
#[derive(Debug)]
pub struct History(pub Vec<Transition>);

impl History {
    /// Watches from the beginning up to the transition that is the last one now. Numbers have no gaps.
    pub async fn of(tenant: &Tenant) -> anyhow::Result<Self> {
        let last = tenant.client().get_live_status(GetLiveStatusRequest {}).await?.into_inner().sequence;
        let request = WatchTransitionsRequest { from_beginning: true, ..Default::default() };
        let (transitions, _) = watch(tenant, request, last).await?;
        for (transition, number) in transitions.iter().zip(1..) {
            ensure!(transition.sequence == number, "number {number} is missing before {transition:?}");
            let (time, evaluated) = (transition.time.context("a time")?, transition.evaluated_at.context("a moment")?);
            ensure!(micros(time) <= micros(evaluated), "told before it was true: {transition:?}");
            let by_event = transition.reason() == TransitionReason::Event;
            ensure!(by_event != transition.message_id.is_empty(), "an event, and nothing else, has an id: {transition:?}");
            ensure!(transition.reason() != TransitionReason::Repair, "a repair: {transition:?}");
        }
        let evaluated: Vec<i64> = transitions.iter().filter_map(|transition| transition.evaluated_at).map(micros).collect();
        ensure!(evaluated.is_sorted(), "decided in another order than they are told: {evaluated:?}");
        Ok(Self(transitions))
    }

    /// What a person did in an audience, in order.
    pub fn of_person(&self, audience: &str, person: u32) -> Vec<&Transition> {
        self.0.iter().filter(|transition| transition.audience == audience && transition.person == person).collect()
    }

    /// The same in words: `entered EVENT, left TIME`.
    pub fn told(&self, audience: &str, person: u32) -> String {
        let words = self.of_person(audience, person).into_iter().map(|transition| {
            let kind = transition.kind().as_str_name().trim_start_matches("TRANSITION_KIND_").to_lowercase();
            format!("{kind} {}", transition.reason().as_str_name().trim_start_matches("TRANSITION_REASON_"))
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// The last thing that a person did in an audience.
    pub fn last(&self, audience: &str, person: u32) -> anyhow::Result<&Transition> {
        self.of_person(audience, person).pop().with_context(|| format!("{person} never entered {audience}"))
    }

    /// Who is in each audience when everything was told, and who is held out. Nobody enters twice or leaves without having entered.
    fn replayed(&self) -> anyhow::Result<BTreeMap<(String, bool), BTreeSet<u32>>> {
        let mut sets: BTreeMap<(String, bool), BTreeSet<u32>> = BTreeMap::new();
        for transition in &self.0 {
            let set = sets.entry((transition.audience.clone(), transition.held_out)).or_default();
            let changed = match transition.kind() {
                TransitionKind::Entered => set.insert(transition.person),
                TransitionKind::Left => set.remove(&transition.person),
                TransitionKind::Unspecified => false,
            };
            ensure!(changed, "it says nothing new: {transition:?}");
        }
        Ok(sets)
    }
}

/// Reads a stream up to the transition with the number `last`. Also gives the cursor behind it.
pub async fn watch(tenant: &Tenant, request: WatchTransitionsRequest, last: u64) -> anyhow::Result<(Vec<Transition>, String)> {
    let mut transitions: Vec<Transition> = Vec::new();
    let mut cursor = request.cursor.clone();
    if last == 0 {
        return Ok((transitions, cursor));
    }
    let mut answers = tenant.client().watch_transitions(request).await?.into_inner();
    while transitions.last().is_none_or(|transition| transition.sequence < last) {
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.context("nothing was told")??;
        let answer = answer.context("the stream ended")?;
        ensure!(answer.transitions.len() <= 1_000, "{} at once", answer.transitions.len());
        ensure!(!answer.cursor.is_empty(), "no cursor");
        transitions.extend(answer.transitions);
        cursor = answer.cursor;
    }
    Ok((transitions, cursor))
}

/// Holds members against transitions: replaying all of them gives exactly who is listed. Gives them.
pub async fn adds_up(tenant: &Tenant) -> anyhow::Result<History> {
    let request = ListAudiencesRequest { page_size: 1_000, ..Default::default() };
    let audiences = tenant.client().list_audiences(request).await?.into_inner().audiences;
    // Somebody may enter or leave between the two looks: then look again.
    for _ in 0..20 {
        let history = History::of(tenant).await?;
        let mut listed = BTreeMap::new();
        for audience in &audiences {
            listed.insert((audience.id.clone(), false), tenant.members(&audience.id).await?.into_iter().collect::<BTreeSet<_>>());
            listed.insert((audience.id.clone(), true), tenant.held_out(&audience.id).await?.into_iter().collect());
        }
        let status = tenant.client().get_live_status(GetLiveStatusRequest {}).await?.into_inner();
        if status.sequence != history.0.len() as u64 {
            continue;
        }
        let mut replayed = history.replayed()?;
        replayed.retain(|_, set| !set.is_empty());
        listed.retain(|_, set| !set.is_empty());
        ensure!(replayed == listed, "told {replayed:?}\nlisted {listed:?}");
        return Ok(history);
    }
    anyhow::bail!("somebody enters or leaves all the time")
}
