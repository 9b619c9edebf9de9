//! Random persons, all options.

use proptest::prelude::*;

use super::reference::{self, Event};
use crate::Hit;
use crate::retention::*;

const HOUR: i64 = 3_600_000_000;
/// 2026-03-06T00:00Z: two days before New York changes to summer time.
const SPRING: i64 = 1_772_755_200_000_000;
/// 2026-10-30T00:00Z: two days before New York changes back.
const AUTUMN: i64 = 1_793_318_400_000_000;

fn options() -> impl Strategy<Value = Options> {
    let zone = prop::sample::select(vec![Tz::UTC, Tz::America__New_York, Tz::Asia__Seoul, Tz::America__Havana, Tz::Asia__Kolkata]);
    let grain = prop::sample::select(vec![(Grain::Hour, 1), (Grain::Day, 24), (Grain::Week, 168), (Grain::Month, 730)]);
    let alignment = prop::sample::select(vec![Alignment::Calendar, Alignment::Rolling]);
    let entry = prop::sample::select(vec![CohortEntry::Recurring, CohortEntry::FirstMatching, CohortEntry::FirstEver]);
    let brackets = prop::collection::vec((0u32..3, 1u32..4), 1..4).prop_map(|steps| {
        let mut at = 0;
        let bracket = |(gap, length)| {
            let start = at + gap;
            at = start + length;
            start..at
        };
        Mode::Brackets(steps.into_iter().map(bracket).collect())
    });
    let mode = prop_oneof![Just(Mode::On), Just(Mode::OnOrAfter), brackets];
    let season = prop::sample::select(vec![SPRING, AUTUMN]);
    let range = (0i64..40, 1i64..90);
    (zone, grain, alignment, entry, mode, season, range, 0u32..4, prop::sample::select(vec![1usize, 3, 400])).prop_map(
        |(zone, (grain, hours), alignment, entry, mode, season, (start, length), returns_min, cells_max)| {
            // In tenths of a bucket, so that ranges begin and end inside one.
            let at = |tenths: i64| season + tenths * hours * HOUR / 10;
            Options { range_us: at(start)..at(start + length), grain, zone, alignment, entry, mode, returns_min, cells_max }
        },
    )
}

/// Events around the range of `options`, many of them at the same moment or on a bound.
fn persons(options: &Options) -> impl Strategy<Value = Vec<Vec<Event>>> + use<> {
    let range = options.range_us.clone();
    let length = (range.end - range.start).max(20);
    let time = (-4i64..28, prop::sample::select(vec![-1i64, 0, 0, 1, HOUR / 2]))
        .prop_map(move |(step, off)| range.start / HOUR * HOUR + step * (length / 20 / HOUR).max(1) * HOUR + off);
    let event = (time, 0u8..4, any::<bool>(), 0u8..3).prop_map(|(ts, kind, passes, group)| Event {
        ts,
        named: kind <= 1,
        start: kind <= 1 && passes,
        returning: kind != 1,
        group,
    });
    let person = prop::collection::vec(event, 0..14).prop_map(|mut events| {
        events.sort_by_key(|event| event.ts);
        events
    });
    prop::collection::vec(person, 0..6)
}

fn question() -> impl Strategy<Value = (Options, Vec<Vec<Event>>, i64)> {
    options().prop_flat_map(|options| {
        let watermark = options.range_us.start + (options.range_us.end - options.range_us.start) / 2;
        let watermarks = prop::sample::select(vec![i64::MAX, watermark, options.range_us.end]);
        (persons(&options), watermarks).prop_map(move |(persons, watermark)| (options.clone(), persons, watermark))
    })
}

