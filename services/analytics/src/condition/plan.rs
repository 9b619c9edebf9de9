//! A condition, checked and with its names resolved.

use chrono_tz::Tz;
use roaring::RoaringBitmap;
use segue_engine::condition::{Span, Window};

use super::verdict::Verdict;
use crate::filter::fields::{ItemColumn, Place};
use crate::filter::predicate::Predicate;
use crate::scan::Column;

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
