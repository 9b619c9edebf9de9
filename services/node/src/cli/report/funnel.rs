//! A funnel as bars: one per step, for each group.

use segue_proto::analytics::v1::{FunnelGroup, QueryFunnelResponse};

use super::super::table;
use super::picture::bar;
use super::values::{as_of, show_key, show_seconds, show_share};

const BAR_CHARACTERS: usize = 30;

/// One row per group and step.
pub(super) fn funnel_table(answer: &QueryFunnelResponse) -> comfy_table::Table {
    let grouped = !answer.groups.is_empty();
    let mut header = vec!["step", "count", "", "of first", "of previous", "median time", "can still go on"];
    if grouped {
        header.insert(0, "group");
    }
    let mut shown = table(&header);
    for group in answer.total.iter().chain(&answer.groups) {
        for row in rows(group) {
            let label = grouped.then(|| show_key(group.key.as_ref()));
            shown.add_row(label.into_iter().chain(row));
        }
    }
    shown
}

fn rows(group: &FunnelGroup) -> impl Iterator<Item = [String; 7]> {
    let entrants = group.steps.first().map_or(0, |step| step.count);
    group.steps.iter().enumerate().map(move |(at, step)| {
        [
            format!("{}. {}", at + 1, step.name),
            step.count.to_string(),
            bar(step.count as f64 / entrants.max(1) as f64, BAR_CHARACTERS),
            show_share(step.conversion),
            if at == 0 { String::new() } else { show_share(step.conversion_from_previous) },
            step.time_from_previous.as_ref().map(|time| show_seconds(time.median_seconds)).unwrap_or_default(),
            if step.still_open > 0 { step.still_open.to_string() } else { String::new() },
        ]
    })
}

/// What the reader should know beside the numbers.
pub(super) fn footnotes(answer: &QueryFunnelResponse) -> String {
    let options = answer.options.clone().unwrap_or_default();
    let window = options.window.map_or(0.0, |window| window.seconds as f64);
    format!(
        "within {}, {}, counting {}, {}",
        show_seconds(window),
        options.order().as_str_name().trim_start_matches("FUNNEL_ORDER_").to_lowercase(),
        options.counting().as_str_name().trim_start_matches("FUNNEL_COUNTING_").to_lowercase(),
        as_of(answer.watermark.as_ref())
    )
}
