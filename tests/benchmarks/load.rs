//! The load: batches of shop events, encoded once. For each send only the message ids (and times, if they are to be those of sending) in
//! the encoded bytes are changed, so that the generator takes little of the processor that it shares with what is measured.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost_types::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use segue_proto::events::v1::{Context, Event, EventKind, Identifier, Item, Value, value};
use segue_proto::ingest::v1::{TrackRequest, TrackResponse};
use segue_tests::events::timestamp;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::sender::now_us;

/// Digits of a message id.
const ID_DIGITS: usize = 16;
/// Where the time of sending is to stand: a number of seconds that takes as many bytes as those of our time.
const SENDING_S: i64 = (1 << 35) - 1;
/// A timestamp's seconds, before its bytes.
const SECONDS_TAG: u8 = 1 << 3;
const SECONDS_BYTES: usize = 5;
const NAMES: [&str; 8] = [
    "df_app_open",
    "df_view_home",
    "df_view_product_details",
    "df_view_list",
    "df_add_to_cart",
    "df_begin_checkout",
    "df_purchase",
    "coupon_issued",
];

/// One encoded batch and where its ids and times of sending stand.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    ids: Vec<usize>,
    times: Vec<usize>,
}

/// The id of an event of a template.
pub(crate) fn id_mark() -> String {
    "#".repeat(ID_DIGITS)
}

/// The time of an event that is to happen when it is sent, to the second.
pub(crate) fn time_mark() -> Timestamp {
    Timestamp { seconds: SENDING_S, nanos: 0 }
}

/// Batches of events of `persons` persons within the day that ends at `end_us`.
pub(crate) fn grpc_templates(batches: usize, batch_events: usize, persons: u32, end_us: i64) -> Vec<Template> {
    let mut rng = StdRng::seed_from_u64(1);
    (0..batches)
        .map(|_| {
            let events = (0..batch_events).map(|_| event(&mut rng, persons, end_us)).collect();
            Template::of_events(events)
        })
        .collect()
}

/// The same as bodies of the HTTP batch call.
pub(crate) fn http_templates(batches: usize, batch_events: usize, persons: u32) -> Vec<Template> {
    let mut rng = StdRng::seed_from_u64(2);
    (0..batches)
        .map(|_| {
            let events: Vec<_> = (0..batch_events)
                .map(|_| {
                    let person = rng.random_range(0..persons);
                    serde_json::json!({
                        "type": "track", "messageId": "#".repeat(ID_DIGITS), "event": NAMES[rng.random_range(0..NAMES.len())],
                        "userId": format!("user-{person}"), "anonymousId": format!("anon-{person}"),
                        "properties": {"product_id": format!("p{}", rng.random_range(0..500)), "price": 12.5, "quantity": 2, "list": "summer"},
                        "context": {"locale": "ko-KR", "page": {"path": "/products", "url": "https://shop.example/products?utm_source=search"}},
                    })
                })
                .collect();
            Template::new(serde_json::json!({ "batch": events }).to_string().into_bytes())
        })
        .collect()
}

/// An event of each person as of its sending, in turn, of which so many percent put something into a cart.
pub(crate) fn cart_templates(persons: u32, batch_events: usize, percent: u32) -> Vec<Template> {
    // In an order in which neighbours have nothing to do with each other.
    let numbers: Vec<u32> = (0..persons).map(|number| (u64::from(number) * 7_919 % u64::from(persons)) as u32).collect();
    let event = |number: &u32| Event {
        message_id: id_mark(),
        kind: EventKind::Track as i32,
        name: if number % 100 < percent { "cart" } else { "look" }.to_owned(),
        time: Some(time_mark()),
        identifiers: vec![Identifier { kind: "user_id".to_owned(), value: format!("user-{number}") }],
        ..Event::default()
    };
    numbers.chunks(batch_events).map(|chunk| Template::of_events(chunk.iter().map(event).collect())).collect()
}

