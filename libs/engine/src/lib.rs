//! The rules of behavioural questions: pure functions of one person's events in the order of time.
//!
//! Nothing here reads files, knows Arrow or speaks gRPC: analytics gathers the hits of each person and calls these functions, so
//! that the rules can be tested against plain references in milliseconds. The meanings are the contract's
//! (`segue.analytics.v1`, `segue.query.v1`).
//!
//! | module | question |
//! |---|---|
//! | [`funnel`] | how far persons get through steps, how fast |
//! | [`retention`] | who comes back, and when |
//! | [`session`] | cutting a person's events into sessions |
//! | [`path`] | which way sessions take |
//! | [`condition`] | whether a person meets a condition |
//! | [`attribution`] | which touches an event is credited to |

// The plain references of the tests name this crate as other crates' tests do.
#[cfg(test)]
extern crate self as segue_engine;

pub mod attribution;
pub mod condition;
pub mod funnel;
mod hit;
pub mod path;
pub mod retention;
pub mod session;

pub use hit::Hit;
