//! The plain reference: every choice of events for steps is tried and held against the words of the rules.

use std::collections::BTreeSet;

use segue_engine::Hit;
use segue_engine::funnel::{Breakdown, Exclusion, FunnelSpec, NO_VALUE, Order, Scope, Touch};

pub type Stream = Vec<Hit<Touch>>;
/// Time, and the place among the events that have it where that matters.
pub type Moment = (i64, usize);

/// A choice of events: by step where they have an order, by time in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub events: Vec<Option<Hit<Touch>>>,
    /// When the last of them happened.
    completed: Moment,
}

/// Deeper, then completed earlier, then more steps done, then started later; smaller is better.
pub type Rank = (std::cmp::Reverse<usize>, Moment, std::cmp::Reverse<usize>, std::cmp::Reverse<i64>);

impl Choice {
    pub fn depth(&self) -> usize {
        self.events.len()
    }

    fn done(&self) -> impl Iterator<Item = &Hit<Touch>> {
        self.events.iter().flatten()
    }

    pub fn start(&self) -> i64 {
        self.done().next().expect("never empty").ts
    }

    fn last(&self) -> i64 {
        self.done().last().expect("never empty").ts
    }

    pub fn rank(&self) -> Rank {
        let reverse = std::cmp::Reverse::<usize>;
        (reverse(self.depth()), self.completed, reverse(self.done().count()), std::cmp::Reverse(self.start()))
    }

    pub fn times(&self) -> Vec<Option<i64>> {
        self.events.iter().map(|event| event.map(|event| event.ts)).collect()
    }

    pub fn value(&self, breakdown: Breakdown) -> u32 {
        let mut valued = self.done().map(|event| event.payload.value).filter(|value| *value != NO_VALUE);
        match breakdown {
            Breakdown::AtStep(step) => self.events.get(step - 1).copied().flatten().map_or(NO_VALUE, |event| event.payload.value),
            Breakdown::FirstTouch => valued.next().unwrap_or(NO_VALUE),
            Breakdown::LastTouch => valued.last().unwrap_or(NO_VALUE),
        }
    }
}

/// What may be chosen from.
pub struct Reference<'a> {
    pub spec: &'a FunnelSpec,
    pub stream: &'a [Hit<Touch>],
    /// Earliest and latest first event.
    pub starts: (i64, i64),
}

