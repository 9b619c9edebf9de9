//! Which nodes of each step are shown, and where the rest goes.

use std::cmp::Ordering;

use super::answer::Node;
use super::walk::Visit;

/// The nodes with the most entrants, per step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// Per step, from 1: codes by rank.
    shown: Vec<Vec<u32>>,
    /// Most nodes that one step shows. Slots from here on are `Other`, `Cut` and `Exit`.
    shown_max: u32,
    /// Per step, from 0 to one after the last: the slot of each node that occurs.
    slots: Vec<u32>,
    /// Codes of nodes that occur are below this.
    nodes: u32,
    /// The code of `Cut`; the one after it is that of `Exit`.
    cut: u32,
    /// Nothing became `Other`.
    is_complete: bool,
}

impl Top {
    /// Ranks `nodes` nodes at each of `columns` steps by what `entrants` says of (step, code), ties in this order.
    pub(super) fn new(
        columns: u32,
        (nodes, cut): (u32, u32),
        top: usize,
        entrants: impl Fn(u32, u32) -> u64,
        order: impl Fn(u32, u32) -> Ordering,
    ) -> Top {
        let mut shown = Vec::with_capacity(columns as usize);
        let mut is_complete = true;
        for step in 1..=columns {
            let mut ranked: Vec<(u64, u32)> = (0..nodes).map(|code| (entrants(step, code), code)).filter(|(count, _)| *count > 0).collect();
            ranked.sort_unstable_by(|(count, code), (other_count, other)| other_count.cmp(count).then_with(|| order(*code, *other)));
            is_complete &= ranked.len() <= top;
            shown.push(ranked.into_iter().take(top).map(|(_, code)| code).collect::<Vec<u32>>());
        }
        Top { is_complete, ..Top::of(columns, (nodes, cut), shown) }
    }

    /// Shows these codes, below `nodes`, at each of `columns` steps.
    pub(super) fn of(columns: u32, (nodes, cut): (u32, u32), shown: Vec<Vec<u32>>) -> Top {
        let shown_max = shown.iter().map(Vec::len).max().unwrap_or(0) as u32;
        let mut slots = vec![shown_max; nodes as usize * (columns as usize + 2)];
        for (row, shown) in slots.chunks_exact_mut((nodes as usize).max(1)).skip(1).zip(&shown) {
            for (slot, code) in (0..).zip(shown) {
                if let Some(place) = row.get_mut(*code as usize) {
                    *place = slot;
                }
            }
        }
        Top { shown, shown_max, slots, nodes, cut, is_complete: false }
    }

    /// Per step, codes by rank.
    pub(super) fn shown(&self) -> &[Vec<u32>] {
        &self.shown
    }

    /// The slot of what stands at a step.
    pub(super) fn slot_of(&self, step: u32, node: Node) -> u32 {
        match node {
            Node::Is(code) => self.slot(step, code),
            Node::Other => self.shown_max,
            Node::Cut => self.shown_max + 1,
            Node::Exit => self.exit(),
        }
    }

    /// Slots of a step.
    pub(super) fn slots(&self) -> u32 {
        self.shown_max + 3
    }

    /// Whether every node that occurs is shown.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The slot of a code at a step.
    #[inline]
    pub(super) fn slot(&self, step: u32, code: u32) -> u32 {
        if code < self.nodes {
            let at = step as usize * self.nodes as usize + code as usize;
            return self.slots.get(at).copied().unwrap_or(self.shown_max);
        }
        match code.checked_sub(self.cut) {
            None => self.shown_max,
            Some(0) => self.shown_max + 1,
            Some(_) => self.exit(),
        }
    }

    /// The slots that something can be counted in, in the order of the answer.
    pub(super) fn slots_of(&self, step: u32) -> impl Iterator<Item = u32> {
        let shown = (step as usize).checked_sub(1).and_then(|at| self.shown.get(at)).map_or(0, |shown| shown.len() as u32);
        (0..shown).chain([self.shown_max + 1, self.shown_max])
    }

    /// The slot of [`Node::Exit`].
    pub(super) fn exit(&self) -> u32 {
        self.shown_max + 2
    }

    /// What a slot of a step stands for.
    pub(super) fn node(&self, step: u32, slot: u32) -> Node {
        match slot.checked_sub(self.shown_max) {
            None => {
                let shown = (step as usize).checked_sub(1).and_then(|at| self.shown.get(at));
                shown.and_then(|shown| shown.get(slot as usize)).map_or(Node::Other, |code| Node::Is(*code))
            }
            Some(0) => Node::Other,
            Some(1) => Node::Cut,
            Some(_) => Node::Exit,
        }
    }

    /// What a visit of a path is shown as at its step (from 1).
    pub fn shown_as(&self, step: u32, visit: &Visit) -> Node {
        self.node(step, self.slot(step, visit.node))
    }
}
