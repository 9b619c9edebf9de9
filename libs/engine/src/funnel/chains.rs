//! Attempts in order, strict or not: one pass over the events of a stream.
//!
//! Per step (and per number of optional steps left out before it) the pass keeps the **chain** with the latest start. A chain that
//! starts later stays inside its window longer and meets the same exclusions from then on, so that no other one can get further. Events
//! of equal time are taken together: a chain at step p gets to step i if the steps between find distinct events among them.
//! Strict order goes event by event, and keeps only the chains that use every one.

use super::matching::{Matching, NOBODY};
use super::rule::{FunnelRule, Order, STEPS_MAX, Scope};

/// An event of a stream, as the search sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    /// Event time.
    pub(super) ts: i64,
    /// Bit i is set if the event can do step i + 1.
    pub(super) steps: u32,
    /// Bit i is set if the event is one of exclusion i.
    pub(super) exclusions: u32,
    /// Position among the unit's hits.
    pub(super) hit: u32,
}

/// What a search may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The earliest and the latest time of a first event.
    pub(super) first: i64,
    pub(super) last: i64,
    /// Stop when all that began has ended: what starts later is another attempt.
    pub(super) one_attempt: bool,
}

/// The attempt that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The furthest step.
    pub(super) depth: usize,
    /// How many steps are done.
    pub(super) done: usize,
    /// When the furthest step was done.
    pub(super) completed: i64,
    /// When the first step was done.
    pub(super) start: i64,
    /// The hit that did each step.
    pub(super) events: [u32; STEPS_MAX],
    /// An attempt is left that may get further.
    pub(super) still_open: bool,
    /// What ended the attempt, if that was before the end of its window.
    pub(super) ended: Option<End>,
    /// An exclusion removed the unit.
    pub(super) removed: bool,
}

/// The moment at which everything that began has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) ts: i64,
    /// Its first event, as a position among the unit's hits.
    pub(super) hit: u32,
}

#[derive(Debug, Clone, Copy)]
struct Chain {
    start: i64,
    events: [u32; STEPS_MAX],
}

impl Chain {
    const EMPTY: Chain = Chain { start: 0, events: [NOBODY; STEPS_MAX] };
}

/// The chains of a pass, by depth (from 1) and by how many optional steps they left out.
#[derive(Debug, Default)]
struct Chains {
    layers: usize,
    slots: Vec<Option<Chain>>,
}

impl Chains {
    fn clear(&mut self, steps: usize, layers: usize) {
        self.layers = layers;
        self.slots.clear();
        self.slots.resize((steps + 1) * layers, None);
    }

    fn at(&self, depth: usize, skipped: usize) -> Option<&Chain> {
        self.slots[depth * self.layers + skipped].as_ref()
    }

    /// Keeps a chain if none there started as late.
    fn offer(&mut self, depth: usize, skipped: usize, chain: &Chain) {
        let slot = &mut self.slots[depth * self.layers + skipped];
        if slot.as_ref().is_none_or(|kept| kept.start < chain.start) {
            *slot = Some(*chain);
        }
    }

    fn depth_of(&self, slot: usize) -> usize {
        slot / self.layers
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &Chain)> {
        self.slots.iter().enumerate().filter_map(|(slot, chain)| Some((self.depth_of(slot), chain.as_ref()?)))
    }
}

/// A way from one depth to another inside one moment.
struct Way {
    from: usize,
    to: usize,
    /// How many of the moment's events it uses.
    used: usize,
    events: [u32; STEPS_MAX],
}

/// Memory of searches, used again from stream to stream.
#[derive(Debug, Default)]
pub(super) struct ChainSearch {
    chains: Chains,
    next: Chains,
    /// Events of a moment that may matter, for [`ways`].
    kept: Vec<(u32, u32)>,
}

impl ChainSearch {
    /// The attempt that counts among those of a stream, which is sorted by time. None if nothing starts.
    pub(super) fn find(&mut self, rule: &FunnelRule, items: &[Item], bounds: Bounds) -> Option<Found> {
        let layers = rule.optional().count_ones() as usize + 1;
        self.chains.clear(rule.steps(), layers);
        let mut pass = Pass { rule, bounds, best: None, latest: [None; STEPS_MAX + 1], removed: false, ended: None };
        let window = rule.spec().window_us;
        let simple = rule.spec().order == Order::Ordered;
        let mut at = items.partition_point(|item| item.ts < bounds.first);
        while at < items.len() {
            let ts = items[at].ts;
            if ts > bounds.last.saturating_add(window) {
                break;
            }
            // In strict order events of equal time stand as the log has them: each is a moment of its own.
            let length = if simple { items[at..].iter().take_while(|item| item.ts == ts).count() } else { 1 };
            let moment = &items[at..at + length];
            at += length;
            match moment {
                [only] if simple && only.exclusions == 0 => pass.single(&mut self.chains, only),
                _ => {
                    pass.moment(&self.chains, &mut self.next, &mut self.kept, moment);
                    std::mem::swap(&mut self.chains, &mut self.next);
                }
            }
            if pass.removed || pass.ended.is_some() || pass.best.as_ref().is_some_and(|best| best.depth == rule.steps()) {
                break;
            }
        }
        pass.finish(&self.chains)
    }
}

