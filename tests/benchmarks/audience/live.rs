//! Live audiences of the whole program: how late transitions come, and what keeping so many audiences costs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use segue_proto::audience::v1::{
    Audience, CreateAudienceRequest, EvaluateAudienceRequest, GetLiveStatusRequest, GetLiveStatusResponse, ListAudiencesRequest,
};
use segue_proto::query::v1::{Condition, Span, TimeUnit};
use segue_tests::installation::{Installation, Shape, TenantKeys};
use serde_json::json;

use super::conditions::{acceptance, did, variants};
use super::data::Stream;
use super::probes::{self, LATELY, LATELY_S, PROBED, Watch, quantile};
use super::{evaluate, load};
use crate::Figures;
use crate::load::Template;
use crate::process;
use crate::sender::Load;

/// How long the program is looked at while nothing comes in.
const IDLE: Duration = Duration::from_secs(15);
/// How long it is waited for audiences to be evaluated.
const EVALUATED_LATEST: Duration = Duration::from_secs(1_800);

/// What is measured.
#[derive(Debug)]
pub(crate) struct Wanted<'w> {
    /// Numbers of live audiences, ascending.
    pub(crate) audiences: &'w [usize],
    /// Events per second.
    pub(crate) rates: &'w [u64],
    /// Seconds of each rate.
    pub(crate) seconds: u64,
    /// Everybody comes back before it is measured, so that identity knows them from memory.
    pub(crate) warm: bool,
}

/// A line per number of audiences and rate.
pub(crate) async fn run(stream: &Stream, wanted: &Wanted<'_>) -> anyhow::Result<Vec<Figures>> {
    let program = std::env::current_exe()?.with_file_name("segue-under-test");
    ensure!(program.exists(), "{} is not built; run this through tests/bench", program.display());
    // Makes sure that there is a history.
    evaluate::engine(stream).await?.stop().await?;
    let history = stream.beside("segue");
    let settings = ["telemetry.log_filter=warn", "gateway.requests_per_second=1000000", "gateway.ingest_bytes_per_second=4000000000"];
    let prepare = |data: &Path| ["store", "lake"].iter().try_for_each(|part| lay_out(&history.join(part), &data.join(part)));
    let mut installation = Installation::start_on(Shape::Embedded, &program, &settings, prepare).await?;
    let keys = installation.tenant("bench").await?;
    let to_send = Load::new(installation.url(), keys.write.clone());
    eprintln!("making {} persons known", stream.size.persons);
    to_send.once(&load::everybody(stream.size.persons), 8).await?;
    keys.gateway.wait_until_indexed().await?;
    installation.set_audiences("bench", true).await?;
    let batches = load::batches(stream);

    let mut lines = Vec::new();
    for count in wanted.audiences {
        // Each number in a process of its own, so that memory is comparable.
        installation.terminate(0, Duration::from_secs(120)).await?;
        installation.start_again(0).await?;
        if wanted.warm {
            eprintln!("letting {} persons come back", stream.size.persons);
            to_send.once(&load::everybody(stream.size.persons), 8).await?;
            keys.gateway.wait_until_indexed().await?;
        }
        let started = Instant::now();
        make(&keys, *count).await?;
        let evaluated_s = started.elapsed().as_secs_f64();
        let stage = Stage { stream, keys: &keys, pid: installation.pids()[0], load: &to_send, batches: &batches, audiences: *count };
        for rate in wanted.rates {
            let mut figures = stage.under(*rate, wanted.seconds).await.with_context(|| installation.log_tail(0))?;
            figures.push(("evaluated_s", json!(tenths(evaluated_s))));
            lines.push(figures);
        }
    }
    Ok(lines)
}

