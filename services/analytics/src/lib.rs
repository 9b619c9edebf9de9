//! Analytics: the event files, their catalogue, and the reports over them.
//!
//! It follows the log's `resolved` topic (events with persons) and `identity` topic (persons merged), keeps fresh events in
//! memory, writes them to Parquet files, and answers questions over both.
//!
//! # Invariants
//!
//! - An event of the log is in exactly one place: the tail or one file. Publishing files and advancing the position is one
//!   transaction of the store; the tail's durability is the log.
//! - Every row of the store, every file path and every cache key carries the tenant.
//! - A query sees one [`scan::Snapshot`]: files and tail as of one moment, whatever is flushed or merged meanwhile.
//! - A tenant whose analytics is off costs nothing here; what passes by is remembered as a position to catch up from.

mod condition;
pub mod config;
pub mod dimension_values;
pub mod error;
pub mod evaluation;
mod exact;
pub mod explanation;
mod filter;
pub mod funnel;
pub mod index;
pub mod leaves;
mod pass;
pub mod path;
pub mod persons;
pub mod question;
pub mod report;
pub mod retention;
pub mod scan;
mod service;
pub mod sessions;
pub mod sql;
mod start;
mod store;
pub mod timeline;

pub use config::Config;
pub use error::{AnalyticsError, StartError};
pub use start::{Deps, Started, start};
