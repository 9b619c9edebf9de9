//! Parts that many requests have: event selectors, ranges, zones, durations.

use chrono_tz::Tz;
use segue_model::calendar::Grain;
use segue_model::{FieldViolation, catalogue};
use segue_proto::analytics::v1 as pb;
use segue_proto::query::v1 as query;

use super::time::{RangeUs, bound_us};
use crate::filter::fields::{FieldRef, Resolver};
use crate::filter::predicate::{FilterParser, Predicate};
use crate::scan::{PropertyType, TRAITS};

/// Names in one list of events.
const EVENTS_MAX: usize = 100;
/// Characters of a name.
pub(crate) const NAME_CHARACTERS_MAX: usize = 128;

/// Which events, ready to be looked for.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    /// Canonical names; `None` is every event.
    pub(crate) names: Option<Vec<String>>,
    pub(crate) filter: Predicate,
}

/// Reads a selector at `path`; also gives it back with canonical names, for the answer's options.
pub(crate) fn selector(
    selector: Option<&query::EventSelector>,
    path: &str,
    resolver: &mut Resolver<'_>,
    faults: &mut Vec<FieldViolation>,
) -> (Events, query::EventSelector) {
    let mut resolved = selector.cloned().unwrap_or_default();
    resolved.events = canonical_events(&resolved.events, path, faults);
    let filter = FilterParser::parse(resolved.filter.as_ref(), &format!("{path}.filter"), resolver, faults);
    let names = (!resolved.events.is_empty()).then(|| resolved.events.clone());
    (Events { names, filter }, resolved)
}

pub(crate) fn canonical_events(names: &[String], path: &str, faults: &mut Vec<FieldViolation>) -> Vec<String> {
    let mut canonical: Vec<String> = Vec::with_capacity(names.len());
    if names.len() > EVENTS_MAX {
        faults.push(FieldViolation::new(format!("{path}.events"), format!("at most {EVENTS_MAX} names; empty means all events")));
        return canonical;
    }
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || name.chars().count() > NAME_CHARACTERS_MAX {
            let field = format!("{path}.events[{at}]");
            faults.push(FieldViolation::new(field, format!("1 to {NAME_CHARACTERS_MAX} characters; to count all events, give no names")));
            continue;
        }
        if name == TRAITS {
            faults.push(FieldViolation::new(format!("{path}.events[{at}]"), "is no event; traits are asked for by conditions"));
            continue;
        }
        let name = catalogue::canonical_event(name).unwrap_or(name);
        if !canonical.iter().any(|known| known == name) {
            canonical.push(name.to_owned());
        }
    }
    canonical
}

/// A required, half-open range at `path`.
pub(crate) fn range(range: Option<&query::TimeRange>, path: &str, faults: &mut Vec<FieldViolation>) -> Option<RangeUs> {
    let range = range.copied().unwrap_or_default();
    let mut bound = |name: &str, time: Option<&prost_types::Timestamp>| match time.map(bound_us) {
        Some(Some(us)) => Some(us),
        missing_or_wrong => {
            let fault = if missing_or_wrong.is_none() { "required" } else { "not a timestamp between the years 1 and 9999" };
            faults.push(FieldViolation::new(format!("{path}.{name}"), fault));
            None
        }
    };
    let (start, end) = (bound("start", range.start.as_ref()), bound("end", range.end.as_ref()));
    let (start, end) = (start?, end?);
    if start >= end {
        faults.push(FieldViolation::new(format!("{path}.end"), "must be after the start; the range is half-open"));
        return None;
    }
    Some(RangeUs { start, end })
}

/// The zone named, or the tenant's.
pub(crate) fn zone(name: &str, default: Tz, path: &str, faults: &mut Vec<FieldViolation>) -> Tz {
    if name.is_empty() {
        return default;
    }
    name.parse().unwrap_or_else(|_| {
        faults.push(FieldViolation::new(path, format!("`{name}` is not an IANA zone; write it like Asia/Seoul")));
        default
    })
}

/// A grain; unspecified is `None`.
pub(crate) fn grain(grain: i32, path: &str, faults: &mut Vec<FieldViolation>) -> Option<Grain> {
    match pb::Grain::try_from(grain) {
        Ok(pb::Grain::Unspecified) => None,
        Ok(pb::Grain::Hour) => Some(Grain::Hour),
        Ok(pb::Grain::Day) => Some(Grain::Day),
        Ok(pb::Grain::Week) => Some(Grain::Week),
        Ok(pb::Grain::Month) => Some(Grain::Month),
        Err(_) => {
            faults.push(FieldViolation::new(path, "not a grain of this version"));
            None
        }
    }
}

/// A length of time in microseconds between the bounds (both inclusive), or the default.
pub(crate) fn duration_us(
    duration: Option<&prost_types::Duration>,
    default_us: i64,
    (least_us, most_us): (i64, i64),
    path: &str,
    faults: &mut Vec<FieldViolation>,
) -> i64 {
    let Some(duration) = duration else { return default_us };
    let us = duration.seconds.checked_mul(1_000_000).and_then(|us| us.checked_add(i64::from(duration.nanos) / 1000));
    match us.filter(|us| (least_us..=most_us).contains(us)) {
        Some(us) => us,
        None => {
            let seconds = |us: i64| us as f64 / 1e6;
            let (least, most) = (seconds(least_us), seconds(most_us));
            faults.push(FieldViolation::new(path, format!("must be between {least} s and {most} s")));
            default_us
        }
    }
}

/// As protobuf has it.
pub(crate) fn duration(us: i64) -> prost_types::Duration {
    prost_types::Duration { seconds: us / 1_000_000, nanos: (us % 1_000_000 * 1000) as i32 }
}

/// A field of which an event has one value, for breakdowns.
pub(crate) fn event_field(
    field: Option<&query::Field>,
    path: &str,
    resolver: &mut Resolver<'_>,
    faults: &mut Vec<FieldViolation>,
) -> Option<FieldRef> {
    if matches!(field.and_then(|field| field.field.as_ref()), Some(query::field::Field::ItemProperty(_))) {
        let description = "an event has several items: take a dimension or a property of the event";
        faults.push(FieldViolation::new(format!("{path}.item_property"), description));
        return None;
    }
    let found = resolver.resolve(field, path, faults)?;
    if found.kind == Some(PropertyType::Json) {
        faults.push(FieldViolation::new(path, format!("`{}` holds arrays or objects, which have no groups", found.name)));
        return None;
    }
    Some(found)
}
