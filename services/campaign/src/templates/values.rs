//! What templates see: values from elsewhere as JSON, and JSON as MiniJinja has it.

use minijinja::Value;
use serde_json::{Map, Value as Json};

use crate::flow::machine::json_of;
use crate::persons::Profile;

/// `person` as templates see it. What is not known is left out, so that it counts as missing.
pub(crate) fn person_values(profile: &Profile) -> Json {
    let traits: Map<String, Json> = profile.traits.iter().map(|(name, value)| (name.clone(), json_of(value))).collect();
    let mut identifiers = Map::new();
    // The latest come first.
    for (_, kind, value) in &profile.identifiers {
        identifiers.entry(kind.clone()).or_insert_with(|| Json::from(value.as_str()));
    }
    let mut person = Map::new();
    person.insert("number".to_owned(), profile.number.into());
    person.insert("id".to_owned(), profile.id.as_str().into());
    person.insert("traits".to_owned(), traits.into());
    person.insert("identifiers".to_owned(), identifiers.into());
    person.extend(profile.locale().map(|locale| ("locale".to_owned(), locale.into())));
    person.extend(profile.time_zone().map(|zone| ("time_zone".to_owned(), zone.name().into())));
    person.into()
}

/// JSON as MiniJinja has it. What is null is missing: nobody wants `none` in a message.
pub(super) fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::UNDEFINED,
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => number.as_f64().map_or(Value::UNDEFINED, Value::from),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value_of).collect(),
        Json::Object(members) => {
            Value::from_pairs(members.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.as_str(), value_of(value))))
        }
    }
}

/// A message's free values as JSON; whole numbers are whole.
pub(super) fn json_of_struct(fields: prost_types::Struct) -> Map<String, Json> {
    fields.fields.into_iter().map(|(name, value)| (name, json_of_free(value))).collect()
}

fn json_of_free(value: prost_types::Value) -> Json {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 9e15 => Json::from(number as i64),
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::BoolValue(flag)) => flag.into(),
        Some(Kind::StructValue(fields)) => json_of_struct(fields).into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json_of_free).collect(),
    }
}

/// Puts further values over others, objects member by member.
pub(super) fn put_over(values: &mut Map<String, Json>, over: Map<String, Json>) {
    for (name, value) in over {
        match (values.get_mut(&name), value) {
            (Some(Json::Object(under)), Json::Object(value)) => put_over(under, value),
            (_, value) => {
                values.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use segue_proto::events::v1::Value as Held;
    use segue_proto::events::v1::value::Kind;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_is_seen_with_what_is_known() {
        let held = |kind| Held { kind: Some(kind) };
        let text = |text: &str| held(Kind::StringValue(text.to_owned()));
        let traits = BTreeMap::from([
            ("df_locale".to_owned(), text("ko-KR")),
            ("df_time_zone".to_owned(), text("Asia/Seoul")),
            ("points".to_owned(), held(Kind::DecimalE4Value(15_000))),
            ("visits".to_owned(), held(Kind::DecimalE4Value(20_000))),
            ("since".to_owned(), held(Kind::TimestampValue(prost_types::Timestamp { seconds: 1_767_312_000, nanos: 0 }))),
            ("tags".to_owned(), held(Kind::JsonValue("[\"a\"]".to_owned()))),
        ]);
        let identifiers = vec![
            (9, "email".to_owned(), "new@shop.example".to_owned()),
            (3, "email".to_owned(), "old@shop.example".to_owned()),
            (1, "phone".to_owned(), "+821012345678".to_owned()),
        ];
        let person = Profile { number: 7, id: "p7".to_owned(), traits, identifiers, ..Profile::default() };
        let expected = json!({
            "number": 7,
            "id": "p7",
            "traits": {
                "df_locale": "ko-KR", "df_time_zone": "Asia/Seoul", "points": 1.5, "visits": 2, "since": "2026-01-02T00:00:00Z",
                "tags": ["a"],
            },
            "identifiers": { "email": "new@shop.example", "phone": "+821012345678" },
            "locale": "ko-KR",
            "time_zone": "Asia/Seoul",
        });
        assert_eq!(person_values(&person), expected);
        let unknown = person_values(&Profile::default());
        assert_eq!((unknown.get("locale"), unknown.get("time_zone")), (None, None));
    }

    #[test]
    fn further_values_go_over_those_there_are() {
        let object = |json: Json| json.as_object().cloned().expect("an object");
        let mut values = object(json!({ "person": { "id": "a", "traits": { "x": 1, "y": 2 } } }));
        put_over(&mut values, object(json!({ "person": { "traits": { "y": 3 } }, "event": { "name": "e" } })));
        assert_eq!(Json::from(values), json!({ "person": { "id": "a", "traits": { "x": 1, "y": 3 } }, "event": { "name": "e" } }));
    }
}
