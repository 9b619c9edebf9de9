//! Resolving accepted events: one worker per partition of the log.
//!
//! | module | what |
//! |---|---|
//! | [`worker`], `steps` | the life of a group of batches, and why its effect is exactly once |
//! | `catch_up` | tenants whose module was off |
//! | [`prepare`] | decoding, duplicates, times, names |
//! | [`marks`] | which message ids were seen |
//! | [`enrich`], [`place`] | dimensions |
//! | [`resolve`] | asking identity |
//! | [`emit`] | batches of the `resolved` topic |
//! | [`lease`] | which process works which partition |

mod catch_up;
pub mod config;
pub mod emit;
pub mod enrich;
pub mod error;
pub mod fault;
pub mod lease;
pub mod marks;
pub mod place;
pub mod prepare;
pub mod resolve;
pub mod retry;
mod steps;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use segue_log::Log;
use segue_model::{Clock, TenantId};
use segue_proto::ingest::v1::{GetPipelineStatusResponse, PartitionStatus};
use segue_runtime::tasks::Tasks;
use segue_runtime::tenants::TenantDirectory;
use segue_runtime::transport::PeerChannel;
use segue_store::Db;
use uuid::Uuid;

pub use config::{MarksConfig, PipelineConfig};
pub use fault::{Faults, Point};

use self::enrich::Enricher;
use self::lease::Leases;
use self::place::Places;
use self::resolve::Resolver;
use self::worker::Shared;
use crate::store::pipeline as sql;
use crate::taxonomy::Taxonomies;
use crate::{ACCEPTED, IngestError, RESOLVED, StartError};

/// What the pipeline needs.
pub struct PipelineDeps {
    /// Its section.
    pub config: PipelineConfig,
    /// Ingest's store.
    pub db: Db,
    /// The log.
    pub log: Log,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Tenants and their switches.
    pub tenants: TenantDirectory,
    /// Supervision.
    pub tasks: Tasks,
    /// Canonical names: `taxonomies.snapshot(&tenant).await?.canonical_event(name)`.
    pub taxonomies: Taxonomies,
    /// The identity service.
    pub identity: PeerChannel,
}

/// The running pipeline.
#[derive(Clone)]
pub struct Pipeline {
    db: Db,
    log: Log,
}

impl Pipeline {
    /// Starts one worker per partition that this process gets.
    pub async fn start(deps: PipelineDeps) -> Result<Pipeline, StartError> {
        Self::start_with_faults(deps, Faults::default()).await
    }

    /// Like [`Pipeline::start`]; for tests of crashes.
    #[doc(hidden)]
    pub async fn start_with_faults(deps: PipelineDeps, faults: Faults) -> Result<Pipeline, StartError> {
        let PipelineDeps { config, db, log, clock, tenants, tasks, taxonomies, identity } = deps;
        let places = if config.place_database.as_os_str().is_empty() { None } else { Some(Places::open(&config.place_database)?) };
        // Retention must know of this consumer before the first worker runs, on every partition.
        for partition in 0..log.partitions() {
            let position = sql::find_partition(&db, partition.into()).await?.map_or(0, |row| row.position);
            log.hold(ACCEPTED, partition, worker::CONSUMER, position as u64).await?;
        }
        let name = if config.node.is_empty() { Uuid::new_v4().to_string() } else { config.node.clone() };
        let resolver = Resolver {
            identity,
            timeout: Duration::from_millis(config.identity_timeout_ms.into()),
            pause_max: Duration::from_millis(config.retry_ms_max.into()),
        };
        let enricher = Enricher::new(places);
        let pipeline = Pipeline { db: db.clone(), log: log.clone() };
        let shared = Arc::new(Shared { config, db, log, clock, tenants, tasks: tasks.clone(), taxonomies, enricher, resolver, faults });
        tasks.spawn("ingest-leases", Leases::new(shared, name).run());
        Ok(pipeline)
    }

    /// How far it got, whichever process does the work. `quarantined` is filled in by the caller.
    pub async fn status(&self, tenant: &TenantId) -> Result<GetPipelineStatusResponse, IngestError> {
        let rows = sql::list_partitions(&self.db).await?;
        let counts = sql::get_counts(&self.db, tenant.as_str()).await?;
        let mut partitions = Vec::new();
        for partition in 0..self.log.partitions() {
            let row = rows.iter().find(|row| row.partition == i64::from(partition));
            partitions.push(PartitionStatus {
                partition: partition.into(),
                accepted_position: self.log.bounds(ACCEPTED, partition).await?.last,
                resolved_position: row.map_or(0, |row| row.position as u64),
                resolved_topic_position: self.log.bounds(RESOLVED, partition).await?.last,
            });
        }
        Ok(GetPipelineStatusResponse { partitions, resolved: counts.resolved as u64, duplicates: counts.duplicates as u64, quarantined: 0 })
    }
}
