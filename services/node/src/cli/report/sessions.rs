//! Sessions as a table.

use segue_proto::analytics::v1::{Grain, QuerySessionsResponse, SessionFigures};

use super::super::table;
use super::values::{as_of, show_key, show_period, show_seconds, show_share};

/// One row per group and period.
pub(super) fn sessions_table(answer: &QuerySessionsResponse) -> comfy_table::Table {
    let options = answer.options.clone().unwrap_or_default();
    let zone: chrono_tz::Tz = options.time_zone.parse().unwrap_or(chrono_tz::UTC);
    let grouped = !answer.groups.is_empty();
    let with_periods = options.grain() != Grain::Unspecified;
    let mut header = vec!["sessions", "persons", "events", "bounces", "mean length", "median length", "events each"];
    if with_periods {
        header.insert(0, "period");
    }
    if grouped {
        header.insert(0, "group");
    }
    let mut shown = table(&header);
    for group in answer.total.iter().chain(&answer.groups) {
        let label = || grouped.then(|| show_key(group.key.as_ref()));
        for period in &group.periods {
            let start = show_period(period.start.as_ref(), options.grain(), zone);
            let figures = period.figures.unwrap_or_default();
            shown.add_row(label().into_iter().chain([start]).chain(row(&figures)));
        }
        let all = with_periods.then(|| "all".to_owned());
        shown.add_row(label().into_iter().chain(all).chain(row(&group.total.unwrap_or_default())));
    }
    shown
}

fn row(figures: &SessionFigures) -> [String; 7] {
    let length = |seconds: Option<f64>| seconds.map_or_else(|| "–".to_owned(), show_seconds);
    [
        figures.sessions.to_string(),
        figures.persons.to_string(),
        figures.events.to_string(),
        show_share(figures.bounce_rate),
        length(figures.duration_mean_seconds),
        length(figures.duration_median_seconds),
        figures.events_mean.map_or_else(|| "–".to_owned(), |mean| format!("{mean:.2}")),
    ]
}

/// What the reader should know beside the numbers.
pub(super) fn footnotes(answer: &QuerySessionsResponse) -> String {
    let options = answer.options.clone().unwrap_or_default();
    let gap = options.gap.map_or(0.0, |gap| gap.seconds as f64);
    let open = answer.total.as_ref().and_then(|group| group.total.as_ref()).map_or(0, |figures| figures.still_open);
    let zone = &options.time_zone;
    format!(
        "zone {zone}; sessions end after a pause over {}; {open} may still go on; {}",
        show_seconds(gap),
        as_of(answer.watermark.as_ref())
    )
}
