//! A request, parsed: everything checked, defaults filled in, names resolved to columns. From here on nothing can be wrong with
//! the question itself.

use std::collections::HashSet;

use chrono_tz::Tz;
use segue_model::FieldViolation;
use segue_model::calendar::Grain;
use segue_proto::analytics::v1 as pb;

use super::formula::Formula;
use super::metric::{MetricPlan, default_name, parse_metric};
use crate::filter::fields::{FieldRef, ItemColumn, Resolver, Vocabulary};
use crate::filter::predicate::{FilterParser, Predicate};
use crate::question::QueryError;
use crate::question::parse::NAME_CHARACTERS_MAX;
use crate::question::time::{Periods, PeriodsError, RangeUs, bound_us};
use crate::scan::{Column, PropertyType, ScanRequest};

/// Metrics of one report.
pub(super) const METRICS_MAX: usize = 10;
/// Formulas of one report.
pub(super) const FORMULAS_MAX: usize = 20;
/// Group-bys of one report.
pub(super) const GROUP_BY_MAX: usize = 3;
/// Groups shown unless the request says otherwise.
pub(super) const TOP_DEFAULT: u32 = 200;
/// Groups shown at most.
pub(super) const TOP_MAX: u32 = 10_000;

/// What a report takes from its tenant and from the configuration.
#[derive(Debug, Clone)]
pub struct ReportDefaults {
    /// The tenant's zone.
    pub zone: Tz,
    /// Limits of the configuration.
    pub limits: ReportLimits,
}

/// Bounds on the memory of one report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportLimits {
    /// Groups × periods.
    pub cells_max: usize,
    /// Values kept for distinct counts of sessions and values, and for percentiles.
    pub values_max: usize,
}

impl Default for ReportLimits {
    fn default() -> Self {
        ReportLimits { cells_max: 2_000_000, values_max: 50_000_000 }
    }
}

/// A report, ready to be computed.
#[derive(Debug)]
pub(super) struct Plan {
    /// Whether the answer has periods; without a grain it has totals only.
    pub(super) has_grain: bool,
    /// Periods of the range.
    pub(super) periods: Periods,
    /// Periods of the comparison range.
    pub(super) comparison: Option<Periods>,
    /// The metrics.
    pub(super) metrics: Vec<MetricPlan>,
    /// Formulas over them.
    pub(super) formulas: Vec<Formula>,
    /// The report's filter.
    pub(super) filter: Predicate,
    /// Group-by fields.
    pub(super) group_by: Vec<FieldRef>,
    /// Groups shown.
    pub(super) top: usize,
    /// The row is the item.
    pub(super) item_level: bool,
    /// Columns that a scan must bring, in this order.
    pub(super) columns: Vec<Column>,
    /// Item fields that are read.
    pub(super) items: Vec<ItemColumn>,
    /// Position of the event time, when periods need it.
    pub(super) time: Option<usize>,
    /// Limits.
    pub(super) limits: ReportLimits,
    /// What the answer says about all this; the watermark is still missing.
    pub(super) resolved: pb::ResolvedOptions,
}

impl Plan {
    /// Checks and resolves a request. All faults are reported at once.
    pub(super) fn new(request: &pb::QueryEventsRequest, vocabulary: &Vocabulary, defaults: &ReportDefaults) -> Result<Plan, QueryError> {
        let mut faults = Vec::new();
        let mut resolver = Resolver::new(vocabulary);
        let frame = Frame::parse(request, defaults, &mut faults);
        let group_by = parse_group_by(request, &mut resolver, &mut faults);
        use segue_proto::query::v1::field::Field;
        let item_level = request.group_by.iter().any(|field| matches!(field.field, Some(Field::ItemProperty(_))));
        let filter = FilterParser::parse(request.filter.as_ref(), "filter", &mut resolver, &mut faults);
        let (metrics, resolved_metrics) = parse_metrics(request, item_level, &mut resolver, &mut faults);
        let (formulas, resolved_formulas) = parse_formulas(request, &resolved_metrics, &mut faults);
        let top = match request.top {
            0 => TOP_DEFAULT,
            top => top,
        };
        if top > TOP_MAX {
            faults.push(FieldViolation::new("top", format!("at most {TOP_MAX}")));
        }
        let Some(frame) = frame.filter(|_| faults.is_empty()) else { return Err(QueryError::Invalid(faults)) };
        let periods_most = frame.periods.len().max(frame.comparison.as_ref().map_or(0, Periods::len));
        let time = (periods_most > 1).then(|| resolver.column(Column::Ts));
        if item_level {
            // Also when only an absent item property is asked for, the items themselves are the rows.
            resolver.column(Column::ItemsList);
        }
        let resolved = pb::ResolvedOptions {
            range: request.range,
            grain: request.grain,
            time_zone: frame.zone.name().to_owned(),
            metrics: resolved_metrics,
            group_by: request.group_by.clone(),
            top,
            item_level,
            watermark: None,
            attribution: request.attribution,
            among: request.among.clone(),
            filter: request.filter.clone(),
            formulas: resolved_formulas,
        };
        let Resolver { columns, items, .. } = resolver;
        Ok(Plan {
            has_grain: frame.has_grain,
            periods: frame.periods,
            comparison: frame.comparison,
            metrics,
            formulas,
            filter,
            group_by,
            top: top as usize,
            item_level,
            columns,
            items,
            time,
            limits: defaults.limits,
            resolved,
        })
    }

