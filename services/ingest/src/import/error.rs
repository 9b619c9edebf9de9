//! Why a call about imports could not be answered: what every call of ingest may say, and what uploads say besides.

use std::time::Duration;

use segue_model::{Code, FieldViolation};
use segue_runtime::status::ServiceError;

use crate::IngestError;

/// How long a sender waits for room among the uploaded files; imports take minutes.
const SPOOL_RETRY: Duration = Duration::from_secs(60);

/// Why a call could not be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImportError {
    /// As for other calls.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The upload has not the size that it was announced with.
    #[error(
        "the upload has {received} bytes and was announced with {announced}: it was cut off, or the file changed meanwhile; nothing was imported, upload it again"
    )]
    UploadIncomplete {
        /// `size_bytes`.
        announced: u64,
        /// What came.
        received: u64,
    },
    /// The ids of the rows are taken.
    #[error(
        "this content was imported from the source `{source_name}` under another mapping (imports/{import}), so all its rows would be dropped as duplicates; to import it again on purpose, choose another `source` in the mapping, since ids are per source"
    )]
    ContentAlreadyImported {
        /// Id of that import.
        import: String,
        /// Its source.
        source_name: String,
    },
    /// There is no room for more files.
    #[error(
        "the uploaded files that wait to be imported would be larger than {bytes_max} bytes together: retry when running imports have ended, or raise ingest.import.spool_bytes_max"
    )]
    SpoolFull {
        /// The limit.
        bytes_max: u64,
    },
}

impl ImportError {
    /// One wrong field.
    pub(super) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        IngestError::invalid(field, description).into()
    }

    /// A file of ours failed.
    pub(super) fn file(source: std::io::Error) -> Self {
        IngestError::File { source }.into()
    }
}

impl ServiceError for ImportError {
    fn code(&self) -> Code {
        match self {
            ImportError::Ingest(error) => error.code(),
            ImportError::UploadIncomplete { .. } => Code::InvalidArgument,
            ImportError::ContentAlreadyImported { .. } => Code::FailedPrecondition,
            ImportError::SpoolFull { .. } => Code::ResourceExhausted,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            ImportError::Ingest(error) => error.reason(),
            ImportError::UploadIncomplete { .. } => "UPLOAD_INCOMPLETE",
            ImportError::ContentAlreadyImported { .. } => "CONTENT_ALREADY_IMPORTED",
            ImportError::SpoolFull { .. } => "IMPORT_SPOOL_FULL",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            ImportError::Ingest(error) => error.metadata(),
            ImportError::UploadIncomplete { announced, received } => {
                vec![("size_bytes", announced.to_string()), ("received_bytes", received.to_string())]
            }
            ImportError::ContentAlreadyImported { import, source_name } => {
                vec![("import", format!("imports/{import}")), ("source", source_name.clone())]
            }
            ImportError::SpoolFull { .. } => Vec::new(),
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            ImportError::Ingest(error) => error.field_violations(),
            ImportError::UploadIncomplete { .. } | ImportError::ContentAlreadyImported { .. } | ImportError::SpoolFull { .. } => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            ImportError::Ingest(error) => error.retry_after(),
            ImportError::SpoolFull { .. } => Some(SPOOL_RETRY),
            ImportError::UploadIncomplete { .. } | ImportError::ContentAlreadyImported { .. } => None,
        }
    }
}
