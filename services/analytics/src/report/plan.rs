//! A request, parsed: everything checked, defaults filled in, names resolved to columns. From here on nothing can be wrong with
//! the question itself.

use std::collections::HashSet;

use roaring::RoaringBitmap;
use segue_model::FieldViolation;
use segue_proto::analytics::v1 as pb;

use super::attribution::{Asked, Attributed};
use super::formula::Formula;
use super::frame::Frame;
use super::metric::{MetricPlan, default_name, parse_metric};
use crate::condition::Among;
use crate::filter::fields::{FieldRef, ItemColumn, Resolver};
use crate::filter::predicate::{FilterParser, Predicate};
use crate::question::parse::NAME_CHARACTERS_MAX;
use crate::question::time::{Periods, RangeUs};
use crate::question::{Context, QueryError};
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

/// Bounds on the memory of one report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportLimits {
    /// Groups × periods.
    pub cells_max: usize,
    /// Bytes of groups, tallies and what they keep (values of distinct counts and percentiles), and of touches.
    pub bytes_max: usize,
    /// Rows that are looked at between two times at which persons are counted and forgotten. Persons are cut into bands accordingly.
    pub band_rows: u64,
}

impl Default for ReportLimits {
    fn default() -> Self {
        ReportLimits { cells_max: 2_000_000, bytes_max: 1 << 30, band_rows: 1 << 20 }
    }
}

/// A report, ready to be computed.
#[derive(Debug, Clone)]
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
    /// Columns that places mean.
    pub(super) columns: Vec<Column>,
    /// Those of them that a scan brings, in this order.
    pub(super) reads: Vec<usize>,
    /// Item fields that are read.
    pub(super) items: Vec<ItemColumn>,
    /// Position of the event time, when periods need it.
    pub(super) time: Option<usize>,
    /// How attribution-dependent dimensions are read, unless the report has none or takes them from the event.
    pub(super) attributed: Option<Attributed>,
    /// Only events of these persons; beside them, the column of persons.
    pub(super) among: Option<(usize, RoaringBitmap)>,
    /// Limits.
    pub(super) limits: ReportLimits,
    /// What the answer says about all this; the watermark is still missing.
    pub(super) resolved: pb::ResolvedOptions,
}

impl Plan {
    /// Checks and resolves a request. All faults are reported at once.
    pub(super) fn new(context: &Context<'_>, request: &pb::QueryEventsRequest) -> Result<Plan, QueryError> {
        let vocabulary = context.vocabulary();
        let mut faults = Vec::new();
        let mut resolver = Resolver::new(&vocabulary);
        let frame = Frame::parse(request, context.zone, &mut faults);
        let group_by = parse_group_by(request, &mut resolver, &mut faults);
        use segue_proto::query::v1::field::Field;
        let item_level = request.group_by.iter().any(|field| matches!(field.field, Some(Field::ItemProperty(_))));
        let filter = FilterParser::parse(request.filter.as_ref(), "filter", &mut resolver, &mut faults);
        let (metrics, resolved_metrics) = parse_metrics(request, item_level, &mut resolver, &mut faults);
        let (formulas, resolved_formulas) = parse_formulas(request, &resolved_metrics, &mut faults);
        let attribution = Asked::parse(request.attribution.as_ref(), &mut faults);
        let zone = frame.as_ref().map_or(context.zone, |frame| frame.zone);
        let among = Among::parse(request.among.as_ref(), &vocabulary, zone, &mut faults);
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
        let among = among.persons(context, None)?.map(|persons| (resolver.column(Column::Person), persons));
        let Resolver { columns, items, .. } = resolver;
        let (attributed, resolved_attribution) = attribution.of_columns(&columns);
        let from_touches = |place: usize| attributed.as_ref().is_some_and(|of| of.columns.iter().any(|(column, _)| *column == place));
        let resolved = pb::ResolvedOptions {
            range: request.range,
            grain: request.grain,
            time_zone: frame.zone.name().to_owned(),
            metrics: resolved_metrics,
            group_by: request.group_by.clone(),
            top,
            item_level,
            watermark: None,
            attribution: resolved_attribution,
            among: request.among.clone(),
            filter: request.filter.clone(),
            formulas: resolved_formulas,
        };
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
            reads: (0..columns.len()).filter(|place| !from_touches(*place)).collect(),
            columns,
            items,
            time,
            attributed,
            among,
            limits: context.limits.report,
            resolved,
        })
    }

    /// The request with everything filled in that its answer depends on.
    pub(super) fn asked(&self, request: &pb::QueryEventsRequest) -> pb::QueryEventsRequest {
        let resolved = &self.resolved;
        pb::QueryEventsRequest {
            time_zone: resolved.time_zone.clone(),
            metrics: resolved.metrics.clone(),
            top: resolved.top,
            attribution: resolved.attribution,
            ..request.clone()
        }
    }

    /// The ranges: the main one, then the one to compare with.
    pub(super) fn ranges(&self) -> impl Iterator<Item = &Periods> {
        std::iter::once(&self.periods).chain(&self.comparison)
    }

    /// The events that any metric counts; none is every event.
    pub(super) fn events(&self) -> Option<Vec<String>> {
        // None as soon as one metric counts all events.
        let named: Option<Vec<&Vec<String>>> = self.metrics.iter().map(|metric| metric.events.as_ref()).collect();
        named.map(|lists| {
            let mut names: Vec<String> = lists.into_iter().flatten().cloned().collect();
            names.sort_unstable();
            names.dedup();
            names
        })
    }

    /// What to scan for a range and some persons: the columns of `reads`, and, with attribution, person, ts and sequence.
    pub(super) fn scan(&self, range: RangeUs, persons: std::ops::Range<u32>) -> ScanRequest {
        let mut columns: Vec<Column> = self.reads.iter().map(|place| self.columns[*place].clone()).collect();
        if self.attributed.is_some() {
            columns.extend([Column::Person, Column::Ts, Column::Sequence]);
        }
        ScanRequest { events: self.events(), range_us: (range.start, range.end), columns, persons: Some(persons) }
    }

    /// The place of a column, read from now on.
    pub(super) fn read(&mut self, column: Column) -> usize {
        let known = self.columns.iter().position(|known| *known == column);
        known.unwrap_or_else(|| {
            self.columns.push(column);
            self.reads.push(self.columns.len() - 1);
            self.columns.len() - 1
        })
    }

    /// Whether events share their credit among several touches.
    pub(super) fn is_shared(&self) -> bool {
        self.attributed.as_ref().is_some_and(|attributed| attributed.rule.model.is_fractional())
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
            metric.name = free_name(&default_name(&metric), &mut names);
        }
        plans.push(plan);
        resolved.push(metric);
    }
    (plans, resolved)
}

/// The stem, or the stem with a number, that is not taken yet. As long as a name may be, since an answer's options can be asked again.
fn free_name(stem: &str, taken: &mut HashSet<String>) -> String {
    let cut = |length: usize| stem.chars().take(length).collect::<String>();
    let mut name = cut(NAME_CHARACTERS_MAX);
    let mut number = 1;
    while !taken.insert(name.clone()) {
        number += 1;
        let suffix = format!("_{number}");
        name = cut(NAME_CHARACTERS_MAX - suffix.len()) + &suffix;
    }
    name
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
