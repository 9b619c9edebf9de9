//! Retention as a heat table: a row per cohort, darker where more came back.

use comfy_table::Cell;
use segue_proto::analytics::v1::{QueryRetentionResponse, RetentionGroup, RetentionMode};

use super::super::table;
use super::picture::heat;
use super::values::{as_of, show_key, show_period};

/// One row per cohort, and one for the averages, for each group.
pub(super) fn retention_table(answer: &QueryRetentionResponse) -> comfy_table::Table {
    let options = answer.options.clone().unwrap_or_default();
    let zone: chrono_tz::Tz = options.time_zone.parse().unwrap_or(chrono_tz::UTC);
    let grouped = !answer.groups.is_empty();
    let width = answer.total.iter().flat_map(|group| &group.cohorts).map(|cohort| cohort.cells.len()).max().unwrap_or(0);
    let columns: Vec<String> = match options.mode() {
        RetentionMode::Bracket => options.brackets.iter().map(|bracket| format!("{}–{}", bracket.start, bracket.end)).collect(),
        RetentionMode::OnOrAfter => (0..width).map(|cell| format!("{cell}+")).collect(),
        RetentionMode::Unspecified | RetentionMode::On => (0..width).map(|cell| cell.to_string()).collect(),
    };
    let mut header: Vec<&str> = if grouped { vec!["group", "start", "size"] } else { vec!["start", "size"] };
    header.extend(columns.iter().map(String::as_str));
    let mut shown = table(&header);
    for group in answer.total.iter().chain(&answer.groups) {
        let label = || grouped.then(|| Cell::new(show_key(group.key.as_ref())));
        for cohort in &group.cohorts {
            let start = show_period(cohort.start.as_ref(), options.grain(), zone);
            let cells = cohort.cells.iter().map(|cell| match cell.rate {
                Some(rate) => heat(format!("{:.0} %", rate * 100.0), rate),
                // Not complete yet: what it is so far.
                None if cohort.size > 0 && cell.returned.is_none() => heat(format!("({})", cell.provisional), 0.0),
                None => heat(String::new(), 0.0),
            });
            shown.add_row(label().into_iter().chain([Cell::new(start), Cell::new(cohort.size)]).chain(cells));
        }
        shown.add_row(label().into_iter().chain([Cell::new("average"), Cell::new("")]).chain(averages(group)));
    }
    shown
}

fn averages(group: &RetentionGroup) -> impl Iterator<Item = Cell> {
    group.average.iter().map(|average| match average.rate {
        Some(rate) => heat(format!("{:.1} %", rate * 100.0), rate),
        None => heat("–".to_owned(), 0.0),
    })
}

/// What the reader should know beside the numbers.
pub(super) fn footnotes(answer: &QueryRetentionResponse) -> String {
    let options = answer.options.clone().unwrap_or_default();
    let zone = &options.time_zone;
    format!(
        "zone {zone}, {}; in brackets: counts of buckets that have not ended; they are left out of the average",
        as_of(answer.watermark.as_ref())
    )
}
