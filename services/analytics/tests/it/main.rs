//! Integration tests of analytics, on every backend there is.

mod index;
mod report;
mod rig;
