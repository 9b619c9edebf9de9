//! Filters that a scan applies by itself: which events, which times, which persons.
//!
//! A condition on `event` alone, whatever it says, is evaluated once over the names in the snapshot; conditions on `ts` and `person`
//! become ranges.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use datafusion::physical_expr::create_physical_expr;

/// Persons, with an end that lies one above the largest number.
pub(crate) type PersonRange = Range<u64>;

/// All persons.
pub(crate) const ALL_PERSONS: PersonRange = 0..(u32::MAX as u64 + 1);

/// All times.
const ALL_TIMES: (i64, i64) = (i64::MIN, i64::MAX);

/// More single persons than this are read as the range from the least to the largest, and filtered above the scan.
const SINGLE_PERSONS_MAX: usize = 64;

/// What to read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Selection {
    /// Names, sorted; `None` is every event.
    pub(crate) events: Option<Vec<String>>,
    /// From (inclusive), to (exclusive).
    pub(crate) range_us: (i64, i64),
    /// Ascending, apart from each other, none of them empty.
    pub(crate) persons: Vec<PersonRange>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { events: None, range_us: ALL_TIMES, persons: vec![ALL_PERSONS] }
    }
}

/// A filter as a selection.
pub(crate) struct Narrowed {
    pub(crate) selection: Selection,
    /// The selection says all that the filter says.
    pub(crate) exact: bool,
}

impl Selection {
    /// What both select.
    pub(crate) fn and(self, other: Self) -> Self {
        let events = match (self.events, other.events) {
            (Some(one), Some(two)) => Some(one.into_iter().filter(|name| two.contains(name)).collect()),
            (Some(events), None) | (None, Some(events)) => Some(events),
            (None, None) => None,
        };
        let range_us = (self.range_us.0.max(other.range_us.0), self.range_us.1.min(other.range_us.1));
        Self { events, range_us, persons: intersection(&self.persons, &other.persons) }
    }

    /// Nothing matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.as_ref().is_some_and(Vec::is_empty) || self.range_us.0 >= self.range_us.1 || self.persons.is_empty()
    }

    /// No condition on times.
    pub(crate) fn has_all_times(&self) -> bool {
        self.range_us == ALL_TIMES
    }

    /// No condition on persons.
    pub(crate) fn has_all_persons(&self) -> bool {
        self.persons == [ALL_PERSONS]
    }
}

fn intersection(one: &[PersonRange], two: &[PersonRange]) -> Vec<PersonRange> {
    let pairs = one.iter().flat_map(|a| two.iter().map(move |b| a.start.max(b.start)..a.end.min(b.end)));
    pairs.filter(|range| !range.is_empty()).collect()
}

/// The filter as a selection, if it is about the event, the time or the person alone. `events` are the names in the snapshot; `None`
/// for a table without that column.
pub(crate) fn narrow(filter: &Expr, events: Option<&[Arc<str>]>) -> Option<Narrowed> {
    let columns = filter.column_refs();
    let mut names = columns.iter().map(|column| column.name());
    let (Some(name), None) = (names.next(), names.next()) else { return None };
    match name {
        "event" => {
            let names = matching_events(filter, events?)?;
            Some(Narrowed { selection: Selection { events: Some(names), ..Selection::default() }, exact: true })
        }
        "ts" if events.is_some() => {
            let range_us = times(filter)?;
            Some(Narrowed { selection: Selection { range_us, ..Selection::default() }, exact: true })
        }
        "person" => {
            let (persons, exact) = persons(filter)?;
            Some(Narrowed { selection: Selection { persons, ..Selection::default() }, exact })
        }
        _ => None,
    }
}

/// The names for which the filter is true.
fn matching_events(filter: &Expr, names: &[Arc<str>]) -> Option<Vec<String>> {
    if filter.is_volatile() {
        return None;
    }
    let schema = Arc::new(Schema::new(vec![Field::new("event", DataType::Utf8View, false)]));
    let known = DFSchema::try_from(schema.clone()).ok()?;
    let filter = unnormalize_col(filter.clone());
    let filter = create_physical_expr(&filter, &known, &ExecutionProps::new(), &PhysicalPlanningContext::default()).ok()?;
    let column: ArrayRef = Arc::new(StringViewArray::from_iter_values(names.iter().map(AsRef::<str>::as_ref)));
    let batch = RecordBatch::try_new(schema, vec![column]).ok()?;
    let truth = filter.evaluate(&batch).ok()?.into_array(names.len()).ok()?;
    let truth = truth.as_boolean_opt()?;
    let matching = names.iter().zip(truth).filter(|(_, is)| *is == Some(true));
    Some(matching.map(|(name, _)| name.to_string()).collect())
}

