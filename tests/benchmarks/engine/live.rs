//! Reading while writing: how long questions take while events come in, compared with when none do, and whether each answer is
//! one state of the index.
//!
//! An answer says up to when it is complete (its watermark): it holds what identity had passed on by then. What was acknowledged before
//! may still be with identity, and how long before is measured (`behind_max_ms`). An answer must hold at most what was sent and never
//! less than the one before, and its parts must add up to its total.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use segue_proto::analytics::v1::{GetIndexStatusRequest, QueryEventsResponse, number};
use segue_tests::events::by_event;
use segue_tests::installation::{Installation, Shape, TenantKeys};
use serde_json::json;

use crate::Figures;
use crate::load::grpc_templates;
use crate::sender::{Load, now_us};

/// Questions asked while nothing comes in.
const IDLE_ASKS: usize = 100;

/// How the measurement runs.
#[derive(Debug, Args)]
pub(crate) struct LiveArgs {
    /// Events that are there before.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// Distinct persons.
    #[arg(long, default_value_t = 100_000)]
    persons: u32,
    /// Events per second while questions are asked.
    #[arg(long, default_value_t = 20_000)]
    load: u64,
    /// Events in one call.
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// Seconds under load.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// What became of asking one question many times.
#[derive(Default)]
struct Asked {
    sorted_ms: Vec<f64>,
    /// How long before an answer's watermark the first event was acknowledged that it lacks, in microseconds.
    behind_us: i64,
    /// Answers that held more than was sent or less than the one before, or whose parts did not add up.
    wrong: u64,
}

impl Asked {
    fn at(&self, quantile: f64) -> f64 {
        let at = (self.sorted_ms.len().saturating_sub(1) as f64 * quantile).ceil() as usize;
        self.sorted_ms.get(at).map_or(f64::NAN, |ms| (ms * 100.0).round() / 100.0)
    }
}

pub(crate) async fn run(args: &LiveArgs) -> anyhow::Result<Vec<Figures>> {
    let program = std::env::current_exe()?.with_file_name("segue-under-test");
    ensure!(program.exists(), "{} is not built; run this through tests/bench", program.display());
    let quiet = ["telemetry.log_filter=warn", "gateway.requests_per_second=1000000", "gateway.ingest_bytes_per_second=4000000000"];
    let installation = Installation::start(Shape::Embedded, &program, &quiet).await?;
    let keys = installation.tenant("bench").await?;
    let load = Load::new(installation.url(), keys.write.clone());
    let templates = grpc_templates(200, args.batch, args.persons, now_us());
    eprintln!("sending {} events", args.events);
    load.full_speed(&templates, 16, || load.sent() >= args.events).await?;
    keys.gateway.wait_until_indexed().await?;
    // What was taken in is merged in the background for a while.
    settle(&keys).await?;

    let idle = ask(&keys, &load, |asked| asked.sorted_ms.len() >= IDLE_ASKS).await?;
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let (before, started) = (load.acknowledged(), Instant::now());
    let (live, ()) = tokio::try_join!(ask(&keys, &load, |_| Instant::now() >= end), load.steady(&templates, args.load, end))?;
    let load_per_s = (load.acknowledged() - before) as f64 / started.elapsed().as_secs_f64();
    Ok(vec![vec![
        ("question", json!("report")),
        ("load_per_s", json!(load_per_s.round())),
        ("idle_p50_ms", json!(idle.at(0.5))),
        ("idle_p95_ms", json!(idle.at(0.95))),
        ("live_p50_ms", json!(live.at(0.5))),
        ("live_p95_ms", json!(live.at(0.95))),
        ("answers", json!(live.sorted_ms.len())),
        ("behind_max_ms", json!(live.behind_us.max(0) / 1_000)),
        ("inconsistent", json!(live.wrong + idle.wrong)),
    ]])
}

/// Waits until the number of files stays as it is.
async fn settle(keys: &TenantKeys) -> anyhow::Result<()> {
    let mut files = 0;
    let mut same = 0;
    while same < 8 {
        let status = keys.gateway.analytics().get_index_status(GetIndexStatusRequest {}).await?.into_inner();
        same = if status.files == files { same + 1 } else { 0 };
        files = status.files;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Asks the report of all events, one answer after another.
async fn ask(keys: &TenantKeys, load: &Load, is_done: impl Fn(&Asked) -> bool) -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    let mut before = 0;
    while !is_done(&asked) {
        let started = Instant::now();
        let answer = keys.gateway.analytics().query_events(by_event()).await?.into_inner();
        asked.sorted_ms.push(started.elapsed().as_secs_f64() * 1e3);
        let watermark = answer.options.as_ref().and_then(|options| options.watermark).context("an answer has no watermark")?;
        let watermark_us = watermark.seconds * 1_000_000 + i64::from(watermark.nanos) / 1_000;
        let (total, parts) = totals(&answer).context("an answer has no total")?;
        asked.behind_us = asked.behind_us.max(watermark_us.saturating_sub(load.acknowledged_at(total)));
        if total < before || total > load.sent() || total != parts {
            eprintln!("{total} events of which {parts} are in groups, after {before}; {} were sent", load.sent());
            asked.wrong += 1;
        }
        before = total;
    }
    asked.sorted_ms.sort_by(f64::total_cmp);
    Ok(asked)
}

/// The total, and what the groups add up to.
fn totals(answer: &QueryEventsResponse) -> Option<(u64, u64)> {
    let count = |group: &segue_proto::analytics::v1::Group| match group.totals.first()?.kind {
        Some(number::Kind::Count(count)) => Some(count),
        _ => None,
    };
    let parts = answer.groups.iter().map(count).sum::<Option<u64>>()?;
    Some((count(answer.total.as_ref()?)?, parts))
}
