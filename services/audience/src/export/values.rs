//! Values of traits as text and as JSON.

use segue_model::Decimal4;
use segue_proto::events::v1::{Value, value::Kind};
use serde::de::IgnoredAny;

/// A value as text: numbers in full, decimals with four places, moments as RFC 3339.
pub(super) fn text(value: &Value) -> String {
    match &value.kind {
        None => String::new(),
        Some(Kind::StringValue(text) | Kind::JsonValue(text)) => text.clone(),
        Some(Kind::IntValue(number)) => number.to_string(),
        Some(Kind::DoubleValue(number)) => number.to_string(),
        Some(Kind::BoolValue(truth)) => truth.to_string(),
        Some(Kind::DecimalE4Value(e4)) => Decimal4(*e4).to_string(),
        Some(Kind::TimestampValue(time)) => rfc3339(time),
    }
}

/// A value as JSON on one line: numbers as numbers (what JSON has no number for, as text), moments as text.
pub(super) fn json(value: &Value, out: &mut String) {
    match &value.kind {
        None => out.push_str("null"),
        Some(Kind::IntValue(_) | Kind::BoolValue(_) | Kind::DecimalE4Value(_)) => out.push_str(&text(value)),
        Some(Kind::DoubleValue(number)) if number.is_finite() => out.push_str(&text(value)),
        Some(Kind::JsonValue(json)) if serde_json::from_str::<IgnoredAny>(json).is_ok() => {
            // Within JSON's texts line breaks are escaped, so that these are mere space.
            out.extend(json.chars().map(|letter| if matches!(letter, '\n' | '\r') { ' ' } else { letter }));
        }
        Some(Kind::StringValue(_) | Kind::DoubleValue(_) | Kind::TimestampValue(_) | Kind::JsonValue(_)) => string(&text(value), out),
    }
}

/// A text as JSON.
pub(super) fn string(text: &str, out: &mut String) {
    // Writing a text to memory cannot fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn rfc3339(time: &prost_types::Timestamp) -> String {
    let moment = u32::try_from(time.nanos).ok().and_then(|nanos| chrono::DateTime::from_timestamp(time.seconds, nanos));
    // Beyond the years that are written with four digits and then some, the seconds say it.
    moment.map_or_else(|| time.seconds.to_string(), |moment| moment.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(kind: Kind) -> (String, String) {
        let value = Value { kind: Some(kind) };
        let mut out = String::new();
        json(&value, &mut out);
        (text(&value), out)
    }

    #[test]
    fn values_are_written_in_full_and_as_json_on_one_line() {
        let pair = |text: &str, json: &str| (text.to_owned(), json.to_owned());
        assert_eq!(both(Kind::StringValue("a \"b\"\n가".to_owned())), pair("a \"b\"\n가", r#""a \"b\"\n가""#));
        assert_eq!(both(Kind::IntValue(i64::MIN)), pair("-9223372036854775808", "-9223372036854775808"));
        assert_eq!(both(Kind::DoubleValue(0.1)), pair("0.1", "0.1"));
        assert_eq!(both(Kind::DoubleValue(f64::NAN)), pair("NaN", r#""NaN""#));
        assert_eq!(both(Kind::BoolValue(true)), pair("true", "true"));
        assert_eq!(both(Kind::DecimalE4Value(-125_000)), pair("-12.5000", "-12.5000"));
        let time = prost_types::Timestamp { seconds: 1_748_426_400, nanos: 500_000_000 };
        assert_eq!(both(Kind::TimestampValue(time)), pair("2025-05-28T10:00:00.500Z", r#""2025-05-28T10:00:00.500Z""#));
        assert_eq!(both(Kind::JsonValue("{\n\"a\":1.50}".to_owned())), pair("{\n\"a\":1.50}", "{ \"a\":1.50}"));
        assert_eq!(both(Kind::JsonValue("{oops".to_owned())), pair("{oops", "\"{oops\""));
    }
}
