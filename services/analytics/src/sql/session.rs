//! What DataFusion is set to for one statement.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider};
use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use super::codec::Snapshots;
use super::functions;
use super::growth::{self, BoundGrowth};
use super::meter::MeterWindows;
use super::run::SqlLimits;
use super::tables::SnapshotTable;
use crate::scan::Snapshot;

const CATALOG: &str = "segue";
const SCHEMA: &str = "public";

/// A session for one statement over one snapshot.
pub fn session(snapshot: &Arc<Snapshot>, limits: &SqlLimits, now: DateTime<Utc>) -> Result<SessionState> {
    let mut state = builder(limits)?.build();
    register_tables(&state, snapshot)?;
    state.execution_props_mut().query_execution_start_time = Some(now);
    Ok(state)
}

/// Puts the tables of a snapshot into a session's catalog.
pub fn register_tables(state: &SessionState, snapshot: &Arc<Snapshot>) -> Result<()> {
    let schema = MemorySchemaProvider::new();
    schema.register_table("events".to_owned(), Arc::new(SnapshotTable::events(snapshot.clone())))?;
    schema.register_table("persons".to_owned(), Arc::new(SnapshotTable::persons(snapshot.clone())))?;
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(SCHEMA, Arc::new(schema))?;
    state.catalog_list().register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    Ok(())
}

/// A session of a replica that executes parts of plans which another replica made.
pub fn worker_session(mut builder: SessionStateBuilder, snapshots: Snapshots) -> SessionStateBuilder {
    builder.config().get_or_insert_default().set_extension(Arc::new(snapshots));
    builder.with_scalar_functions(scalar_functions())
}

/// The functions that may be called, within bounds.
fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let functions = SessionStateDefaults::default_scalar_functions().into_iter();
    growth::bound(functions.filter(|function| functions::is_allowed(function.name())).collect())
}

/// No files, no table functions, no functions that are denied, no recursion.
fn builder(limits: &SqlLimits) -> Result<SessionStateBuilder> {
    let mut physical = PhysicalOptimizer::new().rules;
    physical.push(Arc::new(MeterWindows));
    Ok(SessionStateBuilder::new()
        .with_config(config(limits))
        .with_runtime_env(Arc::new(environment(limits)?))
        .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
        .with_table_function_list(Vec::new())
        .with_scalar_functions(scalar_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_analyzer_rule(Arc::new(BoundGrowth::new()))
        .with_physical_optimizer_rules(physical))
}

fn config(limits: &SqlLimits) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(limits.partitions.max(1))
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA);
    // Recursion may go on for ever, and what it keeps grows.
    config.options_mut().execution.enable_recursive_ctes = false;
    config
}

/// One pool per statement, and no disk: what does not fit ends the statement.
fn environment(limits: &SqlLimits) -> Result<RuntimeEnv> {
    let pool = GreedyMemoryPool::new(usize::try_from(limits.memory_bytes_max).unwrap_or(usize::MAX));
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build()
}
