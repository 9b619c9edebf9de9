//! Merging segments into one, in the background and in slices, so that neither memory nor a transaction grows with them.

use segue_runtime::tasks::Tasks;
use segue_store::{Db, Tx};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::chunk::{chunk_bits_for, chunk_of, cut, decode};
use super::filter::{self, Filter};
use super::{Fingerprint, Owner};
use crate::pipeline::error::PipelineError;
use crate::store::{marks as sql, pipeline as positions};

/// Marks that are in memory at once.
const SLICE_MARKS: u64 = 65_536;

/// What to merge.
#[derive(Debug)]
pub(super) struct Plan {
    /// Id of the new segment.
    pub(super) id: i64,
    /// Day of all inputs.
    pub(super) day: i64,
    /// Level of the new segment.
    pub(super) level: i64,
    /// The inputs.
    pub(super) inputs: Vec<sql::SegmentRow>,
}

/// A merge that is committed.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) row: sql::SegmentRow,
    pub(super) filter: Filter,
    /// Segments that are out of use now.
    pub(super) inputs: Vec<i64>,
}

/// Merges in a task of its own. What goes wrong is told to the receiver, not to the supervision.
pub(super) fn spawn(
    db: Db,
    owner: Owner,
    plan: Plan,
    bits_per_mark: f64,
    stop: CancellationToken,
    tasks: &Tasks,
) -> oneshot::Receiver<Result<Merged, PipelineError>> {
    let (tell, told) = oneshot::channel();
    tasks.spawn_finite(format!("ingest-marks-{}", owner.partition), async move {
        // Ended between its transactions and never within one: a transaction whose begin is cut short stays open on its
        // connection, which others then use.
        let _gone = tell.send(merge(&db, owner, plan, bits_per_mark, &stop).await);
        Ok(())
    });
    told
}

/// A transaction that commits nothing once the lease is lost or `stop` is cancelled. The order matters: whoever loads the
/// index anew cancels first and fences then, so from its fence on none of these gets through.
async fn begin(db: &Db, owner: Owner, stop: &CancellationToken) -> Result<Tx, PipelineError> {
    let mut tx = db.begin().await?;
    positions::fence(&mut tx, owner).await?;
    if stop.is_cancelled() { Err(PipelineError::Stopping) } else { Ok(tx) }
}

pub(super) async fn merge(
    db: &Db,
    owner: Owner,
    plan: Plan,
    bits_per_mark: f64,
    stop: &CancellationToken,
) -> Result<Merged, PipelineError> {
    let total: i64 = plan.inputs.iter().map(|row| row.marks).sum();
    let chunk_bits = chunk_bits_for(total as u64);
    let mut row = sql::SegmentRow {
        id: plan.id,
        day: plan.day,
        level: plan.level,
        marks: total,
        chunk_bits: i64::from(chunk_bits),
        state: sql::BUILDING,
        filter_version: filter::VERSION,
    };
    let mut tx = begin(db, owner, stop).await?;
    sql::clear_segment(&mut tx, row.id).await?;
    sql::insert_segment(&mut tx, owner.partition, &row, &[]).await?;
    tx.commit().await?;

    let slice_bits = (total as u64 / SLICE_MARKS).max(1).next_power_of_two().trailing_zeros().min(chunk_bits);
    let mut filter = Filter::empty(total, bits_per_mark);
    row.marks = 0;
    for slice in 0..1u64 << slice_bits {
        let marks = read_slice(db, &plan.inputs, slice, slice_bits).await?;
        marks.iter().for_each(|mark| filter.insert(*mark));
        row.marks += marks.len() as i64;
        let (bytes, cuts) = cut(&marks, row.id, chunk_bits);
        let mut tx = begin(db, owner, stop).await?;
        sql::insert_chunks(&mut tx, &bytes, &cuts).await?;
        tx.commit().await?;
        // Sorting is work; let others of this thread go on.
        tokio::task::yield_now().await;
    }

    let mut tx = begin(db, owner, stop).await?;
    if !sql::finish_segment(&mut tx, row.id, row.marks, &filter.to_bytes()).await? {
        return Err(PipelineError::Stopping);
    }
    for input in &plan.inputs {
        sql::drop_segment(&mut tx, input.id).await?;
    }
    tx.commit().await?;
    row.state = sql::LIVE;
    Ok(Merged { row, filter, inputs: plan.inputs.iter().map(|input| input.id).collect() })
}

/// The marks of all inputs whose leading `slice_bits` bits are `slice`, sorted.
async fn read_slice(db: &Db, inputs: &[sql::SegmentRow], slice: u64, slice_bits: u32) -> Result<Vec<Fingerprint>, PipelineError> {
    let mut marks = Vec::new();
    for input in inputs {
        let bits = input.chunk_bits as u32;
        let (first, end) = match bits.checked_sub(slice_bits) {
            Some(more) => (slice << more, (slice + 1) << more),
            // A small input: one of its chunks covers several slices.
            None => (slice >> (slice_bits - bits), (slice >> (slice_bits - bits)) + 1),
        };
        for chunk in sql::read_chunks(db, input.id, first as i64, end as i64).await? {
            marks.extend(decode(&chunk.fingerprints).filter(|mark| chunk_of(*mark, slice_bits) == slice));
        }
    }
    marks.sort_unstable();
    marks.dedup();
    Ok(marks)
}
