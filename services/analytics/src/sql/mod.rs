//! SQL over a snapshot of events, and the frame in which leaves of a plan are shipped to other machines.
//!
//! | module | does |
//! |---|---|
//! | `columns` | names and types of the columns of `events` and `persons` |
//! | `tables` | the two tables, and what of a query they take over: columns, filters, limits |
//! | `selection` | filters that a scan applies by itself: events, times, persons |
//! | `parts` | cuts persons into parts of about equal work: the partitions of a leaf |
//! | `leaf` | [`SnapshotExec`], the only leaf of statements: it reads a snapshot, part by part |
//! | `rows`, `persons` | the rows of both tables |
//! | `blocking` | blocking work as a stream |
//! | `codec` | plans as bytes, and the snapshots that leaves find where they arrive |
//! | `functions` | which functions may be called |
//! | `guard` | which statements and functions are refused |
//! | `growth` | functions that make long values of short ones, within bounds |
//! | `session` | what DataFusion is set to |
//! | `interrupt` | lets joins be ended that nobody waits for |
//! | `meter` | memory that operators do not account for by themselves |
//! | `answer` | answers as messages |
//! | `run`, `runtime` | runs one statement within its limits, on threads of its own |
//!
//! # Tables
//!
//! `events` has one row per event. Its columns are listed in `columns`; a property `plan` is the column `p_plan`, whatever else has
//! that name, so that a query keeps its meaning when built-in columns are added. `device` is null where an event names none; a
//! missing value is null, which is not the empty text. Redirects are applied: `person` is the survivor.
//!
//! `persons` has one row per person with events: `person`, `first_seen`, `last_seen`, `events` (all kinds of them) and `devices`.
//!
//! # What a query may take
//!
//! A statement runs on threads of its own ([`SqlRuntime`]), never on those that serve calls. Its rows, bytes, time and memory are
//! limited ([`SqlLimits`]); rows and bytes cut the answer, which then says so, time and memory end it. Memory is DataFusion's pool,
//! which is advisory: operators account for what they keep, not for the batch in their hands. What keeps much and does not account
//! for it is either metered here (windows), bounded (functions that put texts and lists together) or refused (functions that make
//! much of little). What is left is a batch in flight: values of at most 64 KiB on average, 8,192 rows at a time.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges of persons are what is meant")]

mod answer;
pub(crate) mod blocking;
pub(crate) mod codec;
mod columns;
mod config;
mod error;
mod functions;
mod growth;
mod guard;
mod interrupt;
mod leaf;
mod meter;
pub(crate) mod parts;
mod persons;
mod rows;
mod run;
mod runtime;
pub(crate) mod selection;
mod session;
mod tables;

pub use codec::{PlanCodec, Snapshots};
pub use config::SqlConfig;
pub use error::SqlError;
pub use leaf::SnapshotExec;
pub use run::{SqlAnswer, SqlLimits, Truncation, plan, run};
pub use runtime::SqlRuntime;
use segue_proto::analytics::v1::{QuerySqlRequest, QuerySqlResponse};
pub use session::{register_tables, session, worker_session};

/// Rows of an answer where the request names no number.
const ROWS_DEFAULT: u32 = 1_000;

/// A request's statement and limits.
pub(crate) fn parse(request: QuerySqlRequest, config: &SqlConfig) -> (String, SqlLimits) {
    let rows_max = if request.rows_max == 0 { ROWS_DEFAULT } else { request.rows_max };
    (request.sql, config.limits(rows_max))
}

/// An answer as a message.
pub(crate) fn reply(answer: &SqlAnswer, config: &SqlConfig, seconds: f64) -> Result<QuerySqlResponse, SqlError> {
    answer::message(answer, config.bytes_max, seconds)
}
