//! A plain reference of the report: rows one by one, sets and sorted lists, no columns. It shares no code with the product but the
//! calendar and the models of attribution, which have a reference of their own.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use segue_engine::attribution::{Attribution, Model, Position, Touch, WHOLE};
use segue_model::calendar::{Grain, bucket_start_us, next_bucket_us};
use segue_model::catalogue;
use segue_model::decimal::format_e4;
use segue_proto::analytics::v1 as pb;

use super::*;

/// A row: an event, or one item of an event, or a share of either.
#[derive(Clone, Copy)]
struct Row<'a> {
    event: &'a ResolvedEvent,
    item: Option<&'a Item>,
    /// Where attribution-dependent dimensions are read; nowhere without a touch.
    touch: Option<&'a ResolvedEvent>,
    parts: u64,
}

impl Row<'_> {
    /// Equal for shares of one event or item.
    fn identity(&self) -> (*const ResolvedEvent, Option<*const Item>) {
        (std::ptr::from_ref(self.event), self.item.map(std::ptr::from_ref))
    }
}

/// Each once, whatever its shares.
fn once<'a>(rows: &[Row<'a>]) -> Vec<Row<'a>> {
    let mut known = BTreeSet::new();
    rows.iter().copied().filter(|row| known.insert(row.identity())).collect()
}

fn is_dependent(field: &Field) -> bool {
    match field.field.as_ref() {
        Some(field::Field::Dimension(name)) => {
            segue_model::dimension::by_name(name).is_some_and(|dimension| dimension.attribution_dependent)
        }
        _ => false,
    }
}

fn filter_fields(filter: Option<&Filter>) -> Vec<Field> {
    match filter.and_then(|filter| filter.node.as_ref()) {
        None => Vec::new(),
        Some(filter::Node::All(list) | filter::Node::Any(list)) => {
            list.filters.iter().flat_map(|filter| filter_fields(Some(filter))).collect()
        }
        Some(filter::Node::Not(inner)) => filter_fields(Some(inner)),
        Some(filter::Node::Compare(comparison)) => comparison.field.iter().cloned().collect(),
    }
}

/// How the report reads attribution-dependent dimensions: not at all, if it names none.
pub fn attribution(request: &QueryEventsRequest) -> Option<Attribution> {
    let of_metrics = request.metrics.iter().flat_map(|metric| metric.field.iter().cloned().chain(filter_fields(metric.filter.as_ref())));
    let mut fields = request.group_by.iter().cloned().chain(filter_fields(request.filter.as_ref())).chain(of_metrics);
    if !fields.any(|field| is_dependent(&field)) {
        return None;
    }
    let asked = request.attribution.unwrap_or_default();
    let us = |duration: Option<prost_types::Duration>| duration.map_or(7 * 86_400_000_000, |duration| duration.seconds * 1_000_000);
    let model = match asked.model() {
        pb::AttributionModel::Unspecified | pb::AttributionModel::LastTouch => Model::LastTouch,
        pb::AttributionModel::FirstTouch => Model::FirstTouch,
        pb::AttributionModel::Linear => Model::Linear,
        pb::AttributionModel::Position => Model::Position(Position::default()),
        pb::AttributionModel::TimeDecay => {
            Model::TimeDecay { half_life_us: us(asked.half_life).unsigned_abs().try_into().expect("a half-life") }
        }
        pb::AttributionModel::Event => Model::Event,
    };
    Some(Attribution { model, look_back_us: us(asked.look_back) })
}

fn is_shared(request: &QueryEventsRequest) -> bool {
    attribution(request).is_some_and(|attribution| attribution.model.is_fractional())
}

fn is_touch(event: &ResolvedEvent) -> bool {
    let is_dependent = |code: u32| segue_model::dimension::by_code(code).is_some_and(|dimension| dimension.attribution_dependent);
    event.dimensions.iter().any(|dimension| is_dependent(dimension.code))
}

