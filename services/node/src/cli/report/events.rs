//! The general event report as a table.

use segue_proto::analytics::v1::{Grain, Group, Number, QueryEventsResponse, number};

use super::super::table;
use super::values::{as_of, show_group_value, show_period, show_time};

/// One row per group and period.
pub(crate) fn event_table(answer: &QueryEventsResponse) -> comfy_table::Table {
    let options = answer.options.clone().unwrap_or_default();
    let zone: chrono_tz::Tz = options.time_zone.parse().unwrap_or(chrono_tz::UTC);
    let grain = options.grain();
    let fields = options.group_by.iter().map(field_name);
    let names = options.metrics.iter().map(|metric| metric.name.clone()).chain(options.formulas.iter().map(|formula| formula.name.clone()));
    let period = (grain != Grain::Unspecified).then(|| "period".to_owned());
    let header: Vec<String> = fields.chain(period).chain(names).collect();
    let mut shown = table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    let width = options.group_by.len();
    for group in &answer.groups {
        let labels = group_labels(group, width);
        if grain == Grain::Unspecified {
            shown.add_row(labels.into_iter().chain(group.totals.iter().map(show_number)));
            continue;
        }
        for period in &group.periods {
            let start = show_period(period.start.as_ref(), grain, zone);
            shown.add_row(labels.iter().cloned().chain([start]).chain(period.values.iter().map(show_number)));
        }
    }
    shown
}

fn field_name(field: &segue_proto::query::v1::Field) -> String {
    use segue_proto::query::v1::field::Field;
    match &field.field {
        Some(Field::Dimension(name) | Field::Property(name)) => name.clone(),
        Some(Field::ItemProperty(name)) => format!("item {name}"),
        None => String::new(),
    }
}

fn group_labels(group: &Group, width: usize) -> Vec<String> {
    if group.other {
        return (0..width).map(|_| "(other)".to_owned()).collect();
    }
    group.values.iter().map(show_group_value).collect()
}

/// A number of a report; `–` where there is none.
pub(crate) fn show_number(number: &Number) -> String {
    match &number.kind {
        None => "–".to_owned(),
        Some(number::Kind::Count(count)) => count.to_string(),
        Some(number::Kind::Decimal(decimal)) => decimal.clone(),
        Some(number::Kind::Double(double)) => format!("{double:.4}"),
        Some(number::Kind::Int(int)) => int.to_string(),
        Some(number::Kind::Time(time)) => show_time(time),
    }
}

/// What the reader should know beside the numbers.
pub(super) fn footnotes(answer: &QueryEventsResponse) -> String {
    let options = answer.options.clone().unwrap_or_default();
    let mut notes = vec![format!("zone {}, {}", options.time_zone, as_of(options.watermark.as_ref()))];
    if options.item_level {
        notes.push("grouped by item: totals count items and do not add up over groups".to_owned());
    }
    if answer.skipped_items > 0 {
        notes.push(format!("{} items without price or quantity were skipped", answer.skipped_items));
    }
    if answer.without_unit > 0 {
        notes.push(format!("{} events carry no such unit", answer.without_unit));
    }
    if answer.groups_total > answer.groups.iter().filter(|group| !group.other).count() as u64 {
        notes.push(format!("{} groups in all", answer.groups_total));
    }
    notes.join("; ")
}
