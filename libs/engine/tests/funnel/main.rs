//! Funnels: the cases of the semantics one by one, and random streams against a plain reference.

mod cases;
mod conversion;
mod reference;
mod same_as_reference;

use segue_engine::Hit;
use segue_engine::funnel::{Evaluator, FunnelRule, FunnelSpec, Outcome, Touch};

/// An event at a second.
fn hit(second: i64, sequence: u64, matches: u32) -> Hit<Touch> {
    Hit { ts: second, sequence, matches, payload: Touch::default() }
}

/// The events of a unit, `a` doing selector 0 and so on; any other letter than the first 16 matches nothing. Every word is
/// an event, `a@10` at second 10; without a time ten seconds after the one before. `ab` is one event that matches two selectors.
fn stream(text: &str) -> Vec<Hit<Touch>> {
    let mut now = -10;
    let mut hits = Vec::new();
    for (sequence, word) in text.split_whitespace().enumerate() {
        let (letters, second) = match word.split_once('@') {
            Some((letters, second)) => (letters, second.parse().expect("a second")),
            None => (word, now + 10),
        };
        now = second;
        let matches = letters
            .bytes()
            .map(|letter| letter.wrapping_sub(b'a'))
            .filter(|number| *number < 16)
            .fold(0, |bits, number| bits | (1 << number));
        hits.push(hit(second, sequence as u64, matches));
    }
    hits.sort_by_key(|hit| (hit.ts, hit.sequence));
    hits
}

/// A funnel over everything.
fn everything(selectors: &[u32], window: i64) -> FunnelSpec {
    FunnelSpec::ordered(selectors.iter().copied(), window, -1_000_000_000..1_000_000_000)
}

fn ask(spec: &FunnelSpec, hits: &[Hit<Touch>]) -> Outcome {
    let rule = FunnelRule::new(spec.clone()).expect("a valid funnel");
    let mut outcome = Outcome::default();
    Evaluator::new(&rule).evaluate(hits, &mut outcome);
    outcome
}
