//! What a run should do, said once more and plainly: times are seconds of UTC, steps are numbers, and nothing is stored or asked for.

use xxhash_rust::xxh3::xxh3_64;

use super::model::{DAYS, Happening, Model, NAMES, Node, To_, truth};

const DAY_S: i64 = 86_400;

#[derive(Debug)]
pub(super) struct Plain<'m> {
    model: &'m Model,
    entered_s: i64,
    at: usize,
    /// Until when it waits.
    until_s: Option<i64>,
    pub(super) ended: Option<&'static str>,
    /// Steps that were done, and when.
    pub(super) done: Vec<(usize, i64)>,
    pub(super) converted: usize,
    run: u64,
    person: u32,
}

impl<'m> Plain<'m> {
    pub(super) fn new(model: &'m Model, entered_s: i64, run: u64, person: u32) -> Self {
        Self { model, entered_s, at: 0, until_s: None, ended: None, done: Vec::new(), converted: 0, run, person }
    }

    pub(super) fn happens(&mut self, what: &Happening, now_s: i64) {
        match what {
            Happening::Go => {
                if self.ended.is_none() && self.until_s.is_none_or(|until| now_s >= until) {
                    self.walk(now_s);
                }
            }
            Happening::End => self.ended = self.ended.or(Some("call")),
            Happening::Audience { entered } => {
                if *entered && self.model.audience_exit {
                    self.ended = self.ended.or(Some("rule"));
                }
            }
            Happening::Event { name, is_of_key, ago } => self.event(*name, *is_of_key, now_s - ago, now_s),
        }
    }

    fn event(&mut self, name: usize, is_of_key: bool, time_s: i64, now_s: i64) {
        if time_s < self.entered_s {
            return;
        }
        if let Some((wanted, window)) = self.model.goal
            && self.converted == 0
            && NAMES[wanted] == NAMES[name]
            && time_s > self.entered_s
            && time_s - self.entered_s <= i64::from(window)
        {
            self.converted = 1;
        }
        if self.ended.is_some() {
            return;
        }
        if self.model.exit.is_some_and(|(wanted, key)| wanted == name && (is_of_key || !key)) {
            self.ended = Some("rule");
            return;
        }
        let (Some(until), Node::Event { arms, .. }) = (self.until_s, &self.model.nodes[self.at]) else { return };
        if now_s >= until && time_s > until {
            return;
        }
        if let Some((_, _, to)) = arms.iter().find(|(wanted, key, _)| *wanted == name && (is_of_key || !*key)) {
            self.leave(*to, now_s);
            if self.ended.is_none() {
                self.walk(now_s);
            }
        }
    }

    fn leave(&mut self, to: To_, now_s: i64) {
        self.done.push((self.at, now_s));
        self.until_s = None;
        match to {
            Some(to) => self.at = to,
            None => self.ended = Some("completed"),
        }
    }

    fn walk(&mut self, now_s: i64) {
        while self.ended.is_none() {
            let to = match &self.model.nodes[self.at] {
                Node::End => None,
                Node::Message(next) | Node::Update(next) | Node::List(next) => *next,
                Node::Branch { arms, next } => {
                    let taken = arms.iter().enumerate().find(|(arm, _)| truth(self.at, *arm, now_s));
                    taken.map_or(*next, |(_, to)| *to)
                }
                Node::Split(arms) => self.drawn(&format!("split:spring:s{}:{}:{}", self.at, self.run, self.done.len() + 1), arms),
                Node::Experiment(arms) => self.drawn(&format!("experiment:spring:s{}", self.at), arms),
                Node::Duration { seconds, next } => {
                    if !self.waited(now_s, |_| Some(now_s + i64::from(*seconds))) {
                        return;
                    }
                    *next
                }
                Node::Event { seconds, next, .. } => {
                    if !self.waited(now_s, |_| Some(now_s + i64::from(*seconds))) {
                        return;
                    }
                    *next
                }
                Node::Local { minute, next } => {
                    let second = i64::from(*minute) * 60;
                    // The first such minute that is not over and that this step was not left in or after.
                    let first = |last: Option<i64>| {
                        let mut from = now_s - now_s.rem_euclid(DAY_S) + second;
                        while from + 60 <= now_s || last.is_some_and(|last| last >= from) {
                            from += DAY_S;
                        }
                        (from > now_s).then_some(from)
                    };
                    if !self.waited(now_s, first) {
                        return;
                    }
                    *next
                }
                Node::Date { day, otherwise, next } => {
                    let date = day.checked_sub(1).map(|day| i64::from(DAYS[day as usize]) * DAY_S);
                    let is_to_come = |last: Option<i64>| date.is_some_and(|date| date >= now_s && last.is_none_or(|last| last < date));
                    if self.until_s.is_none() && !is_to_come(self.last_left()) {
                        otherwise.or(*next)
                    } else if self.waited(now_s, |_| date.filter(|date| *date > now_s)) {
                        *next
                    } else {
                        return;
                    }
                }
            };
            self.leave(to, now_s);
        }
    }

    /// Whether the wait is over; begins it where it has not begun.
    fn waited(&mut self, now_s: i64, until: impl Fn(Option<i64>) -> Option<i64>) -> bool {
        if let Some(until) = self.until_s {
            return now_s >= until;
        }
        self.until_s = until(self.last_left());
        self.until_s.is_none()
    }

    /// When this step was left last, of the last 50 that were.
    fn last_left(&self) -> Option<i64> {
        self.done.iter().rev().take(50).filter(|(at, _)| *at == self.at).map(|(_, when)| *when).max()
    }

    fn drawn(&self, salt: &str, arms: &[(u32, To_)]) -> To_ {
        let mut bytes = salt.as_bytes().to_vec();
        bytes.extend(self.person.to_le_bytes());
        let bucket = ((u128::from(xxh3_64(&bytes)) * 10_000) >> 64) as u64;
        let total: u64 = arms.iter().map(|arm| u64::from(arm.0)).sum();
        let mut upper = 0;
        for (weight, to) in arms {
            upper += u64::from(*weight);
            if bucket * total < upper * 10_000 {
                return *to;
            }
        }
        unreachable!("the shares add up to all")
    }
}
