//! Tests of the machine, by what they are about; here is what they are built of.

mod cases;
mod compiling;
mod cron;
mod entering;
mod kinds;
mod model;
mod random;
mod reference;
mod time;
mod values;

use std::collections::BTreeMap;

use chrono_tz::Tz;
use segue_proto::campaign::v1::entry::On;
use segue_proto::campaign::v1::step::Kind;
use segue_proto::campaign::v1::wait_step::Wait;
use segue_proto::campaign::v1::{
    CallEntry, EndStep, Entry, EventArm, EventEntry, EventWait, ExitRule, Goal, MessageStep, ScenarioDefinition, Step, WaitStep, exit_rule,
};
use segue_proto::events::v1::value::Kind as ValueKind;
use segue_proto::events::v1::{EventKind, Item, ResolvedEvent, Value};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, EventSelector, HasIdentifier, Span, TimeUnit};

use super::*;
use crate::persons::Profile;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

fn us(text: &str) -> i64 {
    text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time").timestamp_micros()
}

fn text(text: &str) -> Value {
    Value { kind: Some(ValueKind::StringValue(text.to_owned())) }
}

fn span(count: u32, unit: TimeUnit) -> Span {
    Span { count, unit: unit.into() }
}

fn seconds(count: u32) -> Span {
    span(count, TimeUnit::Second)
}

fn on(names: &[&str]) -> EventSelector {
    EventSelector { events: names.iter().map(|name| (*name).to_owned()).collect(), filter: None }
}

fn condition() -> Condition {
    Condition { node: Some(Node::HasIdentifier(HasIdentifier { kind: "email".to_owned() })) }
}

fn step(id: &str, kind: Kind, next: &str) -> Step {
    Step { id: id.to_owned(), next: next.to_owned(), kind: Some(kind) }
}

fn message(id: &str, next: &str) -> Step {
    let message = MessageStep { channel: "mail".to_owned(), template: "hello".to_owned(), ..MessageStep::default() };
    step(id, Kind::Message(message), next)
}

fn wait(id: &str, wait: Wait, next: &str) -> Step {
    step(id, Kind::Wait(WaitStep { wait: Some(wait) }), next)
}

/// Arms: name of the event, property with the entry key, next.
fn event_wait(id: &str, arms: &[(&str, &str, &str)], timeout: Span, next: &str) -> Step {
    let arms = arms.iter().map(|(name, key, next)| EventArm {
        on: Some(on(&[name])),
        entry_key_property: (*key).to_owned(),
        next: (*next).to_owned(),
    });
    wait(id, Wait::ForEvent(EventWait { arms: arms.collect(), timeout: Some(timeout) }), next)
}

fn end(id: &str) -> Step {
    step(id, Kind::End(EndStep {}), "")
}

fn by_call(steps: Vec<Step>) -> ScenarioDefinition {
    ScenarioDefinition { entry: Some(Entry { on: Some(On::Call(CallEntry {})), only_if: None }), steps, ..ScenarioDefinition::default() }
}

fn by_event(name: &str, key: &str, steps: Vec<Step>) -> ScenarioDefinition {
    let entry = EventEntry { on: Some(on(&[name])), entry_key_property: key.to_owned() };
    ScenarioDefinition { entry: Some(Entry { on: Some(On::Event(entry)), only_if: None }), ..by_call(steps) }
}

fn exit_on(name: &str, key: &str) -> ExitRule {
    ExitRule { on: Some(exit_rule::On::Event(on(&[name]))), entry_key_property: key.to_owned() }
}

fn goal(name: &str, event: &str, window: Span) -> Goal {
    Goal { name: name.to_owned(), on: Some(on(&[event])), window: Some(window), ..Goal::default() }
}

fn compiled(definition: &ScenarioDefinition) -> Compiled {
    compile("spring", 1, definition, Tz::UTC).expect("a good definition")
}

fn run_at(entered_us: i64) -> Run {
    Run {
        id: 7,
        scenario: "spring".to_owned(),
        version: 1,
        person: 42,
        entry_key: String::new(),
        entry: 1,
        entered_us,
        held_out: false,
        state: State::default(),
        due_us: None,
        ended: None,
    }
}

fn event(name: &str, id: &str, time_us: i64, properties: &[(&str, Value)]) -> ResolvedEvent {
    ResolvedEvent {
        person: 42,
        name: name.to_owned(),
        message_id: id.to_owned(),
        time_us,
        kind: EventKind::Track.into(),
        properties: properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        ..ResolvedEvent::default()
    }
}

fn item(price_e4: Option<i64>, quantity: Option<i64>) -> Item {
    Item { price_e4, quantity, ..Item::default() }
}

fn profile(zone: &str, traits: &[(&str, Value)]) -> Profile {
    let mut profile = Profile { number: 42, ..Profile::default() };
    profile.traits = traits.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    if !zone.is_empty() {
        profile.traits.insert("df_time_zone".to_owned(), text(zone));
    }
    profile
}

fn knowing(person: &Profile) -> Facts<'_> {
    Facts { person: Some(person), ..Facts::default() }
}

/// Steps that were done, with what was decided there; ids of sends are left out.
fn visited(run: &Run) -> Vec<(String, String)> {
    let decision = |text: &str| if text.starts_with("send ") { "send".to_owned() } else { text.to_owned() };
    run.state.history.iter().map(|visited| (visited.step.clone(), decision(&visited.decision))).collect()
}

fn steps_of(run: &Run) -> Vec<&str> {
    run.state.history.iter().map(|visited| visited.step.as_str()).collect()
}

/// One call with plenty of steps.
fn put(scenario: &Compiled, run: &mut Run, input: Input<'_>, facts: &Facts<'_>, now_us: i64) -> (Next, Vec<Effect>) {
    let mut effects = Vec::new();
    let next = advance(scenario, run, input, facts, now_us, 100, &mut effects);
    (next, effects)
}

fn go(scenario: &Compiled, run: &mut Run, now_us: i64) -> Vec<Effect> {
    let (next, effects) = put(scenario, run, Input::Go, &Facts::default(), now_us);
    assert_eq!(next, Next::Rest);
    effects
}

fn meet(scenario: &Compiled, run: &mut Run, event: &ResolvedEvent, now_us: i64) -> Vec<Effect> {
    let (next, effects) = put(scenario, run, Input::Event(event), &Facts::default(), now_us);
    assert_eq!(next, Next::Rest);
    effects
}

fn assigned(step: &str, variant: &str) -> Facts<'static> {
    let assigned = BTreeMap::from([(step.to_owned(), variant.to_owned())]);
    Facts { assigned, assignments_known: true, ..Facts::default() }
}
