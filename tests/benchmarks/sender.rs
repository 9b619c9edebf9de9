//! Sending encoded batches over gRPC, as fast as they are taken or at a steady pace, and counting what is acknowledged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::load::{EncodedTrack, Template};

/// What is sent where, and how much of it was acknowledged when.
pub(crate) struct Load {
    pub(crate) url: String,
    pub(crate) key: String,
    next_id: AtomicU64,
    /// By acknowledgement: the moment (microseconds since 1970), and how many events were acknowledged by then.
    acknowledged: Mutex<Vec<(i64, u64)>>,
}

impl Load {
    /// To the gateway at this URL, with a write key.
    pub(crate) fn new(url: String, key: String) -> Self {
        Self { url, key, next_id: AtomicU64::new(1), acknowledged: Mutex::default() }
    }

    /// Numbers for the events of one sending of a template.
    pub(crate) fn take_ids(&self, template: &Template) -> u64 {
        self.next_id.fetch_add(template.events(), Ordering::Relaxed)
    }

    /// Events acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.lock().last().map_or(0, |(_, events)| *events)
    }

    /// When the first event beyond so many was acknowledged; the end of time if none was yet.
    pub(crate) fn acknowledged_at(&self, events: u64) -> i64 {
        let history = self.acknowledged.lock();
        let reached = history.partition_point(|(_, acknowledged)| *acknowledged <= events);
        history.get(reached).map_or(i64::MAX, |(at, _)| *at)
    }

    /// Events that were sent so far, acknowledged or not.
    pub(crate) fn sent(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed) - 1
    }

    /// Sends one batch until it is taken.
    pub(crate) async fn track(&self, channel: &Channel, template: &Template) -> anyhow::Result<()> {
        let bytes = template.with_ids(self.take_ids(template));
        loop {
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            grpc.ready().await?;
            let mut request = tonic::Request::new(bytes.clone());
            request.metadata_mut().insert("authorization", format!("Bearer {}", self.key).parse()?);
            let path = http::uri::PathAndQuery::from_static("/segue.ingest.v1.IngestService/Track");
            match grpc.unary(request, path, EncodedTrack).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    ensure!(
                        u64::from(answer.accepted) == template.events(),
                        "not all accepted: {:?}",
                        answer.outcomes.iter().find(|outcome| !outcome.reasons.is_empty())
                    );
                    let mut history = self.acknowledged.lock();
                    let before = history.last().copied().unwrap_or_default();
                    history.push((now_us().max(before.0), before.1 + template.events()));
                    return Ok(());
                }
                // Back-pressure: the benchmark does what a client does, it waits.
                Err(status) if status.code() == tonic::Code::ResourceExhausted => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// Sends as fast as batches are taken, so many at once, until `is_done`. How many events were acknowledged.
    pub(crate) async fn full_speed(&self, templates: &[Template], concurrency: usize, is_done: impl Fn() -> bool) -> anyhow::Result<u64> {
        let before = self.acknowledged();
        let workers = (0..concurrency).map(|worker| {
            let is_done = &is_done;
            async move {
                let channel = self.connect().await?;
                let mut at = worker;
                while !is_done() {
                    self.track(&channel, &templates[at % templates.len()]).await?;
                    at += concurrency;
                }
                anyhow::Ok(())
            }
        });
        futures::future::try_join_all(workers).await?;
        Ok(self.acknowledged() - before)
    }

    /// Sends each batch once, so many at once.
    pub(crate) async fn once(&self, templates: &[Template], concurrency: usize) -> anyhow::Result<()> {
        let channel = self.connect().await?;
        let sending = futures::stream::iter(templates).map(|template| self.track(&channel, template)).buffer_unordered(concurrency);
        sending.try_collect().await
    }

    /// Sends at an even pace until `end`.
    pub(crate) async fn steady(&self, templates: &[Template], events_per_s: u64, end: Instant) -> anyhow::Result<()> {
        let channel = self.connect().await?;
        let batch = templates.first().map_or(1, Template::events);
        let mut tick = tokio::time::interval(Duration::from_secs_f64(batch as f64 / events_per_s as f64));
        let mut at = 0;
        let mut running = FuturesUnordered::new();
        while Instant::now() < end {
            tick.tick().await;
            let (channel, template) = (channel.clone(), &templates[at % templates.len()]);
            running.push(async move { self.track(&channel, template).await });
            at += 1;
            while let Some(done) = running.next().now_or_never().flatten() {
                done?;
            }
        }
        while let Some(done) = running.next().await {
            done?;
        }
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(self.url.clone())?.tcp_nodelay(true).initial_connection_window_size(16 << 20);
        Ok(endpoint.connect().await?)
    }
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
