//! Matching steps to distinct events that can do them, where the order of the events does not matter. At most 20 steps, so that sets of steps
//! are bits and every search takes a few hundred operations at most.

use super::rule::STEPS_MAX;

/// No event.
pub(super) const NOBODY: u32 = u32::MAX;

/// A matching of steps to distinct events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matching {
    /// The event that does each step.
    pub(super) events: [u32; STEPS_MAX],
    /// Which steps each of these events could do.
    masks: [u32; STEPS_MAX],
    /// Steps that are matched.
    pub(super) matched: u32,
}

/// Steps in the order in which a search found them, each with the one that led to it.
struct Search {
    seen: u32,
    queue: [u8; STEPS_MAX],
    parents: [u8; STEPS_MAX],
    filled: usize,
}

const ROOT: u8 = u8::MAX;

impl Search {
    fn new() -> Search {
        Search { seen: 0, queue: [0; STEPS_MAX], parents: [ROOT; STEPS_MAX], filled: 0 }
    }

    fn push(&mut self, steps: u32, parent: u8) {
        let mut fresh = steps & !self.seen;
        self.seen |= fresh;
        while fresh != 0 {
            let step = fresh.trailing_zeros() as usize;
            fresh &= fresh - 1;
            self.queue[self.filled] = step as u8;
            self.parents[step] = parent;
            self.filled += 1;
        }
    }
}

impl Matching {
    pub(super) fn new() -> Matching {
        Matching { events: [NOBODY; STEPS_MAX], masks: [0; STEPS_MAX], matched: 0 }
    }

    /// How many steps are matched.
    pub(super) fn size(&self) -> usize {
        self.matched.count_ones() as usize
    }

    /// Takes an event in if the matching becomes larger by it; matched steps stay matched, events may move between them.
    pub(super) fn add(&mut self, event: u32, mask: u32) -> bool {
        let mut search = Search::new();
        search.push(mask, ROOT);
        let mut at = 0;
        while at < search.filled {
            let step = search.queue[at] as usize;
            at += 1;
            if self.matched & (1 << step) == 0 {
                // Every event on the way moves on by one step, which frees one for the new event.
                let mut to = step;
                self.matched |= 1 << step;
                while search.parents[to] != ROOT {
                    let from = search.parents[to] as usize;
                    self.events[to] = self.events[from];
                    self.masks[to] = self.masks[from];
                    to = from;
                }
                self.events[to] = event;
                self.masks[to] = mask;
                return true;
            }
            search.push(self.masks[step], step as u8);
        }
        false
    }

    /// Matches one more step, where `free` finds an unmatched event that can do a given step.
    pub(super) fn fill(&mut self, step: usize, mut free: impl FnMut(&Matching, usize) -> Option<(u32, u32)>) -> bool {
        let mut search = Search::new();
        search.push(1 << step, ROOT);
        let mut at = 0;
        while at < search.filled {
            let wanted = search.queue[at] as usize;
            at += 1;
            if let Some((event, mask)) = free(self, wanted) {
                let (mut event, mut mask, mut to) = (event, mask, wanted);
                // A step that gets an event gives the one it had to the step that the search came from.
                loop {
                    std::mem::swap(&mut self.events[to], &mut event);
                    std::mem::swap(&mut self.masks[to], &mut mask);
                    if search.parents[to] == ROOT {
                        break;
                    }
                    to = search.parents[to] as usize;
                }
                self.matched |= 1 << step;
                return true;
            }
            let mut givers = 0;
            for other in 0..STEPS_MAX {
                if self.matched & (1 << other) != 0 && self.masks[other] & (1 << wanted) != 0 {
                    givers |= 1 << other;
                }
            }
            search.push(givers, wanted as u8);
        }
        false
    }

    /// Frees the step that an event does; gives the step.
    pub(super) fn remove(&mut self, event: u32) -> Option<usize> {
        let step = (0..STEPS_MAX).find(|step| self.matched & (1 << step) != 0 && self.events[*step] == event)?;
        self.matched &= !(1 << step);
        self.events[step] = NOBODY;
        self.masks[step] = 0;
        Some(step)
    }

    /// Whether an event does a step.
    pub(super) fn uses(&self, event: u32) -> bool {
        self.events.contains(&event)
    }
}
