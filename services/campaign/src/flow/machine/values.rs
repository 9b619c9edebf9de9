//! Events and values as templates see them.

use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{Item, ResolvedEvent, Value};
use serde_json::{Map, Number, Value as Json};

use super::Entered;

/// An event as `Entered` (and templates) see it.
pub(crate) fn entered_by(event: &ResolvedEvent) -> Entered {
    // Those of the taxonomy win.
    let properties = event.unregistered.iter().chain(&event.properties).filter(|(_, value)| value.kind.is_some());
    Entered {
        name: event.name.clone(),
        time_us: event.time_us,
        message_id: event.message_id.clone(),
        properties: properties.map(|(name, value)| (name.clone(), json_of(value))).collect(),
        items: event.items.iter().map(|item| Json::Object(json_of_item(item))).collect(),
    }
}

/// A value as templates see it: decimals as numbers, times as RFC 3339.
pub(crate) fn json_of(value: &Value) -> Json {
    match &value.kind {
        None => Json::Null,
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::IntValue(number)) => Json::from(*number),
        Some(Kind::BoolValue(truth)) => Json::Bool(*truth),
        // Read back, so that it is written as it will be when it was stored.
        Some(Kind::DoubleValue(number)) => {
            let text = Number::from_f64(*number).map(|number| number.to_string());
            text.and_then(|text| text.parse().ok()).map_or(Json::Null, Json::Number)
        }
        Some(kind @ Kind::DecimalE4Value(_)) => segue_query::value_text(kind).parse().map_or(Json::Null, Json::Number),
        Some(kind @ Kind::TimestampValue(_)) => Json::String(segue_query::value_text(kind)),
        Some(Kind::JsonValue(text)) => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone())),
    }
}

/// Further properties stand beside those that every item may have, which win.
fn json_of_item(item: &Item) -> Map<String, Json> {
    let mut json: Map<String, Json> =
        item.properties.iter().filter(|(_, value)| value.kind.is_some()).map(|(name, value)| (name.clone(), json_of(value))).collect();
    let texts = [
        ("item_id", &item.item_id),
        ("name", &item.name),
        // As filters call it.
        ("item_name", &item.name),
        ("brand", &item.brand),
        ("variant", &item.variant),
        ("coupon", &item.coupon),
    ];
    for (name, text) in texts {
        if !text.is_empty() {
            json.insert(name.to_owned(), Json::String(text.clone()));
        }
    }
    let decimals = [("price", item.price_e4), ("discount", item.discount_e4)];
    for (name, e4) in decimals {
        if let Some(e4) = e4 {
            json.insert(name.to_owned(), json_of(&Value { kind: Some(Kind::DecimalE4Value(e4)) }));
        }
    }
    if let Some(quantity) = item.quantity {
        json.insert("quantity".to_owned(), Json::from(quantity));
    }
    json.insert("categories".to_owned(), item.categories.iter().cloned().map(Json::String).collect());
    json
}
