//! Checks a definition as far as it can be by itself. What it names elsewhere is checked by `scenarios`.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use prost_types::Timestamp;
use segue_proto::campaign::v1::reentry::Rule;
use segue_proto::campaign::v1::{
    AudienceEntry, Entry, ExitRule, Goal, Purpose, Reentry, ScenarioDefinition, ScenarioFault, ScheduleEntry, entry::On, exit_rule,
    schedule_entry::When,
};
use segue_proto::query::v1::{Span, TimeUnit};
use segue_runtime::fields::is_id;

use super::Compiled;
use super::cron::Cron;
use super::local::TimeOfDay;
use super::{graph, selectors, steps};

const STEPS_MAX: usize = 100;
const EXITS_MAX: usize = 20;
const GOALS_MAX: usize = 10;
const GOAL_WINDOW_DAYS_MAX: u64 = 90;
const HOLDOUT_MAX: u32 = 10_000;
const NAME_CHARS_MAX: usize = 128;
const ID_BYTES_MAX: usize = 63;
const SPAN_COUNT_MAX: u32 = 100_000;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<ScenarioFault>);

impl Faults {
    pub(super) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(ScenarioFault { field: field.into(), message: message.into() });
    }
}

/// Whether runs have an entry key, and whatever else steps and rules ask about the definition as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole<'d> {
    pub(super) definition: &'d ScenarioDefinition,
    has_entry_keys: bool,
}

/// Checks a definition as far as it can be by itself: shapes, limits, the graph. What it names elsewhere is checked by `scenarios`.
/// Paths of faults begin with `definition`.
pub(crate) fn compile(
    scenario: &str,
    version: u32,
    definition: &ScenarioDefinition,
    default_zone: Tz,
) -> Result<Compiled, Vec<ScenarioFault>> {
    let mut faults = Faults::default();
    let cron = check_entry(&mut faults, definition.entry.as_ref());
    let whole = Whole { definition, has_entry_keys: has_entry_keys(definition.entry.as_ref()) };
    let positions = check_steps(&mut faults, whole);
    check_exits(&mut faults, whole);
    check_goals(&mut faults, whole);
    check_reentry(&mut faults, definition.reentry.as_ref());
    check_purpose(&mut faults, "definition.purpose", definition.purpose);
    if definition.holdout > HOLDOUT_MAX {
        faults.add("definition.holdout", "in hundredths of a percent: 0 to 10000");
    }
    let time_zone = match definition.time_zone.as_str() {
        "" => default_zone,
        name => name.parse().unwrap_or_else(|_| {
            faults.add("definition.time_zone", "not an IANA zone; write it like Asia/Seoul");
            default_zone
        }),
    };
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    Ok(Compiled { scenario: scenario.to_owned(), version, definition: definition.clone(), time_zone, steps: positions, cron })
}

/// Of an event entry only with a property that says them; of calls, the caller may say them.
fn has_entry_keys(entry: Option<&Entry>) -> bool {
    match entry.and_then(|entry| entry.on.as_ref()) {
        Some(On::Event(on)) => !on.entry_key_property.is_empty(),
        Some(On::Call(_)) | None => true,
        Some(On::Audience(_) | On::Schedule(_)) => false,
    }
}

fn check_entry(faults: &mut Faults, entry: Option<&Entry>) -> Option<Cron> {
    let mut cron = None;
    match entry.and_then(|entry| entry.on.as_ref()) {
        None => faults.add("definition.entry", "set one of event, audience, schedule and call"),
        Some(On::Event(on)) => {
            selectors::check(faults, "definition.entry.event.on", on.on.as_ref());
            if !on.entry_key_property.is_empty() {
                check_name(faults, "definition.entry.event.entry_key_property", &on.entry_key_property);
            }
        }
        Some(On::Audience(on)) => check_audience(faults, "definition.entry.audience", on),
        Some(On::Schedule(on)) => cron = check_schedule(faults, on),
        Some(On::Call(_)) => {}
    }
    if let Some(condition) = entry.and_then(|entry| entry.only_if.as_ref()) {
        selectors::check_condition(faults, "definition.entry.only_if", Some(condition));
    }
    cron
}

fn check_audience(faults: &mut Faults, path: &str, on: &AudienceEntry) {
    if !is_id(&on.audience) {
        faults.add(format!("{path}.audience"), "name an audience by its id");
    }
}

