//! Metrics of a request, parsed: of which events, filtered how, measuring what.

use segue_model::FieldViolation;
use segue_proto::analytics::v1 as pb;

use super::tally::{Finish, Form};
use crate::filter::fields::{FieldRef, ItemColumn, Place, Resolver};
use crate::filter::predicate::{FilterParser, Predicate};
use crate::question::parse::{NAME_CHARACTERS_MAX, canonical_events};
use crate::scan::{Column, ItemField, PropertyType};

/// One metric, ready to be computed.
#[derive(Debug, Clone)]
pub(super) struct MetricPlan {
    /// Canonical names; none is every event.
    pub(super) events: Option<Vec<String>>,
    /// Besides the report's filter.
    pub(super) filter: Predicate,
    /// What is measured.
    pub(super) measure: Measure,
    /// How it becomes a number.
    pub(super) finish: Finish,
    /// Instead of measuring, the persons (of this column) whose rows the metric counts are kept.
    pub(super) members: Option<usize>,
}

impl MetricPlan {
    /// Whether it counts events of this name.
    pub(super) fn applies(&self, event: &str) -> bool {
        self.events.as_ref().is_none_or(|events| events.iter().any(|name| name == event))
    }
}

/// What a metric measures. Numbers are positions in the plan's columns or item fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Rows.
    Total,
    /// Distinct persons or devices (of this column).
    Numbers(usize),
    /// Distinct pairs of person and session.
    Sessions {
        /// Column of persons.
        person: usize,
        /// Column of session ids.
        session: usize,
    },
    /// Distinct accounts.
    Accounts(usize),
    /// Σ price × quantity of events.
    EventRevenue {
        /// Column of the sum.
        value: usize,
        /// Column of the number of items left out.
        skipped: usize,
    },
    /// Σ price × quantity of items.
    ItemRevenue {
        /// Item field.
        price: usize,
        /// Item field.
        quantity: usize,
    },
    /// Values of a field.
    Field(Place),
}

/// Parses the metric at `metrics[at]` and fills in what it left out. Faults are added to `faults`.
pub(super) fn parse_metric(
    metric: &pb::Metric,
    at: usize,
    item_level: bool,
    resolver: &mut Resolver<'_>,
    faults: &mut Vec<FieldViolation>,
) -> Option<(MetricPlan, pb::Metric)> {
    let path = format!("metrics[{at}]");
    let before = faults.len();
    let mut resolved = metric.clone();
    resolved.events = canonical_events(&metric.events, &path, faults);
    let filter = FilterParser::parse(metric.filter.as_ref(), &format!("{path}.filter"), resolver, faults);
    if metric.name.chars().count() > NAME_CHARACTERS_MAX {
        faults.push(FieldViolation::new(format!("{path}.name"), format!("at most {NAME_CHARACTERS_MAX} characters")));
    }
    let aggregation = match pb::Aggregation::try_from(metric.aggregation) {
        Ok(pb::Aggregation::Unspecified) => Some(pb::Aggregation::Total),
        Ok(aggregation) => Some(aggregation),
        Err(_) => {
            faults.push(FieldViolation::new(format!("{path}.aggregation"), "not an aggregation of this version"));
            None
        }
    };
    let measured = aggregation.and_then(|aggregation| {
        resolved.aggregation = aggregation as i32;
        refuse_unused(metric, aggregation, &path, faults);
        measure(metric, aggregation, item_level, &path, &mut resolved, resolver, faults)
    });
    let (measure, finish) = measured?;
    if faults.len() > before {
        return None;
    }
    let events = (!resolved.events.is_empty()).then(|| resolved.events.clone());
    Some((MetricPlan { events, filter, measure, finish, members: None }, resolved))
}

/// Says what is set but would have no effect: the caller meant something else.
fn refuse_unused(metric: &pb::Metric, aggregation: pb::Aggregation, path: &str, faults: &mut Vec<FieldViolation>) {
    let of_field = match aggregation {
        pb::Aggregation::Unspecified | pb::Aggregation::Total | pb::Aggregation::Unique | pb::Aggregation::Revenue => false,
        pb::Aggregation::Count
        | pb::Aggregation::DistinctCount
        | pb::Aggregation::Sum
        | pb::Aggregation::Average
        | pb::Aggregation::Min
        | pb::Aggregation::Max
        | pb::Aggregation::Percentile => true,
    };
    if metric.field.is_some() && !of_field {
        faults.push(FieldViolation::new(format!("{path}.field"), "only for COUNT, DISTINCT_COUNT, SUM, AVERAGE, MIN, MAX and PERCENTILE"));
    }
    if metric.unit != pb::Unit::Unspecified as i32 && aggregation != pb::Aggregation::Unique {
        faults.push(FieldViolation::new(format!("{path}.unit"), "only for UNIQUE"));
    }
    if metric.percentile != 0.0 && aggregation != pb::Aggregation::Percentile {
        faults.push(FieldViolation::new(format!("{path}.percentile"), "only for PERCENTILE"));
    }
}

