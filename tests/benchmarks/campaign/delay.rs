//! How late a webhook is that an event causes, while other events come in of which some cause webhooks too.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use segue_proto::events::v1::Value;
use segue_proto::events::v1::value::Kind;
use segue_proto::ingest::v1::TrackRequest;
use segue_tests::events::event;
use serde_json::json;

use super::CampaignArgs;
use super::shop::{Shop, tell};
use crate::Figures;
use crate::load::{Template, cart_templates};
use crate::sender::now_us;

/// Probes per second.
const PER_S: f64 = 40.0;
/// How long the last webhook is waited for.
const LATEST: Duration = Duration::from_secs(120);
/// Events in one call.
const BATCH: usize = 250;

pub(crate) async fn run(shop: &Shop, args: &CampaignArgs) -> anyhow::Result<Vec<Figures>> {
    shop.start("told", "cart", vec![tell("")]).await?;
    // Those who send the load have been there before.
    shop.load.once(&cart_templates(args.persons, 1_000, 0), 8).await?;
    shop.keys.gateway.wait_until_indexed().await?;
    shop.rested().await?;
    let mut lines = Vec::new();
    for rate in &args.rates {
        for causing in &args.causing {
            let templates = cart_templates(args.persons.min(1_000_000), BATCH, *causing);
            lines.push(under(shop, &templates, *rate, *causing, args.seconds).await?);
        }
    }
    shop.end("told").await?;
    Ok(lines)
}

async fn under(shop: &Shop, templates: &[Template], rate: u64, causing: u32, seconds: u64) -> anyhow::Result<Figures> {
    eprintln!("{rate} events/s, {causing} % of them cause a webhook");
    let (messages, repeated) = {
        let mut arrived = shop.receiver.arrived.lock();
        arrived.delays_ms.clear();
        (arrived.messages(), arrived.repeated)
    };
    let (acknowledged, cpu, started) = (shop.load.acknowledged(), shop.cpu_seconds()?, Instant::now());
    let end = started + Duration::from_secs(seconds);
    let name = format!("{rate}-{causing}");
    let ((), probes) = tokio::try_join!(shop.load.steady(templates, rate, end), probe(shop, &name, end))?;
    let took_s = started.elapsed().as_secs_f64();
    let cores = (shop.cpu_seconds()? - cpu) / took_s;
    let sent = shop.load.acknowledged() - acknowledged;
    let deadline = Instant::now() + LATEST;
    loop {
        let arrived = shop.receiver.arrived.lock().delays_ms.len();
        if arrived == probes {
            break;
        }
        ensure!(Instant::now() < deadline, "{arrived} of {probes} probes came\n{}", shop.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What is left of the load is no matter of the next measurement.
    shop.rested().await?;
    let mut arrived = shop.receiver.arrived.lock();
    arrived.delays_ms.sort_by(f64::total_cmp);
    let delay = |quantile: f64| {
        let at = ((arrived.delays_ms.len().saturating_sub(1)) as f64 * quantile).ceil() as usize;
        json!(arrived.delays_ms.get(at).map_or(f64::NAN, |ms| ms.round()))
    };
    Ok(vec![
        ("figure", json!("delay")),
        ("shape", json!(format!("{:?}", shop.shape))),
        ("events_per_s", json!((sent as f64 / took_s).round())),
        ("causing_percent", json!(causing)),
        ("webhooks_per_s", json!(((arrived.messages() - messages) as f64 / took_s).round())),
        ("delay_p50_ms", delay(0.5)),
        ("delay_p95_ms", delay(0.95)),
        ("delay_p99_ms", delay(0.99)),
        ("delay_max_ms", delay(1.0)),
        ("probes", json!(probes)),
        ("cores", json!((cores * 100.0).round() / 100.0)),
        ("repeated", json!(arrived.repeated - repeated)),
        ("rss_bytes", json!(shop.memory()?.0)),
    ])
}

/// Sends events of persons of their own until `end`, each with its time. How many were acknowledged.
async fn probe(shop: &Shop, name: &str, end: Instant) -> anyhow::Result<usize> {
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / PER_S));
    let mut running = FuturesUnordered::new();
    let mut sent = 0;
    let mut number = 0;
    while Instant::now() < end {
        tick.tick().await;
        number += 1;
        running.push(probe_one(shop, format!("probe-{name}-{number}")));
        while let Some(done) = running.next().now_or_never().flatten() {
            done?;
            sent += 1;
        }
    }
    while let Some(done) = running.next().await {
        done?;
        sent += 1;
    }
    Ok(sent)
}

async fn probe_one(shop: &Shop, id: String) -> anyhow::Result<()> {
    let now_us = now_us();
    let mut cart = event(&id, "cart", now_us, &[("user_id", &id)]);
    cart.properties.insert("sent".to_owned(), Value { kind: Some(Kind::IntValue(now_us)) });
    let answer = shop.keys.gateway.ingest().track(TrackRequest { events: vec![cart] }).await?.into_inner();
    ensure!(answer.accepted == 1, "a probe was not accepted: {:?}", answer.outcomes);
    Ok(())
}
