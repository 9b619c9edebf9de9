//! Starting the service: what it needs, and what it gives.

use std::sync::Arc;

use segue_log::Log;
use segue_model::Clock;
use segue_proto::audience::v1::audience_service_server::{AudienceServiceServer, SERVICE_NAME};
use segue_runtime::transport::{MESSAGE_BYTES_MAX, PeerChannel};
use segue_runtime::{Tasks, TenantDirectory};

use crate::config::Config;
use crate::definitions::Definitions;
use crate::error::StartError;
use crate::live::{Live, LiveDeps};
use crate::peers::Peers;
use crate::service::Service;
use crate::store;

/// What the service runs on.
pub struct Deps {
    /// Its section of the configuration.
    pub config: Config,
    /// `sqlite:<folder>` or `postgres://…`.
    pub store_url: String,
    /// The event log.
    pub log: Log,
    /// Where the present comes from.
    pub clock: Arc<dyn Clock>,
    /// Who is on.
    pub tenants: TenantDirectory,
    /// Where background work runs.
    pub tasks: Tasks,
    /// The analytics service.
    pub analytics: PeerChannel,
    /// The identity service.
    pub identity: PeerChannel,
}

/// A running service.
#[derive(Debug)]
pub struct Started {
    /// Its gRPC services.
    pub routes: tonic::service::Routes,
    /// Their names, for health.
    pub service_names: Vec<&'static str>,
}

/// Opens the store, starts the workers, and builds the routes.
pub async fn start(deps: Deps) -> Result<Started, StartError> {
    let faults = deps.config.validate();
    if !faults.is_empty() {
        return Err(StartError::Config(faults));
    }
    let config = Arc::new(deps.config);
    let db = store::open(&deps.store_url).await?;
    let peers = Peers::new(deps.analytics, deps.identity);
    let definitions = Definitions::new(config.clone(), db.clone(), peers.clone(), deps.clock.clone());
    let live = Live::start(LiveDeps {
        config: config.clone(),
        db: db.clone(),
        log: deps.log.clone(),
        clock: deps.clock.clone(),
        tenants: deps.tenants.clone(),
        tasks: deps.tasks.clone(),
        peers: peers.clone(),
        definitions: definitions.clone(),
    });
    let service = Service {
        config,
        db,
        log: deps.log,
        clock: deps.clock,
        tenants: deps.tenants,
        peers,
        definitions,
        live,
        draining: deps.tasks.draining(),
    };
    service.spawn_relay(&deps.tasks);
    service.spawn_syncs(&deps.tasks);
    let server =
        AudienceServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
    Ok(Started { routes: tonic::service::Routes::new(server), service_names: vec![SERVICE_NAME] })
}
