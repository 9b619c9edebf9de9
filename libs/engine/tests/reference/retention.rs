//! Retention as one would say it, slow and obvious: every cohort against every person, every cell against every event.
//! Kept apart from the rules that it checks; tests of the whole engine use it as well.

use segue_engine::retention::{Alignment, CohortEntry, Mode, Options};
use segue_model::calendar::{Grain, add_months_us, bucket_start_us, next_bucket_us};

/// An event of a person; a person's events are in their order.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub ts: i64,
    /// Matches the start event.
    pub start: bool,
    /// Matches the return event.
    pub returning: bool,
    /// Has the start event's name.
    pub named: bool,
    /// Its value of the breakdown.
    pub group: u8,
}

/// One cohort: start, size, and by cell how many came back and whether that is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub start: i64,
    pub size: u64,
    pub cells: Vec<(u64, bool)>,
}

/// The answer for one group (`None`: everybody).
pub fn rows(persons: &[Vec<Event>], options: &Options, group: Option<u8>, watermark: i64) -> Vec<Row> {
    let calendar = calendar_of(options);
    let count = calendar.len();
    let mut rows = Vec::new();
    for (row, (from, to)) in calendar.iter().enumerate() {
        let buckets = count - row;
        let mut answer = Row { start: (*from).max(options.range_us.start), size: 0, cells: vec![(0, true); cells_of(options, buckets)] };
        for (cell, (_, complete)) in answer.cells.iter_mut().enumerate() {
            *complete = match looked_at(options, cell, buckets) {
                // The size: nobody else can start.
                None => (*to).min(options.range_us.end) <= watermark,
                Some((_, end)) if end > buckets => false,
                Some((begin, end)) => (begin..end).all(|bucket| match options.alignment {
                    Alignment::Calendar => calendar[row + bucket].1 <= watermark,
                    Alignment::Rolling => rolling_bound(options, *to, bucket + 1) <= watermark,
                }),
            };
        }
        for events in persons {
            let Some(at) = entry_of(events, options, *from, *to) else { continue };
            if group.is_some_and(|group| events[at].group != group) {
                continue;
            }
            answer.size += 1;
            let after: Vec<i64> = events[at + 1..].iter().filter(|event| event.returning).map(|event| event.ts).collect();
            let in_bucket = |bucket: usize| {
                let (begin, end) = match options.alignment {
                    Alignment::Calendar => calendar[row + bucket],
                    Alignment::Rolling => {
                        (rolling_bound(options, events[at].ts, bucket), rolling_bound(options, events[at].ts, bucket + 1))
                    }
                };
                after.iter().filter(|ts| (begin..end).contains(*ts)).count()
            };
            for (cell, (returned, _)) in answer.cells.iter_mut().enumerate() {
                let back = match looked_at(options, cell, buckets) {
                    None => true,
                    Some((begin, end)) => (begin..end.min(buckets)).map(in_bucket).sum::<usize>() >= options.returns_min.max(1) as usize,
                };
                *returned += u64::from(back);
            }
        }
        rows.push(answer);
    }
    rows
}

/// Σ returned and Σ size over the complete cells of each column.
pub fn averages(rows: &[Row]) -> Vec<(u64, u64)> {
    let columns = rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
    (0..columns)
        .map(|column| {
            let complete = rows.iter().filter_map(|row| row.cells.get(column).filter(|cell| cell.1).map(|cell| (cell.0, row.size)));
            complete.fold((0, 0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1))
        })
        .collect()
}

fn calendar_of(options: &Options) -> Vec<(i64, i64)> {
    let mut start = bucket_start_us(options.range_us.start, options.grain, options.zone).expect("a bucket");
    let mut buckets = Vec::new();
    while start < options.range_us.end {
        let next = next_bucket_us(start, options.grain, options.zone).expect("a bucket");
        buckets.push((start, next));
        start = next;
    }
    buckets
}

/// Position of the event with which the person enters the cohort of a calendar bucket.
fn entry_of(events: &[Event], options: &Options, from: i64, to: i64) -> Option<usize> {
    let starts = |event: &Event| event.start && options.range_us.contains(&event.ts);
    let at = match options.entry {
        CohortEntry::Recurring => events.iter().position(|event| starts(event) && (from..to).contains(&event.ts)),
        CohortEntry::FirstMatching => events.iter().position(starts),
        CohortEntry::FirstEver => events.iter().position(|event| event.named).filter(|at| starts(&events[*at])),
    }?;
    (from..to).contains(&events[at].ts).then_some(at)
}

fn cells_of(options: &Options, buckets: usize) -> usize {
    match &options.mode {
        Mode::On | Mode::OnOrAfter => buckets.min(options.cells_max),
        Mode::Brackets(brackets) => brackets.iter().filter(|bracket| (bracket.start as usize) < buckets).count(),
    }
}

/// The buckets of a cell; none for the size.
fn looked_at(options: &Options, cell: usize, buckets: usize) -> Option<(usize, usize)> {
    match &options.mode {
        Mode::On | Mode::OnOrAfter if cell == 0 => None,
        Mode::On => Some((cell, cell + 1)),
        Mode::OnOrAfter => Some((cell, buckets)),
        Mode::Brackets(brackets) => Some((brackets[cell].start as usize, brackets[cell].end as usize)),
    }
}

fn rolling_bound(options: &Options, start: i64, number: usize) -> i64 {
    let hours = match options.grain {
        Grain::Hour => 1,
        Grain::Day => 24,
        Grain::Week => 7 * 24,
        Grain::Month if number == 0 => return start,
        Grain::Month => return add_months_us(start, number as u32, options.zone).expect("a month"),
    };
    start + number as i64 * hours * 3_600_000_000
}