fn check_schedule(faults: &mut Faults, on: &ScheduleEntry) -> Option<Cron> {
    let path = "definition.entry.schedule";
    let mut cron = None;
    match &on.when {
        None => faults.add(path, "set one of at, cron and local_time"),
        Some(When::At(at)) if !is_moment(at) => faults.add(format!("{path}.at"), "not a timestamp between the years 1 and 9999"),
        Some(When::At(_)) => {}
        Some(When::Cron(text)) => match text.parse::<Cron>() {
            Ok(parsed) => cron = Some(parsed),
            Err(error) => faults.add(format!("{path}.cron"), error.to_string()),
        },
        Some(When::LocalTime(text)) => check_time(faults, &format!("{path}.local_time"), text),
    }
    if on.in_person_zone && !matches!(on.when, Some(When::Cron(_)) | None) {
        faults
            .add(format!("{path}.in_person_zone"), "only with cron: a moment is the same everywhere, and local_time is each person's own");
    }
    match (on.audience.is_empty(), on.condition.as_ref()) {
        (true, None) => faults.add(path, "say whom: set audience or condition"),
        (true, Some(condition)) => selectors::check_condition(faults, &format!("{path}.condition"), Some(condition)),
        (false, None) if is_id(&on.audience) => {}
        (false, None) => faults.add(format!("{path}.audience"), "name an audience by its id"),
        (false, Some(_)) => faults.add(path, "set audience or condition, not both"),
    }
    cron
}

fn check_steps(faults: &mut Faults, whole: Whole<'_>) -> BTreeMap<String, usize> {
    let all = &whole.definition.steps;
    let mut positions = BTreeMap::new();
    if all.is_empty() || all.len() > STEPS_MAX {
        faults.add("definition.steps", format!("1 to {STEPS_MAX} steps; there are {}", all.len()));
    }
    for (at, step) in all.iter().enumerate().take(STEPS_MAX) {
        let path = format!("definition.steps[{at}]");
        if check_label(faults, &format!("{path}.id"), &step.id) {
            if let Some(first) = positions.get(&step.id) {
                faults.add(format!("{path}.id"), format!("`{}` is steps[{first}] already: ids are unique", step.id));
            } else {
                positions.insert(step.id.clone(), at);
            }
        }
        steps::check(faults, &path, whole, step);
    }
    // Of more there may be no end.
    if all.len() <= STEPS_MAX {
        graph::check(faults, all, &positions);
    }
    positions
}

fn check_exits(faults: &mut Faults, whole: Whole<'_>) {
    let exits: &[ExitRule] = &whole.definition.exits;
    if exits.len() > EXITS_MAX {
        faults.add("definition.exits", format!("at most {EXITS_MAX}; there are {}", exits.len()));
    }
    for (at, exit) in exits.iter().enumerate().take(EXITS_MAX) {
        let path = format!("definition.exits[{at}]");
        match &exit.on {
            None => faults.add(&path, "set one of event and audience"),
            Some(exit_rule::On::Event(on)) => {
                selectors::check(faults, &format!("{path}.event"), Some(on));
                whole.check_key(faults, &path, &exit.entry_key_property);
            }
            Some(exit_rule::On::Audience(on)) => {
                check_audience(faults, &format!("{path}.audience"), on);
                if !exit.entry_key_property.is_empty() {
                    faults.add(format!("{path}.entry_key_property"), "only with event: an audience has no properties");
                }
            }
        }
    }
}

fn check_goals(faults: &mut Faults, whole: Whole<'_>) {
    let goals: &[Goal] = &whole.definition.goals;
    if goals.len() > GOALS_MAX {
        faults.add("definition.goals", format!("at most {GOALS_MAX}; there are {}", goals.len()));
    }
    let mut names = BTreeSet::new();
    for (at, goal) in goals.iter().enumerate().take(GOALS_MAX) {
        let path = format!("definition.goals[{at}]");
        if check_label(faults, &format!("{path}.name"), &goal.name) && !names.insert(&goal.name) {
            faults.add(format!("{path}.name"), format!("`{}` stands twice: names are unique", goal.name));
        }
        selectors::check(faults, &format!("{path}.on"), goal.on.as_ref());
        let window = format!("{path}.window");
        if check_span(faults, &window, goal.window.as_ref(), Presence::Required)
            && goal.window.is_some_and(|window| !is_within_days(&window, GOAL_WINDOW_DAYS_MAX))
        {
            faults.add(window, format!("at most {GOAL_WINDOW_DAYS_MAX} days (2 months; 3 may be longer)"));
        }
        if !goal.value_property.is_empty() {
            check_name(faults, &format!("{path}.value_property"), &goal.value_property);
        }
        whole.check_key(faults, &path, &goal.entry_key_property);
    }
}

