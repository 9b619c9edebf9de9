//! How times are written in a file.

use chrono::format::{Parsed, StrftimeItems, parse};
use chrono::{NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;
use segue_model::FieldViolation;
use segue_proto::events::v1::{Value, value::Kind};

use crate::accept::time::micros;
use crate::taxonomy::coerce::rfc3339_us;

/// How times are written.
#[derive(Debug, Clone, Default)]
pub struct TimeFormat {
    notation: Notation,
    /// Zone of times that carry none.
    zone: Tz,
}

#[derive(Debug, Clone, Default)]
enum Notation {
    #[default]
    Rfc3339,
    /// Units since 1970; so many microseconds each.
    Unix(i64),
    /// strftime.
    Pattern(String),
}

impl TimeFormat {
    /// From the mapping's `time_format` and `time_zone`.
    pub fn of(format: &str, zone: &str) -> Result<Self, FieldViolation> {
        let notation = match format {
            "" | "rfc3339" => Notation::Rfc3339,
            "unix_s" => Notation::Unix(1_000_000),
            "unix_ms" => Notation::Unix(1_000),
            "unix_us" => Notation::Unix(1),
            pattern => {
                let readable = !StrftimeItems::new(pattern).any(|item| matches!(item, chrono::format::Item::Error));
                if !readable || !pattern.contains('%') {
                    return Err(FieldViolation::new(
                        "mapping.time_format",
                        format!("`{pattern}` is neither rfc3339, unix_s, unix_ms, unix_us nor a pattern like `%Y-%m-%d %H:%M:%S`"),
                    ));
                }
                Notation::Pattern(pattern.to_owned())
            }
        };
        let zone = if zone.is_empty() {
            Tz::UTC
        } else {
            zone.parse()
                .map_err(|_| FieldViolation::new("mapping.time_zone", format!("there is no zone `{zone}`; write it like Asia/Seoul")))?
        };
        Ok(Self { notation, zone })
    }

    /// Zone of times that carry none.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// Microseconds of a value, or why it is none.
    pub fn read(&self, value: &Value) -> Result<i64, String> {
        match (&value.kind, &self.notation) {
            // The file knows its own moments.
            (Some(Kind::TimestampValue(time)), _) => micros(time).ok_or_else(|| "not a time between the years 1 and 9999".to_owned()),
            (Some(Kind::StringValue(text)), notation) => self.read_text(text.trim(), notation),
            (Some(Kind::IntValue(number)), Notation::Unix(unit)) => number.checked_mul(*unit).ok_or_else(|| too_large(&number.to_string())),
            (Some(Kind::DoubleValue(number)), Notation::Unix(_)) => self.read_text(&number.to_string(), &self.notation),
            (Some(Kind::IntValue(number)), Notation::Pattern(_)) => self.read_text(&number.to_string(), &self.notation),
            (Some(Kind::JsonValue(text)), Notation::Unix(_)) => self.read_text(text, &self.notation),
            (_, _) => Err(format!("is not a time as the mapping says ({}); see time_format", self.name())),
        }
    }

    fn name(&self) -> &str {
        match &self.notation {
            Notation::Rfc3339 => "rfc3339, like 2026-11-22T16:45:10Z",
            Notation::Unix(1_000_000) => "unix_s",
            Notation::Unix(1_000) => "unix_ms",
            Notation::Unix(_) => "unix_us",
            Notation::Pattern(pattern) => pattern,
        }
    }

    fn read_text(&self, text: &str, notation: &Notation) -> Result<i64, String> {
        let shown: String = text.chars().take(40).collect();
        match notation {
            Notation::Rfc3339 => {
                rfc3339_us(text).ok_or_else(|| format!("`{shown}` is not a time like 2026-11-22T16:45:10Z; see time_format"))
            }
            Notation::Unix(unit) => unix(text, *unit).ok_or_else(|| format!("`{shown}` is not a number of {}", self.name())),
            Notation::Pattern(pattern) => self.read_pattern(text, pattern).ok_or_else(|| format!("`{shown}` is not a time like {pattern}")),
        }
    }

    fn read_pattern(&self, text: &str, pattern: &str) -> Option<i64> {
        let mut parsed = Parsed::new();
        parse(&mut parsed, text, StrftimeItems::new(pattern)).ok()?;
        if let Ok(moment) = parsed.to_datetime() {
            return Some(moment.timestamp_micros());
        }
        let local: NaiveDateTime = match parsed.to_naive_datetime_with_offset(0) {
            Ok(local) => local,
            // A date alone is its midnight.
            Err(_) if parsed.hour_mod_12().is_none() && parsed.minute().is_none() => parsed.to_naive_date().ok()?.and_time(NaiveTime::MIN),
            Err(_) => return None,
        };
        // A time that a zone lives twice is the first; one that it skips is none.
        self.zone.from_local_datetime(&local).earliest().map(|moment| moment.timestamp_micros())
    }
}

fn too_large(shown: &str) -> String {
    format!("`{shown}` is too large for a time; check the unit in time_format")
}

/// A decimal number of units, exactly.
fn unix(text: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 18 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let part = if fraction.is_empty() {
        0
    } else {
        let scale = 10i128.pow(fraction.len() as u32);
        i64::try_from(fraction.parse::<i128>().ok()? * i128::from(unit) / scale).ok()?
    };
    let part = if whole.starts_with('-') { -part } else { part };
    seconds.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, zone: &str, text: &str) -> Option<String> {
        let format = TimeFormat::of(format, zone).expect("a format");
        let us = format.read(&Value { kind: Some(Kind::StringValue(text.to_owned())) }).ok()?;
        chrono::DateTime::from_timestamp_micros(us).map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    }

    #[test]
    fn times_are_read_in_the_notation_and_zone_of_the_mapping() {
        for (format, zone, text, moment) in [
            ("", "", "2026-11-22T16:45:10+09:00", Some("2026-11-22T07:45:10Z")),
            ("rfc3339", "", "2026-11-22 16:45", None),
            ("unix_s", "", "1700000000", Some("2023-11-14T22:13:20Z")),
            ("unix_s", "", "1700000000.25", Some("2023-11-14T22:13:20.250Z")),
            ("unix_s", "", "-0.5", Some("1969-12-31T23:59:59.500Z")),
            ("unix_ms", "", "1700000000123", Some("2023-11-14T22:13:20.123Z")),
            ("unix_us", "", "1700000000123456", Some("2023-11-14T22:13:20.123456Z")),
            ("unix_s", "", "9999999999999999999", None),
            ("unix_s", "", "soon", None),
            ("%Y-%m-%d %H:%M:%S", "", "2024-03-13 10:21:14", Some("2024-03-13T10:21:14Z")),
            ("%Y-%m-%d %H:%M:%S", "Asia/Seoul", "2024-03-13 10:21:14", Some("2024-03-13T01:21:14Z")),
            ("%d.%m.%Y", "Asia/Seoul", "13.03.2024", Some("2024-03-12T15:00:00Z")),
            ("%Y-%m-%d %H:%M:%S %z", "Asia/Seoul", "2024-03-13 10:21:14 +0100", Some("2024-03-13T09:21:14Z")),
            // Twice that night: the first. Skipped that night: none.
            ("%Y-%m-%d %H:%M", "Europe/Berlin", "2026-10-25 02:30", Some("2026-10-25T00:30:00Z")),
            ("%Y-%m-%d %H:%M", "Europe/Berlin", "2026-03-29 02:30", None),
        ] {
            assert_eq!(read(format, zone, text).as_deref(), moment, "{format} {zone} {text}");
        }
    }

    #[test]
    fn a_format_or_zone_that_is_none_is_refused() {
        for (format, zone, field) in
            [("iso", "", "mapping.time_format"), ("%Q%", "", "mapping.time_format"), ("", "Seoul", "mapping.time_zone")]
        {
            assert_eq!(TimeFormat::of(format, zone).expect_err("refused").field, field);
        }
    }
}
