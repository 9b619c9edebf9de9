//! The dense array behind a tally: a cell per (step, from, to), with a plane of cells per step.
//!
//! Planes are numbered by the step that an edge leads *to*: plane 1 counts how paths begin (from is 0 there), plane s the edges from
//! step s − 1 to step s. Plane 0 and the one after the last column take what is not counted, so that the inner loop
//! needs no branch; the answer does not read them.
//!
//! A pass that only ranks nodes has a cell per (node, step) instead, in an array that grows with the nodes that occur.

/// Sessions that took an edge, and the time they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// Sessions.
    pub(super) sessions: u64,
    /// Microseconds, modulo 2^64: [`Cells`] notes the overflows.
    time_us: u64,
}

/// The shape of the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// The last step.
    pub(super) columns: u32,
    /// Slots of a step: nodes, and what else can stand there.
    pub(super) slots: u32,
    /// Whether cells tell apart where an edge comes from; a pass that only ranks nodes does not.
    pub(super) edges: bool,
}

impl Shape {
    /// Planes, with those that nobody reads.
    pub(super) fn planes(&self) -> usize {
        self.columns as usize + 2
    }

    /// Cells of the array; one that grows begins without any.
    pub(super) fn cells(&self) -> usize {
        let slots = if self.edges { self.slots as usize } else { 0 };
        slots.saturating_mul(slots).saturating_mul(self.planes())
    }

    /// Where the cell of an edge that leads to `step` stands.
    #[inline]
    pub(super) fn at(&self, step: u32, from: u32, to: u32) -> usize {
        if self.edges {
            (step as usize * self.slots as usize + from as usize) * self.slots as usize + to as usize
        } else {
            to as usize * self.planes() + step as usize
        }
    }
}

/// The array.
#[derive(Debug, Clone)]
pub(super) struct Cells {
    /// Its shape.
    pub(super) shape: Shape,
    cells: Vec<Cell>,
    /// Cells whose time passed 2^64 µs, once for each time: more than half a million years of waiting, summed over all persons.
    overflows: Vec<usize>,
}

impl Cells {
    /// All zero.
    pub(super) fn new(shape: Shape) -> Cells {
        Cells { shape, cells: vec![Cell::default(); shape.cells()], overflows: Vec::new() }
    }

    /// Adds to a cell.
    #[inline]
    pub(super) fn add(&mut self, at: usize, sessions: u64, time_us: u64) {
        let Some(cell) = self.cells.get_mut(at) else { return self.grow(at, sessions) };
        cell.sessions += sessions;
        let (sum, overflow) = cell.time_us.overflowing_add(time_us);
        cell.time_us = sum;
        if overflow {
            self.overflows.push(at);
        }
    }

    /// Counts a node that had not occurred yet; times are not asked of nodes.
    #[cold]
    fn grow(&mut self, at: usize, sessions: u64) {
        debug_assert!(!self.shape.edges, "no edge lies outside");
        self.cells.resize(at + 1, Cell::default());
        self.add(at, sessions, 0);
    }

    /// Nodes that have occurred: codes from here on have not.
    pub(super) fn nodes(&self) -> u32 {
        self.cells.len().div_ceil(self.shape.planes()) as u32
    }

    /// Sessions and microseconds of an edge that leads to `step`.
    pub(super) fn get(&self, step: u32, from: u32, to: u32) -> (u64, u128) {
        let at = self.shape.at(step, from, to);
        let cell = self.cells.get(at).copied().unwrap_or_default();
        let overflows = self.overflows.iter().filter(|overflow| **overflow == at).count();
        (cell.sessions, u128::from(cell.time_us) + ((overflows as u128) << u64::BITS))
    }

    /// Sessions that entered a slot at a step.
    pub(super) fn entrants(&self, step: u32, slot: u32) -> u64 {
        let origins = if self.shape.edges && step > 1 { self.shape.slots } else { 1 };
        (0..origins).filter_map(|from| self.cells.get(self.shape.at(step, from, slot))).map(|cell| cell.sessions).sum()
    }

    /// Adds a cell of another array: sessions and time.
    pub(super) fn fold(&mut self, at: usize, (sessions, time_us): (u64, u128)) {
        for _ in 0..(time_us >> u64::BITS) {
            self.overflows.push(at);
        }
        // The upper half is in the overflows.
        self.add(at, sessions, time_us as u64);
    }

    /// Adds an array of the same shape.
    pub(super) fn merge(&mut self, other: Cells) {
        debug_assert_eq!(self.shape, other.shape, "tallies of one pass");
        for (at, cell) in other.cells.into_iter().enumerate() {
            self.add(at, cell.sessions, cell.time_us);
        }
        self.overflows.extend(other.overflows);
    }
}

/// Distinct persons per cell. Persons come one after the other, so remembering the last one that was counted is enough.
#[derive(Debug, Clone)]
pub(super) struct Persons {
    cells: Vec<(u32, u32)>,
    person: u32,
}

impl Persons {
    /// For an array of this many cells; more are added as they are met.
    pub(super) fn new(cells: usize) -> Persons {
        Persons { cells: vec![(0, 0); cells], person: 0 }
    }

    /// Begins the next person.
    pub(super) fn next(&mut self) {
        if self.person == u32::MAX {
            self.cells.iter_mut().for_each(|(last, _)| *last = 0);
            self.person = 0;
        }
        self.person += 1;
    }

    /// Counts the person at a cell, if it is the first time.
    #[inline]
    pub(super) fn count(&mut self, at: usize) {
        if at >= self.cells.len() {
            self.cells.resize(at + 1, (0, 0));
        }
        let Some((last, persons)) = self.cells.get_mut(at) else { return };
        *persons += u32::from(*last != self.person);
        *last = self.person;
    }

    /// Persons of a cell.
    pub(super) fn get(&self, at: usize) -> u64 {
        self.cells.get(at).map_or(0, |(_, persons)| u64::from(*persons))
    }

    /// Adds persons of another array.
    pub(super) fn fold(&mut self, at: usize, add: u64) {
        if at >= self.cells.len() {
            self.cells.resize(at + 1, (0, 0));
        }
        if let Some((_, persons)) = self.cells.get_mut(at) {
            // Numbers of persons are 32 bits wide, and no person is in two tallies.
            *persons = persons.saturating_add(u32::try_from(add).unwrap_or(u32::MAX));
        }
    }

    /// Adds the counts of an array of the same size over other persons.
    pub(super) fn merge(&mut self, other: &Persons) {
        for (at, (_, persons)) in other.cells.iter().enumerate().filter(|(_, (_, persons))| *persons > 0) {
            self.fold(at, u64::from(*persons));
        }
    }
}
