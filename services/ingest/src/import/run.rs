//! The background work of one import: reads rows, accepts them in batches, writes progress after each. A batch that was
//! accepted before a crash and not counted is accepted again under the same message ids, which counts once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message;
use segue_model::{Module, TenantId};
use segue_proto::ingest::v1::{EventOutcome, Import, Mapping, Outcome, RowFault};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use super::Shared;
use super::mapping::Plan;
use super::read::{FileReader, ReadError, Row};
use crate::accept::Candidate;
use crate::store::import::{self as sql, ImportRow};
use crate::{IngestError, Origin};

/// Faulty rows that are kept.
const FAULTS_MAX: usize = 20;
/// Batches that are read ahead.
const READ_AHEAD: usize = 2;
/// Longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the reading thread hands over.
enum Read {
    Rows(Vec<Row>),
    /// The end of the file, or why it could not be read on.
    End(Result<(), ReadError>),
}

/// How a run ended.
enum Ended {
    /// The import has ended.
    Import(i64, String),
    /// The process stops, or somebody cancelled it.
    Run,
}

/// Runs an import to its end. Returns early when the process stops; the next start goes on.
pub(super) async fn run(shared: Arc<Shared>, row: ImportRow) {
    let stop = shared.tasks.stopping();
    let _turn = tokio::select! {
        turn = shared.turns.clone().acquire_owned() => turn,
        () = stop.cancelled() => return,
    };
    let id = row.id.clone();
    let bytes = Arc::new(AtomicU64::new(0));
    let ended = match work(&shared, row, bytes.clone(), &stop).await {
        Ok(ended) => ended,
        Err(error) => Ended::Import(sql::FAILED, segue_runtime::status::chain(&error)),
    };
    if let Ended::Import(state, error) = ended {
        let mut pause = Duration::from_millis(50);
        let bytes_read = bytes.load(Ordering::Relaxed) as i64;
        while let Err(failed) = sql::finish(&shared.db, &id, state, &error, shared.clock.now_us(), bytes_read).await {
            tracing::warn!(
                import = id,
                error = segue_runtime::status::chain(&failed),
                "the end of an import cannot be written; trying again"
            );
            if rest(&mut pause, &stop).await {
                return;
            }
        }
        shared.spool.remove(&id);
        tracing::info!(import = id, state, error, "an import has ended");
    } else if !stop.is_cancelled() {
        shared.spool.remove(&id);
    }
}

async fn work(shared: &Arc<Shared>, mut row: ImportRow, bytes: Arc<AtomicU64>, stop: &CancellationToken) -> Result<Ended, IngestError> {
    let unreadable = |what: String| IngestError::Unreadable { what };
    let mapping =
        Mapping::decode(row.mapping.as_slice()).map_err(|error| unreadable(format!("the mapping of import {}: {error}", row.id)))?;
    let plan = Plan::of(&mapping).map_err(IngestError::Invalid)?;
    let tenant: TenantId = row.tenant.parse().map_err(|_| unreadable(format!("the tenant of import {}", row.id)))?;
    let path = shared.spool.path(&row.id);
    let (hand_over, mut read) = mpsc::channel(READ_AHEAD);
    let (reader_plan, batch_rows, done, compressed) =
        (plan.clone(), shared.config.batch_rows as usize, row.rows_read as u64, row.compressed);
    let reader_bytes = bytes.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let end = match FileReader::open(&path, &mapping, &reader_plan, compressed, reader_bytes) {
            Ok(reader) => read_rows(reader, batch_rows, done, &hand_over),
            Err(error) => Err(error),
        };
        // Nobody listens any more when the import was cancelled.
        let _ = hand_over.blocking_send(Read::End(end));
    });
    let mut faults = Import::decode(row.faults.as_slice()).unwrap_or_default().faults;
    let ended = loop {
        let next = tokio::select! {
            next = read.recv() => next,
            () = stop.cancelled() => break Ended::Run,
        };
        match next {
            Some(Read::Rows(rows)) => {
                if !import_rows(shared, &tenant, &plan, &mut row, &mut faults, rows, &bytes, stop).await? {
                    break Ended::Run;
                }
            }
            Some(Read::End(Ok(()))) => break Ended::Import(sql::SUCCEEDED, String::new()),
            Some(Read::End(Err(error))) => {
                let error = segue_runtime::status::chain(&error);
                break Ended::Import(sql::FAILED, format!("after row {}: {error}", row.rows_read));
            }
            None => break Ended::Import(sql::FAILED, "the reader of the file failed; the server's log says why".to_owned()),
        }
    };
    drop(read);
    if reading.await.is_err() {
        tracing::error!(import = row.id, "the reader of a file panicked");
    }
    Ok(ended)
}

/// Reads batches, without the first `done` rows.
fn read_rows(mut reader: FileReader, batch_rows: usize, mut done: u64, hand_over: &mpsc::Sender<Read>) -> Result<(), ReadError> {
    loop {
        let (mut rows, end) = match reader.rows(batch_rows) {
            Ok(rows) if rows.is_empty() => return Ok(()),
            Ok(rows) => (rows, None),
            Err((rows, error)) => (rows, Some(error)),
        };
        let skip = done.min(rows.len() as u64);
        done -= skip;
        rows.drain(..skip as usize);
        if !rows.is_empty() && hand_over.blocking_send(Read::Rows(rows)).is_err() {
            return Ok(());
        }
        if let Some(error) = end {
            return Err(error);
        }
    }
}

