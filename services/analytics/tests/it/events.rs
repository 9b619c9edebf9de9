//! Random events with a bit of everything, the same in every run; and who did an event.

use segue_proto::events::v1::{DimensionValue, EventKind, Item, ResolvedEvent, Value, value::Kind};
use segue_proto::query::v1::{Behavior, Condition, EventSelector, condition};

pub const DAY_US: i64 = 86_400_000_000;
/// 2026-11-01.
pub const START_US: i64 = 20_758 * DAY_US;

/// Random numbers that are the same in every run (xorshift).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Whoever has done this at least once.
pub fn did(name: &str) -> Condition {
    let on = EventSelector { events: vec![name.to_owned()], filter: None };
    Condition { node: Some(condition::Node::Behavior(Behavior { on: Some(on), ..Behavior::default() })) }
}

pub fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

/// An event with a bit of everything, each of it missing at times.
fn event(dice: &mut Dice, number: usize) -> ResolvedEvent {
    let names = ["df_purchase", "df_view_home", "df_login", "custom"];
    let days = if dice.one_in(20) { dice.below(400) as i64 } else { dice.below(3) as i64 };
    let time_us = START_US + days * DAY_US + dice.below(1_000) as i64 * 60_000_000;
    let mut event = ResolvedEvent {
        person: 1 + dice.below(40) as u32 * 5_000,
        device: dice.below(9) as u32,
        time_us,
        received_at_us: time_us + 5,
        name: names[dice.below(4) as usize].to_owned(),
        message_id: format!("m{number}"),
        kind: EventKind::Track as i32,
        source: if dice.one_in(2) { "shop".to_owned() } else { String::new() },
        session_id: if dice.one_in(3) { format!("s{}", dice.below(9)) } else { String::new() },
        original_name: if dice.one_in(5) { "Order Completed".to_owned() } else { String::new() },
        ..ResolvedEvent::default()
    };
    for code in [1, 2, 5] {
        if dice.one_in(2) {
            // The empty text is a value; not having one is another thing.
            let text = ["", "ios", "android"][dice.below(3) as usize];
            event.dimensions.push(DimensionValue { code, value: text.to_owned() });
        }
    }
    let properties = [
        ("plan", Kind::StringValue(format!("p{}", dice.below(4)))),
        ("count", Kind::IntValue(dice.below(100) as i64 - 50)),
        ("ratio", Kind::DoubleValue(dice.below(100) as f64 + 0.25)),
        ("vip", Kind::BoolValue(dice.one_in(2))),
        ("paid", Kind::DecimalE4Value(dice.below(1_000_000) as i64 - 500_000)),
        ("raw", Kind::JsonValue("[1,2]".to_owned())),
    ];
    for (name, kind) in properties {
        if dice.one_in(3) {
            event.properties.insert(name.to_owned(), value(kind));
        }
    }
    if dice.one_in(6) {
        event.traits.insert("df_membership".to_owned(), value(Kind::StringValue(format!("m{}", dice.below(3)))));
        event.traits.insert("visits".to_owned(), value(Kind::IntValue(dice.below(100) as i64)));
    }
    if dice.one_in(4) {
        event.unregistered.insert("loose".to_owned(), value(Kind::StringValue(format!("\"x\" {}", dice.below(3)))));
    }
    if event.name == "df_purchase" {
        for at in 0..dice.below(4) {
            event.items.push(Item {
                item_id: format!("i{at}"),
                price_e4: (!dice.one_in(4)).then(|| dice.below(1_000_000) as i64),
                quantity: (!dice.one_in(4)).then(|| dice.below(5) as i64),
                categories: ["shoes", "red"].iter().take(dice.below(3) as usize).map(|text| (*text).to_owned()).collect(),
                ..Item::default()
            });
        }
    }
    event
}

pub fn events(seed: u64, count: usize) -> Vec<ResolvedEvent> {
    let mut dice = Dice(seed);
    (0..count).map(|number| event(&mut dice, number)).collect()
}