/// An event as it stands in the report, with its shares.
fn shares<'a>(events: &'a [ResolvedEvent], request: &QueryEventsRequest, at: usize) -> Vec<Row<'a>> {
    let event = &events[at];
    let row = |touch, parts| Row { event, item: None, touch, parts };
    let Some(attribution) = attribution(request).filter(|attribution| attribution.model != Model::Event) else {
        return vec![row(Some(event), WHOLE)];
    };
    // Events come in the order of their sequences.
    let of_person = events.iter().enumerate().filter(|(_, touch)| touch.person == event.person && is_touch(touch));
    let mut touches: Vec<Touch> =
        of_person.map(|(number, touch)| Touch { ts: touch.time_us, sequence: number as u64, value: number as u32 }).collect();
    touches.sort_by_key(|touch| (touch.ts, touch.sequence));
    let mut credits = Vec::new();
    attribution.credit(&touches, event.time_us, at as u64, &mut credits);
    if credits.is_empty() {
        return vec![row(None, WHOLE)];
    }
    credits.iter().map(|credit| row(Some(&events[credit.value as usize]), credit.parts)).collect()
}

/// What the answer must hold.
pub struct Expected {
    pub groups: Vec<Group>,
    pub comparison: Vec<Group>,
    pub total: Group,
    pub groups_total: u64,
    pub skipped_items: u64,
    pub without_unit: u64,
}

fn said(text: &str) -> Option<Kind> {
    (!text.is_empty()).then(|| Kind::StringValue(text.to_owned()))
}

fn of_event(row: Row<'_>, field: &field::Field) -> Option<Kind> {
    let event = row.event;
    match field {
        field::Field::Dimension(name) if name == "event" => said(&event.name),
        field::Field::Dimension(name) if name == "source" => said(&event.source),
        field::Field::Dimension(name) => {
            let dimension = segue_model::dimension::by_name(name).expect("a dimension");
            let event = if dimension.attribution_dependent { row.touch? } else { event };
            let found = event.dimensions.iter().find(|found| found.code == dimension.code);
            found.map(|dimension| Kind::StringValue(dimension.value.clone()))
        }
        field::Field::Property(name) => event.properties.get(name).and_then(|value| value.kind.clone()),
        field::Field::ItemProperty(_) => panic!("not a field of events"),
    }
}

/// The value that an event itself has.
pub fn own_value(event: &ResolvedEvent, field: &field::Field) -> Option<Kind> {
    of_event(own_row(event), field)
}

/// Whether an event passes by the values that it has itself.
pub fn passes_itself(event: &ResolvedEvent, filter: Option<&Filter>) -> bool {
    passes(own_row(event), filter)
}

fn own_row(event: &ResolvedEvent) -> Row<'_> {
    Row { event, item: None, touch: Some(event), parts: 1 }
}

fn of_item(item: &Item, name: &str) -> Option<Kind> {
    match name {
        "category1" => item.categories.first().and_then(|text| said(text)),
        "brand" => said(&item.brand),
        "price" => item.price_e4.map(Kind::DecimalE4Value),
        "quantity" => item.quantity.map(Kind::IntValue),
        custom => item.properties.get(custom).and_then(|value| value.kind.clone()),
    }
}

fn of_row(row: Row<'_>, field: &Field) -> Option<Kind> {
    match (field.field.as_ref().expect("a field"), row.item) {
        (field::Field::ItemProperty(name), Some(item)) => of_item(item, name),
        (field::Field::ItemProperty(_), None) => panic!("several values"),
        (field, _) => of_event(row, field),
    }
}

fn number(kind: &Kind) -> f64 {
    match kind {
        Kind::IntValue(value) => *value as f64,
        Kind::DoubleValue(value) => *value,
        Kind::DecimalE4Value(e4) => *e4 as f64 / 10_000.0,
        Kind::TimestampValue(time) => (time.seconds * 1_000_000 + i64::from(time.nanos / 1000)) as f64,
        other => panic!("{other:?} is not a number"),
    }
}

fn equal(a: &Kind, b: &Kind) -> bool {
    match (a, b) {
        (Kind::StringValue(a), Kind::StringValue(b)) => a == b,
        (Kind::BoolValue(a), Kind::BoolValue(b)) => a == b,
        (a, b) => number(a) == number(b),
    }
}

