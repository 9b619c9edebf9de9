//! [`Table`]: the finished counts of one group, with what is complete at the watermark and the averages over it.

use super::Mode;
use super::rule::Retention;
use super::tally::Counts;

/// One group's cohorts and averages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// One per bucket of the range, ascending.
    pub cohorts: Vec<Cohort>,
    /// One per column, as many as the longest cohort has cells.
    pub averages: Vec<Average>,
}

/// Who started in one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cohort {
    /// First moment of the bucket, or of the range.
    pub start_us: i64,
    /// How many.
    pub size: u64,
    /// As far as the range goes.
    pub cells: Vec<Cell>,
}

/// How many of a cohort came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// So far.
    pub returned: u64,
    /// The number is final: all that it looks at lies before the watermark.
    pub complete: bool,
}

/// Pooled over the complete cells of a column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Average {
    /// Σ returned.
    pub returned: u64,
    /// Σ size.
    pub size: u64,
}

impl Average {
    /// Σ returned ÷ Σ size. None if nobody is in them.
    pub fn rate(&self) -> Option<f64> {
        (self.size > 0).then(|| self.returned as f64 / self.size as f64)
    }
}

impl Retention {
    /// Finishes the counts of a group. Events before `watermark_us` are in them, later ones are not known.
    pub fn table(&self, counts: &Counts, watermark_us: i64) -> Table {
        let mut averages = vec![Average::default(); self.cells_of(0)];
        let cohorts = (0..self.rows()).map(|row| {
            let size = counts.size(row);
            let cells = (0..self.cells_of(row)).map(|cell| {
                let returned = counts.cell(self, row, cell);
                let complete = self.cell_end_us(row, cell).is_some_and(|end| end <= watermark_us);
                if let Some(average) = averages.get_mut(cell).filter(|_| complete) {
                    average.returned += returned;
                    average.size += size;
                }
                Cell { returned, complete }
            });
            Cohort { start_us: self.row_start_us(row), size, cells: cells.collect() }
        });
        Table { cohorts: cohorts.collect(), averages }
    }

    /// When all that a cell looks at has ended. None if that is beyond what is looked at.
    fn cell_end_us(&self, row: usize, cell: usize) -> Option<i64> {
        let buckets = self.buckets_of(row);
        let entered = self.buckets.bound(row + 1).min(self.options.range_us.end);
        match &self.options.mode {
            Mode::On | Mode::OnOrAfter if cell == 0 => Some(entered),
            Mode::On => Some(self.end_of(row, cell + 1)),
            Mode::OnOrAfter => Some(self.end_of(row, buckets)),
            Mode::Brackets(brackets) => {
                let end = brackets.get(cell)?.end as usize;
                (end <= buckets).then(|| self.end_of(row, end))
            }
        }
    }
}
