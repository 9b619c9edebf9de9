//! What a leaf looked at for one person: its value, and the events that count. Read by the same code as the leaf is evaluated by.

use std::borrow::Cow;
use std::collections::BTreeSet;

use arrow::datatypes::UInt32Type;
use roaring::RoaringBitmap;
use segue_engine::condition::{Buckets, Days};
use segue_proto::events::v1::{Value, value::Kind as ValueKind};

use super::evaluate::Moment;
use super::plan::{Edge, Kind, Measure, Operand, Plan, Rows};
use super::rows::{Reading, key};
use super::sequence;
use super::slots::Slots;
use super::tally;
use crate::exact::ExactDouble;
use crate::filter::fields::{ItemColumn, Place, item_field_type};
use crate::filter::predicate::Predicate;
use crate::pass::Values;
use crate::question::time::timestamp;
use crate::question::{Context, QueryError};
use crate::scan::{Column, PropertyType, ScanRequest, Snapshot, TRAITS};
use crate::timeline::{Key, Keyed, Keys, Newest};

/// What there is to say of a leaf and a person.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) value: Option<Value>,
    /// When the value was stated.
    pub(crate) value_time_us: Option<i64>,
    /// Newest first; of a sequence, in the order of its steps.
    pub(crate) events: Vec<Keyed>,
    pub(crate) events_total: u64,
    /// The times that count, from (inclusive), to (exclusive).
    pub(crate) times: Option<(i64, i64)>,
}

/// Of the leaf with this number: at most so many events.
pub(crate) fn account(
    context: &Context<'_>,
    plan: &Plan,
    number: usize,
    (person, now_us): (u32, i64),
    most: usize,
) -> Result<Account, QueryError> {
    let Some(node) = plan.leaves().into_iter().find(|node| node.number == number) else { return Ok(Account::default()) };
    match &node.kind {
        Kind::Rows(rows) => of_rows(context, plan, rows, (person, now_us), most),
        Kind::Sequence(sequence) => {
            let moment = Moment::plain(context, now_us, plan.zone);
            let events = sequence::events(sequence, &moment, person)?;
            let times = Some(sequence.window.bounds(now_us, plan.zone));
            let events_total = events.len() as u64;
            Ok(Account { events: events.into_iter().take(most).collect(), events_total, times, ..Account::default() })
        }
        Kind::Bucket { salt, .. } => {
            let bucket = Buckets::new(salt).bucket(person);
            Ok(Account { value: exact(PropertyType::Int, i128::from(bucket)), ..Account::default() })
        }
        Kind::All(_) | Kind::Any(_) | Kind::Not(_) | Kind::Persons(_) => Ok(Account::default()),
    }
}

fn of_rows(context: &Context<'_>, plan: &Plan, rows: &Rows, (person, now_us): (u32, i64), most: usize) -> Result<Account, QueryError> {
    let times = rows.window.bounds(now_us, plan.zone);
    let mut amount = Amount::new(&rows.measure, plan);
    let (mut newest, mut total) = (Newest::new(most), 0);
    if rows.may_match(times) {
        let keys = rows.columns.len();
        let mut columns = rows.columns.clone();
        columns.extend([Column::Person, Column::Ts, Column::Sequence, Column::Origin]);
        let request =
            ScanRequest { events: rows.events.clone(), range_us: times, columns, persons: Some(person..person.saturating_add(1)) };
        let slots = Slots::of_few(&RoaringBitmap::from([person]));
        for batch in context.snapshot.scan(request).having(&rows.having) {
            context.check()?;
            let batch = batch?;
            let (of_rows, first) = slots.of_rows(key::<UInt32Type>(&batch, keys)?.values());
            let reading = Reading::new(rows, &batch, (of_rows, first), None)?;
            let of_batch = Keys::new(&batch, keys + 1)?;
            let matching: Cow<'_, [u32]> = reading.rows();
            total += matching.len() as u64;
            for found in matching.iter().filter_map(|row| of_batch.key(*row as usize)) {
                newest.add(found, &batch.event);
            }
            amount.add(&reading)?;
        }
    }
    let is_of_person = rows.events.as_deref().is_some_and(|events| events == [TRAITS]);
    let is_touch = rows.events.is_none() && !rows.having.is_empty();
    let mut account = Account { times: Some(times), events_total: total, events: newest.finish(), ..Account::default() };
    match amount {
        // What states traits is no event.
        Amount::Edge(_, found) if is_of_person => {
            (account.events, account.events_total) = (Vec::new(), 0);
            (account.value, account.value_time_us) = found.map_or((None, None), |(keyed, value)| (value, Some(keyed.key.ts)));
        }
        Amount::Edge(_, found) if is_touch => {
            account.events = found.map(|(keyed, _)| keyed).into_iter().collect();
            account.events_total = account.events.len() as u64;
            account.events.truncate(most);
        }
        Amount::Edge(_, found) => account.value = found.and_then(|(_, value)| value),
        amount => account.value = amount.value(rows, total, context.snapshot),
    }
    Ok(account)
}

/// The aggregate of one person.
enum Amount<'m> {
    Count,
    Sum(Operand, i128),
    DoubleSum(Operand, ExactDouble),
    /// And whether the largest is wanted.
    Extreme(Operand, bool, Option<i128>),
    DoubleExtreme(Operand, bool, Option<f64>),
    Days(usize, Days, BTreeSet<i32>),
    Distinct(Place, Values, BTreeSet<u32>),
    Edge(&'m Edge, Option<(Keyed, Option<Value>)>),
}

