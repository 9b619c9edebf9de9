//! Aggregates of many persons at once: one slot per person, filled batch by batch in any order of events.
//!
//! Nothing here depends on the order in which rows come, so answers are the same whatever the layout of the data: counts, sums and
//! extremes do not by their nature, floating-point sums are rounded once, and what is first or last
//! is decided by (time, sequence, origin).

use roaring::RoaringBitmap;

use super::slots::{Marks, Slots};
use super::verdict::Verdict;
use crate::exact::ExactDouble;
use crate::question::QueryError;

/// How many slots per hit make it worth to keep hits as a list.
const SPARSITY: usize = 16;

/// Counts per slot.
#[derive(Debug)]
pub(super) struct Counts(Vec<u32>);

impl Counts {
    pub(super) fn new(slots: usize) -> Self {
        Self(vec![0; slots])
    }

    /// One for each row; rows of one slot are adjacent.
    pub(super) fn add_rows(&mut self, slots: &[u32], first: u32) {
        for run in slots.chunk_by(|one, other| one == other) {
            if let Some(count) = run.first().and_then(|slot| self.0.get_mut((slot - first) as usize)) {
                *count = count.saturating_add(run.len() as u32);
            }
        }
    }

    pub(super) fn add(&mut self, slot: u32) {
        if let Some(count) = self.0.get_mut(slot as usize) {
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn finish(&self, verdict: &Verdict, slots: &Slots, among: &RoaringBitmap) -> RoaringBitmap {
        slots.persons(&Marks::collect(self.0.len(), |slot| verdict.of_exact(i128::from(self.0[slot]))), among)
    }
}

/// Exact sums per slot: a list of terms as long as they are few, then an array.
#[derive(Debug)]
pub(super) struct Sums {
    slots: usize,
    few: Vec<(u32, i128)>,
    all: Vec<i128>,
}

impl Sums {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, few: Vec::new(), all: Vec::new() }
    }

    #[inline]
    pub(super) fn add(&mut self, slot: u32, term: i128) {
        if self.all.is_empty() {
            self.few.push((slot, term));
            if self.few.len() > self.slots / SPARSITY {
                self.spread();
            }
        } else {
            Self::add_to(&mut self.all, slot, term);
        }
    }

    fn spread(&mut self) {
        self.all = vec![0; self.slots];
        for (slot, term) in std::mem::take(&mut self.few) {
            Self::add_to(&mut self.all, slot, term);
        }
    }

    fn add_to(all: &mut [i128], slot: u32, term: i128) {
        if let Some(sum) = all.get_mut(slot as usize) {
            // What does not fit 128 bits stays at their end, where comparisons still come out right.
            *sum = sum.saturating_add(term);
        }
    }

    pub(super) fn finish(mut self, verdict: &Verdict, slots: &Slots, among: &RoaringBitmap) -> RoaringBitmap {
        if !self.all.is_empty() {
            return slots.persons(&Marks::collect(self.all.len(), |slot| verdict.of_exact(self.all[slot])), among);
        }
        self.few.sort_unstable_by_key(|(slot, _)| *slot);
        let total = |terms: &[(u32, i128)]| terms.iter().fold(0_i128, |sum, (_, term)| sum.saturating_add(*term));
        let of_nothing = verdict.of_exact(0);
        let groups = self.few.chunk_by(|one, other| one.0 == other.0);
        let differing = groups.filter(|terms| verdict.of_exact(total(terms)) != of_nothing).filter_map(|terms| terms.first());
        let differing = slots.persons_of(differing.map(|(slot, _)| *slot));
        if of_nothing { among - differing } else { among & differing }
    }
}

/// Floating-point sums per slot.
#[derive(Debug, Default)]
pub(super) struct DoubleSums(Vec<(u32, f64)>);

impl DoubleSums {
    pub(super) fn add(&mut self, slot: u32, term: f64) {
        self.0.push((slot, term));
    }

    pub(super) fn check(&self, bytes_max: usize) -> Result<(), QueryError> {
        within(self.0.len() * size_of::<(u32, f64)>(), bytes_max)
    }

    pub(super) fn finish(mut self, verdict: &Verdict, slots: &Slots, among: &RoaringBitmap) -> RoaringBitmap {
        self.0.sort_unstable_by_key(|(slot, _)| *slot);
        let of_nothing = verdict.of_double(0.0);
        let groups = self.0.chunk_by(|one, other| one.0 == other.0);
        let total = |terms: &[(u32, f64)]| {
            let mut sum = ExactDouble::default();
            terms.iter().filter(|(_, term)| !term.is_nan()).for_each(|(_, term)| sum.add(*term));
            sum.value()
        };
        let differing = groups.filter(|terms| verdict.of_double(total(terms)) != of_nothing).filter_map(|terms| terms.first());
        let differing = slots.persons_of(differing.map(|(slot, _)| *slot));
        if of_nothing { among - differing } else { among & differing }
    }
}

/// The smallest or largest exact value per slot.
#[derive(Debug)]
pub(super) struct Extremes {
    largest: bool,
    /// The other end of the numbers where there is none.
    values: Vec<i128>,
}

