//! [`Tally`]: how many entered and came back, by group. Additive over persons, so that chunks of persons are counted apart.

use std::collections::HashMap;
use std::hash::Hash;

use super::rule::{Entry, Retention};

/// The counts of one group.
#[derive(Debug, Clone)]
pub struct Counts(Kept);

/// Sizes by row, then cells by row. Most groups of a breakdown with many values are small: they keep what is not zero.
#[derive(Debug, Clone)]
enum Kept {
    Sparse(HashMap<u32, u64>),
    Dense(Vec<u64>),
}

impl Default for Counts {
    fn default() -> Self {
        Counts(Kept::Sparse(HashMap::new()))
    }
}

impl Counts {
    /// From sizes by row, then cells by row.
    pub(super) fn dense(counts: Vec<u64>) -> Self {
        Counts(Kept::Dense(counts))
    }

    /// Adds an entry.
    pub fn add<P>(&mut self, retention: &Retention, entry: &Entry<'_, P>) {
        let first = retention.rows() + retention.cells_at(entry.row).start;
        self.add_at(retention, entry.row, 1);
        for cell in entry.cells {
            self.add_at(retention, first + *cell as usize, 1);
        }
    }

    /// Adds the counts of other persons.
    pub fn merge(&mut self, retention: &Retention, other: &Counts) {
        match &other.0 {
            Kept::Sparse(map) => map.iter().for_each(|(at, count)| self.add_at(retention, *at as usize, *count)),
            Kept::Dense(counts) => {
                let (sizes, cells) = self.dense_mut(retention);
                sizes.iter_mut().chain(cells).zip(counts).for_each(|(mine, theirs)| *mine += theirs);
            }
        }
    }

    /// Members of a cohort.
    pub fn size(&self, row: usize) -> u64 {
        self.at(row)
    }

    /// Members of all cohorts: what groups are ranked by.
    pub fn entries(&self, retention: &Retention) -> u64 {
        (0..retention.rows()).map(|row| self.size(row)).sum()
    }

    /// How many reached a cell.
    pub fn cell(&self, retention: &Retention, row: usize, cell: usize) -> u64 {
        self.at(retention.rows() + retention.cells_at(row).start + cell)
    }

    /// What is not zero, each with its place: sizes by row, then cells by row. The places of a question are the same everywhere.
    pub fn numbers(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let (sparse, dense) = match &self.0 {
            Kept::Sparse(map) => (Some(map.iter().map(|(at, count)| (*at, *count))), None),
            Kept::Dense(counts) => (None, Some((0..).zip(counts.iter().copied()))),
        };
        sparse.into_iter().flatten().chain(dense.into_iter().flatten()).filter(|(_, count)| *count > 0)
    }

    /// Adds to the number at a place that [`Counts::numbers`] gave.
    pub fn add_number(&mut self, retention: &Retention, place: u32, count: u64) {
        self.add_at(retention, place as usize, count);
    }

    /// How many numbers are kept, which is what they cost in memory.
    pub fn kept(&self) -> usize {
        match &self.0 {
            // An entry of a hash map takes about three times a number.
            Kept::Sparse(map) => map.len() * 3,
            Kept::Dense(counts) => counts.len(),
        }
    }

    /// Sizes and cells, all of them kept.
    #[inline]
    pub(super) fn dense_mut(&mut self, retention: &Retention) -> (&mut [u64], &mut [u64]) {
        if let Kept::Sparse(map) = &self.0 {
            let mut counts = vec![0; retention.rows() + retention.cells()];
            for (at, count) in map {
                if let Some(slot) = counts.get_mut(*at as usize) {
                    *slot = *count;
                }
            }
            self.0 = Kept::Dense(counts);
        }
        match &mut self.0 {
            Kept::Dense(counts) => counts.split_at_mut_checked(retention.rows()).unwrap_or_default(),
            Kept::Sparse(_) => (&mut [], &mut []),
        }
    }

    fn at(&self, at: usize) -> u64 {
        match &self.0 {
            Kept::Sparse(map) => u32::try_from(at).ok().and_then(|at| map.get(&at).copied()),
            Kept::Dense(counts) => counts.get(at).copied(),
        }
        .unwrap_or(0)
    }

    fn add_at(&mut self, retention: &Retention, at: usize, count: u64) {
        match (&mut self.0, u32::try_from(at)) {
            (Kept::Sparse(map), Ok(key)) => {
                *map.entry(key).or_insert(0) += count;
                if map.len() * 3 > retention.rows() + retention.cells() {
                    self.dense_mut(retention);
                }
            }
            // So many cells that a key cannot name them; no report has them.
            (Kept::Sparse(_), Err(_)) => {}
            (Kept::Dense(counts), _) => {
                if let Some(slot) = counts.get_mut(at) {
                    *slot += count;
                }
            }
        }
    }
}

/// The counts of some persons by group; `()` without a breakdown.
#[derive(Debug, Clone)]
pub struct Tally<G> {
    groups: HashMap<G, Counts>,
}

impl<G> Default for Tally<G> {
    fn default() -> Self {
        Tally { groups: HashMap::new() }
    }
}

impl<G: Eq + Hash> Tally<G> {
    /// The counts of a group, to be added to.
    pub fn counts_mut(&mut self, group: G) -> &mut Counts {
        self.groups.entry(group).or_default()
    }

    /// The counts of a group.
    pub fn counts(&self, group: &G) -> Option<&Counts> {
        self.groups.get(group)
    }

    /// All groups that have an entry.
    pub fn groups(&self) -> impl Iterator<Item = (&G, &Counts)> {
        self.groups.iter()
    }

    /// Adds the counts of other persons, whose groups are called otherwise.
    pub fn merge<H>(&mut self, retention: &Retention, other: Tally<H>, mut name: impl FnMut(H) -> G) {
        for (group, counts) in other.groups {
            match self.groups.entry(name(group)) {
                std::collections::hash_map::Entry::Occupied(mut mine) => mine.get_mut().merge(retention, &counts),
                std::collections::hash_map::Entry::Vacant(free) => {
                    free.insert(counts);
                }
            }
        }
    }

    /// How many groups have an entry.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether nobody has entered.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many numbers are kept.
    pub fn kept(&self) -> usize {
        self.groups.values().map(Counts::kept).sum()
    }
}
