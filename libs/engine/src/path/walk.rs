//! The paths of one person, one session at a time: the rules in plain steps.
//!
//! The tally uses it wherever a path depends on how the session goes on (an `end`) or persons are told apart, and a drill-down uses it
//! to find who took an edge. [`super::stream`] is the short cut for the rest.

use super::Rules;

/// One step of a path: equal neighbours, collapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// Node code; the number of nodes stands for [`super::Node::Cut`].
    pub node: u32,
    /// Time of the last hit of the visit.
    pub ts: i64,
}

/// Makes paths of hits. Keeps its memory from person to person.
#[derive(Debug, Clone)]
pub struct Walk {
    rules: Rules,
    nodes: u32,
    session: Vec<Visit>,
}

impl Walk {
    /// For a question over `nodes` nodes, whose codes are `0..nodes`.
    pub fn new(rules: Rules, nodes: u32) -> Walk {
        Walk { rules, nodes, session: Vec::new() }
    }

    /// Calls `each` with every path of a person, given (time, node code) in order.
    pub fn person(&mut self, hits: impl Iterator<Item = (i64, u32)>, mut each: impl FnMut(&[Visit])) {
        self.session.clear();
        let mut before = None;
        for (ts, node) in hits {
            if before.is_some_and(|before| self.rules.breaks(before, ts)) {
                self.path(&mut each);
            }
            before = Some(ts);
            if node >= self.nodes {
                continue;
            }
            match self.session.last_mut() {
                Some(visit) if visit.node == node && !self.rules.keep_repeats => visit.ts = ts,
                _ => self.session.push(Visit { node, ts }),
            }
        }
        self.path(&mut each);
    }

    /// Ends the session: what is left of it after anchors and limit goes to `each`.
    fn path(&mut self, each: &mut impl FnMut(&[Visit])) {
        if let Some((from, until)) = self.anchored() {
            self.session.truncate(until);
            self.session.drain(..from);
            self.limit();
            each(&self.session);
        }
        self.session.clear();
    }

    /// Which visits of the session lie between the anchors; nothing if it takes no part.
    fn anchored(&self) -> Option<(usize, usize)> {
        let place = |from: usize, node: u32| Some(from + self.session.get(from..)?.iter().position(|visit| visit.node == node)?);
        let from = match self.rules.start {
            Some(start) => place(0, start)?,
            None => 0,
        };
        let until = match self.rules.end {
            Some(end) => place(from, end)? + 1,
            None => self.session.len(),
        };
        (from < until).then_some((from, until))
    }

    /// Takes out what is over the limit.
    fn limit(&mut self) {
        let most = self.rules.nodes_max as usize;
        let Some(over) = self.session.len().checked_sub(most).filter(|over| *over > 0) else { return };
        match (self.rules.start, self.rules.end) {
            (_, None) => self.session.truncate(most),
            (None, Some(_)) => drop(self.session.drain(..over)),
            (Some(_), Some(_)) => {
                let half = most / 2;
                let end = self.session.len() - half;
                let cut = self.session.get(half).map(|first| Visit { node: self.nodes, ts: first.ts });
                self.session.splice(half..end, cut);
            }
        }
    }
}