impl Reference<'_> {
    fn steps(&self) -> usize {
        self.spec.steps.len()
    }

    /// Every choice that the rules allow.
    pub fn choices(&self) -> Vec<Choice> {
        let mut found = Vec::new();
        match self.spec.order {
            Order::Ordered | Order::Strict => self.in_order(&mut Vec::new(), &mut found),
            Order::Any => self.any_order(0, &mut Vec::new(), &mut found),
        }
        found.retain(|choice| self.allowed(choice));
        found.iter_mut().for_each(|choice| choice.completed = self.last_moment(choice));
        found
    }

    fn in_order(&self, chosen: &mut Vec<Option<Hit<Touch>>>, found: &mut Vec<Choice>) {
        let Some(step) = self.spec.steps.get(chosen.len()) else { return };
        let after = chosen.iter().flatten().last().map_or(i64::MIN, |event| event.ts);
        for event in self.stream {
            if event.is(step.selector as usize) && event.ts >= after && !chosen.contains(&Some(*event)) {
                chosen.push(Some(*event));
                found.push(Choice { events: chosen.clone(), completed: (0, 0) });
                self.in_order(chosen, found);
                chosen.pop();
            }
        }
        if step.optional {
            chosen.push(None);
            self.in_order(chosen, found);
            chosen.pop();
        }
    }

    fn any_order(&self, step: usize, chosen: &mut Vec<Hit<Touch>>, found: &mut Vec<Choice>) {
        let Some(asked) = self.spec.steps.get(step) else {
            if !chosen.is_empty() {
                let mut events = chosen.clone();
                events.sort_by_key(|event| (event.ts, event.sequence));
                found.push(Choice { events: events.into_iter().map(Some).collect(), completed: (0, 0) });
            }
            return;
        };
        self.any_order(step + 1, chosen, found);
        for event in self.stream {
            if event.is(asked.selector as usize) && !chosen.contains(event) {
                chosen.push(*event);
                self.any_order(step + 1, chosen, found);
                chosen.pop();
            }
        }
    }

    fn allowed(&self, choice: &Choice) -> bool {
        let (start, last) = (choice.start(), choice.last());
        (self.starts.0..=self.starts.1).contains(&start)
            && last - start <= self.spec.window_us
            && (self.spec.order != Order::Strict || self.are_neighbours(choice))
            && self.spec.exclusions.iter().all(|exclusion| {
                let Some((from, to)) = self.between(choice, exclusion) else { return true };
                let between = from..to.unwrap_or_else(|| self.last_moment(choice));
                !self.stream.iter().any(|event| {
                    let at = self.moment(event);
                    event.is(exclusion.selector as usize) && between.start < at && at < between.end
                })
            })
    }

    fn are_neighbours(&self, choice: &Choice) -> bool {
        let places: Vec<usize> = choice.done().map(|event| self.place(event)).collect();
        places.windows(2).all(|pair| pair[1] == pair[0] + 1)
    }

    /// When an event happened: events of equal time are one moment, save in strict order, where the log's order parts them.
    pub fn moment(&self, event: &Hit<Touch>) -> Moment {
        (event.ts, if self.spec.order == Order::Strict { self.place(event) } else { 0 })
    }

    /// Where an event stands among all of the stream.
    fn place(&self, event: &Hit<Touch>) -> usize {
        self.stream.iter().position(|other| other == event).expect("an event of the stream")
    }

    pub fn first_moment(&self, choice: &Choice) -> Moment {
        self.moment(choice.done().next().expect("never empty"))
    }

    pub fn last_moment(&self, choice: &Choice) -> Moment {
        self.moment(choice.done().last().expect("never empty"))
    }

    /// The moments between which an exclusion must not lie; without an end if the choice has not got there.
    fn between(&self, choice: &Choice, exclusion: &Exclusion) -> Option<(Moment, Option<Moment>)> {
        if self.spec.order == Order::Any {
            return Some((self.first_moment(choice), (choice.depth() == self.steps()).then(|| self.last_moment(choice))));
        }
        let first_from =
            |step: usize| choice.events.iter().enumerate().skip(step - 1).find_map(|(at, event)| Some((at, self.moment(event.as_ref()?))));
        let (at, from) = first_from(exclusion.from_step)?;
        (at + 1 < exclusion.to_step).then(|| (from, first_from(exclusion.to_step).map(|(_, ts)| ts)))
    }

    /// Whether a choice can still get further after all events of which `seen` says so.
    fn goes_on(&self, choice: &Choice, seen: impl Fn(Moment) -> bool) -> bool {
        let expires = choice.start() + self.spec.window_us;
        let met = |event: &&Hit<Touch>| seen(self.moment(event)) && event.ts <= expires;
        let last = choice.done().last().expect("never empty");
        let broken = self.spec.order == Order::Strict && self.stream.get(self.place(last) + 1).is_some_and(|next| met(&next));
        let excluded = self.spec.exclusions.iter().any(|exclusion| {
            let Some((from, None)) = self.between(choice, exclusion) else { return false };
            self.stream.iter().filter(met).any(|event| event.is(exclusion.selector as usize) && from < self.moment(event))
        });
        !broken && !excluded
    }

    /// Whether an attempt may still get further at the watermark.
    pub fn still_open(&self, choices: &[Choice]) -> bool {
        let open = |choice: &Choice| self.spec.watermark_us.is_some_and(|watermark| choice.start() + self.spec.window_us >= watermark);
        choices.iter().any(|choice| open(choice) && self.goes_on(choice, |_| true))
    }

    /// Whether an exclusion removes the unit.
    pub fn removed(&self, choices: &[Choice]) -> bool {
        let complete = choices.iter().filter(|choice| choice.depth() == self.steps()).map(|choice| self.last_moment(choice)).min();
        let not_complete = |at: Moment| complete.is_none_or(|complete| at < complete);
        self.spec.exclusions.iter().filter(|exclusion| exclusion.scope == Scope::Unit).any(|exclusion| {
            let selected = self.stream.iter().filter(|event| event.is(exclusion.selector as usize));
            selected.map(|event| (event.ts, self.moment(event))).filter(|(_, at)| not_complete(*at)).any(|(ts, at)| {
                choices.iter().any(|choice| {
                    // Met by the exclusion, alive until just before.
                    let passed = |other: &Choice| {
                        let far =
                            if self.spec.order == Order::Any { other.depth() == self.steps() } else { other.depth() >= exclusion.to_step };
                        far && self.last_moment(other) <= at && other.start() >= choice.start()
                    };
                    self.last_moment(choice) < at
                        && ts - choice.start() <= self.spec.window_us
                        && self.between(choice, exclusion).is_some_and(|(from, to)| from < at && to.is_none())
                        && self.goes_on(choice, |seen| seen < at)
                        && !choices.iter().any(passed)
                })
            })
        })
    }

    /// When everything that began has come to its end without being completed, because of what came after.
    pub fn ended(&self, choices: &[Choice]) -> Option<Moment> {
        let moments: BTreeSet<Moment> = self.stream.iter().map(|event| self.moment(event)).collect();
        let alive = |at: Moment, seen: &dyn Fn(Moment) -> bool| {
            choices.iter().any(|choice| {
                self.first_moment(choice) < at
                    && seen(self.last_moment(choice))
                    && at.0 - choice.start() <= self.spec.window_us
                    && self.goes_on(choice, seen)
            })
        };
        moments.into_iter().find(|at| alive(*at, &|seen| seen < *at) && !alive(*at, &|seen| seen <= *at))
    }
}

/// The streams of a unit: one per held value, all of it under strict order with what is not of that value matching nothing.
pub fn streams(spec: &FunnelSpec, hits: &[Hit<Touch>]) -> Vec<Stream> {
    if !spec.hold {
        return vec![hits.to_vec()];
    }
    let keys: BTreeSet<u32> = hits.iter().map(|hit| hit.payload.held).filter(|held| *held != NO_VALUE).collect();
    let only = |key: u32| hits.iter().map(move |hit| if hit.payload.held == key { *hit } else { Hit { matches: 0, ..*hit } }).collect();
    keys.into_iter().map(only).collect()
}

/// Sessions, cut where the gap is over the limit.
pub fn sessions(hits: &[Hit<Touch>], gap: i64) -> Vec<Stream> {
    let mut sessions: Vec<Stream> = Vec::new();
    for hit in hits {
        match sessions.last_mut() {
            Some(session) if session.last().is_some_and(|last| hit.ts - last.ts <= gap) => session.push(*hit),
            _ => sessions.push(vec![*hit]),
        }
    }
    sessions
}
