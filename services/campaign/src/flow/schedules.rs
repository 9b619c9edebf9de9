//! Entries that come of time: who enters by a schedule, and who is in the entry audience when a scenario is started.

use chrono_tz::{TZ_VARIANTS, Tz};
use segue_proto::campaign::v1::ScheduleEntry;
use segue_proto::campaign::v1::entry::On;
use segue_proto::campaign::v1::schedule_entry::When;
use segue_proto::events::v1::Value;
use segue_proto::events::v1::value::Kind as ValueKind;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::membership::Of;
use segue_proto::query::v1::{Attribute, Condition, ConditionList, Membership, Operator};

use super::definitions::{Plan, Scenario};
use super::machine::{self, Compiled};
use super::store::work::ScenarioRow;

/// The trait that holds the zone of a person.
const ZONE_TRAIT: &str = "df_time_zone";

/// The row of a scenario as its schedule goes on: a version's schedule begins when the version is started.
pub(crate) fn row_of(scenario: &Scenario, known: Option<&ScenarioRow>) -> ScenarioRow {
    let started = &scenario.started;
    match known {
        Some(row) if row.version == started.version => row.clone(),
        _ => ScenarioRow {
            scenario: started.id.clone(),
            version: started.version,
            base_us: started.started_us,
            after_us: started.started_us,
            present: known.map_or(0, |row| row.present),
        },
    }
}

fn schedule_of(plan: &Plan) -> Option<&ScheduleEntry> {
    match plan.entry()? {
        On::Schedule(schedule) => Some(schedule),
        On::Event(_) | On::Audience(_) | On::Call(_) => None,
    }
}

/// The next time at which a schedule is to let persons of a zone enter.
fn next_in(compiled: &Compiled, schedule: &ScheduleEntry, row: &ScenarioRow, zone: Tz) -> Option<i64> {
    match schedule.when.as_ref()? {
        // Once per person: the first time that it is so late in the zone.
        When::LocalTime(_) => machine::next_entry_us(compiled, row.base_us, zone).filter(|next| *next > row.after_us),
        When::At(_) | When::Cron(_) => machine::next_entry_us(compiled, row.after_us, zone),
    }
}

fn is_of_persons(schedule: &ScheduleEntry) -> bool {
    match schedule.when {
        Some(When::LocalTime(_)) => true,
        Some(When::Cron(_)) => schedule.in_person_zone,
        Some(When::At(_)) | None => false,
    }
}

/// When a schedule is to be looked at next.
pub(crate) fn next_us(plan: &Plan, row: &ScenarioRow) -> Option<i64> {
    let (compiled, schedule) = (&plan.compiled, schedule_of(plan)?);
    if is_of_persons(schedule) {
        return TZ_VARIANTS.iter().filter_map(|zone| next_in(compiled, schedule, row, *zone)).min();
    }
    next_in(compiled, schedule, row, compiled.time_zone)
}

/// Who is to enter by a schedule by now; none while it is nobody's time. What was missed several times happens once.
pub(crate) fn due(plan: &Plan, row: &ScenarioRow, now_us: i64) -> Option<Condition> {
    let (compiled, schedule) = (&plan.compiled, schedule_of(plan)?);
    let is_due = |zone: Tz| next_in(compiled, schedule, row, zone).is_some_and(|next| next <= now_us);
    let whom = match (&schedule.condition, schedule.audience.is_empty()) {
        (_, false) => member_of(&schedule.audience),
        (Some(condition), true) => condition.clone(),
        (None, true) => return None,
    };
    let mut all = vec![whom];
    all.extend(compiled.definition.entry.as_ref().and_then(|entry| entry.only_if.clone()));
    if !is_of_persons(schedule) {
        return is_due(compiled.time_zone).then(|| all_of(all));
    }
    let zones: Vec<Tz> = TZ_VARIANTS.iter().copied().filter(|zone| is_due(*zone)).collect();
    if zones.is_empty() {
        return None;
    }
    let mut lives = vec![zone_is(Operator::In, &zones)];
    if zones.contains(&compiled.time_zone) {
        // Whoever has no zone that there is.
        lives.push(zone_is(Operator::NotIn, &TZ_VARIANTS));
    }
    all.push(Condition { node: Some(Node::Any(ConditionList { conditions: lives })) });
    Some(all_of(all))
}

/// Who enters when the scenario is started, since they are in the entry audience already.
pub(crate) fn present_members(plan: &Plan) -> Option<Condition> {
    let Some(On::Audience(entry)) = plan.entry() else { return None };
    let mut all = vec![member_of(&entry.audience)];
    all.extend(plan.compiled.definition.entry.as_ref().and_then(|entry| entry.only_if.clone()));
    Some(all_of(all))
}

fn all_of(conditions: Vec<Condition>) -> Condition {
    Condition { node: Some(Node::All(ConditionList { conditions })) }
}

fn member_of(audience: &str) -> Condition {
    Condition { node: Some(Node::MemberOf(Membership { of: Some(Of::Audience(audience.to_owned())) })) }
}

