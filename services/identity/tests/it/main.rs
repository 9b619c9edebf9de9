//! Identity as its callers see it, on every store there is.

mod accounts;
mod calls;
mod changes;
mod harness;
mod reference;
mod resolving;
mod scenarios;
mod select;
