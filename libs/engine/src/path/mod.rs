//! Which way sessions take: paths of nodes, tallied as edges from step to step.
//!
//! An event of a person is a *node* (its name, a page, a property's value: [`node`] maps raw values to names) or is *hidden*.
//! What a path is, in this order ([`Rules`]):
//!
//! 1. A person's events are cut into sessions: a gap strictly over `session_gap_us` breaks. Hidden events count here.
//! 2. Hidden events are dropped.
//! 3. Equal neighbours collapse into one visit, which keeps the *last* time.
//! 4. `start` drops what lies before its first visit, `end` what lies after its first visit in the remainder. A session without
//!    an anchor that is asked for takes no part.
//! 5. At most `nodes_max` visits stay: the first ones; the last ones if only `end` is given; with both anchors the first ⌊N/2⌋,
//!    one [`Node::Cut`] with the time of the first visit it stands for, and the last ⌊N/2⌋.
//!
//! The visits of a path are its steps, from 1. An edge (step, from, to) leads from a visit to the next one; the time of the edge is
//! what lies between their times. A path that ends before the last column a question can have ([`Rules::columns`]) has an edge to
//! [`Node::Exit`], which takes no time; nothing is said about what happens after the last column.
//!
//! Then, per step, all but the `top` nodes with the most entrants (ties: the lower code) become [`Node::Other`]; `Cut` and `Exit` take
//! no place of the `top`. Counting sessions, what leaves a node adds up to what entered it. Counting profiles, each number is of
//! distinct persons, so a person whose sessions left a node on two ways is in both.
//!
//! # Two passes
//!
//! The tally is a dense array of (step, from, to), which costs few nanoseconds per hit. If there are too many nodes for that, a first
//! pass only ranks the nodes of each step and a second one counts the edges between those that are shown, so that memory does
//! not depend on how many edges the data has. Counting profiles takes a second pass too wherever something becomes `Other`: distinct
//! persons of a merged edge are not the sum over its parts. [`Question`] says which pass is next.

mod answer;
mod cells;
pub mod node;
mod stream;
mod tally;
mod top;
mod walk;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use answer::{Edge, Entrants, Node, Paths};
pub use tally::{Question, Tally};
pub use top::Top;
pub use walk::{Visit, Walk};

/// Bits of a node's code in a packed hit.
pub const PACKED_NODE_BITS: u32 = 14;
/// The code of a hidden event in a packed hit; a question over packed hits has at most this many nodes.
pub const PACKED_HIDDEN: u32 = (1 << PACKED_NODE_BITS) - 1;
/// Microseconds that a packed hit's time, which is relative to a base of the caller's choice, is below: 35 years.
pub const PACKED_TIME_END_US: u64 = 1 << (u64::BITS - PACKED_NODE_BITS);
/// The code of a hidden event. Every code that is no node of the question is hidden too.
pub const HIDDEN: u32 = u32::MAX;
/// Visits of a path at least, and at most.
pub const NODES_MAX_RANGE: std::ops::RangeInclusive<u32> = 2..=20;

/// What the numbers of edges are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counting {
    /// Sessions that took the edge.
    #[default]
    Sessions,
    /// Distinct persons, one of whose sessions took it.
    Profiles,
}

/// What makes a path of a person's hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A gap strictly over this breaks the session, microseconds.
    pub session_gap_us: u64,
    /// Visits of a path at most, without [`Node::Cut`]; within [`NODES_MAX_RANGE`].
    pub nodes_max: u32,
    /// Paths begin at the first visit of this node.
    pub start: Option<u32>,
    /// Paths end at the first visit of this node (after the start).
    pub end: Option<u32>,
    /// What is counted.
    pub counting: Counting,
}

impl Rules {
    /// The last step that a path can have: one more than `nodes_max` where [`Node::Cut`] may stand between an even number of visits.
    pub fn columns(&self) -> u32 {
        let both = self.start.is_some() && self.end.is_some();
        // An odd number leaves the place that `Cut` takes.
        self.nodes_max + u32::from(both && self.nodes_max.is_multiple_of(2))
    }

    /// Whether a hit begins a new session, given the time of the hit before it.
    #[inline]
    pub(crate) fn breaks(&self, before: i64, ts: i64) -> bool {
        // Sorted by time, so the difference fits the unsigned type whatever the times are.
        ts.wrapping_sub(before).cast_unsigned() > self.session_gap_us
    }
}

/// A packed hit: sorting them sorts by time. `since_base_us` is below [`PACKED_TIME_END_US`], `node` at most [`PACKED_HIDDEN`].
///
/// Hits of equal time come out in the order of their nodes. Where the question must tell them apart (the order of events is
/// (ts, sequence)), the caller puts such hits right; [`has_equal_times`] finds them.
#[inline]
pub fn pack(since_base_us: u64, node: u32) -> u64 {
    since_base_us << PACKED_NODE_BITS | u64::from(node)
}

/// The time and node of a packed hit.
#[inline]
pub fn unpack(key: u64) -> (i64, u32) {
    // 50 bits of time and 14 of node: neither conversion loses anything.
    ((key >> PACKED_NODE_BITS).cast_signed(), (key & u64::from(PACKED_HIDDEN)) as u32)
}

/// Whether two neighbours of sorted packed hits have one time but different nodes, so that their order still has to be decided.
#[inline]
pub fn has_equal_times(keys: &[u64]) -> bool {
    keys.windows(2).any(|pair| matches!(pair, [a, b] if a != b && (a ^ b) >> PACKED_NODE_BITS == 0))
}
