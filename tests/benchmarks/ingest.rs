//! How fast events come in: to durable, to queryable, over gRPC and HTTP; how late they are in reports; how much memory that takes.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use clap::Args;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use segue_proto::analytics::v1::GetIndexStatusRequest;
use segue_proto::ingest::v1::TrackRequest;
use segue_tests::events::{by_event, counts, event};
use segue_tests::installation::{Installation, Shape, TenantKeys};
use serde_json::json;

use crate::Figures;
use crate::load::{Template, grpc_templates, http_templates};
use crate::process;
use crate::sender::Load;

/// How the measurement runs.
#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// Seconds of each phase under load.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Events in one call.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Calls under way at once.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// Distinct persons.
    #[arg(long, default_value_t = 100_000)]
    persons: u32,
    /// Events per second while the delay is measured.
    #[arg(long, default_value_t = 25_000)]
    half_load: u64,
    /// Measure on PostgreSQL and NATS (SEGUE_TEST_POSTGRES_URL, SEGUE_TEST_NATS_URL) instead of the embedded parts.
    #[arg(long)]
    servers: bool,
}

pub(crate) async fn run(args: &IngestArgs) -> anyhow::Result<Figures> {
    let shape = if args.servers { Shape::OneProcess } else { Shape::Embedded };
    let program = std::env::current_exe()?.with_file_name("segue-under-test");
    ensure!(program.exists(), "{} is not built; run this through tests/bench", program.display());
    let quiet = ["telemetry.log_filter=warn", "gateway.requests_per_second=1000000", "gateway.ingest_bytes_per_second=4000000000"];
    let installation = Installation::start(shape, &program, &quiet).await?;
    let pid = installation.pids()[0];
    let keys = installation.tenant("bench").await?;
    let end_us = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros() as i64;
    let load = Load::new(installation.url(), keys.write.clone());

    let templates = grpc_templates(100, args.batch, args.persons, end_us);
    let bytes_per_event = templates[0].len() as f64 / args.batch as f64;
    let mut figures = Figures::new();
    let mut note = |name: &'static str, value: serde_json::Value| {
        eprintln!("{name}: {value}");
        figures.push((name, value));
    };
    note("shape", json!(format!("{shape:?}")));
    note("bytes_per_event", json!(bytes_per_event.round()));

    // As fast as it is taken.
    let before = indexed(&keys).await?;
    let cpu = process::cpu_seconds(pid)?;
    let started = Instant::now();
    let until = started + Duration::from_secs(args.seconds);
    let acknowledged = load.full_speed(&templates, args.concurrency, || Instant::now() >= until).await?;
    let acknowledged_s = started.elapsed().as_secs_f64();
    keys.gateway.wait_until_indexed().await?;
    let indexed_s = started.elapsed().as_secs_f64();
    let gained = indexed(&keys).await? - before;
    ensure!(gained == acknowledged, "{acknowledged} events were acknowledged and {gained} are in reports");
    note("grpc_acknowledged_per_s", json!((acknowledged as f64 / acknowledged_s).round()));
    note("indexed_per_s", json!((acknowledged as f64 / indexed_s).round()));
    note("cpu_us_per_event", json!(((process::cpu_seconds(pid)? - cpu) * 1e6 / acknowledged as f64 * 100.0).round() / 100.0));
    note("memory_peak_bytes", json!(process::memory(pid)?.1));

    // Over HTTP.
    let bodies = http_templates(50, 200, args.persons);
    let started = Instant::now();
    let before = indexed(&keys).await?;
    let over_http = http_speed(&load, &bodies, args).await?;
    note("http_acknowledged_per_s", json!((over_http as f64 / started.elapsed().as_secs_f64()).round()));
    keys.gateway.wait_until_indexed().await?;
    ensure!(indexed(&keys).await? - before == over_http, "what came over HTTP is not all in reports");

    // The delay at half load.
    let delays = delay(&load, &templates, &keys, args, end_us).await?;
    note("delay_load_per_s", json!(delays.load_per_s.round()));
    note("delay_p50_ms", json!(delays.at(0.5)));
    note("delay_p99_ms", json!(delays.at(0.99)));
    note("delay_max_ms", json!(delays.at(1.0)));
    note("delay_probes", json!(delays.sorted_ms.len()));
    note("memory_after_bytes", json!(process::memory(pid)?.0));
    Ok(figures)
}

