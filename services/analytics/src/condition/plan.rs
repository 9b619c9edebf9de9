//! A condition, checked and with its names resolved.

use chrono_tz::Tz;
use roaring::RoaringBitmap;
use segue_engine::condition::{Span, Window};

use super::verdict::Verdict;
use crate::filter::fields::{ItemColumn, Place};
use crate::filter::predicate::Predicate;
use crate::scan::{Column, Snapshot};

/// A condition, ready to be evaluated.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(super) root: Node,
    /// How many nodes, the root included.
    pub(super) nodes: usize,
    pub(super) zone: Tz,
}

impl Plan {
    /// How many nodes, the root included.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    /// All nodes without operands.
    pub(super) fn leaves(&self) -> Vec<&Node> {
        let mut leaves = Vec::new();
        self.root.leaves(&mut leaves);
        leaves
    }

    /// Makes the persons of its sets those of the snapshot, so that it is done once and not whenever they are asked for.
    pub(crate) fn settle(&mut self, snapshot: &Snapshot) {
        self.root.settle(snapshot);
    }
}

/// A node of the tree.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its place in a walk from the root, parents before children.
    pub(super) number: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Rows(Box<Rows>),
    Sequence(Box<Sequence>),
    /// The bucket for this salt is in from ≤ bucket < to.
    Bucket {
        salt: String,
        from: u32,
        to: u32,
    },
    Persons(RoaringBitmap),
}

/// A leaf that is computed from one aggregate over rows of each person.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    /// Canonical names; `None` is every event.
    pub(super) events: Option<Vec<String>>,
    pub(super) filter: Predicate,
    /// Which items count; an event without one does not match.
    pub(super) items: Option<Predicate>,
    pub(super) window: Window,
    /// What the scan brings; places mean these.
    pub(super) columns: Vec<Column>,
    /// A row without a value in any of these does not match. Empty: it may.
    pub(super) having: Vec<Column>,
    /// The fields of items that places mean.
    pub(super) item_columns: Vec<ItemColumn>,
    pub(super) measure: Measure,
}

impl Rows {
    /// Whether any row between these times may match.
    pub(super) fn may_match(&self, (from_us, to_us): (i64, i64)) -> bool {
        from_us < to_us && !matches!(self.filter, Predicate::Always(false))
    }
}

/// What is computed per person, and what is asked of it.
#[derive(Debug, Clone)]
pub(super) enum Measure {
    Count(Verdict),
    Sum(Operand, Verdict),
    Least(Operand, Verdict),
    Most(Operand, Verdict),
    /// Different days; the column of times.
    Days(usize, Verdict),
    Distinct(Place, Verdict),
    /// The first or last that is there: does it pass?
    Edge(Edge),
}

/// Numbers that a matching event gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// The event's value of a column.
    Exact(usize),
    Double(usize),
    /// One number per item that counts.
    ItemExact(usize),
    ItemDouble(usize),
    /// Σ price × quantity over the items that count and have both: one number per event.
    ItemsValue {
        price: usize,
        quantity: usize,
    },
    /// No event has any.
    Absent,
}

impl Operand {
    pub(super) fn is_double(self) -> bool {
        matches!(self, Operand::Double(_) | Operand::ItemDouble(_))
    }
}

/// A question to the first or last row.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub(super) last: bool,
    /// Both predicates are about items rather than events.
    pub(super) of_items: bool,
    /// Which rows (items) are considered.
    pub(super) present: Predicate,
    pub(super) passes: Predicate,
    /// The answer for persons without any.
    pub(super) otherwise: bool,
}

/// One event after the other.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub(super) steps: Vec<Step>,
    /// What may not come between two steps.
    pub(super) not_between: Option<Step>,
    pub(super) within: Span,
    pub(super) window: Window,
    pub(super) columns: Vec<Column>,
    pub(super) item_columns: Vec<ItemColumn>,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) events: Option<Vec<String>>,
    pub(super) filter: Predicate,
}

impl Node {
    fn settle(&mut self, snapshot: &Snapshot) {
        match &mut self.kind {
            Kind::All(operands) | Kind::Any(operands) => operands.iter_mut().for_each(|operand| operand.settle(snapshot)),
            Kind::Not(operand) => operand.settle(snapshot),
            Kind::Persons(persons) => snapshot.survivors(persons),
            Kind::Rows(_) | Kind::Sequence(_) | Kind::Bucket { .. } => {}
        }
    }

    /// Adds all nodes without operands.
    pub(super) fn leaves<'n>(&'n self, leaves: &mut Vec<&'n Node>) {
        match &self.kind {
            Kind::All(operands) | Kind::Any(operands) => operands.iter().for_each(|operand| operand.leaves(leaves)),
            Kind::Not(operand) => operand.leaves(leaves),
            Kind::Rows(_) | Kind::Sequence(_) | Kind::Bucket { .. } | Kind::Persons(_) => leaves.push(self),
        }
    }

    /// About how much it takes to evaluate, to begin with what is cheap.
    pub(super) fn cost(&self) -> u32 {
        match &self.kind {
            Kind::All(operands) | Kind::Any(operands) => operands.iter().map(Node::cost).fold(0, u32::saturating_add),
            Kind::Not(operand) => operand.cost(),
            Kind::Persons(_) => 1,
            Kind::Bucket { .. } => 2,
            Kind::Rows(rows) if rows.events.is_some() => 10 + 10 * u32::from(!rows.item_columns.is_empty()),
            Kind::Rows(_) => 200,
            Kind::Sequence(sequence) if sequence.steps.iter().chain(&sequence.not_between).all(|step| step.events.is_some()) => 50,
            Kind::Sequence(_) => 500,
        }
    }
}