/// One pass over a stream.
struct Pass<'r> {
    rule: &'r FunnelRule,
    bounds: Bounds,
    best: Option<Found>,
    /// The latest start that has got to each depth, whatever came of it.
    latest: [Option<i64>; STEPS_MAX + 1],
    removed: bool,
    ended: Option<End>,
}

impl Pass<'_> {
    fn in_window(&self, chain: &Chain, ts: i64) -> bool {
        ts.saturating_sub(chain.start) <= self.rule.spec().window_us
    }

    fn may_start(&self, ts: i64) -> bool {
        (self.bounds.first..=self.bounds.last).contains(&ts)
    }

    /// Notes what a chain has come to. Time only goes on, so an attempt that reached the same depth before counts.
    fn record(&mut self, depth: usize, skipped: usize, ts: i64, chain: &Chain) {
        self.latest[depth] = self.latest[depth].max(Some(chain.start));
        let done = depth - skipped;
        let strict = self.rule.spec().order == Order::Strict;
        let better = self.best.as_ref().is_none_or(|best| {
            let same_moment = ts == best.completed && (!strict || chain.events[depth - 1] == best.events[depth - 1]);
            depth > best.depth || (depth == best.depth && same_moment && (done, chain.start) > (best.done, best.start))
        });
        if better {
            let Chain { start, events } = *chain;
            self.best = Some(Found { depth, done, completed: ts, start, events, still_open: false, ended: None, removed: false });
        }
    }

    /// A moment of one event without exclusions: chains are taken on from the last step to the first, in place.
    fn single(&mut self, chains: &mut Chains, item: &Item) {
        let mut steps = item.steps;
        while steps != 0 {
            let to = steps.ilog2() as usize + 1;
            steps &= !(1 << (to - 1));
            for from in (0..to).rev() {
                for skipped in 0..chains.layers {
                    let Some(mut chain) = self.source(chains, from, skipped, item.ts) else { continue };
                    chain.events[to - 1] = item.hit;
                    let skipped = skipped + (to - 1 - from);
                    self.record(to, skipped, item.ts, &chain);
                    chains.offer(to, skipped, &chain);
                }
                // The step before can only be passed by if it is optional.
                if from == 0 || self.rule.optional() & (1 << (from - 1)) == 0 {
                    break;
                }
            }
        }
    }

    /// The chain that can go on from a depth, or a new one at depth 0.
    fn source(&self, chains: &Chains, depth: usize, skipped: usize, ts: i64) -> Option<Chain> {
        if depth == 0 {
            return (skipped == 0 && self.may_start(ts)).then_some(Chain { start: ts, ..Chain::EMPTY });
        }
        chains.at(depth, skipped).filter(|chain| self.in_window(chain, ts)).copied()
    }

    /// A moment of any kind: from the chains before it to those after it.
    fn moment(&mut self, before: &Chains, after: &mut Chains, kept: &mut Vec<(u32, u32)>, moment: &[Item]) {
        let rule = self.rule;
        let strict = rule.spec().order == Order::Strict;
        let Some(&Item { ts, hit, .. }) = moment.first() else { return };
        let active = moment.iter().fold(0, |all, item| all | item.exclusions);
        after.clear(rule.steps(), before.layers);
        // Whether something began before this moment and is inside its window; whether any of that goes on after it.
        let (mut begun, mut goes_on) = (false, false);
        for (slot, chain) in before.slots.iter().enumerate() {
            let (depth, Some(chain)) = (before.depth_of(slot), chain) else { continue };
            let in_window = self.in_window(chain, ts);
            begun |= in_window;
            // A chain out of its window is past being ended.
            if !in_window || !strict && rule.passes(active, depth, depth) {
                after.slots[slot] = Some(*chain);
                goes_on |= in_window;
            }
        }
        let one_attempt = self.bounds.one_attempt && begun;
        ways(rule, moment, kept, |way| {
            if way.from == 0 && one_attempt && !goes_on {
                // What began before ends here, so this is the beginning of the next attempt. (All other ways are known by now.)
                return;
            }
            for skipped in 0..before.layers {
                let Some(mut chain) = self.source(before, way.from, skipped, ts) else { continue };
                for (event, found) in chain.events.iter_mut().zip(way.events).skip(way.from).take(way.to - way.from) {
                    *event = found;
                }
                let skipped = skipped + (way.to - way.from - way.used);
                self.record(way.to, skipped, ts, &chain);
                // A strict chain that began before must have used all of the moment, else one of its events comes next.
                let neighbours = !strict || way.from == 0 || way.used == moment.len();
                if neighbours && rule.passes(active, way.from, way.to) {
                    after.offer(way.to, skipped, &chain);
                    goes_on |= way.from > 0;
                }
            }
        });
        if self.best.as_ref().is_some_and(|best| best.depth == rule.steps()) {
            return;
        }
        self.removed = active != 0 && self.removes(before, active, ts);
        if one_attempt && !goes_on {
            self.ended = Some(End { ts, hit });
        }
    }

    /// Whether an exclusion of the moment removes the unit: it meets an attempt inside its window between the two steps.
    fn removes(&self, before: &Chains, active: u32, ts: i64) -> bool {
        self.rule.spec().exclusions.iter().enumerate().any(|(number, exclusion)| {
            active & (1 << number) != 0
                && exclusion.scope == Scope::Unit
                && before.iter().any(|(depth, chain)| {
                    (exclusion.from_step..exclusion.to_step).contains(&depth)
                        && self.in_window(chain, ts)
                        // Whatever starts later than the chain and has got past the exclusion shows a way for the chain, too.
                        && self.latest[exclusion.to_step..].iter().flatten().all(|start| *start < chain.start)
                })
        })
    }

    fn finish(self, chains: &Chains) -> Option<Found> {
        let mut found = self.best?;
        let spec = self.rule.spec();
        let open = |chain: &Chain| spec.watermark_us.is_some_and(|watermark| chain.start.saturating_add(spec.window_us) >= watermark);
        found.removed = self.removed;
        found.ended = self.ended;
        found.still_open = found.depth < self.rule.steps() && self.ended.is_none() && chains.iter().any(|(_, chain)| open(chain));
        Some(found)
    }
}

