//! Identity as its callers see it, on every store there is.

mod accounts;
mod calls;
mod changes;
mod consents;
mod harness;
mod person_ids;
mod reference;
mod resolving;
mod scenarios;
mod select;
mod unlinking;
