//! The events of the benchmark: a year of a made-up shop, the same for the same options and the same last day.
//!
//! Activity per person follows a power law, as in the engine's stream. Half of the persons sign up in the year, once. Openings of the
//! app and views of the home page now and then carry how the person came (partner, campaign, keyword), responses to ads always do.
//! Views, carts, orders and refunds have items of 20 categories and 5,000 names, prices are log-normal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use segue_model::{decimal, dimension};
use segue_proto::events::v1::{DimensionValue, EventKind, Item, ResolvedEvent};
use serde_json::{Value, json};

use crate::engine::data::{COUNTRIES, EVENTS, PLATFORMS, Population, Random, Weighted};
use crate::sender::now_us;

pub(crate) const DAY_US: i64 = 86_400_000_000;
/// Days of the stream.
pub(crate) const DAYS: u32 = 365;
/// A stream that ends longer ago is made anew: conditions are about the last months.
const AGE_DAYS_MAX: i64 = 14;
/// Changes whenever the same options would give other events.
const VERSION: u32 = 1;

pub(crate) const OPENED: &str = "df_app_open";
pub(crate) const SIGNED_UP: &str = "df_sign_up";
pub(crate) const BOUGHT: &str = "df_purchase";
const HOME: &str = "df_view_home";
const RESPONDED: &str = "df_ad_response";

/// Channel groups with their share of touches, whether they are ads, and the partners of each.
pub(crate) const CHANNELS: [(&str, f64, bool, &[&str]); 6] = [
    ("search_ad", 0.3, true, &["google", "naver"]),
    ("display_ad", 0.2, true, &["criteo", "google", "kakao"]),
    ("social_ad", 0.2, true, &["meta", "tiktok"]),
    ("organic", 0.15, false, &[]),
    ("email", 0.1, false, &[]),
    ("referral", 0.05, false, &[]),
];
/// The first campaigns have names of their own, the others are numbered.
const CAMPAIGNS: u64 = 200;
pub(crate) const PROMOTION: &str = "jewellery_promotion";
const KEYWORDS: u64 = 500;
/// Categories with their shares of items.
pub(crate) const CATEGORIES: [(&str, f64); 20] = [
    ("fashion", 20.0),
    ("beauty", 12.0),
    ("food", 10.0),
    ("home", 8.0),
    ("electronics", 7.0),
    ("sports", 6.0),
    ("childcare", 5.0),
    ("shoes", 5.0),
    ("bags", 4.0),
    ("jewellery", 4.0),
    ("books", 3.0),
    ("toys", 3.0),
    ("pets", 2.0),
    ("garden", 2.0),
    ("health", 2.0),
    ("kitchen", 2.0),
    ("office", 2.0),
    ("cars", 1.0),
    ("music", 1.0),
    ("travel", 1.0),
];
const NAMES_PER_CATEGORY: u64 = 250;
/// Words of item names, of which keywords are taken: a name has two.
pub(crate) const WORDS: [&str; 16] = [
    "stroller", "cradle", "ring", "lamp", "jacket", "serum", "tea", "racket", "boots", "tote", "novel", "puzzle", "leash", "vitamin",
    "pan", "pen",
];

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) events: u64,
    pub(crate) persons: u32,
}

/// A stream and where what is made of it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) size: Size,
    /// Its end: midnight UTC, microseconds.
    pub(crate) end_us: i64,
    folder: PathBuf,
    shop: Arc<Shop>,
}

impl Stream {
    /// The stream of this size whose data lie below `root`: the one that is there, or one that ends with yesterday.
    pub(crate) fn get(root: &Path, size: Size) -> anyhow::Result<Self> {
        let folder = root.join(format!("audience-{}-events-{}-persons", size.events, size.persons));
        let manifest = folder.join("stream.json");
        let known: Option<Value> = std::fs::read_to_string(&manifest).ok().and_then(|text| serde_json::from_str(&text).ok());
        let today = now_us().div_euclid(DAY_US);
        let end_day = known.filter(|known| known["version"] == VERSION).and_then(|known| known["end_day"].as_i64());
        let end_day = match end_day.filter(|day| (today - AGE_DAYS_MAX..=today).contains(day)) {
            Some(day) => day,
            None => {
                if folder.exists() {
                    std::fs::remove_dir_all(&folder)?;
                }
                std::fs::create_dir_all(&folder)?;
                std::fs::write(manifest, json!({ "version": VERSION, "end_day": today }).to_string())?;
                today
            }
        };
        Ok(Self { size, end_us: end_day * DAY_US, folder, shop: Arc::new(Shop::new(size.persons)) })
    }

    /// What events are drawn from.
    pub(crate) fn shop(&self) -> &Shop {
        &self.shop
    }

    /// Where Segue keeps what it made of the stream.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The events of a day. `day` counts from the first.
    pub(crate) fn day(&self, day: u32) -> impl Iterator<Item = anyhow::Result<ResolvedEvent>> + Send + use<> {
        let rows = self.size.events / u64::from(DAYS) + u64::from(u64::from(day) < self.size.events % u64::from(DAYS));
        let midnight_us = self.end_us - i64::from(DAYS - day) * DAY_US;
        let mut random = Random::of(10_000 + u64::from(day));
        let shop = self.shop.clone();
        (0..rows).map(move |number| {
            let signing_up = shop.sign_ups[day as usize].get(number as usize).copied();
            let mut event = shop.event(&mut random, signing_up);
            event.time_us = midnight_us + random.below(DAY_US as u64) as i64;
            event.received_at_us = event.time_us + 200_000;
            event.message_id = format!("d{day}-{number}");
            Ok(event)
        })
    }
}

