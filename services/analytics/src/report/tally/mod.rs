//! Tallies: what a metric has gathered, one cell per group and period. Tallies of different threads are merged, and cells
//! can be taken together exactly, so that a range, the `other` group and the total come from the same cells.
//!
//! Rows come in bands of persons (see `super::bands`): after each, [`Tally::settle`] is called. Counts of persons and sessions
//! are additive over bands, and keep nothing beyond one (`banded`); values that persons share are kept (`kept`).

mod add;
mod banded;
mod counts;
mod finish;
mod groups;
mod kept;
mod numbers;
mod percentile;

use std::ops::RangeInclusive;

use roaring::RoaringBitmap;

pub(in crate::report) use banded::{Band, Exclusive, Slot};
pub(in crate::report) use counts::BandMarks;

use crate::exact::ExactDouble;
use crate::filter::cells::At;
use banded::{Banded, Sessions};
use kept::{Kept, Keys, Texts};
use percentile::Percentile;

/// In which form a metric's number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Whole number.
    Int,
    /// Ten-thousandths.
    Decimal,
    /// Floating point.
    Double,
    /// Microseconds.
    Time,
}

/// How a tally becomes a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Finish {
    /// How many rows, or values.
    Count,
    /// How many different persons.
    Persons,
    /// How many different sessions.
    Sessions,
    /// How many different devices.
    Numbers,
    /// How many different texts.
    Texts,
    /// How many different other values.
    Keys,
    /// The sum; zero of nothing.
    Sum(Form),
    /// Sum ÷ count.
    Average(Form),
    /// The smallest.
    Min(Form),
    /// The largest.
    Max(Form),
    /// Of 0–100, by linear interpolation.
    Percentile(f64),
}

/// Which cells a figure is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which<'a> {
    pub(super) groups: Groups<'a>,
    /// None: all periods.
    pub(super) period: Option<usize>,
}

/// Which groups a figure is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Groups<'a> {
    /// All.
    All,
    /// This one.
    One(u32),
    /// These together.
    These(&'a [u32]),
}

impl Which<'_> {
    /// Calls `each` with every cell, of tallies with so many periods and cells.
    fn each_cell(self, periods: usize, cells: usize, mut each: impl FnMut(usize)) {
        let mut group = |group: usize| match self.period {
            Some(period) => each(group * periods + period),
            None => (group * periods..(group + 1) * periods).for_each(&mut each),
        };
        match self.groups {
            Groups::All => (0..cells / periods).for_each(group),
            Groups::One(one) => group(one as usize),
            Groups::These(groups) => groups.iter().for_each(|one| group(*one as usize)),
        }
    }
}

/// Where another thread's cells are among one's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellMap<'a> {
    /// Own group, by the other's.
    pub(super) groups: &'a [u32],
    /// Periods of both.
    pub(super) periods: usize,
}

impl CellMap<'_> {
    fn group(&self, group: usize) -> usize {
        self.groups[group] as usize
    }

    fn cell(&self, cell: usize) -> usize {
        self.group(cell / self.periods) * self.periods + cell % self.periods
    }
}

/// Values on their way into cells: the k-th stands at the k-th of `at` and counts in the k-th of `cells`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entries<'a> {
    pub(super) at: At<'a>,
    pub(super) cells: &'a [u32],
    /// Where credit is shared.
    pub(super) shares: Option<EntryShares<'a>>,
}

/// Shares of credit, one per entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryShares<'a> {
    /// Of [`WHOLE`].
    pub(super) parts: &'a [u32],
    /// What the share is of: all shares of one value have the same.
    pub(super) of: &'a [u64],
}

/// An exact sum, and of how many values (in parts, where credit is shared).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExactSum {
    sum: i128,
    count: u128,
}

/// A floating-point sum, and of how many values (in parts, where credit is shared).
#[derive(Debug, Clone, Default)]
pub(super) struct DoubleSum {
    sum: ExactDouble,
    count: u128,
}

