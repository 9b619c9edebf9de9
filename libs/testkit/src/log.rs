//! Temporary logs.

use std::path::Path;

use futures::TryStreamExt;
use segue_log::{Log, LogConfig, LogError};
use tempfile::TempDir;

/// A place for the log of one test; removed when dropped.
#[derive(Debug)]
pub struct TempLog {
    config: LogConfig,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder(TempDir),
    Server,
}

/// Which backend a log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// SQLite files in a folder.
    Embedded,
    /// NATS JetStream.
    Nats,
}

/// One of each kind that there is, with 4 partitions.
pub fn logs() -> Vec<TempLog> {
    let mut logs = vec![TempLog::embedded()];
    logs.extend(TempLog::nats());
    logs
}

impl TempLog {
    /// A folder.
    pub fn embedded() -> TempLog {
        let folder = TempDir::with_prefix("segue-log-").expect("the temporary folder is writable");
        let config = LogConfig { partitions: 4, ..LogConfig::new(format!("embedded:{}", folder.path().display())) };
        TempLog { config, place: Place::Folder(folder) }
    }

    /// Streams of a random prefix in the server of `SEGUE_TEST_NATS_URL`, if that is set.
    pub fn nats() -> Option<TempLog> {
        let url = crate::server_url("SEGUE_TEST_NATS_URL")?;
        let config = LogConfig { partitions: 4, prefix: crate::unique_name(), ..LogConfig::new(url) };
        Some(TempLog { config, place: Place::Server })
    }

    /// Which kind it is.
    pub fn kind(&self) -> LogKind {
        match self.place {
            Place::Folder(_) => LogKind::Embedded,
            Place::Server => LogKind::Nats,
        }
    }

    /// The folder of an embedded log.
    pub fn folder(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder(folder) => Some(folder.path()),
            Place::Server => None,
        }
    }

    /// The configuration, to open it with changes.
    pub fn config(&self) -> LogConfig {
        self.config.clone()
    }

    /// With another number of partitions. Call it before the log is opened for the first time.
    pub fn with_partitions(mut self, partitions: u16) -> TempLog {
        self.config.partitions = partitions;
        self
    }

    /// Opens it. An embedded log must be closed before it is opened again.
    pub async fn open(&self) -> Result<Log, LogError> {
        Log::open(self.config()).await
    }
}

impl Drop for TempLog {
    fn drop(&mut self) {
        if matches!(self.place, Place::Folder(_)) {
            return;
        }
        let (url, prefix) = (self.config.url.clone(), self.config.prefix.clone());
        crate::run_to_end(async move {
            let jetstream = async_nats::jetstream::new(async_nats::connect(url).await?);
            let names: Vec<String> = jetstream.stream_names().try_collect().await?;
            for name in names.iter().filter(|name| name.starts_with(&prefix)) {
                jetstream.delete_stream(name).await?;
            }
            Ok(())
        });
    }
}
