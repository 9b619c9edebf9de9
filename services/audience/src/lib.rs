//! Audiences: who is meant, and who that is at every moment.
//!
//! It owns segments, audiences and their versions, static lists, live membership, transitions and syncs. It follows the log's `resolved`
//! topic (events with persons) and `identity` topic (persons merged) to know who may have changed, asks analytics whether they have, and
//! appends who entered and left to the topic [`TRANSITIONS`].
//!
//! # Invariants
//!
//! - **Analytics alone evaluates conditions.** What is kept here is its answers; nothing here decides whether somebody meets a condition.
//! - **Transitions are the truth, membership is their sum.** A round commits its transitions, the positions of the log that it has dealt
//!   with, and its moment in one transaction, fenced by the epoch of who works on the tenant. Bitmaps are checkpoints of that sum.
//! - **Transitions are numbered without gaps** per tenant, and reach the log in order, each once.
//! - A tenant whose module is off costs nothing here. Switched on, its audiences are evaluated in full once.

mod audiences;
mod conditions;
pub mod config;
mod definitions;
pub mod error;
mod evaluate;
mod export;
mod lists;
pub mod live;
mod members;
mod peers;
mod persons;
mod preview;
mod service;
mod start;
mod store;
mod syncs;
mod templates;
mod transitions;

pub use config::Config;
pub use error::{AudienceError, StartError};
pub use start::{Deps, Started, start};

/// Who entered and left audiences: prost `TransitionBatch`, a tenant's in the partition
/// `partition::of_identifier(tenant, "tenant", "", partitions)`.
pub const TRANSITIONS: segue_log::Topic = segue_log::Topic::new("transitions");
