//! Integration tests of analytics, on every backend there is.

mod bulk;
mod events;
mod index;
mod report;
mod rig;
