//! [`Question`] and [`Tally`]: what a pass over the persons counts, and what comes after it.

use std::cmp::Ordering;
use std::sync::Arc;

use super::answer::Paths;
use super::cells::{Cells, Persons, Shape};
use super::top::Top;
use super::walk::{Visit, Walk};
use super::{Counting, Packed, Rules, stream};
use crate::Hit;

/// Cells of an array over all nodes, at most: 4 MiB, which a core's cache holds.
const EVERY_CELLS_MAX: usize = 1 << 18;

/// A question about paths: makes the tallies of each pass and turns them into the answer.
///
/// ```
/// use segue_engine::path::{Counting, Node, Question, Rules};
/// use segue_engine::Hit;
///
/// let rules = Rules { session_gap_us: 1_800_000_000, nodes_max: 5, start: None, end: None, keep_repeats: false,
///     counting: Counting::Sessions };
/// let hit = |ts, payload| Hit { ts, sequence: 0, matches: 1, payload };
/// let mut question = Question::new(rules, 2, 10);
/// let paths = loop {
///     let mut tally = question.tally(); // one per thread, then merged
///     tally.person(&[hit(0, 0), hit(60_000_000, 1)]);
///     if let Some(paths) = question.take(tally, |a, b| a.cmp(&b)) {
///         break paths;
///     }
/// };
/// assert_eq!((paths.edges[0].from, paths.edges[0].to, paths.edges[0].sessions), (Node::Is(0), Node::Is(1), 1));
/// ```
#[derive(Debug, Clone)]
pub struct Question {
    pub(super) rules: Rules,
    pub(super) nodes: u32,
    pub(super) top: usize,
    pub(super) pass: Pass,
}

/// What a pass tells apart.
#[derive(Debug, Clone)]
pub(super) enum Pass {
    /// Every edge between any nodes.
    Every,
    /// Which nodes enter each step.
    Ranking,
    /// The edges between the nodes that are shown.
    Shown(Arc<Top>),
}

impl Question {
    /// A question over nodes `0..nodes`, of which `top` are shown per step. Which of them occur need not be known: beyond a few
    /// hundred, what counts is how many do.
    pub fn new(rules: Rules, nodes: u32, top: usize) -> Question {
        let every = Shape { columns: rules.columns(), slots: nodes + 2, edges: true };
        let pass = if every.cells() <= EVERY_CELLS_MAX { Pass::Every } else { Pass::Ranking };
        Question { rules, nodes, top, pass }
    }

    /// An empty tally of the pass that comes next.
    pub fn tally(&self) -> Tally {
        let slots = match &self.pass {
            Pass::Every | Pass::Ranking => self.nodes + 2,
            Pass::Shown(top) => top.slots(),
        };
        let shape = Shape { columns: self.rules.columns(), slots, edges: !matches!(self.pass, Pass::Ranking) };
        let shown = match &self.pass {
            Pass::Shown(top) => Some(Arc::clone(top)),
            Pass::Every | Pass::Ranking => None,
        };
        Tally::new(self.rules, self.nodes, shape, shown)
    }

    /// Takes the tally of a whole pass. Nothing: another pass over the same hits is needed. `order` decides between nodes that are
    /// entered equally often.
    pub fn take(&mut self, tally: Tally, order: impl Fn(u32, u32) -> Ordering) -> Option<Paths> {
        let top = match &self.pass {
            Pass::Shown(top) => return Some(Paths::new(Arc::clone(top), &tally)),
            Pass::Every | Pass::Ranking => {
                let seen = if tally.cells.shape.edges { self.nodes } else { tally.cells.nodes() };
                let entrants = |step, code| tally.entrants(step, code);
                Arc::new(Top::new(self.rules.columns(), (seen, self.nodes), self.top, entrants, order))
            }
        };
        let adds_up = self.rules.counting == Counting::Sessions || top.is_complete();
        if matches!(self.pass, Pass::Every) && adds_up {
            let shown = tally.fold(Arc::clone(&top));
            return Some(Paths::new(top, &shown));
        }
        self.pass = Pass::Shown(top);
        None
    }
}

/// What one pass has counted so far. Give it persons, merge it with the tallies of other persons.
#[derive(Debug, Clone)]
pub struct Tally {
    rules: Rules,
    pub(super) nodes: u32,
    /// The nodes that are shown; nothing while every code is a slot of its own.
    pub(super) shown: Option<Arc<Top>>,
    pub(super) cells: Cells,
    pub(super) profiles: Option<Profiles>,
    walk: Walk,
}

/// Distinct persons, where they are counted.
#[derive(Debug, Clone)]
pub(super) struct Profiles {
    /// Per cell.
    pub(super) edges: Persons,
    /// Per step and slot.
    pub(super) entrants: Persons,
    /// With at least one path.
    pub(super) total: u64,
}

impl Tally {
    fn new(rules: Rules, nodes: u32, shape: Shape, shown: Option<Arc<Top>>) -> Tally {
        let profiles = (rules.counting == Counting::Profiles).then(|| Profiles {
            edges: Persons::new(shape.cells()),
            entrants: Persons::new(0),
            total: 0,
        });
        Tally { rules, nodes, shown, cells: Cells::new(shape), profiles, walk: Walk::new(rules, nodes) }
    }

