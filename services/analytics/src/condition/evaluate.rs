//! Evaluation of a plan: part by part of the persons, in parallel, each node to a bitmap.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use chrono_tz::Tz;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use segue_engine::condition::Buckets;

use super::plan::{Kind, Node, Plan};
use super::slots::are_few;
use super::{rows, sequence};
use crate::question::{Context, QueryError};
use crate::scan::{PERSONS_PER_CHUNK, Pass, ScanStats};

/// Persons up to which the threads of a question are more trouble than help.
const PERSONS_OF_ONE_THREAD: u64 = 4_096;
/// Chunks of one part, at most: what a leaf keeps per person should stay near the processor.
const CHUNKS_PER_PART_MAX: u32 = 8;
/// Parts per thread, so that threads end at about the same time.
const PARTS_PER_THREAD: u32 = 2;

/// What a condition is asked at.
pub(super) struct Moment<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) now_us: i64,
    pub(super) zone: Tz,
    /// Per node, what the scans of its parts share; empty where there is one part.
    pub(super) passes: Vec<OnceLock<Pass>>,
    /// Who meets a node, by its number, where that is known already.
    answers: &'a Answers,
}

impl<'a> Moment<'a> {
    /// For one leaf and few persons.
    pub(super) fn plain(context: &'a Context<'a>, now_us: i64, zone: Tz) -> Self {
        Self { context, now_us, zone, passes: Vec::new(), answers: &[] }
    }
}

/// Who meets a node, by its number, where that is known already: of all persons that the condition is asked about, and maybe of others.
pub(crate) type Answers = [Option<Arc<RoaringBitmap>>];

/// An evaluated condition.
#[derive(Debug, Default)]
pub(crate) struct Evaluated {
    /// Who meets it.
    pub(crate) persons: RoaringBitmap,
    /// Per node, in the order of a walk from the root, how many meet it by itself; empty unless asked for.
    pub(crate) node_counts: Vec<u64>,
    /// How many persons are known.
    pub(crate) known: u64,
    pub(crate) stats: ScanStats,
}

/// The persons of whom the condition is true at `now_us`; with `within`, those of them.
pub(crate) fn evaluate(context: &Context<'_>, plan: &Plan, now_us: i64, within: Option<&RoaringBitmap>) -> Result<Evaluated, QueryError> {
    run(context, plan, now_us, within, Walk::Lazy(&[]))
}

/// The same, where some answers are known.
pub(super) fn evaluate_with(
    context: &Context<'_>,
    plan: &Plan,
    now_us: i64,
    within: Option<&RoaringBitmap>,
    answers: &Answers,
) -> Result<Evaluated, QueryError> {
    run(context, plan, now_us, within, Walk::Lazy(answers))
}

/// How a tree is walked.
#[derive(Clone, Copy)]
enum Walk<'w> {
    /// Nodes are asked about those of whom nothing else decides.
    Lazy(&'w Answers),
    /// Each node is evaluated by itself, and counted.
    Counting,
}

/// The same, and the counts of all nodes.
pub(crate) fn count(context: &Context<'_>, plan: &Plan, now_us: i64, within: Option<&RoaringBitmap>) -> Result<Evaluated, QueryError> {
    run(context, plan, now_us, within, Walk::Counting)
}

fn run(context: &Context<'_>, plan: &Plan, now_us: i64, within: Option<&RoaringBitmap>, walk: Walk<'_>) -> Result<Evaluated, QueryError> {
    let (counting, answers) = match walk {
        Walk::Lazy(answers) => (false, answers),
        Walk::Counting => (true, &[] as &Answers),
    };
    let known = context.snapshot.persons()?;
    let universe = match within {
        Some(within) => &*known & within,
        None => (*known).clone(),
    };
    let parts = parts(universe, context.limits.threads);
    let threads = context.limits.threads.clamp(1, parts.len().max(1));
    let mut limits = context.limits;
    limits.threads = 1;
    limits.hits_bytes_max /= threads;
    let of_part = Context { limits, ..*context };
    // One part has nobody to share with.
    let shared = if parts.len() > 1 { plan.nodes } else { 0 };
    let passes = (0..shared).map(|_| OnceLock::new()).collect();
    let moment = Moment { context: &of_part, now_us, zone: plan.zone, passes, answers };
    let nodes = if counting { plan.nodes } else { 0 };
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<QueryError>> = Mutex::new(None);
    let worker = || {
        let mut found = Evaluated { node_counts: vec![0; nodes], ..Evaluated::default() };
        while failed.lock().is_none() {
            let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let mut worker = Worker { moment: &moment, range: &part.range, counting, found: &mut found };
            match worker.node(&plan.root, &part.persons) {
                Ok(persons) => found.persons |= persons,
                Err(error) => {
                    failed.lock().get_or_insert(error);
                }
            }
        }
        found
    };
    let results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mut results = vec![worker()];
        for other in others {
            results.push(other.join().map_err(|_| QueryError::BrokeOff)?);
        }
        Ok::<_, QueryError>(results)
    })?;
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    let mut all = Evaluated { known: known.len(), node_counts: vec![0; nodes], ..Evaluated::default() };
    for found in results {
        all.persons |= found.persons;
        all.node_counts.iter_mut().zip(found.node_counts).for_each(|(sum, count)| *sum += count);
        add(&mut all.stats, found.stats);
    }
    Ok(all)
}

