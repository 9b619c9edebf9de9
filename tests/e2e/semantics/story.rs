//! Who does what in a case: each person is a short stream, made into events as a sender would send them.
//!
//! `a b@1h30m c{plan=pro,device=d1}` is event `a` at the start of the case, `b` an hour and a half after the start, and `c` ten seconds
//! after `b` with a property and a device. A time may also be absolute (`@2024-11-01T00:00:00Z`) or before the start (`@-7d`); units are
//! `d`, `h`, `m`, `s` (also without a unit) and `us`. `/1` is a view of that page; `identify{plan=pro}` states traits. In braces
//! stand `id` (message id), `device`, `session`, `account`, `items` (`category/name:price*quantity;…`), dimensions, and properties.

use anyhow::{Context, bail};
use segue_model::dimension;
use segue_proto::events::v1::{Event, EventKind, Item, Value, value::Kind};
use segue_tests::events::{event, identifier};

const SECOND_US: i64 = 1_000_000;
/// After the event before, where no time is given.
const STEP_US: i64 = 10 * SECOND_US;

/// What happens in a case.
#[derive(Debug)]
pub struct Story {
    /// Part of the ids of its persons, devices and messages, so that cases never meet.
    pub key: String,
    /// What the times of the streams and questions count from.
    pub start_us: i64,
    /// Streams of persons 1, 2, ….
    pub persons: Vec<String>,
}

impl Story {
    /// The user id of a person.
    pub fn user(&self, person: usize) -> String {
        format!("{}/{person}", self.key)
    }

    /// The moment that a text like `1h`, `-7d` or `2024-11-01T00:00:00Z` means here, in microseconds.
    pub fn time_us(&self, text: &str) -> anyhow::Result<i64> {
        if !text.contains('T') {
            return Ok(self.start_us + offset_us(text)?);
        }
        let time: prost_types::Timestamp = text.parse().with_context(|| format!("{text} is no time"))?;
        Ok(time.seconds * SECOND_US + i64::from(time.nanos / 1_000))
    }

    /// Its events, of each person in the order of the stream.
    pub fn events(&self) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        for (stream, person) in self.persons.iter().zip(1..) {
            let mut now_us = self.start_us - STEP_US;
            for (at, word) in stream.split_whitespace().enumerate() {
                let made = self.event(person, at, word, now_us + STEP_US).with_context(|| format!("{}: {word}", self.key))?;
                now_us = made.time.as_ref().map_or(now_us, |time| time.seconds * SECOND_US + i64::from(time.nanos / 1_000));
                events.push(made);
            }
        }
        Ok(events)
    }

    fn event(&self, person: usize, at: usize, word: &str, default_us: i64) -> anyhow::Result<Event> {
        let (head, details) = match word.split_once('{') {
            Some((head, details)) => (head, details.strip_suffix('}').context("a brace is not closed")?),
            None => (word, ""),
        };
        let (name, time_us) = match head.split_once('@') {
            Some((name, time)) => (name, self.time_us(time)?),
            None => (head, default_us),
        };
        let id = format!("{}/{person}/{at}", self.key);
        let mut made = event(&id, name, time_us, &[("user_id", &self.user(person))]);
        if name.starts_with('/') {
            made.name = "df_view_page".to_owned();
            made.context.get_or_insert_default().dimensions.insert("page_path".to_owned(), name.to_owned());
        }
        for detail in details.split(',').filter(|detail| !detail.is_empty()) {
            let (key, value) = detail.split_once('=').with_context(|| format!("{detail} is not key=value"))?;
            self.add(&mut made, key, value)?;
        }
        if name == "identify" {
            made.kind = EventKind::Identify as i32;
            made.name.clear();
            made.traits = std::mem::take(&mut made.properties);
        }
        Ok(made)
    }

    fn add(&self, event: &mut Event, key: &str, value: &str) -> anyhow::Result<()> {
        let context = event.context.get_or_insert_default();
        match key {
            "id" => event.message_id = format!("{}/{value}", self.key),
            "device" => event.identifiers.push(identifier("device_id", &format!("{}/{value}", self.key))),
            "session" => context.session_id = value.to_owned(),
            "account" => context.account_id = format!("{}/{value}", self.key),
            "items" => event.items = value.split(';').map(item).collect::<anyhow::Result<_>>()?,
            _ if dimension::by_name(key).is_some() => {
                context.dimensions.insert(key.to_owned(), value.to_owned());
            }
            _ => {
                let kind = value.parse().map_or_else(|_| Kind::StringValue(value.to_owned()), Kind::IntValue);
                event.properties.insert(key.to_owned(), Value { kind: Some(kind) });
            }
        }
        Ok(())
    }
}

/// `category/name:price*quantity`; all but the signs between may be left out.
fn item(text: &str) -> anyhow::Result<Item> {
    let (what, worth) = text.split_once(':').context("an item has no `:`")?;
    let (category, name) = what.split_once('/').unwrap_or((what, ""));
    let (price, quantity) = worth.split_once('*').context("an item has no `*`")?;
    let number = |text: &str| if text.is_empty() { Ok(None) } else { text.parse::<i64>().map(Some) };
    Ok(Item {
        name: name.to_owned(),
        categories: if category.is_empty() { Vec::new() } else { vec![category.to_owned()] },
        price_e4: number(price)?.map(|price| price * 10_000),
        quantity: number(quantity)?,
        ..Default::default()
    })
}

/// Microseconds of a length like `1h30m`, `-7d` or `300`.
pub fn offset_us(text: &str) -> anyhow::Result<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut total = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit_us = match unit {
            "d" => 86_400 * SECOND_US,
            "h" => 3_600 * SECOND_US,
            "m" => 60 * SECOND_US,
            "s" | "" => SECOND_US,
            "us" => 1,
            _ => bail!("{unit} is no unit of time"),
        };
        total += number.parse::<i64>().with_context(|| format!("{text} is no length of time"))? * unit_us;
        rest = tail;
    }
    Ok(sign * total)
}
