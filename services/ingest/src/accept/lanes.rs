//! Appending to the log with one sync for many callers: a lane per partition, in which everything that comes in while one
//! append is under way becomes the next batch.
//!
//! Bounded in bytes over all lanes: a call reserves room before any work is done for it, and gives it back when its events
//! are written (also when the caller has gone away meanwhile).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use segue_log::{Log, LogError, NewBatch, Topic};
use segue_model::TenantId;
use segue_proto::events::v1::AcceptedEvent;
use segue_runtime::tasks::Tasks;
use segue_runtime::trace;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::IngestError;
use crate::config::AcceptConfig;

/// Field numbers of `AcceptedBatch.groups`, `AcceptedGroup.tenant` and `AcceptedGroup.events`.
const GROUPS: u32 = 1;
const TENANT: u32 = 1;
const EVENTS: u32 = 2;

/// Room for the bytes of one call.
pub(crate) type Reservation = Arc<OwnedSemaphorePermit>;

/// Encoded events of one call for one partition: the repeated field `events` of an `AcceptedGroup`.
#[derive(Default)]
pub(crate) struct Parcel {
    body: Vec<u8>,
    events: u32,
}

impl Parcel {
    pub(crate) fn add(&mut self, event: &AcceptedEvent) {
        prost::encoding::message::encode(EVENTS, event, &mut self.body);
        self.events += 1;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.body.len()
    }
}

/// A parcel on its way, and who waits for it.
struct Segment {
    tenant: TenantId,
    parcel: Parcel,
    done: oneshot::Sender<Result<(), LogError>>,
    /// Of the call; None without telemetry.
    traceparent: Option<Arc<str>>,
    _room: Reservation,
}

#[derive(Default)]
struct Lane {
    waiting: Mutex<VecDeque<Segment>>,
    wake: Notify,
}

/// All lanes.
pub(crate) struct Lanes {
    lanes: Vec<Arc<Lane>>,
    room: Arc<Semaphore>,
    room_bytes: u32,
    busy_retry: Duration,
}

impl Lanes {
    pub(crate) fn start(config: &AcceptConfig, topic: Topic, log: Log, tasks: &Tasks) -> Lanes {
        let room = Arc::new(Semaphore::new(config.pending_bytes_max as usize));
        let lanes: Vec<Arc<Lane>> = (0..log.partitions()).map(|_| Arc::new(Lane::default())).collect();
        let closed = tokio_util::sync::CancellationToken::new();
        for (partition, lane) in (0u16..).zip(&lanes) {
            let (lane, log, closed) = (lane.clone(), log.clone(), closed.clone());
            let bytes_max = config.batch_bytes_max as usize;
            tasks.spawn_finite(format!("ingest-accept-{partition}"), async move {
                loop {
                    let segments = lane.take(bytes_max);
                    if !segments.is_empty() {
                        write(&log, topic, partition, segments).await;
                        continue;
                    }
                    tokio::select! {
                        () = lane.wake.notified() => {}
                        () = closed.cancelled() => return Ok(()),
                    }
                }
            });
        }
        // Holding all room means that no call is under way: then, and not before, the lanes may end.
        let (stopping, all_room, all_bytes) = (tasks.stopping(), room.clone(), config.pending_bytes_max);
        tasks.spawn_finite("ingest-accept-close", async move {
            stopping.cancelled().await;
            let everything = all_room.acquire_many(all_bytes).await;
            all_room.close();
            drop(everything);
            closed.cancel();
            Ok(())
        });
        let busy_retry = Duration::from_millis(u64::from(config.busy_retry_ms));
        Lanes { lanes, room, room_bytes: config.pending_bytes_max, busy_retry }
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.lanes.len() as u16
    }

