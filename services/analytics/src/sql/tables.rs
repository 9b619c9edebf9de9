//! The tables `events` and `persons`: what of a query their scans take over.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::columns::{events_schema, persons_schema};
use super::leaf::{Read, SnapshotExec};
use super::parts;
use super::selection::{Selection, narrow};
use crate::scan::Snapshot;

/// A table over a snapshot.
#[derive(Debug)]
pub(super) struct SnapshotTable {
    snapshot: Arc<Snapshot>,
    read: Read,
    schema: SchemaRef,
    /// Names of the events in the snapshot, for the table that has that column.
    events: Option<Vec<Arc<str>>>,
}

impl SnapshotTable {
    /// One row per event.
    pub(super) fn events(snapshot: Arc<Snapshot>) -> Self {
        Self { schema: events_schema(&snapshot), events: Some(snapshot.event_names()), read: Read::Events, snapshot }
    }

    /// One row per person.
    pub(super) fn persons(snapshot: Arc<Snapshot>) -> Self {
        Self { schema: persons_schema(), events: None, read: Read::Persons, snapshot }
    }
}

// The macro that the trait was made with, by its other name.
#[tonic::async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| match narrow(filter, self.events.as_deref()) {
            Some(narrowed) if narrowed.exact => TableProviderFilterPushDown::Exact,
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let mut selection = Selection::default();
        let mut exact = true;
        for filter in filters {
            match narrow(filter, self.events.as_deref()) {
                Some(narrowed) => {
                    selection = selection.and(narrowed.selection);
                    exact &= narrowed.exact;
                }
                None => exact = false,
            }
        }
        let persons = parts::existing(&self.snapshot, &selection);
        let parts = parts::cut(&self.snapshot, &selection, &persons, state.config().target_partitions());
        // What is filtered further on may need more rows than the limit.
        let fetch = limit.filter(|_| exact);
        Ok(Arc::new(SnapshotExec::new(self.snapshot.clone(), self.read, schema, selection, parts, fetch)))
    }
}
