//! The short cut: without an `end`, whatever a hit adds is known when the hit is read, and a session needs no memory but where it is.
//!
//! Sessions are short and their nodes unpredictable, so the loop decides by arithmetic instead of branches: what is not to be
//! counted goes to planes of the array that nobody reads.

use std::hint::select_unpredictable;

use super::Rules;
use super::cells::Cells;

/// Adds one person's sessions, given (time, node code) in order. `slot` is the slot of (step, code).
#[inline]
pub(super) fn person(rules: &Rules, nodes: u32, cells: &mut Cells, slot: impl Fn(u32, u32) -> u32, hits: impl Iterator<Item = (i64, u32)>) {
    let shape = cells.shape;
    let over = shape.columns + 1;
    let collapse = !rules.keep_repeats;
    let (any, start) = (rules.start.is_none(), rules.start.unwrap_or(nodes));
    // The time of the hit before; of the visible hit before, its node, its cell, its slot and the step that it is at: 0 before the
    // anchor, `over` after the last column.
    let mut before = i64::MIN;
    let (mut last, mut node, mut at, mut from, mut step) = (0i64, nodes, 0usize, 0u32, 0u32);
    for (ts, code) in hits {
        // A break at a hidden hit holds until the next visible one. Before the first hit there is nothing to break.
        step = select_unpredictable(rules.breaks(before, ts), 0, step);
        before = ts;
        if code >= nodes {
            continue;
        }
        let begins = step == 0;
        let same = !begins & collapse & (code == node);
        let goes_on = (step + u32::from(!same)).min(over);
        let next = select_unpredictable(begins, u32::from(any | (code == start)), goes_on);
        let to = slot(next, code);
        let came_from = select_unpredictable(begins, 0, from);
        at = select_unpredictable(same, at, shape.at(next, came_from, to));
        // A visit keeps its last time: hits of one visit prolong the edge that led to it. What led to the first visit is no edge.
        let us = select_unpredictable(begins, 0, ts.wrapping_sub(last).cast_unsigned());
        cells.add(at, u64::from(!same), us);
        (last, node, from, step) = (ts, code, to, next);
    }
}
