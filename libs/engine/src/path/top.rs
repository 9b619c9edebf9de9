//! Which nodes of each step are shown, and where the rest goes.

use super::answer::Node;

/// The nodes with the most entrants, per step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// Per step, from 1: codes by rank.
    shown: Vec<Vec<u32>>,
    /// Most nodes that one step shows. Slots from here on are `Other`, `Cut` and `Exit`.
    shown_max: u32,
    /// Per step, from 0 to one after the last: the slot of each code. Codes are the nodes, then `Cut` and `Exit`.
    slots: Vec<u32>,
    codes: u32,
    /// Nothing became `Other`.
    is_complete: bool,
}

impl Top {
    /// Ranks `nodes` nodes at each of `columns` steps by what `entrants` says of (step, code).
    pub(super) fn new(columns: u32, nodes: u32, top: usize, entrants: impl Fn(u32, u32) -> u64) -> Top {
        let mut shown = Vec::new();
        let mut is_complete = true;
        for step in 1..=columns {
            let mut ranked: Vec<(u64, u32)> = (0..nodes).map(|code| (entrants(step, code), code)).filter(|(count, _)| *count > 0).collect();
            ranked.sort_unstable_by_key(|(count, code)| (std::cmp::Reverse(*count), *code));
            is_complete &= ranked.len() <= top;
            shown.push(ranked.into_iter().take(top).map(|(_, code)| code).collect::<Vec<u32>>());
        }
        let shown_max = shown.iter().map(Vec::len).max().unwrap_or(0) as u32;
        let codes = nodes + 2;
        let mut slots = Vec::with_capacity(codes as usize * (columns as usize + 2));
        for step in 0..=columns as usize + 1 {
            let begin = slots.len();
            slots.resize(begin + nodes as usize, shown_max);
            slots.extend([shown_max + 1, shown_max + 2]);
            let ranked = step.checked_sub(1).and_then(|at| shown.get(at)).map_or(&[][..], Vec::as_slice);
            for (slot, code) in ranked.iter().enumerate() {
                if let Some(place) = slots.get_mut(begin + *code as usize) {
                    *place = slot as u32;
                }
            }
        }
        Top { shown, shown_max, slots, codes, is_complete }
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
        self.slots.get(step as usize * self.codes as usize + code as usize).copied().unwrap_or(self.shown_max)
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

    /// What a visit of this code at this step (from 1) is shown as. The code after the last node stands for [`Node::Cut`].
    pub fn shown_as(&self, step: u32, code: u32) -> Node {
        self.node(step, self.slot(step, code.min(self.codes - 1)))
    }
}
