//! The cases of the contract, row by row.

use crate::Hit;
use crate::retention::*;

const DAY: i64 = 24 * 3_600_000_000;

fn us(text: &str) -> i64 {
    // Day, hour and minute of a month of 2026, for example `02-25 20:00`.
    let number = |range: Range<usize>| text.get(range).and_then(|part| part.parse::<u32>().ok()).expect("a number");
    let new_year = 1_767_225_600_000_000;
    let month = segue_model::calendar::add_months_us(new_year, number(0..2) - 1, Tz::UTC).expect("a month");
    month + i64::from(number(3..5) - 1) * DAY + i64::from(number(6..8) * 60 + number(9..11)) * 60_000_000
}

fn days(count: i64) -> Options {
    Options {
        range_us: us("01-01 00:00")..us("01-01 00:00") + count * DAY,
        grain: Grain::Day,
        zone: Tz::UTC,
        alignment: Alignment::Calendar,
        entry: CohortEntry::Recurring,
        mode: Mode::On,
        returns_min: 1,
        cells_max: 400,
    }
}

/// Events that are start and return alike, at noon of these days.
fn on_days(numbers: &[i64]) -> Vec<Hit> {
    let hit =
        |(at, day): (usize, &i64)| Hit { ts: us("01-01 12:00") + day * DAY + at as i64, sequence: at as u64, matches: 0b111, payload: () };
    numbers.iter().enumerate().map(hit).collect()
}

fn bracket(start: u32, end: u32) -> Vec<Range<u32>> {
    std::iter::once(start..end).collect()
}

/// `S` at the first time, `R` at the second.
fn start_and_return(start: &str, returning: &str) -> Vec<Hit> {
    let hit = |at: &str, matches| Hit { ts: us(at), sequence: 0, matches, payload: () };
    vec![hit(start, 0b101), hit(returning, 0b010)]
}

fn table(options: Options, persons: &[Vec<Hit>], watermark: i64) -> Table {
    let retention = Retention::new(options).expect("a question");
    let (mut counts, mut scratch) = (Counts::default(), Scratch::default());
    for hits in persons {
        retention.entries(hits, &mut scratch, |entry| counts.add(&retention, entry));
    }
    retention.table(&counts, watermark)
}

fn returned(table: &Table) -> Vec<Vec<u64>> {
    table.cohorts.iter().map(|cohort| cohort.cells.iter().map(|cell| cell.returned).collect()).collect()
}

#[test]
fn recurring_cohorts_count_who_came_back_on_each_day() {
    let persons = [on_days(&[0, 1, 2, 5, 5, 6]), on_days(&[1, 2, 3, 6])];
    let one: [&[u64]; 7] = [&[1, 1, 1, 0, 0, 1, 1], &[2, 2, 1, 0, 1, 2], &[2, 1, 0, 1, 2], &[1, 0, 0, 1], &[0, 0, 0], &[1, 1], &[2]];
    let two: [&[u64]; 7] = [&[1, 0, 0, 0, 0, 1, 0], &[2, 0, 0, 0, 1, 0], &[2, 0, 0, 1, 0], &[1, 0, 0, 0], &[0, 0, 0], &[1, 0], &[2]];
    for (returns_min, expected) in [(0, one), (1, one), (2, two)] {
        let table = table(Options { returns_min, ..days(7) }, &persons, i64::MAX);
        assert_eq!(returned(&table), expected, "at least {returns_min}");
        assert!(table.cohorts.iter().all(|cohort| cohort.cells.iter().all(|cell| cell.complete)));
    }
}

#[test]
fn on_or_after_counts_who_came_back_at_all_from_a_day_on() {
    let persons = [on_days(&[0, 3, 4]), on_days(&[0, 1]), on_days(&[1, 2, 3]), on_days(&[3, 4]), on_days(&[4])];
    let table = table(Options { mode: Mode::OnOrAfter, ..days(6) }, &persons, i64::MAX);
    let expected: [&[u64]; 6] = [&[2, 2, 1, 1, 1, 0], &[2, 1, 1, 0, 0], &[1, 1, 0, 0], &[3, 2, 0], &[3, 0], &[0]];
    assert_eq!(returned(&table), expected);
}

