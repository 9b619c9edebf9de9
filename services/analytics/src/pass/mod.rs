//! The pass: gathers what a question reads of each person, in the order of time, and calls a pure function with it.
//!
//! Persons are cut into chunks of 65,536 numbers. Chunks are independent: threads take one after the other, each with a partial
//! result of its own, and the partial results are merged at the end. Within a chunk:
//!
//! 1. `gather`: every run of every event that a selector names gives the rows of the chunk that match a selector, by binary
//!    search on persons and filters on dictionary codes.
//! 2. `group`: a counting sort puts the hits of one person together; a slice is sorted by time only where runs interleave.
//! 3. The question's function is called once for each person that has hits.
//!
//! Memory is that of the chunks in flight. A chunk with more hits than the limit allows is cut in two, down to one person.
//!
//! # Questions that need no order
//!
//! A question for which it only matters which hits a person has is given the hits of a chunk as they lie in the runs, without steps 2
//! and 3.
//!
//! # Packed hits
//!
//! Most questions need of a hit only its time and a few bits. Such a question packs both into a `u64`, which is a third of a
//! [`Hit`]'s memory traffic and sorts as a number. Where the order of hits at equal times matters for a person, the question says
//! so, and the person is gathered again with sequences.

mod gather;
mod group;
mod lists;
mod values;

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use segue_engine::Hit;

pub(crate) use gather::{Gather, Part, Selector, members};
pub(crate) use lists::PartLists;
pub(crate) use values::{KeyValue, Values};

use crate::filter::cells::BatchCells;
use crate::question::{Context, QueryError};
use crate::scan::{PERSONS_PER_CHUNK, ScanStats};
use group::{Grouping, Order};

/// What is computed per person.
pub(crate) trait Question: Sync {
    /// What a hit carries besides its time and the selectors that it matches.
    type Payload: Copy + Default + Send + Sync;
    /// What becomes of some persons; additive over persons.
    type Partial: Send;

    /// Nothing yet.
    fn partial(&self) -> Self::Partial;

    /// The payloads of these rows of a batch, in their order; needed columns are those of [`Gather::payload`]. The default is for
    /// questions whose hits carry nothing.
    fn payload(&self, _batch: &BatchCells<'_>, rows: &[u32], out: &mut Vec<Self::Payload>) -> Result<(), QueryError> {
        out.resize(rows.len(), Self::Payload::default());
        Ok(())
    }

    /// The payload of every row of a batch, where it is the same for all; asked before [`Question::payload`].
    fn batch_payload(&self, _batch: &BatchCells<'_>) -> Result<Option<Self::Payload>, QueryError> {
        Ok(None)
    }

    /// Whether payloads are worth reading; without, they are all the default.
    fn has_payload(&self) -> bool {
        false
    }

    /// Takes in one person: all hits, sorted by (ts, sequence, origin). Called once per person, in no order of persons.
    fn person(&self, partial: &mut Self::Partial, person: u32, hits: &[Hit<Self::Payload>]);

    /// If given, hits are packed: [`Question::packed`] is called instead of [`Question::person`].
    fn packing(&self) -> Option<Packing> {
        None
    }

    /// The low bits of a packed hit, below `1 << Packing::bits`.
    fn pack(&self, _matches: u32, _payload: Self::Payload) -> u64 {
        0
    }

    /// Takes in one person by its packed hits, sorted: (ts − base) `<<` bits `|` [`Question::pack`]. False, with `partial` unchanged:
    /// hits of equal time stand in another order than they may, so [`Question::person`] has to be asked.
    fn packed(&self, _partial: &mut Self::Partial, _person: u32, _hits: &[u64]) -> bool {
        false
    }

    /// Whether the order of a person's hits does not matter: then only [`Question::unordered`] is called.
    fn is_unordered(&self) -> bool {
        false
    }

    /// Takes in all hits of these persons, who are a chunk or a part of one.
    fn unordered(&self, _partial: &mut Self::Partial, _persons: Range<u32>, _parts: &[Part<Self::Payload>]) {}

    /// A way of its own to take in all hits of these persons, who are a chunk or a part of one, without packing them. False, with `partial`
    /// unchanged: go on with packed hits.
    fn unpacked(&self, _partial: &mut Self::Partial, _persons: Range<u32>, _parts: &[Part<Self::Payload>]) -> bool {
        false
    }

    /// Puts the persons of the one to those of the other.
    fn merge(&self, into: &mut Self::Partial, from: Self::Partial);
}

/// How hits are packed into 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packing {
    /// Times are counted from here; no hit may be earlier.
    pub(crate) base_us: i64,
    /// Bits for what [`Question::pack`] gives. (2^(63 − bits) µs must cover the range: with 14 bits some 17 years.)
    pub(crate) bits: u32,
}

