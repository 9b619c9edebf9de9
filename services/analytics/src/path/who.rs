//! The persons behind one number: whose paths lead through a node or an edge.

use roaring::RoaringBitmap;
use segue_engine::Hit;
use segue_engine::path::{Node, Top, Visit, Walk};
use segue_model::FieldViolation;
use segue_proto::analytics::v1::PathCell;

use super::answer::{CUT, EXIT, OTHER};
use super::nodes::Nodes;
use super::plan::Plan;
use crate::filter::cells::BatchCells;
use crate::pass;
use crate::question::QueryError;

/// A cell, checked. Names are those of the answer, where `...`, `$other` and `$exit` are what they stand for; also a node that the
/// answer counted as `$other` may be named.
pub(super) struct Wanted<'c> {
    step: u32,
    from: &'c str,
    /// `None`: whatever comes next.
    to: Option<&'c str>,
}

/// What has to stand at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Whatever is there.
    Any,
    Node(u32),
    Cut,
    Other,
    Exit,
}

impl<'c> Wanted<'c> {
    /// Checks a cell of the answer to a plan.
    pub(super) fn new(cell: &'c PathCell, plan: &Plan) -> Result<Wanted<'c>, QueryError> {
        let mut faults = Vec::new();
        let columns = plan.columns();
        let (steps, what) = if cell.to.is_empty() { (columns, "nodes") } else { (columns - 1, "edges") };
        if !(1..=steps).contains(&cell.step) {
            faults.push(FieldViolation::new("report.path.step", format!("the answer has {what} at steps 1 to {steps}")));
        }
        if cell.from == EXIT {
            faults.push(FieldViolation::new("report.path.from", "nothing leads on from `$exit`; name it as `to`"));
        }
        if cell.from.is_empty() && !(cell.to.is_empty() && cell.step == 1) {
            faults.push(FieldViolation::new("report.path.from", "required, unless all paths are meant: step 1 without `to`"));
        }
        if !faults.is_empty() {
            return Err(QueryError::Invalid(faults));
        }
        Ok(Wanted { step: cell.step, from: &cell.from, to: Some(cell.to.as_str()).filter(|to| !to.is_empty()) })
    }

    /// The question of the pass; nothing if no event has such a node.
    pub(super) fn through<'q>(&self, plan: &'q Plan, nodes: &'q Nodes<'q>, top: &'q Top) -> Option<Through<'q>> {
        let place = |name: &str| match name {
            "" => Some(Place::Any),
            CUT => Some(Place::Cut),
            OTHER => Some(Place::Other),
            EXIT => Some(Place::Exit),
            _ => nodes.find(name).map(Place::Node),
        };
        let from = place(self.from)?;
        let to = match self.to {
            Some(name) => Some(place(name)?),
            None => None,
        };
        Some(Through { walk: Walk::new(plan.rules(nodes), nodes.most()), nodes, top, step: self.step, from, to, columns: plan.columns() })
    }
}

/// Collects the persons with a path through a cell.
pub(super) struct Through<'q> {
    walk: Walk,
    nodes: &'q Nodes<'q>,
    top: &'q Top,
    step: u32,
    from: Place,
    to: Option<Place>,
    columns: u32,
}

/// Persons found, and what finding them needs.
pub(super) struct Found {
    /// The persons.
    pub(super) persons: RoaringBitmap,
    walk: Walk,
}

impl Through<'_> {
    fn is_at(&self, place: Place, step: u32, path: &[Visit]) -> bool {
        let visit = path.get(step as usize - 1);
        match (place, visit) {
            (Place::Exit, visit) => visit.is_none() && step <= self.columns && path.len() + 1 == step as usize,
            (_, None) => false,
            (Place::Any, Some(_)) => true,
            (Place::Node(code), Some(visit)) => visit.node == code,
            (Place::Cut, Some(visit)) => self.top.shown_as(step, visit) == Node::Cut,
            (Place::Other, Some(visit)) => self.top.shown_as(step, visit) == Node::Other,
        }
    }
}

impl pass::Question for Through<'_> {
    type Payload = u32;
    type Partial = Found;

    fn partial(&self) -> Found {
        Found { persons: RoaringBitmap::new(), walk: self.walk.clone() }
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

    fn person(&self, partial: &mut Found, person: u32, hits: &[Hit<u32>]) {
        let mut leads_through = false;
        partial.walk.person(hits.iter().map(|hit| (hit.ts, hit.payload)), |path| {
            leads_through |= self.is_at(self.from, self.step, path) && self.to.is_none_or(|to| self.is_at(to, self.step + 1, path));
        });
        if leads_through {
            partial.persons.insert(person);
        }
    }

    fn merge(&self, into: &mut Found, from: Found) {
        into.persons |= from.persons;
    }
}
