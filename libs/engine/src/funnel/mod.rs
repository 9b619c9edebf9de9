//! How far persons get through the steps of a funnel, and how fast.
//!
//! A [`FunnelRule`] says what is asked, an [`Evaluator`] applies it to one unit's hits and gives [`Attempt`]s, a [`Tally`] adds
//! attempts up and can be merged with others. [`PlainFunnel`] is the fast way for the commonest question.
//!
//! What the words mean, where they could mean several things:
//!
//! - An **attempt** is a choice of distinct events e1 … ek for the steps, ts(ek) − ts(e1) ≤ window (inclusive), ts(e1) in the
//!   report's range; later events may lie after it. Its **depth** is the furthest step that it does.
//! - Events of **equal time** count in either order (but see strict), whichever carries the attempt further. So an exclusion stops an
//!   attempt only if its time lies strictly between the times of the two steps: at the very time of a step it may be taken as before
//!   or after it.
//! - Of all attempts **that which counts** is the deepest; of these that which reaches its depth first; then that which does
//!   most optional steps; then that which starts last; then that which does its steps as early as possible.
//! - **Optional** steps may be left out; what a unit needs to reach step k are the required steps before k. An optional step counts
//!   those who did it on the way, between the events of its neighbours. Step 1 is required, since the window starts there.
//! - **Strict**: the attempt's events are neighbours among all events of the unit, so that the hits must be all its events, also those
//!   that match nothing. Events of equal time stand in the order of the log, exclusions too: which of them are
//!   neighbours has to be one answer.
//! - **Any order**: the most distinct steps that distinct events inside the window can do. Position k of such an attempt is the k-th
//!   event in time, whichever step it does.
//! - An **exclusion** from step i to step j ends an attempt whose furthest step d has i ≤ d < j. A unit may try again, also by a later
//!   event for step i after the same start. With [`Scope::Unit`] the unit is removed as soon as an exclusion meets
//!   an attempt inside its window that has not got to step j; what happens after all steps are done removes nothing. In any order only
//!   exclusions over the whole funnel have a meaning.
//! - **Held** properties: events whose held values are the same form a stream of their own, also for exclusions; the best stream
//!   counts, and each stream has totals of its own. An event without a held value takes no part, but is between its neighbours for
//!   strict order.
//! - **Sessions**: each session is asked by itself. They are cut where all events of the unit leave a gap over the limit, so the hits must be all
//!   its events.
//! - **Totals**: attempts one after another. An attempt begins with the first possible event and lasts until it has done the
//!   last step, or is ended (by an exclusion; by any other event in strict order), or its window has passed; the next
//!   one begins after that. [`Entry::Deepest`] also looks at starts inside the window of the first one and takes the best.
//! - **Still open**: not all steps done, and at the watermark an attempt is left that may get further: its window reaches the watermark,
//!   no exclusion or other event has ended it, its session may go on.
//!
//! To add an option: a field in [`FunnelSpec`], its check in `rule`, its rule in `chains` (ordered, strict) and `any_order`, and the
//! same in the plain reference of the tests.

mod any_order;
mod attempt;
mod chains;
mod conversion;
mod evaluate;
mod matching;
mod plain;
mod rule;
mod tally;

pub use attempt::{Attempt, NO_VALUE, Outcome, Touch};
pub use conversion::{Conversion, DurationBucket};
pub use evaluate::Evaluator;
pub use plain::{PlainAttempt, PlainFunnel, TimeLists, pack};
pub use rule::{Breakdown, Counting, EXCLUSIONS_MAX, Entry, Exclusion, FunnelFault, FunnelRule, FunnelSpec, Order, STEPS_MAX, Scope, Step};
pub use tally::{Since, Tally};
