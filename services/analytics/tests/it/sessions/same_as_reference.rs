//! On random events and random requests, the report says what a plain reference says.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use segue_model::calendar::{Grain as Bucket, bucket_start_us};
use segue_proto::analytics::v1::GroupValue;

use super::*;

const FROM: &str = "2026-10-31T12:00:00Z";
const FIELDS: [&str; 3] = ["event", "platform", "utm_source"];

/// Events of two days around a change of time in New York, in clusters, many at the same moment.
pub fn any_event() -> impl Strategy<Value = ResolvedEvent> {
    let time = (0_i64..48, 0_i64..12, select(vec![0_i64, 0, 1, -1]));
    let platforms = select(vec![None, Some("web"), Some("ios"), Some("")]);
    (select(vec!["view", "buy"]), time, 1_u32..6, platforms, select(vec![None, Some("a"), Some("b")])).prop_map(
        |(name, (hour, step, off), person, platform, source)| {
            let mut event = event(name, us(FROM) + hour * HOUR + step * 5 * MINUTE + off, person);
            for (name, value) in [("platform", platform), ("utm_source", source)] {
                if let Some(value) = value {
                    event = with_dimension(event, name, value);
                }
            }
            event
        },
    )
}

#[derive(Debug, Clone)]
pub struct Question {
    range: (i64, i64),
    grain: Option<Bucket>,
    zone: Tz,
    names: Vec<&'static str>,
    gap: Option<i64>,
    group_by: Vec<&'static str>,
    top: usize,
    cell: (usize, usize, bool),
    pub watermark: i64,
    /// Only persons who have done this by the watermark.
    among: Option<&'static str>,
}

pub fn any_question() -> impl Strategy<Value = Question> {
    let range = (-10_i64..60, 1_i64..60).prop_map(|(start, length)| (us(FROM) + start * HOUR, us(FROM) + (start + length) * HOUR));
    let grain = select(vec![None, Some(Bucket::Hour), Some(Bucket::Day), Some(Bucket::Week), Some(Bucket::Month)]);
    let zone = select(vec![Tz::UTC, Tz::America__New_York, Tz::Asia__Seoul]);
    let names = select(vec![vec![], vec!["view"], vec!["buy", "view"]]);
    let gap = select(vec![None, Some(1), Some(5 * MINUTE), Some(10 * MINUTE + 1), Some(24 * HOUR)]);
    let cell = (0_usize..99, 0_usize..99, any::<bool>());
    let group_by = subsequence(FIELDS.to_vec(), 0..=3);
    let among = prop::option::weighted(0.2, select(vec!["view", "buy"]));
    (range, grain, zone, names, gap, group_by, 1_usize..4, cell, (0_i64..70, among)).prop_map(
        |(range, grain, zone, names, gap, group_by, top, cell, (watermark, among))| Question {
            among,
            range,
            grain,
            zone,
            names,
            gap,
            group_by,
            top,
            cell,
            watermark: us(FROM) + watermark * HOUR,
        },
    )
}

/// A session in plain words.
#[derive(Debug, Clone)]
struct Plain {
    person: u32,
    key: Vec<Option<String>>,
    times: Vec<i64>,
}

fn value_of(event: &ResolvedEvent, field: &str) -> Option<String> {
    if field == "event" {
        return Some(event.name.clone());
    }
    let code = dimension::by_name(field).expect("a dimension").code;
    event.dimensions.iter().find(|dimension| dimension.code == code).map(|dimension| dimension.value.clone())
}

impl Question {
    pub fn request(&self) -> QuerySessionsRequest {
        QuerySessionsRequest {
            range: Some(TimeRange { start: Some(timestamp(self.range.0)), end: Some(timestamp(self.range.1)) }),
            grain: match self.grain {
                None => Grain::Unspecified,
                Some(Bucket::Hour) => Grain::Hour,
                Some(Bucket::Day) => Grain::Day,
                Some(Bucket::Week) => Grain::Week,
                Some(Bucket::Month) => Grain::Month,
            } as i32,
            time_zone: self.zone.name().to_owned(),
            on: Some(EventSelector { events: self.names.iter().map(|name| (*name).to_owned()).collect(), filter: None }),
            gap: self.gap.map(|us| Duration { seconds: us / SECOND, nanos: (us % SECOND * 1000) as i32 }),
            group_by: self.group_by.iter().map(|name| dimension(name)).collect(),
            top: self.top as u32,
            among: self.among.map(did),
        }
    }

