//! What keeps a definition from being started.

use segue_proto::campaign::v1::reentry::Rule;
use segue_proto::campaign::v1::schedule_entry::When;
use segue_proto::campaign::v1::update_trait_step::To;
use segue_proto::campaign::v1::{
    AudienceEntry, BranchArm, BranchStep, ExperimentStep, ListStep, LocalTime, Reentry, ScheduleEntry, SplitArm, SplitStep, TraitDate,
    UpdateTraitStep, Variant, WebhookStep,
};
use segue_proto::query::v1::{Comparison, ConditionList, Field, Filter, FilterList, ItemMatch, Operator, field, filter};

use super::*;

/// Paths of the faults, sorted.
fn faults(definition: &ScenarioDefinition) -> Vec<String> {
    let mut paths: Vec<String> = match compile("spring", 1, definition, Tz::UTC) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.into_iter().map(|fault| fault.field).collect(),
    };
    paths.sort_unstable();
    paths
}

fn with(change: impl FnOnce(&mut ScenarioDefinition)) -> ScenarioDefinition {
    let mut definition = by_event("a", "cart", vec![message("m", "")]);
    change(&mut definition);
    definition
}

fn entering(on: On) -> ScenarioDefinition {
    with(|definition| definition.entry = Some(Entry { on: Some(on), only_if: None }))
}

fn first(kind: Kind) -> ScenarioDefinition {
    with(|definition| definition.steps = vec![step("s", kind, "")])
}

#[test]
fn entries_are_whole() {
    let schedule = |when: Option<When>, audience: &str, condition: Option<Condition>, in_person_zone| {
        entering(On::Schedule(ScheduleEntry { when, audience: audience.to_owned(), condition, in_person_zone }))
    };
    let cron = |text: &str| Some(When::Cron(text.to_owned()));
    let local = |text: &str| Some(When::LocalTime(text.to_owned()));
    let at = |seconds| Some(When::At(prost_types::Timestamp { seconds, nanos: 0 }));
    let audience = |id: &str| entering(On::Audience(AudienceEntry { audience: id.to_owned(), on_leaving: false }));
    for (definition, paths) in [
        (with(|_| {}), &[][..]),
        (ScenarioDefinition::default(), &["definition.entry", "definition.steps"]),
        (with(|definition| definition.entry = Some(Entry::default())), &["definition.entry"]),
        (entering(On::Event(EventEntry::default())), &["definition.entry.event.on"]),
        (audience("a"), &[]),
        (audience("A"), &["definition.entry.audience.audience"]),
        (schedule(cron("0 9 * * *"), "a", None, true), &[]),
        (schedule(cron("0 9 * *"), "a", None, false), &["definition.entry.schedule.cron"]),
        (schedule(cron("0 0 30 2 *"), "a", None, false), &["definition.entry.schedule.cron"]),
        (schedule(local("09:00"), "", Some(condition()), false), &[]),
        (schedule(local("9:00"), "a", None, true), &["definition.entry.schedule.in_person_zone", "definition.entry.schedule.local_time"]),
        (schedule(at(1), "a", None, false), &[]),
        (
            schedule(at(i64::MAX), "", None, true),
            &["definition.entry.schedule", "definition.entry.schedule.at", "definition.entry.schedule.in_person_zone"],
        ),
        (schedule(None, "a", Some(condition()), false), &["definition.entry.schedule", "definition.entry.schedule"]),
        (schedule(at(1), "", Some(Condition::default()), false), &["definition.entry.schedule.condition"]),
        (with(|definition| definition.entry.as_mut().expect("one").only_if = Some(Condition::default())), &["definition.entry.only_if"]),
    ] {
        assert_eq!(faults(&definition), paths, "{definition:?}");
    }
}

