//! A stream of batches that are made by blocking work.
//!
//! The work runs in bursts on the runtime's blocking threads, one burst ahead of the reader, and holds no thread in between: a plan may
//! have any number of leaves that wait for each other without running out of threads. Nothing runs before the stream is first
//! polled. A stream that is dropped starts no further burst.

use std::collections::VecDeque;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;

/// A burst ends after so many batches: what is in memory ahead of the reader is at most two bursts.
const BURST_BATCHES: usize = 8;

struct Burst<I> {
    source: I,
    batches: VecDeque<Result<RecordBatch>>,
    ended: bool,
}

enum Work<I> {
    Idle(I),
    Running(SpawnedTask<Burst<I>>),
    Ended,
}

/// Streams what the iterator gives, which may block.
pub(crate) fn stream<I>(schema: SchemaRef, source: I, metrics: BaselineMetrics) -> SendableRecordBatchStream
where
    I: Iterator<Item = Result<RecordBatch>> + Send + 'static,
{
    let start = (Work::Idle(source), VecDeque::new(), metrics);
    let batches = stream::unfold(start, |(mut work, mut ready, metrics)| async move {
        loop {
            if let Some(batch) = ready.pop_front() {
                if let Ok(batch) = &batch {
                    metrics.output_rows().add(RecordBatch::num_rows(batch));
                }
                return Some((batch, (work, ready, metrics)));
            }
            work = match work {
                Work::Ended => return None,
                Work::Idle(source) => Work::Running(spawn(source, &metrics)),
                Work::Running(task) => match task.await {
                    Ok(burst) => {
                        ready = burst.batches;
                        if burst.ended { Work::Ended } else { Work::Running(spawn(burst.source, &metrics)) }
                    }
                    Err(broken) => return Some((Err(DataFusionError::ExecutionJoin(Box::new(broken))), (Work::Ended, ready, metrics))),
                },
            };
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

fn spawn<I>(mut source: I, metrics: &BaselineMetrics) -> SpawnedTask<Burst<I>>
where
    I: Iterator<Item = Result<RecordBatch>> + Send + 'static,
{
    let time = metrics.elapsed_compute().clone();
    SpawnedTask::spawn_blocking(move || {
        let _timer = time.timer();
        let mut batches = VecDeque::with_capacity(BURST_BATCHES);
        let mut ended = false;
        while !ended && batches.len() < BURST_BATCHES {
            match source.next() {
                Some(batch) => {
                    ended = batch.is_err();
                    batches.push_back(batch);
                }
                None => ended = true,
            }
        }
        Burst { source, batches, ended }
    })
}