fn compares(found: Option<&Kind>, operator: Operator, values: &[Kind]) -> bool {
    let contains = |test: fn(&str, &str) -> bool| match found {
        Some(Kind::StringValue(text)) => values.iter().any(|value| matches!(value, Kind::StringValue(part) if test(text, part))),
        _ => false,
    };
    let is_in = found.is_some_and(|found| values.iter().any(|value| equal(found, value)));
    let order = |test: fn(f64, f64) -> bool| found.is_some_and(|found| test(number(found), number(&values[0])));
    match operator {
        Operator::Unspecified => panic!("an operator"),
        Operator::In => is_in,
        Operator::NotIn => !is_in,
        Operator::Less => order(|a, b| a < b),
        Operator::LessOrEqual => order(|a, b| a <= b),
        Operator::Greater => order(|a, b| a > b),
        Operator::GreaterOrEqual => order(|a, b| a >= b),
        Operator::Between => order(|a, b| a >= b) && number(found.expect("a value")) < number(&values[1]),
        Operator::Contains => contains(|text, part| text.contains(part)),
        Operator::NotContains => !contains(|text, part| text.contains(part)),
        Operator::StartsWith => contains(|text, part| text.starts_with(part)),
        Operator::EndsWith => contains(|text, part| text.ends_with(part)),
        Operator::Exists => found.is_some(),
        Operator::NotExists => found.is_none(),
    }
}

fn passes(row: Row<'_>, filter: Option<&Filter>) -> bool {
    let event = row.event;
    match filter.and_then(|filter| filter.node.as_ref()) {
        None => true,
        Some(filter::Node::All(list)) => list.filters.iter().all(|filter| passes(row, Some(filter))),
        Some(filter::Node::Any(list)) => list.filters.iter().any(|filter| passes(row, Some(filter))),
        Some(filter::Node::Not(inner)) => !passes(row, Some(inner)),
        Some(filter::Node::Compare(comparison)) => {
            let values: Vec<Kind> = comparison.values.iter().filter_map(|value| value.kind.clone()).collect();
            match comparison.field.as_ref().and_then(|field| field.field.as_ref()).expect("a field") {
                field::Field::ItemProperty(name) => {
                    let mut items = event.items.iter().map(|item| compares(of_item(item, name).as_ref(), comparison.operator(), &values));
                    match comparison.item_match() {
                        ItemMatch::Unspecified | ItemMatch::Any => items.any(|matched| matched),
                        ItemMatch::All => !event.items.is_empty() && items.all(|matched| matched),
                        ItemMatch::None => !items.any(|matched| matched),
                    }
                }
                field => compares(of_event(row, field).as_ref(), comparison.operator(), &values),
            }
        }
    }
}

fn counts(metric: &Metric, request: &QueryEventsRequest, row: Row<'_>) -> bool {
    let named = |name: &String| catalogue::canonical_event(name).unwrap_or(name) == row.event.name;
    (metric.events.is_empty() || metric.events.iter().any(named))
        && passes(row, request.filter.as_ref())
        && passes(row, metric.filter.as_ref())
}

fn unit(unit: Unit, event: &ResolvedEvent) -> Option<String> {
    match unit {
        Unit::Unspecified | Unit::Device => (event.device != 0).then(|| event.device.to_string()),
        Unit::Profile => Some(event.person.to_string()),
        Unit::Session => (!event.session_id.is_empty()).then(|| format!("{} {}", event.person, event.session_id)),
        Unit::Account => (!event.account_id.is_empty()).then(|| event.account_id.clone()),
    }
}

