//! Identity: turns the identifiers of events into persons.
//!
//! It owns persons, identifiers, traits, accounts with their members, consents, and the link log. Its invariants:
//!
//! - **The link log is the truth.** Every link, move, detachment and merge is a record, numbered per tenant without gaps;
//!   who an identifier names now follows from replaying it. `persons` and `identifiers` are views kept in the same
//!   transaction.
//! - **Numbers are dense and final.** Persons and devices count from 1 per tenant and are never reused. A merge redirects a
//!   number; it moves nothing, so it can be undone.
//! - **A batch has one answer.** The last answer to each source is stored with its effects.
//! - **One writer at a time per tenant.** The row of `tenants` is the lock, over all processes; its version tells a process
//!   whether its cache holds.
//! - **Two persons with user ids never become one by themselves.** See [`rules`].
//!
//! Merges reach their consumers through the topic [`IDENTITY_CHANGES`].

pub mod answer;
pub mod cache;
pub mod config;
pub mod consent;
pub mod effects;
pub mod error;
pub mod identifier;
pub mod merge;
pub mod person_id;
pub mod registry;
mod relay;
pub mod rules;
mod service;
pub mod store;
mod writer;

use std::sync::Arc;

use segue_log::{Log, Topic};
use segue_model::{Clock, FieldViolation};
use segue_proto::identity::v1::identity_service_server::{IdentityServiceServer, SERVICE_NAME};
use segue_runtime::{Tasks, TenantDirectory};
use segue_store::StoreError;
use tokio::sync::{Notify, mpsc};

pub use config::Config;
pub use error::IdentityError;

use crate::identifier::Identifiers;
use crate::rules::{Limits, Rules};
use crate::service::Identity;
use crate::writer::{Writer, WriterDeps};

/// The topic of identity changes: prost `IdentityChangeBatch`, a tenant's in the partition
/// `partition::of_identifier(tenant, "tenant", "", partitions)`.
pub const IDENTITY_CHANGES: Topic = Topic::new("identity");

/// What identity needs to run.
#[derive(Clone)]
pub struct Deps {
    /// Its section of the configuration.
    pub config: Config,
    /// Where its store is: `sqlite:<folder>` or `postgres://…`.
    pub store_url: String,
    /// Where identity changes go.
    pub log: Log,
    /// The time of what is changed on request.
    pub clock: Arc<dyn Clock>,
    /// Which tenants there are, and for whom identity is on.
    pub tenants: TenantDirectory,
    /// Where its workers run.
    pub tasks: Tasks,
}

/// Identity cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration of identity is invalid: {}", .0.iter().map(|fault| format!("{} {}", fault.field, fault.description)).collect::<Vec<_>>().join("; "))]
    Config(Vec<FieldViolation>),
    /// The store cannot be opened.
    #[error("identity's store cannot be opened")]
    Store(#[from] StoreError),
}

/// A running identity service.
pub struct Started {
    /// Its gRPC routes.
    pub routes: tonic::service::Routes,
    /// For health checks.
    pub service_names: Vec<&'static str>,
}

/// Opens the store, starts the workers and returns the routes to mount.
pub async fn start(deps: Deps) -> Result<Started, StartError> {
    let Deps { config, store_url, log, clock, tenants, tasks } = deps;
    let faults = config.validate();
    if !faults.is_empty() {
        return Err(StartError::Config(faults));
    }
    let db = store::open(&store_url).await?;
    let outbox = Arc::new(Notify::new());
    let (jobs, waiting) = mpsc::channel(config.queue_calls_max);
    let writer = Writer::new(WriterDeps {
        db: db.clone(),
        rules: Rules {
            limits: Limits::new(config.identifiers_per_kind_max, &config.identifiers_per_kind_max_of),
            last_seen_precision_us: i64::try_from(config.last_seen_precision_ms).unwrap_or(i64::MAX).saturating_mul(1_000),
        },
        clock: Arc::clone(&clock),
        tenants: tenants.clone(),
        cache_bytes_max: config.cache_bytes_max,
        transaction_events_max: config.transaction_events_max,
        outbox: Arc::clone(&outbox),
        new_salt: || *uuid::Uuid::new_v4().as_bytes(),
    });
    tasks.spawn("identity writer", writer.run(waiting, tasks.stopping()));
    tasks.spawn("identity relay", relay::run(db.clone(), log, outbox, tasks.stopping()));

    let message_bytes_max = config.message_bytes_max;
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let identifiers = Identifiers::new(seed, &config.blocked_values);
    let service = IdentityServiceServer::new(Identity { config, db, clock, tenants, identifiers, jobs })
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(message_bytes_max);
    Ok(Started { routes: tonic::service::Routes::new(service), service_names: vec![SERVICE_NAME] })
}
