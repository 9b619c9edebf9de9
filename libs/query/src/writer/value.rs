//! Comparisons, values, spans and times, as text.

use chrono::{DateTime, SecondsFormat};
use prost_types::Timestamp;
use segue_model::decimal::format_e4;
use segue_proto::events::v1::{Value, value};
use segue_proto::query::v1::{Operator, Span, TimeUnit};

use super::Written;
use crate::error::{FormatError, FormatFault};
use crate::names::{ORDERS, UNITS, quoted};
use crate::time::is_moment;

/// The operator that a number stands for.
pub(super) fn operator_of(number: i32) -> Result<Operator, FormatError> {
    Operator::try_from(number).map_err(|_| FormatError::at("operator", FormatFault::Unknown))
}

/// An operator with its values. `is` stands before orders, where a field is compared.
pub(super) fn compared(operator: Operator, values: &[Value], is: &str) -> Written {
    let texts = |how_many: std::ops::RangeInclusive<usize>, wanted| {
        if !how_many.contains(&values.len()) {
            return Err(FormatError::at("values", FormatFault::Values { wanted, given: values.len() }));
        }
        let text = |(at, one)| value(one).map_err(|error: FormatError| error.under(format!("values[{at}]")));
        values.iter().enumerate().map(text).collect::<Result<Vec<String>, FormatError>>()
    };
    let of_several = |phrase: &str, several: &str| {
        let texts = texts(1..=usize::MAX, "at least one value")?;
        Ok(match texts.as_slice() {
            [only] => format!("{phrase} {only}"),
            _ => format!("{phrase} {several} ({})", texts.join(", ")),
        })
    };
    let is_time = matches!(values.first(), Some(Value { kind: Some(value::Kind::TimestampValue(_)) }));
    match operator {
        Operator::Unspecified => Err(FormatError::at("operator", FormatFault::Unset("the operator"))),
        Operator::In => of_several("is", "one of"),
        Operator::NotIn => of_several("is not", "one of"),
        Operator::Contains => of_several("contains", "any of"),
        Operator::NotContains => of_several("does not contain", "any of"),
        Operator::StartsWith => of_several("starts with", "any of"),
        Operator::EndsWith => of_several("ends with", "any of"),
        Operator::Exists => texts(0..=0, "no value").map(|_| "exists".to_owned()),
        Operator::NotExists => texts(0..=0, "no value").map(|_| "does not exist".to_owned()),
        Operator::Between => {
            let texts = texts(2..=2, "two values")?;
            Ok(format!("{is}from {}", texts.join(if is_time { " to before " } else { " to below " })))
        }
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            let texts = texts(1..=1, "one value")?;
            let phrases = ORDERS.iter().find(|(known, _)| *known == operator).map(|(_, phrases)| *phrases).unwrap_or_default();
            // The first phrase is of numbers, the last one of times.
            let phrase = if is_time { phrases.last() } else { phrases.first() };
            Ok(format!("{is}{} {}", phrase.copied().unwrap_or_default(), texts.concat()))
        }
    }
}

/// A value, so that its kind can be read back.
pub(super) fn value(one: &Value) -> Written {
    Ok(match &one.kind {
        None => return Err(FormatError::here(FormatFault::Unset("a value"))),
        Some(value::Kind::StringValue(text)) => quoted(text),
        Some(value::Kind::IntValue(number)) => number.to_string(),
        Some(value::Kind::DoubleValue(number)) => return double(*number),
        Some(value::Kind::BoolValue(truth)) => truth.to_string(),
        Some(value::Kind::DecimalE4Value(e4)) => decimal(*e4),
        Some(value::Kind::TimestampValue(moment)) => return time(moment),
        Some(value::Kind::JsonValue(json)) => format!("json {}", quoted(json)),
    })
}

/// With an exponent, which tells it from a decimal.
fn double(number: f64) -> Written {
    if number.is_nan() {
        return Err(FormatError::here(FormatFault::NotANumber));
    }
    if number.is_infinite() {
        return Ok(if number > 0.0 { "infinity" } else { "-infinity" }.to_owned());
    }
    // The shortest digits that read back as the same number.
    let digits = format!("{number:?}");
    Ok(if digits.contains('e') { digits } else { format!("{digits}e0") })
}

/// With a point, which tells it from a whole number.
fn decimal(e4: i64) -> String {
    let text = format_e4(e4.into());
    let digits = text.trim_end_matches('0');
    if digits.ends_with('.') { format!("{digits}0") } else { digits.to_owned() }
}

pub(super) fn time(moment: &Timestamp) -> Written {
    let nanos = u32::try_from(moment.nanos).unwrap_or(u32::MAX);
    match DateTime::from_timestamp(moment.seconds, nanos) {
        Some(time) if is_moment(moment) => Ok(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        _ => Err(FormatError::here(FormatFault::Time)),
    }
}

pub(super) fn span(length: &Span) -> Written {
    let unit = TimeUnit::try_from(length.unit).map_err(|_| FormatError::at("unit", FormatFault::Unknown))?;
    match UNITS.iter().find(|(known, _, _)| *known == unit) {
        Some((_, one, _)) if length.count == 1 => Ok(format!("1 {one}")),
        Some((_, _, several)) => Ok(format!("{} {several}", length.count)),
        None => Err(FormatError::at("unit", FormatFault::Unset("one of SECOND, MINUTE, HOUR, DAY, WEEK and MONTH"))),
    }
}