fn check_reentry(faults: &mut Faults, reentry: Option<&Reentry>) {
    let Some(reentry) = reentry else { return };
    let path = "definition.reentry.pause";
    match Rule::try_from(reentry.rule) {
        Err(_) => faults.add("definition.reentry.rule", "not a rule of this version"),
        Ok(Rule::AfterPause) => {
            check_span(faults, path, reentry.pause.as_ref(), Presence::Required);
        }
        Ok(Rule::Unspecified | Rule::Never | Rule::AfterEnd) if reentry.pause.is_some() => {
            faults.add(path, "only with RULE_AFTER_PAUSE: leave it out, or set that rule");
        }
        Ok(Rule::Unspecified | Rule::Never | Rule::AfterEnd) => {}
    }
}

impl Whole<'_> {
    /// A property of an event that must have the run's entry key.
    pub(super) fn check_key(self, faults: &mut Faults, path: &str, property: &str) {
        let path = format!("{path}.entry_key_property");
        if property.is_empty() {
            return;
        }
        check_name(faults, &path, property);
        if !self.has_entry_keys {
            faults.add(path, "runs of this scenario have no entry key: set `entry.event.entry_key_property`, or leave this out");
        }
    }
}

pub(super) fn check_purpose(faults: &mut Faults, path: &str, purpose: i32) {
    if Purpose::try_from(purpose).is_err() {
        faults.add(path, "not a purpose of this version");
    }
}

/// Name of a property or trait.
pub(super) fn check_name(faults: &mut Faults, path: &str, name: &str) {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        faults.add(path, format!("1 to {NAME_CHARS_MAX} characters, without control characters"));
    }
}

/// Id of a step, name of a goal or variant; whether it is one.
pub(super) fn check_label(faults: &mut Faults, path: &str, label: &str) -> bool {
    let is_label =
        (1..=ID_BYTES_MAX).contains(&label.len()) && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
    if !is_label {
        faults.add(path, format!("1 to {ID_BYTES_MAX} characters of a-z, 0-9, '_' and '-'"));
    }
    is_label
}

pub(super) fn check_time(faults: &mut Faults, path: &str, text: &str) {
    if TimeOfDay::parse(text).is_none() {
        faults.add(path, "a time of the clock as HH:MM, from 00:00 to 23:59");
    }
}

/// Whether a field must be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Required,
    Optional,
}

/// Whether it is good.
pub(super) fn check_span(faults: &mut Faults, path: &str, span: Option<&Span>, presence: Presence) -> bool {
    let Some(span) = span else {
        if presence == Presence::Required {
            faults.add(path, "required: how long");
        }
        return presence == Presence::Optional;
    };
    let mut is_good = true;
    if !(1..=SPAN_COUNT_MAX).contains(&span.count) {
        faults.add(format!("{path}.count"), format!("1 to {SPAN_COUNT_MAX}"));
        is_good = false;
    }
    if matches!(TimeUnit::try_from(span.unit), Ok(TimeUnit::Unspecified) | Err(_)) {
        faults.add(format!("{path}.unit"), "set the unit: SECOND, MINUTE, HOUR, DAY, WEEK or MONTH");
        is_good = false;
    }
    is_good
}

/// Whether a span is never longer than so many days.
fn is_within_days(span: &Span, days: u64) -> bool {
    let seconds = match span.unit() {
        TimeUnit::Unspecified => 0,
        TimeUnit::Second => 1,
        TimeUnit::Minute => 60,
        TimeUnit::Hour => 3_600,
        TimeUnit::Day => 86_400,
        TimeUnit::Week => 7 * 86_400,
        TimeUnit::Month => 31 * 86_400,
    };
    u64::from(span.count) * seconds <= days * 86_400
}

/// Whether it lies in the years that protobuf defines.
pub(super) fn is_moment(time: &Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos)
}
