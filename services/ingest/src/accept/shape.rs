//! Shape and limits of an event, the same for every tenant: see events.proto, whose comments are the contract.

use segue_model::dimension;
use segue_proto::events::v1::{Context, Event, EventKind, Item};
use segue_proto::ingest::v1::{Reason, ReasonCode};

use super::{reason, who};

/// Longest name of an event, property or trait, in characters.
pub const NAME_CHARS_MAX: usize = 128;
/// Most properties of an event, of an item, and traits.
pub const PROPERTIES_MAX: usize = 100;
/// Most items.
pub const ITEMS_MAX: usize = 100;
/// Most identifiers.
pub const IDENTIFIERS_MAX: usize = 20;
/// Longest text, where the taxonomy does not allow a longer one.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// Longest message id and source.
pub const ID_BYTES_MAX: usize = 128;
/// Longest address and user agent: real ones with campaign parameters go beyond a text's limit.
const ADDRESS_BYTES_MAX: usize = 8_192;
const CATEGORIES_MAX: usize = 5;
/// Under this name analytics keeps traits beside events (`segue_analytics::scan::TRAITS`).
const TRAITS_NAME: &str = "$traits";

/// A message id is what duplicates are found by, so a faulty one cannot be kept.
pub(super) fn message_id(id: &str) -> Option<Reason> {
    if id.len() > ID_BYTES_MAX {
        return Some(reason(ReasonCode::TooLong, "message_id", format!("{} bytes: use at most {ID_BYTES_MAX}", id.len())));
    }
    has_controls(id).then(|| reason(ReasonCode::InvalidValue, "message_id", "contains control characters"))
}

pub(super) fn check(event: &mut Event, faults: &mut Vec<Reason>) {
    kind_and_name(event, faults);
    identifiers(event, faults);
    count(faults, "properties", event.properties.len(), PROPERTIES_MAX);
    count(faults, "items", event.items.len(), ITEMS_MAX);
    count(faults, "traits", event.traits.len(), PROPERTIES_MAX);
    for name in event.properties.keys() {
        property_name(faults, name, || format!("properties.{}", shown(name)));
    }
    for name in event.traits.keys() {
        property_name(faults, name, || format!("traits.{}", shown(name)));
    }
    for (at, item) in event.items.iter().enumerate().take(ITEMS_MAX) {
        check_item(item, at, faults);
    }
    if let Some(context) = &event.context {
        check_context(context, faults);
    }
    if event.source.len() > ID_BYTES_MAX {
        faults.push(reason(ReasonCode::TooLong, "source", format!("{} bytes: use at most {ID_BYTES_MAX}", event.source.len())));
    } else if has_controls(&event.source) {
        faults.push(reason(ReasonCode::InvalidValue, "source", "contains control characters"));
    }
}

fn kind_and_name(event: &mut Event, faults: &mut Vec<Reason>) {
    match EventKind::try_from(event.kind) {
        Ok(EventKind::Unspecified) => event.kind = EventKind::Track.into(),
        Ok(EventKind::Track | EventKind::Identify) => {}
        Ok(EventKind::Page | EventKind::Screen) => {
            if event.name.is_empty() {
                event.name.push_str("df_view_home");
            }
        }
        Ok(EventKind::Group) => {
            if event.context.as_ref().is_none_or(|context| context.account_id.is_empty()) {
                faults.push(reason(ReasonCode::MissingField, "context.account_id", "a GROUP event names the account it is about"));
            }
        }
        Ok(EventKind::Alias) => alias(event, faults),
        Err(_) => faults.push(reason(ReasonCode::InvalidValue, "kind", format!("there is no kind {}", event.kind))),
    }
    let named = [EventKind::Identify, EventKind::Group, EventKind::Alias].iter().any(|kind| event.kind == i32::from(*kind));
    if event.name.is_empty() {
        // A reader that could not read the name has said so already.
        if !named && !faults.iter().any(|fault| fault.field == "name") {
            faults.push(reason(ReasonCode::MissingField, "name", "the event has no name"));
        }
    } else if too_many_chars(&event.name) {
        faults.push(reason(ReasonCode::TooLong, "name", format!("longer than {NAME_CHARS_MAX} characters")));
    } else if has_controls(&event.name) || event.name.trim().is_empty() {
        faults.push(reason(ReasonCode::InvalidValue, "name", "consists of blanks or contains control characters"));
    } else if event.name == TRAITS_NAME {
        faults.push(reason(
            ReasonCode::InvalidValue,
            "name",
            format!("`{TRAITS_NAME}` is reserved: send traits with any event, or as IDENTIFY"),
        ));
    }
}

fn alias(event: &Event, faults: &mut Vec<Reason>) {
    if event.previous_id.is_empty() {
        faults.push(reason(ReasonCode::MissingField, "previous_id", "an ALIAS event names the identifier that user_id also is"));
    } else if event.previous_id.len() > who::VALUE_BYTES_MAX {
        faults.push(reason(ReasonCode::TooLong, "previous_id", format!("use at most {} bytes", who::VALUE_BYTES_MAX)));
    } else if !who::names_somebody(&event.previous_id) || has_controls(&event.previous_id) {
        faults.push(reason(ReasonCode::InvalidValue, "previous_id", "names nobody"));
    }
}

