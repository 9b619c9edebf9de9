//! Brings transitions from the store to the topic `transitions`. At least once, in order, and exactly once in effect: each row is one
//! batch of the log under a producer sequence of its own (the number of its last transition), so a row that was appended before a crash
//! is refused as a duplicate the second time. Several processes may relay at once. Rows are marked, not removed: a checkpoint of live
//! membership may still need them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use segue_log::{Log, NewBatch, ProducerSequence};
use segue_model::TenantId;
use segue_store::{Db, on_db, on_writer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::partition_of;
use crate::TRANSITIONS;
use crate::error::AudienceError;
use crate::store;

/// Rows per round.
const ROWS_MAX: i64 = 50;
/// How long rows of another process, or those that failed, wait.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

const LIST: &str = "SELECT tenant, last_sequence, transitions, payload FROM transition_batch WHERE NOT relayed
    ORDER BY tenant, last_sequence LIMIT $1";
const MARK: &str = "UPDATE transition_batch SET relayed = true WHERE tenant = $1 AND last_sequence <= $2 AND NOT relayed";

/// Relays until told to stop. A failure is logged and tried again: membership goes on while the log is away.
pub(crate) async fn run(db: Db, log: Log, rung: Arc<Notify>, stopping: CancellationToken) -> anyhow::Result<()> {
    loop {
        match relay_once(&db, &log).await {
            Ok(rows) if rows == ROWS_MAX as usize => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(error = segue_runtime::status::chain(&error), "transitions wait; trying again"),
        }
        tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            () = rung.notified() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

/// Brings the first rows that are not on the log to it; returns how many.
async fn relay_once(db: &Db, log: &Log) -> Result<usize, AudienceError> {
    let rows: Vec<(String, i64, i64, Vec<u8>)> = on_db!(db, pool => sqlx::query_as(LIST).bind(ROWS_MAX).fetch_all(pool).await)?;
    let count = rows.len();
    let mut last: Vec<(TenantId, i64)> = Vec::new();
    let mut batches = Vec::with_capacity(count);
    for (tenant, last_sequence, transitions, payload) in rows {
        let tenant: TenantId = tenant.parse().map_err(|_| AudienceError::Corrupt { what: "tenant of transitions" })?;
        // A tenant id is a producer's name: same letters, shorter.
        let producer = ProducerSequence { producer: tenant.to_string(), sequence: store::counter(last_sequence)? };
        let events = u32::try_from(transitions).unwrap_or(u32::MAX);
        let batch = NewBatch { payload: Bytes::from(payload), events, producer: Some(producer), traceparent: None };
        batches.push((TRANSITIONS, partition_of(&tenant, log), batch));
        match last.last_mut() {
            Some((same, sequence)) if *same == tenant => *sequence = last_sequence,
            _ => last.push((tenant, last_sequence)),
        }
    }
    log.append_all(batches).await?;
    for (tenant, sequence) in last {
        on_writer!(db, pool => sqlx::query(MARK).bind(tenant.as_str()).bind(sequence).execute(pool).await.map(drop))?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use segue_log::ReadLimits;
    use segue_proto::events::v1::TransitionKind;

    use super::super::batch::tests::{group, payload};
    use super::*;

    const INSERT: &str =
        "INSERT INTO transition_batch (tenant, last_sequence, transitions, payload, relayed) VALUES ($1, $2, 1, $3, false)";

    async fn insert(db: &Db, tenant: &str, sequence: i64) {
        let payload = payload(tenant, sequence as u64, vec![group("a", TransitionKind::Entered, [sequence as u32])]);
        on_writer!(db, pool => sqlx::query(INSERT).bind(tenant).bind(sequence).bind(payload).execute(pool).await.map(drop))
            .expect("the row is new");
    }

    /// What a tenant has on the log, by first sequence.
    async fn relayed(log: &Log, tenant: &str) -> Vec<u64> {
        let partition = partition_of(&tenant.parse().expect("an id"), log);
        let limits = ReadLimits { wait: Duration::ZERO, ..ReadLimits::default() };
        let batches = log.read(TRANSITIONS, partition, 0, limits).await.expect("the log is there");
        let of_tenant = |payload: &[u8]| super::super::batch::Batch::of(tenant, payload).expect("readable");
        batches.iter().filter_map(|batch| of_tenant(&batch.payload)).map(|batch| batch.first_sequence()).collect()
    }

    #[tokio::test]
    async fn transitions_reach_the_log_in_order_and_once_whoever_relays_and_wherever_it_stopped() {
        for (store, log) in segue_testkit::stores().into_iter().zip(segue_testkit::logs()) {
            let (db, log) = (store.open(store::NAMESPACE, store::MIGRATIONS).await.expect("opens"), log.open().await.expect("opens"));
            for sequence in 1..=150 {
                insert(&db, "shop", sequence).await;
            }
            insert(&db, "cafe", 1).await;
            // Two at once, until nothing is left.
            loop {
                let (one, other) = tokio::join!(relay_once(&db, &log), relay_once(&db, &log));
                if one.expect("relays") + other.expect("relays") == 0 {
                    break;
                }
            }
            let expected: Vec<u64> = (1..=150).collect();
            assert_eq!(relayed(&log, "shop").await, expected);
            assert_eq!(relayed(&log, "cafe").await, [1]);
            // As if the process had ended between appending and marking.
            on_writer!(&db, pool => sqlx::query("UPDATE transition_batch SET relayed = false").execute(pool).await.map(drop))
                .expect("runs");
            insert(&db, "shop", 151).await;
            while relay_once(&db, &log).await.expect("relays") > 0 {}
            assert_eq!(relayed(&log, "shop").await, (1..=151).collect::<Vec<u64>>());
            log.close().await.expect("closes");
        }
    }
}
