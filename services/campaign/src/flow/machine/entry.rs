//! Who may enter a scenario, when, and by what.

use chrono::Days;
use chrono_tz::Tz;
use segue_model::catalogue;
use segue_proto::campaign::v1::entry::On;
use segue_proto::campaign::v1::reentry::Rule;
use segue_proto::campaign::v1::schedule_entry::When;
use segue_proto::campaign::v1::step::Kind;
use segue_proto::campaign::v1::wait_step::Wait;
use segue_proto::campaign::v1::{WaitStep, exit_rule};
use segue_proto::events::v1::ResolvedEvent;
use segue_proto::query::v1::EventSelector;

use super::Compiled;
use super::local::{TimeOfDay, later_us, moment_us, shown};

/// Bytes of an entry key.
const ENTRY_KEY_BYTES_MAX: usize = 255;

impl Compiled {
    fn entry(&self) -> Option<&On> {
        self.definition.entry.as_ref()?.on.as_ref()
    }
}

/// Whether an event lets its person enter, and with which entry key.
pub(crate) fn enters(scenario: &Compiled, event: &ResolvedEvent) -> Option<String> {
    let Some(On::Event(entry)) = scenario.entry() else { return None };
    if !segue_query::matches(entry.on.as_ref()?, event) {
        return None;
    }
    if entry.entry_key_property.is_empty() {
        return Some(String::new());
    }
    // A key is stored and compared everywhere: PostgreSQL takes no NUL, and an empty one is that of runs without.
    let is_key = |key: &String| (1..=ENTRY_KEY_BYTES_MAX).contains(&key.len()) && !key.contains('\0');
    segue_query::property_text(event, &entry.entry_key_property).filter(is_key)
}

/// Whether somebody may enter (again): given what is known of the entries so far of this person and entry key.
pub(crate) fn may_enter(scenario: &Compiled, last_entered_us: Option<i64>, is_active: bool, now_us: i64) -> bool {
    let reentry = scenario.definition.reentry.unwrap_or_default();
    match reentry.rule() {
        Rule::Never => last_entered_us.is_none() && !is_active,
        Rule::Unspecified | Rule::AfterEnd => !is_active,
        Rule::AfterPause => {
            let until_us = |last_us| reentry.pause.as_ref().map_or(last_us, |pause| later_us(last_us, pause, scenario.time_zone));
            !is_active && last_entered_us.is_none_or(|last_us| now_us >= until_us(last_us))
        }
    }
}

/// Names of events that matter to a scenario: entry, exits, goals, waits. None: all do.
pub(crate) fn interest(scenario: &Compiled) -> Option<Vec<String>> {
    let definition = &scenario.definition;
    let mut selectors: Vec<&EventSelector> = Vec::new();
    if let Some(On::Event(entry)) = scenario.entry() {
        selectors.extend(&entry.on);
    }
    selectors.extend(definition.exits.iter().filter_map(|exit| match &exit.on {
        Some(exit_rule::On::Event(on)) => Some(on),
        Some(exit_rule::On::Audience(_)) | None => None,
    }));
    selectors.extend(definition.goals.iter().filter_map(|goal| goal.on.as_ref()));
    for step in &definition.steps {
        if let Some(Kind::Wait(WaitStep { wait: Some(Wait::ForEvent(wait)) })) = &step.kind {
            selectors.extend(wait.arms.iter().filter_map(|arm| arm.on.as_ref()));
        }
    }
    if selectors.iter().any(|selector| selector.events.is_empty()) {
        return None;
    }
    let names = selectors.iter().flat_map(|selector| &selector.events);
    let mut names: Vec<String> = names.map(|name| catalogue::canonical_event(name).unwrap_or(name).to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}

/// After the end of a run its goals are still looked for until this moment.
pub(crate) fn goals_until_us(scenario: &Compiled, entered_us: i64) -> i64 {
    let windows = scenario.definition.goals.iter().filter_map(|goal| goal.window.as_ref());
    windows.map(|window| later_us(entered_us, window, scenario.time_zone)).max().unwrap_or(entered_us)
}

/// The next time after `after_us` at which a schedule lets persons enter, in this zone; None: never again.
pub(crate) fn next_entry_us(scenario: &Compiled, after_us: i64, zone: Tz) -> Option<i64> {
    let Some(On::Schedule(schedule)) = scenario.entry() else { return None };
    match schedule.when.as_ref()? {
        When::At(at) => {
            // The first microsecond that is not before it.
            let micros = (i64::from(at.nanos) + 999).div_euclid(1_000);
            let at_us = at.seconds.checked_mul(1_000_000)?.checked_add(micros)?;
            (at_us > after_us).then_some(at_us)
        }
        When::Cron(_) => scenario.cron.as_ref()?.next_us(after_us, zone),
        When::LocalTime(text) => {
            let time = TimeOfDay::parse(text)?.time();
            let today = shown(after_us, zone)?.date();
            let days = (0..=2).filter_map(|days| today.checked_add_days(Days::new(days)));
            days.filter_map(|date| moment_us(date, time, zone)).find(|moment| *moment > after_us)
        }
    }
}
