//! [`Paths`]: the answer, read from the tally of the last pass.

use std::sync::Arc;

use super::Counting;
use super::tally::{Tally, entrants_at};
use super::top::Top;

/// What stands at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// The node with this code.
    Is(u32),
    /// What a path leaves out between its first and its last visits (`...`).
    Cut,
    /// All nodes of the step that are not shown (`$other`).
    Other,
    /// The path ended (`$exit`).
    Exit,
}

/// A node at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrants {
    /// From 1.
    pub step: u32,
    /// Never [`Node::Exit`].
    pub node: Node,
    /// Sessions whose path is there at this step.
    pub sessions: u64,
    /// Distinct persons, if profiles are counted.
    pub profiles: Option<u64>,
}

/// A way from one step to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The step of `from`, from 1.
    pub step: u32,
    /// Where it leads from.
    pub from: Node,
    /// Where it leads to, at the step after.
    pub to: Node,
    /// Sessions that took it.
    pub sessions: u64,
    /// Distinct persons that took it, if profiles are counted.
    pub profiles: Option<u64>,
    /// Time between both visits, summed over the sessions: divided by them it is the mean. 0 to [`Node::Exit`].
    pub time_us: u128,
}

impl Edge {
    /// What the question counts: profiles or sessions.
    pub fn value(&self) -> u64 {
        self.profiles.unwrap_or(self.sessions)
    }
}

impl Entrants {
    /// What the question counts: profiles or sessions.
    pub fn value(&self) -> u64 {
        self.profiles.unwrap_or(self.sessions)
    }
}

/// The answer to a question about paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Sessions that have a path.
    pub sessions: u64,
    /// Persons with such a session, if profiles are counted.
    pub profiles: Option<u64>,
    /// By step; within it by rank, then `Cut`, then `Other`. Only what occurs.
    pub entrants: Vec<Entrants>,
    /// In the order of `entrants` for both ends; exits last. Only what occurs.
    pub edges: Vec<Edge>,
    /// What is shown at which step, to find the persons behind a number.
    pub top: Arc<Top>,
}

impl Paths {
    /// Reads the tally of a pass over the nodes that are shown.
    pub(super) fn new(top: Arc<Top>, tally: &Tally) -> Paths {
        let shape = tally.cells.shape;
        let mut paths = Paths {
            sessions: 0,
            profiles: tally.profiles.as_ref().map(|profiles| profiles.total),
            entrants: Vec::new(),
            edges: Vec::new(),
            top: Arc::clone(&top),
        };
        for step in 1..=shape.columns {
            for slot in top.slots_of(step) {
                let sessions = tally.cells.entrants(step, slot);
                if sessions == 0 {
                    continue;
                }
                if step == 1 {
                    paths.sessions += sessions;
                }
                let profiles = tally.profiles.as_ref().map(|profiles| profiles.entrants.get(entrants_at(&shape, step, slot)));
                paths.entrants.push(Entrants { step, node: top.node(step, slot), sessions, profiles });
                if step < shape.columns {
                    paths.leave(tally, &top, step, slot, sessions);
                }
            }
        }
        paths
    }

    /// The edges from a slot at a step, which so many sessions entered.
    fn leave(&mut self, tally: &Tally, top: &Top, step: u32, slot: u32, entered: u64) {
        let shape = tally.cells.shape;
        let from = top.node(step, slot);
        let profiles_at = |to| tally.profiles.as_ref().map(|profiles| profiles.edges.get(shape.at(step + 1, slot, to)));
        let mut left = 0;
        for to in top.slots_of(step + 1) {
            let (sessions, time_us) = tally.cells.get(step + 1, slot, to);
            if sessions > 0 {
                left += sessions;
                self.edges.push(Edge { step, from, to: top.node(step + 1, to), sessions, profiles: profiles_at(to), time_us });
            }
        }
        let ended = entered - left;
        if ended > 0 {
            let profiles = profiles_at(top.exit());
            self.edges.push(Edge { step, from, to: Node::Exit, sessions: ended, profiles, time_us: 0 });
        }
    }

    /// What the numbers are of.
    pub fn counting(&self) -> Counting {
        if self.profiles.is_some() { Counting::Profiles } else { Counting::Sessions }
    }
}
