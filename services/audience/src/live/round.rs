//! One round: what analytics is asked, and what follows from its answer. No I/O.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;
use segue_proto::analytics::v1::evaluation_item::Whom;
use segue_proto::analytics::v1::{EvaluateConditionsResponse, EvaluatedItem, EvaluationItem};
use segue_proto::events::v1::TransitionReason;
use segue_proto::query::v1::Condition;

use super::audience::Audience;
use super::causes::{Candidates, Cause, Causes, moment_of};
use super::changes::{Changes, GroupKey, bitmap_of, bytes_of, reason};
use super::timers::edges_of;
use super::view::View;
use super::whom::Pending;
use crate::error::AudienceError;

/// Moments at which conditions are evaluated once more in one round, to tell when changes happened; beyond, the last possible moment is
/// taken.
const MOMENTS_MAX: usize = 500;

/// What an item of the request is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Purpose {
    /// The persons who may have changed. `suspects` are those of them whom only an audit names.
    Touched {
        /// Who.
        whom: RoaringBitmap,
        /// Of them.
        suspects: RoaringBitmap,
    },
    /// Everyone, to begin with; changes have this reason.
    Begin(TransitionReason),
    /// Everyone, to compare.
    Audit,
    /// The edges of everyone after what is known.
    Edges,
}

/// An item of the request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) audience: String,
    pub(crate) purpose: Purpose,
    pub(crate) item: EvaluationItem,
}

impl Ask {
    /// Asks about an audience whose condition analytics can take.
    pub(crate) fn new(id: &str, audience: &Audience, condition: Condition, purpose: Purpose, horizon_us: i64) -> Self {
        let mut item = EvaluationItem { condition: Some(condition), time_zone: audience.time_zone.clone(), ..EvaluationItem::default() };
        match &purpose {
            Purpose::Touched { whom, .. } => {
                item.whom = Some(Whom::Persons(bytes_of(whom)));
                item.edges_until_us = audience.timers.until_us();
            }
            Purpose::Begin(_) => {
                item.whom = Some(Whom::Everyone(true));
                item.edges_until_us = if audience.is_live() { horizon_us } else { 0 };
            }
            Purpose::Audit => item.whom = Some(Whom::Everyone(true)),
            Purpose::Edges => {
                item.whom = Some(Whom::Persons(bytes_of(&RoaringBitmap::new())));
                item.edges_of_everyone = true;
                item.edges_after_us = audience.timers.until_us();
                item.edges_until_us = horizon_us;
            }
        }
        Self { audience: id.to_owned(), purpose, item }
    }
}

/// What an answer says about one ask.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) entered: RoaringBitmap,
    pub(crate) left: RoaringBitmap,
    /// How many persons were looked at.
    pub(crate) looked_at: u64,
    pub(crate) edges: Vec<(i64, u32)>,
    pub(crate) edges_until_us: i64,
}

/// Compares an answer with who is in.
pub(crate) fn compare(ask: &Ask, item: &EvaluatedItem, matched: &RoaringBitmap) -> Result<Answered, AudienceError> {
    let read = |bytes: &[u8]| bitmap_of(bytes).ok_or(AudienceError::Corrupt { what: "an answer of analytics" });
    let met = if item.met.is_empty() { RoaringBitmap::new() } else { read(&item.met)? };
    let mut answered = Answered {
        edges: edges_of(&item.edge_times_us, &item.edge_persons).collect(),
        edges_until_us: item.edges_until_us,
        ..Answered::default()
    };
    match &ask.purpose {
        Purpose::Touched { whom, .. } => {
            let mut among = matched & whom;
            if !item.survivors.is_empty() {
                among |= matched & read(&item.survivors)?;
            }
            answered.looked_at = whom.len();
            answered.left = among - &met;
            answered.entered = met - matched;
        }
        Purpose::Begin(_) | Purpose::Audit => {
            answered.looked_at = met.len().max(matched.len());
            answered.left = matched - &met;
            answered.entered = met - matched;
        }
        Purpose::Edges => {}
    }
    Ok(answered)
}

/// Who changed by being touched, with what is needed to say why.
pub(crate) struct Moved<'a> {
    pub(crate) id: &'a str,
    pub(crate) audience: &'a Audience,
    pub(crate) suspects: &'a RoaringBitmap,
    pub(crate) entered: &'a RoaringBitmap,
    pub(crate) left: &'a RoaringBitmap,
    /// Of these persons, the edges that were due.
    pub(crate) edges: HashMap<u32, Vec<i64>>,
}

/// A change whose moment is one of several.
#[derive(Debug)]
pub(crate) struct Undecided {
    pub(crate) audience: String,
    pub(crate) person: u32,
    pub(crate) entered: bool,
    pub(crate) candidates: Candidates,
}

