//! Bringing a value to the type of its property, where nothing is lost by it.

use segue_model::Decimal4;
use segue_model::catalogue::ValueType;
use segue_proto::events::v1::Value;
use segue_proto::events::v1::value::Kind;

use crate::accept::time::timestamp;

/// Whole numbers up to here are exact as floating point.
const DOUBLE_EXACT_MAX: u64 = 1 << 53;

/// What became of a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Coerced {
    /// It has the type now (an empty value fits every type; it is refused elsewhere).
    Fits,
    /// It has another type and was left as it is.
    Mismatch(String),
}

/// Brings `value` to `value_type`: a whole number to a floating one (up to 2^53) or to a decimal, a number to a decimal when
/// four places hold it exactly, text of RFC 3339 to a moment. Nothing else: text never becomes a number by itself.
pub fn to_type(value: &mut Value, value_type: ValueType) -> Coerced {
    let Some(kind) = &value.kind else { return Coerced::Fits };
    let new = match (kind, value_type) {
        (Kind::StringValue(_), ValueType::String)
        | (Kind::IntValue(_), ValueType::Int)
        | (Kind::DoubleValue(_), ValueType::Double)
        | (Kind::BoolValue(_), ValueType::Bool)
        | (Kind::DecimalE4Value(_), ValueType::Decimal)
        | (Kind::TimestampValue(_), ValueType::Timestamp)
        | (Kind::JsonValue(_), ValueType::Json) => return Coerced::Fits,
        (Kind::IntValue(whole), ValueType::Double) if whole.unsigned_abs() <= DOUBLE_EXACT_MAX => Ok(Kind::DoubleValue(*whole as f64)),
        (Kind::IntValue(_), ValueType::Double) => Err("the number is too large to be exact as a double".to_owned()),
        (Kind::IntValue(whole), ValueType::Decimal) => {
            Decimal4::from_int(*whole).map(|exact| Kind::DecimalE4Value(exact.0)).map_err(|error| error.to_string())
        }
        // The shortest text that stands for the float is what its sender wrote.
        (Kind::DoubleValue(number), ValueType::Decimal) => decimal(&number.to_string()),
        (Kind::JsonValue(text), ValueType::Decimal) if is_number(text) => decimal(text.trim()),
        (Kind::JsonValue(text), ValueType::Double) if is_number(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Kind::DoubleValue(number)),
            Ok(_) | Err(_) => Err("the number is too large".to_owned()),
        },
        (Kind::StringValue(text), ValueType::Timestamp) => match rfc3339_us(text) {
            Some(us) => Ok(Kind::TimestampValue(timestamp(us))),
            None => Err("the text is not a time like 2026-11-22T16:45:10Z".to_owned()),
        },
        (
            Kind::StringValue(_)
            | Kind::IntValue(_)
            | Kind::DoubleValue(_)
            | Kind::BoolValue(_)
            | Kind::DecimalE4Value(_)
            | Kind::TimestampValue(_)
            | Kind::JsonValue(_),
            _,
        ) => Err(format!("is {}", infer(value).name())),
    };
    match new {
        Ok(kind) => {
            value.kind = Some(kind);
            Coerced::Fits
        }
        Err(why) => Coerced::Mismatch(format!("{why}; the property is registered as {}, which never changes", value_type.name())),
    }
}

fn decimal(text: &str) -> Result<Kind, String> {
    text.parse::<Decimal4>().map(|exact| Kind::DecimalE4Value(exact.0)).map_err(|error| error.to_string())
}

/// The type that a property gets from its first value.
pub fn infer(value: &Value) -> ValueType {
    match &value.kind {
        Some(Kind::StringValue(_)) | None => ValueType::String,
        Some(Kind::IntValue(_)) => ValueType::Int,
        Some(Kind::DoubleValue(_)) => ValueType::Double,
        Some(Kind::BoolValue(_)) => ValueType::Bool,
        Some(Kind::DecimalE4Value(_)) => ValueType::Decimal,
        Some(Kind::TimestampValue(_)) => ValueType::Timestamp,
        // A number that came as text because a float does not hold it: with a fraction it is a float all the same, a whole one
        // beyond 64 bits would lose digits and stays as it came.
        Some(Kind::JsonValue(text)) if is_number(text) && text.contains(['.', 'e', 'E']) => ValueType::Double,
        Some(Kind::JsonValue(_)) => ValueType::Json,
    }
}

/// Whether the text is JSON. Reads without building anything, and without recursion.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn is_number(text: &str) -> bool {
    text.trim_start().starts_with(|c: char| c == '-' || c.is_ascii_digit()) && is_json(text)
}

/// Microseconds of a time written as RFC 3339.
pub fn rfc3339_us(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text.trim()).ok().map(|time| time.timestamp_micros())
}

/// Reads a value as another type, as asked for by a correction: text is parsed, numbers are converted where they keep their
/// value, everything can become text. A value that cannot be read stays as it is.
pub fn cast(value: &mut Value, value_type: ValueType) {
    if to_type(value, value_type) == Coerced::Fits {
        return;
    }
    let Some(kind) = &value.kind else { return };
    let text = as_text(kind);
    let trimmed = text.trim();
    let new = match value_type {
        ValueType::String => Some(Kind::StringValue(text)),
        ValueType::Int => whole(trimmed).map(Kind::IntValue),
        ValueType::Double => trimmed.parse::<f64>().ok().filter(|number| number.is_finite()).map(Kind::DoubleValue),
        ValueType::Bool => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "y" => Some(Kind::BoolValue(true)),
            "false" | "0" | "no" | "n" => Some(Kind::BoolValue(false)),
            _ => None,
        },
        ValueType::Decimal => decimal(trimmed).ok(),
        ValueType::Timestamp => rfc3339_us(trimmed).map(|us| Kind::TimestampValue(timestamp(us))),
        ValueType::Json => is_json(trimmed).then(|| Kind::JsonValue(trimmed.to_owned())),
    };
    if let Some(kind) = new {
        value.kind = Some(kind);
    }
}

