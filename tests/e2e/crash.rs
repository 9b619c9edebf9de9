//! kill -9 in a loop, at random moments, under load: every acknowledged event is in the report exactly once afterwards, and everybody who
//! entered or left an audience was told once, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use segue_node::client::Gateway;
use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::ingest::v1::TrackRequest;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Behavior, Condition, ConditionList, EventSelector, Operator};
use segue_tests::events::{by_event, counts, event};
use segue_tests::installation::{Installation, Shape, TenantKeys};

use crate::audience::history::adds_up;
use crate::audience::tenant::{Tenant, audience};
use crate::modules::eventually;

const KILLS: usize = 50;
const SENDERS: u64 = 4;
const BATCH: u64 = 40;
const NOON_US: i64 = 1_767_268_800_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_50_kills_every_acknowledged_event_is_counted_exactly_once_embedded() {
    let shape = Shape::Embedded;
    if let Err(error) = super::on(shape, &["analytics.flush_age_ms_max=300"], crash_loop).await {
        panic!("as {shape:?}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_50_kills_every_acknowledged_event_is_counted_exactly_once_distributed() {
    for shape in Shape::available().into_iter().filter(|shape| *shape == Shape::EightProcesses) {
        if let Err(error) = super::on(shape, &["analytics.flush_age_ms_max=300"], crash_loop).await {
            panic!("as {shape:?}: {error:?}");
        }
    }
}

/// Sends batch after batch, each until it is acknowledged, under the same ids. Answers with how many events were.
async fn sender(number: u64, urls: Vec<String>, key: String, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicU64>) -> u64 {
    let mut batch = 0;
    while !stop.load(Ordering::SeqCst) {
        let events: Vec<_> = (0..BATCH)
            .map(|n| {
                let id = batch * BATCH + n;
                // Some persons log in halfway, so that links and merges happen under fire, too.
                let person = id % 97;
                let device = format!("d{number}-{person}");
                let user = format!("u{person}");
                let identifiers: &[(&str, &str)] =
                    if batch % 2 == 0 { &[("device_id", &device)] } else { &[("device_id", &device), ("user_id", &user)] };
                event(&format!("{number}-{id}"), "tick", NOON_US + id as i64 * 1_000, identifiers)
            })
            .collect();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let url = &urls[attempt % urls.len()];
            let sent = async {
                anyhow::Ok(
                    Gateway::connect(url, &key, None).await?.ingest().track(TrackRequest { events: events.clone() }).await?.into_inner(),
                )
            };
            match tokio::time::timeout(Duration::from_secs(10), sent).await {
                Ok(Ok(answer)) => {
                    assert_eq!(u64::from(answer.accepted), BATCH, "{answer:?}");
                    break;
                }
                _ if attempt > 5_000 => panic!("a batch was never taken"),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        acknowledged.fetch_add(BATCH, Ordering::SeqCst);
        batch += 1;
    }
    batch * BATCH
}

/// Whom everybody enters sooner or later, and leaves again; and whom it depends on merges.
fn audiences() -> Vec<(&'static str, Condition)> {
    let ticked = |operator: Operator, count: i64| {
        let on = Some(EventSelector { events: vec!["tick".to_owned()], filter: None });
        let values = vec![Value { kind: Some(Kind::IntValue(count)) }];
        Condition { node: Some(Node::Behavior(Behavior { on, operator: operator.into(), values, ..Behavior::default() })) }
    };
    let both = ConditionList { conditions: vec![ticked(Operator::GreaterOrEqual, 3), ticked(Operator::Less, 40)] };
    vec![
        ("often", ticked(Operator::GreaterOrEqual, 10)),
        ("seldom", ticked(Operator::Less, 25)),
        ("between", Condition { node: Some(Node::All(both)) }),
    ]
}

async fn crash_loop(mut installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "shop", "").await?;
    let keys = tenant.keys.clone();
    for (id, condition) in audiences() {
        tenant.create(audience(id, condition)).await?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    #[allow(clippy::disallowed_methods, reason = "the test waits for each below")]
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| tokio::spawn(sender(number, installation.gateways(), keys.write.clone(), stop.clone(), acknowledged.clone())))
        .collect();
    let mut rng = StdRng::seed_from_u64(2);
    for _ in 0..KILLS {
        // Progress between kills, or the loop would only show that nothing works; then a random moment.
        let before = acknowledged.load(Ordering::SeqCst);
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while acknowledged.load(Ordering::SeqCst) == before {
            ensure!(std::time::Instant::now() < deadline, "nothing was acknowledged for a minute; {}", installation.log_tail(0));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
        let victim = rng.random_range(0..installation.len());
        installation.kill_and_restart(victim)?;
    }
    stop.store(true, Ordering::SeqCst);
    let mut sent = 0;
    for sender in senders {
        sent += sender.await?;
    }
    installation.ready().await?;
    let gateway = Gateway::connect(&installation.url(), &keys.secret, None).await?;
    wait_until_indexed(&gateway).await?;
    let counted = counts(&gateway.analytics().query_events(by_event()).await?.into_inner());
    ensure!(counted.get("tick").is_some_and(|(total, _)| *total == sent), "{sent} events were acknowledged, the report has {counted:?}");
    // And it stays so when everything is read again from disk.
    for at in 0..installation.len() {
        installation.kill_and_restart(at)?;
    }
    installation.ready().await?;
    let gateway = Gateway::connect(&installation.url(), &keys.secret, None).await?;
    wait_until_indexed(&gateway).await?;
    let again = counts(&gateway.analytics().query_events(by_event()).await?.into_inner());
    ensure!(again == counted, "after a restart {again:?} instead of {counted:?}");
    let tenant = Tenant { keys: TenantKeys { gateway, ..keys } };
    eventually(true, async || Ok(tenant.settled().await.is_ok())).await?;
    let history = adds_up(&tenant).await?;
    ensure!(history.0.len() > 100, "only {} transitions", history.0.len());
    tenant.audited().await?;
    eprintln!("{} transitions, numbered without gaps, come to the members", history.0.len());
    eprintln!("{KILLS} kills, {sent} events acknowledged, each counted once");
    Ok(())
}

/// Peers may still be dialling each other after a restart.
pub(crate) async fn wait_until_indexed(gateway: &Gateway) -> anyhow::Result<()> {
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    loop {
        match tokio::time::timeout(Duration::from_secs(60), gateway.wait_until_indexed()).await {
            Ok(Ok(())) => return Ok(()),
            failed => ensure!(std::time::Instant::now() < deadline, "{failed:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
