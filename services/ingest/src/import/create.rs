//! Taking in a file: the upload, what its content is, whether its rows are known, and the start of the work on it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prost::Message;
use segue_model::TenantId;
use segue_proto::ingest::v1::create_import_request::Part;
use segue_proto::ingest::v1::{CreateImportRequest, Import, ImportFormat, Mapping};
use segue_runtime::caller::{Caller, Role};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tonic::{Request, Streaming};
use uuid::Uuid;

use super::error::ImportError;
use super::mapping::{Plan, SOURCE};
use super::read::{FileReader, ReadError};
use super::spool::{SpoolError, Taken, Upload};
use super::{ImportApi, import_of};
use crate::IngestError;
use crate::store::import::{self as sql, ImportRow};

/// Largest chunk of an upload.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Longest pause between two chunks.
const CHUNK_WAIT: Duration = Duration::from_secs(60);

impl ImportApi {
    pub(super) async fn create(&self, request: Request<Streaming<CreateImportRequest>>) -> Result<Import, ImportError> {
        let caller = Caller::of(&request).map_err(IngestError::from)?;
        let tenant = caller.tenant_with(Role::Editor).map_err(IngestError::from)?.clone();
        let mut parts = request.into_inner();
        let Some(Part::Start(start)) = next(&mut parts).await? else {
            return Err(ImportError::invalid("part", "the first message says what the file is: send `start`"));
        };
        let mut mapping = start.mapping.clone().ok_or_else(|| ImportError::invalid("start.mapping", "is missing"))?;
        let plan = Plan::of(&mapping).map_err(IngestError::Invalid)?;
        mapping.source = plan.source().to_owned();
        if start.size_bytes > self.shared.config.file_bytes_max {
            return Err(self.too_large());
        }
        self.shared.spool.has_room(start.size_bytes).map_err(spool_error)?;
        let upload = Arc::new(self.shared.spool.upload(Uuid::now_v7().simple().to_string()));
        // When the client goes away this call is dropped where it waits; what runs on a thread for it is told so.
        let _abandon = upload.abandoned().drop_guard();
        self.upload(&upload, start.size_bytes, &mut parts).await?;
        let row = self.check(&tenant, &upload, start.file_name, mapping, plan).await?;
        self.add(upload, row).await
    }

    /// Writes the chunks to the part file.
    async fn upload(&self, upload: &Arc<Upload>, announced: u64, parts: &mut Streaming<CreateImportRequest>) -> Result<(), ImportError> {
        // On a thread that holds the upload, so that a file made after the client went away is removed as well.
        let making = upload.clone();
        let file = blocking(move || std::fs::File::create(making.part())).await?.map_err(ImportError::file)?;
        let mut file = tokio::fs::File::from_std(file);
        let mut received = 0u64;
        while let Some(part) = next(parts).await? {
            let Part::Chunk(chunk) = part else {
                return Err(ImportError::invalid("part", "`start` comes once, before all chunks"));
            };
            if chunk.len() > CHUNK_BYTES_MAX {
                return Err(ImportError::invalid("chunk", format!("has {} bytes: send at most {CHUNK_BYTES_MAX}", chunk.len())));
            }
            received += chunk.len() as u64;
            if received > self.shared.config.file_bytes_max {
                return Err(self.too_large());
            }
            upload.charge(chunk.len() as u64).map_err(spool_error)?;
            file.write_all(&chunk).await.map_err(ImportError::file)?;
        }
        // A client that dies in the middle may still close its stream well, for example when its file cannot be read on.
        if announced != 0 && announced != received {
            return Err(ImportError::UploadIncomplete { announced, received });
        }
        file.flush().await.map_err(ImportError::file)
    }

    /// Finds out what the file is and holds the mapping against it.
    async fn check(
        &self,
        tenant: &TenantId,
        upload: &Arc<Upload>,
        file_name: String,
        mut mapping: Mapping,
        plan: Plan,
    ) -> Result<ImportRow, ImportError> {
        let (taking, content_max) = (upload.clone(), self.shared.config.content_bytes_max);
        let taken = blocking(move || taking.take(content_max)).await?.map_err(spool_error)?;
        mapping.format = format_of(&mapping, &file_name, &taken).into();
        let source_digest = Sha256::digest(plan.source()).to_vec();
        let (checked, path, compressed, reading) = (mapping.clone(), taken.path.clone(), taken.compressed, upload.clone());
        let opened = blocking(move || {
            let opened = FileReader::open(&path, &checked, &plan, compressed, Arc::new(AtomicU64::new(0))).map(drop);
            drop(reading);
            opened
        });
        match opened.await? {
            Ok(()) => {}
            Err(ReadError::Mismatch(violations)) => return Err(IngestError::Invalid(violations).into()),
            Err(ReadError::Broken(why)) => return Err(ImportError::invalid("chunk", why)),
            Err(ReadError::Io(source)) => return Err(ImportError::file(source)),
        }
        Ok(ImportRow {
            id: taken.id,
            tenant: tenant.to_string(),
            node: self.shared.spool.node().to_owned(),
            created_at_us: self.shared.clock.now_us(),
            state: sql::RUNNING,
            file_name,
            content_digest: taken.digest.to_vec(),
            source_digest,
            mapping: mapping.encode_to_vec(),
            compressed: taken.compressed,
            bytes_total: taken.bytes as i64,
            ..ImportRow::default()
        })
    }

