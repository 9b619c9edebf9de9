//! [`QuestionExec`]: asks the persons of each of its partitions and emits partial results. Partitions are whole chunks of persons, so
//! every one of them can be asked anywhere. A partition takes one of the runtime's blocking threads while it asks, and waits for nobody.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, exec_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::Inquiry;
use super::error::through_plan;
use super::rows::{Rows, schema};
use crate::question::{Context, QueryError};
use crate::sql::blocking;
use crate::sql::parts::{self, Part};

/// Asks a question of some persons.
#[derive(Debug)]
pub struct QuestionExec {
    inquiry: Inquiry,
    parts: Vec<Part>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl QuestionExec {
    pub(super) fn new(inquiry: Inquiry, parts: Vec<Part>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema()),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { inquiry, parts, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    pub(super) fn inquiry(&self) -> &Inquiry {
        &self.inquiry
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How many tasks this leaf can be split into: as many as it has chunks.
    pub fn tasks_max(&self) -> usize {
        parts::tasks_max(&self.parts)
    }

    /// The same leaf for so many tasks: together they ask whom this one asks, each person in one of them. All have the same number of
    /// partitions, of which some may be empty.
    pub fn split(&self, tasks: usize) -> Vec<Arc<dyn ExecutionPlan>> {
        let split = parts::split(&self.inquiry.snapshot, &self.inquiry.selection, &self.parts, tasks).into_iter();
        split.map(|parts| Arc::new(Self::new(self.inquiry.clone(), parts)) as Arc<dyn ExecutionPlan>).collect()
    }
}

impl DisplayAs for QuestionExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.inquiry.asked.name();
        match kind {
            DisplayFormatType::TreeRender => writeln!(f, "question={name}"),
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "QuestionExec: question={name}, round={:?}, partitions={:?}", self.inquiry.round, self.parts)
            }
        }
    }
}

impl ExecutionPlan for QuestionExec {
    fn name(&self) -> &str {
        "QuestionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>, _: ReplaceChildrenOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let part = self.parts.get(partition).ok_or_else(|| exec_datafusion_err!("a leaf has no partition {partition}"))?;
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let work = Work {
            inquiry: self.inquiry.clone(),
            part: part.clone(),
            share: self.parts.iter().filter(|part| !part.is_empty()).count().max(1),
            cancel,
            reservation: MemoryConsumer::new(format!("question[{partition}]")).register(context.memory_pool()),
            // Whoever has nobody to ask has nothing to say.
            batches: part.is_empty().then(Vec::new).map(Vec::into_iter),
        };
        let stream = blocking::stream(schema(), work, BaselineMetrics::new(&self.metrics, partition));
        // Dropped with the stream, it ends the work, which nobody else could.
        let stream = stream.inspect(move |_| _ = &guard);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&schema())))
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }
}

/// Asks the persons of one partition when the first batch is asked for. Blocks.
struct Work {
    inquiry: Inquiry,
    part: Part,
    /// Partitions that share the memory.
    share: usize,
    cancel: CancellationToken,
    reservation: MemoryReservation,
    /// What is left of the answer, once there is one.
    batches: Option<std::vec::IntoIter<RecordBatch>>,
}

impl Work {
    fn ask(&self) -> Result<Vec<RecordBatch>, QueryError> {
        let Inquiry { snapshot, zone, limits, asked, round, .. } = &self.inquiry;
        let mut limits = *limits;
        limits.threads = 1;
        limits.hits_bytes_max /= self.share;
        limits.report.bytes_max /= self.share;
        let context = Context { snapshot, zone: *zone, limits, cancel: &self.cancel };
        let mut rows = Rows::new(limits.report.bytes_max);
        let stats = asked.write(&context, round, Some(&self.part), &mut rows)?;
        rows.add_frame(snapshot.watermark_us(), stats)?;
        rows.finish()
    }

    fn begin(&mut self) -> Result<std::vec::IntoIter<RecordBatch>> {
        let batches = self.ask().map_err(through_plan)?;
        self.reservation.try_grow(batches.iter().map(RecordBatch::get_array_memory_size).sum())?;
        Ok(batches.into_iter())
    }
}

impl Iterator for Work {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.batches.is_none() {
            match self.begin() {
                Ok(batches) => self.batches = Some(batches),
                Err(error) => {
                    self.batches = Some(Vec::new().into_iter());
                    return Some(Err(error));
                }
            }
        }
        let batch = self.batches.as_mut()?.next()?;
        self.reservation.shrink(batch.get_array_memory_size().min(self.reservation.size()));
        Some(Ok(batch))
    }
}
