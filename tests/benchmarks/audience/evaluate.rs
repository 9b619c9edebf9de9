//! How long the full evaluation of a condition takes: S1 to S6, with columns in memory and from Parquet.

use std::time::Instant;

use anyhow::ensure;
use prost_types::Timestamp;
use segue_proto::analytics::v1::select_persons_request::Who;
use segue_proto::analytics::v1::{CountPersonsRequest, SelectPersonsRequest, SelectPersonsResponse};
use serde_json::json;

use super::conditions::{Case, acceptance};
use super::data::{DAYS, Stream};
use crate::Figures;
use crate::engine::ours::Engine;

/// Runs of which the median counts.
const RUNS: usize = 11;

/// The engine that holds a stream.
pub(crate) async fn engine(stream: &Stream) -> anyhow::Result<Engine> {
    let events = stream.size.events;
    Engine::holding(&stream.beside("segue"), events, DAYS as usize, |day| Ok(stream.day(day as u32))).await
}

/// A line per case.
pub(crate) async fn run(stream: &Stream, only: &[String]) -> anyhow::Result<Vec<Figures>> {
    let engine = engine(stream).await?;
    let mut lines = Vec::new();
    for case in acceptance().into_iter().filter(|case| only.is_empty() || only.iter().any(|name| name == case.name)) {
        lines.push(measure(&engine, stream, &case).await?);
    }
    engine.stop().await?;
    Ok(lines)
}

async fn measure(engine: &Engine, stream: &Stream, case: &Case) -> anyhow::Result<Figures> {
    let first = select(engine, stream, case).await?;
    let mut medians = [0.0; 2];
    for (median, forget) in medians.iter_mut().zip([false, true]) {
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            if forget {
                engine.index.forget_columns();
            }
            let started = Instant::now();
            let again = select(engine, stream, case).await?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
            ensure!(again.bitmap == first.bitmap, "`{}` was answered in two ways", case.name);
        }
        *median = middle(times);
    }
    let mut counts = Vec::with_capacity(RUNS);
    for run in 0..=RUNS {
        let request = CountPersonsRequest { condition: Some(case.condition.clone()), as_of: as_of(stream), ..Default::default() };
        let started = Instant::now();
        let count = engine.client().count_persons(engine.request(request)).await?.into_inner().count;
        if run > 0 {
            counts.push(started.elapsed().as_secs_f64() * 1e3);
        }
        ensure!(count == first.count, "`{}` was counted in two ways", case.name);
    }
    eprintln!("{}: {}", case.name, case.says);
    Ok(vec![
        ("figure", json!("evaluation")),
        ("case", json!(case.name)),
        ("events", json!(stream.size.events)),
        ("cached_ms", json!(medians[0])),
        ("parquet_ms", json!(medians[1])),
        ("count_cached_ms", json!(middle(counts))),
        ("persons", json!(first.count)),
        ("rows_read", json!(first.stats.map(|stats| stats.rows_scanned))),
    ])
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).map_or(f64::NAN, |ms| (ms * 100.0).round() / 100.0)
}

fn as_of(stream: &Stream) -> Option<Timestamp> {
    Some(Timestamp { seconds: stream.end_us.div_euclid(1_000_000), nanos: 0 })
}

async fn select(engine: &Engine, stream: &Stream, case: &Case) -> anyhow::Result<SelectPersonsResponse> {
    let who = Some(Who::Condition(case.condition.clone()));
    let request = SelectPersonsRequest { who, as_of: as_of(stream), bitmap: true, ..Default::default() };
    Ok(engine.client().select_persons(engine.request(request)).await?.into_inner())
}
