//! Putting the hits of one person together: a counting sort by person over one chunk.

use std::ops::Range;

use super::gather::{Matches, Part};

/// Hits of a chunk, person by person.
pub(super) struct Grouped<R> {
    first: u32,
    /// Per person of the chunk, the end of its hits; they start where the person before ends.
    ends: Vec<u32>,
    records: Vec<R>,
}

impl<R: Copy> Grouped<R> {
    /// Sorts the hits of `parts` by person; those of one person keep the order of the parts.
    pub(super) fn new<P: Copy + Default>(persons: Range<u32>, parts: &[Part<P>], record: impl Fn(i64, u64, u32, P) -> R) -> Self {
        let first = persons.start;
        let mut ends = vec![0_u32; persons.len() + 1];
        for part in parts {
            part.each_person(|person| ends[(person - first) as usize + 1] += 1);
        }
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total;
        }
        // ends[i] is now where person i starts, and moves on to where it ends.
        ends.truncate(persons.len());
        let Some(seed) = parts.iter().find_map(|part| part.first_ts()) else { return Self { first, ends, records: Vec::new() } };
        let mut records = vec![record(seed, 0, 0, P::default()); total as usize];
        for part in parts {
            part.scatter(first, &mut ends, &mut records, &record);
        }
        Self { first, ends, records }
    }

    /// Calls `sort`, then `each`, with the hits of each person that has some.
    pub(super) fn each(&mut self, sort: impl Fn(&mut [R]), mut each: impl FnMut(u32, &[R])) {
        let mut start = 0;
        for (at, end) in self.ends.iter().enumerate() {
            let end = *end as usize;
            if let Some(hits) = self.records.get_mut(start..end).filter(|hits| !hits.is_empty()) {
                sort(hits);
                each(self.first + at as u32, hits);
            }
            start = end;
        }
    }
}

impl<P: Copy + Default> Part<P> {
    fn first_ts(&self) -> Option<i64> {
        (self.len() > 0).then(|| self.ts.value(0))
    }

    #[inline]
    fn each_person(&self, mut each: impl FnMut(u32)) {
        let persons = self.person.values();
        match &self.rows {
            None => persons.iter().for_each(|person| each(*person)),
            Some(rows) => rows.iter().for_each(|row| each(persons[*row as usize])),
        }
    }

    fn scatter<R: Copy>(&self, first: u32, next: &mut [u32], records: &mut [R], record: &impl Fn(i64, u64, u32, P) -> R) {
        let (persons, times) = (self.person.values(), self.ts.values());
        let sequences = self.sequence.as_ref().map(|column| column.values());
        let mut put = |person: u32, made: R| {
            let slot = &mut next[(person - first) as usize];
            records[*slot as usize] = made;
            *slot += 1;
        };
        match (&self.rows, &self.matches, sequences, self.payload.is_empty()) {
            // What most questions are: every row of a run, known by its event alone.
            (None, Matches::All(matches), None, true) => {
                for (person, ts) in persons.iter().zip(times) {
                    put(*person, record(*ts, 0, *matches, P::default()));
                }
            }
            _ => {
                for k in 0..self.len() {
                    let row = self.rows.as_ref().map_or(k, |rows| rows[k] as usize);
                    let matches = match &self.matches {
                        Matches::All(matches) => *matches,
                        Matches::Each(each) => each[k],
                    };
                    let payload = self.payload.get(k).copied().unwrap_or_default();
                    put(persons[row], record(times[row], sequences.map_or(0, |sequences| sequences[row]), matches, payload));
                }
            }
        }
    }
}
