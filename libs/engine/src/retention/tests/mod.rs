//! Retention against the cases of the contract and against a plain reference.

mod cases;
mod random;
#[path = "../../../tests/reference/retention.rs"]
mod reference;
