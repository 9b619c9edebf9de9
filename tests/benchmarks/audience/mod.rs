//! Audiences: how long their evaluation takes, how late membership is, and what keeping many of them live costs. What was measured is
//! kept in `README.md` here.

mod conditions;
mod data;
mod evaluate;
mod live;
mod load;
mod probes;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use data::{Size, Stream};

use crate::Figures;
use crate::engine::data_folder;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// How long full evaluations take.
    Evaluate,
    /// How late transitions come, and what many audiences cost.
    Live,
}

/// How the measurement runs.
#[derive(Debug, Args)]
pub(crate) struct AudienceArgs {
    /// Events of the history.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// Persons of the history.
    #[arg(long, default_value_t = 1_000_000)]
    persons: u32,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Evaluate, Part::Live])]
    parts: Vec<Part>,
    /// Numbers of live audiences, ascending.
    #[arg(long, value_delimiter = ',', default_values_t = [0_usize, 50, 200, 800])]
    audiences: Vec<usize>,
    /// Events per second while they are live.
    #[arg(long, value_delimiter = ',', default_values_t = [5_000_u64, 20_000])]
    rates: Vec<u64>,
    /// Seconds under each rate.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Let everybody come back before live audiences are measured: else the program, which was started anew, reads each person from
    /// its store when they come.
    #[arg(long)]
    warm: bool,
    /// Only these cases (S1, S2, …) are evaluated.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the history is kept for the next run. Default: beside the executable's folder.
    #[arg(long)]
    data: Option<PathBuf>,
}

pub(crate) async fn run(args: &AudienceArgs) -> anyhow::Result<Vec<Figures>> {
    let stream = Stream::get(&data_folder(args.data.as_ref())?, Size { events: args.events, persons: args.persons })?;
    let mut lines = Vec::new();
    if args.parts.contains(&Part::Evaluate) {
        lines.extend(evaluate::run(&stream, &args.only).await?);
    }
    if args.parts.contains(&Part::Live) {
        let wanted = live::Wanted { audiences: &args.audiences, rates: &args.rates, seconds: args.seconds, warm: args.warm };
        lines.extend(live::run(&stream, &wanted).await?);
    }
    Ok(lines)
}
