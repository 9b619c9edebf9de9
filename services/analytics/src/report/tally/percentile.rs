//! Percentiles, which need all values.

use super::{CellMap, Which};

/// All values per cell.
#[derive(Debug)]
pub(in crate::report) struct Percentile {
    cells: Vec<Values>,
    is_shared: bool,
    entries: usize,
}

#[derive(Debug, Clone, Default)]
struct Values {
    values: Vec<f64>,
    /// Where credit is shared: what each value is of, since a value that has a share in several cells is one value of all
    /// of them.
    of: Vec<u64>,
}

impl Percentile {
    pub(super) fn new(is_shared: bool) -> Percentile {
        Percentile { cells: Vec::new(), is_shared, entries: 0 }
    }

    pub(super) fn grow(&mut self, cells: usize) {
        if self.cells.len() < cells {
            self.cells.resize(cells, Values::default());
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, cell: u32, value: f64, of: Option<u64>) {
        let cell = &mut self.cells[cell as usize];
        cell.values.push(value);
        cell.of.extend(of);
        self.entries += 1;
    }

    /// The percentile of these cells' values together; none of no values.
    pub(super) fn figure(&self, which: Which<'_>, periods: usize, percentile: f64) -> Option<f64> {
        let mut values: Vec<f64> = Vec::new();
        if !self.is_shared {
            which.each_cell(periods, self.cells.len(), |cell| values.extend_from_slice(&self.cells[cell].values));
            return interpolate(values, percentile);
        }
        let mut shares: Vec<(u64, f64)> = Vec::new();
        which.each_cell(periods, self.cells.len(), |cell| {
            let cell = &self.cells[cell];
            shares.extend(cell.of.iter().copied().zip(cell.values.iter().copied()));
        });
        shares.sort_unstable_by_key(|(of, _)| *of);
        shares.dedup_by_key(|(of, _)| *of);
        values.extend(shares.into_iter().map(|(_, value)| value));
        interpolate(values, percentile)
    }

    pub(super) fn merge(&mut self, other: Percentile, map: &CellMap<'_>) {
        for (cell, theirs) in other.cells.into_iter().enumerate() {
            let mine = &mut self.cells[map.cell(cell)];
            mine.values.extend(theirs.values);
            mine.of.extend(theirs.of);
        }
        self.entries += other.entries;
    }

    /// Bytes of the values, and of the copy that a figure takes.
    pub(super) fn bytes(&self) -> usize {
        let of_value = size_of::<f64>() + if self.is_shared { size_of::<u64>() } else { 0 };
        2 * self.entries * of_value
    }

    /// Bytes of one cell.
    pub(super) const CELL_BYTES: usize = size_of::<Values>();
}

/// PERCENTILE_CONT: rank p/100 × (n − 1) from zero, interpolated between the two values around it.
fn interpolate(mut values: Vec<f64>, percentile: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let rank = percentile * last as f64 / 100.0;
    let below = (rank.floor() as usize).min(last);
    let (_, low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    let fraction = rank - below as f64;
    match above.iter().copied().min_by(f64::total_cmp) {
        Some(high) if fraction > 0.0 => Some(low + (high - low) * fraction),
        Some(_) | None => Some(low),
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
            // 29 / 100 × 100 is not 29 in floating point.
            ((0..=100).map(f64::from).collect(), 29.0, Some(29.0)),
            (vec![4.0, 1.0, 3.0, 2.0], 50.0, Some(2.5)),
            (vec![4.0, 1.0, 3.0, 2.0], 0.0, Some(1.0)),
            (vec![4.0, 1.0, 3.0, 2.0], 100.0, Some(4.0)),
            (vec![10.0, 20.0, 30.0, 40.0, 50.0], 90.0, Some(46.0)),
            (vec![5.0, 5.0, 5.0], 33.0, Some(5.0)),
        ] {
            assert_eq!(interpolate(values.clone(), percentile), expected, "{values:?} {percentile}");
        }
    }
}
