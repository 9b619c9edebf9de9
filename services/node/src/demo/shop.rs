//! The simulated shop: visitors browse without an account, some sign up or log in, some buy. The same size and times give the
//! same events.

use std::collections::HashMap;

use prost_types::Timestamp;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use segue_proto::events::v1::{Context, Event, EventKind, Identifier, Item, Value, value};

const CATEGORIES: [(&str, &[(&str, i64)]); 4] = [
    ("shoes", &[("Runner", 899_000), ("Boot", 1_490_000), ("Sandal", 395_000)]),
    ("bags", &[("Tote", 590_000), ("Backpack", 799_000)]),
    ("outdoor", &[("Tent", 3_290_000), ("Lamp", 249_000), ("Stove", 645_000)]),
    ("kids", &[("Blocks", 299_000), ("Scooter", 990_000)]),
];
const PLATFORMS: [&str; 3] = ["android", "ios", "web"];
const SOURCES: [&str; 5] = ["", "search", "newsletter", "social", "partner"];
/// About so many events a visitor makes in all.
const EVENTS_PER_VISITOR: usize = 25;

/// A shop with its visitors.
pub(super) struct Shop {
    rng: StdRng,
    visitors: usize,
    events_wanted: usize,
    start_us: i64,
    end_us: i64,
    run: String,
    events: Vec<(i64, Event)>,
}

struct Visitor {
    number: usize,
    anonymous_id: String,
    device_id: String,
    platform: &'static str,
    utm_source: &'static str,
    logged_in: bool,
}

impl Shop {
    /// A shop that is visited between two moments, with about so many events.
    pub(super) fn new(events_wanted: usize, start_us: i64, end_us: i64) -> Self {
        // Ids carry the time of the run: a second run is another fortnight of the same customers, not a repetition.
        let run = (end_us / 1_000_000).to_string();
        let visitors = (events_wanted / EVENTS_PER_VISITOR).max(1);
        Self { rng: StdRng::seed_from_u64(7), visitors, events_wanted, start_us, end_us, run, events: Vec::new() }
    }

    /// All events in the order in which they arrive.
    pub(super) fn events(mut self) -> Vec<Event> {
        let mut visitors: Vec<Visitor> = (0..self.visitors).map(|number| self.visitor(number)).collect();
        while self.events.len() < self.events_wanted {
            let at = self.rng.random_range(0..visitors.len());
            let start_us = self.rng.random_range(self.start_us..self.end_us - 3_600_000_000);
            self.session(&mut visitors[at], start_us);
        }
        self.events.sort_by_key(|(time_us, _)| *time_us);
        let mut events: Vec<Event> = self.events.into_iter().map(|(_, event)| event).collect();
        spoil(&mut events);
        events
    }

    fn visitor(&mut self, number: usize) -> Visitor {
        Visitor {
            number,
            anonymous_id: format!("anon-{number}"),
            device_id: format!("device-{number}"),
            platform: PLATFORMS.choose(&mut self.rng).copied().unwrap_or("web"),
            utm_source: SOURCES.choose(&mut self.rng).copied().unwrap_or(""),
            logged_in: false,
        }
    }

    /// One visit: browse, perhaps log in, perhaps buy.
    fn session(&mut self, visitor: &mut Visitor, start_us: i64) {
        let session = format!("{}-{}", visitor.number, self.events.len());
        let mut time_us = start_us;
        self.push(visitor, &session, &mut time_us, "df_app_open", |_| {});
        for _ in 0..self.rng.random_range(1..8) {
            let (category, item) = self.choose_item();
            self.push(visitor, &session, &mut time_us, "df_view_product_details", |event| event.items.push(item.clone()));
            if self.rng.random_bool(0.15) {
                let category = category.to_owned();
                self.push(visitor, &session, &mut time_us, "df_view_search_result", |event| {
                    event.properties.insert("df_keyword".to_owned(), text(&category));
                });
            }
            if self.rng.random_bool(0.25) {
                self.push(visitor, &session, &mut time_us, "df_add_to_cart", |event| event.items.push(item));
            }
        }
        if !visitor.logged_in && self.rng.random_bool(0.3) {
            visitor.logged_in = true;
            self.push(visitor, &session, &mut time_us, "df_login", |_| {});
            self.identify(visitor, &mut time_us);
        }
        if visitor.logged_in && self.rng.random_bool(0.35) {
            self.push(visitor, &session, &mut time_us, "df_begin_checkout", |_| {});
            let order = format!("order-{session}");
            let (_, item) = self.choose_item();
            self.push(visitor, &session, &mut time_us, "df_purchase", |event| {
                event.items.push(item);
                event.properties.insert("df_order_id".to_owned(), text(&order));
                event.properties.insert("df_payment_method".to_owned(), text("card"));
            });
        }
    }

