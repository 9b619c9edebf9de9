//! Tallies in parts: what a pass has counted as numbers that can be added up elsewhere, where nodes may have other codes.
//!
//! Whoever counts over several places makes a question of the same [`Round`] in each, sends the parts of its tally with nodes by their
//! names,
//! adds them to a tally of its own and gives that to [`Question::take`].

use std::sync::Arc;

use super::Rules;
use super::answer::Node;
use super::tally::{Pass, Question, Tally, entrants_at};
use super::top::Top;

/// Which pass of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Round {
    /// Every edge between any nodes is counted.
    Every,
    /// Which nodes enter each step.
    Ranking,
    /// The edges between the nodes that are shown: per step, from 1, their codes by rank.
    Shown(Vec<Vec<u32>>),
}

/// One edge of a tally. Without [`Round::Ranking`], where nothing is known of what stood before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The step that it leads to, from 1.
    pub step: u32,
    /// What stands at the step before; nothing at the first.
    pub from: Option<Node>,
    /// What stands at the step.
    pub to: Node,
    /// Sessions.
    pub sessions: u64,
    /// Time from the one to the other, summed over the sessions, in microseconds.
    pub time_us: u128,
    /// Distinct persons, if profiles are counted.
    pub profiles: u64,
}

impl Question {
    /// A question in this round, over nodes `0..nodes`, of which `top` are shown per step.
    pub fn in_round(rules: Rules, nodes: u32, top: usize, round: Round) -> Question {
        let pass = match round {
            Round::Every => Pass::Every,
            Round::Ranking => Pass::Ranking,
            Round::Shown(mut shown) => {
                shown.resize(rules.columns() as usize, Vec::new());
                let seen = shown.iter().flatten().map(|code| code + 1).max().unwrap_or(0).min(nodes);
                Pass::Shown(Arc::new(Top::of(rules.columns(), (seen, nodes), shown)))
            }
        };
        Question { rules, nodes, top, pass }
    }

    /// The round that comes next.
    pub fn round(&self) -> Round {
        match &self.pass {
            Pass::Every => Round::Every,
            Pass::Ranking => Round::Ranking,
            Pass::Shown(top) => Round::Shown(top.shown().to_vec()),
        }
    }
}

impl Tally {
    /// What stands in a slot of a step.
    fn node(&self, step: u32, slot: u32) -> Node {
        match &self.shown {
            Some(top) => top.node(step, slot),
            None => match slot.checked_sub(self.nodes) {
                None => Node::Is(slot),
                Some(0) => Node::Cut,
                Some(_) => Node::Exit,
            },
        }
    }

    fn slot(&self, step: u32, node: Node) -> u32 {
        match &self.shown {
            Some(top) => top.slot_of(step, node),
            None => match node {
                Node::Is(code) => code,
                // While every node is told apart, nothing is `Other`.
                Node::Cut | Node::Other => self.nodes,
                Node::Exit => self.nodes + 1,
            },
        }
    }

    fn slots(&self) -> u32 {
        if self.cells.shape.edges { self.cells.shape.slots } else { self.cells.nodes() }
    }

    /// What was counted of edges, and of how paths begin.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let (shape, slots) = (self.cells.shape, self.slots());
        (1..=shape.columns).flat_map(move |step| {
            let origins = if shape.edges && step > 1 { slots } else { 1 };
            (0..origins).flat_map(move |from| {
                (0..slots).filter_map(move |to| {
                    let (sessions, time_us) = self.cells.get(step, from, to);
                    let persons = self.profiles.as_ref().filter(|_| shape.edges);
                    let profiles = persons.map_or(0, |profiles| profiles.edges.get(shape.at(step, from, to)));
                    let from = (shape.edges && step > 1).then(|| self.node(step - 1, from));
                    let part = Part { step, from, to: self.node(step, to), sessions, time_us, profiles };
                    (sessions > 0 || profiles > 0).then_some(part)
                })
            })
        })
    }

    /// Distinct persons that entered a node at a step, if profiles are counted.
    pub fn entrants_of_steps(&self) -> impl Iterator<Item = (u32, Node, u64)> + '_ {
        let (shape, slots) = (self.cells.shape, self.slots());
        let entrants = move |profiles: &super::tally::Profiles, step, slot| profiles.entrants.get(entrants_at(&shape, step, slot));
        self.profiles.iter().flat_map(move |profiles| {
            let steps = (1..=shape.columns).flat_map(move |step| (0..slots).map(move |slot| (step, slot)));
            let found = steps.map(move |(step, slot)| (step, self.node(step, slot), entrants(profiles, step, slot)));
            found.filter(|(_, _, persons)| *persons > 0)
        })
    }

    /// Distinct persons with a path, if profiles are counted.
    pub fn profiles_total(&self) -> u64 {
        self.profiles.as_ref().map_or(0, |profiles| profiles.total)
    }

    /// Adds an edge of a tally of other persons in the same round.
    pub fn add_part(&mut self, part: &Part) {
        let from = match part.from {
            Some(node) => self.slot(part.step.saturating_sub(1), node),
            None => 0,
        };
        let at = self.cells.shape.at(part.step, from, self.slot(part.step, part.to));
        if part.sessions > 0 || part.time_us > 0 {
            self.cells.fold(at, (part.sessions, part.time_us));
        }
        if let Some(profiles) = self.profiles.as_mut().filter(|_| part.profiles > 0) {
            profiles.edges.fold(at, part.profiles);
        }
    }

    /// Adds persons that entered a node at a step.
    pub fn add_entrants(&mut self, step: u32, node: Node, persons: u64) {
        let at = entrants_at(&self.cells.shape, step, self.slot(step, node));
        if let Some(profiles) = &mut self.profiles {
            profiles.entrants.fold(at, persons);
        }
    }

    /// Adds persons with a path.
    pub fn add_profiles(&mut self, persons: u64) {
        if let Some(profiles) = &mut self.profiles {
            profiles.total += persons;
        }
    }
}
