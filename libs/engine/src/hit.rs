//! [`Hit`]: one event, as a question sees it.

/// One event of a person that matches at least one selector of a question. The hits of a person are given sorted by
/// (`ts`, `sequence`), which is the order in which things happened. Equal pairs occur among merged persons only, and stand in the
/// same order whenever the hits are given.
///
/// `P` is what else the question reads of the event: codes of property values, a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hit<P = ()> {
    /// Event time, microseconds UTC.
    pub ts: i64,
    /// Decides between events of equal time; the same whenever and however the event is read.
    pub sequence: u64,
    /// Bit i is set if the event matches the question's selector number i.
    pub matches: u32,
    /// What else the question reads.
    pub payload: P,
}

impl<P> Hit<P> {
    /// Whether the event matches selector `number` (below 32).
    pub fn is(&self, number: usize) -> bool {
        self.matches & (1 << number) != 0
    }
}
