//! Builds the service from its parts.

use std::path::PathBuf;
use std::sync::Arc;

use segue_log::Log;
use segue_model::Clock;
use segue_proto::ingest::v1::import_service_server::ImportServiceServer;
use segue_proto::ingest::v1::ingest_service_server::IngestServiceServer;
use segue_proto::ingest::v1::quarantine_service_server::QuarantineServiceServer;
use segue_proto::ingest::v1::taxonomy_service_server::TaxonomyServiceServer;
use segue_runtime::tasks::Tasks;
use segue_runtime::tenants::TenantDirectory;
use segue_runtime::transport::PeerChannel;
use segue_store::Db;
use tonic::server::NamedService;
use tonic::service::Routes;

use crate::import::{ImportApi, ImportDeps};
use crate::pipeline::{Pipeline, PipelineDeps};
use crate::quarantine::Quarantine;
use crate::service::{IngestApi, QuarantineApi, TaxonomyApi};
use crate::taxonomy::Taxonomies;
use crate::{Accept, Config, StartError, store};

/// Largest message of a call: 8 MiB of events, and some room for framing.
const MESSAGE_BYTES_MAX: usize = (8 << 20) + (64 << 10);

/// What the service needs from the process.
pub struct Deps {
    /// Its section.
    pub config: Config,
    /// Where its state is kept; the namespace is `ingest`.
    pub store_url: String,
    /// The log.
    pub log: Log,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Tenants and their switches.
    pub tenants: TenantDirectory,
    /// Where background work is supervised.
    pub tasks: Tasks,
    /// A folder of its own, for uploaded files.
    pub data_dir: PathBuf,
    /// The identity service.
    pub identity: PeerChannel,
}

/// The running service.
pub struct Started {
    /// Its gRPC services.
    pub routes: Routes,
    /// Their names, for health checks.
    pub service_names: Vec<&'static str>,
    /// For callers in the same process, such as benchmarks.
    pub accept: Accept,
}

/// Opens the store, starts the workers, and builds the routes.
pub async fn start(deps: Deps) -> Result<Started, StartError> {
    let faults = deps.config.validate();
    if !faults.is_empty() {
        return Err(StartError::Config(faults));
    }
    let db = Db::open(&deps.store_url, "ingest", store::MIGRATIONS).await?;
    let taxonomies = Taxonomies::new(db.clone(), deps.clock.clone(), deps.config.taxonomy.clone());
    let accept = Accept::start(
        deps.config.accept.clone(),
        deps.config.quarantine.clone(),
        db.clone(),
        deps.log.clone(),
        taxonomies.clone(),
        &deps.tasks,
    );
    let quarantine = Quarantine::new(deps.config.quarantine.clone(), db.clone(), deps.clock.clone(), taxonomies.clone(), accept.clone());
    let pipeline = Pipeline::start(PipelineDeps {
        config: deps.config.pipeline,
        db: db.clone(),
        log: deps.log,
        clock: deps.clock.clone(),
        tenants: deps.tenants.clone(),
        tasks: deps.tasks.clone(),
        taxonomies: taxonomies.clone(),
        identity: deps.identity,
    })
    .await?;
    let import = ImportApi::start(ImportDeps {
        config: deps.config.import,
        db: db.clone(),
        clock: deps.clock.clone(),
        tenants: deps.tenants,
        tasks: deps.tasks.clone(),
        data_dir: deps.data_dir,
        accept: accept.clone(),
    })
    .await?;

    let ingest = IngestApi::new(accept.clone(), pipeline, db, deps.clock, deps.config.accept, deps.tasks.draining());
    let mut routes = Routes::builder();
    routes
        .add_service(IngestServiceServer::new(ingest).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(TaxonomyServiceServer::new(TaxonomyApi::new(taxonomies)))
        .add_service(QuarantineServiceServer::new(QuarantineApi::new(quarantine)).max_encoding_message_size(64 << 20))
        .add_service(ImportServiceServer::new(import));
    Ok(Started {
        routes: routes.routes(),
        service_names: vec![
            IngestServiceServer::<IngestApi>::NAME,
            TaxonomyServiceServer::<TaxonomyApi>::NAME,
            QuarantineServiceServer::<QuarantineApi>::NAME,
            ImportServiceServer::<ImportApi>::NAME,
        ],
        accept,
    })
}
