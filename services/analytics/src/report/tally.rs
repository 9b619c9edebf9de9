//! Tallies: what a metric has gathered, one cell per group and period. Cells can be taken together exactly (distinct values are
//! sets, percentiles keep their values), so that a range, the `other` group and the total come from the same cells.

use std::collections::HashSet;

use roaring::{MultiOps, RoaringBitmap};

use super::figure::Figure;
use super::grouping::Interner;
use crate::question::hashing::Fold;

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
    /// How many different persons, devices or texts.
    DistinctNumbers,
    /// How many different other values.
    DistinctKeys,
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

/// Distinct numbers from 1.
#[derive(Debug, Clone, Default)]
pub(super) struct NumberSet {
    numbers: RoaringBitmap,
    /// The number before: rows of one person are adjacent.
    last: u32,
}

impl NumberSet {
    #[inline]
    fn insert(&mut self, number: u32) {
        if number == self.last {
            return;
        }
        self.last = number;
        // Within a run numbers ascend, and appending is the cheaper way in.
        if self.numbers.try_push(number).is_err() {
            self.numbers.insert(number);
        }
    }
}

/// An exact sum.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExactSum {
    sum: i128,
    count: u64,
}

/// A floating-point sum with the error of its additions kept beside it (Neumaier), so that the order of rows hardly matters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DoubleSum {
    sum: f64,
    lost: f64,
    count: u64,
}

impl DoubleSum {
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        if sum.is_finite() {
            self.lost += if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
        }
        self.sum = sum;
    }

    fn merge(mut self, other: &DoubleSum) -> DoubleSum {
        self.add(other.sum);
        self.lost += other.lost;
        self.count += other.count;
        self
    }
}

/// What one metric has gathered.
#[derive(Debug)]
pub(super) enum Tally {
    /// How many.
    Count(Vec<u64>),
    /// Distinct persons or devices.
    Numbers(Vec<NumberSet>),
    /// Distinct texts, by their codes.
    Texts(Box<Interner>, Vec<NumberSet>),
    /// Distinct values of any other kind, by keys.
    Keys(Vec<HashSet<u128, Fold>>),
    /// Exact sums.
    Exact(Vec<ExactSum>),
    /// Floating-point sums.
    Double(Vec<DoubleSum>),
    /// The smallest or largest exact value.
    ExactExtreme(Vec<Option<i128>>),
    /// The smallest or largest floating-point value.
    DoubleExtreme(Vec<Option<f64>>),
    /// All values.
    Values(Vec<Vec<f64>>),
}

impl Tally {
    /// An empty tally for what `finish` needs. `text` says that distinct values are texts.
    pub(super) fn new(finish: Finish, text: bool) -> Tally {
        match finish {
            Finish::Count => Tally::Count(Vec::new()),
            Finish::DistinctNumbers if text => Tally::Texts(Box::default(), Vec::new()),
            Finish::DistinctNumbers => Tally::Numbers(Vec::new()),
            Finish::DistinctKeys => Tally::Keys(Vec::new()),
            Finish::Sum(Form::Double) | Finish::Average(Form::Double) => Tally::Double(Vec::new()),
            Finish::Sum(Form::Int | Form::Decimal | Form::Time) | Finish::Average(Form::Int | Form::Decimal | Form::Time) => {
                Tally::Exact(Vec::new())
            }
            Finish::Min(Form::Double) | Finish::Max(Form::Double) => Tally::DoubleExtreme(Vec::new()),
            Finish::Min(Form::Int | Form::Decimal | Form::Time) | Finish::Max(Form::Int | Form::Decimal | Form::Time) => {
                Tally::ExactExtreme(Vec::new())
            }
            Finish::Percentile(_) => Tally::Values(Vec::new()),
        }
    }

    /// Makes room for so many cells.
    pub(super) fn grow(&mut self, cells: usize) {
        fn fit<T: Default + Clone>(all: &mut Vec<T>, cells: usize) {
            if all.len() < cells {
                all.resize(cells, T::default());
            }
        }
        match self {
            Tally::Count(all) => fit(all, cells),
            Tally::Numbers(all) | Tally::Texts(_, all) => fit(all, cells),
            Tally::Keys(all) => fit(all, cells),
            Tally::Exact(all) => fit(all, cells),
            Tally::Double(all) => fit(all, cells),
            Tally::ExactExtreme(all) => fit(all, cells),
            Tally::DoubleExtreme(all) => fit(all, cells),
            Tally::Values(all) => fit(all, cells),
        }
    }

