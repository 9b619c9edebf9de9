//! Why a worker of the pipeline stopped.

use segue_log::LogError;
use segue_store::StoreError;

/// Why a worker of the pipeline stopped.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The store failed.
    #[error("the store could not do it")]
    Store(#[from] StoreError),
    /// The log failed.
    #[error("the log could not do it")]
    Log(#[from] LogError),
    /// Another process works the partition now; what this one had under way was not committed.
    #[error("another process has taken over partition {partition}")]
    Fenced {
        /// The partition.
        partition: i64,
    },
    /// A batch of the `accepted` topic is not one.
    #[error(
        "batch {position} of partition {partition} of the topic `accepted` cannot be read by this version: run the version that wrote it, or a newer one"
    )]
    Undecodable {
        /// The partition.
        partition: u16,
        /// The position.
        position: u64,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// Identity has answered for a later batch.
    #[error(
        "identity refused batch {sequence} of {producer} for tenant {tenant}: {message}. It has answered for a later batch: \
         either another process works this partition, or ingest's store was restored from an older copy than identity's; \
         stop the other process, or restore both from the same time"
    )]
    Superseded {
        /// Source of the call.
        producer: String,
        /// Sequence of the call.
        sequence: u64,
        /// The tenant.
        tenant: String,
        /// What identity said.
        message: String,
    },
    /// Identity answered with another number of resolutions than was asked for.
    #[error(
        "identity answered {got} resolutions for {asked} subjects of tenant {tenant}: check that identity and ingest run compatible versions"
    )]
    WrongAnswer {
        /// The tenant.
        tenant: String,
        /// Subjects.
        asked: usize,
        /// Resolutions.
        got: usize,
    },
    /// Another part of ingest failed.
    #[error("{what} of tenant {tenant} cannot be used")]
    Part {
        /// Which part.
        what: &'static str,
        /// The tenant.
        tenant: String,
        /// Why not.
        source: Box<crate::IngestError>,
    },
    /// The process is stopping, or the partition was given to another one.
    #[error("the worker was told to stop")]
    Stopping,
    /// A fault that a test asked for.
    #[error("a fault was injected {0:?}")]
    Injected(super::fault::Point),
}

impl PipelineError {
    /// Whether waiting may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            PipelineError::Store(StoreError::DiskFull { .. }) => true,
            PipelineError::Store(error) => error.is_retryable(),
            PipelineError::Log(error) => error.is_retryable(),
            PipelineError::Part { source, .. } => match source.as_ref() {
                crate::IngestError::Store(error) => error.is_retryable(),
                _ => false,
            },
            PipelineError::Injected(point) => point.is_retryable(),
            PipelineError::Fenced { .. }
            | PipelineError::Undecodable { .. }
            | PipelineError::Superseded { .. }
            | PipelineError::WrongAnswer { .. }
            | PipelineError::Stopping => false,
        }
    }
}
