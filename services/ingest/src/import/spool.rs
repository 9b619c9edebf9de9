//! The folder of uploaded files: `<data dir>/imports/<id>`, `<id>.part` while it is uploaded, and `node`, the name by
//! which this folder is known in the store.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::StartError;

/// First bytes of gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// First bytes of Parquet.
const PARQUET: &[u8] = b"PAR1";

/// The folder.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
    node: String,
    bytes_max: u64,
    usage: Arc<Mutex<Usage>>,
}

/// The bytes that lie in the folder.
#[derive(Debug, Default)]
struct Usage {
    /// Of each import or upload.
    files: HashMap<String, u64>,
    total: u64,
}

impl Usage {
    fn set(&mut self, id: &str, bytes: u64) {
        let before = if bytes == 0 { self.files.remove(id) } else { self.files.insert(id.to_owned(), bytes) };
        self.total = self.total.saturating_sub(before.unwrap_or(0)).saturating_add(bytes);
    }
}

/// A file that was taken in.
#[derive(Debug)]
pub struct Taken {
    /// Id of the import to be.
    pub id: String,
    /// Where it lies.
    pub path: PathBuf,
    /// It is gzip.
    pub compressed: bool,
    /// It begins like Parquet.
    pub is_parquet: bool,
    /// The first byte of the content that is not blank; 0 for an empty file.
    pub first_byte: u8,
    /// SHA-256 of the content.
    pub digest: [u8; 32],
    /// Size of the upload.
    pub bytes: u64,
}

/// A file that cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Our disk.
    #[error("the file cannot be kept")]
    Io(#[from] std::io::Error),
    /// The content is larger than allowed.
    #[error("the content is larger than {0} bytes decompressed; split the file, or raise ingest.import.content_bytes_max")]
    TooLarge(u64),
    /// There are too many files already.
    #[error("the uploaded files would be larger than {0} bytes together")]
    Full(u64),
    /// Nobody waits for it any more.
    #[error("the client went away")]
    Abandoned,
}

impl Spool {
    /// Makes the folder, sweeps uploads that were not finished, and reads the node's name. Its files may have `bytes_max` together.
    pub fn open(data_dir: &Path, bytes_max: u64) -> Result<Self, StartError> {
        let folder = data_dir.join("imports");
        let fault = |path: &Path| {
            let path = path.display().to_string();
            move |source| StartError::File { path, source }
        };
        fs::create_dir_all(&folder).map_err(fault(&folder))?;
        let mut usage = Usage::default();
        for entry in fs::read_dir(&folder).map_err(fault(&folder))? {
            let entry = entry.map_err(fault(&folder))?;
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(&path).map_err(fault(&path))?;
            } else if path.file_name().is_some_and(|name| name != "node") {
                usage.set(&entry.file_name().to_string_lossy(), entry.metadata().map_err(fault(&path))?.len());
            }
        }
        let name = folder.join("node");
        let node = match fs::read_to_string(&name) {
            Ok(node) if !node.trim().is_empty() => node.trim().to_owned(),
            Ok(_) | Err(_) => {
                let node = Uuid::new_v4().to_string();
                write_synced(&name, node.as_bytes()).map_err(fault(&name))?;
                sync_folder(&folder).map_err(fault(&folder))?;
                node
            }
        };
        Ok(Self { folder, node, bytes_max, usage: Arc::new(Mutex::new(usage)) })
    }

    /// Name of this folder.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Where the file of an import lies.
    pub fn path(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    fn part(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.part"))
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        // Nothing in it is half done at any time.
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a file of this size may come.
    pub fn has_room(&self, bytes: u64) -> Result<(), SpoolError> {
        if self.usage().total.saturating_add(bytes) > self.bytes_max { Err(SpoolError::Full(self.bytes_max)) } else { Ok(()) }
    }

    /// Begins an upload.
    pub fn upload(&self, id: String) -> Upload {
        Upload { spool: self.clone(), id, kept: AtomicBool::new(false), abandoned: CancellationToken::new() }
    }

    /// Removes the file of an import.
    pub fn remove(&self, id: &str) {
        self.usage().set(id, 0);
        for path in [self.path(id), self.part(id)] {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "an imported file cannot be removed; remove it by hand");
            }
        }
    }

    /// Removes files that no running import needs.
    pub fn sweep(&self, running: &[String]) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "node" && !running.contains(&name) {
                self.remove(&name);
            }
        }
    }
}