    /// The figure of these cells together.
    pub(super) fn figure(&self, cells: impl Iterator<Item = usize> + Clone, finish: Finish) -> Figure {
        match self {
            Tally::Count(all) => Figure::Count(cells.map(|cell| all[cell]).sum()),
            Tally::Numbers(all) | Tally::Texts(_, all) => Figure::Count(distinct_numbers(all, cells)),
            Tally::Keys(all) => Figure::Count(distinct_keys(all, cells)),
            Tally::Exact(all) => {
                let mut total = ExactSum::default();
                for cell in cells {
                    // Beyond 128 bits there is no number to show.
                    let Some(sum) = total.sum.checked_add(all[cell].sum) else { return Figure::None };
                    total = ExactSum { sum, count: total.count + all[cell].count };
                }
                exact_figure(total, finish)
            }
            Tally::Double(all) => {
                let total = cells.fold(DoubleSum::default(), |total, cell| total.merge(&all[cell]));
                match finish {
                    Finish::Average(_) if total.count == 0 => Figure::None,
                    Finish::Average(_) => Figure::Double((total.sum + total.lost) / total.count as f64),
                    _ => Figure::Double(total.sum + total.lost),
                }
            }
            Tally::ExactExtreme(all) => {
                let values = cells.filter_map(|cell| all[cell]);
                let value = if matches!(finish, Finish::Max(_)) { values.max() } else { values.min() };
                value.map_or(Figure::None, |value| exact_value(value, finish))
            }
            Tally::DoubleExtreme(all) => {
                let values = cells.filter_map(|cell| all[cell]);
                let value = if matches!(finish, Finish::Max(_)) { values.max_by(f64::total_cmp) } else { values.min_by(f64::total_cmp) };
                value.map_or(Figure::None, Figure::Double)
            }
            Tally::Values(all) => {
                let values: Vec<f64> = cells.flat_map(|cell| all[cell].iter().copied()).collect();
                match finish {
                    Finish::Percentile(percentile) => interpolate(values, percentile).map_or(Figure::None, Figure::Double),
                    _ => Figure::None,
                }
            }
        }
    }
}

fn distinct_numbers(all: &[NumberSet], cells: impl Iterator<Item = usize> + Clone) -> u64 {
    let mut filled = cells.map(|cell| &all[cell].numbers).filter(|numbers| !numbers.is_empty());
    match (filled.next(), filled.next()) {
        (None, _) => 0,
        (Some(only), None) => only.len(),
        (Some(first), Some(second)) => [first, second].into_iter().chain(filled).union().len(),
    }
}

fn distinct_keys(all: &[HashSet<u128, Fold>], cells: impl Iterator<Item = usize> + Clone) -> u64 {
    let mut filled = cells.map(|cell| &all[cell]).filter(|keys| !keys.is_empty());
    match (filled.next(), filled.next()) {
        (None, _) => 0,
        (Some(only), None) => only.len() as u64,
        (Some(first), Some(second)) => {
            let mut union = first.clone();
            for keys in [second].into_iter().chain(filled) {
                union.extend(keys);
            }
            union.len() as u64
        }
    }
}

fn exact_value(value: i128, finish: Finish) -> Figure {
    let form = match finish {
        Finish::Sum(form) | Finish::Average(form) | Finish::Min(form) | Finish::Max(form) => form,
        Finish::Count | Finish::DistinctNumbers | Finish::DistinctKeys | Finish::Percentile(_) => Form::Int,
    };
    match form {
        Form::Int => Figure::Int(value),
        Form::Decimal => Figure::Decimal(value),
        Form::Double => Figure::Double(value as f64),
        // Every value came from 64 bits.
        Form::Time => i64::try_from(value).map_or(Figure::None, Figure::Time),
    }
}

fn exact_figure(total: ExactSum, finish: Finish) -> Figure {
    match finish {
        Finish::Average(_) if total.count == 0 => Figure::None,
        // An average is a quotient, so it is floating point even of decimals.
        Finish::Average(Form::Decimal) => Figure::Double(total.sum as f64 / 10_000.0 / total.count as f64),
        Finish::Average(_) => Figure::Double(total.sum as f64 / total.count as f64),
        _ => exact_value(total.sum, finish),
    }
}