    /// What to scan for a range.
    pub(super) fn scan(&self, range: RangeUs) -> ScanRequest {
        // None as soon as one metric counts all events.
        let named: Option<Vec<&Vec<String>>> = self.metrics.iter().map(|metric| metric.events.as_ref()).collect();
        let events = named.map(|lists| {
            let mut names: Vec<String> = lists.into_iter().flatten().cloned().collect();
            names.sort_unstable();
            names.dedup();
            names
        });
        ScanRequest { events, range_us: (range.start, range.end), columns: self.columns.clone(), persons: None }
    }
}

/// Range, zone and periods of a request.
struct Frame {
    zone: Tz,
    has_grain: bool,
    periods: Periods,
    comparison: Option<Periods>,
}

impl Frame {
    fn parse(request: &pb::QueryEventsRequest, defaults: &ReportDefaults, faults: &mut Vec<FieldViolation>) -> Option<Frame> {
        let mut fault = |field: &str, description: String| faults.push(FieldViolation::new(field, description));
        let zone = match request.time_zone.as_str() {
            "" => Some(defaults.zone),
            name => {
                name.parse::<Tz>().map_err(|_| fault("time_zone", format!("`{name}` is not an IANA zone; write it like Asia/Seoul"))).ok()
            }
        };
        let grain = match pb::Grain::try_from(request.grain) {
            Ok(pb::Grain::Unspecified) => Some(None),
            Ok(pb::Grain::Hour) => Some(Some(Grain::Hour)),
            Ok(pb::Grain::Day) => Some(Some(Grain::Day)),
            Ok(pb::Grain::Week) => Some(Some(Grain::Week)),
            Ok(pb::Grain::Month) => Some(Some(Grain::Month)),
            Err(_) => {
                fault("grain", "not a grain of this version".to_owned());
                None
            }
        };
        let mut bound = |name: &str, time: Option<&prost_types::Timestamp>| match time.map(bound_us) {
            None => {
                fault(name, "required".to_owned());
                None
            }
            Some(None) => {
                fault(name, "not a timestamp between the years 1 and 9999".to_owned());
                None
            }
            Some(Some(us)) => Some(us),
        };
        let range = request.range.unwrap_or_default();
        let start = bound("range.start", range.start.as_ref());
        let end = bound("range.end", range.end.as_ref());
        let compare = request.compare_start.as_ref().map(|start| bound("compare_start", Some(start)));
        let (start, end) = (start?, end?);
        if start >= end {
            fault("range.end", "must be after range.start; the range is half-open".to_owned());
            return None;
        }
        let (zone, grain) = (zone?, grain?);
        let mut periods = |field: &str, range: RangeUs| match Periods::new(range, grain, zone) {
            Ok(periods) => Some(periods),
            Err(PeriodsError::TooMany) => {
                let most = crate::question::time::PERIODS_MAX;
                fault("grain", format!("the range has more than {most} periods; take a coarser grain or a shorter range"));
                None
            }
            Err(PeriodsError::OutsideCalendar) => {
                fault(field, "outside the years that the calendar knows".to_owned());
                None
            }
        };
        let main = periods("range", RangeUs { start, end })?;
        let comparison = match compare {
            None => None,
            Some(start_of_comparison) => {
                let first = start_of_comparison?;
                // Both lie within the years 1 to 9999, so the sum stays in 64 bits.
                Some(periods("compare_start", RangeUs { start: first, end: first + (end - start) })?)
            }
        };
        Some(Frame { zone, has_grain: grain.is_some(), periods: main, comparison })
    }
}