/// Values of a metric's field in these rows: of every item where the row is an event.
fn values(rows: &[Row<'_>], field: &Field) -> Vec<Kind> {
    let name = match field.field.as_ref().expect("a field") {
        field::Field::ItemProperty(name) => Some(name),
        _ => None,
    };
    rows.iter()
        .flat_map(|row| match (name, row.item) {
            (Some(name), None) => row.event.items.iter().filter_map(|item| of_item(item, name)).collect::<Vec<_>>(),
            (_, _) => of_row(*row, field).into_iter().collect(),
        })
        .collect()
}

fn money(item: &Item) -> Option<i128> {
    Some(i128::from(item.price_e4?) * i128::from(item.quantity?))
}

/// So many parts of something in ten-thousandths, rounded half to even.
fn of_parts(parts: i128) -> Number {
    let whole = i128::from(WHOLE);
    let (below, rest) = (parts.div_euclid(whole), parts.rem_euclid(whole));
    let is_up = 2 * rest > whole || 2 * rest == whole && below % 2 != 0;
    decimal(&format_e4(below + i128::from(is_up)))
}

/// The number of a metric over the rows that it counts.
fn figure(metric: &Metric, rows: &[Row<'_>], is_shared: bool) -> Number {
    let field = metric.field.clone().unwrap_or_default();
    let counted = |rows: &mut dyn Iterator<Item = (u64, u64)>| match is_shared {
        true => of_parts(rows.map(|(parts, count)| i128::from(parts) * i128::from(count) * 10_000).sum()),
        false => count(rows.map(|(_, count)| count).sum()),
    };
    match metric.aggregation() {
        Aggregation::Unspecified | Aggregation::Total => counted(&mut rows.iter().map(|row| (row.parts, 1))),
        Aggregation::Unique => count(rows.iter().filter_map(|row| unit(metric.unit(), row.event)).collect::<BTreeSet<_>>().len() as u64),
        Aggregation::Revenue => {
            let of_row = |row: &Row<'_>| {
                let money = match row.item {
                    Some(item) => money(item).unwrap_or(0),
                    None => row.event.items.iter().filter_map(money).sum(),
                };
                money * i128::from(row.parts)
            };
            of_parts(rows.iter().map(of_row).sum())
        }
        Aggregation::Count => counted(&mut rows.iter().map(|row| (row.parts, values(&[*row], &field).len() as u64))),
        Aggregation::DistinctCount => {
            count(values(rows, &field).iter().map(|value| format!("{value:?}")).collect::<BTreeSet<_>>().len() as u64)
        }
        Aggregation::Sum if is_shared && !is_double(&field) => {
            let of_row = |row: &Row<'_>| {
                let sum: f64 = values(&[*row], &field).iter().map(number).sum();
                // Numbers of the tests are small, so that floating point is exact here.
                (sum * 10_000.0) as i128 * i128::from(row.parts)
            };
            of_parts(rows.iter().map(of_row).sum())
        }
        Aggregation::Sum | Aggregation::Average if is_shared => {
            let share = |row: &Row<'_>| row.parts as f64 / WHOLE as f64;
            let of_row = |row: &Row<'_>| values(&[*row], &field).iter().map(number).sum::<f64>() * share(row);
            let sum: f64 = rows.iter().map(of_row).sum::<f64>() + 0.0;
            let count: f64 = rows.iter().map(|row| values(&[*row], &field).len() as f64 * share(row)).sum();
            match metric.aggregation() {
                Aggregation::Sum => double(sum),
                _ if count == 0.0 => NOTHING,
                _ => double(sum / count),
            }
        }
        aggregation => of_numbers(aggregation, metric, &values(&once(rows), &field), &field),
    }
}

fn is_double(field: &Field) -> bool {
    matches!(field.field.as_ref(), Some(field::Field::Property(name)) if name == "score")
}

fn of_numbers(aggregation: Aggregation, metric: &Metric, values: &[Kind], field: &Field) -> Number {
    let mut numbers: Vec<f64> = values.iter().map(number).collect();
    numbers.sort_by(f64::total_cmp);
    let name = match field.field.as_ref().expect("a field") {
        field::Field::Dimension(name) | field::Field::Property(name) | field::Field::ItemProperty(name) => name.as_str(),
    };
    // Numbers of the tests are small, so that floating point is exact here.
    let typed = |value: f64| match name {
        "size" | "quantity" | "weight" => int(value as i64),
        "amount" | "price" => decimal(&format_e4((value * 10_000.0).round() as i128)),
        "when" => Number { kind: Some(NumberKind::Time(timestamp(value as i64))) },
        _ => double(value),
    };
    match aggregation {
        // The sum of nothing is negative zero in floating point.
        Aggregation::Sum => typed(numbers.iter().sum::<f64>() + 0.0),
        Aggregation::Min => numbers.first().map_or(NOTHING, |value| typed(*value)),
        Aggregation::Max => numbers.last().map_or(NOTHING, |value| typed(*value)),
        Aggregation::Average if numbers.is_empty() => NOTHING,
        Aggregation::Average => double(numbers.iter().sum::<f64>() / numbers.len() as f64),
        Aggregation::Percentile if numbers.is_empty() => NOTHING,
        Aggregation::Percentile => {
            let rank = metric.percentile / 100.0 * (numbers.len() - 1) as f64;
            let (low, high) = (numbers[rank.floor() as usize], numbers[rank.ceil() as usize]);
            double(low + (high - low) * (rank - rank.floor()))
        }
        other => panic!("{other:?}"),
    }
}

