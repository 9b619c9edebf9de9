//! What runs do to the world, as it is written down: planned sends, things to tell, assignments.

use std::collections::{BTreeMap, VecDeque};

use segue_model::TenantId;
use segue_proto::campaign::v1::step::Kind;
use segue_proto::campaign::v1::update_trait_step::To;
use segue_proto::campaign::v1::{Purpose, Step};
use segue_proto::events::v1::Value;
use segue_proto::events::v1::value::Kind as ValueKind;
use segue_proto::query::v1::{Span, TimeUnit};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use super::deck::Slot;
use super::definitions::Plan;
use super::happening::{Filling, Happening};
use super::machine::{Effect, Run};
use super::store::persons::Assignment;
use crate::outbox::Told;
use crate::persons::Profile;
use crate::sends::NewSend;
use crate::templates;

/// How long a message may wait unless its step says otherwise.
const EXPIRES_US: i64 = 7 * DAY_US;
const DAY_US: i64 = 24 * 3_600 * 1_000_000;

/// A goal that an event has reached for a run.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    scenario: String,
    /// Of several runs of a scenario it counts for the one that was entered last.
    entered: (i64, u64),
    told: Told,
}

/// What a round does to the world.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sends: Vec<NewSend>,
    pub(crate) told: Vec<Told>,
    pub(crate) assignments: Vec<Assignment>,
    /// Runs that were ended: what they have planned is not sent.
    pub(crate) dropped: Vec<u64>,
    /// Traits whose templates are to be filled in.
    fillings: Vec<Filled>,
    /// Steps done.
    pub(crate) steps: u64,
}

/// A template to be filled in.
#[derive(Debug)]
struct Filled {
    person: u32,
    filling: Filling,
}