/// Gives every way between two depths through the events of one moment, to each depth from the nearest one first. Of optional steps on
/// the way it does as many as it can, earlier ones first.
fn ways(rule: &FunnelRule, moment: &[Item], kept: &mut Vec<(u32, u32)>, mut give: impl FnMut(&Way)) {
    let possible = keep_enough(rule.steps(), moment, kept);
    for from in (0..rule.steps()).rev() {
        let mut required = Matching::new();
        for to in from + 1..=rule.steps() {
            let bit = 1 << (to - 1);
            let free = |matching: &Matching, step: usize| {
                kept.iter().find(|(event, mask)| mask & (1 << step) != 0 && !matching.uses(*event)).copied()
            };
            let mut base = required;
            let reached = possible & bit != 0 && base.fill(to - 1, free);
            if reached {
                let mut matching = base;
                let mut optional = rule.optional() & (bit - 1) & !((1 << from) - 1);
                while optional != 0 {
                    let step = optional.trailing_zeros() as usize;
                    optional &= optional - 1;
                    matching.fill(step, free);
                }
                give(&Way { from, to, used: matching.size(), events: matching.events });
            }
            if rule.optional() & bit == 0 {
                if !reached {
                    // What is required cannot be passed by.
                    break;
                }
                required = base;
            }
        }
    }
}

/// Keeps the events of a moment that a matching can need: as many per step as there are steps, since the others cannot take more. Gives all
/// steps that the moment can do.
fn keep_enough(steps: usize, moment: &[Item], kept: &mut Vec<(u32, u32)>) -> u32 {
    kept.clear();
    let mut possible = 0;
    let mut counts = [0usize; STEPS_MAX];
    for item in moment {
        let mut wanted = false;
        let mut mask = item.steps;
        while mask != 0 {
            let step = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            wanted |= counts[step] < steps;
            counts[step] += 1;
        }
        if wanted {
            kept.push((item.hit, item.steps));
        }
        possible |= item.steps;
    }
    possible
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::funnel::rule::FunnelSpec;

    #[test]
    fn a_moment_of_very_many_events_keeps_a_few() {
        let items: Vec<Item> = (0..10_000).map(|hit| Item { ts: 0, steps: 0b111, exclusions: 0, hit }).collect();
        let mut kept = Vec::new();
        assert_eq!(keep_enough(3, &items, &mut kept), 0b111);
        assert_eq!(kept.len(), 3);
    }

    #[test]
    fn ways_lead_through_distinct_events() {
        let rule = FunnelRule::new(FunnelSpec::ordered([0, 1, 2], 10, 0..1)).expect("a valid rule");
        // Event 7 can do steps 1 and 2, event 8 step 1 only: from the beginning to step 2, event 8 must do step 1.
        let items = [Item { ts: 0, steps: 0b011, exclusions: 0, hit: 7 }, Item { ts: 0, steps: 0b001, exclusions: 0, hit: 8 }];
        let mut found = Vec::new();
        ways(&rule, &items, &mut Vec::new(), |way| found.push((way.from, way.to, way.events[..way.to].to_vec())));
        assert_eq!(found, [(1, 2, vec![NOBODY, 7]), (0, 1, vec![7]), (0, 2, vec![8, 7])]);
    }
}
