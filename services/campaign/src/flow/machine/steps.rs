//! Single steps of a definition: their shape.

use std::collections::BTreeSet;

use segue_proto::campaign::v1::step::Kind;
use segue_proto::campaign::v1::update_trait_step::To;
use segue_proto::campaign::v1::wait_step::Wait;
use segue_proto::campaign::v1::{
    BranchStep, EventWait, ExperimentStep, ListStep, LocalTime, SplitStep, Step, TraitDate, UpdateTraitStep, WaitStep,
};
use segue_proto::events::v1::value;
use segue_proto::query::v1::Span;
use segue_runtime::fields::is_id;

use super::compile::{Faults, Presence, Whole, check_label, check_name, check_purpose, check_span, check_time, is_moment};
use super::selectors;

const ARMS_MAX: usize = 10;
const WEIGHT_MAX: u32 = 10_000;
const TEXT_BYTES_MAX: usize = 1_024;

/// Everything about a step but its id and where it leads.
pub(super) fn check(faults: &mut Faults, path: &str, whole: Whole<'_>, step: &Step) {
    match &step.kind {
        None => faults.add(path, "set one of message, wait, branch, split, experiment, update_trait, webhook, list and end"),
        Some(Kind::Message(step)) => {
            let path = format!("{path}.message");
            check_send(faults, &path, &step.channel, &step.template, step.expires.as_ref());
            check_purpose(faults, &format!("{path}.purpose"), step.purpose);
        }
        Some(Kind::Webhook(step)) => check_send(faults, &format!("{path}.webhook"), &step.channel, &step.template, step.expires.as_ref()),
        Some(Kind::Wait(step)) => check_wait(faults, &format!("{path}.wait"), whole, step),
        Some(Kind::Branch(step)) => check_branch(faults, &format!("{path}.branch"), step),
        Some(Kind::Split(step)) => check_split(faults, &format!("{path}.split"), step),
        Some(Kind::Experiment(step)) => check_experiment(faults, &format!("{path}.experiment"), whole, step),
        Some(Kind::UpdateTrait(step)) => check_update(faults, &format!("{path}.update_trait"), step),
        Some(Kind::List(ListStep { list, .. })) => {
            if !is_id(list) {
                faults.add(format!("{path}.list.list"), "name a list by its id");
            }
        }
        Some(Kind::End(_)) if !step.next.is_empty() => faults.add(format!("{path}.next"), "a run ends here: leave it empty"),
        Some(Kind::End(_)) => {}
    }
}

fn check_send(faults: &mut Faults, path: &str, channel: &str, template: &str, expires: Option<&Span>) {
    if !is_id(channel) {
        faults.add(format!("{path}.channel"), "name a channel by its id");
    }
    if !is_id(template) {
        faults.add(format!("{path}.template"), "name a template by its id");
    }
    check_span(faults, &format!("{path}.expires"), expires, Presence::Optional);
}

