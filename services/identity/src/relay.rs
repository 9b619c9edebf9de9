//! Brings identity changes from the outbox to the topic `identity`. At least once, in order, and exactly once in effect: each
//! outbox row is one batch of the log under a producer sequence of its own (the link sequence of its last change), so a row
//! that was appended before a crash is refused as a duplicate the second time. Several processes may relay at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use segue_log::{Log, LogError, NewBatch, ProducerSequence};
use segue_model::partition;
use segue_store::Db;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::IDENTITY_CHANGES;
use crate::error::IdentityError;
use crate::store::outbox;

/// Rows per round.
const ROWS_MAX: i64 = 500;
/// How long a row of another process, or one that failed, waits.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the outbox could not be read or emptied")]
    Outbox(#[from] IdentityError),
    #[error("the log did not take the changes")]
    Log(#[from] LogError),
}

/// Relays until told to stop. A failure is logged and tried again: identity resolves on while the log is away.
pub(crate) async fn run(db: Db, log: Log, rung: Arc<Notify>, stopping: CancellationToken) -> anyhow::Result<()> {
    loop {
        match relay_once(&db, &log).await {
            Ok(rows) if rows == ROWS_MAX as usize => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(error = segue_runtime::status::chain(&error), "identity changes wait; trying again"),
        }
        tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            () = rung.notified() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

/// Brings the first rows of the outbox to the log; returns how many.
pub(crate) async fn relay_once(db: &Db, log: &Log) -> Result<usize, RelayError> {
    let rows = outbox::list(db, ROWS_MAX).await?;
    let mut last: Vec<(String, u64)> = Vec::new();
    let mut batches = Vec::with_capacity(rows.len());
    let count = rows.len();
    for row in rows {
        let partition = partition::of_identifier(&row.tenant, "tenant", "", log.partitions());
        // A tenant id is a producer's name: same letters, shorter.
        let producer = ProducerSequence { producer: row.tenant.clone(), sequence: row.sequence };
        let batch = NewBatch { payload: Bytes::from(row.payload), events: row.changes, producer: Some(producer), traceparent: None };
        batches.push((IDENTITY_CHANGES, partition, batch));
        match last.last_mut() {
            Some((tenant, sequence)) if *tenant == row.tenant => *sequence = row.sequence,
            _ => last.push((row.tenant, row.sequence)),
        }
    }
    log.append_all(batches).await?;
    for (tenant, sequence) in last {
        outbox::remove(db, &tenant, sequence).await?;
    }
    Ok(count)
}
