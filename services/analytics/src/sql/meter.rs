//! [`MeterExec`]: counts what passes through it as memory in use, in front of operators that keep all of their input and do not
//! account for it. In DataFusion 55 that is `WindowAggExec`.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::TryStreamExt;

/// Passes its input on, and holds its size reserved until the stream is dropped.
#[derive(Debug)]
pub(super) struct MeterExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl MeterExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        Self { properties: input.properties().clone(), input }
    }
}

impl DisplayAs for MeterExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MeterExec")
    }
}

impl ExecutionPlan for MeterExec {
    fn name(&self) -> &str {
        "MeterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) => Ok(Arc::new(Self::new(input))),
            None => Ok(self),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let reservation = MemoryConsumer::new(format!("window[{partition}]")).register(context.memory_pool());
        let stream = self.input.execute(partition, context)?;
        let schema = stream.schema();
        let metered = stream.and_then(move |batch| {
            // The window keeps the batches and then puts them together into one.
            let counted = reservation.try_grow(batch.get_array_memory_size() * 2).map(|()| batch);
            std::future::ready(counted)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, metered)))
    }
}

/// Puts a [`MeterExec`] in front of each window.
#[derive(Debug)]
pub(super) struct MeterWindows;

impl PhysicalOptimizerRule for MeterWindows {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            if !plan.is::<WindowAggExec>() {
                return Ok(Transformed::no(plan));
            }
            let metered = plan.children().into_iter().map(|input| Arc::new(MeterExec::new(input.clone())) as _).collect();
            let plan = plan.replace_children(metered, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))?;
            Ok(Transformed::yes(plan))
        })
        .data()
    }

    fn name(&self) -> &str {
        "meter_windows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
