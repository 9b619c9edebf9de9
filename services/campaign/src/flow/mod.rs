//! Runs: persons going through scenarios.
//!
//! One worker per tenant goes from round to round. A round takes what the log has brought, what was called for and what is due, lets runs go
//! on, and commits what comes of it: runs, planned sends, events to be told, and positions of the log.
//!
//! | part | does |
//! |---|---|
//! | [`machine`] | pure: what a run does next, given what happened and what is known |
//! | `feed`, `incoming` | reads the log for all tenants |
//! | `definitions` | scenarios as a worker goes by them |
//! | `happening`, `deck` | what reaches each person, dealt with in order |
//! | `facts` | what runs have to know, asked for in batches |
//! | `effects` | what runs do to the world |
//! | `schedules`, `merges` | entries that come of time; persons who become one |
//! | `gather`, `waves`, `round`, `commit` | a round from end to end |
//! | `worker`, `due`, `supervisor` | the loop of a tenant; which runs are due; which tenants |
//! | `store` | statements |
//! | `calls` | the RPCs |
//!
//! # Why nothing is lost or done twice
//!
//! Positions advance in the transaction of what was done up to them, and that transaction begins with the claim on the tenant. What cannot
//! be dealt with, because a service that has to be asked is down, is written down in that transaction too (`flow_held`, or a run that stays
//! due), so that everybody else goes on.

mod calls;
mod commit;
mod deck;
mod definitions;
mod due;
mod effects;
mod facts;
mod feed;
mod gather;
mod happening;
mod incoming;
pub mod machine;
mod merges;
mod round;
mod schedules;
mod store;
mod supervisor;
#[cfg(test)]
mod tests;
mod waves;
mod worker;

pub(crate) use store::runs::counts;
#[cfg(test)]
pub(crate) use tests::process::{FlowProcess, Standing, all_runs};
