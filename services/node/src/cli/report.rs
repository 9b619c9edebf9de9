//! `segue report`: asks for a report written as JSON and prints it.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::DateTime;
use clap::{Args, Subcommand};
use segue_proto::analytics::v1::{Grain, Group, GroupValue, Number, QueryEventsRequest, QueryEventsResponse, number};
use segue_proto::events::v1::value;

use super::{Output, ProcessArgs, ServerArgs, print_json, say, table};
use crate::json;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: ReportCommand,
}

#[derive(Debug, Subcommand)]
enum ReportCommand {
    /// The general event report.
    Events {
        /// A segue.analytics.v1.QueryEventsRequest as JSON; `-` reads standard input.
        request: PathBuf,
    },
}

pub(super) async fn report(process: &ProcessArgs, args: ReportArgs) -> anyhow::Result<()> {
    match args.command {
        ReportCommand::Events { request } => {
            let text = read_text(&request)?;
            let request: QueryEventsRequest = json::read("segue.analytics.v1.QueryEventsRequest", &text)?;
            let answer = args.server.connect(process).await?.analytics().query_events(request).await?.into_inner();
            match process.output() {
                Output::Json => print_json(&json::write("segue.analytics.v1.QueryEventsResponse", &answer)?),
                Output::Table => {
                    say(event_table(&answer))?;
                    eprintln!("{}", footnotes(&answer));
                    Ok(())
                }
            }
        }
    }
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

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
            let start = period.start.and_then(|start| DateTime::from_timestamp(start.seconds, 0));
            let format = if grain == Grain::Hour { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d" };
            let start = start.map(|start| start.with_timezone(&zone).format(format).to_string()).unwrap_or_default();
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

fn show_group_value(value: &GroupValue) -> String {
    match value.value.as_ref().and_then(|value| value.kind.as_ref()) {
        None => "(missing)".to_owned(),
        Some(value::Kind::StringValue(text) | value::Kind::JsonValue(text)) if text.is_empty() => "(empty)".to_owned(),
        Some(value::Kind::StringValue(text) | value::Kind::JsonValue(text)) => text.clone(),
        Some(value::Kind::IntValue(number)) => number.to_string(),
        Some(value::Kind::DoubleValue(number)) => number.to_string(),
        Some(value::Kind::BoolValue(truth)) => truth.to_string(),
        Some(value::Kind::DecimalE4Value(e4)) => segue_model::Decimal4(*e4).to_string(),
        Some(value::Kind::TimestampValue(time)) => show_time(time),
    }
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

fn show_time(time: &prost_types::Timestamp) -> String {
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or_default()).map(|time| time.to_rfc3339()).unwrap_or_default()
}

/// What the reader should know beside the numbers.
fn footnotes(answer: &QueryEventsResponse) -> String {
    let options = answer.options.clone().unwrap_or_default();
    let mut notes = vec![format!("zone {}, as of {}", options.time_zone, options.watermark.as_ref().map(show_time).unwrap_or_default())];
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
