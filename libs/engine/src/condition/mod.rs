//! Whether a person meets a condition: the rules that are not plain counting.
//!
//! - [`Window`]: which times count as seen from *now*, and when an event stops counting ([`Window::leaves_at`]).
//! - [`Days`]: the calendar day of an event, for counting different days.
//! - [`latest_sequence`]: one thing after the other; [`sequence_from`] says which events they were.
//! - [`Buckets`]: stable draws (a rule that other services need too).
//!
//! Aggregates (counts, sums, firsts and lasts) are added up where the columns are, in analytics.

mod days;
mod sequence;
#[cfg(test)]
mod tests;
mod window;

pub use days::Days;
pub use segue_model::bucket::{BUCKETS, Buckets};
pub use sequence::{STEPS_MAX, latest_sequence, sequence_from};
pub use window::{Span, Window};