impl Outcome {
    /// Takes in what a run did, who had passed these experiments before: what follows an experiment sees its variant.
    #[allow(clippy::too_many_arguments, reason = "what a run does concerns itself, its person and the round")]
    pub(crate) fn take(
        &mut self,
        slot: &Slot,
        plan: &Plan,
        effects: Vec<Effect>,
        mut passed: Passed,
        now_us: i64,
        assigned: &mut Option<Vec<(String, String, String)>>,
        reached: &mut Vec<Reached>,
        happenings: &mut VecDeque<Happening>,
    ) {
        let run = &slot.run;
        let mut fillings = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { step, visit } => self.sends.extend(send(slot, plan, step, visit, &passed, now_us)),
                Effect::Assign { step, variant } => {
                    let (person, scenario) = (run.person, run.scenario.clone());
                    assigned.get_or_insert_default().push((scenario.clone(), step.clone(), variant.clone()));
                    self.assignments.push(Assignment { person, scenario, step, variant, assigned_us: now_us });
                }
                Effect::Exposed { step, variant, visit } => {
                    passed.0.insert(step.clone(), variant.clone());
                    passed.1 = format!("{step}={variant}");
                    self.told.push(exposed(run, &step, visit, &passed.1, now_us));
                }
                Effect::UpdateTrait { step, visit } => match update(slot, plan, step, visit, &passed, now_us) {
                    Some(Update::Now(told)) => self.told.push(told),
                    Some(Update::Fill(filling)) => fillings.push(Happening::Fill(filling)),
                    None => {}
                },
                Effect::List { step } => {
                    if let Some(Step { kind: Some(Kind::List(list)), .. }) = plan.compiled.definition.steps.get(step) {
                        self.told.push(Told::List { person: run.person, list: list.list.clone(), remove: list.remove });
                    }
                }
                Effect::Converted { goal, event, time_us, value_e4, items } => {
                    let told = Told::Event {
                        message_id: told_id("converted", run, &goal, &event),
                        name: "df_message_converted",
                        time_us,
                        person: run.person,
                        properties: converted(run, plan, &goal, value_e4),
                        items,
                    };
                    reached.push(Reached { scenario: run.scenario.clone(), entered: (run.entered_us, run.id), told });
                }
            }
        }
        for filling in fillings.into_iter().rev() {
            happenings.push_front(filling);
        }
    }

    /// An event counts once per person and scenario: for the run that was entered last.
    pub(crate) fn settle(&mut self, reached: Vec<Reached>) {
        let mut last: BTreeMap<&str, (i64, u64)> = BTreeMap::new();
        for goal in &reached {
            let known = last.entry(&goal.scenario).or_insert(goal.entered);
            *known = (*known).max(goal.entered);
        }
        let counts = |goal: &&Reached| last.get(goal.scenario.as_str()) == Some(&goal.entered);
        self.told.extend(reached.iter().filter(counts).map(|goal| goal.told.clone()));
    }

    /// A template of a trait is to be filled in for this person.
    pub(crate) fn fill(&mut self, person: u32, profile: &Profile, mut filling: Filling) {
        if let Some(values) = filling.values.as_object_mut() {
            values.insert("person".to_owned(), templates::person_values(profile));
        }
        self.fillings.push(Filled { person, filling });
    }

    /// Fills in the templates of traits. One that cannot be leaves the trait as it is, and is logged.
    pub(crate) fn render(&mut self, config: &crate::config::Config, tenant: &TenantId) {
        for Filled { person, filling } in std::mem::take(&mut self.fillings) {
            match templates::render_text(config, &filling.template, &filling.values) {
                Ok(text) => {
                    let value = Value { kind: Some(ValueKind::StringValue(text)) };
                    let message_id = trait_id(filling.run, &filling.step, filling.visit);
                    self.told.push(Told::Trait { message_id, time_us: filling.time_us, person, name: filling.r#trait, value });
                }
                Err(fault) => {
                    let (run, step) = (filling.run, filling.step);
                    tracing::warn!(%tenant, run, step, ?fault, "a trait stays as it is: its template cannot be filled in");
                }
            }
        }
    }
}

/// Variants by experiment step, and `<experiment step>=<variant>` of the one passed last.
pub(crate) type Passed = (BTreeMap<String, String>, String);

fn send(slot: &Slot, plan: &Plan, at: usize, visit: u32, passed: &Passed, now_us: i64) -> Option<NewSend> {
    let compiled = &plan.compiled;
    let step = compiled.definition.steps.get(at)?;
    let (channel, template, purpose, expires) = match step.kind.as_ref()? {
        Kind::Message(message) => {
            let own = message.purpose();
            let purpose = if own == Purpose::Unspecified { compiled.definition.purpose() } else { own };
            (&message.channel, &message.template, purpose, &message.expires)
        }
        Kind::Webhook(webhook) => (&webhook.channel, &webhook.template, Purpose::Transactional, &webhook.expires),
        _ => return None,
    };
    let run = &slot.run;
    Some(NewSend {
        scenario: run.scenario.clone(),
        version: run.version,
        step: step.id.clone(),
        run: run.id,
        person: run.person,
        entry_key: run.entry_key.clone(),
        attempt_group: format!("{}.{visit}", run.entry),
        channel: channel.clone(),
        template: template.clone(),
        purpose: if purpose == Purpose::Unspecified { Purpose::Advertising } else { purpose },
        variant: passed.1.clone(),
        held_out: run.held_out,
        time_zone: compiled.time_zone.name().to_owned(),
        values: values(slot, &step.id, passed),
        planned_us: now_us,
        expires_us: now_us.saturating_add(expires.as_ref().map_or(EXPIRES_US, |span| span_us(span, now_us))),
    })
}

/// What templates see beside the person and the channel.
fn values(slot: &Slot, step: &str, passed: &Passed) -> serde_json::Value {
    let run = &slot.run;
    let event = &run.state.event;
    let time = chrono::DateTime::from_timestamp_micros(event.time_us).map(|time| time.to_rfc3339());
    json!({
        "event": { "name": event.name, "time": time, "properties": event.properties, "items": event.items },
        "entry_key": run.entry_key,
        "scenario": { "id": run.scenario, "name": slot.scenario.started.name },
        "step": step,
        "experiment": passed.0,
    })
}

/// Length of a span that begins now.
fn span_us(span: &Span, now_us: i64) -> i64 {
    let count = i64::from(span.count);
    let second_us = 1_000_000;
    let unit_us = match span.unit() {
        TimeUnit::Unspecified | TimeUnit::Second => second_us,
        TimeUnit::Minute => 60 * second_us,
        TimeUnit::Hour => 3_600 * second_us,
        TimeUnit::Day => DAY_US,
        TimeUnit::Week => 7 * DAY_US,
        TimeUnit::Month => {
            let now = chrono::DateTime::from_timestamp_micros(now_us);
            let later = now.and_then(|now| now.checked_add_months(chrono::Months::new(span.count)));
            return later.map_or(i64::MAX, |later| later.timestamp_micros().saturating_sub(now_us));
        }
    };
    count.saturating_mul(unit_us)
}

/// What an update of a trait comes to.
enum Update {
    Now(Told),
    Fill(Filling),
}

fn update(slot: &Slot, plan: &Plan, at: usize, visit: u32, passed: &Passed, now_us: i64) -> Option<Update> {
    let step = plan.compiled.definition.steps.get(at)?;
    let Kind::UpdateTrait(update) = step.kind.as_ref()? else { return None };
    let run = &slot.run;
    Some(match update.to.as_ref()? {
        To::Value(value) => Update::Now(Told::Trait {
            message_id: trait_id(run.id, &step.id, visit),
            time_us: now_us,
            person: run.person,
            name: update.r#trait.clone(),
            value: value.clone(),
        }),
        To::Template(template) => Update::Fill(Filling {
            run: run.id,
            step: step.id.clone(),
            visit,
            r#trait: update.r#trait.clone(),
            template: template.clone(),
            values: values(slot, &step.id, passed),
            time_us: now_us,
        }),
    })
}

fn text(value: &str) -> Value {
    Value { kind: Some(ValueKind::StringValue(value.to_owned())) }
}

fn exposed(run: &Run, step: &str, visit: u32, variant: &str, now_us: i64) -> Told {
    Told::Event {
        message_id: told_id("exposed", run, step, &visit.to_string()),
        name: "df_experiment_exposed",
        time_us: now_us,
        person: run.person,
        properties: vec![
            ("df_message_campaign", text(&run.scenario)),
            ("df_message_variant", text(variant)),
            ("df_message_step", text(step)),
        ],
        items: Vec::new(),
    }
}

fn converted(run: &Run, plan: &Plan, goal: &str, value_e4: i64) -> Vec<(&'static str, Value)> {
    let compiled = &plan.compiled;
    let is_message = |step: &str| {
        let step = compiled.steps.get(step).and_then(|at| compiled.definition.steps.get(*at));
        step.is_some_and(|step| matches!(step.kind, Some(Kind::Message(_) | Kind::Webhook(_))))
    };
    let last = run.state.history.iter().rev().find(|visited| is_message(&visited.step));
    let mut properties = vec![
        ("df_message_campaign", text(&run.scenario)),
        ("df_message_goal", text(goal)),
        ("df_message_value", Value { kind: Some(ValueKind::DecimalE4Value(value_e4)) }),
    ];
    if !run.state.last_variant.is_empty() {
        properties.push(("df_message_variant", text(&run.state.last_variant)));
    }
    if let Some(visited) = last {
        properties.push(("df_message_step", text(&visited.step)));
        if let Some(send) = visited.decision.strip_prefix("send ") {
            properties.push(("df_message_id", text(send)));
        }
    }
    properties
}

/// The id of something that is told of a run: always the same for the same.
fn told_id(what: &str, run: &Run, of: &str, which: &str) -> String {
    format!("{:032x}", xxh3_128(format!("{what}\n{}\n{of}\n{which}", run.id).as_bytes()))
}

fn trait_id(run: u64, step: &str, visit: u32) -> String {
    format!("{:032x}", xxh3_128(format!("trait\n{run}\n{step}\n{visit}").as_bytes()))
}
