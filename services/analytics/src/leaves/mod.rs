//! Behavioural questions and conditions as leaves of plans: each partition asks some persons, and ordinary aggregation adds up what they
//! say. (Event reports are not among them: distinct devices, sessions and accounts do not add up over persons.)
//!
//! | module | does |
//! |---|---|
//! | `asked` | [`Asked`], the questions, and [`Answer`] |
//! | `error` | [`InquiryError`], and how errors of a leaf come through DataFusion |
//! | `exec` | [`QuestionExec`], the leaf: whole chunks of persons are its partitions |
//! | `table` | the leaf as a table, so that DataFusion plans what is above it, over several machines if its session does |
//! | `wire` | the leaf as bytes |
//! | `rows`, `key` | partial results as rows `(key, us, amount)` |
//!
//! [`answer`] does all of it; [`Inquiry`] is for whoever wants to see the plan or execute it in some other way.
//!
//! # What is exact
//!
//! Persons are in one partition each, so counts and multisets of durations add up. Keys say values and names, never the codes of one
//! process. Whatever needs everybody (which groups are shown and which are `other`, medians, distributions, rates) is decided over the
//! sum, by the same code that answers in one process. Two kinds of numbers do not simply add up:
//!
//! - Distinct persons of several groups or periods together (sessions): each cell lists its persons as bitmaps, a row per chunk, which
//!   are united over the sum. That is what one process keeps as well, and less than the durations take.
//! - Nodes of paths beyond the shown ones: edges to `$other` are only known once it is known who is shown. Where
//!   [`segue_engine::path::Question`] needs a second pass, the first sum gives another [`Inquiry`], which names the nodes that are shown.
//!
//! # Replicas
//!
//! Each replica asks its own snapshot. All judge by the watermark of the one that was asked, or by their own if they have not come that
//! far; the answer names the least of them. A property that a replica has not seen yet is one that it refuses.
//!
//! # Limits
//!
//! Those of the asker travel with the leaf. Each partition has its share of the memory, and the sum is held to the whole of it.

mod asked;
mod error;
mod exec;
pub(crate) mod key;
mod rows;
mod table;
mod wire;

use std::sync::Arc;
use std::time::Instant;

use arrow::record_batch::RecordBatch;
pub use asked::{Answer, Asked};
pub(crate) use asked::{Cost, Next, Round, selection};
use chrono_tz::Tz;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::physical_plan::{ExecutionPlan, collect};
pub use error::InquiryError;
pub use exec::QuestionExec;
pub(crate) use rows::{Row, Rows, persons_by_chunk};
use tokio_util::sync::CancellationToken;
pub(crate) use wire::QuestionProto;

use crate::question::{Context, QueryError, QueryLimits};
use crate::scan::{ScanError, ScanStats, Snapshot};
use crate::sql::selection::Selection;

/// A question over a snapshot: one round of it, which a plan answers.
#[derive(Debug, Clone)]
pub struct Inquiry {
    snapshot: Arc<Snapshot>,
    zone: Tz,
    limits: QueryLimits,
    asked: Asked,
    round: Round,
    /// By which work is cut into equal parts.
    selection: Selection,
    begun: Instant,
    /// What earlier rounds have read.
    spent: ScanStats,
}

/// What the rows of a plan come to.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one is made per query")]
pub enum Finished {
    /// The answer.
    Answer(Answer),
    /// It takes another round.
    Again(Inquiry),
}

impl Inquiry {
    /// Checks a request. `zone` is the tenant's.
    pub fn new(snapshot: Arc<Snapshot>, zone: Tz, limits: QueryLimits, asked: Asked) -> Result<Self, QueryError> {
        let cancel = CancellationToken::new();
        let context = Context { snapshot: &snapshot, zone, limits, cancel: &cancel };
        let (selection, round) = asked.begin(&context)?;
        Ok(Self { snapshot, zone, limits, asked, round, selection, begun: Instant::now(), spent: ScanStats::default() })
    }

    /// The plan whose rows [`Inquiry::finish`] takes: the leaf, and `SUM(amount) GROUP BY key, us` above it. The session decides into how
    /// many parts persons are cut and where they are asked.
    pub async fn plan(&self, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        table::plan(self, state).await
    }

    /// Takes the rows of the whole plan. Plain, blocking work.
    pub fn finish(self, batches: &[RecordBatch]) -> Result<Finished, QueryError> {
        let rows::Sum { rows, stats, watermark_us } = rows::Sum::of(batches).map_err(ScanError::Arrow)?;
        let stats = ScanStats {
            rows: stats.rows + self.spent.rows,
            tail_rows: stats.tail_rows + self.spent.tail_rows,
            files: stats.files.max(self.spent.files),
        };
        let snapshot = Arc::new(self.snapshot.as_of(watermark_us.unwrap_or(i64::MAX)));
        let cancel = CancellationToken::new();
        let context = Context { snapshot: &snapshot, zone: self.zone, limits: self.limits, cancel: &cancel };
        let cost = Cost { stats, seconds: self.begun.elapsed().as_secs_f64() };
        Ok(match self.asked.answer(&context, &self.round, rows, cost)? {
            Next::Answer(answer) => Finished::Answer(answer),
            Next::Again(round) => Finished::Again(Self { round, snapshot, spent: stats, ..self }),
        })
    }
}

/// Answers a question by plans in this session.
pub async fn answer(state: &SessionState, mut inquiry: Inquiry) -> Result<Answer, InquiryError> {
    loop {
        let plan = inquiry.plan(state).await?;
        let batches = collect(plan, state.task_ctx()).await?;
        let finished = SpawnedTask::spawn_blocking(move || inquiry.finish(&batches)).await;
        match finished.map_err(|broken| DataFusionError::ExecutionJoin(Box::new(broken)))?? {
            Finished::Answer(answer) => return Ok(answer),
            Finished::Again(next) => inquiry = next,
        }
    }
}
