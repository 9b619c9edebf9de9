//! Audiences: how long their evaluation takes, how late membership is, and what keeping many of them live costs. What was measured is
//! kept in `README.md` here.

mod conditions;
mod data;
mod evaluate;

use std::path::PathBuf;

use clap::Args;

use data::{Size, Stream};

use crate::Figures;
use crate::engine::data_folder;

/// How the measurement runs.
#[derive(Debug, Args)]
pub(crate) struct AudienceArgs {
    /// Events of the history.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// Persons of the history.
    #[arg(long, default_value_t = 1_000_000)]
    persons: u32,
    /// Only these cases (S1, S2, …).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the history is kept for the next run. Default: beside the executable's folder.
    #[arg(long)]
    data: Option<PathBuf>,
}

pub(crate) async fn run(args: &AudienceArgs) -> anyhow::Result<Vec<Figures>> {
    let stream = Stream::get(&data_folder(args.data.as_ref())?, Size { events: args.events, persons: args.persons })?;
    evaluate::run(&stream, &args.only).await
}