/// The causes of changes.
#[derive(Debug, Default)]
pub(crate) struct Explained {
    /// By audience: person, whether entered, why.
    pub(crate) decided: Vec<(String, u32, bool, Cause)>,
    pub(crate) undecided: Vec<Undecided>,
}

/// Says why persons changed, as far as that is clear.
pub(crate) fn explain(causes: &Causes<'_>, moved: &[Moved<'_>]) -> Explained {
    let mut explained = Explained::default();
    for of in moved {
        for (persons, entered) in [(of.left, false), (of.entered, true)] {
            for person in persons {
                let edges = of.edges.get(&person).map_or(&[][..], Vec::as_slice);
                let candidates = causes.candidates(&of.audience.interest, person, edges);
                let mut decide = |cause: Cause| explained.decided.push((of.id.to_owned(), person, entered, cause));
                match (candidates.len(), candidates.first_key_value()) {
                    (1, Some((time, event))) => decide(causes.at(*time, *event)),
                    (0, _) | (_, None) => decide(causes.otherwise(&of.audience.interest, person, of.suspects.contains(person))),
                    _ => explained.undecided.push(Undecided { audience: of.id.to_owned(), person, entered, candidates }),
                }
            }
        }
    }
    explained
}

/// At which moments to evaluate which persons of which audience, so that what is undecided can be decided.
pub(crate) fn moments(undecided: &[Undecided]) -> BTreeMap<(String, i64), RoaringBitmap> {
    let mut moments: BTreeMap<(String, i64), RoaringBitmap> = BTreeMap::new();
    for one in undecided {
        for (time, _) in one.candidates.iter().rev().skip(1) {
            let key = (one.audience.clone(), *time);
            if moments.len() < MOMENTS_MAX || moments.contains_key(&key) {
                moments.entry(key).or_default().insert(one.person);
            }
        }
    }
    moments
}

/// Decides by who met the condition at those moments.
pub(crate) fn decide(
    causes: &Causes<'_>,
    undecided: Vec<Undecided>,
    met: &BTreeMap<(String, i64), RoaringBitmap>,
    explained: &mut Explained,
) {
    for one in undecided {
        let was = |time: i64| met.get(&(one.audience.clone(), time)).map_or(!one.entered, |persons| persons.contains(one.person));
        if let Some((time, event)) = moment_of(&one.candidates, one.entered, was) {
            explained.decided.push((one.audience, one.person, one.entered, causes.at(time, event)));
        }
    }
}

/// Adds explained changes.
pub(crate) fn add_explained(changes: &mut Changes, explained: &Explained, pending: &Pending, view: &View) {
    let mut groups: BTreeMap<GroupKey, RoaringBitmap> = BTreeMap::new();
    for (audience, person, entered, cause) in &explained.decided {
        let event = cause.event.and_then(|at| pending.seen.get(at));
        let key = GroupKey {
            time_us: cause.time_us,
            entered: *entered,
            audience: audience.clone(),
            held_out: false,
            version: view.members.get(audience).map_or(0, |members| members.version),
            reason: reason(cause.reason),
            event_name: event.map_or_else(String::new, |event| event.name.to_string()),
            message_id: event.map_or_else(String::new, |event| event.message_id.to_string()),
        };
        groups.entry(key).or_default().insert(*person);
    }
    for (key, persons) in groups {
        add_split(changes, key, persons, view);
    }
}

/// Adds a group, those held out apart.
pub(crate) fn add_split(changes: &mut Changes, key: GroupKey, persons: RoaringBitmap, view: &View) {
    let held = view.members.get(&key.audience).map_or_else(RoaringBitmap::new, |members| members.holdout.of(&persons));
    let members = persons - &held;
    changes.add(GroupKey { held_out: true, ..key.clone() }, held);
    changes.add(key, members);
}

/// Adds changes of many persons that have one reason and become true now.
pub(crate) fn add_at_once(
    changes: &mut Changes,
    audience: &str,
    now_us: i64,
    why: TransitionReason,
    moved: (RoaringBitmap, RoaringBitmap),
    view: &View,
) {
    let version = view.members.get(audience).map_or(0, |members| members.version);
    let (entered, left) = moved;
    for (persons, entered) in [(left, false), (entered, true)] {
        let key = GroupKey {
            time_us: now_us,
            entered,
            audience: audience.to_owned(),
            held_out: false,
            version,
            reason: reason(why),
            event_name: String::new(),
            message_id: String::new(),
        };
        add_split(changes, key, persons, view);
    }
}

/// Positions of an answer.
pub(crate) fn positions_of(response: &EvaluateConditionsResponse) -> super::feed::Positions {
    use segue_log::feed::Followed;
    let read = |position: &segue_proto::analytics::v1::LogPosition| {
        Some(((super::feed::Stream::named(&position.topic)?, u16::try_from(position.partition).ok()?), position.position))
    };
    response.positions.iter().filter_map(read).collect()
}
