//! Counting distinct numbers of cells, of groups over all periods, of periods over all groups, and of all, in two walks over the
//! cells' lists.

use std::ops::Range;

use super::numbers::{Marks, NumberList};
use super::{Groups, Which};

/// Numbers that are worth a second thread.
const NUMBERS_PER_THREAD_MIN: usize = 1 << 16;

/// How many different numbers there are, cell by cell and taken together.
#[derive(Debug)]
pub(super) struct Counts {
    cells: Vec<u64>,
    groups: Vec<u64>,
    periods: Vec<u64>,
    total: u64,
}

/// Marks that are used while lists are counted, kept for their memory.
#[derive(Debug, Default)]
pub(in crate::report) struct BandMarks {
    group: Marks,
    pub(super) all: Marks,
    pub(super) period: Marks,
}

impl Counts {
    pub(super) fn new(periods: usize) -> Counts {
        Counts { cells: Vec::new(), groups: Vec::new(), periods: vec![0; periods], total: 0 }
    }

    pub(super) fn grow(&mut self, cells: usize) {
        self.cells.resize(cells, 0);
        self.groups.resize(cells / self.periods.len(), 0);
    }

    /// Adds what these cells' lists have, whose numbers lie in `range` and were never added before. Tidies the lists. May take
    /// a second thread where no others are at work.
    pub(super) fn add(&mut self, lists: &mut [NumberList], cells: &mut [u32], range: Range<u32>, marks: &mut BandMarks, is_alone: bool) {
        if cells.is_empty() {
            return;
        }
        cells.sort_unstable();
        for cell in &*cells {
            let list = &mut lists[*cell as usize];
            list.tidy();
            self.cells[*cell as usize] += list.numbers().len() as u64;
        }
        let (lists, cells) = (&*lists, &*cells);
        let Counts { groups, periods, total, .. } = self;
        let BandMarks { group, all, period } = marks;
        if let [of_all] = periods.as_mut_slice() {
            *total += count_groups(groups, 1, lists, cells, range, (group, all));
            *of_all = *total;
            return;
        }
        let count = periods.len();
        let numbers: usize = cells.iter().map(|cell| lists[*cell as usize].numbers().len()).sum();
        let mut by_group = || count_groups(groups, count, lists, cells, range.clone(), (group, all));
        let mut by_period = || count_periods(count, lists, cells, range.clone(), period, |period, different| periods[period] += different);
        if !is_alone || numbers < NUMBERS_PER_THREAD_MIN {
            by_period();
            *total += by_group();
            return;
        }
        *total += std::thread::scope(|scope| {
            let _periods = scope.spawn(by_period);
            by_group()
        });
    }

    /// How many; none for several groups that are not all, which counts do not tell.
    pub(super) fn get(&self, which: Which<'_>) -> Option<u64> {
        match (which.groups, which.period) {
            (Groups::All, None) => Some(self.total),
            (Groups::All, Some(period)) => self.periods.get(period).copied(),
            (Groups::One(group), None) => self.groups.get(group as usize).copied(),
            (Groups::One(group), Some(period)) => self.cells.get(group as usize * self.periods.len() + period).copied(),
            (Groups::These(_), _) => None,
        }
    }
}

/// Numbers of groups over all periods; gives those of all groups.
fn count_groups(
    groups: &mut [u64],
    periods: usize,
    lists: &[NumberList],
    cells: &[u32],
    range: Range<u32>,
    (group, all): (&mut Marks, &mut Marks),
) -> u64 {
    let periods = periods as u32;
    let is_one = cells.first().map(|cell| cell / periods) == cells.last().map(|cell| cell / periods);
    all.over(range.clone());
    group.over(range);
    let mut total = 0;
    for of_group in cells.chunk_by(|a, b| a / periods == b / periods) {
        let lists = || of_group.iter().map(|cell| lists[*cell as usize].numbers());
        let (in_group, in_all) = match (of_group, is_one) {
            // One period: its numbers are the group's.
            ([_], true) => sum(lists().map(|numbers| (numbers.len() as u64, numbers.len() as u64))),
            ([_], false) => sum(lists().map(|numbers| (numbers.len() as u64, all.mark_all(numbers)))),
            (_, true) => sum(lists().map(|numbers| all.mark_all(numbers)).map(|count| (count, count))),
            (_, false) => {
                let counts = sum(lists().map(|numbers| group.mark_both(numbers, all)));
                group.clear(lists());
                counts
            }
        };
        if let Some(first) = of_group.first() {
            groups[(first / periods) as usize] += in_group;
        }
        total += in_all;
    }
    total
}

/// Numbers of periods over all groups; calls `add(period, how many)`.
pub(super) fn count_periods(
    periods: usize,
    lists: &[NumberList],
    cells: &[u32],
    range: Range<u32>,
    marks: &mut Marks,
    mut add: impl FnMut(usize, u64),
) {
    let count = periods as u32;
    let mut cells = cells.to_vec();
    cells.sort_unstable_by_key(|cell| cell % count);
    marks.over(range);
    for of_period in cells.chunk_by(|a, b| a % count == b % count) {
        let lists = || of_period.iter().map(|cell| lists[*cell as usize].numbers());
        let different = match of_period {
            [_] => lists().map(|numbers| numbers.len() as u64).sum::<u64>(),
            _ => {
                let different = lists().map(|numbers| marks.mark_all(numbers)).sum();
                marks.clear(lists());
                different
            }
        };
        if let Some(first) = of_period.first() {
            add((first % count) as usize, different);
        }
    }
}

fn sum(pairs: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    pairs.fold((0, 0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1))
}
