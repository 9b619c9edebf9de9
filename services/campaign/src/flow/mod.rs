//! Runs: persons going through scenarios.
//!
//! [`machine`] is pure: what a run does next, given what happened and what is known. [`worker`] feeds it: it reads the log, asks other
//! services what the machine wants to know, and commits what comes out.

pub mod machine;
mod worker;
