//! Filters, parsed: a tree of typed tests on one event.
//!
//! There is no third truth value. A comparison with a missing value is false, its negation (NOT_IN, NOT_CONTAINS, NOT_EXISTS or
//! a `not` node) is true: this is what the contract's "missing equals nothing" and "missing values pass" say.

use std::collections::HashSet;
use std::ops::Bound;

use segue_model::{Decimal4, FieldViolation, catalogue};
use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::query::v1::{Comparison, Filter, ItemMatch, Operator, filter::Node};

use super::fields::{FieldRef, Place, Resolver};
use crate::question::time::nanos;
use crate::scan::PropertyType;

/// Nodes of one filter.
pub(crate) const NODES_MAX: usize = 100;
/// Levels of one filter.
pub(crate) const DEPTH_MAX: usize = 8;
/// Values of one comparison.
pub(crate) const VALUES_MAX: usize = 1_000;

/// A filter, ready to be evaluated.
#[derive(Debug, Clone)]
pub(crate) enum Predicate {
    /// Passes everything or nothing.
    Always(bool),
    /// All pass.
    All(Vec<Predicate>),
    /// Any passes.
    Any(Vec<Predicate>),
    /// Does not pass.
    Not(Box<Predicate>),
    /// A test of one field.
    Test {
        /// Where the field is.
        place: Place,
        /// What is tested.
        test: Test,
        /// The answer is turned round: missing values pass.
        negate: bool,
        /// Which items must pass, when the field is an item's.
        items: Which,
    },
}

impl Predicate {
    /// Calls `each` with every place that the predicate reads.
    pub(crate) fn places(&self, each: &mut impl FnMut(Place)) {
        match self {
            Predicate::Always(_) => {}
            Predicate::All(operands) | Predicate::Any(operands) => operands.iter().for_each(|operand| operand.places(each)),
            Predicate::Not(inner) => inner.places(each),
            Predicate::Test { place, .. } => each(*place),
        }
    }
}

/// Which items must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// At least one.
    Any,
    /// There are items, and all pass.
    All,
    /// None.
    None,
}

/// A test of one value; a missing value never passes.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// There is a value.
    Exists,
    /// One of these texts.
    TextIn(HashSet<String>),
    /// Contains one of these.
    Contains(Vec<String>),
    /// Starts with one of these.
    StartsWith(Vec<String>),
    /// Ends with one of these.
    EndsWith(Vec<String>),
    /// False is wanted, true is wanted.
    Truth([bool; 2]),
    /// Whole numbers, decimals and times: the stored value × `scale` is compared, exactly.
    Exact {
        /// Ten thousand for whole numbers, one for decimals (stored in ten-thousandths), a thousand for microseconds.
        scale: i128,
        /// In ten-thousandths, or nanoseconds.
        test: NumberTest<i128>,
    },
    /// Floating point.
    Double(NumberTest<f64>),
}

/// A test of a number.
#[derive(Debug, Clone)]
pub(crate) enum NumberTest<T> {
    /// One of these, ascending.
    In(Vec<T>),
    /// Between the bounds.
    Within(Bound<T>, Bound<T>),
}

/// Parses one filter of a request; counts its nodes.
#[derive(Debug)]
pub(crate) struct FilterParser<'r, 'v, 'f> {
    resolver: &'r mut Resolver<'v>,
    faults: &'f mut Vec<FieldViolation>,
    nodes: usize,
}

impl<'r, 'v, 'f> FilterParser<'r, 'v, 'f> {
    /// Parses `filter`, which stands at `path`. Faults are added to `faults`; what comes back is then of no use.
    pub(crate) fn parse(
        filter: Option<&Filter>,
        path: &str,
        resolver: &'r mut Resolver<'v>,
        faults: &'f mut Vec<FieldViolation>,
    ) -> Predicate {
        let Some(filter) = filter else { return Predicate::Always(true) };
        let mut parser = FilterParser { resolver, faults, nodes: 0 };
        parser.node(filter, path, 1)
    }