#[test]
fn rules_and_numbers_lie_within_their_limits() {
    let exit = |exit: ExitRule| with(|definition| definition.exits = vec![exit]);
    let goals = |goals: Vec<Goal>| with(|definition| definition.goals = goals);
    let windowed = |count, unit| goals(vec![goal("g", "b", span(count, unit))]);
    let reentry = |rule: i32, pause| with(|definition| definition.reentry = Some(Reentry { rule, pause }));
    let lapsed = ExitRule {
        on: Some(exit_rule::On::Audience(AudienceEntry { audience: "A b".to_owned(), on_leaving: true })),
        entry_key_property: "cart".to_owned(),
    };
    for (definition, paths) in [
        (exit(exit_on("b", "cart")), &[][..]),
        (exit(ExitRule::default()), &["definition.exits[0]"]),
        (exit(lapsed), &["definition.exits[0].audience.audience", "definition.exits[0].entry_key_property"]),
        (with(|definition| definition.exits = vec![exit_on("b", ""); 21]), &["definition.exits"]),
        (windowed(90, TimeUnit::Day), &[]),
        (windowed(2, TimeUnit::Month), &[]),
        (windowed(91, TimeUnit::Day), &["definition.goals[0].window"]),
        (windowed(3, TimeUnit::Month), &["definition.goals[0].window"]),
        (windowed(0, TimeUnit::Day), &["definition.goals[0].window.count"]),
        (windowed(100_001, TimeUnit::Unspecified), &["definition.goals[0].window.count", "definition.goals[0].window.unit"]),
        (goals(vec![Goal::default(); 1]), &["definition.goals[0].name", "definition.goals[0].on", "definition.goals[0].window"]),
        (goals(vec![goal("g", "b", seconds(1)); 2]), &["definition.goals[1].name"]),
        (goals((0..11).map(|n| goal(&format!("g{n}"), "b", seconds(1))).collect()), &["definition.goals"]),
        (reentry(Rule::AfterPause.into(), Some(seconds(1))), &[]),
        (reentry(Rule::AfterPause.into(), None), &["definition.reentry.pause"]),
        (reentry(Rule::Never.into(), Some(seconds(1))), &["definition.reentry.pause"]),
        (reentry(9, None), &["definition.reentry.rule"]),
        (with(|definition| definition.purpose = 9), &["definition.purpose"]),
        (with(|definition| definition.holdout = 10_001), &["definition.holdout"]),
        (with(|definition| definition.time_zone = "Asia/Seoul".to_owned()), &[]),
        (with(|definition| definition.time_zone = "Seoul".to_owned()), &["definition.time_zone"]),
        (with(|definition| definition.steps = (0..101).map(|n| message(&format!("m{n}"), "")).collect()), &["definition.steps"]),
    ] {
        assert_eq!(faults(&definition), paths, "{definition:?}");
    }
}

#[test]
fn keys_are_compared_only_where_runs_have_one() {
    for (entry_key, found) in [
        ("cart", &[][..]),
        (
            "",
            &[
                "definition.exits[0].entry_key_property",
                "definition.goals[0].entry_key_property",
                "definition.steps[0].wait.for_event.arms[0].entry_key_property",
            ],
        ),
    ] {
        let mut definition = by_event("a", entry_key, vec![event_wait("w", &[("b", "cart", "")], seconds(1), "")]);
        definition.exits = vec![exit_on("b", "cart")];
        definition.goals = vec![Goal { entry_key_property: "cart".to_owned(), ..goal("g", "b", seconds(1)) }];
        assert_eq!(faults(&definition), found);
        // Who calls may say a key.
        definition.entry = by_call(vec![]).entry;
        assert_eq!(faults(&definition), [""; 0]);
    }
}