    /// Adds the import and starts it, also when the client goes away meanwhile: a row without its work would run for ever.
    async fn add(&self, upload: Arc<Upload>, row: ImportRow) -> Result<Import, ImportError> {
        let (answer, answered) = oneshot::channel();
        let api = self.clone();
        self.shared.tasks.spawn_finite(format!("ingest-import-add-{}", row.id), async move {
            // Nobody listens any more when the client went away.
            let _ = answer.send(api.add_once(&upload, row).await);
            Ok(())
        });
        answered.await.map_err(|_| IngestError::Stopping)?
    }

    /// Adds the import unless its rows are known.
    async fn add_once(&self, upload: &Upload, row: ImportRow) -> Result<Import, ImportError> {
        loop {
            if let Some(before) = self.find_before(&row).await? {
                return Ok(Import { already_imported: true, ..import_of(&before) });
            }
            if sql::insert(&self.shared.db, &row).await.map_err(IngestError::from)? {
                upload.keep();
                let import = import_of(&row);
                self.spawn(row);
                return Ok(import);
            }
            // One with the same content and source was added in between: look at it. Or it ended meanwhile: then this one may run.
        }
    }

    /// The import of the same content with the same mapping. An error when it came from the same source with another mapping: the
    /// ids of its rows are made from the content and the source (or are a column of it), so every row would be a duplicate.
    async fn find_before(&self, row: &ImportRow) -> Result<Option<ImportRow>, ImportError> {
        let unreadable = |id: &str, error| IngestError::Unreadable { what: format!("the mapping of import {id}: {error}") };
        let wanted = Mapping::decode(row.mapping.as_slice()).map_err(|error| unreadable(&row.id, error))?;
        let mut other = None;
        let same = sql::find_same_content(&self.shared.db, &row.tenant, &row.content_digest).await.map_err(IngestError::from)?;
        for known in same {
            let mut mapping = Mapping::decode(known.mapping.as_slice()).map_err(|error| unreadable(&known.id, error))?;
            if mapping.source.is_empty() {
                mapping.source = SOURCE.to_owned();
            }
            if mapping == wanted {
                return Ok(Some(known));
            }
            if mapping.source == wanted.source {
                other.get_or_insert(known.id);
            }
        }
        match other {
            Some(import) => Err(ImportError::ContentAlreadyImported { import, source_name: wanted.source }),
            None => Ok(None),
        }
    }

    fn too_large(&self) -> ImportError {
        let most = self.shared.config.file_bytes_max;
        ImportError::invalid("chunk", format!("the file is larger than {most} bytes; split it, or raise ingest.import.file_bytes_max"))
    }
}

async fn next(parts: &mut Streaming<CreateImportRequest>) -> Result<Option<Part>, ImportError> {
    let broken = |why: String| ImportError::invalid("chunk", why);
    let message = tokio::time::timeout(CHUNK_WAIT, parts.message())
        .await
        .map_err(|_| broken(format!("no chunk for {} seconds: upload again", CHUNK_WAIT.as_secs())))?
        .map_err(|status| broken(format!("the upload broke off: {}", status.message())))?;
    match message {
        None => Ok(None),
        Some(message) => message.part.map(Some).ok_or_else(|| ImportError::invalid("part", "is missing")),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ImportError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ImportError::file(std::io::Error::other(error)))
}

fn spool_error(error: SpoolError) -> ImportError {
    match error {
        SpoolError::Io(source) => ImportError::file(source),
        SpoolError::TooLarge(_) => ImportError::invalid("chunk", error.to_string()),
        SpoolError::Full(bytes_max) => ImportError::SpoolFull { bytes_max },
        // Nobody is there to read this.
        SpoolError::Abandoned => ImportError::invalid("chunk", error.to_string()),
    }
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
