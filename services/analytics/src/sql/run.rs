//! Runs one statement within its limits.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use chrono::{DateTime, Utc};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::error::SqlError;
use super::guard;
use super::interrupt::interruptible;
use super::leaf::SnapshotExec;
use super::session::session;
use crate::scan::{ScanStats, Snapshot};

/// What one statement may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlLimits {
    /// Most rows of an answer; it is cut there, and says so.
    pub rows_max: u64,
    /// Most bytes of an answer in Arrow's layout; it is cut there, and says so.
    pub bytes_max: u64,
    /// Longest that it runs, in milliseconds.
    pub ms_max: u64,
    /// Most memory for what its operators keep.
    pub memory_bytes_max: u64,
    /// Into how many parts work is cut, which run at the same time.
    pub partitions: usize,
}

/// Why an answer is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// It reached the most rows.
    Rows,
    /// It reached the most bytes.
    Bytes,
}

/// An answer. Its types are plain: no views, no dictionaries.
#[derive(Debug, Clone)]
pub struct SqlAnswer {
    /// Columns.
    pub schema: SchemaRef,
    /// Rows, none of them empty.
    pub batches: Vec<RecordBatch>,
    /// How many rows.
    pub rows: u64,
    /// Set when there were more.
    pub truncated: Option<Truncation>,
    /// Everything that reached analytics' log before this moment (microseconds UTC) was looked at.
    pub watermark_us: i64,
    /// What was read. Files are those of the part that read most.
    pub stats: ScanStats,
}

/// Runs a statement over a snapshot. It works on the threads of the current runtime and its blocking threads; [`super::SqlRuntime`]
/// gives it some of its own. `now` is what `now()` says. Cancelling the token ends the work; dropping the future does so between
/// two polls.
pub async fn run(
    snapshot: &Arc<Snapshot>,
    limits: &SqlLimits,
    now: DateTime<Utc>,
    text: &str,
    cancelled: &CancellationToken,
) -> Result<SqlAnswer, SqlError> {
    let work = async {
        let failed = |error| SqlError::of(error, limits.memory_bytes_max);
        let state = session(snapshot, limits, now).map_err(failed)?;
        let plan = plan(&state, limits, text).await?;
        let plan = interruptible(plan, cancelled).map_err(failed)?;
        answer(&state, plan, limits, snapshot.watermark_us()).await
    };
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Err(SqlError::Cancelled),
        done = tokio::time::timeout(Duration::from_millis(limits.ms_max), work) => {
            done.unwrap_or(Err(SqlError::TooLong { limit_ms: limits.ms_max }))
        }
    }
}

/// Plans a statement in a session, refusing what is not allowed. The plan ends one row after the most rows of an answer.
pub async fn plan(state: &SessionState, limits: &SqlLimits, text: &str) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    let failed = |error| SqlError::of(error, limits.memory_bytes_max);
    guard::check_text(text)?;
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(text, &dialect).map_err(failed)?;
    guard::check_statement(&statement)?;
    let plan = state.statement_to_plan(statement).await.map_err(failed)?;
    let queries_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    queries_only.verify_plan(&plan).map_err(failed)?;
    guard::check_plan(&plan).map_err(failed)?;
    let plan = limited(plan, limits.rows_max).map_err(failed)?;
    state.create_physical_plan(&plan).await.map_err(failed)
}

/// With a limit, a sort keeps only as many rows as can be answered.
fn limited(plan: LogicalPlan, rows_max: u64) -> Result<LogicalPlan> {
    match plan {
        plan @ (LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_)) => Ok(plan),
        plan => {
            let rows = usize::try_from(rows_max).unwrap_or(usize::MAX).saturating_add(1);
            LogicalPlanBuilder::from(plan).limit(0, Some(rows))?.build()
        }
    }
}

async fn answer(state: &SessionState, plan: Arc<dyn ExecutionPlan>, limits: &SqlLimits, watermark_us: i64) -> Result<SqlAnswer, SqlError> {
    let failed = |error| SqlError::of(error, limits.memory_bytes_max);
    let mut stream = execute_stream(plan.clone(), state.task_ctx()).map_err(failed)?;
    let schema = plain_schema(&stream.schema());
    let stats = ScanStats::default();
    let mut answer = SqlAnswer { schema: schema.clone(), batches: Vec::new(), rows: 0, truncated: None, watermark_us, stats };
    let mut bytes = 0;
    while answer.truncated.is_none()
        && let Some(batch) = stream.next().await
    {
        let batch = plain_batch(&batch.map_err(failed)?, &schema).map_err(failed)?;
        let mut rows = batch.num_rows();
        let rows_left = usize::try_from(limits.rows_max - answer.rows).unwrap_or(usize::MAX);
        if rows > rows_left {
            rows = rows_left;
            answer.truncated = Some(Truncation::Rows);
        }
        let fitting = fitting(&batch.slice(0, rows), limits.bytes_max - bytes).map_err(failed)?;
        if fitting < rows {
            rows = fitting;
            answer.truncated = Some(Truncation::Bytes);
            if answer.rows == 0 && rows == 0 {
                return Err(SqlError::RowTooLarge { bytes_max: limits.bytes_max });
            }
        }
        if rows > 0 {
            let batch = batch.slice(0, rows);
            bytes += size(&batch).map_err(failed)?;
            answer.rows += rows as u64;
            answer.batches.push(batch);
        }
    }
    drop(stream);
    add_stats(&plan, &mut answer.stats);
    Ok(answer)
}

/// What the leaves of a plan have read.
fn add_stats(plan: &Arc<dyn ExecutionPlan>, stats: &mut ScanStats) {
    if let Some(leaf) = plan.downcast_ref::<SnapshotExec>() {
        let read = leaf.scanned();
        stats.rows += read.rows;
        stats.tail_rows += read.tail_rows;
        stats.files = stats.files.max(read.files);
    }
    for child in plan.children() {
        add_stats(child, stats);
    }
}

/// Bytes of the rows of a batch.
fn size(batch: &RecordBatch) -> Result<u64> {
    let mut bytes = 0;
    for column in batch.columns() {
        bytes += column.to_data().get_slice_memory_size()? as u64;
    }
    Ok(bytes)
}

/// How many of the first rows fit into so many bytes.
fn fitting(batch: &RecordBatch, bytes_max: u64) -> Result<usize> {
    if size(batch)? <= bytes_max {
        return Ok(batch.num_rows());
    }
    let (mut fits, mut too_many) = (0, batch.num_rows());
    while fits + 1 < too_many {
        let half = fits.midpoint(too_many);
        if size(&batch.slice(0, half))? <= bytes_max { fits = half } else { too_many = half }
    }
    Ok(fits)
}

fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(plain_field).collect();
    Arc::new(Schema::new(fields))
}

fn plain_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), plain_type(field.data_type()), field.is_nullable()))
}

/// The type that every reader of Arrow knows.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::List(element) | DataType::ListView(element) => DataType::List(plain_field(element)),
        DataType::LargeList(element) | DataType::LargeListView(element) => DataType::LargeList(plain_field(element)),
        DataType::FixedSizeList(element, size) => DataType::FixedSizeList(plain_field(element), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}

fn plain_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let plain = |(column, field): (&ArrayRef, &FieldRef)| match column.data_type() == field.data_type() {
        true => Ok(column.clone()),
        false => cast(column, field.data_type()),
    };
    let columns: std::result::Result<Vec<ArrayRef>, _> = batch.columns().iter().zip(schema.fields()).map(plain).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns.map_err(DataFusionError::from)?, &options)?)
}
