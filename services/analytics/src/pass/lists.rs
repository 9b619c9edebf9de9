//! The times of each selector of one person, as they lie in the columns: nothing is copied, sorted or packed.
//!
//! Good for questions that select few events, none of which matches two selectors, and that look at a small part of the times. Each part
//! costs a little for every person of the chunk, so that parts must be few for what they hold.

use std::borrow::Cow;
use std::ops::Range;

use segue_engine::funnel::TimeLists;

use super::gather::Part;

/// Entries of the table of a block: it should stay in the cache of one core.
const TABLE_ENTRIES: usize = 1 << 16;
/// Parts × persons that are worth it, per hit.
const ENTRIES_PER_HIT: usize = 4;

/// Parts of a chunk by selector, if they can be read as lists.
#[derive(Debug)]
pub(crate) struct PartLists<'p> {
    columns: Vec<Column<'p>>,
    /// Places in `columns` of each selector.
    lists: Vec<Range<usize>>,
    persons: Range<u32>,
}

#[derive(Debug)]
struct Column<'p> {
    list: usize,
    persons: Cow<'p, [u32]>,
    times: Cow<'p, [i64]>,
}

/// The times of one person.
#[derive(Debug)]
pub(crate) struct PersonLists<'l> {
    times: &'l [&'l [i64]],
    from: &'l [u32],
    to: &'l [u32],
    lists: &'l [Range<usize>],
}

impl TimeLists for PersonLists<'_> {
    #[inline]
    fn parts(&self, list: usize) -> Range<usize> {
        self.lists.get(list).cloned().unwrap_or_default()
    }

    #[inline]
    fn part(&self, number: usize) -> &[i64] {
        let range = self.from[number] as usize..self.to[number] as usize;
        self.times[number].get(range).unwrap_or_default()
    }
}

impl<'p> PartLists<'p> {
    /// The parts of these persons for so many selectors. None if hits match no selector or several, or if another way is shorter.
    pub(crate) fn new<P>(parts: &'p [Part<P>], selectors: usize, persons: Range<u32>) -> Option<Self> {
        let hits: usize = parts.iter().map(Part::len).sum();
        let last = parts.iter().filter_map(Part::last_person).max()?;
        let persons = persons.start..persons.end.min(last.saturating_add(1));
        if parts.len().saturating_mul(persons.len()) > hits.saturating_mul(ENTRIES_PER_HIT) {
            return None;
        }
        let mut columns = Vec::with_capacity(parts.len());
        for part in parts {
            let matches = part.same_matches().filter(|matches| matches.is_power_of_two())?;
            let (persons, times) = part.columns();
            columns.push(Column { list: matches.trailing_zeros() as usize, persons, times });
        }
        columns.sort_by_key(|column| (column.list, column.times.first().copied()));
        let place = |list: usize| columns.partition_point(|column| column.list < list);
        let lists = (0..selectors).map(|list| place(list)..place(list + 1)).collect();
        Some(Self { columns, lists, persons })
    }

    /// Calls `each` with the lists of every person.
    pub(crate) fn each(&self, mut each: impl FnMut(u32, &PersonLists<'_>)) {
        let width = self.columns.len();
        let block = (TABLE_ENTRIES / width.max(1)).max(1) as u32;
        let times: Vec<&[i64]> = self.columns.iter().map(|column| &*column.times).collect();
        // Per person and part, the row after the person's last one; 0 without rows.
        let mut table = Vec::new();
        let (mut from, mut to) = (vec![0_u32; width], vec![0_u32; width]);
        let mut first = self.persons.start;
        while first < self.persons.end {
            let end = first.saturating_add(block).min(self.persons.end);
            table.clear();
            table.resize(width * (end - first) as usize, 0);
            for (place, (column, start)) in self.columns.iter().zip(&to).enumerate() {
                let rows = column.persons.get(*start as usize..).unwrap_or_default();
                let length = rows.partition_point(|person| *person < end);
                for (row, person) in (start + 1..).zip(&rows[..length]) {
                    table[(person - first) as usize * width + place] = row;
                }
            }
            for (person, ends) in (first..).zip(table.chunks_exact(width)) {
                from.copy_from_slice(&to);
                // A person's rows begin where those of the person before end.
                for (to, end) in to.iter_mut().zip(ends) {
                    *to = (*to).max(*end);
                }
                each(person, &PersonLists { times: &times, from: &from, to: &to, lists: &self.lists });
            }
            first = end;
        }
    }
}

impl<P> Part<P> {
    fn last_person(&self) -> Option<u32> {
        let last = self.len().checked_sub(1)?;
        Some(self.person.value(self.rows.as_ref().map_or(last, |rows| rows[last] as usize)))
    }

    /// Persons and times of the hits.
    fn columns(&self) -> (Cow<'_, [u32]>, Cow<'_, [i64]>) {
        let (persons, times) = (self.person.values(), self.ts.values());
        match &self.rows {
            None => (Cow::Borrowed(persons), Cow::Borrowed(times)),
            Some(rows) => (
                Cow::Owned(rows.iter().map(|row| persons[*row as usize]).collect()),
                Cow::Owned(rows.iter().map(|row| times[*row as usize]).collect()),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::gather::{Matches, Payloads};
    use super::*;

    fn part(number: usize, list: usize, mut rows: Vec<(u32, i64)>) -> Part<()> {
        rows.sort_unstable();
        Part {
            person: rows.iter().map(|row| row.0).collect::<Vec<u32>>().into(),
            ts: rows.iter().map(|row| row.1).collect::<Vec<i64>>().into(),
            order: None,
            rows: (number % 2 == 1).then(|| (0..rows.len() as u32).filter(|row| row % 3 != 1).collect()),
            matches: Matches::All(1 << list),
            payload: Payloads::All(()),
        }
    }

    proptest! {
        #[test]
        fn lists_hold_every_time_of_every_person(
            parts in prop::collection::vec((0_usize..3, prop::collection::vec((100_u32..130, 0_i64..9), 20..60)), 1..6),
        ) {
            let parts: Vec<Part<()>> = parts.into_iter().enumerate().map(|(number, (list, rows))| part(number, list, rows)).collect();
            let mut expected: BTreeMap<(u32, usize), Vec<i64>> = BTreeMap::new();
            for part in &parts {
                part.each(|person, ts, matches| expected.entry((person, matches.trailing_zeros() as usize)).or_default().push(ts));
            }
            expected.values_mut().for_each(|times| times.sort_unstable());
            let Some(lists) = PartLists::new(&parts, 3, 100..200) else { return Ok(()) };
            let mut found: BTreeMap<(u32, usize), Vec<i64>> = BTreeMap::new();
            let mut ascending = true;
            lists.each(|person, lists| {
                for list in 0..3 {
                    for number in lists.parts(list) {
                        ascending &= lists.part(number).is_sorted();
                        if !lists.part(number).is_empty() {
                            found.entry((person, list)).or_default().extend(lists.part(number));
                        }
                    }
                }
            });
            found.values_mut().for_each(|times| times.sort_unstable());
            prop_assert!(ascending);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn hits_of_several_selectors_and_many_small_parts_are_left_to_others() {
        let several = Part { matches: Matches::All(0b11), ..part(0, 0, vec![(100, 1); 50]) };
        assert!(PartLists::new(&[several], 2, 100..200).is_none());
        let small: Vec<Part<()>> = (0..50).map(|_| part(0, 0, vec![(100, 1), (160, 2)])).collect();
        assert!(PartLists::new(&small, 1, 100..200).is_none());
        assert!(PartLists::new::<()>(&[], 1, 100..200).is_none());
    }
}