fn event(rng: &mut StdRng, persons: u32, end_us: i64) -> Event {
    let person = rng.random_range(0..persons);
    let text = |text: String| Value { kind: Some(value::Kind::StringValue(text)) };
    let name = NAMES[rng.random_range(0..NAMES.len())];
    let items = (name == "df_purchase" || name == "df_add_to_cart")
        .then(|| Item {
            item_id: format!("p{}", rng.random_range(0..500)),
            price_e4: Some(rng.random_range(1..500) * 10_000),
            quantity: Some(rng.random_range(1..4)),
            categories: vec![format!("category-{}", rng.random_range(0..20))],
            ..Default::default()
        })
        .into_iter()
        .collect();
    Event {
        message_id: id_mark(),
        kind: EventKind::Track as i32,
        name: name.to_owned(),
        time: Some(timestamp(end_us - rng.random_range(0..86_400_000_000))),
        identifiers: vec![
            Identifier { kind: "user_id".to_owned(), value: format!("user-{person}") },
            Identifier { kind: "device_id".to_owned(), value: format!("device-{person}") },
        ],
        properties: [
            ("list".to_owned(), text(format!("list-{}", rng.random_range(0..10)))),
            ("position".to_owned(), Value { kind: Some(value::Kind::IntValue(rng.random_range(1..40))) }),
        ]
        .into(),
        items,
        context: Some(Context {
            platform: ["android", "ios", "web"][rng.random_range(0..3)].to_owned(),
            app_version: "7.1.0".to_owned(),
            os_name: "Android".to_owned(),
            os_version: "16".to_owned(),
            device_language: "ko-KR".to_owned(),
            session_id: format!("s{}-{}", person, rng.random_range(0..4)),
            utm_source: ["", "search", "newsletter"][rng.random_range(0..3)].to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl Template {
    fn new(bytes: Vec<u8>) -> Self {
        let places = |mark: &[u8]| {
            let mut places = Vec::new();
            let mut at = 0;
            while at + mark.len() <= bytes.len() {
                if bytes[at..at + mark.len()] == *mark {
                    places.push(at);
                    at += mark.len();
                } else {
                    at += 1;
                }
            }
            places
        };
        let ids = places(id_mark().as_bytes());
        let times = places(&seconds(SENDING_S)).into_iter().map(|tag| tag + 1).collect();
        Self { bytes, ids, times }
    }

    /// A batch of events with marks for ids.
    pub(crate) fn of_events(events: Vec<Event>) -> Self {
        Self::new(TrackRequest { events }.encode_to_vec())
    }

    /// How many events are in it.
    pub(crate) fn events(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The batch with ids `first`, `first + 1`, …, as of now.
    pub(crate) fn with_ids(&self, first: u64) -> Bytes {
        let mut bytes = self.bytes.clone();
        let now = seconds(now_us().div_euclid(1_000_000));
        for at in &self.times {
            bytes[*at..*at + SECONDS_BYTES].copy_from_slice(&now[1..]);
        }
        for (id, at) in (first..).zip(&self.ids) {
            let mut rest = id;
            for digit in bytes[*at..at + ID_DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        Bytes::from(bytes)
    }
}

/// A timestamp's seconds, encoded.
fn seconds(seconds: i64) -> [u8; 1 + SECONDS_BYTES] {
    let mut bytes = [SECONDS_TAG; 1 + SECONDS_BYTES];
    for (at, byte) in bytes[1..].iter_mut().enumerate() {
        let more = if at + 1 < SECONDS_BYTES { 0x80 } else { 0 };
        *byte = (seconds >> (7 * at)) as u8 & 0x7F | more;
    }
    bytes
}

/// Sends encoded requests as they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EncodedTrack;

impl Codec for EncodedTrack {
    type Encode = Bytes;
    type Decode = TrackResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for EncodedTrack {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for EncodedTrack {
    type Item = TrackResponse;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<TrackResponse>, tonic::Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        TrackResponse::decode(bytes).map(Some).map_err(|error| tonic::Status::internal(error.to_string()))
    }
}
