//! Putting the hits of one person together: a counting sort by person, over as many persons at a time as a core's cache holds.
//!
//! The hits of a part come in the order of persons, so each part is read once from its beginning to its end, block by block.
//! A block's hits are counted, put in their places, and handed on while they are still in the cache.

use std::ops::Range;

use super::gather::{Matches, Part, Payloads};

/// What decides between hits of equal time: (sequence, origin). Zeros where it was not asked for.
pub(super) type Order = (u64, u32);

/// How large blocks are. The answer does not depend on it.
#[derive(Debug, Clone, Copy)]
struct BlockSize {
    /// Bytes of hits: they should stay in the cache of one core beside what a question keeps.
    bytes: usize,
    /// Hits of each part, on average: with fewer, going from part to part takes longer than the cache saves.
    part_hits: usize,
}

impl BlockSize {
    const DEFAULT: BlockSize = BlockSize { bytes: 1 << 20, part_hits: 256 };

    /// How many blocks a chunk is cut into.
    fn blocks(self, hits: usize, hit_bytes: usize, parts: usize) -> usize {
        let by_bytes = hits.saturating_mul(hit_bytes) / self.bytes.max(1);
        by_bytes.min(hits / parts.saturating_mul(self.part_hits).max(1)).max(1)
    }
}

/// Groups the hits of chunks, one after the other, in memory of its own.
pub(super) struct Grouping<R> {
    /// Per person of the block, the end of its hits; they start where the person before ends.
    ends: Vec<u32>,
    /// At least the hits of the block.
    records: Vec<R>,
    size: BlockSize,
}

impl<R: Copy> Grouping<R> {
    /// No memory yet.
    pub(super) fn new() -> Self {
        Self { ends: Vec::new(), records: Vec::new(), size: BlockSize::DEFAULT }
    }

    /// Calls `sort`, then `each`, with the hits of each of these persons that has some. Nothing is said about the order before `sort`,
    /// but that hits of different times tend to stand in their order.
    pub(super) fn each<P: Copy>(
        &mut self,
        persons: Range<u32>,
        parts: &mut [Part<P>],
        record: impl Fn(i64, Order, u32, P) -> R,
        sort: impl Fn(&mut [R]),
        mut each: impl FnMut(u32, &[R]),
    ) {
        // Runs of one file cover the same days, so the time of any hit tells which come first.
        parts.sort_by_key(Part::first_ts);
        let hits: usize = parts.iter().map(Part::len).sum();
        let blocks = self.size.blocks(hits, size_of::<R>(), parts.len());
        let block_persons = persons.len().div_ceil(blocks).max(1) as u32;
        // How far each part is read.
        let mut read = vec![0; parts.len()];
        let mut first = persons.start;
        while first < persons.end {
            let end = first.saturating_add(block_persons).min(persons.end);
            let ranges: Vec<(&Part<P>, Range<usize>)> = parts
                .iter()
                .zip(&mut read)
                .map(|(part, read)| {
                    let start = *read;
                    *read = part.before(end, start);
                    (part, start..*read)
                })
                .filter(|(_, range)| !range.is_empty())
                .collect();
            self.block(first..end, &ranges, &record);
            self.each_person(first, &sort, &mut each);
            first = end;
        }
    }

    fn block<P: Copy>(&mut self, persons: Range<u32>, ranges: &[(&Part<P>, Range<usize>)], record: &impl Fn(i64, Order, u32, P) -> R) {
        self.ends.clear();
        self.ends.resize(persons.len() + 1, 0);
        for (part, range) in ranges {
            part.each_person(range.clone(), |person| self.ends[(person - persons.start) as usize + 1] += 1);
        }
        let mut total = 0;
        for end in &mut self.ends {
            total += *end;
            *end = total;
        }
        // ends[i] is now where person i starts, and moves on to where it ends.
        self.ends.truncate(persons.len());
        let Some(any) = ranges.iter().find_map(|(part, range)| part.any(range.start, record)) else { return };
        if self.records.len() < total as usize {
            self.records.resize(total as usize, any);
        }
        for (part, range) in ranges {
            part.scatter(range.clone(), persons.start, &mut self.ends, &mut self.records, record);
        }
    }

    fn each_person(&mut self, first: u32, sort: &impl Fn(&mut [R]), each: &mut impl FnMut(u32, &[R])) {
        let mut start = 0;
        for (person, end) in (first..).zip(&self.ends) {
            let end = *end as usize;
            if let Some(hits) = self.records.get_mut(start..end).filter(|hits| !hits.is_empty()) {
                sort(hits);
                each(person, hits);
            }
            start = end;
        }
    }
}

impl<P: Copy> Part<P> {
    fn first_ts(&self) -> Option<i64> {
        (self.len() > 0).then(|| self.ts.value(self.row(0)))
    }

    /// The row of a hit.
    fn row(&self, hit: usize) -> usize {
        self.rows.as_ref().map_or(hit, |rows| rows[hit] as usize)
    }

