//! Which way sessions take: paths of nodes, tallied as edges from step to step.
//!
//! An event of a person is a *node* (its name, a page, a property's value: [`node`] maps raw values to names) or is *hidden*.
//! What a path is, in this order ([`Rules`]):
//!
//! 1. A person's events are cut into sessions: a gap strictly over `session_gap_us` breaks. Hidden events count here.
//! 2. Hidden events are dropped.
//! 3. Equal neighbours collapse into one visit, which keeps the *last* time; unless `keep_repeats`.
//! 4. `start` drops what lies before its first visit, `end` what lies after its first visit in the remainder. A session without
//!    an anchor that is asked for takes no part.
//! 5. At most `nodes_max` visits stay: the first ones; the last ones if only `end` is given; with both anchors the first ⌊N/2⌋,
//!    one [`Node::Cut`] with the time of the first visit it stands for, and the last ⌊N/2⌋.
//!
//! The visits of a path are its steps, from 1. An edge (step, from, to) leads from a visit to the next one; the time of the edge is
//! what lies between their times. A path that ends before the last column a question can have ([`Rules::columns`]) has an edge to
//! [`Node::Exit`], which takes no time; nothing is said about what happens after the last column.
//!
//! Then, per step, all but the `top` nodes with the most entrants (ties: in the order that the caller gives) become [`Node::Other`];
//! `Cut` and `Exit` take no place of the `top`. Counting sessions, what leaves a node adds up to what entered it. Counting profiles, each number is of
//! distinct persons, so a person whose sessions left a node on two ways is in both.
//!
//! # Two passes
//!
//! The tally is a dense array of (step, from, to), which costs few nanoseconds per hit. If there may be too many nodes for that, a
//! first pass only ranks the nodes of each step and a second one counts the edges between those that are shown, so that memory
//! depends on neither how many nodes there might be nor how many edges the data has. Counting profiles takes a second pass too wherever something becomes `Other`: distinct
//! persons of a merged edge are not the sum over its parts. [`Question`] says which pass is next.

mod answer;
mod cells;
pub mod node;
mod parts;
mod stream;
mod tally;
mod top;
mod walk;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use answer::{Edge, Entrants, Node, Paths};
pub use parts::{Part, Round};
pub use tally::{Question, Tally};
pub use top::Top;
pub use walk::{Visit, Walk};

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
    /// Equal neighbours stay visits of their own.
    pub keep_repeats: bool,
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

/// Hits of one person, packed and sorted: (µs since some base) `<<` bits `|` node, so that sorting numbers sorts by time.
///
/// Hits of equal time come out in the order of their nodes. Events are in the order of (ts, sequence), so a person of whom
/// [`Packed::is_ambiguous`] has to be given as [`Hit`](crate::Hit)s.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'k> {
    /// In ascending order.
    pub keys: &'k [u64],
    /// Bits of the node, 1 to 31.
    pub bits: u32,
}

impl<'k> Packed<'k> {
    /// Time and node of each hit.
    #[inline]
    pub fn hits(self) -> impl Iterator<Item = (i64, u32)> + use<'k> {
        let mask = (1 << self.bits) - 1;
        // What is left of the bits is below 2^63, and the mask below 2^31: neither conversion loses anything.
        self.keys.iter().map(move |key| ((key >> self.bits).cast_signed(), (key & mask) as u32))
    }

    /// Whether two different nodes of a question over `nodes` nodes have one time, so that their order is not known from the keys.
    #[inline]
    pub fn is_ambiguous(self, nodes: u32) -> bool {
        let mask = (1 << self.bits) - 1;
        // Nodes ascend within one time and hidden ones have the highest codes, so it is enough to look at neighbours.
        self.keys.windows(2).any(|pair| match pair {
            [a, b] => (a ^ b) >> self.bits == 0 && a != b && b & mask < u64::from(nodes),
            _ => false,
        })
    }
}