#[test]
fn steps_are_whole() {
    let split = |weights: &[u32]| {
        first(Kind::Split(SplitStep { arms: weights.iter().map(|weight| SplitArm { weight: *weight, next: String::new() }).collect() }))
    };
    let variant = |name: &str, weight, control| Variant { name: name.to_owned(), weight, next: String::new(), control };
    let experiment =
        |variants: &[Variant], goal: &str| first(Kind::Experiment(ExperimentStep { variants: variants.to_vec(), goal: goal.to_owned() }));
    let update = |r#trait: &str, to| first(Kind::UpdateTrait(UpdateTraitStep { r#trait: r#trait.to_owned(), to }));
    let valued = |kind| update("stage", Some(To::Value(Value { kind })));
    let waiting = |wait| first(Kind::Wait(WaitStep { wait }));
    let local =
        |time: &str, days: &[u32]| waiting(Some(Wait::UntilLocalTime(LocalTime { time: time.to_owned(), days_of_week: days.to_vec() })));
    let date = |r#trait: &str, time: &str, otherwise: &str| {
        let date =
            TraitDate { r#trait: r#trait.to_owned(), time: time.to_owned(), otherwise: otherwise.to_owned(), ..TraitDate::default() };
        waiting(Some(Wait::UntilTraitDate(date)))
    };
    let branch = |arms: Vec<BranchArm>| first(Kind::Branch(BranchStep { arms }));
    let arm = |condition| BranchArm { condition, next: String::new() };
    let bare = MessageStep { purpose: 9, expires: Some(seconds(0)), ..MessageStep::default() };
    for (definition, paths) in [
        (with(|definition| definition.steps[0].kind = None), &["definition.steps[0]"][..]),
        (with(|definition| definition.steps[0].id = "M".to_owned()), &["definition.steps[0].id"]),
        (
            with(|definition| definition.steps = vec![message("m", ""), message("m", "")]),
            &["definition.steps[1]", "definition.steps[1].id"],
        ),
        (
            first(Kind::Message(bare)),
            &[
                "definition.steps[0].message.channel",
                "definition.steps[0].message.expires.count",
                "definition.steps[0].message.purpose",
                "definition.steps[0].message.template",
            ],
        ),
        (first(Kind::Webhook(WebhookStep::default())), &["definition.steps[0].webhook.channel", "definition.steps[0].webhook.template"]),
        (first(Kind::List(ListStep::default())), &["definition.steps[0].list.list"]),
        (with(|definition| definition.steps = vec![Step { next: "s".to_owned(), ..end("s") }]), &["definition.steps[0].next"]),
        (split(&[1, 10_000]), &[]),
        (split(&[1]), &["definition.steps[0].split.arms"]),
        (split(&[0, 10_001]), &["definition.steps[0].split.arms[0].weight", "definition.steps[0].split.arms[1].weight"]),
        (split(&[1; 11]), &["definition.steps[0].split.arms"]),
        (experiment(&[variant("a", 1, true), variant("b", 1, false)], ""), &[]),
        (
            experiment(&[variant("a", 1, true), variant("a", 0, true)], "g"),
            &[
                "definition.steps[0].experiment.goal",
                "definition.steps[0].experiment.variants[1].control",
                "definition.steps[0].experiment.variants[1].name",
                "definition.steps[0].experiment.variants[1].weight",
            ],
        ),
        (update("stage", Some(To::Value(text("x")))), &[]),
        (update("", None), &["definition.steps[0].update_trait", "definition.steps[0].update_trait.trait"]),
        (update("stage", Some(To::Template(String::new()))), &["definition.steps[0].update_trait.template"]),
        (valued(None), &["definition.steps[0].update_trait.value"]),
        (valued(Some(ValueKind::DoubleValue(f64::NAN))), &["definition.steps[0].update_trait.value"]),
        (valued(Some(ValueKind::JsonValue("{".to_owned()))), &["definition.steps[0].update_trait.value"]),
        (valued(Some(ValueKind::JsonValue("[1]".to_owned()))), &[]),
        (waiting(None), &["definition.steps[0].wait"]),
        (waiting(Some(Wait::Duration(seconds(0)))), &["definition.steps[0].wait.duration.count"]),
        (local("23:59", &[1, 7]), &[]),
        (
            local("24:00", &[0, 1, 1]),
            &[
                "definition.steps[0].wait.until_local_time.days_of_week[0]",
                "definition.steps[0].wait.until_local_time.days_of_week[2]",
                "definition.steps[0].wait.until_local_time.time",
            ],
        ),
        (date("day", "", ""), &[]),
        (
            date("", "9", "gone"),
            &[
                "definition.steps[0].wait.until_trait_date.otherwise",
                "definition.steps[0].wait.until_trait_date.time",
                "definition.steps[0].wait.until_trait_date.trait",
            ],
        ),
        (
            waiting(Some(Wait::ForEvent(EventWait::default()))),
            &["definition.steps[0].wait.for_event.arms", "definition.steps[0].wait.for_event.timeout"],
        ),
        (branch(vec![]), &["definition.steps[0].branch.arms"]),
        (branch(vec![arm(Some(condition())), arm(None)]), &["definition.steps[0].branch.arms[1].condition"]),
        (
            branch(vec![arm(Some(Condition { node: Some(Node::All(ConditionList { conditions: vec![Condition::default()] })) }))]),
            &["definition.steps[0].branch.arms[0].condition.all.conditions[0]"],
        ),
    ] {
        assert_eq!(faults(&definition), paths, "{definition:?}");
    }
}