/// A whole number, also when written with a fraction of zeros (`12.0`).
fn whole(text: &str) -> Option<i64> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole);
    }
    let exact = text.parse::<Decimal4>().ok()?.0;
    (exact % segue_model::decimal::SCALE == 0).then_some(exact / segue_model::decimal::SCALE)
}

fn as_text(kind: &Kind) -> String {
    match kind {
        Kind::StringValue(text) | Kind::JsonValue(text) => text.clone(),
        Kind::IntValue(whole) => whole.to_string(),
        Kind::DoubleValue(number) => number.to_string(),
        Kind::BoolValue(truth) => truth.to_string(),
        Kind::DecimalE4Value(e4) => {
            let text = Decimal4(*e4).to_string();
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Kind::TimestampValue(time) => crate::accept::time::micros(time)
            .and_then(chrono::DateTime::from_timestamp_micros)
            .map_or_else(String::new, |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Kind {
        Kind::StringValue(text.to_owned())
    }

    fn json(text: &str) -> Kind {
        Kind::JsonValue(text.to_owned())
    }

    #[test]
    fn only_lossless_coercions_are_made() {
        let moment = Kind::TimestampValue(timestamp(1_795_000_000_000_000));
        for (from, to, expected) in [
            (Kind::IntValue(7), ValueType::Double, Some(Kind::DoubleValue(7.0))),
            (Kind::IntValue(1 << 53), ValueType::Double, Some(Kind::DoubleValue(9_007_199_254_740_992.0))),
            (Kind::IntValue((1 << 53) + 1), ValueType::Double, None),
            (Kind::IntValue(-7), ValueType::Decimal, Some(Kind::DecimalE4Value(-70_000))),
            (Kind::IntValue(i64::MAX), ValueType::Decimal, None),
            (Kind::DoubleValue(0.1), ValueType::Decimal, Some(Kind::DecimalE4Value(1_000))),
            (Kind::DoubleValue(19.99), ValueType::Decimal, Some(Kind::DecimalE4Value(199_900))),
            (Kind::DoubleValue(0.00001), ValueType::Decimal, None),
            (Kind::DoubleValue(1e300), ValueType::Decimal, None),
            (Kind::DoubleValue(f64::NAN), ValueType::Decimal, None),
            (Kind::DoubleValue(3.0), ValueType::Int, None),
            (json("123456789012345.6789"), ValueType::Decimal, Some(Kind::DecimalE4Value(1_234_567_890_123_456_789))),
            (json("123456789012345.6789"), ValueType::Double, Some(Kind::DoubleValue(123_456_789_012_345.67))),
            (json("[1]"), ValueType::Decimal, None),
            (text("2026-11-18T15:26:40+04:20"), ValueType::Timestamp, Some(moment.clone())),
            (text("yesterday"), ValueType::Timestamp, None),
            (text("12"), ValueType::Int, None),
            (text("12.5"), ValueType::Decimal, None),
            (text("true"), ValueType::Bool, None),
            (Kind::IntValue(1), ValueType::Bool, None),
            (Kind::IntValue(1), ValueType::String, None),
            (moment.clone(), ValueType::Timestamp, Some(moment.clone())),
        ] {
            let mut value = Value { kind: Some(from.clone()) };
            let outcome = to_type(&mut value, to);
            let shown = format!("{from:?} as {to:?}");
            match expected {
                Some(expected) => assert_eq!((outcome, value.kind), (Coerced::Fits, Some(expected)), "{shown}"),
                None => {
                    assert!(matches!(outcome, Coerced::Mismatch(_)), "{shown}");
                    // As text, since NaN differs from itself.
                    assert_eq!(format!("{:?}", value.kind), format!("{:?}", Some(from)), "{shown}");
                }
            }
        }
    }

    #[test]
    fn a_correction_reads_text_as_what_it_says() {
        for (from, to, expected) in [
            (text(" 12 "), ValueType::Int, Kind::IntValue(12)),
            (text("12.0"), ValueType::Int, Kind::IntValue(12)),
            (text("12.5"), ValueType::Int, text("12.5")),
            (text("12.5"), ValueType::Decimal, Kind::DecimalE4Value(125_000)),
            (text("12.5"), ValueType::Double, Kind::DoubleValue(12.5)),
            (text("Yes"), ValueType::Bool, Kind::BoolValue(true)),
            (text("maybe"), ValueType::Bool, text("maybe")),
            (Kind::DoubleValue(3.0), ValueType::Int, Kind::IntValue(3)),
            (Kind::DecimalE4Value(125_000), ValueType::String, text("12.5")),
            (Kind::DecimalE4Value(100_000), ValueType::Int, Kind::IntValue(10)),
            (Kind::IntValue(5), ValueType::String, text("5")),
            (text("[1,2]"), ValueType::Json, json("[1,2]")),
            (text("nan"), ValueType::Double, text("nan")),
        ] {
            let mut value = Value { kind: Some(from) };
            cast(&mut value, to);
            assert_eq!(value.kind, Some(expected));
        }
    }

    #[test]
    fn big_numbers_keep_their_digits_when_inferred() {
        let of = |text: &str| infer(&Value { kind: Some(json(text)) });
        assert_eq!(of("18446744073709551616"), ValueType::Json);
        assert_eq!(of("123456789012345.6789"), ValueType::Double);
        assert_eq!(of("[1.5]"), ValueType::Json);
    }
}