fn measure(
    metric: &pb::Metric,
    aggregation: pb::Aggregation,
    item_level: bool,
    path: &str,
    resolved: &mut pb::Metric,
    resolver: &mut Resolver<'_>,
    faults: &mut Vec<FieldViolation>,
) -> Option<(Measure, Finish)> {
    match aggregation {
        pb::Aggregation::Unspecified | pb::Aggregation::Total => Some((Measure::Total, Finish::Count)),
        pb::Aggregation::Unique => {
            let unit = match pb::Unit::try_from(metric.unit) {
                Ok(pb::Unit::Unspecified) => pb::Unit::Device,
                Ok(unit) => unit,
                Err(_) => {
                    faults.push(FieldViolation::new(format!("{path}.unit"), "not a unit of this version"));
                    return None;
                }
            };
            resolved.unit = unit as i32;
            Some(match unit {
                pb::Unit::Unspecified | pb::Unit::Device => (Measure::Numbers(resolver.column(Column::Device)), Finish::Numbers),
                pb::Unit::Profile => (Measure::Numbers(resolver.column(Column::Person)), Finish::Persons),
                pb::Unit::Session => {
                    let (person, session) = (resolver.column(Column::Person), resolver.column(Column::SessionId));
                    (Measure::Sessions { person, session }, Finish::Sessions)
                }
                pb::Unit::Account => (Measure::Accounts(resolver.column(Column::AccountId)), Finish::Texts),
            })
        }
        pb::Aggregation::Revenue if item_level => {
            let price = resolver.item(ItemColumn::BuiltIn(ItemField::Price));
            let quantity = resolver.item(ItemColumn::BuiltIn(ItemField::Quantity));
            Some((Measure::ItemRevenue { price, quantity }, Finish::Sum(Form::Decimal)))
        }
        pb::Aggregation::Revenue => {
            let (value, skipped) = (resolver.column(Column::Value), resolver.column(Column::SkippedItems));
            Some((Measure::EventRevenue { value, skipped }, Finish::Sum(Form::Decimal)))
        }
        pb::Aggregation::Count
        | pb::Aggregation::DistinctCount
        | pb::Aggregation::Sum
        | pb::Aggregation::Average
        | pb::Aggregation::Min
        | pb::Aggregation::Max
        | pb::Aggregation::Percentile => {
            let field = resolver.resolve(metric.field.as_ref(), &format!("{path}.field"), faults)?;
            let finish = finish_of(&field, aggregation, metric.percentile, path, faults)?;
            Some((Measure::Field(field.place), finish))
        }
    }
}

fn finish_of(
    field: &FieldRef,
    aggregation: pb::Aggregation,
    percentile: f64,
    path: &str,
    faults: &mut Vec<FieldViolation>,
) -> Option<Finish> {
    if aggregation == pb::Aggregation::Percentile && !(0.0..=100.0).contains(&percentile) {
        faults.push(FieldViolation::new(format!("{path}.percentile"), "from 0 to 100"));
        return None;
    }
    // Of a field that nobody knows the type of, there are no values either.
    let kind = field.kind.unwrap_or(PropertyType::Double);
    let numeric = match kind {
        PropertyType::Int => Some(Form::Int),
        PropertyType::Decimal => Some(Form::Decimal),
        PropertyType::Double => Some(Form::Double),
        PropertyType::String | PropertyType::Bool | PropertyType::Timestamp | PropertyType::Json => None,
    };
    let ordered = numeric.or((kind == PropertyType::Timestamp).then_some(Form::Time));
    let finish = match aggregation {
        pb::Aggregation::Unspecified | pb::Aggregation::Total | pb::Aggregation::Unique | pb::Aggregation::Revenue => None,
        pb::Aggregation::Count => Some(Finish::Count),
        pb::Aggregation::DistinctCount => match kind {
            PropertyType::String => Some(Finish::Texts),
            PropertyType::Json => None,
            PropertyType::Int | PropertyType::Double | PropertyType::Bool | PropertyType::Decimal | PropertyType::Timestamp => {
                Some(Finish::Keys)
            }
        },
        pb::Aggregation::Sum => numeric.map(Finish::Sum),
        pb::Aggregation::Average => numeric.map(Finish::Average),
        pb::Aggregation::Min => ordered.map(Finish::Min),
        pb::Aggregation::Max => ordered.map(Finish::Max),
        pb::Aggregation::Percentile => numeric.map(|_| Finish::Percentile(percentile)),
    };
    if finish.is_none() {
        let needs = match aggregation {
            pb::Aggregation::Min | pb::Aggregation::Max => "numbers, decimals and times",
            pb::Aggregation::DistinctCount => "anything but arrays and objects",
            _ => "numbers and decimals",
        };
        let name = aggregation.as_str_name().trim_start_matches("AGGREGATION_");
        faults.push(FieldViolation::new(
            format!("{path}.aggregation"),
            format!("`{}` is of type {}, but {name} works on {needs}", field.name, kind.name()),
        ));
    }
    finish
}

/// A name for a metric that has none: what it measures and of which events, as one word that formulas can use.
pub(super) fn default_name(metric: &pb::Metric) -> String {
    let aggregation = pb::Aggregation::try_from(metric.aggregation).unwrap_or(pb::Aggregation::Total);
    let mut words = vec![match aggregation {
        pb::Aggregation::Percentile => format!("p{}", metric.percentile),
        _ => aggregation.as_str_name().trim_start_matches("AGGREGATION_").to_lowercase(),
    }];
    if aggregation == pb::Aggregation::Unique {
        let unit = pb::Unit::try_from(metric.unit).unwrap_or(pb::Unit::Device);
        words.push(unit.as_str_name().trim_start_matches("UNIT_").to_lowercase());
    }
    if let Some(field) = metric.field.as_ref().and_then(|field| field.field.as_ref()) {
        use segue_proto::query::v1::field::Field;
        let (Field::Dimension(name) | Field::Property(name) | Field::ItemProperty(name)) = field;
        words.push(name.clone());
    }
    match metric.events.as_slice() {
        [] => {}
        names @ ([_] | [_, _]) => words.extend(names.iter().cloned()),
        names => words.push(format!("{}_events", names.len())),
    }
    words.join("_").chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect()
}