impl<'m> Amount<'m> {
    fn new(measure: &'m Measure, plan: &Plan) -> Self {
        match measure {
            Measure::Count(_) => Amount::Count,
            Measure::Sum(operand, _) if operand.is_double() => Amount::DoubleSum(*operand, ExactDouble::default()),
            Measure::Sum(operand, _) => Amount::Sum(*operand, 0),
            Measure::Least(operand, _) if operand.is_double() => Amount::DoubleExtreme(*operand, false, None),
            Measure::Most(operand, _) if operand.is_double() => Amount::DoubleExtreme(*operand, true, None),
            Measure::Least(operand, _) => Amount::Extreme(*operand, false, None),
            Measure::Most(operand, _) => Amount::Extreme(*operand, true, None),
            Measure::Days(times, _) => Amount::Days(*times, Days::new(plan.zone), BTreeSet::new()),
            Measure::Distinct(place, _) => Amount::Distinct(*place, Values::default(), BTreeSet::new()),
            Measure::Edge(edge) => Amount::Edge(edge, None),
        }
    }

    fn add(&mut self, reading: &Reading<'_>) -> Result<(), QueryError> {
        match self {
            Amount::Count => {}
            Amount::Sum(operand, sum) => reading.exact(*operand, |_, term| *sum = sum.saturating_add(term)),
            // What is not a number is left out of sums, and is no extreme.
            Amount::DoubleSum(operand, sum) => reading.double(*operand, |_, term| {
                if !term.is_nan() {
                    sum.add(term);
                }
            }),
            Amount::Extreme(operand, largest, known) => reading.exact(*operand, |_, value| {
                *known = Some(known.map_or(value, |known| if *largest { known.max(value) } else { known.min(value) }));
            }),
            Amount::DoubleExtreme(operand, largest, known) => reading.double(*operand, |_, value| {
                if !value.is_nan() {
                    *known = Some(known.map_or(value, |known| if *largest { known.max(value) } else { known.min(value) }));
                }
            }),
            Amount::Days(times, days, seen) => reading.exact(Operand::Exact(*times), |_, ts| {
                seen.insert(days.number(ts as i64));
            }),
            Amount::Distinct(place, values, seen) => reading.codes(*place, values, |_, code| {
                seen.insert(code);
            }),
            Amount::Edge(edge, known) => {
                let place = place_of(edge);
                reading.edges(edge, |at, moment, _| {
                    let (ts, sequence, origin): tally::Moment = moment;
                    let found = Key { ts, sequence, origin };
                    let is_nearer =
                        known.as_ref().is_none_or(|(before, _)| if edge.last { found > before.key } else { found < before.key });
                    if is_nearer {
                        let keyed = Keyed { key: found, event: reading.event().clone() };
                        *known = Some((keyed, place.and_then(|place| reading.value(place, at))));
                    }
                })?;
            }
        }
        Ok(())
    }

    fn value(self, rows: &Rows, total: u64, snapshot: &Snapshot) -> Option<Value> {
        let double = |value: f64| Some(Value { kind: Some(ValueKind::DoubleValue(value)) });
        match self {
            Amount::Count => exact(PropertyType::Int, i128::from(total)),
            Amount::Sum(operand, sum) => exact(type_of(operand, rows, snapshot), sum),
            Amount::DoubleSum(_, sum) => double(sum.value()),
            Amount::Extreme(operand, _, known) => exact(type_of(operand, rows, snapshot), known?),
            Amount::DoubleExtreme(_, _, known) => double(known?),
            Amount::Days(_, _, seen) => exact(PropertyType::Int, seen.len() as i128),
            Amount::Distinct(_, _, seen) => exact(PropertyType::Int, seen.len() as i128),
            Amount::Edge(_, found) => found?.1,
        }
    }
}

/// The field that an edge is about; touches have none.
fn place_of(edge: &Edge) -> Option<Place> {
    match &edge.present {
        Predicate::Test { place, .. } => Some(*place),
        Predicate::Always(_) | Predicate::All(_) | Predicate::Any(_) | Predicate::Not(_) => None,
    }
}

/// The type of an operand's numbers.
fn type_of(operand: Operand, rows: &Rows, snapshot: &Snapshot) -> PropertyType {
    let of_item = |at: usize| match rows.item_columns.get(at) {
        Some(ItemColumn::BuiltIn(field)) => item_field_type(*field),
        Some(ItemColumn::Custom(_, kind)) => *kind,
        None => PropertyType::Decimal,
    };
    match operand {
        Operand::Exact(at) | Operand::Double(at) => match rows.columns.get(at) {
            Some(Column::Property(name)) => snapshot.property_type(name).unwrap_or(PropertyType::Decimal),
            Some(Column::Ts) => PropertyType::Timestamp,
            Some(_) | None => PropertyType::Decimal,
        },
        Operand::ItemExact(at) | Operand::ItemDouble(at) => of_item(at),
        Operand::ItemsValue { .. } | Operand::Absent => PropertyType::Decimal,
    }
}

/// An exact number of a type. What is too large for it, in the nearest floating-point number.
fn exact(kind: PropertyType, number: i128) -> Option<Value> {
    let kind = match (kind, i64::try_from(number)) {
        (PropertyType::Int, Ok(number)) => ValueKind::IntValue(number),
        (PropertyType::Timestamp, Ok(us)) => ValueKind::TimestampValue(timestamp(us)),
        (PropertyType::Int, Err(_)) => ValueKind::DoubleValue(number as f64),
        (_, Ok(e4)) => ValueKind::DecimalE4Value(e4),
        (_, Err(_)) => ValueKind::DoubleValue(number as f64 / 10_000.0),
    };
    Some(Value { kind: Some(kind) })
}
