//! Ends joins that nobody waits for any more. A join may make very many rows of one batch, or look through very many without making one;
//! neither comes back to the runtime by itself, so that dropping the statement would not end it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec};
use tokio_util::sync::CancellationToken;

/// The same plan, whose joins yield to the runtime after some batches, and fail inside of one when the token is cancelled. It is for
/// execution in this process: plans that are sent elsewhere have none of it.
pub(super) fn interruptible(plan: Arc<dyn ExecutionPlan>, cancelled: &CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        let join: Arc<dyn ExecutionPlan> = match plan.downcast_ref::<NestedLoopJoinExec>() {
            Some(join) => match join.filter() {
                Some(filter) => Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(Some(watched(filter, cancelled))).build()?),
                None => plan,
            },
            None if plan.is::<CrossJoinExec>() || plan.is::<HashJoinExec>() || plan.is::<SortMergeJoinExec>() => plan,
            None => return Ok(Transformed::no(plan)),
        };
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(join)) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

fn watched(filter: &JoinFilter, cancelled: &CancellationToken) -> JoinFilter {
    let expression = Watched { inner: filter.expression().clone(), cancelled: cancelled.clone() };
    JoinFilter::new(Arc::new(expression), filter.column_indices().to_vec(), filter.schema().clone())
}

/// An expression that fails when nobody waits for it.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn PhysicalExpr>,
    cancelled: CancellationToken,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.cancelled.is_cancelled() {
            return Err(DataFusionError::Execution("nobody waits for the answer any more".to_owned()));
        }
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match children.pop() {
            Some(inner) => Ok(Arc::new(Self { inner, cancelled: self.cancelled.clone() })),
            None => Ok(self),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