#[test]
fn the_alignment_decides_which_bucket_a_return_falls_into() {
    for (start, returning, grain, until, calendar, rolling) in [
        ("01-01 23:45", "01-02 00:01", Grain::Day, "01-04 00:00", [0, 1, 0], [1, 0, 0]),
        // Monday and Tuesday.
        ("01-05 20:00", "01-06 06:00", Grain::Day, "01-08 00:00", [0, 1, 0], [1, 0, 0]),
        // Friday and Monday.
        ("01-09 12:00", "01-12 12:00", Grain::Week, "01-26 00:00", [0, 1, 0], [1, 0, 0]),
        ("02-25 12:00", "03-03 12:00", Grain::Month, "05-01 00:00", [0, 1, 0], [1, 0, 0]),
        // Exactly one length later is the next bucket, a moment before is not.
        ("01-01 10:00", "01-02 10:00", Grain::Day, "01-04 00:00", [0, 1, 0], [0, 1, 0]),
        ("01-01 10:00", "01-02 09:59", Grain::Day, "01-04 00:00", [0, 1, 0], [1, 0, 0]),
        ("01-31 10:00", "02-28 10:00", Grain::Month, "04-01 00:00", [0, 1, 0], [0, 1, 0]),
        ("01-31 10:00", "02-28 09:59", Grain::Month, "04-01 00:00", [0, 1, 0], [1, 0, 0]),
        ("01-31 10:00", "03-31 09:59", Grain::Month, "04-01 00:00", [0, 0, 1], [0, 1, 0]),
    ] {
        for (alignment, expected) in [(Alignment::Calendar, calendar), (Alignment::Rolling, rolling)] {
            let options =
                Options { range_us: us(start)..us(until), grain, alignment, mode: Mode::Brackets(vec![0..1, 1..2, 2..3]), ..days(1) };
            let table = table(options, &[start_and_return(start, returning)], i64::MAX);
            let first = table.cohorts.first().expect("a cohort");
            assert_eq!(
                (first.size, first.cells.iter().map(|cell| cell.returned).collect::<Vec<_>>()),
                (1, expected.to_vec()),
                "{start} {returning} {alignment:?}"
            );
        }
    }
}

#[test]
fn the_average_pools_complete_cells() {
    let retention = Retention::new(Options { entry: CohortEntry::FirstMatching, ..days(3) }).expect("a question");
    let (mut counts, mut scratch) = (Counts::default(), Scratch::default());
    let mut add = |number: usize, numbers: &[i64]| {
        for _ in 0..number {
            retention.entries(&on_days(numbers), &mut scratch, |entry| counts.add(&retention, entry));
        }
    };
    add(500, &[0, 1]);
    add(500, &[0]);
    add(400, &[1, 2]);
    add(100, &[1]);
    add(700, &[2]);
    let table = retention.table(&counts, us("01-04 00:00"));
    assert_eq!(table.cohorts.iter().map(|cohort| cohort.size).collect::<Vec<_>>(), [1000, 500, 700]);
    assert_eq!(table.averages[1], Average { returned: 900, size: 1500 });
    assert_eq!(table.averages[1].rate(), Some(0.6));
    // Day 2 goes on: its return of day 1's cohort is provisional and out of the average.
    let table = retention.table(&counts, us("01-03 18:00"));
    assert_eq!(table.cohorts[1].cells[1], Cell { returned: 400, complete: false });
    assert_eq!(table.cohorts[2].cells[0], Cell { returned: 700, complete: false });
    assert_eq!(
        table.averages,
        [Average { returned: 1500, size: 1500 }, Average { returned: 500, size: 1000 }, Average { returned: 0, size: 0 }]
    );
    assert_eq!(table.averages[2].rate(), None);
}

#[test]
fn entries_differ_in_what_counts_as_the_first_start() {
    let hit = |day: i64, matches| Hit { ts: us("01-01 12:00") + day * DAY, sequence: 0, matches, payload: () };
    // The start event without its filter on day 0, with it on days 1, 1 and 3.
    let filtered = vec![hit(0, 0b100), hit(1, 0b111), hit(1, 0b111), hit(3, 0b111)];
    // The first one long before the range.
    let before = vec![hit(-9, 0b111), hit(2, 0b111)];
    let first = vec![hit(2, 0b111), hit(3, 0b111)];
    for (entry, sizes) in
        [(CohortEntry::Recurring, [0, 1, 2, 2]), (CohortEntry::FirstMatching, [0, 1, 2, 0]), (CohortEntry::FirstEver, [0, 0, 1, 0])]
    {
        let table = table(Options { entry, ..days(4) }, &[filtered.clone(), before.clone(), first.clone()], i64::MAX);
        assert_eq!(table.cohorts.iter().map(|cohort| cohort.size).collect::<Vec<_>>(), sizes, "{entry:?}");
    }
}

