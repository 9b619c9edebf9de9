//! The gateway: the one public door of Segue, and the register of tenants behind it.
//!
//! It owns tenants, their module switches and limits, API keys and the audit log. Whatever comes in is checked here once
//! (key, tenant, module, quota) and passed on as bytes, with who calls in headers that only the gateway can set.
//!
//! Invariants:
//! - The tenant comes from the key alone. Headers `x-segue-*` of clients never reach a service.
//! - An RPC that is not in the contract, or is internal there, does not exist for clients.
//! - "Unknown key" is said only when the store said so; while it is away, clients are told to try again.
//! - Keys are stored as SHA-256 only.

mod admit;
mod bucket;
mod calls;
mod config;
mod directory;
mod edge;
mod error;
mod idle;
mod keys;
mod limits;
mod proxy;
mod record;
mod sdk;
mod secret;
mod store;
mod tenancy;

use std::sync::Arc;
use std::time::Duration;

use segue_model::Clock;
use segue_proto::tenancy::v1::tenancy_service_server::{self, TenancyServiceServer};
use segue_runtime::Tasks;
use segue_runtime::caller::Role;
use segue_runtime::transport::{self, PeerChannel};
use tokio::sync::Semaphore;
use tonic::service::Routes;

pub use config::Config;
pub use error::{AccessError, StartError, TenancyError};

use admit::Admission;
use calls::Calls;
use directory::Directory;
use edge::Edge;
use keys::Keys;
use limits::Limits;
use record::KeyRecord;
use secret::KeyKind;
use store::{Audit, Store};
use tenancy::Tenancy;

/// Id of the operator key that is made at the first start; a number follows on those made after all before were revoked. The
/// store settles it, so that of several gateways starting at once only one makes a key.
const FIRST_OPERATOR_ID: &str = "operator";

/// One of so many places of the HTTP API may be taken by requests that show no key before their body.
const KEYLESS_SHARE: u32 = 16;

/// The services behind the gateway. None: the installation has no such service.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// `segue.ingest.v1`, and the HTTP API.
    pub ingest: Option<PeerChannel>,
    /// `segue.identity.v1`.
    pub identity: Option<PeerChannel>,
    /// `segue.analytics.v1`.
    pub analytics: Option<PeerChannel>,
    /// `segue.audience.v1`.
    pub audience: Option<PeerChannel>,
    /// `segue.campaign.v1`, and what comes back from messages.
    pub campaign: Option<PeerChannel>,
}

/// What the gateway needs.
pub struct Deps {
    /// Its section.
    pub config: Config,
    /// `sqlite:…` or `postgres://…`.
    pub store_url: String,
    /// Also the clock of the quotas.
    pub clock: Arc<dyn Clock>,
    /// The services behind.
    pub peers: Peers,
    /// Background work.
    pub tasks: Tasks,
}

/// A gateway that runs.
pub struct Started {
    /// Everything public on one port: gRPC, gRPC-Web, HTTP. To be served with connect info. All of it is one fallback, so
    /// services that need no key (health, reflection) are merged in as routes.
    pub edge: axum::Router,
    /// `TenancyService` with `WatchTenants`: for the internal listener and for services in the same process. Callers are
    /// taken from headers here, so never mount it where clients can reach it.
    pub internal_routes: Routes,
    /// The operator key, if this start made it. It is shown nowhere else.
    pub operator_key: Option<String>,
    /// For health.
    pub service_names: Vec<&'static str>,
    /// To close the store after the listeners are drained.
    pub closing: Closing,
}

/// Ends the gateway's use of its store.
#[derive(Debug, Clone)]
pub struct Closing {
    store: Store,
}

impl Closing {
    /// Closes the store's connections.
    pub async fn close(&self) {
        self.store.close().await;
    }
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Started").field("service_names", &self.service_names).finish_non_exhaustive()
    }
}

/// Opens the store, loads the tenants, makes an operator key if there is no live one, and builds the routes.
pub async fn start(deps: Deps) -> Result<Started, StartError> {
    let faults = deps.config.validate();
    if !faults.is_empty() {
        return Err(StartError::Config(faults));
    }
    let calls = Calls::from_contract(segue_proto::DESCRIPTORS).map_err(StartError::Contract)?;
    let store = Store::open(&deps.store_url).await?;
    let operator_key = first_operator_key(&store, &deps.config, &*deps.clock).await?;
    let directory = Directory::load(store.clone()).await?;
    directory.follow(Duration::from_millis(deps.config.tenants_poll_ms), &deps.tasks);
    let keys = Keys::new(store.clone(), &deps.config);

    let tenancy = Tenancy {
        store: store.clone(),
        directory: directory.clone(),
        keys: keys.clone(),
        clock: deps.clock.clone(),
        draining: deps.tasks.draining(),
    };
    let internal_routes = Routes::new(TenancyServiceServer::new(tenancy));
    let edge = Edge {
        admission: Admission { keys, directory, limits: Limits::new(&deps.config, deps.clock) },
        calls,
        peers: deps.peers,
        tenancy: transport::local(internal_routes.clone()),
        draining: deps.tasks.draining(),
        store: store.clone(),
        http_places: places(deps.config.http_requests_max.into()),
        http_keyless_places: places((deps.config.http_requests_max / KEYLESS_SHARE).max(1).into()),
        http_body_room: places(deps.config.http_buffered_bytes_max),
        config: deps.config,
    };
    Ok(Started {
        edge: edge::router(Arc::new(edge)),
        internal_routes,
        operator_key,
        service_names: vec![tenancy_service_server::SERVICE_NAME],
        closing: Closing { store },
    })
}

fn places(count: u64) -> Semaphore {
    Semaphore::new(usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS))
}

/// Makes an operator key unless there is a live one, in the store or in the configuration.
async fn first_operator_key(store: &Store, config: &Config, clock: &dyn Clock) -> Result<Option<String>, StartError> {
    if !config.operator_key.is_empty() {
        return Ok(None);
    }
    let (made, live) = store.count_operator_keys().await?;
    if live > 0 {
        return Ok(None);
    }
    let text = secret::new_key(KeyKind::Operator, &mut rand::rng());
    let now_us = clock.now_us();
    let key = KeyRecord {
        id: if made == 0 { FIRST_OPERATOR_ID.to_owned() } else { format!("{FIRST_OPERATOR_ID}-{}", made + 1) },
        tenant: None,
        kind: KeyKind::Operator,
        role: Role::Operator,
        display_name: "operator key made by a start that found none".to_owned(),
        source: String::new(),
        created_at_us: now_us,
        revoked_at_us: None,
    };
    let audit = Audit { at_us: now_us, actor: "start", tenant: None, action: "CreateOperatorKey", detail: "{}".to_owned() };
    let made = store.create_key(&key, &secret::hash(&text), &audit).await?;
    Ok(made.then_some(text))
}