/// Adds what a scan has read.
pub(super) fn add(stats: &mut ScanStats, of_scan: ScanStats) {
    stats.rows += of_scan.rows;
    stats.tail_rows += of_scan.tail_rows;
    // Scans read the same files more often than others.
    stats.files = stats.files.max(of_scan.files);
}

/// Persons that are evaluated together.
struct Part {
    /// All of them lie in it, and no person of another part does.
    range: Range<u32>,
    persons: RoaringBitmap,
}

/// Cuts persons into parts of whole chunks of numbers; parts without persons are left out.
fn parts(universe: RoaringBitmap, threads: usize) -> Vec<Part> {
    let (Some(least), Some(most)) = (universe.min(), universe.max()) else { return Vec::new() };
    let (first, last) = (least / PERSONS_PER_CHUNK, most / PERSONS_PER_CHUNK);
    let all = least..most.saturating_add(1);
    if universe.len() <= PERSONS_OF_ONE_THREAD || first == last || threads == 1 && are_few(&universe, &all) {
        return vec![Part { range: all, persons: universe }];
    }
    let wanted = (threads as u32).saturating_mul(PARTS_PER_THREAD).max(1);
    let chunks = (last - first + 1).div_ceil(wanted).clamp(1, CHUNKS_PER_PART_MAX);
    let of_chunks = |start: u32| {
        let start = start * PERSONS_PER_CHUNK;
        // The largest number that exists, u32::MAX, is given to nobody.
        let range = start..start.saturating_add(chunks * PERSONS_PER_CHUNK);
        let mut persons = RoaringBitmap::new();
        persons.insert_range(range.clone());
        persons &= &universe;
        Part { range, persons }
    };
    (first..=last).step_by(chunks as usize).map(of_chunks).filter(|part| !part.persons.is_empty()).collect()
}

/// Evaluates nodes for one thread.
struct Worker<'w> {
    moment: &'w Moment<'w>,
    /// Of the part at hand.
    range: &'w Range<u32>,
    /// Each node is evaluated by itself, and counted.
    counting: bool,
    found: &'w mut Evaluated,
}

impl Worker<'_> {
    /// Who of `universe` meets the node.
    fn node(&mut self, node: &Node, universe: &RoaringBitmap) -> Result<RoaringBitmap, QueryError> {
        if let Some(Some(known)) = self.moment.answers.get(node.number) {
            return Ok(&**known & universe);
        }
        let persons = match &node.kind {
            Kind::All(operands) => self.all(operands, universe)?,
            Kind::Any(operands) => self.any(operands, universe)?,
            Kind::Not(operand) => universe - self.node(operand, universe)?,
            Kind::Rows(rows) => rows::evaluate(rows, node.number, self.moment, self.range, universe, &mut self.found.stats)?,
            Kind::Sequence(sequence) => sequence::evaluate(sequence, self.moment, universe, &mut self.found.stats)?,
            Kind::Bucket { salt, from, to } => {
                let mut buckets = Buckets::new(salt);
                universe.iter().filter(|person| (*from..*to).contains(&buckets.bucket(*person))).collect()
            }
            Kind::Persons(persons) if self.moment.context.snapshot.are_survivors(persons) => persons & universe,
            Kind::Persons(persons) => {
                let mut survivors = persons.clone();
                self.moment.context.snapshot.survivors(&mut survivors);
                survivors & universe
            }
        };
        if let Some(count) = self.found.node_counts.get_mut(node.number) {
            *count += persons.len();
        }
        Ok(persons)
    }

    fn all(&mut self, operands: &[Node], universe: &RoaringBitmap) -> Result<RoaringBitmap, QueryError> {
        let mut left = universe.clone();
        for operand in operands {
            if self.counting {
                left &= self.node(operand, universe)?;
            } else if left.is_empty() {
                break;
            } else {
                left = self.node(operand, &left)?;
            }
        }
        Ok(left)
    }

    fn any(&mut self, operands: &[Node], universe: &RoaringBitmap) -> Result<RoaringBitmap, QueryError> {
        let mut found = RoaringBitmap::new();
        let mut left = universe.clone();
        for operand in operands {
            if self.counting {
                found |= self.node(operand, universe)?;
            } else if left.is_empty() {
                break;
            } else {
                let more = self.node(operand, &left)?;
                left -= &more;
                found |= more;
            }
        }
        Ok(found)
    }
}