/// PERCENTILE_CONT: rank p/100 × (n − 1) from zero, interpolated between the two values around it.
fn interpolate(mut values: Vec<f64>, percentile: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let rank = percentile / 100.0 * last as f64;
    let below = (rank.floor() as usize).min(last);
    let (_, low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    let fraction = rank - below as f64;
    match above.iter().copied().min_by(f64::total_cmp) {
        Some(high) if fraction > 0.0 => Some(low + (high - low) * fraction),
        Some(_) | None => Some(low),
    }
}

/// What adding rows to a tally came to.
#[derive(Debug, Default)]
pub(super) struct Additions {
    /// Values that had to be kept: keys of sets and values of percentiles.
    pub(super) kept: usize,
    /// A sum left 128 bits.
    pub(super) overflow: bool,
}

impl Tally {
    /// Counts a row in each cell.
    pub(super) fn add_rows(&mut self, cells: &[u32]) {
        if let Tally::Count(all) = self {
            if let [only] = all.as_mut_slice() {
                *only += cells.len() as u64;
                return;
            }
            for cell in cells {
                all[*cell as usize] += 1;
            }
        }
    }

    /// A person or device in a cell.
    #[inline]
    pub(super) fn add_number(&mut self, cell: u32, number: u32) {
        if let Tally::Numbers(all) = self {
            all[cell as usize].insert(number);
        }
    }

    /// A key in a cell.
    #[inline]
    pub(super) fn add_key(&mut self, cell: u32, key: u128, additions: &mut Additions) {
        if let Tally::Keys(all) = self {
            additions.kept += usize::from(all[cell as usize].insert(key));
        }
    }

    /// An exact number in a cell.
    #[inline]
    pub(super) fn add_exact(&mut self, cell: u32, value: i128, max: bool, additions: &mut Additions) {
        match self {
            Tally::Exact(all) => {
                let cell = &mut all[cell as usize];
                cell.count += 1;
                match cell.sum.checked_add(value) {
                    Some(sum) => cell.sum = sum,
                    None => additions.overflow = true,
                }
            }
            Tally::ExactExtreme(all) => {
                let cell = &mut all[cell as usize];
                *cell = Some(cell.map_or(value, |known| if max { known.max(value) } else { known.min(value) }));
            }
            _ => {}
        }
    }

    /// A floating-point number in a cell; what is not a number counts as none.
    #[inline]
    pub(super) fn add_double(&mut self, cell: u32, value: f64, max: bool, additions: &mut Additions) {
        if value.is_nan() {
            return;
        }
        // One zero only: the smaller of two equal numbers must not depend on their order.
        let value = value + 0.0;
        match self {
            Tally::Double(all) => {
                let cell = &mut all[cell as usize];
                cell.add(value);
                cell.count += 1;
            }
            Tally::DoubleExtreme(all) => {
                let cell = &mut all[cell as usize];
                *cell = Some(cell.map_or(value, |known| if max { known.max(value) } else { known.min(value) }));
            }
            Tally::Values(all) => {
                all[cell as usize].push(value);
                additions.kept += 1;
            }
            _ => {}
        }
    }

    /// Texts in cells: `local(k)` is the k-th row's code in the dictionary.
    pub(super) fn add_texts(&mut self, cells: &[u32], at: &[u32], text: &crate::filter::cells::TextCells, additions: &mut Additions) {
        if let Tally::Texts(interner, all) = self {
            let before = interner.len();
            interner.begin(text);
            for (cell, row) in cells.iter().zip(at) {
                let code = interner.code(text.codes[*row as usize]);
                if code != super::grouping::MISSING {
                    all[*cell as usize].insert(code);
                }
            }
            additions.kept += interner.len() - before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_between_closest_ranks() {
        for (values, percentile, expected) in [
            (vec![], 50.0, None),
            (vec![7.0], 99.0, Some(7.0)),
            (vec![4.0, 1.0, 3.0, 2.0], 50.0, Some(2.5)),
            (vec![4.0, 1.0, 3.0, 2.0], 0.0, Some(1.0)),
            (vec![4.0, 1.0, 3.0, 2.0], 100.0, Some(4.0)),
            (vec![10.0, 20.0, 30.0, 40.0, 50.0], 90.0, Some(46.0)),
            (vec![5.0, 5.0, 5.0], 33.0, Some(5.0)),
        ] {
            assert_eq!(interpolate(values.clone(), percentile), expected, "{values:?} {percentile}");
        }
    }

    #[test]
    fn floating_point_sums_keep_what_additions_lose() {
        let mut sum = DoubleSum::default();
        for value in [1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.sum + sum.lost, 1.0);
    }
}
