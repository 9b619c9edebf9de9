//! Values as JSON text, without loss: how unregistered properties and the custom properties of items are stored in map columns.
//!
//! | value | text |
//! |---|---|
//! | string | `"text"` |
//! | int | `12` |
//! | double | always with an exponent: `1.25e1` (not finite: `{"$double":"NaN"}`) |
//! | bool | `true` |
//! | decimal | always with four places: `12.5000` |
//! | timestamp | `{"$time_us":1700000000000000}` |
//! | JSON | as it came |

use std::fmt::Write;

use segue_model::Decimal4;
use segue_proto::events::v1::{Value, value::Kind};

const TIME_PREFIX: &str = "{\"$time_us\":";
const DOUBLE_PREFIX: &str = "{\"$double\":\"";

/// Writes a value; nothing for an unset one.
pub fn encode_value(value: &Value, out: &mut String) {
    match &value.kind {
        None => {}
        Some(Kind::StringValue(text)) => encode_text(text, out),
        Some(Kind::IntValue(number)) => push(out, format_args!("{number}")),
        Some(Kind::DoubleValue(number)) if number.is_finite() => push(out, format_args!("{number:e}")),
        Some(Kind::DoubleValue(number)) => push(out, format_args!("{DOUBLE_PREFIX}{number}\"}}")),
        Some(Kind::BoolValue(truth)) => push(out, format_args!("{truth}")),
        Some(Kind::DecimalE4Value(e4)) => push(out, format_args!("{}", Decimal4(*e4))),
        Some(Kind::TimestampValue(time)) => push(out, format_args!("{TIME_PREFIX}{}}}", timestamp_us(time))),
        Some(Kind::JsonValue(json)) => out.push_str(json),
    }
}

/// Reads what [`encode_value`] wrote; `None` when the text is not that.
pub fn decode_value(text: &str) -> Option<Value> {
    let kind = match text.as_bytes().first()? {
        b'"' => Kind::StringValue(serde_json::from_str(text).ok()?),
        b't' if text == "true" => Kind::BoolValue(true),
        b'f' if text == "false" => Kind::BoolValue(false),
        b'-' | b'0'..=b'9' if text.contains('e') => Kind::DoubleValue(text.parse().ok()?),
        b'-' | b'0'..=b'9' if text.contains('.') => Kind::DecimalE4Value(text.parse::<Decimal4>().ok()?.0),
        b'-' | b'0'..=b'9' => Kind::IntValue(text.parse().ok()?),
        _ => match (text.strip_prefix(TIME_PREFIX), text.strip_prefix(DOUBLE_PREFIX)) {
            (Some(rest), _) => Kind::TimestampValue(timestamp_of(rest.strip_suffix('}')?.parse().ok()?)),
            (None, Some(rest)) => Kind::DoubleValue(rest.strip_suffix("\"}")?.parse().ok()?),
            (None, None) => Kind::JsonValue(text.to_owned()),
        },
    };
    Some(Value { kind: Some(kind) })
}

/// Microseconds of a timestamp, cut to what 64 bits hold.
pub(crate) fn timestamp_us(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1_000))
}

/// The timestamp of so many microseconds.
pub(crate) fn timestamp_of(us: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1_000) as i32 }
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(arguments);
}

fn encode_text(text: &str, out: &mut String) {
    out.push('"');
    let mut clean = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[clean..at]);
        if escape.is_empty() {
            push(out, format_args!("\\u{byte:04x}"));
        } else {
            out.push_str(escape);
        }
        clean = at + 1;
    }
    out.push_str(&text[clean..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_comes_back_as_it_was() {
        for kind in [
            Kind::StringValue(String::new()),
            Kind::StringValue("a \"b\" \\ \n \u{1} 가".to_owned()),
            Kind::IntValue(i64::MIN),
            Kind::DoubleValue(12.5),
            Kind::DoubleValue(0.0),
            Kind::DoubleValue(-1e300),
            Kind::DoubleValue(f64::INFINITY),
            Kind::BoolValue(true),
            Kind::DecimalE4Value(-1),
            Kind::DecimalE4Value(125_000),
            Kind::TimestampValue(timestamp_of(-1)),
            Kind::JsonValue("[1,{\"a\":2}]".to_owned()),
        ] {
            let value = Value { kind: Some(kind) };
            let mut text = String::new();
            encode_value(&value, &mut text);
            assert_eq!(decode_value(&text), Some(value), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        }
    }
}