/// What does not change from event to event.
pub(crate) struct Shop {
    population: Population,
    names: Weighted,
    channels: Weighted,
    categories: Weighted,
    /// By day, who signs up then.
    sign_ups: Vec<Vec<u32>>,
    codes: Codes,
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shop").finish_non_exhaustive()
    }
}

/// Codes of dimensions, ascending as they stand here.
struct Codes {
    platform: u32,
    ad_partner: u32,
    ad_campaign: u32,
    ad_keyword: u32,
    channel_group: u32,
    country: u32,
    utm_source: u32,
    utm_medium: u32,
    utm_campaign: u32,
}

impl Shop {
    fn new(persons: u32) -> Self {
        let code = |name: &str| dimension::by_name(name).map_or(0, |dimension| dimension.code);
        let codes = Codes {
            platform: code("platform"),
            ad_partner: code("ad_partner"),
            ad_campaign: code("ad_campaign"),
            ad_keyword: code("ad_keyword"),
            channel_group: code("channel_group"),
            country: code("country"),
            utm_source: code("utm_source"),
            utm_medium: code("utm_medium"),
            utm_campaign: code("utm_campaign"),
        };
        let mut random = Random::of(77);
        let mut sign_ups = vec![Vec::new(); DAYS as usize];
        for person in 0..persons {
            if let Some(of_day) = sign_ups.get_mut(random.below(2 * u64::from(DAYS)) as usize) {
                of_day.push(person);
            }
        }
        // Nobody signs up by chance.
        let names: Vec<(&str, f64)> = EVENTS.iter().map(|(name, weight)| (*name, if *name == SIGNED_UP { 0.0 } else { *weight })).collect();
        Self {
            population: Population::new(persons),
            names: Weighted::new(&names),
            channels: Weighted::new(&CHANNELS.map(|(name, share, ..)| (name, share))),
            categories: Weighted::new(&CATEGORIES),
            sign_ups,
            codes,
        }
    }

    /// An event without time and id.
    pub(crate) fn event(&self, random: &mut Random, signing_up: Option<u32>) -> ResolvedEvent {
        let number = signing_up.unwrap_or_else(|| self.population.choose(random));
        let name = if signing_up.is_some() { SIGNED_UP } else { EVENTS[self.names.choose(random)].0 };
        let [platform, _, country] = self.population.fact(number);
        let codes = &self.codes;
        let text = |code: u32, value: String| DimensionValue { code, value };
        let mut dimensions = vec![text(codes.platform, PLATFORMS[usize::from(platform)].to_owned())];
        let touch_share = match name {
            RESPONDED => 1.0,
            OPENED => 0.08,
            _ => 0.0,
        };
        if random.unit() < touch_share {
            let (channel, _, is_ad, partners) = CHANNELS[self.channels.choose(random)];
            if is_ad {
                dimensions.push(text(codes.ad_partner, partners[random.below(partners.len() as u64) as usize].to_owned()));
                dimensions.push(text(codes.ad_campaign, campaign(random)));
            }
            if channel == "search_ad" {
                dimensions.push(text(codes.ad_keyword, format!("keyword {}", random.below(KEYWORDS))));
            }
            dimensions.push(text(codes.channel_group, channel.to_owned()));
        }
        dimensions.push(text(codes.country, COUNTRIES[usize::from(country)].0.to_owned()));
        if name == HOME && random.unit() < 0.05 {
            dimensions.push(text(codes.utm_source, ["newsletter", "blog", "partner"][random.below(3) as usize].to_owned()));
            dimensions.push(text(codes.utm_medium, "link".to_owned()));
            dimensions.push(text(codes.utm_campaign, campaign(random)));
        }
        // Persons are counted from 1. Everybody has one device.
        ResolvedEvent {
            person: number + 1,
            device: number + 1,
            name: name.to_owned(),
            kind: EventKind::Track as i32,
            dimensions,
            items: self.items(random, name),
            ..ResolvedEvent::default()
        }
    }

    fn items(&self, random: &mut Random, name: &str) -> Vec<Item> {
        let items = match name {
            "df_view_product_details" | "df_add_to_cart" | "df_refund" => 1,
            "df_begin_checkout" | BOUGHT => 1 + random.below(4),
            _ => 0,
        };
        (0..items).map(|_| item(CATEGORIES[self.categories.choose(random)].0, random)).collect()
    }
}

/// One of the names of a category at a log-normal price.
fn item(category: &str, random: &mut Random) -> Item {
    let number = random.below(NAMES_PER_CATEGORY) as usize;
    let (first, second) = (WORDS[number % WORDS.len()], WORDS[number / WORDS.len()]);
    Item {
        item_id: format!("{category}-{number}"),
        name: format!("{category} {first} {second} {number}"),
        price_e4: Some((10.0 + random.normal()).exp().round() as i64 * decimal::SCALE),
        quantity: Some(1 + random.below(3) as i64),
        categories: vec![category.to_owned()],
        ..Item::default()
    }
}

fn campaign(random: &mut Random) -> String {
    match random.below(CAMPAIGNS) {
        0 => PROMOTION.to_owned(),
        number => format!("campaign_{number:03}"),
    }
}
