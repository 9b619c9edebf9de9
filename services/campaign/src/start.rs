//! Starting the service: what it needs, and what it gives.

use std::sync::Arc;

use segue_log::Log;
use segue_model::Clock;
use segue_proto::campaign::v1::channel_service_server::{self, ChannelServiceServer};
use segue_proto::campaign::v1::message_service_server::{self, MessageServiceServer};
use segue_proto::campaign::v1::result_service_server::{self, ResultServiceServer};
use segue_proto::campaign::v1::scenario_service_server::{self, ScenarioServiceServer};
use segue_proto::campaign::v1::template_service_server::{self, TemplateServiceServer};
use segue_runtime::transport::{MESSAGE_BYTES_MAX, PeerChannel};
use segue_runtime::{Tasks, TenantDirectory};
use tokio::sync::Notify;

use crate::channels::Channels;
use crate::config::Config;
use crate::error::StartError;
use crate::links::Links;
use crate::peers::Peers;
use crate::policies::Policies;
use crate::service::Service;
use crate::store;
use crate::templates::Templates;

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
    /// The ingest service, which takes what happened.
    pub ingest: PeerChannel,
    /// The identity service.
    pub identity: PeerChannel,
    /// The analytics service.
    pub analytics: PeerChannel,
    /// The audience service.
    pub audience: PeerChannel,
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
    let peers = Peers { ingest: deps.ingest, identity: deps.identity, analytics: deps.analytics, audience: deps.audience };
    let service = Service {
        links: Links::new(config.clone(), db.clone()),
        policies: Policies::new(db.clone()),
        templates: Templates::new(config.clone(), db.clone()),
        channels: Channels::new(config.clone(), db.clone(), deps.clock.clone()),
        config,
        db,
        log: deps.log,
        clock: deps.clock,
        tenants: deps.tenants,
        peers,
        bells: Arc::default(),
    };
    service.spawn_flow(&deps.tasks);
    service.spawn_senders(&deps.tasks);
    service.spawn_outbox(&deps.tasks);
    let most = MESSAGE_BYTES_MAX;
    let mut routes = tonic::service::RoutesBuilder::default();
    routes
        .add_service(ScenarioServiceServer::new(service.clone()).max_decoding_message_size(most).max_encoding_message_size(most))
        .add_service(TemplateServiceServer::new(service.clone()).max_decoding_message_size(most).max_encoding_message_size(most))
        .add_service(ChannelServiceServer::new(service.clone()).max_decoding_message_size(most).max_encoding_message_size(most))
        .add_service(MessageServiceServer::new(service.clone()).max_decoding_message_size(most).max_encoding_message_size(most))
        .add_service(ResultServiceServer::new(service).max_decoding_message_size(most).max_encoding_message_size(most));
    let service_names = vec![
        scenario_service_server::SERVICE_NAME,
        template_service_server::SERVICE_NAME,
        channel_service_server::SERVICE_NAME,
        message_service_server::SERVICE_NAME,
        result_service_server::SERVICE_NAME,
    ];
    Ok(Started { routes: routes.routes(), service_names })
}

/// Rung when there is something to do, so that nobody has to look all the time.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    /// Definitions, calls to enter, exits and moves: for the worker of scenarios.
    pub(crate) flow: Notify,
    /// Planned sends.
    pub(crate) sends: Notify,
    /// Events for ingest.
    pub(crate) outbox: Notify,
}
