//! Files of events as long-running operations.
//!
//! A file is taken in whole (`create`, [`spool`]), held against its mapping ([`mapping`], [`read`]), and imported in the
//! background (`run`), row by row in the file's order, through the same door as every other event. This file is the service.

pub mod config;
mod create;
mod error;
pub mod mapping;
mod mapping_toml;
mod moment;
pub mod read;
mod run;
pub mod spool;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use segue_model::Clock;
use segue_proto::ingest::v1::import_service_server::ImportService;
use segue_proto::ingest::v1::{
    CancelImportRequest, CreateImportRequest, GetImportRequest, Import, ListImportsRequest, ListImportsResponse, WaitImportRequest,
};
use segue_runtime::caller::{Caller, Role};
use segue_runtime::page;
use segue_runtime::status::reply;
use segue_runtime::tasks::Tasks;
use segue_runtime::tenants::TenantDirectory;
use segue_store::Db;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

pub use config::ImportConfig;
pub use mapping_toml::{MappingTomlError, mapping_from_toml};

use self::spool::Spool;
use crate::accept::time::timestamp;
use crate::store::import::{self as sql, ImportRow};
use crate::{Accept, IngestError, StartError};

/// How long one call of WaitImport waits.
const WAIT: Duration = Duration::from_secs(30);
/// How often it looks; another process may be doing the work.
const LOOK: Duration = Duration::from_millis(100);

/// What imports need.
pub struct ImportDeps {
    /// Its section.
    pub config: ImportConfig,
    /// Ingest's store.
    pub db: Db,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Tenants and their switches.
    pub tenants: TenantDirectory,
    /// Supervision.
    pub tasks: Tasks,
    /// Folder of the process's data.
    pub data_dir: PathBuf,
    /// Where rows go.
    pub accept: Accept,
}

struct Shared {
    config: ImportConfig,
    db: Db,
    clock: Arc<dyn Clock>,
    tenants: TenantDirectory,
    tasks: Tasks,
    accept: Accept,
    spool: Spool,
    turns: Arc<Semaphore>,
}

/// The import service.
#[derive(Clone)]
pub struct ImportApi {
    shared: Arc<Shared>,
}

impl ImportApi {
    /// Continues what was running when the process ended.
    pub async fn start(deps: ImportDeps) -> Result<ImportApi, StartError> {
        let ImportDeps { config, db, clock, tenants, tasks, data_dir, accept } = deps;
        let spool = Spool::open(&data_dir, config.spool_bytes_max)?;
        let turns = Arc::new(Semaphore::new(config.running_max as usize));
        let api = ImportApi { shared: Arc::new(Shared { config, db, clock, tenants, tasks, accept, spool, turns }) };
        let running = sql::list_running(&api.shared.db, api.shared.spool.node()).await?;
        api.shared.spool.sweep(&running.iter().map(|row| row.id.clone()).collect::<Vec<_>>());
        for row in running {
            api.spawn(row);
        }
        Ok(api)
    }

    fn spawn(&self, row: ImportRow) {
        let shared = self.shared.clone();
        self.shared.tasks.spawn_finite(format!("ingest-import-{}", row.id), async move {
            run::run(shared, row).await;
            Ok(())
        });
    }

    async fn get<T>(&self, request: &Request<T>, name: &str) -> Result<ImportRow, IngestError> {
        let caller = Caller::of(request)?;
        let tenant = caller.tenant_with(Role::Editor)?;
        let missing = || IngestError::NotFound { resource: name.chars().take(128).collect() };
        let id = name.strip_prefix("imports/").ok_or_else(missing)?;
        sql::find(&self.shared.db, tenant.as_str(), id).await?.ok_or_else(missing)
    }

    async fn wait(&self, request: Request<WaitImportRequest>) -> Result<Import, IngestError> {
        let name = request.get_ref().name.clone();
        let end = tokio::time::Instant::now() + WAIT;
        // Listeners wait for their calls before `stopping`: a call that waited for that would hold up the end of the process.
        let draining = self.shared.tasks.draining();
        loop {
            let row = self.get(&request, &name).await?;
            if row.state != sql::RUNNING || tokio::time::Instant::now() >= end {
                return Ok(import_of(&row));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = draining.cancelled() => return Ok(import_of(&row)),
            }
        }
    }

    async fn list(&self, request: Request<ListImportsRequest>) -> Result<ListImportsResponse, IngestError> {
        let caller = Caller::of(&request)?;
        let tenant = caller.tenant_with(Role::Editor)?;
        let ListImportsRequest { page_size, page_token } = request.get_ref();
        let size = page::size(*page_size, 50, 1_000)?;
        let (created_at_us, id) = match page_token.split_once('.') {
            _ if page_token.is_empty() => (i64::MAX, ""),
            Some((created, id)) => (created.parse().map_err(|_| page::bad_token())?, id),
            None => return Err(page::bad_token().into()),
        };
        let mut rows = sql::list(&self.shared.db, tenant.as_str(), created_at_us, id, size as i64 + 1).await?;
        let next_page_token = page::cut(&mut rows, size, |row| format!("{}.{}", row.created_at_us, row.id));
        Ok(ListImportsResponse { imports: rows.iter().map(import_of).collect(), next_page_token })
    }

    async fn cancel(&self, request: Request<CancelImportRequest>) -> Result<Import, IngestError> {
        let name = request.get_ref().name.clone();
        let row = self.get(&request, &name).await?;
        sql::cancel(&self.shared.db, &row.tenant, &row.id, self.shared.clock.now_us()).await?;
        Ok(import_of(&self.get(&request, &name).await?))
    }
}

fn import_of(row: &ImportRow) -> Import {
    Import {
        name: format!("imports/{}", row.id),
        state: row.state as i32,
        file_name: row.file_name.clone(),
        rows: row.rows_read as u64,
        accepted: row.accepted as u64,
        quarantined: row.quarantined as u64,
        rejected: row.rejected as u64,
        bytes_read: row.bytes_read as u64,
        bytes_total: row.bytes_total as u64,
        faults: Import::decode(row.faults.as_slice()).unwrap_or_default().faults,
        error: row.error.clone(),
        created_at: Some(timestamp(row.created_at_us)),
        finished_at: (row.finished_at_us > 0).then(|| timestamp(row.finished_at_us)),
        already_imported: false,
    }
}

#[tonic::async_trait]
impl ImportService for ImportApi {
    async fn create_import(&self, request: Request<Streaming<CreateImportRequest>>) -> Result<Response<Import>, Status> {
        reply(self.create(request).await)
    }

    async fn get_import(&self, request: Request<GetImportRequest>) -> Result<Response<Import>, Status> {
        let name = request.get_ref().name.clone();
        reply(self.get(&request, &name).await.map(|row| import_of(&row)))
    }

    async fn wait_import(&self, request: Request<WaitImportRequest>) -> Result<Response<Import>, Status> {
        reply(self.wait(request).await)
    }

    async fn list_imports(&self, request: Request<ListImportsRequest>) -> Result<Response<ListImportsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn cancel_import(&self, request: Request<CancelImportRequest>) -> Result<Response<Import>, Status> {
        reply(self.cancel(request).await)
    }
}