fn filtered(filter: Filter) -> ScenarioDefinition {
    let on = EventSelector { events: vec!["a".to_owned()], filter: Some(filter) };
    entering(On::Event(EventEntry { on: Some(on), entry_key_property: String::new() }))
}

fn comparing(field: Option<field::Field>, operator: Operator, values: Vec<Value>, item_match: ItemMatch) -> Filter {
    let field = field.map(|field| Field { field: Some(field) });
    let comparison = Comparison { field, operator: operator.into(), values, item_match: item_match.into() };
    Filter { node: Some(filter::Node::Compare(comparison)) }
}

#[test]
fn filters_can_be_asked() {
    use Operator::*;
    let of = |kind| Value { kind: Some(kind) };
    let (int, double) = (|n| of(ValueKind::IntValue(n)), |n| of(ValueKind::DoubleValue(n)));
    let property = |name: &str| Some(field::Field::Property(name.to_owned()));
    let dimension = |name: &str| Some(field::Field::Dimension(name.to_owned()));
    let item = |name: &str| Some(field::Field::ItemProperty(name.to_owned()));
    let unset = ItemMatch::Unspecified;
    for (filter, paths) in [
        (comparing(property("plan"), In, vec![text("gold"), text("")], unset), &[][..]),
        (comparing(property("n"), Between, vec![int(1), double(1.5)], unset), &[]),
        (comparing(item("price"), Exists, vec![], unset), &[]),
        (comparing(item("price"), Less, vec![int(1)], ItemMatch::All), &[]),
        (comparing(None, In, vec![int(1)], unset), &["field"]),
        (comparing(dimension("nope"), In, vec![text("x")], unset), &["field.dimension"]),
        (comparing(dimension("platform"), Less, vec![int(1)], unset), &["values[0]"]),
        (comparing(dimension("event"), In, vec![text("x")], ItemMatch::Any), &["item_match"]),
        (comparing(property(""), In, vec![text("x")], unset), &["field.property"]),
        (comparing(property("p"), Unspecified, vec![], unset), &["operator"]),
        (comparing(property("p"), In, vec![], unset), &["values"]),
        (comparing(property("p"), Exists, vec![int(1)], unset), &["values"]),
        (comparing(property("p"), Less, vec![int(1), int(2)], unset), &["values"]),
        (comparing(property("p"), Between, vec![int(2), int(2)], unset), &["values[1]"]),
        (comparing(property("p"), In, vec![text("x"), int(1)], unset), &["values[1]"]),
        (comparing(property("p"), Less, vec![text("x")], unset), &["values[0]"]),
        (comparing(property("p"), Contains, vec![int(1)], unset), &["values[0]"]),
        (comparing(property("p"), In, vec![double(f64::NAN), Value::default()], unset), &["values[0]", "values[1]"]),
        (comparing(property("p"), In, vec![of(ValueKind::JsonValue("[]".to_owned()))], unset), &["values[0]"]),
        (comparing(property("df_total_purchase_amount"), In, vec![text("5")], unset), &["values[0]"]),
        (comparing(item("quantity"), Contains, vec![text("5")], unset), &["values[0]"]),
    ] {
        let paths: Vec<String> = paths.iter().map(|path| format!("definition.entry.event.on.filter.compare.{path}")).collect();
        assert_eq!(faults(&filtered(filter.clone())), paths, "{filter:?}");
    }
    let not = |operand: Filter| Filter { node: Some(filter::Node::Not(Box::new(operand))) };
    let deep = |levels: usize| (1..levels).fold(Filter::default(), |filter, _| not(filter));
    let wide = |nodes: usize| Filter { node: Some(filter::Node::Any(FilterList { filters: vec![Filter::default(); nodes - 1] })) };
    assert_eq!(faults(&filtered(deep(8))), [""; 0]);
    assert_eq!(faults(&filtered(wide(100))), [""; 0]);
    assert_eq!(faults(&filtered(wide(101))), ["definition.entry.event.on.filter"]);
    assert_eq!(faults(&filtered(deep(9))).len(), 1);
}