/// Drops identifiers that name nobody; one that does must be left.
fn identifiers(event: &mut Event, faults: &mut Vec<Reason>) {
    count(faults, "identifiers", event.identifiers.len(), IDENTIFIERS_MAX);
    for (at, identifier) in event.identifiers.iter().enumerate().take(IDENTIFIERS_MAX) {
        if !who::is_kind(&identifier.kind) {
            let message = "a kind is 1 to 64 characters of a-z, 0-9 and _";
            faults.push(reason(ReasonCode::InvalidValue, format!("identifiers[{at}].kind"), message));
        }
        if identifier.value.len() > who::VALUE_BYTES_MAX {
            let message = format!("{} bytes: use at most {}", identifier.value.len(), who::VALUE_BYTES_MAX);
            faults.push(reason(ReasonCode::TooLong, format!("identifiers[{at}].value"), message));
        } else if has_controls(&identifier.value) {
            faults.push(reason(ReasonCode::InvalidValue, format!("identifiers[{at}].value"), "contains control characters"));
        }
    }
    event.identifiers.retain(|identifier| who::names_somebody(&identifier.value));
    if event.identifiers.is_empty() && !faults.iter().any(|fault| fault.field.starts_with("identifiers")) {
        let message = "no identifier names somebody: send a user id, an anonymous id or another identifier";
        faults.push(reason(ReasonCode::MissingIdentifier, "identifiers", message));
    }
    let user = || event.identifiers.iter().any(|identifier| identifier.kind == "user_id");
    if event.kind == i32::from(EventKind::Alias) && !event.identifiers.is_empty() && !user() {
        faults.push(reason(ReasonCode::MissingIdentifier, "identifiers", "an ALIAS event needs a user_id"));
    }
}

fn check_item(item: &Item, at: usize, faults: &mut Vec<Reason>) {
    for (field, value) in
        [("item_id", &item.item_id), ("name", &item.name), ("brand", &item.brand), ("variant", &item.variant), ("coupon", &item.coupon)]
    {
        text(faults, value, TEXT_BYTES_MAX, || format!("items[{at}].{field}"));
    }
    if item.categories.len() > CATEGORIES_MAX {
        let message = format!("{} categories: send at most {CATEGORIES_MAX}", item.categories.len());
        faults.push(reason(ReasonCode::TooMany, format!("items[{at}].categories"), message));
    }
    for (n, category) in item.categories.iter().enumerate().take(CATEGORIES_MAX) {
        text(faults, category, TEXT_BYTES_MAX, || format!("items[{at}].categories[{n}]"));
    }
    if item.properties.len() > PROPERTIES_MAX {
        let message = format!("{} properties: send at most {PROPERTIES_MAX}", item.properties.len());
        faults.push(reason(ReasonCode::TooMany, format!("items[{at}].properties"), message));
    }
    for name in item.properties.keys() {
        property_name(faults, name, || format!("items[{at}].properties.{}", shown(name)));
    }
}

fn check_context(context: &Context, faults: &mut Vec<Reason>) {
    let texts = [
        ("platform", &context.platform),
        ("source_type", &context.source_type),
        ("app_version", &context.app_version),
        ("os_name", &context.os_name),
        ("os_version", &context.os_version),
        ("device_model", &context.device_model),
        ("device_manufacturer", &context.device_manufacturer),
        ("device_category", &context.device_category),
        ("carrier", &context.carrier),
        ("network_type", &context.network_type),
        ("sdk_version", &context.sdk_version),
        ("device_language", &context.device_language),
        ("device_country", &context.device_country),
        ("browser", &context.browser),
        ("ip", &context.ip),
        ("page_title", &context.page_title),
        ("screen_name", &context.screen_name),
        ("utm_source", &context.utm_source),
        ("utm_medium", &context.utm_medium),
        ("utm_campaign", &context.utm_campaign),
        ("utm_term", &context.utm_term),
        ("utm_content", &context.utm_content),
        ("session_id", &context.session_id),
        ("account_id", &context.account_id),
        ("time_zone", &context.time_zone),
    ];
    for (field, value) in texts {
        text(faults, value, TEXT_BYTES_MAX, || format!("context.{field}"));
    }
    let addresses = [
        ("user_agent", &context.user_agent),
        ("page_url", &context.page_url),
        ("page_path", &context.page_path),
        ("referrer", &context.referrer),
    ];
    for (field, value) in addresses {
        text(faults, value, ADDRESS_BYTES_MAX, || format!("context.{field}"));
    }
    for (name, value) in &context.dimensions {
        if dimension::by_name(name).is_none() {
            let message = "there is no such dimension: see ListDimensions, or send it as a property";
            faults.push(reason(ReasonCode::InvalidValue, format!("context.dimensions.{}", shown(name)), message));
        }
        text(faults, value, TEXT_BYTES_MAX, || format!("context.dimensions.{}", shown(name)));
    }
}

fn count(faults: &mut Vec<Reason>, field: &str, found: usize, most: usize) {
    if found > most {
        faults.push(reason(ReasonCode::TooMany, field, format!("{found} {field}: send at most {most}")));
    }
}

fn text(faults: &mut Vec<Reason>, value: &str, bytes_max: usize, path: impl FnOnce() -> String) {
    if value.len() > bytes_max {
        faults.push(reason(ReasonCode::TooLong, path(), format!("{} bytes: use at most {bytes_max}", value.len())));
    }
}

fn property_name(faults: &mut Vec<Reason>, name: &str, path: impl FnOnce() -> String) {
    if name.is_empty() {
        faults.push(reason(ReasonCode::MissingField, path(), "the property has no name"));
    } else if too_many_chars(name) {
        faults.push(reason(ReasonCode::TooLong, path(), format!("the name is longer than {NAME_CHARS_MAX} characters")));
    } else if has_controls(name) {
        faults.push(reason(ReasonCode::InvalidValue, path(), "the name contains control characters"));
    }
}

fn too_many_chars(name: &str) -> bool {
    name.len() > NAME_CHARS_MAX && name.chars().count() > NAME_CHARS_MAX
}

/// Control characters in names and ids are never meant, and databases refuse some of them.
fn has_controls(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_control())
}

/// A name as part of a path: short, and without control characters.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
