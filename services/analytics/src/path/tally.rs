//! What the pass asks about each person: which way its sessions take.

use segue_engine::Hit;
use segue_engine::path::{Packed, Question, Tally};

use super::nodes::Nodes;
use crate::filter::cells::BatchCells;
use crate::pass::{self, Packing};
use crate::question::QueryError;
use crate::question::time::RangeUs;

/// One pass of a question.
pub(super) struct Tallying<'q> {
    /// The question.
    pub(super) question: &'q Question,
    /// Nodes of events.
    pub(super) nodes: &'q Nodes<'q>,
    /// Times of hits lie in it.
    pub(super) range: RangeUs,
}

impl Tallying<'_> {
    /// Bits that every code fits in, with that of hidden events.
    fn bits(&self) -> u32 {
        (u32::BITS - self.nodes.most().leading_zeros()).max(1)
    }
}

impl pass::Question for Tallying<'_> {
    /// The code of the node.
    type Payload = u32;
    type Partial = Tally;

    fn partial(&self) -> Tally {
        self.question.tally()
    }

    fn batch_payload(&self, batch: &BatchCells<'_>) -> Result<Option<u32>, QueryError> {
        self.nodes.code_of_batch(batch)
    }

    fn payload(&self, batch: &BatchCells<'_>, rows: &[u32], out: &mut Vec<u32>) -> Result<(), QueryError> {
        self.nodes.codes(batch, rows, out)
    }

    fn has_payload(&self) -> bool {
        true
    }

    fn person(&self, partial: &mut Tally, _person: u32, hits: &[Hit<u32>]) {
        partial.person(hits);
    }

    fn packing(&self) -> Option<Packing> {
        Packing::of((self.range.start, self.range.end), self.bits())
    }

    fn pack(&self, _matches: u32, node: u32) -> u64 {
        u64::from(node)
    }

    fn packed(&self, partial: &mut Tally, _person: u32, hits: &[u64]) -> bool {
        partial.person_packed(Packed { keys: hits, bits: self.bits() })
    }

    fn merge(&self, into: &mut Tally, from: Tally) {
        into.merge(from);
    }
}