/// A group's values, ordered as the answer orders ties.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Value(i128, String),
    Missing,
}

fn key(kind: Option<&Kind>) -> Key {
    match kind {
        None => Key::Missing,
        Some(Kind::StringValue(text)) => Key::Value(0, text.clone()),
        Some(Kind::BoolValue(truth)) => Key::Value(i128::from(*truth), String::new()),
        Some(other) => Key::Value((number(other) * 10_000.0).round() as i128, String::new()),
    }
}

/// Rows of a range, per group.
struct Grouped<'a> {
    groups: Groups<'a>,
}

/// Values and rows, by keys.
type Groups<'a> = BTreeMap<Vec<Key>, (Vec<Option<Kind>>, Vec<Row<'a>>)>;

fn grouped<'a>(events: &'a [ResolvedEvent], request: &QueryEventsRequest, start: i64, end: i64) -> Grouped<'a> {
    let item_level = request.group_by.iter().any(|field| matches!(field.field, Some(field::Field::ItemProperty(_))));
    let mut groups: Groups<'a> = BTreeMap::new();
    let in_range = (0..events.len()).filter(|at| (start..end).contains(&events[*at].time_us));
    let taken = |row: &Row<'_>| request.metrics.iter().any(|metric| counts(metric, request, *row));
    for row in in_range.flat_map(|at| shares(events, request, at)).filter(taken) {
        let rows: Vec<Row<'a>> =
            if item_level { row.event.items.iter().map(|item| Row { item: Some(item), ..row }).collect() } else { vec![row] };
        for row in rows {
            let values: Vec<Option<Kind>> = request.group_by.iter().map(|field| of_row(row, field)).collect();
            let keys = values.iter().map(|value| key(value.as_ref())).collect();
            groups.entry(keys).or_insert_with(|| (values, Vec::new())).1.push(row);
        }
    }
    Grouped { groups }
}

/// Whether a metric counts something of a row: the unit, the value, the money.
fn has_counted(metric: &Metric, row: Row<'_>) -> bool {
    match metric.aggregation() {
        Aggregation::Unspecified | Aggregation::Total => true,
        Aggregation::Unique => unit(metric.unit(), row.event).is_some(),
        Aggregation::Revenue => match row.item {
            Some(item) => money(item).is_some(),
            None => row.event.items.iter().any(|item| money(item).is_some()),
        },
        _ => !values(&[row], &metric.field.clone().unwrap_or_default()).is_empty(),
    }
}