fn check_wait(faults: &mut Faults, path: &str, whole: Whole<'_>, step: &WaitStep) {
    match &step.wait {
        None => faults.add(path, "set one of duration, until_local_time, until_trait_date and for_event"),
        Some(Wait::Duration(span)) => {
            check_span(faults, &format!("{path}.duration"), Some(span), Presence::Required);
        }
        Some(Wait::UntilLocalTime(LocalTime { time, days_of_week })) => {
            let path = format!("{path}.until_local_time");
            check_time(faults, &format!("{path}.time"), time);
            let mut days = BTreeSet::new();
            for (at, day) in days_of_week.iter().enumerate() {
                if !(1..=7).contains(day) || !days.insert(day) {
                    faults.add(format!("{path}.days_of_week[{at}]"), "1 (Monday) to 7 (Sunday), each at most once");
                }
            }
        }
        Some(Wait::UntilTraitDate(TraitDate { r#trait, time, .. })) => {
            let path = format!("{path}.until_trait_date");
            check_name(faults, &format!("{path}.trait"), r#trait);
            if !time.is_empty() {
                check_time(faults, &format!("{path}.time"), time);
            }
        }
        Some(Wait::ForEvent(EventWait { arms, timeout })) => {
            let path = format!("{path}.for_event");
            check_count(faults, &format!("{path}.arms"), arms.len(), 1);
            for (at, arm) in arms.iter().enumerate().take(ARMS_MAX) {
                let path = format!("{path}.arms[{at}]");
                selectors::check(faults, &format!("{path}.on"), arm.on.as_ref());
                whole.check_key(faults, &path, &arm.entry_key_property);
            }
            check_span(faults, &format!("{path}.timeout"), timeout.as_ref(), Presence::Required);
        }
    }
}

fn check_branch(faults: &mut Faults, path: &str, step: &BranchStep) {
    check_count(faults, &format!("{path}.arms"), step.arms.len(), 1);
    for (at, arm) in step.arms.iter().enumerate().take(ARMS_MAX) {
        selectors::check_condition(faults, &format!("{path}.arms[{at}].condition"), arm.condition.as_ref());
    }
}

fn check_split(faults: &mut Faults, path: &str, step: &SplitStep) {
    check_count(faults, &format!("{path}.arms"), step.arms.len(), 2);
    for (at, arm) in step.arms.iter().enumerate().take(ARMS_MAX) {
        check_weight(faults, &format!("{path}.arms[{at}].weight"), arm.weight);
    }
}

fn check_experiment(faults: &mut Faults, path: &str, whole: Whole<'_>, step: &ExperimentStep) {
    check_count(faults, &format!("{path}.variants"), step.variants.len(), 2);
    let mut names = BTreeSet::new();
    let mut has_control = false;
    for (at, variant) in step.variants.iter().enumerate().take(ARMS_MAX) {
        let path = format!("{path}.variants[{at}]");
        if check_label(faults, &format!("{path}.name"), &variant.name) && !names.insert(&variant.name) {
            faults.add(format!("{path}.name"), format!("`{}` stands twice: names are unique", variant.name));
        }
        check_weight(faults, &format!("{path}.weight"), variant.weight);
        if variant.control && std::mem::replace(&mut has_control, true) {
            faults.add(format!("{path}.control"), "at most one variant is what the others are compared with");
        }
    }
    if !step.goal.is_empty() && !whole.definition.goals.iter().any(|goal| goal.name == step.goal) {
        faults.add(format!("{path}.goal"), format!("there is no goal `{}`", step.goal));
    }
}

fn check_update(faults: &mut Faults, path: &str, step: &UpdateTraitStep) {
    check_name(faults, &format!("{path}.trait"), &step.r#trait);
    match &step.to {
        None => faults.add(path, "set one of value and template"),
        Some(To::Template(text)) if text.is_empty() => faults.add(format!("{path}.template"), "an expression, or set value"),
        Some(To::Template(_)) => {}
        Some(To::Value(value)) => {
            let fault = match &value.kind {
                None => Some("set a value"),
                Some(value::Kind::StringValue(text)) if text.len() > TEXT_BYTES_MAX || text.contains('\0') => {
                    Some("at most 1024 bytes, without NUL characters")
                }
                Some(value::Kind::DoubleValue(number)) if !number.is_finite() => Some("a finite number"),
                Some(value::Kind::TimestampValue(time)) if !is_moment(time) => Some("not a timestamp between the years 1 and 9999"),
                Some(value::Kind::JsonValue(text)) if !is_json(text) => Some("an array or object as JSON, without NUL characters"),
                Some(_) => None,
            };
            if let Some(fault) = fault {
                faults.add(format!("{path}.value"), fault);
            }
        }
    }
}

fn is_json(text: &str) -> bool {
    !text.contains('\0') && serde_json::from_str::<serde_json::Value>(text).is_ok_and(|json| json.is_array() || json.is_object())
}

fn check_count(faults: &mut Faults, path: &str, found: usize, least: usize) {
    if !(least..=ARMS_MAX).contains(&found) {
        faults.add(path, format!("{least} to {ARMS_MAX}; there are {found}"));
    }
}

fn check_weight(faults: &mut Faults, path: &str, weight: u32) {
    if !(1..=WEIGHT_MAX).contains(&weight) {
        faults.add(path, format!("1 to {WEIGHT_MAX}"));
    }
}
