//! Paths as a table of edges, step by step.

use segue_proto::analytics::v1::{PathCounting, QueryPathResponse};

use super::super::table;
use super::picture::bar;
use super::values::{as_of, show_seconds, show_share};

const BAR_CHARACTERS: usize = 20;

/// One row per edge; the bar is its share of the paths at its start.
pub(super) fn path_table(answer: &QueryPathResponse) -> comfy_table::Table {
    let options = answer.options.clone().unwrap_or_default();
    let unit = if options.counting() == PathCounting::Persons { "persons" } else { "sessions" };
    let mut shown = table(&["step", "from", "to", unit, "", "of from", "mean time"]);
    for edge in &answer.edges {
        let at = answer.steps.iter().find(|step| step.step == edge.step);
        let from = at.and_then(|step| step.nodes.iter().find(|node| node.name == edge.from)).map_or(0, |node| node.value);
        let share = edge.value as f64 / from.max(1) as f64;
        shown.add_row([
            edge.step.to_string(),
            edge.from.clone(),
            edge.to.clone(),
            edge.value.to_string(),
            bar(share, BAR_CHARACTERS),
            show_share((from > 0).then_some(share)),
            edge.mean_seconds.map(show_seconds).unwrap_or_default(),
        ]);
    }
    shown
}

/// What the reader should know beside the numbers.
pub(super) fn footnotes(answer: &QueryPathResponse) -> String {
    let options = answer.options.clone().unwrap_or_default();
    let gap = options.session_gap.map_or(0.0, |gap| gap.seconds as f64);
    format!("{} paths; sessions end after a pause over {}; {}", answer.entrants, show_seconds(gap), as_of(answer.watermark.as_ref()))
}
