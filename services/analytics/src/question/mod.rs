//! What all questions share: the context in which they run, reading requests, times, errors, tokens.
//!
//! # Adding a question
//!
//! Its rules per person go to `segue-engine`. Here it gets a folder with `plan.rs` (request to plan, every fault at once),
//! its `pass::Question` for the pass, `answer.rs`, and two entry points:
//! `query(&Context, &Request) -> Result<Response, QueryError>` and `persons(&Context, &Request, &Cell) -> Result<RoaringBitmap, QueryError>`,
//! the persons behind one number of the answer. `service` calls the first, `persons` the second by the answer's token. What of it adds up
//! over persons can be asked by plans over several machines: see `leaves`.

mod error;
pub(crate) mod hashing;
pub(crate) mod parse;
pub(crate) mod threads;
pub(crate) mod time;
pub(crate) mod token;

use chrono_tz::Tz;
pub use error::QueryError;
use tokio_util::sync::CancellationToken;

use crate::filter::fields::Vocabulary;
use crate::report::ReportLimits;
use crate::scan::{ScanError, Snapshot};

/// Where a question is answered: whose events, under which limits, until when. Questions are plain, blocking work: call them on a
/// blocking thread.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The events.
    pub snapshot: &'a Snapshot,
    /// The tenant's time zone.
    pub zone: Tz,
    /// Limits of the configuration.
    pub limits: QueryLimits,
    /// Looked at before every batch of rows.
    pub cancel: &'a CancellationToken,
}

impl Context<'_> {
    /// The watermark, as the moment that a question is about. Until something of the log was read there is none, and nobody could be
    /// said to have done or not done anything.
    pub(crate) fn known_until_us(&self) -> Result<i64, QueryError> {
        match self.snapshot.watermark_us() {
            0 => Err(QueryError::Scan(ScanError::NotLoaded { tenant: self.snapshot.tenant().to_string() })),
            watermark => Ok(watermark),
        }
    }
}

/// Bounds on what one question may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    /// Threads that work on it.
    pub threads: usize,
    /// Bytes of hits in memory, over all its threads.
    pub hits_bytes_max: usize,
    /// Of the event report.
    pub report: ReportLimits,
}

impl Default for QueryLimits {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        QueryLimits { threads, hits_bytes_max: 1 << 30, report: ReportLimits::default() }
    }
}

impl Context<'_> {
    /// The names that filters and breakdowns may use.
    pub(crate) fn vocabulary(&self) -> Vocabulary {
        let stored = self.snapshot.properties().iter().chain(self.snapshot.traits()).cloned();
        Vocabulary::new(stored, self.snapshot.event_names().is_empty())
    }

    /// Fails when the caller went away.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if self.cancel.is_cancelled() { Err(QueryError::Cancelled) } else { Ok(()) }
    }
}