impl Packing {
    /// For hits between these times; `None` when they do not fit.
    pub(crate) fn of(range_us: (i64, i64), bits: u32) -> Option<Packing> {
        let length = range_us.1.checked_sub(range_us.0)?;
        (bits < 63 && (0..1 << (63 - bits)).contains(&length)).then_some(Packing { base_us: range_us.0, bits })
    }
}

/// Persons that a question is asked about: all, or those of some ranges. Ranges that are whole chunks cost least.
pub(crate) type Within<'w> = Option<&'w [Range<u64>]>;

/// The persons of ranges as a set.
pub(crate) fn persons_of(ranges: &[Range<u64>]) -> RoaringBitmap {
    let bound = |person: u64| u32::try_from(person).unwrap_or(u32::MAX);
    let mut persons = RoaringBitmap::new();
    for range in ranges {
        persons.insert_range(bound(range.start)..bound(range.end));
    }
    persons
}

/// For a question that is only looked at.
pub(crate) const NOBODY: Within<'static> = Some(&[]);

/// Runs the pass over all persons.
pub(crate) fn run<Q: Question>(context: &Context<'_>, gather: &Gather<'_>, question: &Q) -> Result<(Q::Partial, ScanStats), QueryError> {
    run_within(context, gather, question, None)
}

/// Runs the pass over some persons.
pub(crate) fn run_within<Q: Question>(
    context: &Context<'_>,
    gather: &Gather<'_>,
    question: &Q,
    within: Within<'_>,
) -> Result<(Q::Partial, ScanStats), QueryError> {
    let mut chunks = gather.chunks(context.snapshot);
    if let Some(ranges) = within {
        chunks = chunks.iter().flat_map(|chunk| ranges.iter().filter_map(|range| cut(chunk, range))).collect();
    }
    let threads = context.limits.threads.clamp(1, chunks.len().max(1));
    let bytes_max = context.limits.hits_bytes_max / threads;
    let next = AtomicU32::new(0);
    let failed: Mutex<Option<QueryError>> = Mutex::new(None);
    let worker = || {
        let mut worker = Worker::new(context, gather, question, bytes_max);
        while failed.lock().is_none() {
            let at = next.fetch_add(1, Ordering::Relaxed) as usize;
            let Some(chunk) = chunks.get(at) else { break };
            if let Err(error) = worker.chunk(chunk.clone()) {
                failed.lock().get_or_insert(error);
            }
        }
        (worker.partial, worker.stats)
    };
    let mut results = Vec::with_capacity(threads);
    if threads == 1 {
        results.push(worker());
    } else {
        let joined = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            handles.into_iter().map(|handle| handle.join().map_err(|_| QueryError::BrokeOff)).collect::<Result<Vec<_>, _>>()
        });
        results = joined?;
    }
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    let mut all = question.partial();
    let mut stats = ScanStats::default();
    for (partial, of_thread) in results {
        question.merge(&mut all, partial);
        stats.rows += of_thread.rows;
        stats.tail_rows += of_thread.tail_rows;
        stats.files = stats.files.max(of_thread.files);
    }
    Ok((all, stats))
}

/// The persons of a chunk that are in a range.
fn cut(chunk: &Range<u32>, range: &Range<u64>) -> Option<Range<u32>> {
    let bound = |person: u64| u32::try_from(person).unwrap_or(u32::MAX);
    let persons = chunk.start.max(bound(range.start))..chunk.end.min(bound(range.end));
    (!persons.is_empty()).then_some(persons)
}

struct Worker<'w, Q: Question> {
    context: &'w Context<'w>,
    gather: &'w Gather<'w>,
    question: &'w Q,
    partial: Q::Partial,
    stats: ScanStats,
    bytes_max: usize,
    packed: Grouping<u64>,
    hits: Grouping<(Hit<Q::Payload>, u32)>,
    /// The hits of one person, in order.
    sorted: Vec<Hit<Q::Payload>>,
}

impl<'w, Q: Question> Worker<'w, Q> {
    fn new(context: &'w Context<'w>, gather: &'w Gather<'w>, question: &'w Q, bytes_max: usize) -> Self {
        let (partial, stats) = (question.partial(), ScanStats::default());
        Worker { context, gather, question, partial, stats, bytes_max, packed: Grouping::new(), hits: Grouping::new(), sorted: Vec::new() }
    }

    fn chunk(&mut self, persons: Range<u32>) -> Result<(), QueryError> {
        let packing = self.question.packing();
        let unordered = self.question.is_unordered();
        let hit_bytes = if packing.is_some() || unordered { size_of::<u64>() } else { size_of::<(Hit<Q::Payload>, u32)>() };
        let hits_max = (self.bytes_max / hit_bytes).max(1);
        let sequences = packing.is_none() && !unordered;
        let Some(mut parts) = self.gather.parts(self.context, self.question, persons.clone(), sequences, hits_max, &mut self.stats)? else {
            return self.halves(persons);
        };
        if unordered {
            self.question.unordered(&mut self.partial, persons, &parts);
            return Ok(());
        }
        match packing {
            Some(_) if self.question.unpacked(&mut self.partial, persons.clone(), &parts) => Ok(()),
            Some(packing) => {
                let again = self.packed(packing, persons.clone(), &mut parts);
                drop(parts);
                self.again(persons, again)
            }
            None => {
                self.hits(persons, &mut parts);
                Ok(())
            }
        }
    }