/// What a scan for the question brings of a person.
fn hits(retention: &Retention, options: &Options, events: &[Event]) -> Vec<Hit<u8>> {
    let scan = retention.scan_us();
    let hit = |(at, event): (usize, &Event)| {
        let matches = [
            event.start && options.range_us.contains(&event.ts),
            event.returning && scan.contains(&event.ts),
            event.named && options.entry == CohortEntry::FirstEver && event.ts < options.range_us.end,
        ];
        let matches = matches.iter().enumerate().map(|(number, set)| u32::from(*set) << number).sum();
        Hit { ts: event.ts, sequence: at as u64, matches, payload: event.group }
    };
    events.iter().enumerate().map(hit).filter(|hit| hit.matches != 0).collect()
}

fn as_reference(table: &Table) -> Vec<reference::Row> {
    let row = |cohort: &Cohort| reference::Row {
        start: cohort.start_us,
        size: cohort.size,
        cells: cohort.cells.iter().map(|cell| (cell.returned, cell.complete)).collect(),
    };
    table.cohorts.iter().map(row).collect()
}

fn averages(table: &Table) -> Vec<(u64, u64)> {
    table.averages.iter().map(|average| (average.returned, average.size)).collect()
}

/// The fast way, with the runs of a person in any order.
fn by_marks(retention: &Retention, marks: &Marks<'_>, options: &Options, persons: &[Vec<Event>]) -> Counts {
    let mut tally = marks.tally();
    for events in persons {
        let (mut starts, mut returns) = (vec![0u64; marks.words()], vec![0u64; marks.words()]);
        for hit in hits(retention, options, events).iter().rev() {
            if hit.is(START) && options.entry != CohortEntry::FirstEver {
                let row = marks.bucket_of(hit.ts).expect("a bucket of the range");
                starts[row / 64] |= 1 << (row % 64);
            }
            if hit.is(RETURN) {
                let bucket = marks.bucket_of(hit.ts).expect("a bucket of the range");
                returns[bucket / 64] |= 1 << (bucket % 64);
            }
        }
        if options.entry == CohortEntry::FirstEver {
            let first = hits(retention, options, events).into_iter().find(|hit| hit.is(START_BY_NAME)).filter(|hit| hit.is(START));
            if let Some(row) = first.and_then(|hit| retention.row_of(hit.ts)) {
                starts[row / 64] |= 1 << (row % 64);
            }
        }
        marks.add(&starts, &returns, &mut tally);
    }
    marks.finish(tally)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn every_question_equals_a_plain_reference((options, persons, watermark) in question()) {
        let retention = Retention::new(options.clone()).expect("a question");
        // Two chunks of persons, merged under other names of the groups.
        let mut chunks = [Tally::<u8>::default(), Tally::default()];
        let mut scratch = Scratch::default();
        for (number, events) in persons.iter().enumerate() {
            let tally = &mut chunks[number % 2];
            retention.entries(&hits(&retention, &options, events), &mut scratch, |entry| tally.counts_mut(entry.start.payload).add(&retention, entry));
        }
        let mut tally = Tally::<String>::default();
        let mut total = Counts::default();
        for chunk in chunks {
            chunk.groups().for_each(|(_, counts)| total.merge(&retention, counts));
            tally.merge(&retention, chunk, |group| group.to_string());
        }
        let expected = reference::rows(&persons, &options, None, watermark);
        let table = retention.table(&total, watermark);
        prop_assert_eq!(as_reference(&table), expected.clone());
        prop_assert_eq!(averages(&table), reference::averages(&expected));
        prop_assert_eq!(total.entries(&retention), expected.iter().map(|row| row.size).sum::<u64>());
        for group in 0..3 {
            let expected = reference::rows(&persons, &options, Some(group), watermark);
            let none = Counts::default();
            let counts = tally.counts(&group.to_string()).unwrap_or(&none);
            prop_assert_eq!(as_reference(&retention.table(counts, watermark)), expected);
        }
        if let Some(marks) = retention.marks() {
            let counts = by_marks(&retention, &marks, &options, &persons);
            prop_assert_eq!(retention.table(&counts, watermark), table);
        } else {
            prop_assert!(options.alignment == Alignment::Rolling || options.returns_min > 1 || matches!(options.mode, Mode::Brackets(_)));
        }
    }
}
