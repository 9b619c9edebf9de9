//! [`SnapshotExec`]: the leaf of every plan. It says what to read, of which tenant, and which persons each partition has; partitions
//! are made of whole chunks, so each person is in one partition and every partition can be read anywhere.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, exec_datafusion_err, stats::Precision};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use parking_lot::Mutex;

use super::parts::{self, Part};
use super::selection::Selection;
use super::{persons, rows};
use crate::scan::{ScanStats, Snapshot};

/// What a leaf reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Rows of `events`.
    Events,
    /// Rows of `persons`.
    Persons,
}

impl Read {
    fn name(self) -> &'static str {
        match self {
            Read::Events => "events",
            Read::Persons => "persons",
        }
    }
}

/// Reads a snapshot.
#[derive(Debug)]
pub struct SnapshotExec {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) read: Read,
    /// The columns, by the names that [`super::columns`] gives them.
    pub(super) schema: SchemaRef,
    pub(super) selection: Selection,
    pub(super) parts: Vec<Part>,
    /// Each partition may end after so many rows.
    pub(super) fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    scanned: Arc<Mutex<ScanStats>>,
}

impl SnapshotExec {
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        read: Read,
        schema: SchemaRef,
        selection: Selection,
        parts: Vec<Part>,
        fetch: Option<usize>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Self { snapshot, read, schema, selection, parts, fetch, properties, metrics, scanned: Arc::default() }
    }

    /// How many tasks this leaf can be split into: as many as it has chunks.
    pub fn tasks_max(&self) -> usize {
        parts::tasks_max(&self.parts)
    }

    /// The same leaf for so many tasks: together they read what this one reads, each person in one of them. All have the same
    /// number of partitions, of which some may be empty.
    pub fn split(&self, tasks: usize) -> Vec<Arc<dyn ExecutionPlan>> {
        let split = parts::split(&self.snapshot, &self.selection, &self.parts, tasks).into_iter();
        split.map(|parts| Arc::new(self.with_parts(parts)) as Arc<dyn ExecutionPlan>).collect()
    }

    fn with_parts(&self, parts: Vec<Part>) -> Self {
        let Self { snapshot, read, schema, selection, fetch, .. } = self;
        Self::new(snapshot.clone(), *read, schema.clone(), selection.clone(), parts, *fetch)
    }

    /// About how many rows there are: those of persons that were deleted since they were written are among them, so this must never
    /// stand for a count.
    fn event_statistics(&self) -> Statistics {
        let rows = self.snapshot.rows_max(self.selection.events.as_deref(), self.selection.range_us);
        Statistics { num_rows: Precision::Inexact(rows as usize), ..Statistics::new_unknown(&self.schema) }
    }
}

impl DisplayAs for SnapshotExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if matches!(kind, DisplayFormatType::TreeRender) {
            return writeln!(f, "table={}", self.read.name());
        }
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "SnapshotExec: table={}, columns=[{}]", self.read.name(), columns.join(", "))?;
        if let Some(events) = &self.selection.events {
            write!(f, ", events=[{}]", events.join(", "))?;
        }
        if !self.selection.has_all_times() {
            let (from, to) = self.selection.range_us;
            write!(f, ", ts=[{from}, {to})")?;
        }
        if !self.selection.has_all_persons() {
            write!(f, ", persons={:?}", self.selection.persons)?;
        }
        if let Some(fetch) = self.fetch {
            write!(f, ", fetch={fetch}")?;
        }
        write!(f, ", partitions={:?}", self.parts)
    }
}

impl ExecutionPlan for SnapshotExec {
    fn name(&self) -> &str {
        "SnapshotExec"
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
        match self.read {
            Read::Events => rows::stream(self, part, partition, &context),
            Read::Persons => persons::stream(self, part, partition, &context),
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let statistics = match (self.read, args.partition()) {
            (Read::Events, None) if self.fetch.is_none() => self.event_statistics(),
            _ => Statistics::new_unknown(&self.schema),
        };
        Ok(Arc::new(statistics))
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let Self { snapshot, read, schema, selection, parts, .. } = self;
        Some(Arc::new(Self::new(snapshot.clone(), *read, schema.clone(), selection.clone(), parts.clone(), limit)))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }
}

impl SnapshotExec {
    pub(super) fn metrics_set(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    /// What its partitions have read so far, in this process.
    pub(super) fn scanned(&self) -> ScanStats {
        *self.scanned.lock()
    }

    /// Counts what one partition reads.
    pub(super) fn meter(&self) -> ScanMeter {
        ScanMeter { all: self.scanned.clone(), counted: ScanStats::default() }
    }
}

/// Adds what a partition reads to what its leaf has read.
pub(super) struct ScanMeter {
    all: Arc<Mutex<ScanStats>>,
    /// Of the scan under way.
    counted: ScanStats,
}

impl ScanMeter {
    /// The scan under way has read so much by now.
    pub(super) fn count(&mut self, now: ScanStats) {
        let mut all = self.all.lock();
        all.rows += now.rows - self.counted.rows;
        all.tail_rows += now.tail_rows - self.counted.tail_rows;
        all.files = all.files.max(now.files);
        self.counted = now;
    }

    /// Another scan begins.
    pub(super) fn next_scan(&mut self) {
        self.counted = ScanStats::default();
    }
}
