//! [`LogError`]: failures sorted by what a caller can do about them.

use std::error::Error;
use std::sync::Arc;

/// A cause that can be handed to every append of a group that failed together.
pub(crate) type Cause = Arc<dyn Error + Send + Sync>;

/// Why the log could not do what was asked. `topic` is a name, not a [`Topic`](crate::Topic), since retention also
/// works on topics that this process never names.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// A value of the configuration cannot be used.
    #[error("the log cannot be opened: {reason}")]
    InvalidConfig {
        /// Which, and what would do.
        reason: String,
    },
    /// The log was created with another number of partitions.
    #[error(
        "the log was created with {stored} partitions and the configuration says {configured}: \
         set log.partitions to {stored} (the number cannot change while the log holds data)"
    )]
    PartitionsMismatch {
        /// As created.
        stored: u16,
        /// As configured.
        configured: u16,
    },
    /// Another process has this embedded log open.
    #[error("the log in {folder} is open in another process: stop that one first, or use NATS to share a log")]
    Locked {
        /// Folder of the log.
        folder: String,
    },
    /// There is no such partition.
    #[error("partition {partition} of `{topic}` does not exist: there are {partitions}, counted from 0")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// As asked for.
        partition: u16,
        /// How many there are.
        partitions: u16,
    },
    /// A producer or consumer name, or a sequence, cannot be used.
    #[error("`{name}` cannot be used: a producer or consumer is 1 to 64 letters, digits, - and _; a sequence at most 2^63-1")]
    InvalidName {
        /// As given.
        name: String,
    },
    /// The payload is larger than the log takes.
    #[error(
        "a batch of {bytes} bytes is larger than the {bytes_max} allowed: split it, or raise log.payload_bytes_max \
         (and max_payload of the NATS server)"
    )]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
        /// Largest size.
        bytes_max: usize,
    },
    /// What the reader asks for was removed by retention. Events were lost to this reader unless it knows better.
    #[error(
        "`{topic}` partition {partition}: what follows position {after} was removed by retention; \
         the first position available is {first_available}"
    )]
    Trimmed {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u16,
        /// Position asked for.
        after: u64,
        /// Where reading can go on (read after `first_available - 1`).
        first_available: u64,
    },
    /// The reader is ahead of the log: the log was lost or restored from an older copy.
    #[error(
        "`{topic}` partition {partition} ends at {last} but position {after} was asked for: the log was reset or restored; \
         restore the consumer's store from the same time, or reset its position"
    )]
    BeyondEnd {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u16,
        /// Position asked for.
        after: u64,
        /// Last position written.
        last: u64,
    },
    /// The topic is at its size and consumers still need all of it. Slow down and retry.
    #[error("`{topic}` is full ({bytes} of {bytes_max} bytes) and {} has not read it yet: \
         retry later; raise log.retention_bytes or see why that consumer is behind", slowest.as_deref().unwrap_or("nobody"))]
    Full {
        /// The topic.
        topic: String,
        /// Size now.
        bytes: u64,
        /// Size allowed.
        bytes_max: u64,
        /// The consumer that is furthest behind.
        slowest: Option<String>,
    },
    /// The disk is full. Nothing was written and nothing is damaged. An embedded log needs some 20 MB per topic to get going
    /// again: the write-ahead log is folded into the file before it shrinks, and retention writes before it frees.
    #[error("the disk of the log is full: free space or enlarge it, then retry; nothing was written")]
    DiskFull {
        /// What the storage said.
        source: Cause,
    },
    /// One stored batch cannot be read. Batches before and after it can.
    #[error(
        "`{topic}` partition {partition} position {position} is damaged ({reason}): \
         restore the log, or continue after that position and lose its events"
    )]
    Corrupt {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u16,
        /// Which batch.
        position: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The log cannot be reached or is not ready. Retry. An append without a producer sequence may have been written.
    #[error("the log cannot be reached: retry; check that its server or disk works")]
    Unavailable {
        /// What the storage said.
        source: Cause,
    },
    /// The log was closed, or its writer has stopped.
    #[error("the log is closed: restart the process")]
    Closed,
    /// Anything else; retrying cannot help.
    #[error("the log failed in a way that retrying cannot mend")]
    Storage {
        /// What the storage said.
        source: Cause,
    },
}

impl LogError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            LogError::Full { .. } | LogError::DiskFull { .. } | LogError::Unavailable { .. } => true,
            LogError::InvalidConfig { .. }
            | LogError::PartitionsMismatch { .. }
            | LogError::Locked { .. }
            | LogError::NoSuchPartition { .. }
            | LogError::InvalidName { .. }
            | LogError::TooLarge { .. }
            | LogError::Trimmed { .. }
            | LogError::BeyondEnd { .. }
            | LogError::Corrupt { .. }
            | LogError::Closed
            | LogError::Storage { .. } => false,
        }
    }

    /// Whether the append was refused for want of space (back-pressure).
    pub fn is_full(&self) -> bool {
        matches!(self, LogError::Full { .. } | LogError::DiskFull { .. })
    }

    pub(crate) fn unavailable(source: impl Error + Send + Sync + 'static) -> LogError {
        LogError::Unavailable { source: Arc::new(source) }
    }

    pub(crate) fn storage(source: impl Error + Send + Sync + 'static) -> LogError {
        LogError::Storage { source: Arc::new(source) }
    }
}

impl From<sqlx::Error> for LogError {
    /// By SQLite's primary result code: <https://www.sqlite.org/rescode.html>.
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<i32>().ok());
        match code.map(|extended| extended & 0xff) {
            Some(13) => LogError::DiskFull { source: Arc::new(error) }, // SQLITE_FULL
            // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR, SQLITE_CANTOPEN
            Some(5 | 6 | 10 | 14) => LogError::unavailable(error),
            _ => match error {
                sqlx::Error::PoolClosed => LogError::Closed,
                sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => LogError::unavailable(error),
                error => LogError::storage(error),
            },
        }
    }
}
