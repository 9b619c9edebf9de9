//! Files of events as long-running operations.
//!
//! A file is taken in whole ([`spool`]), held against its mapping ([`mapping`], [`read`]), and imported in the background
//! (`run`), row by row in the file's order, through the same door as every other event. This file is the service.

pub mod config;
pub mod mapping;
mod mapping_toml;
mod moment;
pub mod read;
mod run;
pub mod spool;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prost::Message;
use segue_model::{Clock, TenantId};
use segue_proto::ingest::v1::create_import_request::Part;
use segue_proto::ingest::v1::import_service_server::ImportService;
use segue_proto::ingest::v1::{
    CancelImportRequest, CreateImportRequest, GetImportRequest, Import, ImportFormat, ImportStart, ListImportsRequest, ListImportsResponse,
    Mapping, WaitImportRequest,
};
use segue_runtime::caller::{Caller, Role};
use segue_runtime::status::reply;
use segue_runtime::tasks::Tasks;
use segue_runtime::tenants::TenantDirectory;
use segue_store::Db;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

pub use config::ImportConfig;
pub use mapping_toml::{MappingTomlError, mapping_from_toml};

use self::mapping::Plan;
use self::read::{FileReader, ReadError};
use self::spool::{Spool, SpoolError, Taken};
use crate::accept::time::timestamp;
use crate::store::import::{self as sql, ImportRow};
use crate::{Accept, IngestError, StartError, page};

