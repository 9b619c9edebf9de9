//! Behavioural questions: Segue beside ClickHouse and DuckDB on the same events, with the same answers. What was measured is kept
//! in `README.md` here.

pub(crate) mod data;
pub(crate) mod growth;
pub(crate) mod live;
mod load;
pub(crate) mod ours;
mod peers;
mod questions;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;

use data::{Size, Stream};
use ours::Engine;
use questions::{Answer, Question};

use crate::Figures;

/// Runs of which the best counts.
const RUNS: usize = 5;

/// How the measurement runs.
#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// Events of the stream.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// Persons of the stream.
    #[arg(long, default_value_t = 1_000_000)]
    persons: u32,
    /// Ask ClickHouse and DuckDB too, and compare their answers with ours.
    #[arg(long)]
    peers: bool,
    /// Only these questions.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the stream and all tables are kept for the next run. Default: beside the executable's folder.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Python with the packages of `tests/benchmarks/peers/requirements.txt`; `tests/bench` sets it.
    #[arg(long, env = "SEGUE_BENCH_PYTHON", hide = true)]
    python: Option<PathBuf>,
}

/// The folder of streams.
pub(crate) fn data_folder(given: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    match given {
        Some(folder) => Ok(folder.clone()),
        None => Ok(std::env::current_exe()?.ancestors().nth(2).context("the executable is in no folder")?.join("bench-engine")),
    }
}

pub(crate) async fn run(args: &EngineArgs) -> anyhow::Result<Vec<Figures>> {
    let size = Size { events: args.events, persons: args.persons, event_names: 20 };
    let stream = Stream::get(&data_folder(args.data.as_ref())?, size)?;
    let asked: Vec<Question> =
        Question::ALL.into_iter().filter(|question| args.only.is_empty() || args.only.iter().any(|name| name == question.name())).collect();
    ensure!(!asked.is_empty(), "no such question; there are {}", Question::ALL.map(Question::name).join(", "));

    let (clickhouse, duckdb) = if args.peers {
        let python = args.python.as_ref().context("no Python for the peers; call this through tests/bench")?;
        let spec = questions::spec(&asked);
        let clickhouse = peers::ask(python, "clickhouse", &stream, &spec)?;
        for entry in clickhouse.iter().filter(|one| one.question == questions::PATH_ENTRY) {
            eprintln!("clickhouse, {} {}: {} s", entry.question, entry.layout, entry.best_s());
        }
        (clickhouse, peers::ask(python, "duckdb", &stream, &spec)?)
    } else {
        (Vec::new(), Vec::new())
    };

    let engine = Engine::with(&stream).await?;
    let mut lines = Vec::new();
    for question in asked {
        let ours = measure(&engine, question).await?;
        let of = |measured: &'_ [peers::Measured]| -> Vec<(f64, bool)> {
            let of_question = measured.iter().filter(|one| one.question == question.asked_of_peers());
            of_question.map(|one| (one.best_s(), is_equal(question, &one.layout, &ours.answer, &one.answer))).collect()
        };
        let (clickhouse, duckdb) = (of(&clickhouse), of(&duckdb));
        let best = |measured: &[(f64, bool)]| measured.iter().map(|(seconds, _)| *seconds).reduce(f64::min);
        let all = || clickhouse.iter().chain(&duckdb);
        lines.push(vec![
            ("question", json!(question.name())),
            ("segue_cached_s", json!(ours.cached_s)),
            ("segue_parquet_s", json!(ours.parquet_s)),
            ("clickhouse_s", json!(best(&clickhouse))),
            ("duckdb_s", json!(best(&duckdb))),
            ("answers_equal", json!(all().next().is_some().then(|| all().all(|(_, equal)| *equal)))),
        ]);
    }
    engine.stop().await?;
    Ok(lines)
}

/// What our engine takes for a question.
struct Measured {
    cached_s: f64,
    parquet_s: f64,
    answer: Answer,
}

async fn measure(engine: &Engine, question: Question) -> anyhow::Result<Measured> {
    let answer = question.ask(engine).await?.rows()?;
    let mut best = [f64::INFINITY; 2];
    for (best, forget) in best.iter_mut().zip([false, true]) {
        for _ in 0..RUNS {
            if forget {
                engine.index.forget_columns();
            }
            let started = Instant::now();
            let again = question.ask(engine).await?;
            *best = best.min(rounded(started.elapsed()));
            ensure!(again.rows()? == answer, "`{}` was answered in two ways", question.name());
        }
    }
    Ok(Measured { cached_s: best[0], parquet_s: best[1], answer })
}

fn rounded(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1e5).round() / 1e5
}

fn is_equal(question: Question, who: &str, ours: &Answer, theirs: &Answer) -> bool {
    let differing = ours.iter().zip(theirs).find(|(ours, theirs)| ours != theirs);
    if let Some((ours, theirs)) = differing {
        eprintln!("{}: we say {ours:?}, {who} says {theirs:?}", question.name());
    } else if ours.len() != theirs.len() {
        eprintln!("{}: we have {} rows, {who} has {}", question.name(), ours.len(), theirs.len());
    }
    ours == theirs
}