    /// Room for `bytes`, at once or not at all.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Result<Reservation, IngestError> {
        match self.room.clone().try_acquire_many_owned(self.permits(bytes)) {
            Ok(permit) => Ok(Arc::new(permit)),
            Err(TryAcquireError::NoPermits) => Err(IngestError::Busy { retry_after: self.busy_retry }),
            Err(TryAcquireError::Closed) => Err(IngestError::Stopping),
        }
    }

    /// Room for `bytes`, when there is some.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Reservation, IngestError> {
        let permit = self.room.clone().acquire_many_owned(self.permits(bytes)).await.map_err(|_closed| IngestError::Stopping)?;
        Ok(Arc::new(permit))
    }

    /// A call that is larger than everything takes everything: it must be possible some time.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.room_bytes)
    }

    /// Puts parcels in line.
    pub(crate) fn enqueue(&self, tenant: &TenantId, parcels: Vec<(u16, Parcel)>, room: Reservation) -> Receipts {
        let mut receipts = Vec::with_capacity(parcels.len());
        let traceparent: Option<Arc<str>> = trace::current_traceparent().map(Arc::from);
        for (partition, parcel) in parcels {
            let (done, receipt) = oneshot::channel();
            let lane = &self.lanes[usize::from(partition)];
            lane.waiting.lock().push_back(Segment {
                tenant: tenant.clone(),
                parcel,
                done,
                traceparent: traceparent.clone(),
                _room: room.clone(),
            });
            lane.wake.notify_one();
            receipts.push(receipt);
        }
        Receipts(receipts)
    }
}

/// Parcels in line.
pub(crate) struct Receipts(Vec<oneshot::Receiver<Result<(), LogError>>>);

impl Receipts {
    /// Waits until all are on disk.
    pub(crate) async fn durable(self) -> Result<(), IngestError> {
        for receipt in self.0 {
            receipt.await.map_err(|_lane_gone| IngestError::Stopping)??;
        }
        Ok(())
    }
}

impl Lane {
    /// What fits into one batch; at least one segment if there is any.
    fn take(&self, bytes_max: usize) -> Vec<Segment> {
        let mut waiting = self.waiting.lock();
        let mut bytes = 0;
        let count = waiting
            .iter()
            .take_while(|segment| {
                bytes += group_bytes(segment) + 16;
                bytes <= bytes_max
            })
            .count();
        let count = count.max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }
}

async fn write(log: &Log, topic: Topic, partition: u16, segments: Vec<Segment>) {
    let events = segments.iter().map(|segment| segment.parcel.events).sum();
    // A batch of several calls belongs to the trace of the first that has one.
    let traceparent = segments.iter().find_map(|segment| segment.traceparent.as_deref()).map(str::to_owned);
    let batch = NewBatch { payload: encode(&segments), events, traceparent, ..NewBatch::default() };
    let result = log.append(topic, partition, batch).await.map(|_appended| ());
    for segment in segments {
        // A caller that went away asks again under the same message ids.
        let _gone = segment.done.send(result.clone());
    }
}

fn group_bytes(segment: &Segment) -> usize {
    let tenant = segment.tenant.as_str().len();
    1 + encoded_len_varint(tenant as u64) + tenant + segment.parcel.body.len()
}

/// An `AcceptedBatch` put together from bytes that are encoded already.
fn encode(segments: &[Segment]) -> Bytes {
    let total = segments.iter().map(|segment| group_bytes(segment) + 16).sum();
    let mut payload = Vec::with_capacity(total);
    for segment in segments {
        encode_key(GROUPS, WireType::LengthDelimited, &mut payload);
        encode_varint(group_bytes(segment) as u64, &mut payload);
        encode_key(TENANT, WireType::LengthDelimited, &mut payload);
        encode_varint(segment.tenant.as_str().len() as u64, &mut payload);
        payload.extend_from_slice(segment.tenant.as_str().as_bytes());
        payload.extend_from_slice(&segment.parcel.body);
    }
    payload.into()
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use segue_proto::events::v1::{AcceptedBatch, AcceptedGroup, Event};

    use super::*;

    #[tokio::test]
    async fn a_batch_put_together_from_bytes_reads_like_one_encoded_at_once() {
        let room = Arc::new(Semaphore::new(1)).acquire_owned().await.map(Arc::new).expect("room");
        let mut groups = Vec::new();
        let mut segments = Vec::new();
        for tenant in ["shop", "bank"] {
            let mut parcel = Parcel::default();
            let mut group = AcceptedGroup { tenant: tenant.into(), events: Vec::new() };
            for n in 0..3 {
                let event = Event { message_id: format!("{tenant}-{n}"), ..Event::default() };
                let accepted = AcceptedEvent { event: Some(event), received_at_us: n, ..AcceptedEvent::default() };
                parcel.add(&accepted);
                group.events.push(accepted);
            }
            groups.push(group);
            let (done, _) = oneshot::channel();
            segments.push(Segment { tenant: tenant.parse().expect("a tenant"), parcel, done, traceparent: None, _room: room.clone() });
        }
        assert_eq!(AcceptedBatch::decode(encode(&segments)).expect("a batch"), AcceptedBatch { groups });
    }
}
