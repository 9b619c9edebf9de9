//! Random conditions and lives.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::window::Window as OneWindow;
use segue_proto::query::v1::{
    Attribute, Behavior, BehaviorAggregate, Condition, ConditionList, EventSelector, EventSequence, Field, Operator, RandomBucket, Span,
    TimeRange, TimeUnit, Window, field,
};
use segue_tests::events::{text, timestamp};

use super::naive::Done;

pub const NAMES: [&str; 3] = ["open", "buy", "leave"];
const TIERS: [&str; 2] = ["gold", "plain"];
const SECOND_US: i64 = 1_000_000;

/// Draws what it is asked for.
pub struct Draw(StdRng);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound)
    }

    pub fn chance(&mut self, of_ten: u64) -> bool {
        self.below(10) < of_ten
    }

    fn names(&mut self) -> Vec<String> {
        let first = self.below(3) as usize;
        let count = 1 + usize::from(self.chance(2));
        (0..count).map(|more| NAMES[(first + more) % 3].to_owned()).collect()
    }

    fn selector(&mut self) -> Option<EventSelector> {
        Some(EventSelector { events: self.names(), filter: None })
    }

    fn span(&mut self, with_months: bool) -> Span {
        let (unit, most) = [(TimeUnit::Second, 90), (TimeUnit::Minute, 90), (TimeUnit::Hour, 30), (TimeUnit::Day, 6), (TimeUnit::Month, 1)]
            [self.below(if with_months { 5 } else { 4 }) as usize];
        Span { count: 1 + self.below(most) as u32, unit: unit.into() }
    }

    fn window(&mut self, start_us: i64) -> Option<Window> {
        let window = match self.below(10) {
            0 | 1 => return None,
            2 => {
                let from = start_us + self.below(4 * 86_400) as i64 * SECOND_US;
                let to = from + (1 + self.below(4 * 86_400) as i64) * SECOND_US;
                OneWindow::Absolute(TimeRange { start: Some(timestamp(from)), end: Some(timestamp(to)) })
            }
            _ => OneWindow::Last(self.span(true)),
        };
        Some(Window { window: Some(window) })
    }

    fn behavior(&mut self, start_us: i64) -> Behavior {
        let (aggregate, most) =
            [(BehaviorAggregate::Count, 3), (BehaviorAggregate::Sum, 12), (BehaviorAggregate::DistinctDays, 3)][self.below(3) as usize];
        let of = Field { field: Some(field::Field::Property("n".to_owned())) };
        let operator = [Operator::GreaterOrEqual, Operator::GreaterOrEqual, Operator::Less, Operator::In][self.below(4) as usize];
        let on = if self.chance(1) { Some(EventSelector::default()) } else { self.selector() };
        Behavior {
            on,
            window: self.window(start_us),
            aggregate: aggregate.into(),
            field: (aggregate == BehaviorAggregate::Sum).then_some(of),
            operator: operator.into(),
            values: vec![Value { kind: Some(Kind::IntValue(self.below(most) as i64 + 1)) }],
            ..Behavior::default()
        }
    }

    /// A condition with at most so many levels below the root.
    pub fn condition(&mut self, levels: u32, start_us: i64) -> Condition {
        let inner = levels > 0 && self.chance(6);
        let node = match (inner, self.below(10)) {
            (true, 0..=2) => Node::Not(Box::new(self.condition(levels - 1, start_us))),
            (true, kind) => {
                let count = 1 + self.below(3);
                let conditions = (0..count).map(|_| self.condition(levels - 1, start_us)).collect();
                let list = ConditionList { conditions };
                if kind < 7 { Node::All(list) } else { Node::Any(list) }
            }
            (false, 0..=5) => Node::Behavior(self.behavior(start_us)),
            (false, 6 | 7) => Node::Sequence(EventSequence {
                steps: vec![self.selector().unwrap_or_default(), self.selector().unwrap_or_default()],
                within: Some(self.span(false)),
                not_between: if self.chance(4) { self.selector() } else { None },
                window: self.window(start_us),
            }),
            (false, 8) => {
                let operator = if self.chance(7) { Operator::In } else { Operator::NotIn };
                let values = vec![text(TIERS[self.below(2) as usize])];
                Node::Attribute(Attribute { r#trait: "tier".to_owned(), operator: operator.into(), values, as_of: None })
            }
            (false, _) => Node::RandomBucket(RandomBucket { salt: "draw".to_owned(), from: 0, to: 5_000 }),
        };
        Condition { node: Some(node) }
    }

    /// What somebody does about now: mostly a moment ago, now and then days ago or a little ahead. No two things happen at one time.
    pub fn done(&mut self, users: usize, now_us: i64, number: usize) -> Done {
        let away = match self.below(10) {
            0..=4 => -(self.below(30) as i64),
            5 | 6 => -(self.below(7_200) as i64),
            7 | 8 => -(self.below(6 * 86_400) as i64),
            _ => self.below(3_600) as i64,
        };
        let is_statement = self.chance(2);
        Done {
            user: self.below(users as u64) as usize,
            name: NAMES[self.below(3) as usize],
            time_us: now_us + away * SECOND_US + number as i64,
            number: self.below(6) as i64,
            tier: is_statement.then(|| TIERS[self.below(2) as usize]),
        }
    }
}
