//! On random events and random requests, the report says what the plain reference says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use segue_engine::retention::{Alignment, CohortEntry as Entry, Mode, Options};
use segue_model::calendar::Grain as Bucket;
use segue_proto::analytics::v1::{GroupKey, GroupValue, RetentionCohort};

use super::reference::{Event, Row, averages, rows};
use super::*;

const NAMES: [&str; 3] = ["open", "buy", "other"];
/// Missing, and others, in the order of groups of equal size: missing comes last.
const PLATFORMS: [&str; 4] = ["android", "ios", "web", ""];
/// A change to summer time in New York, and one back.
const SEASONS: [&str; 2] = ["2026-03-06T00:00:00Z", "2026-10-30T00:00:00Z"];

/// Events around both changes, many of them at the same moment.
pub fn any_event() -> impl Strategy<Value = ResolvedEvent> {
    let time = (select(&SEASONS[..]), 0_i64..200, select(vec![0_i64, 0, 1, -1]));
    (select(&NAMES[..]), time, 1_u32..6, select(&PLATFORMS[..])).prop_map(|(name, (season, slot, off), person, platform)| {
        // Six hours to a slot at first, then a day.
        let hours = if slot < 100 { slot * 6 } else { 600 + (slot - 100) * 24 };
        let event = event(name, us(season) + hours * 3_600_000_000 + off, person);
        if platform.is_empty() { event } else { with_platform(event, platform) }
    })
}

/// A selector: names (none: all), and the platform that it asks for.
#[derive(Debug, Clone)]
struct Selected {
    names: Vec<&'static str>,
    platform: Option<&'static str>,
}

impl Selected {
    fn named(&self, event: &ResolvedEvent) -> bool {
        self.names.is_empty() || self.names.contains(&event.name.as_str())
    }

    fn takes(&self, event: &ResolvedEvent) -> bool {
        self.named(event) && passes(self.platform, event)
    }

    fn to_selector(&self) -> EventSelector {
        EventSelector { filter: self.platform.map(platform_is), ..selector(&self.names) }
    }
}

fn platform_of(event: &ResolvedEvent) -> &str {
    event.dimensions.first().map_or("", |dimension| dimension.value.as_str())
}

fn passes(platform: Option<&str>, event: &ResolvedEvent) -> bool {
    platform.is_none_or(|platform| platform_of(event) == platform)
}

/// A question in its own words, from which both the request and the reference's options are made.
#[derive(Debug, Clone)]
pub struct Question {
    start: Selected,
    returning: Option<Selected>,
    filter: Option<&'static str>,
    options: Options,
    top: Option<u32>,
    cell: (usize, usize, usize, bool),
    pub watermark: i64,
    /// Only persons who have done this by the watermark.
    among: Option<&'static str>,
}

fn any_selected() -> impl Strategy<Value = Selected> {
    let names = select(vec![vec![], vec!["open"], vec!["open"], vec!["buy"], vec!["buy", "open"], vec!["absent"]]);
    (names, prop::option::weighted(0.3, select(vec!["ios", "web"]))).prop_map(|(names, platform)| Selected { names, platform })
}

fn any_options() -> impl Strategy<Value = Options> {
    let grain = select(vec![(Bucket::Hour, 1), (Bucket::Day, 24), (Bucket::Day, 24), (Bucket::Week, 168), (Bucket::Month, 730)]);
    let zone = select(vec![Tz::UTC, Tz::America__New_York, Tz::Asia__Seoul]);
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
    let alignment = select(vec![Alignment::Calendar, Alignment::Calendar, Alignment::Rolling]);
    let entry = select(vec![Entry::Recurring, Entry::FirstMatching, Entry::FirstEver]);
    let range = (select(&SEASONS[..]), 0_i64..60, 1_i64..120);
    (grain, zone, mode, alignment, entry, range, select(vec![1_u32, 1, 2, 3]), select(vec![1_usize, 4, 400])).prop_map(
        |((grain, hours), zone, mode, alignment, entry, (season, start, length), returns_min, cells_max)| {
            let at = |tenths: i64| us(season) + tenths * hours * 360_000_000;
            Options { range_us: at(start)..at(start + length), grain, zone, alignment, entry, mode, returns_min, cells_max }
        },
    )
}

pub fn any_question() -> impl Strategy<Value = Question> {
    let selected = (any_selected(), prop::option::of(any_selected()), prop::option::weighted(0.2, select(vec!["ios", "web"])));
    let among = prop::option::weighted(0.2, select(vec!["buy", "other"]));
    let rest = (prop::option::of(1_u32..4), (0_usize..99, 0_usize..99, 0_usize..99, any::<bool>()), 0_i64..4, among);
    (selected, any_options(), rest).prop_map(|((start, returning, filter), options, (top, cell, part, among))| {
        let length = options.range_us.end - options.range_us.start;
        let watermark = if part == 3 { us("2029-01-01T00:00:00Z") } else { options.range_us.start + length * part / 2 };
        Question { start, returning, filter, options, top, cell, watermark, among }
    })
}

