//! One event of an SDK as ours. A field that cannot be read is a fault of its own; what can be read of the event is kept.

use segue_proto::events::v1::{Event, EventKind, Identifier, Value as Typed};
use segue_proto::ingest::v1::{Reason, ReasonCode};
use serde_json::{Map, Value};

use super::value::{text, time_us, typed};
use super::{commerce, context};
use crate::accept::time::timestamp;
use crate::accept::{Candidate, reason};

/// What holds for all events of a body.
pub(super) struct Shared<'a> {
    pub(super) received_at_us: i64,
    /// The kind, where the route says it; in batches each event has its `type`.
    pub(super) route_kind: Option<&'a str>,
    /// Applies to each event, under the event's own.
    pub(super) context: Option<Map<String, Value>>,
    pub(super) sent_at: Option<Value>,
}

/// Fields that are understood here, or that say nothing about the event. All others are kept as properties.
const NOT_PROPERTIES: &[&str] = &[
    "_metadata",
    "anonymousId",
    "channel",
    "context",
    "event",
    "groupId",
    "integrations",
    "messageId",
    "name",
    "originalTimestamp",
    "previousId",
    "properties",
    "receivedAt",
    "sentAt",
    "timestamp",
    "traits",
    "type",
    "userId",
    "version",
    "writeKey",
];

/// An element of a batch that is no JSON object.
pub(super) fn unreadable(why: &str) -> Candidate {
    let fault = reason(ReasonCode::Unreadable, "", format!("the event cannot be read: {why}"));
    Candidate { faults: vec![fault], unreadable: true, ..Candidate::default() }
}

/// Reads one event.
pub(super) fn read(mut json: Map<String, Value>, shared: &Shared<'_>) -> Candidate {
    let mut faults = Vec::new();
    let mut event = Event::default();
    let kind = kind(&json, shared, &mut faults);
    event.kind = kind.into();
    event.message_id = json.get("messageId").and_then(text).unwrap_or_default();
    times(&json, shared, &mut event, &mut faults);

    let context = context(&mut json, shared, &mut faults);
    let mut properties = object(&mut json, "properties", &mut faults);
    let own_traits = object(&mut json, "traits", &mut faults);

    identifiers(&json, &mut event);
    event.identifiers.extend(context.identifiers);
    event.context = Some(context.context);
    account_and_channel(&json, &mut event);
    name(kind, &json, &mut event, &mut properties, &mut faults);
    let (items, order) = commerce::map(&event.name, &mut properties, &mut faults);
    event.items = items;
    event.properties = properties.into_iter().filter_map(|(name, value)| Some((name, typed(value)?))).collect();
    event.properties.extend(order);
    traits(kind, own_traits, context.traits, &mut event);

    let others = json.into_iter().filter(|(field, _)| !NOT_PROPERTIES.contains(&field.as_str()));
    let others = others.filter_map(|(field, value)| Some((field, typed(value)?)));
    for (field, value) in others.chain(context.rest) {
        event.properties.entry(field).or_insert(value);
    }
    Candidate { event, faults, unreadable: false }
}

fn kind(json: &Map<String, Value>, shared: &Shared<'_>, faults: &mut Vec<Reason>) -> EventKind {
    let stated = shared.route_kind.or_else(|| json.get("type").and_then(Value::as_str));
    match stated {
        Some("track") => EventKind::Track,
        Some("identify") => EventKind::Identify,
        Some("page") => EventKind::Page,
        Some("screen") => EventKind::Screen,
        Some("group") => EventKind::Group,
        Some("alias") => EventKind::Alias,
        Some(_) => {
            faults.push(reason(ReasonCode::InvalidValue, "type", "use track, identify, page, screen, group or alias"));
            EventKind::Track
        }
        None => {
            faults.push(reason(ReasonCode::MissingField, "type", "say track, identify, page, screen, group or alias"));
            EventKind::Track
        }
    }
}

/// `originalTimestamp`, else `timestamp`, else when it was received; corrected later by `sentAt` of the event or the batch.
fn times(json: &Map<String, Value>, shared: &Shared<'_>, event: &mut Event, faults: &mut Vec<Reason>) {
    let given = |name: &str| json.get(name).filter(|value| !value.is_null());
    let Some(stated) = given("originalTimestamp").or_else(|| given("timestamp")) else {
        // Nothing to correct: this is our own clock.
        event.time = Some(timestamp(shared.received_at_us));
        return;
    };
    match time_us(stated) {
        Some(us) => event.time = Some(timestamp(us)),
        None => faults.push(reason(ReasonCode::Unreadable, "time", "the timestamp is not a time like 2026-11-22T16:45:10.000Z")),
    }
    // A moment of sending that cannot be read is one that is missing: the time stays as it is.
    event.sent_at = given("sentAt").or(shared.sent_at.as_ref()).and_then(time_us).map(timestamp);
}

