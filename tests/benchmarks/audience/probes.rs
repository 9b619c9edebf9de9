//! Probes: events whose transitions are certain, and how late these come.
//!
//! A probe is of somebody new. Half of them open the app, by which they enter S1 and S4; the others do what only probes do, by which
//! they enter an audience of the last seconds, and leave it when these have passed. Each transition has to come exactly once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use segue_proto::audience::v1::{Transition, WatchTransitionsRequest};
use segue_proto::events::v1::{TransitionKind, TransitionReason};
use segue_proto::ingest::v1::TrackRequest;
use segue_tests::events::event;
use segue_tests::installation::TenantKeys;

use super::data::OPENED;
use crate::sender::now_us;

/// Probes per second.
const PER_S: f64 = 40.0;
/// What only probes do.
pub(crate) const PROBED: &str = "probed";
/// The audience of those who did it in the last seconds.
pub(crate) const LATELY: &str = "lately";
pub(crate) const LATELY_S: u32 = 15;
/// Those that somebody enters by opening the app for the first time.
const OPENERS: [&str; 2] = ["s1", "s4"];
/// How long a transition is waited for.
const LATEST: Duration = Duration::from_secs(120);

/// A transition, and when it arrived.
type Arrived = (Transition, i64);

/// A probe that was acknowledged.
struct Sent {
    message_id: String,
    opened: bool,
    time_us: i64,
    acknowledged_us: i64,
}

/// Watches the transitions of the audiences that probes enter.
pub(crate) struct Watch {
    arrived: Arc<Mutex<Vec<Arrived>>>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// From the transition after this one on.
    pub(crate) async fn start(keys: &TenantKeys, after_sequence: u64) -> anyhow::Result<Self> {
        let audiences = OPENERS.into_iter().chain([LATELY]).map(str::to_owned).collect();
        let request = WatchTransitionsRequest { audiences, after_sequence, ..Default::default() };
        let mut stream = keys.gateway.audience().watch_transitions(request).await?.into_inner();
        let arrived: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let into = arrived.clone();
        #[expect(clippy::disallowed_methods, reason = "the benchmark is no service; what the task says is asked for at the end")]
        let task = tokio::spawn(async move {
            while let Some(answer) = stream.message().await? {
                let now_us = now_us();
                into.lock().extend(answer.transitions.into_iter().map(|transition| (transition, now_us)));
            }
            anyhow::bail!("the transitions ended")
        });
        Ok(Self { arrived, task })
    }
}

/// Sends probes until `end`. Answers with those that were acknowledged.
pub(crate) async fn send(keys: &TenantKeys, name: &str, end: Instant) -> anyhow::Result<Probes> {
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / PER_S));
    let mut running = FuturesUnordered::new();
    let mut sent = Vec::new();
    let mut number = 0;
    while Instant::now() < end {
        tick.tick().await;
        number += 1;
        running.push(send_one(keys, format!("{name}-{number}"), number % 2 == 0));
        while let Some(done) = running.next().now_or_never().flatten() {
            sent.push(done?);
        }
    }
    while let Some(done) = running.next().await {
        sent.push(done?);
    }
    Ok(Probes { sent })
}

async fn send_one(keys: &TenantKeys, message_id: String, opened: bool) -> anyhow::Result<Sent> {
    let time_us = now_us();
    let probe = event(&message_id, if opened { OPENED } else { PROBED }, time_us, &[("user_id", &message_id)]);
    let answer = keys.gateway.ingest().track(TrackRequest { events: vec![probe] }).await?.into_inner();
    ensure!(answer.accepted == 1, "a probe was not accepted: {:?}", answer.outcomes);
    Ok(Sent { message_id, opened, time_us, acknowledged_us: now_us() })
}

/// Probes that were sent.
pub(crate) struct Probes {
    sent: Vec<Sent>,
}

/// Delays in milliseconds, ascending.
pub(crate) struct Delays {
    /// From the acknowledgement of an event to the transition into an audience.
    pub(crate) entering: Vec<f64>,
    /// From the moment at which an event leaves its window to the transition out of the audience.
    pub(crate) leaving: Vec<f64>,
}

/// A quantile of ascending numbers.
pub(crate) fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1) as f64 * quantile).ceil() as usize;
    sorted.get(at).map_or(f64::NAN, |ms| (ms * 10.0).round() / 10.0)
}

impl Probes {
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Waits until every transition has come, and a little for such as come twice.
    pub(crate) async fn delays(&self, watch: &Watch) -> anyhow::Result<Delays> {
        let openers = self.sent.iter().filter(|probe| probe.opened).count();
        let wanted = openers * OPENERS.len() + (self.sent.len() - openers) * 2;
        let started = Instant::now();
        while self.of_probes(watch).len() < wanted && started.elapsed() < LATEST {
            ensure!(!watch.task.is_finished(), "the transitions ended");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let arrived = self.of_probes(watch);
        let mut entering = Vec::with_capacity(wanted);
        let mut leaving = Vec::new();
        // By audience and person, who came when: leaving has no event.
        let mut persons: HashMap<(&str, u32), &Sent> = HashMap::new();
        let probes: HashMap<&str, &Sent> = self.sent.iter().map(|probe| (probe.message_id.as_str(), probe)).collect();
        for (transition, arrived_us) in &arrived {
            let key = (transition.audience.as_str(), transition.person);
            if transition.kind() == TransitionKind::Entered {
                let probe = probes.get(transition.message_id.as_str()).context("a transition of no probe")?;
                ensure!(persons.insert(key, *probe).is_none(), "somebody entered twice: {transition:?}");
                entering.push((arrived_us - probe.acknowledged_us) as f64 / 1e3);
            } else {
                let probe = persons.get(&key).with_context(|| format!("somebody left who had not entered: {transition:?}"))?;
                ensure!(transition.reason() == TransitionReason::Time, "{transition:?}");
                leaving.push((arrived_us - (probe.time_us + i64::from(LATELY_S) * 1_000_000)) as f64 / 1e3);
            }
        }
        ensure!(arrived.len() == wanted, "{} transitions of {wanted} came", arrived.len());
        entering.sort_by(f64::total_cmp);
        leaving.sort_by(f64::total_cmp);
        Ok(Delays { entering, leaving })
    }

    /// The transitions of these probes, in order.
    fn of_probes(&self, watch: &Watch) -> Vec<Arrived> {
        let names: HashMap<&str, bool> = self.sent.iter().map(|probe| (probe.message_id.as_str(), probe.opened)).collect();
        let mut persons: HashMap<u32, ()> = HashMap::new();
        let mut found = Vec::new();
        for (transition, arrived_us) in watch.arrived.lock().iter() {
            if names.contains_key(transition.message_id.as_str()) {
                persons.insert(transition.person, ());
            }
            if persons.contains_key(&transition.person) {
                found.push((transition.clone(), *arrived_us));
            }
        }
        found
    }
}
