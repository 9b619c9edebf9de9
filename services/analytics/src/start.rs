//! Starting the service: what it needs, and what it gives.

use std::sync::Arc;

use segue_log::Log;
use segue_model::Clock;
use segue_proto::analytics::v1::analytics_service_server::{AnalyticsServiceServer, SERVICE_NAME};
use segue_runtime::transport::MESSAGE_BYTES_MAX;
use segue_runtime::{Tasks, TenantDirectory};

use crate::config::Config;
use crate::error::StartError;
use crate::index::{Index, Lake, spawn_workers};
use crate::service::Service;
use crate::store::Catalogue;

/// What analytics runs on.
#[derive(Debug)]
pub struct Deps {
    /// Its section of the configuration.
    pub config: Config,
    /// `sqlite:<folder>` or `postgres://…`.
    pub store_url: String,
    /// `file:<folder>`.
    pub lake_url: String,
    /// The event log.
    pub log: Log,
    /// Where the present comes from.
    pub clock: Arc<dyn Clock>,
    /// Who is on.
    pub tenants: TenantDirectory,
    /// Where background work runs.
    pub tasks: Tasks,
}

/// A running analytics.
#[derive(Debug)]
pub struct Started {
    /// The gRPC services.
    pub routes: tonic::service::Routes,
    /// Their names, for health.
    pub service_names: Vec<&'static str>,
    /// The index, for calls within the process.
    pub index: Index,
}

/// Opens the store and the lake, sweeps what a crash left, and starts indexing.
pub async fn start(deps: Deps) -> Result<Started, StartError> {
    let violations = deps.config.validate();
    if !violations.is_empty() {
        return Err(StartError::Config { violations });
    }
    let catalogue = Catalogue::open(&deps.store_url).await?;
    let lake = Lake::open(&deps.lake_url).map_err(StartError::Lake)?;
    let (index, deleted) = Index::open(deps.config.clone(), catalogue, lake, deps.clock.clone(), deps.tenants.clone(), deps.log).await?;
    index.sweep().await.map_err(StartError::Lake)?;
    spawn_workers(&index, deleted, &deps.tasks).await?;
    let service =
        Service::new(index.clone(), deps.tenants, &deps.config, deps.clock, deps.tasks.stopping()).map_err(StartError::Threads)?;
    let service =
        AnalyticsServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
    Ok(Started { routes: tonic::service::Routes::new(service), service_names: vec![SERVICE_NAME], index })
}
