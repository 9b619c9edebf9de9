//! SQL over the index: right answers from every layout of the data, and nothing but answers.

mod answers;
mod distributed;
mod layouts;
mod limits;
mod pushdown;
mod refusals;
mod service;

use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Utc};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use segue_analytics::scan::Snapshot;
use segue_analytics::sql::{SqlAnswer, SqlError, SqlLimits, plan, run, session};
use segue_proto::events::v1::ResolvedEvent;
use tokio_util::sync::CancellationToken;

use crate::rig::tenant;

/// More than any test needs.
pub fn generous() -> SqlLimits {
    SqlLimits { rows_max: 1_000_000, bytes_max: 1 << 30, ms_max: 120_000, memory_bytes_max: 1 << 30, partitions: 4 }
}

/// 2026-11-03T00:00:00Z.
pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(20_760 * 86_400, 0).expect("a time")
}

fn snapshot(events: &[ResolvedEvent]) -> Arc<Snapshot> {
    Arc::new(Snapshot::of_events(&tenant("shop"), 7, events).expect("a snapshot"))
}

async fn ask(snapshot: &Arc<Snapshot>, text: &str) -> Result<SqlAnswer, SqlError> {
    run(snapshot, &generous(), now(), text, &CancellationToken::new()).await
}

/// Rows as text; null is `NULL`.
async fn table(snapshot: &Arc<Snapshot>, text: &str) -> Vec<Vec<String>> {
    match ask(snapshot, text).await {
        Ok(answer) => cells(&answer),
        Err(error) => panic!("{text}: {error:?}"),
    }
}

fn cells(answer: &SqlAnswer) -> Vec<Vec<String>> {
    batch_cells(&answer.batches)
}

fn batch_cells(batches: &[arrow::record_batch::RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("a formatter")).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
        }
    }
    rows
}

/// The one cell of an answer.
async fn cell(snapshot: &Arc<Snapshot>, text: &str) -> String {
    let rows = table(snapshot, text).await;
    assert_eq!((rows.len(), rows.first().map(Vec::len)), (1, Some(1)), "{text}");
    rows[0][0].clone()
}

async fn physical(snapshot: &Arc<Snapshot>, text: &str) -> Arc<dyn ExecutionPlan> {
    let state = session(snapshot, &generous(), now()).expect("a session");
    plan(&state, &generous(), text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// The physical plan as text.
async fn planned(snapshot: &Arc<Snapshot>, text: &str) -> String {
    displayable(physical(snapshot, text).await.as_ref()).indent(false).to_string()
}
