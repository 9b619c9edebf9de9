//! Campaigns: what happens to a person after an event or on entering an audience, through to what it changed.
//!
//! | module | what |
//! |---|---|
//! | `scenarios` | definitions: versions, validation, starting and pausing |
//! | `flow` | runs of persons through scenarios: a pure machine, and the worker that feeds it |
//! | `sends` | the send ledger: planning, deciding, giving to providers, explaining |
//! | `policies` | when messages may be sent: consent, times, caps |
//! | `templates` | what messages say |
//! | `channels` | how messages leave |
//! | `links` | what comes back: opens, clicks, unsubscribing, call-backs, the in-app feed |
//! | `outbox` | what happened, on its way to ingest as events |
//! | `results` | numbers and experiments |
//!
//! # Invariants
//!
//! - **A run's step happens once in effect.** One process works on a tenant's runs at a time (lease, epoch); a round commits runs, planned
//!   sends, events to be handed on and positions of the log in one transaction fenced by the epoch.
//! - **A send is in the ledger before anybody is messaged**, under a key that the same visit of the same step always has. Who gives it to a
//!   provider holds a lease on it; another attempt has the same idempotency key.
//! - **Consent, caps and times are decided when sending**, in the transaction that records the decision.
//! - A tenant whose module is off costs nothing here.

mod channels;
pub mod config;
pub mod error;
mod flow;
mod links;
mod outbox;
mod peers;
mod persons;
mod policies;
mod results;
mod scenarios;
mod sends;
mod service;
mod start;
mod store;
mod templates;
#[cfg(test)]
mod whole_tests;

pub use config::Config;
pub use error::{CampaignError, StartError};
pub use start::{Deps, Started, start};
pub use store::{MIGRATIONS, NAMESPACE};