    /// Parses a comparison with something that is kept by type alone, such as an aggregate: the test, and whether its answer is turned
    /// round. `at` says what is compared; `operator` and `values` stand at `path`.
    pub(crate) fn parse_test(
        at: &FieldRef,
        operator: Operator,
        values: &[Value],
        path: &str,
        resolver: &'r mut Resolver<'v>,
        faults: &'f mut Vec<FieldViolation>,
    ) -> Option<(Test, bool)> {
        let mut parser = FilterParser { resolver, faults, nodes: 0 };
        if let Some(description) = wrong_values(operator, values.len()) {
            parser.fault(format!("{path}.values"), description);
            return None;
        }
        let test = parser.test(at, at.kind?, operator, values, path)?;
        Some((test, is_negative(operator)))
    }

    fn fault(&mut self, path: impl Into<String>, description: impl Into<String>) -> Predicate {
        self.faults.push(FieldViolation::new(path, description));
        Predicate::Always(false)
    }

    fn node(&mut self, filter: &Filter, path: &str, depth: usize) -> Predicate {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            // Said once; the rest is not looked at.
            if self.nodes == NODES_MAX + 1 {
                return self.fault(path, format!("the filter has more than {NODES_MAX} nodes"));
            }
            return Predicate::Always(false);
        }
        if depth > DEPTH_MAX {
            return self.fault(path, format!("the filter is nested deeper than {DEPTH_MAX} levels"));
        }
        match &filter.node {
            None => Predicate::Always(true),
            Some(Node::All(list)) => Predicate::All(self.list(&list.filters, &format!("{path}.all"), depth)),
            Some(Node::Any(list)) => Predicate::Any(self.list(&list.filters, &format!("{path}.any"), depth)),
            Some(Node::Not(inner)) => Predicate::Not(Box::new(self.node(inner, &format!("{path}.not"), depth + 1))),
            Some(Node::Compare(comparison)) => self.comparison(comparison, &format!("{path}.compare")),
        }
    }

    fn list(&mut self, filters: &[Filter], path: &str, depth: usize) -> Vec<Predicate> {
        filters.iter().enumerate().map(|(at, filter)| self.node(filter, &format!("{path}.filters[{at}]"), depth + 1)).collect()
    }

    fn comparison(&mut self, comparison: &Comparison, path: &str) -> Predicate {
        let field = self.resolver.resolve(comparison.field.as_ref(), &format!("{path}.field"), self.faults);
        let operator = match Operator::try_from(comparison.operator) {
            Ok(Operator::Unspecified) | Err(_) => return self.fault(format!("{path}.operator"), "set the operator"),
            Ok(operator) => operator,
        };
        let items = match ItemMatch::try_from(comparison.item_match) {
            Ok(ItemMatch::Unspecified | ItemMatch::Any) => Which::Any,
            Ok(ItemMatch::All) => Which::All,
            Ok(ItemMatch::None) => Which::None,
            Err(_) => return self.fault(format!("{path}.item_match"), "one of ANY, ALL and NONE"),
        };
        if let Some(description) = wrong_values(operator, comparison.values.len()) {
            return self.fault(format!("{path}.values"), description);
        }
        let Some(field) = field else { return Predicate::Always(false) };
        let is_item = matches!(
            comparison.field.as_ref().and_then(|field| field.field.as_ref()),
            Some(segue_proto::query::v1::field::Field::ItemProperty(_))
        );
        if comparison.item_match != ItemMatch::Unspecified as i32 && !is_item {
            return self.fault(format!("{path}.item_match"), "only for item properties: an event has one value of any other field");
        }
        let Some(kind) = field.kind else { return Predicate::Always(false) };
        match self.test(&field, kind, operator, &comparison.values, path) {
            Some(test) => {
                let negate = is_negative(operator);
                Predicate::Test { place: field.place, test, negate, items }
            }
            None => Predicate::Always(false),
        }
    }

    fn test(&mut self, field: &FieldRef, kind: PropertyType, operator: Operator, values: &[Value], path: &str) -> Option<Test> {
        if matches!(operator, Operator::Exists | Operator::NotExists) {
            return Some(Test::Exists);
        }
        let name = &field.name;
        let refuse = |parser: &mut Self, why: &str| {
            parser.fault(format!("{path}.operator"), format!("`{name}` is {}: {why}", describe(kind)));
            None
        };
        let is_text = matches!(operator, Operator::Contains | Operator::NotContains | Operator::StartsWith | Operator::EndsWith);
        let is_set = matches!(operator, Operator::In | Operator::NotIn);
        match kind {
            PropertyType::String if !is_text && !is_set => refuse(self, "text has no order here; use IN or a text operator"),
            PropertyType::String => self.text_test(field, operator, values, path),
            PropertyType::Bool if !is_set => refuse(self, "use IN, NOT_IN, EXISTS or NOT_EXISTS"),
            PropertyType::Json => refuse(self, "only EXISTS and NOT_EXISTS work on it"),
            PropertyType::Int | PropertyType::Double | PropertyType::Decimal | PropertyType::Timestamp if is_text => {
                refuse(self, "text operators do not work on it")
            }
            PropertyType::Bool => {
                let mut wanted = [false; 2];
                for truth in self.values(name, kind, values, path, |value| match value {
                    Kind::BoolValue(truth) => Ok(*truth),
                    _ => Err("bool_value"),
                })? {
                    wanted[usize::from(truth)] = true;
                }
                Some(Test::Truth(wanted))
            }
            PropertyType::Double => {
                let values = self.values(name, kind, values, path, double)?;
                let test = self.number_test(operator, values, path, f64::total_cmp)?;
                Some(Test::Double(test))
            }
            PropertyType::Int | PropertyType::Decimal => {
                let values = self.values(name, kind, values, path, exact_e4)?;
                let test = self.number_test(operator, values, path, i128::cmp)?;
                Some(Test::Exact { scale: if kind == PropertyType::Int { 10_000 } else { 1 }, test })
            }
            PropertyType::Timestamp => {
                let values = self.values(name, kind, values, path, |value| match value {
                    Kind::TimestampValue(time) => nanos(time).ok_or("timestamp_value between the years 1 and 9999"),
                    _ => Err("timestamp_value"),
                })?;
                let test = self.number_test(operator, values, path, i128::cmp)?;
                Some(Test::Exact { scale: 1_000, test })
            }
        }
    }

    fn text_test(&mut self, field: &FieldRef, operator: Operator, values: &[Value], path: &str) -> Option<Test> {
        let texts = self.values(&field.name, PropertyType::String, values, path, |value| match value {
            Kind::StringValue(text) => Ok(text.clone()),
            _ => Err("string_value"),
        })?;
        Some(match operator {
            Operator::Contains | Operator::NotContains => Test::Contains(texts),
            Operator::StartsWith => Test::StartsWith(texts),
            Operator::EndsWith => Test::EndsWith(texts),
            Operator::In
            | Operator::NotIn
            | Operator::Unspecified
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::Between
            | Operator::Exists
            | Operator::NotExists => Test::TextIn(match field.place {
                // An alias means the event that it is an alias of, as in a metric's `events`.
                Place::EventName => {
                    texts.into_iter().map(|text| catalogue::canonical_event(&text).map(str::to_owned).unwrap_or(text)).collect()
                }
                Place::Column(_) | Place::Item(_) | Place::Absent => texts.into_iter().collect(),
            }),
        })
    }

    /// Converts every value, or says at which one what was expected.
    fn values<T>(
        &mut self,
        name: &str,
        kind: PropertyType,
        values: &[Value],
        path: &str,
        convert: impl Fn(&Kind) -> Result<T, &'static str>,
    ) -> Option<Vec<T>> {
        let mut converted = Vec::with_capacity(values.len());
        let before = self.faults.len();
        for (at, value) in values.iter().enumerate() {
            match value.kind.as_ref().map_or(Err("a value"), &convert) {
                Ok(value) => converted.push(value),
                Err(wanted) => {
                    self.fault(format!("{path}.values[{at}]"), format!("`{name}` is {}: give {wanted}", describe(kind)));
                }
            }
        }
        (self.faults.len() == before).then_some(converted)
    }

    fn number_test<T: Copy>(
        &mut self,
        operator: Operator,
        mut values: Vec<T>,
        path: &str,
        order: impl Fn(&T, &T) -> std::cmp::Ordering,
    ) -> Option<NumberTest<T>> {
        let first = *values.first()?;
        Some(match operator {
            Operator::Less => NumberTest::Within(Bound::Unbounded, Bound::Excluded(first)),
            Operator::LessOrEqual => NumberTest::Within(Bound::Unbounded, Bound::Included(first)),
            Operator::Greater => NumberTest::Within(Bound::Excluded(first), Bound::Unbounded),
            Operator::GreaterOrEqual => NumberTest::Within(Bound::Included(first), Bound::Unbounded),
            Operator::Between => {
                let second = *values.get(1)?;
                if order(&first, &second).is_ge() {
                    self.fault(format!("{path}.values[1]"), "the second value of BETWEEN is exclusive and must be above the first");
                    return None;
                }
                NumberTest::Within(Bound::Included(first), Bound::Excluded(second))
            }
            Operator::In
            | Operator::NotIn
            | Operator::Unspecified
            | Operator::Contains
            | Operator::NotContains
            | Operator::StartsWith
            | Operator::EndsWith
            | Operator::Exists
            | Operator::NotExists => {
                values.sort_unstable_by(order);
                NumberTest::In(values)
            }
        })
    }
}