impl Question {
    pub fn request(&self) -> QueryRetentionRequest {
        let options = &self.options;
        let brackets = match &options.mode {
            Mode::Brackets(brackets) => {
                brackets.iter().map(|bracket| RetentionBracket { start: bracket.start, end: bracket.end }).collect()
            }
            Mode::On | Mode::OnOrAfter => Vec::new(),
        };
        QueryRetentionRequest {
            range: range(options.range_us.start, options.range_us.end),
            time_zone: options.zone.name().to_owned(),
            start: Some(self.start.to_selector()),
            returning: self.returning.as_ref().map(Selected::to_selector),
            grain: match options.grain {
                Bucket::Hour => Grain::Hour,
                Bucket::Day => Grain::Unspecified,
                Bucket::Week => Grain::Week,
                Bucket::Month => Grain::Month,
            } as i32,
            alignment: match options.alignment {
                Alignment::Calendar => RetentionAlignment::Unspecified,
                Alignment::Rolling => RetentionAlignment::Rolling,
            } as i32,
            entry: match options.entry {
                Entry::Recurring => CohortEntry::Unspecified,
                Entry::FirstMatching => CohortEntry::FirstMatching,
                Entry::FirstEver => CohortEntry::FirstEver,
            } as i32,
            mode: match options.mode {
                Mode::On => RetentionMode::Unspecified,
                Mode::OnOrAfter => RetentionMode::OnOrAfter,
                Mode::Brackets(_) => RetentionMode::Bracket,
            } as i32,
            cells: if brackets.is_empty() && options.cells_max < 400 { options.cells_max as u32 } else { 0 },
            brackets,
            returns_min: if options.returns_min == 1 { 0 } else { options.returns_min },
            breakdown: self.top.map(|top| RetentionBreakdown { field: Some(platform()), top }),
            filter: self.filter.map(platform_is),
            among: self.among.map(did),
        }
    }

    /// Persons with their events in order, as the reference takes them.
    fn persons(&self, events: &[ResolvedEvent], watermark: i64) -> BTreeMap<u32, Vec<Event>> {
        let returning = self.returning.as_ref().unwrap_or(&self.start);
        let mut persons: BTreeMap<u32, Vec<Event>> = BTreeMap::new();
        let did =
            |person: u32, name: &str| events.iter().any(|event| event.person == person && event.name == name && event.time_us <= watermark);
        for event in events.iter().filter(|event| self.among.is_none_or(|name| did(event.person, name))) {
            let passes = passes(self.filter, event);
            let group = PLATFORMS.iter().position(|platform| *platform == platform_of(event)).expect("a platform") as u8;
            persons.entry(event.person).or_default().push(Event {
                ts: event.time_us,
                start: passes && self.start.takes(event),
                returning: passes && returning.takes(event),
                named: self.start.named(event),
                group,
            });
        }
        // Equal times stay in the order of the log.
        persons.values_mut().for_each(|events| events.sort_by_key(|event| event.ts));
        persons
    }