/// `column operator literal`, whichever side the column stands on.
fn comparison(filter: &Expr) -> Option<(Operator, &ScalarValue)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Column(_), Expr::Literal(value, _)) => Some((*op, value)),
        (Expr::Literal(value, _), Expr::Column(_)) => Some((op.swap()?, value)),
        _ => None,
    }
}

/// Bounds of `column BETWEEN literal AND literal`.
fn between(filter: &Expr) -> Option<(&ScalarValue, &ScalarValue)> {
    let Expr::Between(Between { expr, negated: false, low, high }) = filter else { return None };
    match (expr.as_ref(), low.as_ref(), high.as_ref()) {
        (Expr::Column(_), Expr::Literal(low, _), Expr::Literal(high, _)) => Some((low, high)),
        _ => None,
    }
}

/// The range of time that a filter leaves.
fn times(filter: &Expr) -> Option<(i64, i64)> {
    if let Some((low, high)) = between(filter) {
        return Some((Moment::of(low)?.at_least(), Moment::of(high)?.at_most()));
    }
    let (operator, value) = comparison(filter)?;
    let moment = Moment::of(value)?;
    match operator {
        Operator::GtEq => Some((moment.at_least(), i64::MAX)),
        Operator::Gt => Some((moment.at_most(), i64::MAX)),
        Operator::LtEq => Some((i64::MIN, moment.at_most())),
        Operator::Lt => Some((i64::MIN, moment.at_least())),
        Operator::Eq => Some((moment.at_least(), moment.at_most())),
        _ => None,
    }
}

/// A moment of any precision, in nanoseconds.
struct Moment(i128);

impl Moment {
    fn of(value: &ScalarValue) -> Option<Self> {
        let (number, nanoseconds) = match value {
            ScalarValue::TimestampSecond(Some(number), _) => (number, 1_000_000_000),
            ScalarValue::TimestampMillisecond(Some(number), _) => (number, 1_000_000),
            ScalarValue::TimestampMicrosecond(Some(number), _) => (number, 1_000),
            ScalarValue::TimestampNanosecond(Some(number), _) => (number, 1),
            _ => return None,
        };
        Some(Self(i128::from(*number) * nanoseconds))
    }

    /// The first microsecond that is not before it.
    fn at_least(&self) -> i64 {
        clamped(-((-self.0).div_euclid(1_000)))
    }

    /// One above the last microsecond that is not after it.
    fn at_most(&self) -> i64 {
        clamped(self.0.div_euclid(1_000) + 1)
    }
}

fn clamped(us: i128) -> i64 {
    us.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// What any of both selects.
fn union(one: &[PersonRange], two: &[PersonRange]) -> Vec<PersonRange> {
    let mut ranges: Vec<PersonRange> = one.iter().chain(two).cloned().collect();
    ranges.sort_by_key(|range| range.start);
    let mut united: Vec<PersonRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match united.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(_) | None => united.push(range),
        }
    }
    united
}

