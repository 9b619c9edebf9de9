//! Taking events in: checks them against the tenant's taxonomy, makes them durable before it answers, and works them
//! through to identity and analytics.
//!
//! | module | what |
//! |---|---|
//! | [`accept`] | shape, limits, taxonomy; grouping by partition and appending to the `accepted` topic |
//! | [`taxonomy`] | which events and properties a tenant has, of which types; registration at first sight |
//! | [`quarantine`] | events that were set aside with typed reasons; correcting and replaying them |
//! | [`collect`] | bodies of the HTTP API of published SDKs |
//! | [`pipeline`] | one worker per partition: duplicates, skew, enrichment, identity, the `resolved` topic |
//! | [`import`] | files of events as long-running operations |
//! | [`store`] | all SQL |
//!
//! # Invariants
//!
//! - What was answered `ACCEPTED` is on the log, what was answered `QUARANTINED` is in the store; both are on disk.
//! - One outcome per event, in the order of the events; a bad event never affects its neighbours.
//! - Events of one strongest identifier keep their order: they go to one partition, in the order of acceptance.
//! - The type of a property never changes, whichever process saw it first.

pub mod accept;
pub mod collect;
pub mod config;
pub mod error;
pub mod import;
pub mod pipeline;
pub mod quarantine;
mod service;
mod start;
pub mod store;
pub mod taxonomy;

pub use accept::{Accept, Origin};
pub use config::Config;
pub use error::{IngestError, StartError};
pub use start::{Deps, Started, start};

/// The topic of events that were answered for and wait to be resolved: prost `AcceptedBatch`.
pub const ACCEPTED: segue_log::Topic = segue_log::Topic::new("accepted");
/// The topic of events with their person: prost `ResolvedBatch`.
pub const RESOLVED: segue_log::Topic = segue_log::Topic::new("resolved");