#[test]
fn every_step_is_reached_and_every_way_leads_somewhere() {
    let steps = vec![message("a", "gone"), message("b", "c"), message("c", "b")];
    let definition = with(|definition| definition.steps = steps);
    let found = faults(&definition);
    let expected = ["definition.steps[0].next", "definition.steps[1]", "definition.steps[1]", "definition.steps[2]"];
    assert_eq!(found, expected);
    // No run takes the `next` of a split.
    let arms = vec![SplitArm { weight: 1, next: String::new() }; 2];
    let steps = vec![step("s", Kind::Split(SplitStep { arms }), "m"), message("m", "")];
    assert_eq!(faults(&with(|definition| definition.steps = steps)), ["definition.steps[1]"]);
}

fn loop_fault(steps: Vec<Step>) -> Option<String> {
    let definition = with(|definition| definition.steps = steps);
    let faults = compile("spring", 1, &definition, Tz::UTC).err()?;
    assert_eq!(faults.len(), 1, "{faults:?}");
    Some(faults[0].message.clone())
}

#[test]
fn a_loop_without_a_wait_is_named() {
    let duration = || Wait::Duration(seconds(1));
    assert_eq!(loop_fault(vec![message("a", "b"), wait("b", duration(), "a")]), None);
    let expected = "a loop without a wait: b → c → b; put a wait into it".to_owned();
    assert_eq!(loop_fault(vec![message("a", "b"), message("b", "c"), message("c", "b")]), Some(expected));
    let expected = "a loop without a wait: a → a; put a wait into it".to_owned();
    assert_eq!(loop_fault(vec![message("a", "a")]), Some(expected));
    // Who lacks the trait does not wait.
    let date = |otherwise: &str| {
        Wait::UntilTraitDate(TraitDate { r#trait: "day".to_owned(), otherwise: otherwise.to_owned(), ..TraitDate::default() })
    };
    let expected =
        "a loop without a wait: a → w → a; who lacks the trait does not wait in `w`: let its `otherwise` lead out of the loop".to_owned();
    assert_eq!(loop_fault(vec![message("a", "w"), wait("w", date(""), "a")]), Some(expected.clone()));
    assert_eq!(loop_fault(vec![message("a", "w"), wait("w", date("a"), "a")]), Some(expected));
    assert_eq!(loop_fault(vec![message("a", "w"), wait("w", date("e"), "a"), end("e")]), None);
}