/// The persons that a filter leaves, and whether these are exactly they.
fn persons(filter: &Expr) -> Option<(Vec<PersonRange>, bool)> {
    if let Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Or | Operator::And), right }) = filter {
        let ((left, left_exact), (right, right_exact)) = (persons(left)?, persons(right)?);
        let both = if *op == Operator::Or { union(&left, &right) } else { intersection(&left, &right) };
        return Some((both, left_exact && right_exact));
    }
    if let Expr::InList(InList { expr, list, negated: false }) = filter
        && matches!(expr.as_ref(), Expr::Column(_))
    {
        let mut numbers: Vec<u64> = Vec::with_capacity(list.len());
        for item in list {
            match item {
                Expr::Literal(value, _) if value.is_null() => {}
                Expr::Literal(value, _) => numbers.push(number(value)?),
                _ => return None,
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        return match (numbers.first(), numbers.last()) {
            (Some(least), Some(most)) if numbers.len() > SINGLE_PERSONS_MAX => Some((std::iter::once(*least..*most + 1).collect(), false)),
            _ => Some((numbers.into_iter().map(|number| number..number + 1).collect(), true)),
        };
    }
    let range = if let Some((low, high)) = between(filter) {
        number(low)?..number(high)? + 1
    } else {
        let (operator, value) = comparison(filter)?;
        let number = number(value)?;
        match operator {
            Operator::Eq => number..number + 1,
            Operator::GtEq => number..ALL_PERSONS.end,
            Operator::Gt => number + 1..ALL_PERSONS.end,
            Operator::LtEq => 0..number + 1,
            Operator::Lt => 0..number,
            _ => return None,
        }
    };
    Some((if range.is_empty() { Vec::new() } else { vec![range] }, true))
}

/// The literals that a comparison with a person has after DataFusion has brought both sides to one type.
fn number(value: &ScalarValue) -> Option<u64> {
    match value {
        ScalarValue::UInt32(Some(number)) => Some(u64::from(*number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    fn time(us: i64) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())))
    }

    /// As types are settled before filters are pushed down.
    fn text(text: &str) -> Expr {
        lit(ScalarValue::Utf8View(Some(text.to_owned())))
    }

    fn selected(filter: Expr) -> Option<(Selection, bool)> {
        let names: Vec<Arc<str>> = ["df_login", "df_purchase", "custom"].map(Arc::from).to_vec();
        narrow(&filter, Some(&names)).map(|narrowed| (narrowed.selection, narrowed.exact))
    }

    fn range(filter: Expr) -> Option<(i64, i64)> {
        selected(filter).map(|(selection, _)| selection.range_us)
    }

    #[test]
    fn any_condition_on_the_event_alone_becomes_a_set_of_names() {
        let events = |filter| selected(filter).and_then(|(selection, _)| selection.events);
        assert_eq!(events(col("event").eq(text("df_login"))), Some(vec!["df_login".to_owned()]));
        assert_eq!(events(col("event").like(text("df\\_%"))), Some(vec!["df_login".to_owned(), "df_purchase".to_owned()]));
        assert_eq!(events(col("event").not_eq(text("custom")).and(col("event").gt(text("df_m")))), Some(vec!["df_purchase".to_owned()]));
        assert_eq!(events(col("event").is_null()), Some(vec![]));
        assert_eq!(events(col("event").eq(col("platform"))), None);
    }

    #[test]
    fn times_become_half_open_ranges_whatever_their_precision() {
        assert_eq!(range(col("ts").gt_eq(time(5))), Some((5, i64::MAX)));
        assert_eq!(range(col("ts").gt(time(5))), Some((6, i64::MAX)));
        assert_eq!(range(col("ts").lt(time(5))), Some((i64::MIN, 5)));
        assert_eq!(range(time(5).lt_eq(col("ts"))), Some((5, i64::MAX)));
        assert_eq!(range(col("ts").eq(time(5))), Some((5, 6)));
        assert_eq!(range(col("ts").between(time(5), time(9))), Some((5, 10)));
        let nanoseconds = |number| lit(ScalarValue::TimestampNanosecond(Some(number), None));
        assert_eq!(range(col("ts").gt_eq(nanoseconds(5_001))), Some((6, i64::MAX)));
        assert_eq!(range(col("ts").gt(nanoseconds(5_999))), Some((6, i64::MAX)));
        assert_eq!(range(col("ts").lt(nanoseconds(5_001))), Some((i64::MIN, 6)));
        assert_eq!(range(col("ts").eq(nanoseconds(5_001))), Some((6, 6)));
        assert_eq!(range(col("ts").gt_eq(nanoseconds(-5_001))), Some((-5, i64::MAX)));
        assert_eq!(range(col("ts").not_eq(time(5))), None);
    }

    #[test]
    fn persons_become_ranges() {
        let persons = |filter| selected(filter).map(|(selection, exact)| (selection.persons, exact));
        assert_eq!(persons(col("person").eq(lit(7_u32))), Some((vec![7..8], true)));
        assert_eq!(persons(col("person").lt(lit(7_u32))), Some((vec![0..7], true)));
        assert_eq!(persons(col("person").lt(lit(0_u32))), Some((vec![], true)));
        assert_eq!(persons(col("person").in_list(vec![lit(9_u32), lit(3_u32), lit(9_u32)], false)), Some((vec![3..4, 9..10], true)));
        let many = (0..100_u32).map(|number| lit(number * 2)).collect();
        assert_eq!(persons(col("person").in_list(many, false)), Some((vec![0..199], false)));
        assert_eq!(persons(col("person").in_list(vec![lit(9_u32)], true)), None);
        let either = col("person").eq(lit(9_u32)).or(col("person").lt(lit(3_u32))).or(col("person").between(lit(2_u32), lit(5_u32)));
        assert_eq!(persons(either), Some((vec![0..6, 9..10], true)));
        assert_eq!(persons(col("person").eq(lit(9_u32)).or(col("person").not_eq(lit(3_u32)))), None);
        let both = Selection { persons: vec![0..10, 20..30], ..Selection::default() };
        assert_eq!(both.and(Selection { persons: vec![5..25], ..Selection::default() }).persons, vec![5..10, 20..25]);
    }
}