/// How long one call of WaitImport waits.
const WAIT: Duration = Duration::from_secs(30);
/// How often it looks; another process may be doing the work.
const LOOK: Duration = Duration::from_millis(100);
/// Largest chunk of an upload.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Longest pause between two chunks.
const CHUNK_WAIT: Duration = Duration::from_secs(60);

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
        let spool = Spool::open(&data_dir)?;
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

    async fn create(&self, request: Request<Streaming<CreateImportRequest>>) -> Result<Import, IngestError> {
        let caller = Caller::of(&request)?;
        let tenant = caller.tenant_with(Role::Editor)?.clone();
        let mut parts = request.into_inner();
        let Some(Part::Start(start)) = next(&mut parts).await? else {
            return Err(IngestError::invalid("part", "the first message says what the file is: send `start`"));
        };
        let mapping = start.mapping.clone().ok_or_else(|| IngestError::invalid("start.mapping", "is missing"))?;
        let plan = Plan::of(&mapping).map_err(IngestError::Invalid)?;
        if start.size_bytes > self.shared.config.file_bytes_max {
            return Err(self.too_large());
        }
        let id = Uuid::now_v7().simple().to_string();
        let created = self.take_in(&tenant, &id, start, mapping, plan, &mut parts).await;
        if !matches!(&created, Ok((_, true))) {
            self.shared.spool.remove(&id);
        }
        created.map(|(import, _)| import)
    }

    /// Uploads, checks and adds. Also says whether the file is needed.
    async fn take_in(
        &self,
        tenant: &TenantId,
        id: &str,
        start: ImportStart,
        mut mapping: Mapping,
        plan: Plan,
        parts: &mut Streaming<CreateImportRequest>,
    ) -> Result<(Import, bool), IngestError> {
        self.upload(id, parts).await?;
        let (spool, content_max, own_id) = (self.shared.spool.clone(), self.shared.config.content_bytes_max, id.to_owned());
        let file_name = start.file_name;
        let taken = blocking(move || spool.take(&own_id, content_max)).await?.map_err(|error| match error {
            SpoolError::Io(source) => file_error(source),
            SpoolError::TooLarge(_) => IngestError::invalid("chunk", error.to_string()),
        })?;
        mapping.format = format_of(&mapping, &file_name, &taken).into();
        let mapping_digest = Sha256::digest(mapping.encode_to_vec()).to_vec();
        let (checked, path, compressed) = (mapping.clone(), taken.path.clone(), taken.compressed);
        let opened = blocking(move || FileReader::open(&path, &checked, &plan, compressed, Arc::new(AtomicU64::new(0))).map(drop)).await?;
        match opened {
            Ok(()) => {}
            Err(ReadError::Mismatch(violations)) => return Err(IngestError::Invalid(violations)),
            Err(ReadError::Broken(why)) => return Err(IngestError::invalid("chunk", why)),
            Err(ReadError::Io(source)) => return Err(file_error(source)),
        }
        let row = ImportRow {
            id: id.to_owned(),
            tenant: tenant.to_string(),
            node: self.shared.spool.node().to_owned(),
            created_at_us: self.shared.clock.now_us(),
            state: sql::RUNNING,
            file_name,
            content_digest: taken.digest.to_vec(),
            mapping_digest,
            mapping: mapping.encode_to_vec(),
            compressed: taken.compressed,
            bytes_total: taken.bytes as i64,
            ..ImportRow::default()
        };
        loop {
            if sql::insert(&self.shared.db, &row).await? {
                self.spawn(row.clone());
                return Ok((import_of(&row), true));
            }
            if let Some(same) = sql::find_same(&self.shared.db, tenant.as_str(), &row.content_digest, &row.mapping_digest).await? {
                return Ok((Import { already_imported: true, ..import_of(&same) }, false));
            }
            // It failed or was cancelled in between: then this one may run.
        }
    }

    /// Writes the chunks to the part file.
    async fn upload(&self, id: &str, parts: &mut Streaming<CreateImportRequest>) -> Result<(), IngestError> {
        let mut file = tokio::fs::File::create(self.shared.spool.part(id)).await.map_err(file_error)?;
        let mut bytes = 0u64;
        while let Some(part) = next(parts).await? {
            let Part::Chunk(chunk) = part else {
                return Err(IngestError::invalid("part", "`start` comes once, before all chunks"));
            };
            if chunk.len() > CHUNK_BYTES_MAX {
                return Err(IngestError::invalid("chunk", format!("has {} bytes: send at most {CHUNK_BYTES_MAX}", chunk.len())));
            }
            bytes += chunk.len() as u64;
            if bytes > self.shared.config.file_bytes_max {
                return Err(self.too_large());
            }
            file.write_all(&chunk).await.map_err(file_error)?;
        }
        file.flush().await.map_err(file_error)?;
        Ok(())
    }

    fn too_large(&self) -> IngestError {
        let most = self.shared.config.file_bytes_max;
        IngestError::invalid("chunk", format!("the file is larger than {most} bytes; split it, or raise ingest.import.file_bytes_max"))
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
        let stopping = self.shared.tasks.stopping();
        loop {
            let row = self.get(&request, &name).await?;
            if row.state != sql::RUNNING || tokio::time::Instant::now() >= end {
                return Ok(import_of(&row));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stopping.cancelled() => return Ok(import_of(&row)),
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
            None => return Err(page::bad_token()),
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

async fn next(parts: &mut Streaming<CreateImportRequest>) -> Result<Option<Part>, IngestError> {
    let broken = |why: String| IngestError::invalid("chunk", why);
    let message = tokio::time::timeout(CHUNK_WAIT, parts.message())
        .await
        .map_err(|_| broken(format!("no chunk for {} seconds: upload again", CHUNK_WAIT.as_secs())))?
        .map_err(|status| broken(format!("the upload broke off: {}", status.message())))?;
    match message {
        None => Ok(None),
        Some(message) => message.part.map(Some).ok_or_else(|| IngestError::invalid("part", "is missing")),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, IngestError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| file_error(std::io::Error::other(error)))
}

fn file_error(source: std::io::Error) -> IngestError {
    IngestError::File { source }
}

/// The format: as said, else by the first bytes and the name.
fn format_of(mapping: &Mapping, file_name: &str, taken: &Taken) -> ImportFormat {
    match ImportFormat::try_from(mapping.format) {
        Ok(ImportFormat::Unspecified) | Err(_) => {}
        Ok(said) => return said,
    }
    let name = file_name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    if taken.is_parquet {
        ImportFormat::Parquet
    } else if taken.first_byte == b'{' || name.ends_with(".ndjson") || name.ends_with(".jsonl") {
        ImportFormat::Ndjson
    } else {
        ImportFormat::Csv
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
