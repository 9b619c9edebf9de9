//! Conditions on persons: who did what, how often, in which order, how they came, what is known of them.
//!
//! [`Plan::parse`] checks a condition and resolves its names; [`evaluate`] gives the persons of whom it is true. Reports that are
//! asked about some persons only (`among`), persons behind numbers, audiences and campaigns all come here.
//!
//! # How it works
//!
//! The tree is evaluated part by part of the persons' numbers, in parallel, each node to a bitmap. A leaf is given the persons that it is
//! asked about and answers with those of them who pass; `all` asks its cheapest operands first and the others only about who is
//! left, `any` only about who is not in yet, `not` takes away. What is not asked need not be read: few persons are looked up in each
//! run, many are read through.
//!
//! A leaf over events (`rows`) reads the events that it names, in its window, with the columns that it needs, and adds up one aggregate
//! per person in a plain array (`tally`, `slots`). Many conditions at once share what they have in common (`once`, `together`), and `edges`
//! says when time alone may change them. Only sequences need a person's events together and in order (`crate::pass`).
//!
//! # Where meanings are
//!
//! The contract (`segue.query.v1.Condition`) says what each node means; windows, draws and sequences are `segue_engine::condition`. Known
//! persons are those with any row: an event, or something stated about them. Everything after *now* does not exist.
//!
//! To add a kind of leaf: a variant of `plan::Kind`, its parsing beside the others in `parse`, and its evaluation in `evaluate`.

mod account;
mod among;
mod behavior;
mod edges;
mod evaluate;
mod once;
mod parse;
mod plan;
mod rows;
mod sequence;
mod slots;
mod tally;
mod together;
mod verdict;

pub(crate) use account::{Account, account};
pub(crate) use among::Among;
pub(crate) use edges::{Edges, EdgesAsk, LATEST_US, edges_of_all, next_change};
pub(crate) use evaluate::{Evaluated, count, evaluate};
pub(crate) use once::{Ask, LeafKeys, evaluate_all};
pub(crate) use parse::persons_of_bytes;
pub(crate) use plan::Plan;