fn context(json: &mut Map<String, Value>, shared: &Shared<'_>, faults: &mut Vec<Reason>) -> context::Read {
    let mut context = object(json, "context", faults);
    for (field, value) in shared.context.iter().flatten() {
        if !context.contains_key(field) {
            context.insert(field.clone(), value.clone());
        }
    }
    context::read(context)
}

/// An object; none when it is missing or null, a fault when it is something else.
fn object(json: &mut Map<String, Value>, name: &str, faults: &mut Vec<Reason>) -> Map<String, Value> {
    match json.remove(name) {
        Some(Value::Object(object)) => object,
        None | Some(Value::Null) => Map::new(),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            faults.push(reason(ReasonCode::Unreadable, name, "is not a JSON object"));
            Map::new()
        }
    }
}

fn identifiers(json: &Map<String, Value>, event: &mut Event) {
    for (field, kind) in [("userId", "user_id"), ("anonymousId", "anonymous_id")] {
        if let Some(value) = json.get(field).and_then(text).filter(|value| !value.is_empty()) {
            event.identifiers.push(Identifier { kind: kind.to_owned(), value });
        }
    }
    event.previous_id = json.get("previousId").and_then(text).unwrap_or_default();
}

fn account_and_channel(json: &Map<String, Value>, event: &mut Event) {
    let context = event.context.get_or_insert_default();
    if let Some(group) = json.get("groupId").and_then(text).filter(|group| !group.is_empty()) {
        context.account_id = group;
    }
    let source_type = match json.get("channel").and_then(Value::as_str) {
        Some("server") => "server",
        Some("web" | "browser" | "client") => "web",
        Some("mobile") => "app",
        Some(_) | None => return,
    };
    source_type.clone_into(&mut context.source_type);
    if source_type != "app" {
        source_type.clone_into(&mut context.platform);
    } else if !matches!(context.platform.as_str(), "ios" | "android") {
        context.platform = context.os_name.to_ascii_lowercase();
    }
}

fn name(kind: EventKind, json: &Map<String, Value>, event: &mut Event, properties: &mut Map<String, Value>, faults: &mut Vec<Reason>) {
    match kind {
        EventKind::Track | EventKind::Unspecified => match json.get("event") {
            None | Some(Value::Null) => {}
            Some(value) => match text(value) {
                Some(name) => event.name = name,
                None => faults.push(reason(ReasonCode::Unreadable, "name", "`event` is not text")),
            },
        },
        EventKind::Page | EventKind::Screen => {
            "df_view_home".clone_into(&mut event.name);
            let own = json.get("name").or_else(|| json.get("event")).and_then(text).filter(|name| !name.is_empty());
            let context = event.context.get_or_insert_default();
            for (field, target) in [("path", &mut context.page_path), ("url", &mut context.page_url), ("title", &mut context.page_title)] {
                if kind == EventKind::Page
                    && target.is_empty()
                    && let Some(text) = properties.get(field).and_then(text)
                {
                    *target = text;
                }
            }
            if let Some(own) = own {
                if kind == EventKind::Screen {
                    context.screen_name.clone_from(&own);
                }
                properties.entry("name").or_insert(Value::String(own));
            }
        }
        EventKind::Identify | EventKind::Group | EventKind::Alias => {}
    }
}

/// Person's traits: those of an identify call over those of the context. In a group call the event's own are the account's.
fn traits(kind: EventKind, own: Map<String, Value>, of_context: Map<String, Value>, event: &mut Event) {
    let mut traits = if kind == EventKind::Group {
        own
    } else {
        let mut merged = of_context;
        merged.extend(own);
        merged
    };
    if kind == EventKind::Identify {
        if let Some(email) = traits.get("email").and_then(Value::as_str) {
            identify(event, "email", email.trim());
        }
        if let Some(phone) = traits.get("phone").and_then(text) {
            // Digits with the country code: what stands between them is for the eye.
            identify(event, "phone", &phone.chars().filter(char::is_ascii_digit).collect::<String>());
        }
    }
    if kind != EventKind::Group {
        for (theirs, ours) in [("name", "df_name"), ("gender", "df_gender"), ("birthday", "df_birth")] {
            if !traits.contains_key(ours)
                && let Some(text) = traits.get(theirs).and_then(text)
            {
                traits.insert(ours.to_owned(), Value::String(text));
                traits.remove(theirs);
            }
        }
    }
    event.traits = traits
        .into_iter()
        .filter_map(|(name, value): (String, Value)| Some((name, typed(value)?)))
        .collect::<std::collections::HashMap<String, Typed>>();
}

fn identify(event: &mut Event, kind: &str, value: &str) {
    if !value.is_empty() && !event.identifiers.iter().any(|known| known.kind == kind) {
        event.identifiers.push(Identifier { kind: kind.to_owned(), value: value.to_owned() });
    }
}
