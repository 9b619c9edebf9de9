//! Where event files lie: a folder now, an object store in time. Paths are below the URL and start with the tenant.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use super::files::FileEntry;

/// The place of event files. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lake {
    store: Arc<dyn ObjectStore>,
    /// Set when the store is a folder of this machine: reads are then plain reads, and writes are synced.
    folder: Option<PathBuf>,
    /// Where reads of other stores wait.
    runtime: tokio::runtime::Handle,
}

/// Files that were finished and that nothing tells of yet. They are removed again unless they are taken: a writer that fails on a full disk
/// and tries again must not fill what becomes free with files that nobody reads.
pub(crate) struct Unpublished<'l> {
    lake: &'l Lake,
    files: Vec<FileEntry>,
}

impl<'l> Unpublished<'l> {
    pub(crate) fn new(lake: &'l Lake) -> Self {
        Self { lake, files: Vec::new() }
    }

    pub(crate) fn add(&mut self, files: impl IntoIterator<Item = FileEntry>) {
        self.files.extend(files);
    }

    pub(crate) fn all(&self) -> &[FileEntry] {
        &self.files
    }

    /// The files, which are the caller's now.
    pub(crate) fn take(mut self) -> Vec<FileEntry> {
        std::mem::take(&mut self.files)
    }
}

impl Drop for Unpublished<'_> {
    fn drop(&mut self) {
        for file in &self.files {
            self.lake.remove(&file.name);
        }
    }
}

/// A file that exists in the lake.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) modified_us: i64,
}

impl Lake {
    /// Opens `file:<folder>`, creating the folder. Call it inside a runtime.
    pub(crate) fn open(url: &str) -> anyhow::Result<Self> {
        let folder = match url.split_once(':') {
            Some(("file", folder)) => folder.strip_prefix("//").unwrap_or(folder),
            _ => anyhow::bail!("lake.url is `{url}`: it must be `file:<folder>` (object stores are not built in)"),
        };
        anyhow::ensure!(!folder.is_empty(), "lake.url names no folder: write `file:<folder>`");
        let folder = PathBuf::from(folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("the folder {} of lake.url cannot be created", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("the folder {} cannot be read", folder.display()))?;
        let store = Arc::new(LocalFileSystem::new_with_prefix(&folder)?.with_automatic_cleanup(false));
        Ok(Self { store, folder: Some(folder), runtime: tokio::runtime::Handle::try_current()? })
    }

    /// Reads ranges of a file. Blocks: call it on a blocking thread.
    pub(crate) fn read(&self, name: &str, ranges: &[Range<u64>]) -> anyhow::Result<Vec<Bytes>> {
        match &self.folder {
            Some(folder) => {
                let file = File::open(folder.join(name))?;
                ranges
                    .iter()
                    .map(|range| {
                        let mut buffer = vec![0; usize::try_from(range.end - range.start)?];
                        file.read_exact_at(&mut buffer, range.start)?;
                        Ok(Bytes::from(buffer))
                    })
                    .collect()
            }
            None => Ok(self.runtime.block_on(self.store.get_ranges(&Path::from(name), ranges))?),
        }
    }

    /// Begins a new file. Blocks.
    pub(crate) fn create(&self, name: &str) -> std::io::Result<NewFile> {
        let to = match &self.folder {
            Some(folder) => {
                let path = folder.join(name);
                path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                To::Folder { file: File::create_new(&path)?, folder: folder.clone(), path, is_finished: false }
            }
            None => To::Store { lake: self.clone(), name: name.to_owned(), content: Vec::new() },
        };
        Ok(NewFile(to))
    }

    /// Removes a file that nothing tells of; where that fails, the next start sweeps it. Blocks.
    fn remove(&self, name: &str) {
        let removed = match &self.folder {
            Some(folder) => std::fs::remove_file(folder.join(name)).map_err(anyhow::Error::from),
            None => self.runtime.block_on(self.delete(name)),
        };
        if let Err(error) = removed {
            tracing::warn!(file = name, %error, "a file that was not published cannot be removed");
        }
    }

    /// Deletes a file; one that is gone is fine.
    pub(crate) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        match self.store.delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// All files.
    pub(crate) async fn list(&self) -> anyhow::Result<Vec<Found>> {
        let all: Vec<_> = self.store.list(None).try_collect().await?;
        Ok(all
            .into_iter()
            .map(|meta| Found { name: meta.location.to_string(), modified_us: meta.last_modified.timestamp_micros() })
            .collect())
    }
}

/// A file being written. Dropped before it is finished, it is gone; what a crash leaves is swept.
#[derive(Debug)]
pub(crate) struct NewFile(To);

#[derive(Debug)]
enum To {
    Folder { file: File, folder: PathBuf, path: PathBuf, is_finished: bool },
    Store { lake: Lake, name: String, content: Vec<u8> },
}

impl NewFile {
    /// Adds bytes.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.0 {
            To::Folder { file, .. } => file.write_all(bytes),
            To::Store { content, .. } => {
                content.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Returns when all of it is on disk.
    pub(crate) fn finish(mut self) -> std::io::Result<()> {
        match &mut self.0 {
            To::Folder { file, folder, path, is_finished } => {
                file.sync_all()?;
                sync_folders(folder, path)?;
                *is_finished = true;
            }
            To::Store { lake, name, content } => {
                let content = PutPayload::from(std::mem::take(content));
                lake.runtime.block_on(lake.store.put(&Path::from(name.as_str()), content)).map_err(std::io::Error::other)?;
            }
        }
        Ok(())
    }
}

impl Drop for To {
    fn drop(&mut self) {
        if let To::Folder { path, is_finished: false, .. } = self {
            // Were it to stay, it would be swept at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Puts the folders that name a file on disk.
fn sync_folders(root: &FsPath, path: &FsPath) -> std::io::Result<()> {
    for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(root)) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