/// Whether the answer of the operator's test is turned round.
fn is_negative(operator: Operator) -> bool {
    matches!(operator, Operator::NotIn | Operator::NotContains | Operator::NotExists)
}

/// What is wrong with so many values for an operator.
fn wrong_values(operator: Operator, given: usize) -> Option<String> {
    let wanted = match operator {
        Operator::Unspecified | Operator::Exists | Operator::NotExists => 0..=0,
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => 1..=1,
        Operator::Between => 2..=2,
        Operator::In | Operator::NotIn | Operator::Contains | Operator::NotContains | Operator::StartsWith | Operator::EndsWith => {
            1..=VALUES_MAX
        }
    };
    if wanted.contains(&given) {
        return None;
    }
    let wanted = if wanted.start() == wanted.end() { wanted.start().to_string() } else { format!("1 to {VALUES_MAX}") };
    Some(format!("{} takes {wanted} value(s), {given} given", short(operator)))
}

/// A number to compare floating-point fields with. Negative zero becomes zero, since the two are equal.
fn double(value: &Kind) -> Result<f64, &'static str> {
    match value {
        Kind::DoubleValue(value) if value.is_nan() => Err("a number, NaN is none"),
        Kind::DoubleValue(value) => Ok(value + 0.0),
        Kind::IntValue(value) => Ok(*value as f64),
        Kind::DecimalE4Value(e4) => Ok(Decimal4(*e4).to_f64()),
        Kind::StringValue(_) | Kind::BoolValue(_) | Kind::TimestampValue(_) | Kind::JsonValue(_) => {
            Err("double_value, int_value or decimal_e4_value")
        }
    }
}