    /// Adds a person; the payload is the code of the node.
    pub fn person(&mut self, hits: &[Hit<u32>]) {
        self.add(hits.iter().map(|hit| (hit.ts, hit.payload)));
    }

    /// Adds a person whose hits are packed. False, and nothing is added: their order is not known from the keys alone.
    pub fn person_packed(&mut self, hits: Packed<'_>) -> bool {
        if hits.is_ambiguous(self.nodes) {
            return false;
        }
        self.add(hits.hits());
        true
    }

    #[inline]
    fn add(&mut self, hits: impl Iterator<Item = (i64, u32)>) {
        let Tally { rules, nodes, shown, cells, profiles, walk } = self;
        if let (None, None) = (rules.end, &profiles) {
            match shown {
                None => stream::person(rules, *nodes, cells, |_, code| code, hits),
                Some(top) => stream::person(rules, *nodes, cells, |step, code| top.slot(step, code), hits),
            }
            return;
        }
        if let Some(profiles) = profiles {
            profiles.edges.next();
            profiles.entrants.next();
        }
        let mut has_path = false;
        walk.person(hits, |path| {
            has_path = true;
            count_path(path, *nodes, shown.as_deref(), cells, profiles.as_mut());
        });
        if let Some(profiles) = profiles {
            profiles.total += u64::from(has_path);
        }
    }

    /// What a node at a step is ranked by.
    fn entrants(&self, step: u32, code: u32) -> u64 {
        match &self.profiles {
            Some(profiles) => profiles.entrants.get(entrants_at(&self.cells.shape, step, code)),
            None => self.cells.entrants(step, code),
        }
    }

    /// Adds what another tally of the same pass has counted over other persons.
    pub fn merge(&mut self, other: Tally) {
        self.cells.merge(other.cells);
        if let (Some(profiles), Some(other)) = (&mut self.profiles, &other.profiles) {
            profiles.edges.merge(&other.edges);
            profiles.entrants.merge(&other.entrants);
            profiles.total += other.total;
        }
    }

    /// The same counts between the nodes that are shown. Distinct persons stay exact only if `top` is complete.
    fn fold(&self, top: Arc<Top>) -> Tally {
        let shape = self.cells.shape;
        let mut folded = Tally::new(self.rules, self.nodes, Shape { slots: top.slots(), ..shape }, Some(Arc::clone(&top)));
        for step in 1..=shape.columns {
            for to in 0..shape.slots {
                let slot = top.slot(step, to);
                for from in 0..if step == 1 { 1 } else { shape.slots } {
                    let came_from = if step == 1 { 0 } else { top.slot(step - 1, from) };
                    let at = folded.cells.shape.at(step, came_from, slot);
                    folded.cells.fold(at, self.cells.get(step, from, to));
                    if let (Some(folded), Some(profiles)) = (&mut folded.profiles, &self.profiles) {
                        folded.edges.fold(at, profiles.edges.get(shape.at(step, from, to)));
                    }
                }
                let at = entrants_at(&folded.cells.shape, step, slot);
                if let (Some(folded), Some(profiles)) = (&mut folded.profiles, &self.profiles) {
                    folded.entrants.fold(at, profiles.entrants.get(entrants_at(&shape, step, to)));
                }
            }
        }
        if let (Some(folded), Some(profiles)) = (&mut folded.profiles, &self.profiles) {
            folded.total = profiles.total;
        }
        folded
    }
}

/// Where persons that entered a slot at a step are counted.
pub(super) fn entrants_at(shape: &Shape, step: u32, slot: u32) -> usize {
    slot as usize * shape.planes() + step as usize
}

/// Adds one path.
fn count_path(path: &[Visit], nodes: u32, shown: Option<&Top>, cells: &mut Cells, mut profiles: Option<&mut Profiles>) {
    let shape = cells.shape;
    let slot_of = |step, code| shown.map_or(code, |top| top.slot(step, code));
    let (mut step, mut from, mut before) = (0, 0, None);
    for visit in path {
        step += 1;
        let to = slot_of(step, visit.node);
        if !shape.edges && visit.node >= nodes {
            // What is cut out has no rank.
            continue;
        }
        let at = shape.at(step, from, to);
        cells.add(at, 1, before.map_or(0, |before| visit.ts.wrapping_sub(before).cast_unsigned()));
        if let Some(profiles) = profiles.as_deref_mut() {
            if shape.edges {
                profiles.edges.count(at);
            }
            profiles.entrants.count(entrants_at(&shape, step, to));
        }
        (from, before) = (to, Some(visit.ts));
    }
    // How many sessions end is what is missing between entrants and edges; who ends has to be said.
    if let Some(profiles) = profiles
        && shape.edges
        && step < shape.columns
    {
        profiles.edges.count(shape.at(step + 1, from, slot_of(step + 1, nodes + 1)));
    }
}
