//! Conditions as text, through the public calls.

mod arbitrary;
mod cases;
mod faults;
mod laws;
mod matching;