/// A number in ten-thousandths, to compare exact fields with.
fn exact_e4(value: &Kind) -> Result<i128, &'static str> {
    match value {
        Kind::IntValue(value) => Ok(i128::from(*value) * 10_000),
        Kind::DecimalE4Value(e4) => Ok(i128::from(*e4)),
        // The shortest decimal text that reads back as this number is what the caller wrote.
        Kind::DoubleValue(value) => value
            .to_string()
            .parse::<Decimal4>()
            .map(|decimal| i128::from(decimal.0))
            .map_err(|_| "a number with at most four decimal places"),
        Kind::StringValue(_) | Kind::BoolValue(_) | Kind::TimestampValue(_) | Kind::JsonValue(_) => {
            Err("int_value, decimal_e4_value or double_value")
        }
    }
}

fn describe(kind: PropertyType) -> &'static str {
    match kind {
        PropertyType::String => "text",
        PropertyType::Int => "a whole number",
        PropertyType::Double => "a floating-point number",
        PropertyType::Bool => "true or false",
        PropertyType::Decimal => "a decimal",
        PropertyType::Timestamp => "a time",
        PropertyType::Json => "an array or object",
    }
}

fn short(operator: Operator) -> &'static str {
    operator.as_str_name().trim_start_matches("OPERATOR_")
}
