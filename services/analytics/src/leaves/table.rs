//! A question as a table of partial results, so that DataFusion plans their aggregation.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::sum::sum;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col};
use datafusion::physical_plan::ExecutionPlan;

use super::Inquiry;
use super::exec::QuestionExec;
use super::rows::{AMOUNT, KEY, US, schema};
use crate::sql::parts;

#[derive(Debug)]
struct QuestionTable(Inquiry);

#[tonic::async_trait]
impl TableProvider for QuestionTable {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if projection.is_some_and(|columns| *columns != [0, 1, 2]) {
            return internal_err!("partial results are read as a whole");
        }
        let Inquiry { snapshot, selection, .. } = &self.0;
        let persons = parts::existing(snapshot, selection);
        let parts = parts::cut(snapshot, selection, &persons, state.config().target_partitions());
        Ok(Arc::new(QuestionExec::new(self.0.clone(), parts)))
    }
}

/// The leaf of a question, and the sum above it.
pub(super) async fn plan(inquiry: &Inquiry, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
    let table = provider_as_source(Arc::new(QuestionTable(inquiry.clone())));
    let rows = LogicalPlanBuilder::scan(inquiry.asked.name(), table, None)?;
    let summed = rows.aggregate([col(KEY), col(US)], [sum(col(AMOUNT)).alias(AMOUNT)])?.build()?;
    state.create_physical_plan(&summed).await
}
