//! Which person numbers have become part of which: applied on every read, and written into files when they are merged.

use std::collections::HashMap;

/// Redirects of one tenant, resolved to the end of each chain. Immutable; a change makes another.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    /// (from, survivor), by from.
    by_from: Vec<(u32, u32)>,
    /// (survivor, from), sorted.
    by_survivor: Vec<(u32, u32)>,
}

impl Redirects {
    /// From single steps: `from` is now part of `into`, which may itself be part of another.
    pub(crate) fn resolve(steps: &HashMap<u32, u32>) -> Self {
        let mut by_from: Vec<(u32, u32)> = Vec::with_capacity(steps.len());
        for (&from, &into) in steps {
            let mut survivor = into;
            // A chain is never longer than there are steps; the bound guards against a circle.
            for _ in 0..steps.len() {
                match steps.get(&survivor) {
                    Some(next) if *next != survivor => survivor = *next,
                    Some(_) | None => break,
                }
            }
            if survivor != from {
                by_from.push((from, survivor));
            }
        }
        by_from.sort_unstable();
        let mut by_survivor: Vec<(u32, u32)> = by_from.iter().map(|(from, survivor)| (*survivor, *from)).collect();
        by_survivor.sort_unstable();
        Self { by_from, by_survivor }
    }

    /// No redirects at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_from.is_empty()
    }

    /// The number under which this person lives on: its own, unless it was merged.
    pub(crate) fn survivor(&self, person: u32) -> u32 {
        match self.by_from.binary_search_by_key(&person, |(from, _)| *from) {
            Ok(at) => self.by_from[at].1,
            Err(_) => person,
        }
    }

    /// The merged persons whose own numbers lie in `from..=to`, ascending, with their survivors.
    pub(crate) fn within(&self, from: u32, to: u32) -> &[(u32, u32)] {
        let start = self.by_from.partition_point(|(number, _)| *number < from);
        let end = self.by_from.partition_point(|(number, _)| *number <= to);
        self.by_from.get(start..end).unwrap_or_default()
    }

    /// The merged persons whose survivors lie in `from..to`, as (survivor, from).
    pub(crate) fn merged_into(&self, from: u32, to: u32) -> &[(u32, u32)] {
        let start = self.by_survivor.partition_point(|(survivor, _)| *survivor < from);
        let end = self.by_survivor.partition_point(|(survivor, _)| *survivor < to);
        self.by_survivor.get(start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_lead_to_their_end_and_circles_end() {
        let steps: HashMap<u32, u32> = [(1, 2), (2, 5), (9, 5), (7, 7), (20, 21), (21, 20)].into();
        let redirects = Redirects::resolve(&steps);
        assert_eq!([1, 2, 9, 5, 7, 3].map(|person| redirects.survivor(person)), [5, 5, 5, 5, 7, 3]);
        assert_eq!(redirects.within(2, 9), [(2, 5), (9, 5)]);
        assert_eq!(redirects.merged_into(5, 6), [(5, 1), (5, 2), (5, 9)]);
    }
}