#[test]
fn a_start_is_not_its_own_return_and_earlier_returns_do_not_count() {
    let hit = |minute: i64, matches| Hit { ts: us("01-01 12:00") + minute * 60_000_000, sequence: 0, matches, payload: () };
    for (hits, expected) in [
        (vec![hit(0, 0b111)], 0),
        (vec![hit(0, 0b010), hit(1, 0b101)], 0),
        (vec![hit(0, 0b010), hit(1, 0b101), hit(2, 0b010)], 1),
        (vec![hit(0, 0b111), hit(1, 0b111)], 1),
    ] {
        for alignment in [Alignment::Calendar, Alignment::Rolling] {
            let table = table(Options { alignment, mode: Mode::Brackets(bracket(0, 1)), ..days(1) }, std::slice::from_ref(&hits), i64::MAX);
            assert_eq!(returned(&table), [[expected]], "{hits:?}");
        }
    }
}

#[test]
fn returns_are_summed_over_a_bracket_and_over_the_rest_of_the_range() {
    let person = [on_days(&[0, 1, 2, 4])];
    let first = |mode, returns_min| returned(&table(Options { mode, returns_min, ..days(6) }, &person, i64::MAX)).swap_remove(0);
    let brackets = || Mode::Brackets(vec![0..1, 1..3, 3..6, 6..9]);
    assert_eq!(first(brackets(), 1), [0, 1, 1]);
    assert_eq!(first(brackets(), 2), [0, 1, 0]);
    assert_eq!(first(Mode::OnOrAfter, 2), [1, 1, 1, 0, 0, 0]);
    assert_eq!(first(Mode::OnOrAfter, 3), [1, 1, 0, 0, 0, 0]);
}

#[test]
fn cells_wait_for_all_buckets_that_they_look_at() {
    let complete = |options: Options, watermark: &str| -> Vec<Vec<bool>> {
        let table = table(options, &[], us(watermark));
        table.cohorts.iter().map(|cohort| cohort.cells.iter().map(|cell| cell.complete).collect()).collect()
    };
    let (yes, no) = (true, false);
    assert_eq!(complete(days(3), "01-03 00:00"), [vec![yes, yes, no], vec![yes, no], vec![no]]);
    assert_eq!(complete(Options { mode: Mode::OnOrAfter, ..days(3) }, "01-03 00:00"), [vec![yes, no, no], vec![yes, no], vec![no]]);
    // Who starts last on day 0 has day 1 until the end of day 1 of the calendar, and one more day.
    let rolling = Options { alignment: Alignment::Rolling, ..days(3) };
    assert_eq!(complete(rolling.clone(), "01-03 00:00"), [vec![yes, no, no], vec![yes, no], vec![no]]);
    assert_eq!(complete(rolling, "01-04 00:00"), [vec![yes, yes, no], vec![yes, no], vec![yes]]);
    // The last bracket goes beyond the range.
    let brackets = Options { mode: Mode::Brackets(vec![0..1, 1..3, 3..4]), ..days(3) };
    assert_eq!(complete(brackets, "01-09 00:00"), [vec![yes, yes], vec![yes, no], vec![yes]]);
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let refused = |options: Options| Retention::new(options).err();
    assert_eq!(refused(days(0)), Some(RetentionError::EmptyRange));
    assert_eq!(refused(days(10_001)), Some(RetentionError::TooManyBuckets));
    assert_eq!(refused(days(10_000)), None);
    assert_eq!(refused(Options { range_us: i64::MIN..0, ..days(1) }), Some(RetentionError::OutsideCalendar));
    for (brackets, index) in [(vec![], 0), (bracket(1, 1), 0), (vec![0..2, 1..3], 1), (vec![0..2, 2..3, 1..9], 2)] {
        assert_eq!(refused(Options { mode: Mode::Brackets(brackets), ..days(1) }), Some(RetentionError::Brackets { index }));
    }
}
