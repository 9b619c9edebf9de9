//! Cuts persons into parts of about equal work. Parts are made of whole chunks, so that each person is in one part.

use std::ops::Range;

use super::selection::{PersonRange, Selection};
use crate::scan::{PERSONS_PER_CHUNK, Snapshot};

const CHUNK: u64 = PERSONS_PER_CHUNK as u64;

/// Persons of one partition of a leaf: ascending ranges, apart from each other.
pub(crate) type Part = Vec<PersonRange>;

/// The persons of a selection, up to the largest that occurs.
pub(crate) fn existing(snapshot: &Snapshot, selection: &Selection) -> Vec<PersonRange> {
    let end = u64::from(snapshot.persons_max()) + 1;
    let cut = selection.persons.iter().map(|range| range.start..range.end.min(end));
    cut.filter(|range| !range.is_empty()).collect()
}

/// At most `parts_max` parts, at least one (which may be empty), in ascending order.
pub(crate) fn cut(snapshot: &Snapshot, selection: &Selection, persons: &[PersonRange], parts_max: usize) -> Vec<Part> {
    let pieces = pieces(persons);
    let weights = Weights::of(snapshot, selection);
    let total: u64 = pieces.iter().map(|piece| weights.of_chunk(piece)).sum();
    let parts_max = parts_max.clamp(1, pieces.len().max(1));
    let mut parts: Vec<Part> = vec![Vec::new()];
    let mut done = 0;
    for (at, piece) in pieces.iter().enumerate() {
        let begun = parts.len() as u64;
        let left = pieces.len() - at;
        let is_due = u128::from(done) * parts_max as u128 >= u128::from(total) * u128::from(begun);
        let filled = parts.last().is_some_and(|part| !part.is_empty());
        // The last pieces are spread over the parts that have none yet.
        if filled && parts.len() < parts_max && (is_due || left <= parts_max - parts.len()) {
            parts.push(Vec::new());
        }
        done += weights.of_chunk(piece);
        if let Some(part) = parts.last_mut() {
            match part.last_mut() {
                Some(last) if last.end == piece.start => last.end = piece.end,
                Some(_) | None => part.push(piece.clone()),
            }
        }
    }
    parts
}

/// Into how many tasks parts can be split: as many as they have chunks.
pub(crate) fn tasks_max(parts: &[Part]) -> usize {
    let chunks = parts.iter().flatten().map(|range| range.end.div_ceil(CHUNK) - range.start / CHUNK);
    chunks.sum::<u64>().max(1) as usize
}

/// The parts of each of so many tasks: together they have the persons of these parts, each person in one of them. All have the same number
/// of parts, of which some may be empty.
pub(crate) fn split(snapshot: &Snapshot, selection: &Selection, parts: &[Part], tasks: usize) -> Vec<Vec<Part>> {
    let tasks = tasks.max(1);
    let persons: Vec<PersonRange> = parts.iter().flatten().cloned().collect();
    let cut = cut(snapshot, selection, &persons, tasks * parts.len().max(1));
    let per_task = cut.len().div_ceil(tasks);
    let split = (0..tasks).map(|task| {
        let mut own: Vec<Part> = cut.iter().skip(task * per_task).take(per_task).cloned().collect();
        own.resize(per_task, Part::new());
        own
    });
    split.collect()
}

/// Ranges cut where chunks end.
fn pieces(persons: &[PersonRange]) -> Vec<PersonRange> {
    let mut pieces = Vec::new();
    for range in persons {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min((start / CHUNK + 1) * CHUNK);
            pieces.push(start..end);
            start = end;
        }
    }
    pieces
}

/// About how many rows each chunk has: those of a run are taken to be spread evenly over its persons.
struct Weights(Vec<u64>);

impl Weights {
    fn of(snapshot: &Snapshot, selection: &Selection) -> Self {
        let chunks = (u64::from(snapshot.persons_max()) / CHUNK) as usize + 1;
        let mut steps = vec![0_i128; chunks + 1];
        for (persons, rows) in snapshot.spread(selection.events.as_deref(), selection.range_us) {
            let covered: Range<usize> = (persons.0 / PERSONS_PER_CHUNK) as usize..(persons.1 / PERSONS_PER_CHUNK) as usize + 1;
            let covered = covered.start.min(chunks)..covered.end.min(chunks);
            if covered.is_empty() {
                continue;
            }
            // In 256ths, so that small runs over many chunks count too.
            let share = i128::from(rows) * 256 / covered.len() as i128;
            if let Some(step) = steps.get_mut(covered.start) {
                *step += share;
            }
            if let Some(step) = steps.get_mut(covered.end) {
                *step -= share;
            }
        }
        let mut weight = 0;
        let weights = steps.into_iter().map(|step| {
            weight += step;
            u64::try_from(weight).unwrap_or(0)
        });
        Self(weights.collect())
    }

    /// At least one, so that parts are cut also where nothing is known.
    fn of_chunk(&self, piece: &PersonRange) -> u64 {
        self.0.get((piece.start / CHUNK) as usize).copied().unwrap_or(0).max(1)
    }
}

#[cfg(test)]
mod tests {
    use segue_proto::events::v1::ResolvedEvent;

    use super::*;

    fn snapshot(persons: impl Iterator<Item = u32>) -> Snapshot {
        let event = |person| ResolvedEvent { person, name: "e".to_owned(), ..ResolvedEvent::default() };
        let events: Vec<ResolvedEvent> = persons.map(event).collect();
        Snapshot::of_events(&"shop".parse().expect("an id"), 0, &events).expect("a snapshot")
    }

    #[test]
    fn parts_are_whole_chunks_of_about_equal_work_and_hold_every_person_once() {
        let snapshot = snapshot((0..40).map(|number| number * 20_000));
        for parts_max in [1, 2, 3, 8, 12, 100] {
            let all = Selection::default();
            let persons = existing(&snapshot, &all);
            let parts = cut(&snapshot, &all, &persons, parts_max);
            assert_eq!(parts.len(), parts_max.min(12));
            assert!(parts.iter().all(|part| part.len() == 1), "{parts:?}");
            assert_eq!(parts.concat().first().map(|range| range.start), Some(0));
            for pair in parts.concat().windows(2) {
                assert_eq!(pair[0].end, pair[1].start);
                assert_eq!(pair[0].end % CHUNK, 0);
            }
            assert_eq!(parts.concat().last().map(|range| range.end), Some(780_001));
            let sizes: Vec<u64> = parts.iter().map(|part| part[0].end.div_ceil(CHUNK) - part[0].start / CHUNK).collect();
            assert!(sizes.iter().max() <= sizes.iter().min().map(|least| least + 1).as_ref(), "{sizes:?}");
        }
    }

    #[test]
    fn single_persons_stay_single_and_nobody_is_one_empty_part() {
        let snapshot = snapshot([5, 70_000, 200_000].into_iter());
        let selection = Selection { persons: vec![5..6, 70_000..70_001, 500_000..500_001], ..Selection::default() };
        let persons = existing(&snapshot, &selection);
        assert_eq!(cut(&snapshot, &selection, &persons, 2), [vec![5..6], vec![70_000..70_001]]);
        assert_eq!(cut(&snapshot, &selection, &[], 4), [Vec::<PersonRange>::new()]);
    }
}
