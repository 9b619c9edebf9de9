//! What correction rules do to an event. Pure.

use segue_model::FieldViolation;
use segue_proto::events::v1::{Event, Identifier};
use segue_proto::ingest::v1::correction_action::Action;
use segue_proto::ingest::v1::{CorrectionRule, Reason, ReasonCode};

use crate::accept::shape::{NAME_CHARS_MAX, PROPERTIES_MAX};
use crate::accept::skew::corrected_time_us;
use crate::accept::time::{micros, timestamp};
use crate::accept::who;
use crate::taxonomy::{Snapshot, coerce, type_from_proto};

/// Actions of one rule.
const ACTIONS_MAX: usize = 50;

/// Everything wrong with a rule.
pub(crate) fn validate(rule: &CorrectionRule) -> Vec<FieldViolation> {
    let mut faults = Vec::new();
    if rule.event_name.chars().count() > NAME_CHARS_MAX || rule.event_name.contains('\0') {
        faults.push(FieldViolation::new("correction_rule.event_name", format!("use at most {NAME_CHARS_MAX} characters")));
    }
    if rule.actions.is_empty() || rule.actions.len() > ACTIONS_MAX {
        faults.push(FieldViolation::new("correction_rule.actions", format!("give 1 to {ACTIONS_MAX} actions")));
    }
    for (at, action) in rule.actions.iter().enumerate().take(ACTIONS_MAX) {
        let mut named = |field: &str, name: &str| {
            if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
                let field = format!("correction_rule.actions[{at}].{field}");
                faults.push(FieldViolation::new(field, format!("use 1 to {NAME_CHARS_MAX} characters, without control characters")));
            }
        };
        let other = match &action.action {
            None => Some(("", "says nothing")),
            Some(Action::RenameEvent(name)) => {
                named("rename_event", name);
                None
            }
            Some(Action::RenameProperty(rename)) => {
                named("rename_property.from", &rename.from);
                named("rename_property.to", &rename.to);
                None
            }
            Some(Action::DropProperty(name)) => {
                named("drop_property", name);
                None
            }
            Some(Action::CastProperty(cast)) => {
                named("cast_property.property", &cast.property);
                type_from_proto(cast.r#type).is_none().then_some((".cast_property.type", "say which type"))
            }
            Some(Action::SetProperty(set)) => {
                named("set_property.property", &set.property);
                let empty = set.value.as_ref().is_none_or(|value| value.kind.is_none());
                empty.then_some((".set_property.value", "say which value"))
            }
            Some(Action::UseReceivedTime(_)) => None,
            Some(Action::SetIdentifier(identifier)) => {
                let good = who::is_kind(&identifier.kind)
                    && who::names_somebody(&identifier.value)
                    && identifier.value.len() <= who::VALUE_BYTES_MAX
                    && !identifier.value.chars().any(char::is_control);
                (!good).then_some((".set_identifier", "give a kind and a value that names somebody"))
            }
        };
        if let Some((field, description)) = other {
            faults.push(FieldViolation::new(format!("correction_rule.actions[{at}]{field}"), description));
        }
    }
    faults
}

/// An event as corrected, ready to be checked again with its time taken as final.
pub(crate) struct Corrected {
    pub(crate) event: Event,
    /// What its reader could not read and no correction replaced: still a fault, though the event no longer shows it.
    pub(crate) still_unreadable: Vec<Reason>,
}

/// Applies the rules in order. The time is corrected here for the sender's clock, by when the event was received then.
pub(crate) fn apply(
    mut event: Event,
    reasons: &[Reason],
    received_at_us: i64,
    time_is_final: bool,
    rules: &[CorrectionRule],
    snapshot: &Snapshot,
) -> Corrected {
    let mut unreadable: Vec<Reason> = reasons.iter().filter(|reason| reason.code == i32::from(ReasonCode::Unreadable)).cloned().collect();
    if !time_is_final && let Some(time_us) = event.time.as_ref().and_then(micros) {
        let sent_at_us = event.sent_at.as_ref().and_then(micros);
        event.time = Some(timestamp(corrected_time_us(time_us, sent_at_us, received_at_us)));
    }
    for rule in rules {
        let meant = rule.event_name.is_empty()
            || rule.event_name == event.name
            || snapshot.canonical_event(&rule.event_name) == snapshot.canonical_event(&event.name);
        if !meant {
            continue;
        }
        for action in rule.actions.iter().filter_map(|action| action.action.as_ref()) {
            act(&mut event, action, received_at_us);
            unreadable.retain(|reason| !mends(action, &reason.field));
        }
    }
    Corrected { event, still_unreadable: unreadable }
}

fn act(event: &mut Event, action: &Action, received_at_us: i64) {
    match action {
        Action::RenameEvent(name) => event.name.clone_from(name),
        Action::RenameProperty(rename) => {
            if !event.properties.contains_key(&rename.to)
                && let Some(value) = event.properties.remove(&rename.from)
            {
                event.properties.insert(rename.to.clone(), value);
            }
        }
        Action::DropProperty(name) => {
            event.properties.remove(name);
        }
        Action::CastProperty(cast) => {
            if let (Some(value), Some(value_type)) = (event.properties.get_mut(&cast.property), type_from_proto(cast.r#type)) {
                coerce::cast(value, value_type);
            }
        }
        Action::SetProperty(set) => {
            let room = event.properties.len() < PROPERTIES_MAX || event.properties.contains_key(&set.property);
            if let (Some(value), true) = (&set.value, room) {
                event.properties.insert(set.property.clone(), value.clone());
            }
        }
        Action::UseReceivedTime(true) => event.time = Some(timestamp(received_at_us)),
        Action::UseReceivedTime(false) => {}
        Action::SetIdentifier(identifier) => {
            if !event.identifiers.iter().any(|known| who::names_somebody(&known.value)) {
                event.identifiers = vec![Identifier { kind: identifier.kind.clone(), value: identifier.value.clone() }];
            }
        }
    }
}

/// Whether an action replaces what could not be read. Dropping `properties` gives up what stood there and could not be read.
fn mends(action: &Action, field: &str) -> bool {
    let property = |name: &str| field == name || field.strip_prefix("properties.") == Some(name);
    match action {
        Action::RenameEvent(_) => field == "name",
        Action::RenameProperty(_) => false,
        Action::DropProperty(name) => property(name),
        Action::CastProperty(_) => false,
        Action::SetProperty(set) => property(&set.property),
        Action::UseReceivedTime(used) => *used && matches!(field, "time" | "sent_at"),
        Action::SetIdentifier(_) => field.starts_with("identifiers"),
    }
}