    /// Too many hits for one go.
    fn halves(&mut self, persons: Range<u32>) -> Result<(), QueryError> {
        if persons.len() <= 1 {
            let bytes_max = self.context.limits.hits_bytes_max;
            return Err(QueryError::TooMuchMemory { what: "the events of one person", bytes_max });
        }
        let middle = persons.start + (persons.end - persons.start) / 2;
        self.chunk(persons.start..middle)?;
        self.chunk(middle..persons.end)
    }

    fn hits(&mut self, persons: Range<u32>, parts: &mut [Part<Q::Payload>]) {
        let (question, partial, sorted) = (self.question, &mut self.partial, &mut self.sorted);
        let record =
            |ts: i64, (sequence, origin): Order, matches: u32, payload: Q::Payload| (Hit { ts, sequence, matches, payload }, origin);
        self.hits.each(persons, parts, record, sort_hits, |person, hits| {
            sorted.clear();
            sorted.extend(hits.iter().map(|(hit, _)| *hit));
            question.person(partial, person, sorted);
        });
    }

    /// Gives the persons whose hits have to be looked at with their sequences.
    fn packed(&mut self, packing: Packing, persons: Range<u32>, parts: &mut [Part<Q::Payload>]) -> Vec<u32> {
        let (question, partial) = (self.question, &mut self.partial);
        let record = |ts: i64, _: Order, matches: u32, payload: Q::Payload| {
            ((ts.wrapping_sub(packing.base_us)) as u64) << packing.bits | question.pack(matches, payload)
        };
        let mut again = Vec::new();
        let sort = |hits: &mut [u64]| {
            if !hits.is_sorted() {
                hits.sort_unstable();
            }
        };
        self.packed.each(persons, parts, record, sort, |person, hits| {
            if !question.packed(partial, person, hits) {
                again.push(person);
            }
        });
        again
    }

    /// Persons whose packed hits did not decide.
    fn again(&mut self, persons: Range<u32>, again: Vec<u32>) -> Result<(), QueryError> {
        // Many of them: one more go over the chunk, from which only they are taken.
        const FEW: usize = 16;
        if again.len() <= FEW {
            for person in again {
                self.one_by_hits(person..person.saturating_add(1), None)?;
            }
            return Ok(());
        }
        let wanted: RoaringBitmap = again.into_iter().collect();
        self.one_by_hits(persons, Some(&wanted))
    }

    fn one_by_hits(&mut self, persons: Range<u32>, only: Option<&RoaringBitmap>) -> Result<(), QueryError> {
        let hits_max = (self.bytes_max / size_of::<(Hit<Q::Payload>, u32)>()).max(1);
        let gather = Gather { persons: only.or(self.gather.persons), ..self.gather.clone() };
        match gather.parts(self.context, self.question, persons.clone(), true, hits_max, &mut ScanStats::default())? {
            Some(mut parts) => {
                self.hits(persons, &mut parts);
                Ok(())
            }
            None if persons.len() > 1 => {
                let middle = persons.start + (persons.end - persons.start) / 2;
                self.one_by_hits(persons.start..middle, only)?;
                self.one_by_hits(middle..persons.end, only)
            }
            None => {
                let bytes_max = self.context.limits.hits_bytes_max;
                Err(QueryError::TooMuchMemory { what: "the events of one person", bytes_max })
            }
        }
    }
}

/// Sorts hits, each with its origin.
fn sort_hits<P>(hits: &mut [(Hit<P>, u32)]) {
    let key = |(hit, origin): &(Hit<P>, u32)| (hit.ts, hit.sequence, *origin);
    if !hits.is_sorted_by_key(key) {
        hits.sort_unstable_by_key(key);
    }
}

impl Gather<'_> {
    /// The chunks in which there may be hits.
    fn chunks(&self, snapshot: &crate::scan::Snapshot) -> Vec<Range<u32>> {
        let most = snapshot.persons_max();
        let last = most / PERSONS_PER_CHUNK;
        let wanted = |chunk: u32| {
            let (start, end) = (chunk * PERSONS_PER_CHUNK, (chunk * PERSONS_PER_CHUNK).saturating_add(PERSONS_PER_CHUNK - 1));
            self.persons.is_none_or(|persons| persons.range_cardinality(start..=end) > 0)
        };
        // The largest number that exists, u32::MAX, is given to nobody.
        (0..=last)
            .filter(|chunk| wanted(*chunk))
            .map(|chunk| chunk * PERSONS_PER_CHUNK..(chunk * PERSONS_PER_CHUNK).saturating_add(PERSONS_PER_CHUNK))
            .collect()
    }
}
