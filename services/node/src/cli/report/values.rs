//! How values, groups, times and shares are written.

use chrono::DateTime;
use chrono_tz::Tz;
use prost_types::Timestamp;
use segue_proto::analytics::v1::{Grain, GroupKey, GroupValue};
use segue_proto::events::v1::{Value, value};

/// The value of a group-by.
pub(crate) fn show_group_value(value: &GroupValue) -> String {
    value.value.as_ref().map_or_else(|| "(missing)".to_owned(), show_value)
}

/// A value of an event.
pub(crate) fn show_value(value: &Value) -> String {
    match &value.kind {
        None => "(missing)".to_owned(),
        Some(value::Kind::StringValue(text) | value::Kind::JsonValue(text)) if text.is_empty() => "(empty)".to_owned(),
        Some(value::Kind::StringValue(text) | value::Kind::JsonValue(text)) => text.clone(),
        Some(value::Kind::IntValue(number)) => number.to_string(),
        Some(value::Kind::DoubleValue(number)) => number.to_string(),
        Some(value::Kind::BoolValue(truth)) => truth.to_string(),
        Some(value::Kind::DecimalE4Value(e4)) => segue_model::Decimal4(*e4).to_string(),
        Some(value::Kind::TimestampValue(time)) => show_time(time),
    }
}

/// A group of a breakdown; all of them together when there is no key.
pub(crate) fn show_key(key: Option<&GroupKey>) -> String {
    match key {
        None => "all".to_owned(),
        Some(key) if key.other => "(other)".to_owned(),
        Some(key) if key.values.is_empty() => "all".to_owned(),
        Some(key) => key.values.iter().map(show_group_value).collect::<Vec<_>>().join(", "),
    }
}

/// A moment, in UTC.
pub(crate) fn show_time(time: &Timestamp) -> String {
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or_default()).map(|time| time.to_rfc3339()).unwrap_or_default()
}

/// The start of a period.
pub(crate) fn show_period(start: Option<&Timestamp>, grain: Grain, zone: Tz) -> String {
    let format = if grain == Grain::Hour { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d" };
    let start = start.and_then(|start| DateTime::from_timestamp(start.seconds, 0));
    start.map(|start| start.with_timezone(&zone).format(format).to_string()).unwrap_or_default()
}

/// A share as per cent.
pub(crate) fn show_share(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// A length of time, in the unit that reads best.
pub(crate) fn show_seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// How fresh the numbers are.
pub(crate) fn as_of(watermark: Option<&Timestamp>) -> String {
    format!("as of {}", watermark.map(show_time).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_take_the_unit_that_reads_best() {
        let shown = [0.25, 59.0, 600.0, 10_800.0, 604_800.0].map(show_seconds);
        assert_eq!(shown, ["250 ms", "59.0 s", "10.0 min", "3.0 h", "7.0 d"]);
    }

    #[test]
    fn missing_and_empty_and_other_read_differently() {
        let text = |text: &str| GroupValue { value: Some(Value { kind: Some(value::Kind::StringValue(text.to_owned())) }) };
        let key = |values| GroupKey { values, other: false };
        assert_eq!(show_key(Some(&key(vec![text(""), GroupValue { value: None }, text("web")]))), "(empty), (missing), web");
        assert_eq!(show_key(Some(&GroupKey { values: Vec::new(), other: true })), "(other)");
        assert_eq!(show_key(None), "all");
    }
}