/// The files of an upload that is being taken in. Everybody who works on them holds it; unless it was [`kept`](Upload::keep),
/// the last one removes them, however that one ends.
#[derive(Debug)]
pub struct Upload {
    spool: Spool,
    id: String,
    kept: AtomicBool,
    abandoned: CancellationToken,
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !*self.kept.get_mut() {
            self.spool.remove(&self.id);
        }
    }
}

impl Upload {
    /// Where it is written.
    pub fn part(&self) -> PathBuf {
        self.spool.part(&self.id)
    }

    /// Cancelled when nobody waits for it any more.
    pub fn abandoned(&self) -> CancellationToken {
        self.abandoned.clone()
    }

    /// From now on its file belongs to the import.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Makes room for bytes that are about to be written.
    pub fn charge(&self, bytes: u64) -> Result<(), SpoolError> {
        let mut usage = self.spool.usage();
        if usage.total.saturating_add(bytes) > self.spool.bytes_max {
            return Err(SpoolError::Full(self.spool.bytes_max));
        }
        let now = usage.files.get(&self.id).copied().unwrap_or(0) + bytes;
        usage.set(&self.id, now);
        Ok(())
    }

    /// Takes in an upload that is complete under its `.part` name: finds out what it is, its digest, and makes it durable. What is
    /// Parquet in gzip is decompressed, since Parquet is read from its end.
    pub fn take(&self, content_bytes_max: u64) -> Result<Taken, SpoolError> {
        let (part, path) = (self.part(), self.spool.path(&self.id));
        let mut file = File::open(&part)?;
        let bytes = file.metadata()?.len();
        let mut first = [0u8; 4];
        let have = read_up_to(&mut file, &mut first)?;
        file.rewind()?;
        let mut compressed = have >= 2 && first.starts_with(&GZIP);
        let mut reader: Box<dyn Read> = if compressed { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) };
        let mut sink = Content { hasher: Sha256::new(), bytes: 0, head: Vec::new(), unpacked: None };
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            if self.abandoned.is_cancelled() {
                return Err(SpoolError::Abandoned);
            }
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // A damaged end: what is before it is imported, and the import then fails there.
                Err(_) if compressed => {
                    sink.hasher.update(b"cut off");
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            sink.add(&buffer[..count], compressed.then_some(&path))?;
            if sink.unpacked.is_some() {
                self.charge(count as u64)?;
            }
            if sink.bytes > content_bytes_max {
                return Err(SpoolError::TooLarge(content_bytes_max));
            }
        }
        if let Some(unpacked) = sink.unpacked {
            unpacked.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
            fs::remove_file(&part)?;
            self.spool.usage().set(&self.id, sink.bytes);
            compressed = false;
        } else {
            File::open(&part)?.sync_all()?;
            fs::rename(&part, &path)?;
        }
        sync_folder(&self.spool.folder)?;
        let first_byte = sink.head.iter().copied().find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte)).unwrap_or(0);
        Ok(Taken {
            id: self.id.clone(),
            path,
            compressed,
            is_parquet: sink.head.starts_with(PARQUET),
            first_byte,
            digest: sink.hasher.finalize().into(),
            bytes,
        })
    }
}

/// What is read of an upload's content.
struct Content {
    hasher: Sha256,
    bytes: u64,
    head: Vec<u8>,
    /// Where Parquet is decompressed to.
    unpacked: Option<BufWriter<File>>,
}

impl Content {
    fn add(&mut self, bytes: &[u8], unpack_to: Option<&PathBuf>) -> std::io::Result<()> {
        self.hasher.update(bytes);
        let had = self.head.len();
        if had < 64 {
            self.head.extend_from_slice(&bytes[..bytes.len().min(64)]);
            if let Some(path) = unpack_to.filter(|_| had < PARQUET.len() && self.head.starts_with(PARQUET)) {
                let mut file = BufWriter::new(File::create(path)?);
                // What was read before, of which `bytes` is the end.
                file.write_all(&self.head[..had])?;
                self.unpacked = Some(file);
            }
        }
        self.bytes += bytes.len() as u64;
        match &mut self.unpacked {
            Some(file) => file.write_all(bytes),
            None => Ok(()),
        }
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read(&mut buffer[have..])? {
            0 => break,
            count => have += count,
        }
    }
    Ok(have)
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A name is durable when its folder is.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