/// Puts the files of a folder into another: links where that can be, since files of events never change.
fn lay_out(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let is_of_events = path.extension().is_some_and(|extension| extension == "parquet");
        if entry.file_type()?.is_dir() {
            lay_out(&path, &to)?;
        } else if !is_of_events || std::fs::hard_link(&path, &to).is_err() {
            std::fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

/// The audiences: S1 to S6, the one of probes, and variants.
fn audiences(count: usize) -> impl Iterator<Item = (String, Condition)> {
    let last = Some(Span { count: LATELY_S, unit: TimeUnit::Second as i32 });
    let named =
        acceptance().into_iter().map(|case| (case.name.to_lowercase(), case.condition)).chain([(LATELY.to_owned(), did(PROBED, last))]);
    let numbered = variants(count).into_iter().enumerate().map(|(number, condition)| (format!("variant_{number:04}"), condition));
    named.chain(numbered).take(count)
}

/// Makes audiences until there are so many, and waits until all are evaluated.
async fn make(keys: &TenantKeys, count: usize) -> anyhow::Result<()> {
    if count == 0 {
        // Nobody works on a tenant without audiences, so there is nothing to wait for.
        return Ok(());
    }
    let mut client = keys.gateway.audience();
    let deadline = Instant::now() + EVALUATED_LATEST;
    let list = ListAudiencesRequest { page_size: 1_000, ..Default::default() };
    // The service hears of its module, and of peers that have started again, a moment later.
    let there = loop {
        match client.list_audiences(list.clone()).await {
            Ok(answer) => break answer.into_inner().audiences.len(),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    for (id, condition) in audiences(count).skip(there) {
        let audience = Audience { name: id.clone(), id, condition: Some(condition), ..Default::default() };
        client.create_audience(CreateAudienceRequest { audience: Some(audience) }).await?;
    }
    loop {
        let status = status(keys).await?;
        let list = client.list_audiences(list.clone()).await?.into_inner().audiences;
        let evaluated = list.iter().filter(|audience| audience.evaluated_version == audience.version).count();
        if evaluated == count && status.problem.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{evaluated} of {count} audiences are evaluated: {}", status.problem);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn status(keys: &TenantKeys) -> anyhow::Result<GetLiveStatusResponse> {
    Ok(keys.gateway.audience().get_live_status(GetLiveStatusRequest {}).await?.into_inner())
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// So many audiences are live.
struct Stage<'s> {
    stream: &'s Stream,
    keys: &'s TenantKeys,
    pid: u32,
    load: &'s Load,
    batches: &'s [Template],
    audiences: usize,
}

impl Stage<'_> {
    async fn under(&self, rate: u64, seconds: u64) -> anyhow::Result<Figures> {
        eprintln!("{} audiences, {rate} events/s", self.audiences);
        let has_probes = self.audiences > acceptance().len();
        let idle = self.cores(tokio::time::sleep(IDLE)).await?.1;
        let before = if self.audiences > 0 { status(self.keys).await? } else { GetLiveStatusResponse::default() };
        let watch = if has_probes { Some(Watch::start(self.keys, before.sequence).await?) } else { None };
        let (acknowledged, started) = (self.load.acknowledged(), Instant::now());
        let end = started + Duration::from_secs(seconds);
        let name = format!("probe-{}-{rate}", self.audiences);
        let (done, cores) =
            self.cores(async { tokio::try_join!(self.load.steady(self.batches, rate, end), probes::send(self.keys, &name, end)) }).await?;
        let ((), sent) = done?;
        let took_s = started.elapsed().as_secs_f64();
        let (rss, _) = process::memory(self.pid)?;
        let load_per_s = (self.load.acknowledged() - acknowledged) as f64 / took_s;
        let delays = match &watch {
            Some(watch) => Some(sent.delays(watch).await?),
            None => None,
        };
        let mut figures = vec![
            ("figure", json!("live")),
            ("events", json!(self.stream.size.events)),
            ("audiences", json!(self.audiences)),
            ("load_per_s", json!(load_per_s.round())),
            ("cores", json!((cores * 100.0).round() / 100.0)),
            ("cores_idle", json!((idle * 100.0).round() / 100.0)),
            ("rss_bytes", json!(rss)),
        ];
        if let Some(delays) = delays {
            for (name, quantile_of) in [("delay_p50_ms", 0.5), ("delay_p95_ms", 0.95), ("delay_p99_ms", 0.99), ("delay_max_ms", 1.0)] {
                figures.push((name, json!(quantile(&delays.entering, quantile_of))));
            }
            figures.push(("leave_p50_ms", json!(quantile(&delays.leaving, 0.5))));
            figures.push(("leave_p99_ms", json!(quantile(&delays.leaving, 0.99))));
            figures.push(("probes", json!(sent.len())));
        }
        if self.audiences > 0 {
            figures.extend(self.compared(&before, took_s).await?);
        }
        Ok(figures)
    }

    /// Runs something, and says how many cores the program used meanwhile.
    async fn cores<T>(&self, during: impl Future<Output = T>) -> anyhow::Result<(T, f64)> {
        let (cpu, started) = (process::cpu_seconds(self.pid)?, Instant::now());
        let done = during.await;
        Ok((done, (process::cpu_seconds(self.pid)? - cpu) / started.elapsed().as_secs_f64()))
    }

    /// What rounds did, and whether full evaluations find what live membership says.
    async fn compared(&self, before: &GetLiveStatusResponse, took_s: f64) -> anyhow::Result<Figures> {
        self.keys.gateway.wait_until_in_audiences().await?;
        let after = status(self.keys).await?;
        let per_s = |after: u64, before: u64| json!(tenths((after - before) as f64 / took_s));
        let mut client = self.keys.gateway.audience();
        let started = Instant::now();
        let (mut repaired, mut members) = (0, 0);
        let ids: Vec<String> = audiences(self.audiences).map(|(id, _)| id).collect();
        for audience in &ids {
            let answer = client.evaluate_audience(EvaluateAudienceRequest { audience: audience.clone() }).await?.into_inner();
            if answer.repaired > 0 {
                eprintln!("{audience}: {} persons were not as a full evaluation says", answer.repaired);
            }
            repaired += answer.repaired;
            members += answer.size;
        }
        Ok(vec![
            ("live_bytes", json!(after.bytes)),
            ("rounds_per_s", per_s(after.rounds, before.rounds)),
            ("transitions_per_s", per_s(after.sequence, before.sequence)),
            ("persons_evaluated_per_s", per_s(after.persons_evaluated, before.persons_evaluated)),
            ("members", json!(members)),
            ("audit_ms", json!(tenths(started.elapsed().as_secs_f64() * 1e3 / ids.len() as f64))),
            ("repaired", json!(repaired)),
        ])
    }
}
