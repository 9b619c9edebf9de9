//! How the time of a question grows: with the events, with the steps of a funnel, and with how many other event names there are.
//!
//! Questions name few of the events, whose share is the same in every stream. Time should follow the rows of the events that are
//! named and nothing else.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::data::{Size, Stream};
use super::ours::Engine;
use super::questions::{FUNNEL, funnel};
use super::{RUNS, data_folder, rounded};
use crate::Figures;

/// How the measurement runs.
#[derive(Debug, Args)]
pub(crate) struct GrowthArgs {
    /// Sizes of streams in events; there is a person per 50 of them.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000_u64, 10_000_000, 50_000_000])]
    events: Vec<u64>,
    /// Numbers of event names, at least 10.
    #[arg(long, value_delimiter = ',', default_values_t = [10_u32, 1_000])]
    event_names: Vec<u32>,
    /// Steps of the funnel, at most 4.
    #[arg(long, value_delimiter = ',', default_values_t = [1_usize, 4])]
    steps: Vec<usize>,
    /// Where streams are kept while they are measured. Default: beside the executable's folder.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Leave them there for the next run.
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn run(args: &GrowthArgs) -> anyhow::Result<Vec<Figures>> {
    let root = data_folder(args.data.as_ref())?;
    let mut lines = Vec::new();
    for event_names in args.event_names.iter().copied() {
        for events in args.events.iter().copied() {
            let stream = Stream::get(&root, Size { events, persons: (events / 50).max(1) as u32, event_names })?;
            let engine = Engine::with(&stream).await?;
            for steps in args.steps.iter().map(|steps| (*steps).clamp(1, FUNNEL.len())) {
                lines.push(measure(&engine, steps, &stream.size).await?);
            }
            engine.stop().await?;
            if !args.keep {
                std::fs::remove_dir_all(stream.root())?;
            }
        }
    }
    Ok(lines)
}

async fn measure(engine: &Engine, steps: usize, size: &Size) -> anyhow::Result<Figures> {
    let request = funnel(&FUNNEL[..steps]);
    let mut client = engine.client();
    let mut rows = 0;
    let mut best = [f64::INFINITY; 2];
    for (best, forget) in best.iter_mut().zip([false, true]) {
        // The first run of either kind fills what it fills.
        for _ in 0..=RUNS {
            if forget {
                engine.index.forget_columns();
            }
            let started = Instant::now();
            let answer = client.query_funnel(engine.request(request.clone())).await?.into_inner();
            *best = best.min(rounded(started.elapsed()));
            rows = answer.stats.unwrap_or_default().rows_scanned;
        }
    }
    Ok(vec![
        ("events", json!(size.events)),
        ("event_names", json!(size.event_names)),
        ("steps", json!(steps)),
        ("rows", json!(rows)),
        ("cached_s", json!(best[0])),
        ("cached_ns_per_row", json!((best[0] * 1e10 / rows.max(1) as f64).round() / 10.0)),
        ("parquet_s", json!(best[1])),
    ])
}