    /// The first hit from `start` on of a person who is not before `end`.
    fn before(&self, end: u32, start: usize) -> usize {
        let is_before = |hit: usize| self.person.value(self.row(hit)) < end;
        // Steps that double, then halves: the answer is near.
        let len = self.len();
        let mut step = 1;
        while start + step < len && is_before(start + step) {
            step *= 2;
        }
        let (mut low, mut high) = (start + step / 2, (start + step).min(len));
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    #[inline]
    fn each_person(&self, range: Range<usize>, mut each: impl FnMut(u32)) {
        let persons = self.person.values();
        match &self.rows {
            None => persons[range].iter().for_each(|person| each(*person)),
            Some(rows) => rows[range].iter().for_each(|row| each(persons[*row as usize])),
        }
    }

    /// What the hit looks like.
    fn made<R>(&self, hit: usize, record: &impl Fn(i64, Order, u32, P) -> R) -> R {
        let row = self.row(hit);
        let matches = match &self.matches {
            Matches::All(matches) => *matches,
            Matches::Each(each) => each[hit],
        };
        let payload = match &self.payload {
            Payloads::All(payload) => *payload,
            Payloads::Each(each) => each[hit],
        };
        let order = self.order.as_ref().map_or((0, 0), |(sequences, origins)| (sequences.value(row), origins.value(row)));
        record(self.ts.value(row), order, matches, payload)
    }

    fn any<R>(&self, hit: usize, record: &impl Fn(i64, Order, u32, P) -> R) -> Option<R> {
        (hit < self.len()).then(|| self.made(hit, record))
    }

    fn scatter<R: Copy>(
        &self,
        range: Range<usize>,
        first: u32,
        next: &mut [u32],
        records: &mut [R],
        record: &impl Fn(i64, Order, u32, P) -> R,
    ) {
        let (persons, times) = (self.person.values(), self.ts.values());
        let mut put = |person: u32, made: R| {
            let slot = &mut next[(person - first) as usize];
            records[*slot as usize] = made;
            *slot += 1;
        };
        match (&self.rows, &self.matches, &self.order, &self.payload) {
            // What most questions are: every row of a run, known by its event alone.
            (None, Matches::All(matches), None, Payloads::All(payload)) => {
                for (person, ts) in persons[range.clone()].iter().zip(&times[range]) {
                    put(*person, record(*ts, (0, 0), *matches, *payload));
                }
            }
            _ => {
                for hit in range {
                    put(persons[self.row(hit)], self.made(hit, record));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hit as tests make it: (ts, order, matches, payload).
    type Made = (i64, Order, u32, u8);

    /// Persons of one part, in order, each with a time; every other part tells matches and payloads apart, every third has a
    /// selection of rows.
    fn part(number: usize, mut rows: Vec<(u32, i64)>) -> Part<u8> {
        rows.sort_unstable();
        let chosen: Option<Vec<u32>> = number.is_multiple_of(3).then(|| (0..rows.len() as u32).filter(|row| row % 3 != 1).collect());
        let hits = chosen.as_ref().map_or(rows.len(), Vec::len);
        let is_each = number.is_multiple_of(2);
        Part {
            person: rows.iter().map(|row| row.0).collect::<Vec<u32>>().into(),
            ts: rows.iter().map(|row| row.1).collect::<Vec<i64>>().into(),
            order: (number % 4 < 2).then(|| {
                let sequences: Vec<u64> = (0..rows.len() as u64).map(|row| row + 100 * number as u64).collect();
                let origins: Vec<u32> = (0..rows.len() as u32).map(|row| row % 7).collect();
                (sequences.into(), origins.into())
            }),
            rows: chosen,
            matches: if is_each { Matches::Each((0..hits as u32).collect()) } else { Matches::All(number as u32) },
            payload: if is_each { Payloads::Each((0..hits as u8).collect()) } else { Payloads::All(number as u8) },
        }
    }

    /// The hits of each person that has some, in order, read one by one.
    fn plainly(parts: &[Part<u8>]) -> Vec<(u32, Vec<Made>)> {
        let mut all: Vec<(u32, Made)> = Vec::new();
        for part in parts {
            for hit in 0..part.len() {
                let row = part.rows.as_ref().map_or(hit, |rows| rows[hit] as usize);
                let matches = match &part.matches {
                    Matches::All(matches) => *matches,
                    Matches::Each(each) => each[hit],
                };
                let payload = match &part.payload {
                    Payloads::All(payload) => *payload,
                    Payloads::Each(each) => each[hit],
                };
                let order = part.order.as_ref().map_or((0, 0), |(sequences, origins)| (sequences.value(row), origins.value(row)));
                all.push((part.person.value(row), (part.ts.value(row), order, matches, payload)));
            }
        }
        all.sort_unstable();
        let mut persons: Vec<(u32, Vec<Made>)> = Vec::new();
        for (person, made) in all {
            match persons.last_mut().filter(|last| last.0 == person) {
                Some((_, hits)) => hits.push(made),
                None => persons.push((person, vec![made])),
            }
        }
        persons
    }

    proptest! {
        #[test]
        fn every_person_gets_its_hits_whatever_the_blocks(
            parts in prop::collection::vec(prop::collection::vec((100_u32..140, 0_i64..9), 0..40), 0..7),
            bytes in 1_usize..2_000,
            part_hits in 0_usize..9,
        ) {
            let mut parts: Vec<Part<u8>> = parts.into_iter().enumerate().map(|(number, rows)| part(number, rows)).collect();
            let expected = plainly(&parts);
            let mut grouping = Grouping::<Made> { size: BlockSize { bytes, part_hits }, ..Grouping::new() };
            // Its memory is used again.
            for _ in 0..2 {
                let mut found = Vec::new();
                let record = |ts, order, matches, payload| (ts, order, matches, payload);
                grouping.each(100..140, &mut parts, record, |hits| hits.sort_unstable(), |person, hits| found.push((person, hits.to_vec())));
                prop_assert_eq!(&found, &expected);
            }
        }
    }

    #[test]
    fn blocks_are_as_large_as_the_cache_unless_parts_are_many() {
        let size = BlockSize { bytes: 1_000, part_hits: 10 };
        assert_eq!(size.blocks(0, 8, 0), 1);
        assert_eq!(size.blocks(100, 8, 1), 1);
        assert_eq!(size.blocks(1_000, 8, 2), 8);
        assert_eq!(size.blocks(1_000, 8, 50), 2);
        assert_eq!(size.blocks(1_000, 8, 5_000), 1);
    }
}