/// Accepts rows and writes progress. False: the import was cancelled, or the process stops.
#[allow(clippy::too_many_arguments, reason = "the state of one run")]
async fn import_rows(
    shared: &Shared,
    tenant: &TenantId,
    plan: &Plan,
    row: &mut ImportRow,
    faults: &mut Vec<RowFault>,
    rows: Vec<Row>,
    bytes: &AtomicU64,
    stop: &CancellationToken,
) -> Result<bool, IngestError> {
    let before = row.rows_read;
    let read = rows.len() as i64;
    let candidates: Vec<(u64, Candidate)> = rows
        .into_iter()
        .zip(before as u64 + 1..)
        .map(|(cells, number)| {
            let candidate = match cells {
                Ok(cells) => plan.candidate(cells, || message_id(&row.content_digest, plan.source(), number)),
                Err(fault) => Candidate { faults: vec![fault], unreadable: true, ..Candidate::default() },
            };
            (number, candidate)
        })
        .collect();
    let Some(outcomes) = accept(shared, tenant, plan, &candidates, stop).await? else { return Ok(false) };
    for ((number, _), outcome) in candidates.iter().zip(outcomes) {
        let EventOutcome { outcome, reasons, .. } = outcome;
        let counter = match Outcome::try_from(outcome) {
            Ok(Outcome::Accepted) => &mut row.accepted,
            Ok(Outcome::Quarantined) => &mut row.quarantined,
            Ok(Outcome::Rejected | Outcome::Unspecified) | Err(_) => &mut row.rejected,
        };
        *counter += 1;
        if outcome != i32::from(Outcome::Accepted) && faults.len() < FAULTS_MAX {
            faults.push(RowFault { row: *number, outcome, reasons });
        }
    }
    row.rows_read += read;
    row.bytes_read = (bytes.load(Ordering::Relaxed) as i64).min(row.bytes_total);
    row.faults = Import { faults: faults.clone(), ..Import::default() }.encode_to_vec();
    let mut pause = Duration::from_millis(50);
    loop {
        match sql::advance(&shared.db, before, row).await {
            Ok(true) => return Ok(true),
            // A write whose answer was lost looks like somebody else's: ask.
            Ok(false) => return is_at(shared, row).await,
            Err(error) if error.is_retryable() => {
                if rest(&mut pause, stop).await {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn is_at(shared: &Shared, row: &ImportRow) -> Result<bool, IngestError> {
    let found = sql::find(&shared.db, &row.tenant, &row.id).await?;
    Ok(found.is_some_and(|found| found.state == sql::RUNNING && found.rows_read == row.rows_read))
}

/// Accepts, waiting while the module is off, the log is full or the store is away. None: the process stops.
async fn accept(
    shared: &Shared,
    tenant: &TenantId,
    plan: &Plan,
    candidates: &[(u64, Candidate)],
    stop: &CancellationToken,
) -> Result<Option<Vec<EventOutcome>>, IngestError> {
    let mut pause = Duration::from_millis(50);
    loop {
        let mut changes = shared.tenants.changes();
        if !shared.tenants.is_on(tenant, Module::Ingest) {
            tokio::select! {
                _ = changes.changed() => continue,
                () = stop.cancelled() => return Ok(None),
            }
        }
        let origin =
            Origin { source: plan.source().to_owned(), received_at_us: shared.clock.now_us(), trusted_time: true, ..Origin::default() };
        let copies = candidates.iter().map(|(_, candidate)| copy(candidate)).collect();
        match shared.accept.accept_candidates(tenant, origin, copies).await {
            Ok(outcomes) => return Ok(Some(outcomes)),
            Err(error) if is_passing(&error) => {
                tracing::debug!(%tenant, error = segue_runtime::status::chain(&error), "rows of an import cannot be accepted now; trying again");
                if rest(&mut pause, stop).await {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn copy(candidate: &Candidate) -> Candidate {
    Candidate { event: candidate.event.clone(), faults: candidate.faults.clone(), unreadable: candidate.unreadable }
}

fn is_passing(error: &IngestError) -> bool {
    match error {
        IngestError::Busy { .. } | IngestError::Stopping => true,
        IngestError::Store(error) => error.is_retryable() || matches!(error, segue_store::StoreError::DiskFull { .. }),
        IngestError::Log(error) => error.is_retryable(),
        _ => false,
    }
}

/// Pauses, longer each time. True: the process stops.
async fn rest(pause: &mut Duration, stop: &CancellationToken) -> bool {
    let now = *pause;
    *pause = (*pause * 2).min(PAUSE_MAX);
    tokio::select! {
        () = tokio::time::sleep(now) => false,
        () = stop.cancelled() => true,
    }
}

/// The id of a row's event: the same for the same row of the same content from the same source.
fn message_id(digest: &[u8], source: &str, row: u64) -> String {
    let mut hasher = Xxh3::new();
    hasher.update(digest);
    hasher.update(source.as_bytes());
    hasher.update(&[0xff]);
    hasher.update(&row.to_le_bytes());
    hex::encode(hasher.digest128().to_be_bytes())
}
