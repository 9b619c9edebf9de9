//! Many conditions over one snapshot, each on some persons: what they have in common is done once.
//!
//! Where conditions are asked about few persons, most of the work is to find their rows. So
//! - equal leaves (same node, zone and *now*) of several conditions are evaluated once, on the persons of all of them;
//! - leaves over the same events whose persons are mostly the same are read together (`together`).
//!
//! The conditions themselves are then evaluated as always, with these answers put in. A leaf that may be of any event, and a sequence, is
//! evaluated ahead only if several conditions have it: otherwise it is asked about those alone of whom nothing cheaper decides.

use std::collections::HashMap;
use std::sync::Arc;

use chrono_tz::Tz;
use prost::Message;
use roaring::RoaringBitmap;
use segue_proto::query::v1 as pb;
use segue_proto::query::v1::condition::Node as PbNode;

use super::evaluate::{evaluate, evaluate_with};
use super::plan::{Kind, Node, Plan, Rows};
use super::slots::LISTED_MAX;
use super::together;
use crate::question::{Context, QueryError, threads};

/// Persons of one condition up to which its leaves are evaluated with those of others.
pub(super) const PERSONS_FEW: u64 = LISTED_MAX;
/// Leaves are read together if all their persons are no more than so many halves of those of each,
const PERSONS_HALVES: u64 = 3;
/// or no more than this.
const PERSONS_TOGETHER: u64 = 512;
/// So much of leaves × persons is read together at once: it takes up to 40 bytes each.
const SLOTS_MAX: u64 = 2 << 20;
/// So many packs of leaves are looked at for room.
const PACKS_TRIED: usize = 8;

/// What tells leaves apart, by number of node; none for those that need no sharing.
#[derive(Debug, Default)]
pub(crate) struct LeafKeys(Vec<Option<Vec<u8>>>);

impl LeafKeys {
    /// Of a condition that was parsed without a fault.
    pub(crate) fn of(condition: &pb::Condition) -> Self {
        let mut keys = Self::default();
        keys.add(condition);
        keys
    }

    /// Nodes are numbered as the parser does it: parents before children.
    fn add(&mut self, condition: &pb::Condition) {
        match &condition.node {
            Some(PbNode::All(list) | PbNode::Any(list)) => {
                self.0.push(None);
                list.conditions.iter().for_each(|operand| self.add(operand));
            }
            Some(PbNode::Not(inner)) => {
                self.0.push(None);
                self.add(inner);
            }
            Some(PbNode::Behavior(_) | PbNode::Sequence(_) | PbNode::Attribute(_) | PbNode::Acquisition(_)) => {
                self.0.push(Some(condition.encode_to_vec()));
            }
            Some(PbNode::RandomBucket(_) | PbNode::Persons(_) | PbNode::MemberOf(_) | PbNode::HasIdentifier(_)) | None => self.0.push(None),
        }
    }

    pub(super) fn get(&self, number: usize) -> Option<&[u8]> {
        self.0.get(number)?.as_deref()
    }
}

/// A condition, when it is asked and about whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) keys: &'a LeafKeys,
    pub(crate) now_us: i64,
    /// Known survivors; `None` is everybody.
    pub(crate) persons: Option<&'a RoaringBitmap>,
}

impl<'a> Ask<'a> {
    /// The persons, if they are few.
    fn few(&self) -> Option<&'a RoaringBitmap> {
        self.persons.filter(|persons| persons.len() <= PERSONS_FEW)
    }
}

/// A leaf of one or several conditions.
struct Leaf<'a> {
    node: &'a Node,
    zone: Tz,
    now_us: i64,
    /// All whom it is asked about.
    persons: RoaringBitmap,
    /// How many conditions have it.
    conditions: usize,
}

/// Leaves that are evaluated in one go.
enum Job {
    Alone(usize),
    Together(Pack),
}

/// Leaves that are read together.
struct Pack {
    leaves: Vec<usize>,
    /// All whom they are asked about.
    persons: Arc<RoaringBitmap>,
}

/// What leaves that are read together have in common.
#[derive(PartialEq, Eq, Hash)]
struct PackKey<'a> {
    /// Sorted.
    events: Vec<&'a str>,
    /// Names of columns of which rows must have one.
    having: Vec<String>,
    /// How far back they are read, roughly: no leaf makes another read old files.
    age: u32,
}

