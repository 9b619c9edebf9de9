//! The `context` of Segment's and RudderStack's events as ours. What has no field of its own is kept as a property named
//! `context_<field>` or `context_<object>_<field>`, as these products name it in warehouses.

use segue_proto::events::v1::{Context, Identifier, Value as Typed};
use serde_json::{Map, Value};

use super::value::{text, typed};

/// What a context says.
#[derive(Default)]
pub(super) struct Read {
    pub(super) context: Context,
    /// Identifiers of the device.
    pub(super) identifiers: Vec<Identifier>,
    /// Traits of the person.
    pub(super) traits: Map<String, Value>,
    /// What has no field of its own.
    pub(super) rest: Vec<(String, Typed)>,
}

pub(super) fn read(mut json: Map<String, Value>) -> Read {
    let mut read = Read::default();
    if let Some(traits) = take_object(&mut json, "traits") {
        read.traits = traits;
    }
    let has_page = json.get("page").is_some_and(Value::is_object);
    let has_app = json.get("app").is_some_and(Value::is_object) && json.get("device").is_some_and(Value::is_object);
    page(&mut json, &mut read);
    campaign(&mut json, &mut read);
    device(&mut json, &mut read);
    network(&mut json, &mut read);

    let context = &mut read.context;
    let rest = &mut read.rest;
    fields(&mut json, "os", rest, |field, value| match field {
        "name" => set(&mut context.os_name, value),
        "version" => set(&mut context.os_version, value),
        _ => false,
    });
    fields(&mut json, "app", rest, |field, value| field == "version" && set(&mut context.app_version, value));
    fields(&mut json, "screen", rest, |field, value| field == "name" && set(&mut context.screen_name, value));
    if let Some(library) = json.get("library").and_then(Value::as_object) {
        let part = |name: &str| library.get(name).and_then(text).unwrap_or_default();
        context.sdk_version = format!("{}/{}", part("name"), part("version"));
        json.remove("library");
    }
    for (field, target) in [
        ("userAgent", &mut context.user_agent),
        ("ip", &mut context.ip),
        ("groupId", &mut context.account_id),
        ("sessionId", &mut context.session_id),
        ("locale", &mut context.device_language),
    ] {
        if json.get(field).is_some_and(|value| set(target, value)) {
            json.remove(field);
        }
    }
    let is_zone = |value: &Value| value.as_str().is_some_and(|name| name.parse::<chrono_tz::Tz>().is_ok());
    if json.get("timezone").is_some_and(|value| is_zone(value) && set(&mut context.time_zone, value)) {
        json.remove("timezone");
    }
    // `ko-KR`, `en_US`: a region of two letters behind the language.
    let region = context.device_language.rsplit(['-', '_']).next().filter(|region| region.len() == 2 && context.device_language.len() > 2);
    context.device_country = region.map(str::to_ascii_uppercase).unwrap_or_default();
    context.source_type = source_type(has_page, has_app, &context.sdk_version).to_owned();
    if context.platform.is_empty() && context.source_type != "app" {
        context.platform.clone_from(&context.source_type);
    }
    for (field, value) in json {
        keep(rest, format!("context_{field}"), value);
    }
    read
}

/// Where an event came from, as far as its context shows it.
fn source_type(has_page: bool, has_app: bool, library: &str) -> &'static str {
    if has_page {
        "web"
    } else if has_app {
        "app"
    } else if library.is_empty() {
        ""
    } else {
        "server"
    }
}

fn page(json: &mut Map<String, Value>, read: &mut Read) {
    let context = &mut read.context;
    fields(json, "page", &mut read.rest, |field, value| match field {
        "url" => set(&mut context.page_url, value),
        "path" => set(&mut context.page_path, value),
        "title" => set(&mut context.page_title, value),
        // RudderStack's word for "none".
        "referrer" if value.as_str() == Some("$direct") => true,
        "referrer" => set(&mut context.referrer, value),
        _ => false,
    });
}

fn campaign(json: &mut Map<String, Value>, read: &mut Read) {
    let context = &mut read.context;
    fields(json, "campaign", &mut read.rest, |field, value| match field {
        "name" => set(&mut context.utm_campaign, value),
        "source" => set(&mut context.utm_source, value),
        "medium" => set(&mut context.utm_medium, value),
        "term" => set(&mut context.utm_term, value),
        "content" => set(&mut context.utm_content, value),
        _ => false,
    });
}

fn device(json: &mut Map<String, Value>, read: &mut Read) {
    let (context, identifiers) = (&mut read.context, &mut read.identifiers);
    let mut identifier = |kind: &str, value: &Value| {
        let Some(value) = text(value).filter(|value| !value.is_empty()) else { return false };
        identifiers.push(Identifier { kind: kind.to_owned(), value });
        true
    };
    fields(json, "device", &mut read.rest, |field, value| match field {
        "id" => identifier("device_id", value),
        "advertisingId" => identifier("advertising_id", value),
        "token" => identifier("push_token", value),
        "manufacturer" => set(&mut context.device_manufacturer, value),
        "model" => set(&mut context.device_model, value),
        "type" => {
            let known = set(&mut context.platform, value);
            context.platform.make_ascii_lowercase();
            known
        }
        _ => false,
    });
}

fn network(json: &mut Map<String, Value>, read: &mut Read) {
    let context = &mut read.context;
    fields(json, "network", &mut read.rest, |field, value| match (field, value) {
        ("carrier", value) => set(&mut context.carrier, value),
        ("wifi", Value::Bool(true)) => {
            "wifi".clone_into(&mut context.network_type);
            true
        }
        ("cellular", Value::Bool(true)) => {
            // Both may be on; traffic then goes over wifi.
            if context.network_type.is_empty() {
                "cellular".clone_into(&mut context.network_type);
            }
            true
        }
        ("wifi" | "cellular", Value::Bool(false)) => true,
        _ => false,
    });
}

/// Takes an object apart: `take` says whether it understood a field; the others are kept. Anything but an object stays.
fn fields(json: &mut Map<String, Value>, name: &str, rest: &mut Vec<(String, Typed)>, mut take: impl FnMut(&str, &Value) -> bool) {
    let Some(object) = take_object(json, name) else { return };
    for (field, value) in object {
        if !value.is_null() && !take(&field, &value) {
            keep(rest, format!("context_{name}_{field}"), value);
        }
    }
}

fn take_object(json: &mut Map<String, Value>, name: &str) -> Option<Map<String, Value>> {
    if !json.get(name)?.is_object() {
        return None;
    }
    match json.remove(name) {
        Some(Value::Object(object)) => Some(object),
        Some(_) | None => None,
    }
}

/// Sets a text field; false when the value is no text.
fn set(field: &mut String, value: &Value) -> bool {
    match text(value) {
        Some(text) => {
            *field = text;
            true
        }
        None => value.is_null(),
    }
}

fn keep(rest: &mut Vec<(String, Typed)>, name: String, value: Value) {
    if let Some(value) = typed(value) {
        rest.push((name, value));
    }
}