impl Extremes {
    pub(super) fn new(slots: usize, largest: bool) -> Self {
        Self { largest, values: vec![Self::none(largest); slots] }
    }

    fn none(largest: bool) -> i128 {
        if largest { i128::MIN } else { i128::MAX }
    }

    #[inline]
    pub(super) fn add(&mut self, slot: u32, value: i128) {
        if let Some(known) = self.values.get_mut(slot as usize) {
            *known = if self.largest { (*known).max(value) } else { (*known).min(value) };
        }
    }

    pub(super) fn finish(&self, verdict: &Verdict, slots: &Slots, among: &RoaringBitmap) -> RoaringBitmap {
        let none = Self::none(self.largest);
        let passes = |value: i128| if value == none { verdict.of_nothing() } else { verdict.of_exact(value) };
        slots.persons(&Marks::collect(self.values.len(), |slot| passes(self.values[slot])), among)
    }
}

/// The smallest or largest floating-point value per slot; what is not a number is neither.
#[derive(Debug)]
pub(super) struct DoubleExtremes {
    largest: bool,
    /// Not a number where there is none.
    values: Vec<f64>,
}

impl DoubleExtremes {
    pub(super) fn new(slots: usize, largest: bool) -> Self {
        Self { largest, values: vec![f64::NAN; slots] }
    }

    pub(super) fn add(&mut self, slot: u32, value: f64) {
        if let Some(known) = self.values.get_mut(slot as usize) {
            // The extreme of a number and of what is none is the number.
            *known = if self.largest { known.max(value) } else { known.min(value) };
        }
    }

    pub(super) fn finish(&self, verdict: &Verdict, slots: &Slots, among: &RoaringBitmap) -> RoaringBitmap {
        let passes = |value: f64| if value.is_nan() { verdict.of_nothing() } else { verdict.of_double(value) };
        slots.persons(&Marks::collect(self.values.len(), |slot| passes(self.values[slot])), among)
    }
}

/// How many different values per slot: pairs of a slot and a number that stands for the value.
#[derive(Debug)]
pub(super) struct Distinct {
    pairs: Vec<u64>,
    /// Pairs at which repeats are next thrown out.
    sort_at: usize,
}

/// Pairs that are always kept before repeats are looked for.
const PAIRS_MIN: usize = 1 << 20;

impl Distinct {
    pub(super) fn new() -> Self {
        Self { pairs: Vec::new(), sort_at: PAIRS_MIN }
    }

    #[inline]
    pub(super) fn add(&mut self, slot: u32, value: u32) {
        let pair = u64::from(slot) << 32 | u64::from(value);
        if self.pairs.last() != Some(&pair) {
            self.pairs.push(pair);
        }
    }

    /// Keeps memory in bounds; call it once per batch.
    pub(super) fn check(&mut self, bytes_max: usize) -> Result<(), QueryError> {
        if self.pairs.len() >= self.sort_at {
            self.dedup();
            self.sort_at = (self.pairs.len() * 2).max(PAIRS_MIN);
        }
        within(self.pairs.len() * size_of::<u64>(), bytes_max)
    }

    fn dedup(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
    }

    pub(super) fn finish(mut self, verdict: &Verdict, slots: &Slots, among: &RoaringBitmap) -> RoaringBitmap {
        self.dedup();
        let of_nothing = verdict.of_exact(0);
        let groups = self.pairs.chunk_by(|one, other| one >> 32 == other >> 32);
        let differing = groups.filter(|pairs| verdict.of_exact(pairs.len() as i128) != of_nothing).filter_map(|pairs| pairs.first());
        let differing = slots.persons_of(differing.map(|pair| (pair >> 32) as u32));
        if of_nothing { among - differing } else { among & differing }
    }
}

/// When an event happened, and what decides between events of one time: (time, sequence, origin).
pub(super) type Moment = (i64, u64, u32);

/// Whether the first or last event per slot passes.
#[derive(Debug)]
pub(super) struct Edges {
    last: bool,
    /// Of nothing.
    otherwise: bool,
    found: Vec<Option<(Moment, bool)>>,
}

impl Edges {
    pub(super) fn new(slots: usize, last: bool, otherwise: bool) -> Self {
        Self { last, otherwise, found: vec![None; slots] }
    }

    #[inline]
    pub(super) fn add(&mut self, slot: u32, moment: Moment, passes: bool) {
        let Some(known) = self.found.get_mut(slot as usize) else { return };
        let is_nearer = known.is_none_or(|(before, _)| if self.last { moment > before } else { moment < before });
        if is_nearer {
            *known = Some((moment, passes));
        }
    }

    pub(super) fn finish(&self, slots: &Slots, among: &RoaringBitmap) -> RoaringBitmap {
        let passes = |slot: usize| self.found[slot].map_or(self.otherwise, |(_, passes)| passes);
        slots.persons(&Marks::collect(self.found.len(), passes), among)
    }
}

fn within(bytes: usize, bytes_max: usize) -> Result<(), QueryError> {
    if bytes <= bytes_max { Ok(()) } else { Err(QueryError::TooMuchMemory { what: "the values of one condition", bytes_max }) }
}