/// Of each condition, who meets it.
pub(crate) fn evaluate_all(context: &Context<'_>, asks: &[Ask<'_>]) -> Result<Vec<RoaringBitmap>, QueryError> {
    let count = context.limits.threads;
    let mut limits = context.limits;
    limits.threads = 1;
    limits.hits_bytes_max /= count.max(1);
    let of_thread = Context { limits, ..*context };

    let mut leaves: Vec<Leaf<'_>> = Vec::new();
    let mut places: HashMap<(&[u8], Tz, i64), usize> = HashMap::new();
    for ask in asks {
        let Some(persons) = ask.few().filter(|persons| !persons.is_empty()) else { continue };
        for node in ask.plan.leaves() {
            let Some(key) = ask.keys.get(node.number) else { continue };
            let place = *places.entry((key, ask.plan.zone, ask.now_us)).or_insert_with(|| {
                leaves.push(Leaf { node, zone: ask.plan.zone, now_us: ask.now_us, persons: RoaringBitmap::new(), conditions: 0 });
                leaves.len() - 1
            });
            leaves[place].persons |= persons;
            leaves[place].conditions += 1;
        }
    }
    let jobs = jobs(&leaves);
    let done = threads::each(count, jobs.len(), |at| run(&of_thread, &leaves, &jobs[at]))?;
    let mut found: Vec<Option<Arc<RoaringBitmap>>> = vec![None; leaves.len()];
    for (leaf, persons) in done.into_iter().flatten() {
        found[leaf] = Some(Arc::new(persons));
    }
    let answer = |ask: &Ask<'_>| {
        let Some(persons) = ask.few() else { return Ok(None) };
        if persons.is_empty() {
            return Ok(Some(RoaringBitmap::new()));
        }
        let mut answers = vec![None; ask.plan.nodes];
        for node in ask.plan.leaves() {
            let place = ask.keys.get(node.number).and_then(|key| places.get(&(key, ask.plan.zone, ask.now_us)));
            if let (Some(place), Some(answer)) = (place, answers.get_mut(node.number)) {
                answer.clone_from(&found[*place]);
            }
        }
        evaluate_with(&of_thread, ask.plan, ask.now_us, Some(persons), &answers).map(|evaluated| Some(evaluated.persons))
    };
    let answered = threads::each(count, asks.len(), |at| answer(&asks[at]))?;
    // Those about many take all threads, one after the other.
    let of_many = |(ask, answered): (&Ask<'_>, Option<RoaringBitmap>)| match answered {
        Some(persons) => Ok(persons),
        None => evaluate(context, ask.plan, ask.now_us, ask.persons).map(|evaluated| evaluated.persons),
    };
    asks.iter().zip(answered).map(of_many).collect()
}

fn run(context: &Context<'_>, leaves: &[Leaf<'_>], job: &Job) -> Result<Vec<(usize, RoaringBitmap)>, QueryError> {
    match job {
        Job::Alone(at) => {
            let Leaf { node, zone, now_us, persons, .. } = &leaves[*at];
            let plan = Plan { root: (*node).clone(), nodes: node.number + 1, zone: *zone };
            Ok(vec![(*at, evaluate(context, &plan, *now_us, Some(persons))?.persons)])
        }
        Job::Together(pack) => {
            let of = |at: &usize| {
                let Leaf { node, zone, now_us, .. } = &leaves[*at];
                rows_of(node).map(|rows| (*at, together::Leaf { rows, now_us: *now_us, zone: *zone }))
            };
            let (places, leaves): (Vec<usize>, Vec<_>) = pack.leaves.iter().filter_map(of).unzip();
            Ok(places.into_iter().zip(together::evaluate(context, &leaves, &pack.persons)?).collect())
        }
    }
}

fn rows_of(node: &Node) -> Option<&Rows> {
    if let Kind::Rows(rows) = &node.kind { Some(rows) } else { None }
}

/// What is evaluated ahead of the conditions.
fn jobs(leaves: &[Leaf<'_>]) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut packs: HashMap<PackKey<'_>, Vec<Pack>> = HashMap::new();
    let mut by_size: Vec<usize> = (0..leaves.len()).collect();
    by_size.sort_by_key(|at| std::cmp::Reverse(leaves[*at].persons.len()));
    for at in by_size {
        let leaf = &leaves[at];
        let named = rows_of(leaf.node).and_then(|rows| rows.events.as_ref().map(|events| (rows, events)));
        let Some((rows, events)) = named.filter(|_| leaf.persons.len() <= PERSONS_FEW) else {
            if leaf.conditions > 1 {
                jobs.push(Job::Alone(at));
            }
            continue;
        };
        let mut events: Vec<&str> = events.iter().map(String::as_str).collect();
        events.sort_unstable();
        let having = rows.having.iter().map(crate::scan::Column::name).collect();
        let packs = packs.entry(PackKey { events, having, age: age(rows, leaf) }).or_default();
        let fits = |pack: &&mut Pack| {
            let all = pack.persons.union_len(&leaf.persons);
            let are_alike = all <= (leaf.persons.len() * PERSONS_HALVES / 2).max(PERSONS_TOGETHER);
            are_alike && all <= PERSONS_FEW && all * (pack.leaves.len() as u64 + 1) <= SLOTS_MAX
        };
        match packs.iter_mut().rev().take(PACKS_TRIED).find(fits) {
            Some(pack) => {
                pack.leaves.push(at);
                *Arc::make_mut(&mut pack.persons) |= &leaf.persons;
            }
            None => packs.push(Pack { leaves: vec![at], persons: Arc::new(leaf.persons.clone()) }),
        }
    }
    jobs.extend(packs.into_values().flatten().map(Job::Together));
    jobs
}

/// How far back a leaf reads, roughly: within days, a month, a year, or further.
fn age(rows: &Rows, leaf: &Leaf<'_>) -> u32 {
    const DAY_US: i64 = 86_400_000_000;
    let (from, _) = rows.window.bounds(leaf.now_us, leaf.zone);
    let days = leaf.now_us.saturating_sub(from) / DAY_US;
    [3, 35, 400].into_iter().filter(|bound| days > *bound).count() as u32
}