    /// Compares an answer over `events`, which are given in the order of their sequence, and the persons of one of its cells.
    pub fn check(
        &self,
        found: &QueryRetentionResponse,
        persons_of: impl Fn(&RetentionCellReference) -> RoaringBitmap,
        events: &[ResolvedEvent],
        watermark: i64,
    ) -> Result<(), String> {
        let persons = self.persons(events, watermark);
        let everybody: Vec<Vec<Event>> = persons.values().cloned().collect();
        let expected = rows(&everybody, &self.options, None, watermark);
        same("total", found.total.as_ref(), &expected)?;
        let mut groups: Vec<(u8, Vec<Row>)> = Vec::new();
        if self.top.is_some() {
            groups.extend((0..4).map(|group| (group, rows(&everybody, &self.options, Some(group), watermark))));
            let size = |rows: &[Row]| rows.iter().map(|row| row.size).sum::<u64>();
            groups.retain(|(_, rows)| size(rows) > 0);
            groups.sort_by_key(|(_, rows)| std::cmp::Reverse(size(rows)));
        }
        if found.groups_total != groups.len() as u64 {
            return Err(format!("{} groups instead of {}", found.groups_total, groups.len()));
        }
        let top = self.top.map_or(0, |top| top as usize).min(groups.len());
        let rest: Vec<u8> = groups.split_off(top).into_iter().map(|(group, _)| group).collect();
        let mut shown: Vec<(GroupKey, Vec<u8>, Vec<Row>)> =
            groups.into_iter().map(|(group, rows)| (key(group), vec![group], rows)).collect();
        if !rest.is_empty() {
            let together = sum(rest.iter().map(|group| rows(&everybody, &self.options, Some(*group), watermark)));
            shown.push((GroupKey { values: Vec::new(), other: true }, rest, together));
        }
        let keys: Vec<Option<&GroupKey>> = found.groups.iter().map(|group| group.key.as_ref()).collect();
        if keys != shown.iter().map(|(key, ..)| Some(key)).collect::<Vec<_>>() {
            return Err(format!("groups {keys:?} instead of {shown:?}"));
        }
        for (group, (key, _, rows)) in found.groups.iter().zip(&shown) {
            same(&format!("{key:?}"), Some(group), rows)?;
        }
        // One cell of one group, person by person.
        let (group, row, cell, missing) = self.cell;
        let chosen = (group % (shown.len() + 1)).checked_sub(1).and_then(|at| shown.get(at));
        let row = row % expected.len();
        let Some(cell) = cell.checked_rem(expected[row].cells.len()) else { return Ok(()) };
        let reference = RetentionCellReference {
            group: chosen.map(|(key, ..)| key.clone()),
            cohort: Some(timestamp(expected[row].start)),
            cell: cell as u32,
            missing,
            size: false,
        };
        let groups: Vec<Option<u8>> = chosen.map_or(vec![None], |(_, groups, _)| groups.iter().copied().map(Some).collect());
        let in_cell = |events: &Vec<Event>| {
            let own = sum(groups.iter().map(|group| rows(std::slice::from_ref(events), &self.options, *group, watermark)));
            own[row].size > 0 && (own[row].cells[cell].0 > 0) != missing
        };
        let wanted: RoaringBitmap = persons.iter().filter(|(_, events)| in_cell(events)).map(|(person, _)| *person).collect();
        let size = persons_of(&RetentionCellReference { cell: 0, missing: false, size: true, ..reference.clone() }).len();
        let of_cohort = sum(groups.iter().map(|group| rows(&everybody, &self.options, *group, watermark)))[row].size;
        if size != of_cohort {
            return Err(format!("{size} persons instead of {of_cohort} in the cohort of {reference:?}"));
        }
        let persons = persons_of(&reference);
        if persons != wanted { Err(format!("{persons:?} instead of {wanted:?} in {reference:?}")) } else { Ok(()) }
    }
}

fn key(group: u8) -> GroupKey {
    let text = PLATFORMS[group as usize];
    let value = (!text.is_empty()).then(|| Value { kind: Some(Kind::StringValue(text.to_owned())) });
    GroupKey { values: vec![GroupValue { value }], other: false }
}

fn sum(tables: impl Iterator<Item = Vec<Row>>) -> Vec<Row> {
    tables
        .reduce(|mut together, table| {
            for (row, other) in together.iter_mut().zip(table) {
                row.size += other.size;
                row.cells.iter_mut().zip(other.cells).for_each(|(cell, other)| cell.0 += other.0);
            }
            together
        })
        .unwrap_or_default()
}

fn same(what: &str, found: Option<&RetentionGroup>, expected: &[Row]) -> Result<(), String> {
    let found = found.ok_or_else(|| format!("{what} is not there"))?;
    let row = |cohort: &RetentionCohort| Row {
        start: us_of(cohort.start.as_ref()),
        size: cohort.size,
        cells: cohort.cells.iter().map(|cell| (cell.provisional, cell.returned.is_some())).collect(),
    };
    let rows: Vec<Row> = found.cohorts.iter().map(row).collect();
    if rows != expected {
        return Err(format!("{what}: {rows:?} instead of {expected:?}"));
    }
    let average: Vec<(u64, u64)> = found.average.iter().map(|average| (average.returned, average.size)).collect();
    if average != averages(expected) {
        return Err(format!("average of {what}: {average:?}"));
    }
    let quotient = |returned: u64, size: u64| (size > 0).then(|| returned as f64 / size as f64);
    let wrong = found.average.iter().any(|average| average.rate != quotient(average.returned, average.size))
        || found.cohorts.iter().any(|cohort| {
            cohort.cells.iter().any(|cell| {
                cell.returned.is_some_and(|returned| returned != cell.provisional)
                    || cell.rate != cell.returned.and_then(|returned| quotient(returned, cohort.size))
            })
        });
    if wrong { Err(format!("rates of {what}: {found:?}")) } else { Ok(()) }
}

fn us_of(time: Option<&Timestamp>) -> i64 {
    time.map(|time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1000).expect("a time")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_question_is_answered_as_the_plain_reference_does(
        events in prop::collection::vec(any_event(), 0..60),
        question in any_question(),
        threads in 1_usize..4,
    ) {
        let snapshot = Snapshot::of_events(&"shop".parse().expect("a tenant id"), question.watermark, &events).expect("a snapshot");
        let request = question.request();
        let found = with_context(&snapshot, threads, |context| retention::query(context, &request)).expect("an answer");
        let persons = |cell: &RetentionCellReference| persons(&snapshot, &request, cell).expect("persons");
        question.check(&found, persons, &events, question.watermark).map_err(TestCaseError::fail)?;
    }
}