    fn gap(&self) -> i64 {
        self.gap.unwrap_or(30 * MINUTE)
    }

    /// Each event goes to the session of the one before, unless it is too late for that.
    fn sessions(&self, events: &[ResolvedEvent], watermark: i64) -> Vec<Plain> {
        let did =
            |person: u32, name: &str| events.iter().any(|event| event.person == person && event.name == name && event.time_us <= watermark);
        let is_asked = |event: &&ResolvedEvent| self.among.is_none_or(|name| did(event.person, name));
        let mut events: Vec<&ResolvedEvent> =
            events.iter().filter(is_asked).filter(|event| self.names.is_empty() || self.names.contains(&event.name.as_str())).collect();
        events.sort_by_key(|event| (event.person, event.time_us));
        let mut sessions: Vec<Plain> = Vec::new();
        for event in events {
            match sessions.last_mut().filter(|session| {
                session.person == event.person && session.times.last().is_some_and(|last| event.time_us - last <= self.gap())
            }) {
                Some(session) => session.times.push(event.time_us),
                None => {
                    let key = self.group_by.iter().map(|field| value_of(event, field)).collect();
                    sessions.push(Plain { person: event.person, key, times: vec![event.time_us] });
                }
            }
        }
        sessions.retain(|session| (self.range.0..self.range.1).contains(&session.times[0]));
        sessions
    }

    fn period(&self, session: &Plain) -> i64 {
        let bucket = |grain| bucket_start_us(session.times[0], grain, self.zone).expect("a bucket").max(self.range.0);
        self.grain.map_or(self.range.0, bucket)
    }

    fn figures(&self, sessions: &[&Plain], watermark: i64) -> SessionFigures {
        let number = sessions.len();
        let per = |sum: f64, count: usize| (count > 0).then(|| sum / count as f64);
        let persons = sessions.iter().map(|session| session.person).collect::<BTreeSet<_>>().len();
        let events: usize = sessions.iter().map(|session| session.times.len()).sum();
        let bounces = sessions.iter().filter(|session| session.times.len() == 1).count();
        let last = |session: &Plain| *session.times.last().expect("a session has events");
        let mut durations: Vec<i64> = sessions.iter().map(|session| last(session) - session.times[0]).collect();
        durations.sort_unstable();
        let median = (number > 0)
            .then(|| (durations[(number - 1) / 2] as f64 + (durations[number / 2] - durations[(number - 1) / 2]) as f64 / 2.0) / 1e6);
        SessionFigures {
            sessions: number as u64,
            persons: persons as u64,
            events: events as u64,
            bounces: bounces as u64,
            bounce_rate: per(bounces as f64, number),
            duration_mean_seconds: per(durations.iter().sum::<i64>() as f64 / 1e6, number),
            duration_median_seconds: median,
            events_mean: per(events as f64, number),
            sessions_per_person: per(number as f64, persons),
            still_open: sessions.iter().filter(|session| last(session) + self.gap() >= watermark).count() as u64,
        }
    }

