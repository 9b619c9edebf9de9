//! Reading events: the one way in which reports, conditions and (later) SQL see what is indexed.
//!
//! [`Index::snapshot`](crate::index::Index::snapshot) gives a [`Snapshot`]: files and in-memory tail as of one moment.
//! [`Snapshot::scan`] walks the rows of some events in a range of time, with exactly the columns asked for. A scan is plain,
//! blocking work: call it on a blocking thread. It can be cut into independent parts by ranges of person numbers
//! ([`ScanRequest::persons`]), which is how work is spread over cores and, later, over machines; [`Snapshot::pass`] shares among
//! such parts what they have in common.
//!
//! # What a scan promises
//!
//! - Every event of the snapshot that matches appears exactly once, in some batch.
//! - A batch holds one event's rows, sorted by (person, ts, sequence). Rows of one person are adjacent within a batch; the same person
//!   may appear in further batches of the same event, so order across batches is the reader's business.
//! - `person` is the surviving number: redirects are applied, and [`ScanRequest::persons`] selects by it.
//! - Columns have the types that [`Column`] documents, in every batch, whether or not a run stores them; what a run does not
//!   store is null. Null means missing, and differs from the empty string.
//! - In dictionary columns, two codes of one batch may stand for the same text, and codes mean nothing across batches.

mod column;
mod items;
mod json;
mod pass;
mod plan;
mod read;
mod select;
mod snapshot;
mod view;

use std::ops::Range;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

pub use column::{Column, ItemField, PropertyScope, PropertyType, StoredProperty};
pub(crate) use column::{decimal_type, item_element, item_fields, text_type, value_type};
pub use items::ItemFields;
pub(crate) use items::column_of;
pub use json::{decode_value, encode_value};
pub(crate) use json::{timestamp_of, timestamp_us};
pub use pass::Pass;
pub use read::Scan;
pub(crate) use select::{Chosen, Rows, Wanted, choose};
pub use snapshot::{PERSONS_PER_CHUNK, Snapshot};
pub(crate) use view::{Run, StoredView, View};

/// The name under which traits of persons are kept beside events: for each event that states traits, and each one of a kind that is
/// no happening (IDENTIFY, GROUP, ALIAS), a row with the event's time and the traits as [`Column::Trait`]. Per person and trait the
/// last row by (ts, sequence) holds. These rows are no events: they are read only where this name is asked for.
pub const TRAITS: &str = "$traits";

/// Which rows and columns to read.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// Canonical names; `None` is every event (so not [`TRAITS`]).
    pub events: Option<Vec<String>>,
    /// Event time: from (inclusive), to (exclusive), in microseconds UTC.
    pub range_us: (i64, i64),
    /// The columns of each batch, in this order; may be empty (rows are then only counted).
    pub columns: Vec<Column>,
    /// Only these (surviving) persons; `None` is all.
    pub persons: Option<Range<u32>>,
}

/// Rows of one event.
#[derive(Debug, Clone)]
pub struct ScanBatch {
    /// Canonical name.
    pub event: Arc<str>,
    /// All its event times lie between these (both inclusive), microseconds UTC; those at the ends need not occur.
    pub span_us: (i64, i64),
    /// Exactly the requested columns, in order; `batch.num_rows()` counts also when there are none.
    pub batch: RecordBatch,
}

/// What a scan has read so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Rows handed out.
    pub rows: u64,
    /// Those of them that came from the in-memory tail.
    pub tail_rows: u64,
    /// Files of which at least one row group was read.
    pub files: u32,
}

/// Why rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A file is missing, damaged or not what the catalogue says.
    #[error(
        "the event file {file} of tenant {tenant} cannot be read: restore it from a backup; events in it are missing from every report until then"
    )]
    File {
        /// Path below the lake's URL.
        file: String,
        /// Whose it is.
        tenant: String,
        /// What went wrong.
        #[source]
        source: anyhow::Error,
    },
    /// Columns do not fit together; a fault of ours.
    #[error("the columns of a run do not fit together")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The caller went away or ran out of time.
    #[error("the query was cancelled")]
    Cancelled,
    /// The tenant's index is not loaded: it is starting, or analytics was switched on a moment ago.
    #[error("the index of tenant {tenant} is being opened: retry in a moment")]
    NotLoaded {
        /// Which.
        tenant: String,
    },
}