    fn choose_item(&mut self) -> (&'static str, Item) {
        let (category, products) = CATEGORIES[self.rng.random_range(0..CATEGORIES.len())];
        let (name, price_e4) = products[self.rng.random_range(0..products.len())];
        let item = Item {
            item_id: name.to_lowercase(),
            name: name.to_owned(),
            price_e4: Some(price_e4),
            quantity: Some(self.rng.random_range(1..4)),
            categories: vec![category.to_owned()],
            ..Default::default()
        };
        (category, item)
    }

    fn push(&mut self, visitor: &Visitor, session: &str, time_us: &mut i64, name: &str, fill: impl FnOnce(&mut Event)) {
        *time_us += self.rng.random_range(2_000_000..90_000_000);
        let mut event = Event {
            message_id: format!("demo-{}-{}", self.run, self.events.len()),
            kind: EventKind::Track as i32,
            name: name.to_owned(),
            time: Some(timestamp(*time_us)),
            identifiers: identifiers(visitor),
            context: Some(Context {
                platform: visitor.platform.to_owned(),
                source_type: if visitor.platform == "web" { "web" } else { "app" }.to_owned(),
                utm_source: visitor.utm_source.to_owned(),
                session_id: session.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        fill(&mut event);
        self.events.push((*time_us, event));
    }

    fn identify(&mut self, visitor: &Visitor, time_us: &mut i64) {
        let membership = if self.rng.random_bool(0.2) { "gold" } else { "basic" };
        let traits = HashMap::from([
            ("df_name".to_owned(), text(&format!("Customer {}", visitor.number))),
            ("df_membership".to_owned(), text(membership)),
        ]);
        self.push(visitor, "", time_us, "", |event| {
            event.kind = EventKind::Identify as i32;
            event.traits = traits;
        });
    }
}

fn identifiers(visitor: &Visitor) -> Vec<Identifier> {
    let identifier = |kind: &str, value: String| Identifier { kind: kind.to_owned(), value };
    let mut identifiers =
        vec![identifier("anonymous_id", visitor.anonymous_id.clone()), identifier("device_id", visitor.device_id.clone())];
    if visitor.logged_in {
        identifiers.push(identifier("user_id", format!("customer-{}", visitor.number)));
    }
    identifiers
}

fn text(text: &str) -> Value {
    Value { kind: Some(value::Kind::StringValue(text.to_owned())) }
}

fn timestamp(time_us: i64) -> Timestamp {
    Timestamp { seconds: time_us.div_euclid(1_000_000), nanos: (time_us.rem_euclid(1_000_000) * 1_000) as i32 }
}

/// What real senders do too: now and then an event without anybody, one from 1970, and one that is sent twice.
fn spoil(events: &mut Vec<Event>) {
    let repeated: Vec<Event> = events.iter().skip(50).step_by(500).cloned().collect();
    for event in events.iter_mut().skip(100).step_by(1_000) {
        event.identifiers.clear();
    }
    for event in events.iter_mut().skip(600).step_by(1_000) {
        event.time = Some(timestamp(0));
    }
    events.extend(repeated);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_shop_sends_the_same_events_with_distinct_ids_save_the_repeated_ones() {
        let make = || Shop::new(2_000, 0, 14 * 86_400_000_000).events();
        let events = make();
        assert_eq!(events, make());
        let ids: std::collections::HashSet<_> = events.iter().map(|event| event.message_id.as_str()).collect();
        assert!(ids.len() < events.len() && ids.len() >= 2_000);
    }
}