fn zone_is(operator: Operator, zones: &[Tz]) -> Condition {
    let values = zones.iter().map(|zone| Value { kind: Some(ValueKind::StringValue(zone.name().to_owned())) }).collect();
    let attribute = Attribute { r#trait: ZONE_TRAIT.to_owned(), operator: operator.into(), values, as_of: None };
    Condition { node: Some(Node::Attribute(attribute)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::definitions::Definitions;
    use crate::flow::tests::{one_step, started};
    use segue_proto::campaign::v1::Entry;

    const HOUR_US: i64 = 3_600 * 1_000_000;
    /// 2025-06-02T00:00:00Z, a Monday.
    const MONDAY_US: i64 = 1_748_822_400 * 1_000_000;

    fn plan_of(schedule: ScheduleEntry) -> std::sync::Arc<Plan> {
        let mut definition = one_step();
        definition.entry = Some(Entry { on: Some(On::Schedule(schedule)), only_if: None });
        definition.time_zone = "Asia/Seoul".to_owned();
        let definitions = Definitions::new(vec![started("s", definition, MONDAY_US)], chrono_tz::UTC);
        assert_eq!(definitions.problem, "");
        definitions.get("s").and_then(|scenario| scenario.open().cloned()).expect("it runs")
    }

    fn row(after_us: i64) -> ScenarioRow {
        ScenarioRow { scenario: "s".to_owned(), version: 1, base_us: MONDAY_US, after_us, present: 0 }
    }

    /// The zones that a condition lets in, and whether it lets in whoever has none.
    fn zones(condition: &Condition) -> (Vec<String>, bool) {
        let Some(Node::All(all)) = &condition.node else { panic!("all of several") };
        let Some(Node::Any(any)) = all.conditions.last().and_then(|last| last.node.as_ref()) else { panic!("any of zones") };
        let attribute = |at: usize| match any.conditions.get(at).and_then(|condition| condition.node.as_ref()) {
            Some(Node::Attribute(attribute)) => Some(attribute.clone()),
            _ => None,
        };
        let name = |value: &Value| match &value.kind {
            Some(ValueKind::StringValue(name)) => name.clone(),
            _ => String::new(),
        };
        (attribute(0).map(|of| of.values.iter().map(name).collect()).unwrap_or_default(), attribute(1).is_some())
    }

    #[test]
    fn a_cron_of_the_scenarios_zone_happens_once_however_often_it_was_missed() {
        let plan =
            plan_of(ScheduleEntry { when: Some(When::Cron("0 9 * * *".to_owned())), audience: "a".to_owned(), ..Default::default() });
        // 09:00 in Seoul is midnight UTC.
        assert_eq!(next_us(&plan, &row(MONDAY_US)), Some(MONDAY_US + 24 * HOUR_US));
        assert!(due(&plan, &row(MONDAY_US), MONDAY_US + 24 * HOUR_US - 1).is_none());
        assert!(due(&plan, &row(MONDAY_US), MONDAY_US + 24 * HOUR_US).is_some());
        assert!(due(&plan, &row(MONDAY_US), MONDAY_US + 80 * HOUR_US).is_some());
        assert!(due(&plan, &row(MONDAY_US + 80 * HOUR_US), MONDAY_US + 80 * HOUR_US).is_none());
    }

    #[test]
    fn a_wall_clock_time_comes_to_each_zone_when_it_is_so_late_there_and_only_once() {
        let when = Some(When::LocalTime("09:00".to_owned()));
        let plan = plan_of(ScheduleEntry { when, audience: "a".to_owned(), ..Default::default() });
        let at_us = MONDAY_US + HOUR_US;
        assert!(next_us(&plan, &row(MONDAY_US)).is_some_and(|next| next <= at_us));
        // 01:00 UTC is 09:00 in Taipei; Seoul's 09:00 was at the start, so that it comes tomorrow.
        let (names, nowhere) = zones(&due(&plan, &row(at_us - HOUR_US / 4), at_us).expect("somebody's time"));
        assert!(names.contains(&"Asia/Taipei".to_owned()) && !names.contains(&"Asia/Seoul".to_owned()) && !nowhere, "{names:?}");
        let day_us = MONDAY_US + 24 * HOUR_US;
        let (names, nowhere) = zones(&due(&plan, &row(day_us - HOUR_US / 4), day_us).expect("Seoul's time"));
        assert!(names.contains(&"Asia/Seoul".to_owned()) && nowhere, "{names:?}");
        assert!(due(&plan, &row(day_us + 3 * HOUR_US), day_us + 72 * HOUR_US).is_none(), "not again on the days after");
        assert_eq!(next_us(&plan, &row(day_us + 3 * HOUR_US)), None);
    }

    #[test]
    fn another_version_begins_a_schedule_anew_and_a_pause_does_not() {
        let definitions = Definitions::new(vec![started("s", one_step(), 500)], chrono_tz::UTC);
        let scenario = definitions.get("s").expect("there");
        let known = ScenarioRow { scenario: "s".to_owned(), version: 1, base_us: 7, after_us: 9, present: 4 };
        assert_eq!(row_of(scenario, Some(&known)), known);
        let older = ScenarioRow { version: 0, ..known };
        assert_eq!(row_of(scenario, Some(&older)), ScenarioRow { version: 1, base_us: 500, after_us: 500, ..older });
    }
}