/// The persons behind a number of the answer.
pub fn persons(events: &[ResolvedEvent], request: &QueryEventsRequest, zone: Tz, cell: &pb::EventCell) -> BTreeSet<u32> {
    let us_of = |time: Option<Timestamp>| time.map(|time| time.seconds * 1_000_000 + i64::from(time.nanos / 1000)).expect("a time");
    let bounds = request.range.expect("a range");
    let (start, end) = (us_of(bounds.start), us_of(bounds.end));
    let range = match cell.comparison {
        true => (us_of(request.compare_start), us_of(request.compare_start) + end - start),
        false => (start, end),
    };
    let keys_of = |values: &[pb::GroupValue]| -> Vec<Key> {
        values.iter().map(|value| key(value.value.as_ref().and_then(|value| value.kind.as_ref()))).collect()
    };
    let answer = expected(events, request, zone);
    let shown: BTreeSet<Vec<Key>> = answer.groups.iter().filter(|group| !group.other).map(|group| keys_of(&group.values)).collect();
    let is_in = |keys: &Vec<Key>| match &cell.group {
        None => true,
        Some(group) if group.other => !shown.contains(keys),
        Some(group) => keys_of(&group.values) == *keys,
    };
    let metric = &request.metrics[cell.metric as usize];
    let in_period = |row: &Row<'_>| {
        let Some(period) = cell.period else { return true };
        let grain = grain_of(request).expect("a grain");
        bucket_start_us(row.event.time_us, grain, zone).expect("a bucket").max(range.0) == us_of(Some(period))
    };
    let grouped = grouped(events, request, range.0, range.1);
    let rows = grouped.groups.iter().filter(|(keys, _)| is_in(keys)).flat_map(|(_, (_, rows))| rows);
    let counted = |row: &&Row<'_>| counts(metric, request, **row) && has_counted(metric, **row) && in_period(row);
    rows.filter(counted).map(|row| row.event.person).collect()
}

fn grain_of(request: &QueryEventsRequest) -> Option<Grain> {
    match request.grain() {
        pb::Grain::Unspecified => None,
        pb::Grain::Hour => Some(Grain::Hour),
        pb::Grain::Day => Some(Grain::Day),
        pb::Grain::Week => Some(Grain::Week),
        pb::Grain::Month => Some(Grain::Month),
    }
}

fn starts(start: i64, end: i64, grain: Option<Grain>, zone: Tz) -> Vec<i64> {
    let Some(grain) = grain else { return Vec::new() };
    let mut starts = vec![start];
    let mut bucket = next_bucket_us(bucket_start_us(start, grain, zone).expect("a bucket"), grain, zone).expect("a bucket");
    while bucket < end {
        starts.push(bucket);
        bucket = next_bucket_us(bucket, grain, zone).expect("a bucket");
    }
    starts
}