    /// Compares an answer over `events`, which are given in the order of their sequence, and the persons of one of its cells.
    pub fn check(
        &self,
        found: &QuerySessionsResponse,
        persons_of: impl Fn(&SessionCell) -> RoaringBitmap,
        events: &[ResolvedEvent],
        watermark: i64,
    ) -> Result<(), String> {
        let sessions = self.sessions(events, watermark);
        let mut by_key: BTreeMap<Vec<(bool, Option<String>)>, Vec<&Plain>> = BTreeMap::new();
        for session in &sessions {
            // Missing values come last.
            by_key.entry(session.key.iter().map(|value| (value.is_none(), value.clone())).collect()).or_default().push(session);
        }
        let mut groups: Vec<(GroupKey, Vec<&Plain>)> = Vec::new();
        if !self.group_by.is_empty() {
            groups.extend(by_key.into_iter().map(|(key, of_key)| (group_key(&key), of_key)));
            groups.sort_by_key(|(_, of_key)| std::cmp::Reverse(of_key.len()));
        }
        if found.groups_total != groups.len() as u64 {
            return Err(format!("{} groups instead of {}", found.groups_total, groups.len()));
        }
        let rest = groups.split_off(self.top.min(groups.len()));
        if !rest.is_empty() {
            groups.push((GroupKey { values: Vec::new(), other: true }, rest.into_iter().flat_map(|(_, of_key)| of_key).collect()));
        }
        let mut rows = vec![(GroupKey::default(), sessions.iter().collect::<Vec<_>>())];
        rows.extend(groups);
        if found.groups.len() + 1 != rows.len() {
            return Err(format!("{} rows instead of {}", found.groups.len() + 1, rows.len()));
        }
        for (group, (key, of_key)) in found.total.iter().chain(&found.groups).zip(&rows) {
            self.same(group, key, of_key, watermark)?;
        }
        // One cell, person by person.
        let (row, period, bounced) = self.cell;
        let (key, of_key) = &rows[row % rows.len()];
        let starts: Vec<i64> = found.total.iter().flat_map(|total| &total.periods).map(|period| us_of(period.start.as_ref())).collect();
        let period = (period % (starts.len() + 1)).checked_sub(1).map(|at| starts[at]);
        let is_meant =
            |session: &&&Plain| period.is_none_or(|period| self.period(session) == period) && (!bounced || session.times.len() == 1);
        let wanted: RoaringBitmap = of_key.iter().filter(is_meant).map(|session| session.person).collect();
        let group = (!key.values.is_empty() || key.other).then(|| key.clone());
        let cell = SessionCell { group, period: period.map(timestamp), bounced };
        let persons = persons_of(&cell);
        if persons != wanted { Err(format!("{persons:?} instead of {wanted:?} in {cell:?}")) } else { Ok(()) }
    }

    fn same(&self, found: &SessionGroup, key: &GroupKey, sessions: &[&Plain], watermark: i64) -> Result<(), String> {
        let differs = |what: &str, expected: &dyn std::fmt::Debug| Err(format!("{what} of {key:?}: {found:?} instead of {expected:?}"));
        if found.key.as_ref() != Some(key) {
            return differs("key", key);
        }
        let total = self.figures(sessions, watermark);
        if found.total.as_ref() != Some(&total) {
            return differs("total", &total);
        }
        if self.grain.is_none() != found.periods.is_empty() {
            return differs("periods", &self.grain);
        }
        let mut seen = 0;
        for period in &found.periods {
            let start = us_of(period.start.as_ref());
            let of_period: Vec<&Plain> = sessions.iter().filter(|session| self.period(session) == start).copied().collect();
            seen += of_period.len();
            let expected = self.figures(&of_period, watermark);
            if period.figures.as_ref() != Some(&expected) {
                return differs("a period", &expected);
            }
        }
        if self.grain.is_some() && seen != sessions.len() { differs("all periods", &sessions) } else { Ok(()) }
    }
}

fn group_key(values: &[(bool, Option<String>)]) -> GroupKey {
    let value = |text: &Option<String>| GroupValue { value: text.clone().map(|text| Value { kind: Some(Kind::StringValue(text)) }) };
    GroupKey { values: values.iter().map(|(_, text)| value(text)).collect(), other: false }
}

fn us_of(time: Option<&Timestamp>) -> i64 {
    time.map(|time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1000).expect("a time")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_question_is_answered_as_the_plain_reference_does(
        events in prop::collection::vec(any_event(), 0..80),
        question in any_question(),
        threads in 1_usize..4,
    ) {
        let snapshot = Snapshot::of_events(&"shop".parse().expect("a tenant id"), question.watermark, &events).expect("a snapshot");
        let request = question.request();
        let found = with_context(&snapshot, threads, |context| sessions::query(context, &request)).expect("an answer");
        let persons = |cell: &SessionCell| persons(&snapshot, &request, cell).expect("persons");
        question.check(&found, persons, &events, question.watermark).map_err(TestCaseError::fail)?;
    }
}