async fn indexed(keys: &TenantKeys) -> anyhow::Result<u64> {
    Ok(keys.gateway.analytics().get_index_status(GetIndexStatusRequest {}).await?.into_inner().rows)
}

async fn http_speed(load: &Load, bodies: &[Template], args: &IngestArgs) -> anyhow::Result<u64> {
    let end = Instant::now() + Duration::from_secs(args.seconds / 2);
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let workers = (0..args.concurrency).map(|worker| {
        let client = client.clone();
        async move {
            let mut sent = 0;
            let mut at = worker;
            while Instant::now() < end {
                let template = &bodies[at % bodies.len()];
                at += args.concurrency;
                let body = template.with_ids(load.take_ids(template));
                loop {
                    let request = Request::post(format!("{}/v1/batch", load.url))
                        .header("authorization", format!("Bearer {}", load.key))
                        .body(Full::new(body.clone()))?;
                    let answer = client.request(request).await?;
                    if answer.status() == 429 {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                    let status = answer.status();
                    let text = answer.into_body().collect().await?.to_bytes();
                    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&text));
                    break;
                }
                sent += template.events();
            }
            anyhow::Ok(sent)
        }
    });
    Ok(futures::future::try_join_all(workers).await?.into_iter().sum())
}

/// Delays of probes, in milliseconds, ascending.
struct Delays {
    sorted_ms: Vec<f64>,
    load_per_s: f64,
}

impl Delays {
    fn at(&self, quantile: f64) -> f64 {
        let at = ((self.sorted_ms.len() - 1) as f64 * quantile).ceil() as usize;
        (self.sorted_ms[at] * 10.0).round() / 10.0
    }
}

/// At a steady load, sends probes under names of their own and asks reports until each is there.
async fn delay(load: &Load, templates: &[Template], keys: &TenantKeys, args: &IngestArgs, end_us: i64) -> anyhow::Result<Delays> {
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let before = load.acknowledged();
    let started = Instant::now();
    let steady = load.steady(templates, args.half_load, end);
    let probing = async {
        let mut sorted_ms = Vec::new();
        let mut number = 0;
        while Instant::now() < end {
            number += 1;
            let name = format!("probe_{}", number % 20);
            let probe = event(&format!("probe-{number}"), &name, end_us, &[("user_id", &format!("prober-{number}"))]);
            let mut request = by_event();
            request.metrics.iter_mut().for_each(|metric| metric.events = vec![name.clone()]);
            let wanted = (number - 1) / 20 + 1;
            keys.gateway.ingest().track(TrackRequest { events: vec![probe] }).await?;
            let acknowledged = Instant::now();
            loop {
                let answer = keys.gateway.analytics().query_events(request.clone()).await?.into_inner();
                if counts(&answer).get(&name).is_some_and(|(total, _)| *total >= wanted) {
                    break;
                }
                ensure!(acknowledged.elapsed() < Duration::from_secs(60), "a probe is not in reports after a minute");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            sorted_ms.push(acknowledged.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sorted_ms.sort_by(f64::total_cmp);
        anyhow::Ok(sorted_ms)
    };
    let ((), sorted_ms) = tokio::try_join!(steady, probing)?;
    ensure!(!sorted_ms.is_empty(), "no probe came back");
    let load_per_s = (load.acknowledged() - before) as f64 / started.elapsed().as_secs_f64();
    Ok(Delays { sorted_ms, load_per_s })
}