fn group(request: &QueryEventsRequest, rows: &[Row<'_>], values: Vec<Option<Kind>>, other: bool, range: (i64, i64), zone: Tz) -> Group {
    let grain = grain_of(request);
    let numbers = |rows: &[Row<'_>]| {
        let of = |metric: &Metric| {
            let rows: Vec<Row<'_>> = rows.iter().copied().filter(|row| counts(metric, request, *row)).collect();
            figure(metric, &rows, is_shared(request))
        };
        request.metrics.iter().map(of).collect::<Vec<_>>()
    };
    let in_period = |start: i64| {
        let grain = grain.expect("a grain");
        let of = |row: &&Row<'_>| bucket_start_us(row.event.time_us, grain, zone).expect("a bucket").max(range.0) == start;
        rows.iter().filter(of).copied().collect::<Vec<_>>()
    };
    let periods = starts(range.0, range.1, grain, zone)
        .into_iter()
        .map(|start| pb::Period { start: Some(timestamp(start)), values: numbers(&in_period(start)) });
    Group {
        values: values.into_iter().map(|kind| pb::GroupValue { value: kind.map(value) }).collect(),
        other,
        totals: numbers(rows),
        periods: periods.collect(),
    }
}

fn rank(number: &Number) -> f64 {
    match number.kind.as_ref() {
        None => f64::NEG_INFINITY,
        Some(NumberKind::Count(count)) => *count as f64,
        Some(NumberKind::Decimal(text)) => text.parse().expect("a number"),
        Some(NumberKind::Double(value)) => *value,
        Some(NumberKind::Int(value)) => *value as f64,
        Some(NumberKind::Time(time)) => time.seconds as f64 + f64::from(time.nanos) / 1e9,
    }
}

/// Computes the answer row by row.
pub fn expected(events: &[ResolvedEvent], request: &QueryEventsRequest, zone: Tz) -> Expected {
    let bounds = request.range.expect("a range");
    let us_of = |time: Option<Timestamp>| time.map(|time| time.seconds * 1_000_000 + i64::from(time.nanos / 1000)).expect("a time");
    let range = (us_of(bounds.start), us_of(bounds.end));
    let main = grouped(events, request, range.0, range.1);
    let mut ranked: Vec<(&Vec<Key>, Group)> =
        main.groups.iter().map(|(keys, (values, rows))| (keys, group(request, rows, values.clone(), false, range, zone))).collect();
    if request.group_by.is_empty() && ranked.is_empty() {
        static NO_KEYS: Vec<Key> = Vec::new();
        ranked.push((&NO_KEYS, group(request, &[], Vec::new(), false, range, zone)));
    }
    // Stable, and the map is in the order of values.
    ranked.sort_by(|(_, a), (_, b)| rank(&b.totals[0]).total_cmp(&rank(&a.totals[0])));
    let groups_total = ranked.len() as u64;
    let top = if request.top == 0 { 200 } else { request.top as usize };
    let rest = ranked.split_off(ranked.len().min(top));
    let rows_of = |grouped: &Grouped<'_>, keys: &Vec<Key>| -> Vec<usize> {
        grouped.groups.keys().enumerate().filter(|(_, known)| *known == keys).map(|(at, _)| at).collect()
    };
    let mut groups: Vec<Group> = ranked.iter().map(|(_, group)| group.clone()).collect();
    let all_rows: Vec<Row<'_>> = main.groups.values().flat_map(|(_, rows)| rows.iter().copied()).collect();
    if !rest.is_empty() {
        let rows: Vec<Row<'_>> = rest.iter().flat_map(|(keys, _)| main.groups[*keys].1.iter().copied()).collect();
        groups.push(group(request, &rows, Vec::new(), true, range, zone));
    }
    let comparison = request.compare_start.map(|start| {
        let start = us_of(Some(start));
        let range = (start, start + range.1 - range.0);
        let earlier = grouped(events, request, range.0, range.1);
        let shown: Vec<usize> = ranked.iter().flat_map(|(keys, _)| rows_of(&earlier, keys)).collect();
        let of_shown = |(keys, shown): &(&Vec<Key>, Group)| {
            let rows = earlier.groups.get(*keys).map_or(&[][..], |(_, rows)| rows);
            let values = shown.values.iter().map(|value| value.value.clone().and_then(|value| value.kind)).collect();
            group(request, rows, values, false, range, zone)
        };
        let mut groups: Vec<Group> = ranked.iter().map(of_shown).collect();
        let rest = earlier.groups.values().enumerate().filter(|(at, _)| !shown.contains(at));
        let rest: Vec<Row<'_>> = rest.flat_map(|(_, (_, rows))| rows.iter().copied()).collect();
        if !rest.is_empty() {
            groups.push(group(request, &rest, Vec::new(), true, range, zone));
        }
        groups
    });
    let (skipped_items, without_unit) = left_out(request, &all_rows);
    Expected {
        groups,
        comparison: comparison.unwrap_or_default(),
        total: group(request, &all_rows, Vec::new(), false, range, zone),
        groups_total,
        skipped_items,
        without_unit,
    }
}

/// Items without price or quantity under a REVENUE metric, and events without the unit of a UNIQUE metric.
fn left_out(request: &QueryEventsRequest, rows: &[Row<'_>]) -> (u64, u64) {
    let of = |aggregation: Aggregation, row: &Row<'_>, test: &dyn Fn(&Metric) -> bool| {
        request.metrics.iter().any(|metric| metric.aggregation() == aggregation && counts(metric, request, *row) && test(metric))
    };
    let skipped = |row: &Row<'_>| -> u64 {
        match row.item {
            Some(item) => u64::from(money(item).is_none()),
            None => row.event.items.iter().filter(|item| money(item).is_none()).count() as u64,
        }
    };
    let of_revenue: Vec<Row<'_>> = rows.iter().copied().filter(|row| of(Aggregation::Revenue, row, &|_| true)).collect();
    let events: BTreeSet<*const ResolvedEvent> = rows
        .iter()
        .filter(|row| of(Aggregation::Unique, row, &|metric| unit(metric.unit(), row.event).is_none()))
        .map(|row| std::ptr::from_ref(row.event))
        .collect();
    (once(&of_revenue).iter().map(skipped).sum(), events.len() as u64)
}