fn parse_group_by(request: &pb::QueryEventsRequest, resolver: &mut Resolver<'_>, faults: &mut Vec<FieldViolation>) -> Vec<FieldRef> {
    if request.group_by.len() > GROUP_BY_MAX {
        faults.push(FieldViolation::new("group_by", format!("at most {GROUP_BY_MAX} fields")));
        return Vec::new();
    }
    let mut fields = Vec::new();
    for (at, field) in request.group_by.iter().enumerate() {
        let path = format!("group_by[{at}]");
        if request.group_by[..at].contains(field) {
            faults.push(FieldViolation::new(path, "grouped by before"));
            continue;
        }
        let Some(found) = resolver.resolve(Some(field), &path, faults) else { continue };
        if found.kind == Some(PropertyType::Json) {
            faults.push(FieldViolation::new(path, format!("`{}` holds arrays or objects, which have no groups", found.name)));
            continue;
        }
        fields.push(found);
    }
    fields
}

fn parse_metrics(
    request: &pb::QueryEventsRequest,
    item_level: bool,
    resolver: &mut Resolver<'_>,
    faults: &mut Vec<FieldViolation>,
) -> (Vec<MetricPlan>, Vec<pb::Metric>) {
    if request.metrics.is_empty() || request.metrics.len() > METRICS_MAX {
        faults.push(FieldViolation::new("metrics", format!("1 to {METRICS_MAX} metrics")));
        return (Vec::new(), Vec::new());
    }
    let mut names: HashSet<String> = HashSet::new();
    for (at, metric) in request.metrics.iter().enumerate() {
        if !metric.name.is_empty() && !names.insert(metric.name.clone()) {
            faults.push(FieldViolation::new(format!("metrics[{at}].name"), format!("`{}` stands twice", metric.name)));
        }
    }
    let mut plans = Vec::new();
    let mut resolved = Vec::new();
    for (at, metric) in request.metrics.iter().enumerate() {
        let Some((plan, mut metric)) = parse_metric(metric, at, item_level, resolver, faults) else { continue };
        if metric.name.is_empty() {
            let stem = default_name(&metric);
            let mut name = stem.clone();
            let mut number = 1;
            while !names.insert(name.clone()) {
                number += 1;
                name = format!("{stem}_{number}");
            }
            metric.name = name;
        }
        plans.push(plan);
        resolved.push(metric);
    }
    (plans, resolved)
}

fn parse_formulas(
    request: &pb::QueryEventsRequest,
    metrics: &[pb::Metric],
    faults: &mut Vec<FieldViolation>,
) -> (Vec<Formula>, Vec<pb::Formula>) {
    if request.formulas.len() > FORMULAS_MAX {
        faults.push(FieldViolation::new("formulas", format!("at most {FORMULAS_MAX} formulas")));
        return (Vec::new(), Vec::new());
    }
    // With a faulty metric the names are incomplete, and its fault is reported anyway.
    if metrics.len() != request.metrics.len() {
        return (Vec::new(), Vec::new());
    }
    let names: Vec<String> = metrics.iter().map(|metric| metric.name.clone()).collect();
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    let mut formulas = Vec::new();
    let mut resolved = Vec::new();
    for (at, formula) in request.formulas.iter().enumerate() {
        let name = if formula.name.is_empty() { formula.expression.clone() } else { formula.name.clone() };
        if formula.name.chars().count() > NAME_CHARACTERS_MAX {
            faults.push(FieldViolation::new(format!("formulas[{at}].name"), format!("at most {NAME_CHARACTERS_MAX} characters")));
        } else if !taken.insert(name.clone()) {
            faults.push(FieldViolation::new(format!("formulas[{at}].name"), format!("`{name}` stands twice")));
        }
        match Formula::parse(&formula.expression, &names) {
            Ok(parsed) => formulas.push(parsed),
            Err(error) => faults.push(FieldViolation::new(format!("formulas[{at}].expression"), error.to_string())),
        }
        resolved.push(pb::Formula { name, expression: formula.expression.clone() });
    }
    (formulas, resolved)
}
