//! Who comes back, and when.
//!
//! A person enters a *cohort* with a start event, and *comes back* with return events. Cohorts are the calendar buckets of the
//! report's range, one row each; the cells of a row are the buckets from the start on.
//!
//! # The rules
//!
//! - Start events lie in the range. With [`Alignment::Calendar`] bucket k of a row is the calendar bucket k after the row's own; with
//!   [`Alignment::Rolling`] it is [start + k × length, start + (k + 1) × length) of each entry's own start event, where the length of an
//!   hour, day or week is 1, 24 or 168 hours, and a month is a calendar month in the zone (see [`add_months_us`]). Cohorts are
//!   calendar buckets either way.
//! - A row has as many buckets as the range has from the row's own on. Each is seen to its end, also where it ends after the range:
//!   the returns of the last one count in full ([`Retention::scan_us`]).
//! - A return is a return event *after* the entry's start event, in the order of (ts, sequence). So an event that is both is not its own
//!   return, and what came before the start in the same bucket does not count. It only matters where bucket 0 is looked at: in
//!   brackets from 0 on. Cell 0 of the other modes is the size of the cohort.
//! - [`Options::returns_min`] asks for so many returns in the whole cell: the bucket, the bucket and the rest of the range, the bracket.
//! - A cell is complete once all buckets that it looks at have ended at the watermark, for a rolling alignment those of whoever could
//!   have entered last. A bracket that goes beyond the range is never complete.
//!
//! [`add_months_us`]: segue_model::calendar::add_months_us

mod buckets;
mod marks;
mod rule;
mod table;
mod tally;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use marks::{MarkTally, Marks};
pub use rule::{Entry, Retention, Scratch};
use segue_model::calendar::{Grain, Tz};
pub use table::{Average, Cell, Cohort, Table};
pub use tally::{Counts, Tally};

/// Selector of the start event: name and filter.
pub const START: usize = 0;
/// Selector of the return event.
pub const RETURN: usize = 1;
/// Selector of the start event by its name alone; only [`CohortEntry::FirstEver`] reads it.
pub const START_BY_NAME: usize = 2;

/// Buckets of a range at most.
pub const BUCKETS_MAX: usize = 10_000;

/// What the buckets of a cohort are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alignment {
    /// The calendar.
    Calendar,
    /// Each entry's own start event.
    Rolling,
}

/// Which start events open a cohort's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CohortEntry {
    /// The first of every bucket.
    Recurring,
    /// The first in the range.
    FirstMatching,
    /// The first event of all history that has the start event's name, if it passes the filter and lies in the range.
    FirstEver,
}

/// Which buckets the cells look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Cell k at bucket k.
    On,
    /// Cell k at bucket k and all later ones in the range.
    OnOrAfter,
    /// Each cell at the buckets of one bracket, start ≤ k < end. Brackets ascend and do not overlap. There is no cell for the size.
    Brackets(Vec<Range<u32>>),
}

/// A question of retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Start ≤ t < end, in microseconds.
    pub range_us: Range<i64>,
    /// Length of the buckets.
    pub grain: Grain,
    /// Whose calendar.
    pub zone: Tz,
    /// What buckets are counted from.
    pub alignment: Alignment,
    /// Who enters when.
    pub entry: CohortEntry,
    /// What cells look at.
    pub mode: Mode,
    /// How many returns a cell needs; 0 is 1.
    pub returns_min: u32,
    /// Cells per cohort at most (not of brackets).
    pub cells_max: usize,
}

/// Why a question of retention cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// Start is not before end.
    #[error("the range is empty; let it start before it ends")]
    EmptyRange,
    /// Over [`BUCKETS_MAX`].
    #[error("the range has more than {BUCKETS_MAX} buckets; shorten it or choose a longer bucket")]
    TooManyBuckets,
    /// The range leaves the years that the calendar knows.
    #[error("the range leaves the years that the calendar knows; choose one nearer to now")]
    OutsideCalendar,
    /// No bracket, an empty one, or one that begins before the one before has ended.
    #[error("bracket {index} is missing, is empty or begins before the one before it ends; give ascending brackets start < end")]
    Brackets {
        /// Its position.
        index: usize,
    },
}