/// Where a loop of its own adds rows, one place per cell.
pub(super) enum Plain<'t> {
    Count(&'t mut [u64]),
    Sum(&'t mut [i128]),
    Persons(Exclusive<'t>),
}

/// What one metric has gathered.
#[derive(Debug)]
pub(super) struct Tally {
    finish: Finish,
    periods: usize,
    /// Counts and sums are in parts of [`WHOLE`].
    is_shared: bool,
    cells: usize,
    /// A sum left 128 bits.
    pub(super) has_overflown: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Count(Vec<u64>),
    Parts(Vec<u128>),
    Persons(Banded),
    Sessions(Box<Sessions>),
    Numbers(Kept),
    Texts(Box<Texts>),
    Keys(Keys),
    Sum(Vec<i128>),
    Average(Vec<ExactSum>),
    Double(Vec<DoubleSum>),
    ExactExtreme(Vec<Option<i128>>),
    DoubleExtreme(Vec<Option<f64>>),
    Percentile(Percentile),
}

impl Tally {
    /// An empty tally for what `finish` needs.
    pub(super) fn new(finish: Finish, periods: usize, is_shared: bool) -> Tally {
        let kind = match finish {
            Finish::Count if is_shared => Kind::Parts(Vec::new()),
            Finish::Count => Kind::Count(Vec::new()),
            Finish::Persons => Kind::Persons(Banded::new(periods)),
            Finish::Sessions => Kind::Sessions(Box::new(Sessions::new(periods))),
            Finish::Numbers => Kind::Numbers(Kept::new(periods)),
            Finish::Texts => Kind::Texts(Box::new(Texts::new(periods))),
            Finish::Keys => Kind::Keys(Keys::default()),
            Finish::Sum(Form::Double) | Finish::Average(Form::Double) => Kind::Double(Vec::new()),
            Finish::Sum(Form::Int | Form::Decimal | Form::Time) => Kind::Sum(Vec::new()),
            Finish::Average(Form::Int | Form::Decimal | Form::Time) => Kind::Average(Vec::new()),
            Finish::Min(Form::Double) | Finish::Max(Form::Double) => Kind::DoubleExtreme(Vec::new()),
            Finish::Min(Form::Int | Form::Decimal | Form::Time) | Finish::Max(Form::Int | Form::Decimal | Form::Time) => {
                Kind::ExactExtreme(Vec::new())
            }
            Finish::Percentile(_) => Kind::Percentile(Percentile::new(is_shared)),
        };
        Tally { finish, periods, is_shared, cells: 0, has_overflown: false, kind }
    }

    /// Whether it counts by bands, so that it knows no figure of several groups that are not all.
    pub(super) fn is_banded(&self) -> bool {
        matches!(self.kind, Kind::Persons(_) | Kind::Sessions(_))
    }

    /// Makes room for so many cells.
    pub(super) fn grow(&mut self, cells: usize) {
        fn fit<T: Default + Clone>(all: &mut Vec<T>, cells: usize) {
            if all.len() < cells {
                all.resize(cells, T::default());
            }
        }
        self.cells = self.cells.max(cells);
        match &mut self.kind {
            Kind::Count(all) => fit(all, cells),
            Kind::Parts(all) => fit(all, cells),
            Kind::Persons(banded) => banded.grow(cells),
            Kind::Sessions(sessions) => sessions.grow(cells),
            Kind::Numbers(kept) => kept.grow(cells),
            Kind::Texts(texts) => texts.grow(cells),
            Kind::Keys(keys) => keys.grow(cells),
            Kind::Sum(all) => fit(all, cells),
            Kind::Average(all) => fit(all, cells),
            Kind::Double(all) => fit(all, cells),
            Kind::ExactExtreme(all) => fit(all, cells),
            Kind::DoubleExtreme(all) => fit(all, cells),
            Kind::Percentile(values) => values.grow(cells),
        }
    }

    /// Starts a band of persons.
    pub(super) fn begin(&mut self, band: &Band<'_>) {
        if let Kind::Persons(banded) = &mut self.kind {
            banded.begin(band);
        }
    }

    /// Ends a band of persons.
    pub(super) fn settle(&mut self, marks: &mut BandMarks) {
        match &mut self.kind {
            Kind::Persons(banded) => banded.settle(marks),
            Kind::Sessions(sessions) => sessions.settle(marks),
            Kind::Numbers(kept) => kept.settle(),
            Kind::Texts(texts) => texts.settle(),
            _ => {}
        }
    }

    /// Counts what can be asked for, when everything is there.
    pub(super) fn finish(&mut self, marks: &mut BandMarks) {
        match &mut self.kind {
            Kind::Numbers(kept) => kept.finish(marks),
            Kind::Texts(texts) => texts.finish(marks),
            _ => {}
        }
    }

    /// What a loop over rows of these periods adds to, where counting is that simple.
    pub(super) fn plain(&mut self, periods: RangeInclusive<usize>) -> Option<Plain<'_>> {
        match &mut self.kind {
            Kind::Count(all) => Some(Plain::Count(all)),
            Kind::Sum(all) if !self.is_shared => Some(Plain::Sum(all)),
            Kind::Persons(banded) => banded.exclusive(periods).map(Plain::Persons),
            _ => None,
        }
    }

    /// Bytes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        let (of_cell, further) = match &self.kind {
            Kind::Count(_) => (size_of::<u64>(), 0),
            Kind::Parts(_) | Kind::Sum(_) => (size_of::<u128>(), 0),
            Kind::Persons(banded) => (Banded::CELL_BYTES, banded.bytes()),
            Kind::Sessions(sessions) => (Banded::CELL_BYTES, sessions.bytes()),
            Kind::Numbers(kept) => (Kept::CELL_BYTES, kept.bytes()),
            Kind::Texts(texts) => (Kept::CELL_BYTES, texts.bytes()),
            Kind::Keys(keys) => (Keys::CELL_BYTES, keys.bytes()),
            Kind::Average(_) => (size_of::<ExactSum>(), 0),
            Kind::Double(_) => (size_of::<DoubleSum>() + ExactDouble::BYTES_USUAL, 0),
            Kind::ExactExtreme(_) => (size_of::<Option<i128>>(), 0),
            Kind::DoubleExtreme(_) => (size_of::<Option<f64>>(), 0),
            Kind::Percentile(values) => (Percentile::CELL_BYTES, values.bytes()),
        };
        self.cells * of_cell + further
    }

    /// Takes in what another thread has gathered for the same metric; there is room for its cells.
    pub(super) fn merge(&mut self, other: Tally, map: &CellMap<'_>) {
        fn add<T: Copy>(mine: &mut [T], theirs: Vec<T>, map: &CellMap<'_>, add: impl Fn(T, T) -> T) {
            for (cell, value) in theirs.into_iter().enumerate() {
                let cell = &mut mine[map.cell(cell)];
                *cell = add(*cell, value);
            }
        }
        self.has_overflown |= other.has_overflown;
        let is_max = matches!(self.finish, Finish::Max(_));
        let mut overflow = false;
        match (&mut self.kind, other.kind) {
            (Kind::Count(mine), Kind::Count(theirs)) => add(mine, theirs, map, |a, b| a + b),
            (Kind::Parts(mine), Kind::Parts(theirs)) => add(mine, theirs, map, |a, b| a + b),
            (Kind::Persons(mine), Kind::Persons(theirs)) => mine.merge(theirs, map),
            (Kind::Sessions(mine), Kind::Sessions(theirs)) => mine.merge(*theirs, map),
            (Kind::Numbers(mine), Kind::Numbers(theirs)) => mine.merge(theirs, map, None),
            (Kind::Texts(mine), Kind::Texts(theirs)) => mine.merge(*theirs, map),
            (Kind::Keys(mine), Kind::Keys(theirs)) => mine.merge(theirs, map),
            (Kind::Sum(mine), Kind::Sum(theirs)) => {
                for (cell, value) in theirs.into_iter().enumerate() {
                    let (sum, over) = mine[map.cell(cell)].overflowing_add(value);
                    mine[map.cell(cell)] = sum;
                    overflow |= over;
                }
            }
            (Kind::Average(mine), Kind::Average(theirs)) => {
                for (cell, theirs) in theirs.into_iter().enumerate() {
                    let mine = &mut mine[map.cell(cell)];
                    let (sum, over) = mine.sum.overflowing_add(theirs.sum);
                    *mine = ExactSum { sum, count: mine.count + theirs.count };
                    overflow |= over;
                }
            }
            (Kind::Double(mine), Kind::Double(theirs)) => {
                for (cell, theirs) in theirs.into_iter().enumerate() {
                    let mine = &mut mine[map.cell(cell)];
                    mine.sum.merge(&theirs.sum);
                    mine.count += theirs.count;
                }
            }
            (Kind::ExactExtreme(mine), Kind::ExactExtreme(theirs)) => add(mine, theirs, map, |a, b| extreme(a, b, is_max, i128::cmp)),
            (Kind::DoubleExtreme(mine), Kind::DoubleExtreme(theirs)) => {
                add(mine, theirs, map, |a, b| extreme(a, b, is_max, f64::total_cmp));
            }
            (Kind::Percentile(mine), Kind::Percentile(theirs)) => mine.merge(theirs, map),
            // Tallies of one metric are of one kind.
            (_, _) => {}
        }
        self.has_overflown |= overflow;
    }

    /// All numbers of a tally of devices or persons that keeps them.
    pub(super) fn into_numbers(self) -> RoaringBitmap {
        match self.kind {
            Kind::Numbers(kept) => kept.union(),
            _ => RoaringBitmap::new(),
        }
    }
}

#[inline]
fn extreme<T: Copy>(a: Option<T>, b: Option<T>, is_max: bool, order: impl Fn(&T, &T) -> std::cmp::Ordering) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if order(&b, &a).is_gt() == is_max { b } else { a }),
        (one, None) | (None, one) => one,
    }
}
