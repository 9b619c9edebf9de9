//! What an event says about where and on what it happened, as built-in dimensions.
//!
//! For each dimension the first of these that says something wins: the event's own context field, its context's
//! `dimensions`, a standard property, what can be read from user agent, page address, referrer and IP, the person's profile. To
//! fill another dimension: one line in [`Enricher::dimensions_of`] or [`from_profile`].

use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate};
use moka::sync::Cache;
use segue_model::catalogue::PROPERTIES;
use segue_model::dimension;
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{Context, DimensionValue, Event, Value};
use segue_proto::identity::v1::PersonProfile;
use url::Url;

use super::place::Places;

/// Codes of the dimensions filled here; a test holds them against the catalogue.
pub(super) mod code {
    pub(crate) const PLATFORM: u32 = 1;
    pub(crate) const SOURCE_TYPE: u32 = 2;
    pub(crate) const COUNTRY: u32 = 14;
    pub(crate) const REGION: u32 = 15;
    pub(crate) const CITY: u32 = 16;
    pub(crate) const DEVICE_COUNTRY: u32 = 17;
    pub(crate) const DEVICE_LANGUAGE: u32 = 18;
    pub(crate) const APP_VERSION: u32 = 19;
    pub(crate) const OS_NAME: u32 = 20;
    pub(crate) const OS_VERSION: u32 = 21;
    pub(crate) const DEVICE_MODEL: u32 = 22;
    pub(crate) const DEVICE_MANUFACTURER: u32 = 23;
    pub(crate) const DEVICE_CATEGORY: u32 = 24;
    pub(crate) const CARRIER: u32 = 25;
    pub(crate) const NETWORK_TYPE: u32 = 26;
    pub(crate) const SDK_VERSION: u32 = 27;
    pub(crate) const FIRST_OR_RETURNING: u32 = 29;
    pub(crate) const GENDER: u32 = 30;
    pub(crate) const AGE_BAND: u32 = 31;
    pub(crate) const MEMBERSHIP: u32 = 32;
    pub(crate) const SIGN_UP_CHANNEL: u32 = 33;
    pub(crate) const UTM_SOURCE: u32 = 40;
    pub(crate) const UTM_MEDIUM: u32 = 41;
    pub(crate) const UTM_CAMPAIGN: u32 = 42;
    pub(crate) const UTM_TERM: u32 = 43;
    pub(crate) const UTM_CONTENT: u32 = 44;
    pub(crate) const REFERRER_DOMAIN: u32 = 45;
    pub(crate) const PAGE_PATH: u32 = 46;
    pub(crate) const SCREEN_NAME: u32 = 47;
    pub(crate) const BROWSER: u32 = 48;
}

/// User agents that are remembered, each a few hundred bytes.
const AGENTS_MAX: u64 = 20_000;
/// Longer user agents are not looked at.
const AGENT_BYTES_MAX: usize = 2_048;

/// Dimensions of one event. The first value of each stays.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Dimensions(Vec<(u32, String)>);

impl Dimensions {
    /// Sets a dimension unless it is set or there is nothing to set.
    pub fn set(&mut self, code: u32, value: impl AsRef<str> + Into<String>) {
        if !value.as_ref().is_empty() && !self.0.iter().any(|(known, _)| *known == code) {
            self.0.push((code, value.into()));
        }
    }

    /// The value of a dimension.
    pub fn get(&self, code: u32) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_str())
    }

    /// By ascending code.
    pub fn into_values(mut self) -> Vec<DimensionValue> {
        self.0.sort_unstable_by_key(|(code, _)| *code);
        self.0.into_iter().map(|(code, value)| DimensionValue { code, value }).collect()
    }
}

/// What a user agent says.
#[derive(Debug, Default, Clone)]
struct Agent {
    browser: String,
    os_name: String,
    os_version: String,
    device_category: &'static str,
}

/// Fills dimensions. Cheap to clone.
#[derive(Clone)]
pub struct Enricher {
    agents: Cache<String, Arc<Agent>>,
    places: Option<Arc<Places>>,
}

impl Enricher {
    /// With a database of places, if there is one.
    pub fn new(places: Option<Places>) -> Self {
        Self { agents: Cache::new(AGENTS_MAX), places: places.map(Arc::new) }
    }

    /// The dimensions of an event, as far as the event itself knows. Takes texts out of the event's context.
    pub fn dimensions_of(&self, event: &mut Event) -> Dimensions {
        let mut dimensions = Dimensions(Vec::with_capacity(16));
        let mut context = event.context.take().unwrap_or_default();
        take_fields(&mut dimensions, &mut context);
        for (name, value) in std::mem::take(&mut context.dimensions) {
            if let Some(dimension) = dimension::by_name(&name) {
                dimensions.set(dimension.code, value);
            }
        }
        if !event.properties.is_empty() {
            for (property, code) in property_dimensions() {
                if let Some(text) = event.properties.get(*property).and_then(text) {
                    dimensions.set(*code, text);
                }
            }
        }
        if !context.page_url.is_empty() {
            from_page(&mut dimensions, &context.page_url);
        }
        if !context.referrer.is_empty()
            && let Some(host) = host(&context.referrer)
        {
            dimensions.set(code::REFERRER_DOMAIN, host);
        }
        if !context.user_agent.is_empty() {
            self.add_agent(&mut dimensions, &context.user_agent);
        }
        if let (Some(places), Ok(address)) = (&self.places, context.ip.parse()) {
            let place = places.find(address);
            dimensions.set(code::COUNTRY, place.country);
            dimensions.set(code::REGION, place.region);
            dimensions.set(code::CITY, place.city);
        }
        event.context = Some(context);
        dimensions
    }

    fn add_agent(&self, dimensions: &mut Dimensions, text: &str) {
        if text.len() > AGENT_BYTES_MAX {
            return;
        }
        let agent = self.agents.get(text).unwrap_or_else(|| {
            let agent = Arc::new(read_agent(text));
            self.agents.insert(text.to_owned(), agent.clone());
            agent
        });
        dimensions.set(code::BROWSER, agent.browser.as_str());
        // A sender that says which system it is knows better which version, too.
        if dimensions.get(code::OS_NAME).is_none_or(|known| known == agent.os_name) {
            dimensions.set(code::OS_VERSION, agent.os_version.as_str());
        }
        dimensions.set(code::OS_NAME, agent.os_name.as_str());
        dimensions.set(code::DEVICE_CATEGORY, agent.device_category);
    }
}

fn take_fields(dimensions: &mut Dimensions, context: &mut Context) {
    let mut take = |code: u32, field: &mut String| {
        if !field.is_empty() {
            dimensions.set(code, std::mem::take(field));
        }
    };
    take(code::PLATFORM, &mut context.platform);
    take(code::SOURCE_TYPE, &mut context.source_type);
    take(code::DEVICE_COUNTRY, &mut context.device_country);
    take(code::DEVICE_LANGUAGE, &mut context.device_language);
    take(code::APP_VERSION, &mut context.app_version);
    take(code::OS_NAME, &mut context.os_name);
    take(code::OS_VERSION, &mut context.os_version);
    take(code::DEVICE_MODEL, &mut context.device_model);
    take(code::DEVICE_MANUFACTURER, &mut context.device_manufacturer);
    take(code::DEVICE_CATEGORY, &mut context.device_category);
    take(code::CARRIER, &mut context.carrier);
    take(code::NETWORK_TYPE, &mut context.network_type);
    take(code::SDK_VERSION, &mut context.sdk_version);
    take(code::UTM_SOURCE, &mut context.utm_source);
    take(code::UTM_MEDIUM, &mut context.utm_medium);
    take(code::UTM_CAMPAIGN, &mut context.utm_campaign);
    take(code::UTM_TERM, &mut context.utm_term);
    take(code::UTM_CONTENT, &mut context.utm_content);
    take(code::PAGE_PATH, &mut context.page_path);
    take(code::SCREEN_NAME, &mut context.screen_name);
    take(code::BROWSER, &mut context.browser);
}

/// Dimensions that the person's profile fills, as of the event, and whether the person was new.
pub fn from_profile(dimensions: &mut Dimensions, profile: Option<&PersonProfile>, first: bool, time_us: i64) {
    dimensions.set(code::FIRST_OR_RETURNING, if first { "first" } else { "returning" });
    let Some(profile) = profile else { return };
    let trait_text = |name: &str| profile.traits.get(name).and_then(text);
    for (code, name) in [(code::GENDER, "df_gender"), (code::MEMBERSHIP, "df_membership"), (code::SIGN_UP_CHANNEL, "df_sign_channel")] {
        if let Some(text) = trait_text(name) {
            dimensions.set(code, text);
        }
    }
    if let Some(band) = trait_text("df_birth").and_then(|birth| age_band(&birth, time_us)) {
        dimensions.set(code::AGE_BAND, band);
    }
}

/// Standard properties that fill a dimension.
fn property_dimensions() -> &'static [(&'static str, u32)] {
    static FILLED: std::sync::LazyLock<Vec<(&'static str, u32)>> = std::sync::LazyLock::new(|| {
        PROPERTIES.iter().filter_map(|property| Some((property.name, dimension::by_name(property.dimension?)?.code))).collect()
    });
    &FILLED
}

fn text(value: &Value) -> Option<String> {
    match value.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        Kind::IntValue(number) => Some(number.to_string()),
        Kind::BoolValue(truth) => Some(truth.to_string()),
        Kind::DoubleValue(number) => Some(number.to_string()),
        Kind::DecimalE4Value(e4) => Some(segue_model::Decimal4(*e4).to_string()),
        Kind::TimestampValue(_) | Kind::JsonValue(_) => None,
    }
}

fn from_page(dimensions: &mut Dimensions, address: &str) {
    let Ok(url) = Url::parse(address) else {
        // A path alone is common where a page's address is put together by hand.
        if address.starts_with('/') {
            dimensions.set(code::PAGE_PATH, address.split(['?', '#']).next().unwrap_or_default());
        }
        return;
    };
    if !url.cannot_be_a_base() {
        dimensions.set(code::PAGE_PATH, url.path());
    }
    if url.query().is_none_or(|query| !query.contains("utm_")) {
        return;
    }
    for (name, value) in url.query_pairs() {
        let code = match name.as_ref() {
            "utm_source" => code::UTM_SOURCE,
            "utm_medium" => code::UTM_MEDIUM,
            "utm_campaign" => code::UTM_CAMPAIGN,
            "utm_term" => code::UTM_TERM,
            "utm_content" => code::UTM_CONTENT,
            _ => continue,
        };
        dimensions.set(code, value.into_owned());
    }
}

fn host(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    url.host_str().map(str::to_owned)
}

fn read_agent(text: &str) -> Agent {
    let Some(read) = woothee::parser::Parser::new().parse(text) else { return Agent::default() };
    let known = |text: &str| if text == woothee::woothee::VALUE_UNKNOWN { String::new() } else { text.to_owned() };
    let device_category = match read.category {
        _ if read.os == "iPad" => "tablet",
        "smartphone" if read.os == "Android" && !text.contains("Mobile") => "tablet",
        "smartphone" | "mobilephone" => "phone",
        "pc" => "desktop",
        "crawler" => "crawler",
        "appliance" => "console",
        _ => "",
    };
    Agent { browser: known(read.name), os_name: known(read.os), os_version: known(&read.os_version), device_category }
}

/// Age at `time_us` in bands of ten years. A date of birth is `1990-12-31`, `19901231`, `1990-12`, or a year.
pub fn age_band(birth: &str, time_us: i64) -> Option<&'static str> {
    const BANDS: [&str; 10] = ["0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-79", "80-89", "90+"];
    let digits: String = birth.get(..birth.len().min(10))?.chars().filter(char::is_ascii_digit).collect();
    let part = |from: usize, to: usize| digits.get(from..to).and_then(|text| text.parse::<u32>().ok());
    let (month, day) = match digits.len() {
        4 => (1, 1),
        6 => (part(4, 6)?, 1),
        8 => (part(4, 6)?, part(6, 8)?),
        _ => return None,
    };
    let born = NaiveDate::from_ymd_opt(part(0, 4)? as i32, month, day)?;
    let at = DateTime::from_timestamp_micros(time_us)?.date_naive();
    let had_birthday = (at.month(), at.day()) >= (born.month(), born.day());
    let age = at.year() - born.year() - i32::from(!had_birthday);
    if !(0..=130).contains(&age) {
        return None;
    }
    BANDS.get((age as usize / 10).min(9)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(context: Context) -> Event {
        Event { context: Some(context), ..Event::default() }
    }

    fn of(context: Context) -> Dimensions {
        Enricher::new(None).dimensions_of(&mut event(context))
    }

    #[test]
    fn codes_are_those_of_the_catalogue() {
        for (code, name) in [
            (code::PLATFORM, "platform"),
            (code::SOURCE_TYPE, "source_type"),
            (code::COUNTRY, "country"),
            (code::REGION, "region"),
            (code::CITY, "city"),
            (code::DEVICE_COUNTRY, "device_country"),
            (code::DEVICE_LANGUAGE, "device_language"),
            (code::APP_VERSION, "app_version"),
            (code::OS_NAME, "os_name"),
            (code::OS_VERSION, "os_version"),
            (code::DEVICE_MODEL, "device_model"),
            (code::DEVICE_MANUFACTURER, "device_manufacturer"),
            (code::DEVICE_CATEGORY, "device_category"),
            (code::CARRIER, "carrier"),
            (code::NETWORK_TYPE, "network_type"),
            (code::SDK_VERSION, "sdk_version"),
            (code::FIRST_OR_RETURNING, "first_or_returning"),
            (code::GENDER, "gender"),
            (code::AGE_BAND, "age_band"),
            (code::MEMBERSHIP, "membership"),
            (code::SIGN_UP_CHANNEL, "sign_up_channel"),
            (code::UTM_SOURCE, "utm_source"),
            (code::UTM_MEDIUM, "utm_medium"),
            (code::UTM_CAMPAIGN, "utm_campaign"),
            (code::UTM_TERM, "utm_term"),
            (code::UTM_CONTENT, "utm_content"),
            (code::REFERRER_DOMAIN, "referrer_domain"),
            (code::PAGE_PATH, "page_path"),
            (code::SCREEN_NAME, "screen_name"),
            (code::BROWSER, "browser"),
        ] {
            assert_eq!(dimension::by_code(code).map(|dimension| dimension.name), Some(name));
        }
    }

    #[test]
    fn what_the_event_says_itself_wins_over_what_can_be_read() {
        let dimensions = of(Context {
            page_url: "https://shop.example/a/b?utm_source=news%20letter&utm_medium=mail&x=1#top".into(),
            referrer: "https://www.search.example/?q=shoes".into(),
            utm_source: "push".into(),
            user_agent: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1".into(),
            browser: "ShopApp".into(),
            dimensions: [("ad_partner".to_owned(), "p".to_owned()), ("no_such".to_owned(), "x".to_owned())].into(),
            ..Context::default()
        });
        for (name, value) in [
            ("page_path", Some("/a/b")),
            ("utm_source", Some("push")),
            ("utm_medium", Some("mail")),
            ("utm_term", None),
            ("referrer_domain", Some("www.search.example")),
            ("browser", Some("ShopApp")),
            ("device_category", Some("phone")),
            ("os_version", Some("17.5")),
            ("ad_partner", Some("p")),
        ] {
            assert_eq!(dimensions.get(dimension::by_name(name).expect("a dimension").code), value, "{name}");
        }
        let codes: Vec<u32> = dimensions.into_values().into_iter().map(|value| value.code).collect();
        assert!(codes.is_sorted());
    }

    #[test]
    fn standard_properties_fill_their_dimensions() {
        let mut event = Event {
            properties: [("df_order_id".to_owned(), Value { kind: Some(Kind::StringValue("o1".into())) })].into(),
            ..Event::default()
        };
        let dimensions = Enricher::new(None).dimensions_of(&mut event);
        assert_eq!(dimensions.get(dimension::by_name("order_id").expect("a dimension").code), Some("o1"));
        assert!(event.properties.contains_key("df_order_id"));
    }

    #[test]
    fn addresses_and_agents_that_are_none_fill_nothing_and_break_nothing() {
        for text in ["", "not a url", "mailto:a@b", "http://", "/only/a/path?x", "http://[::1", "\u{0}", "javascript:alert(1)"] {
            let dimensions = of(Context { page_url: text.into(), referrer: text.into(), user_agent: text.into(), ..Context::default() });
            assert!(dimensions.get(code::BROWSER).is_none(), "{text}");
            assert_eq!(dimensions.get(code::PAGE_PATH), (text == "/only/a/path?x").then_some("/only/a/path"), "{text}");
        }
    }

    #[test]
    fn ages_change_on_the_birthday() {
        let at = |text: &str| text.parse::<DateTime<chrono::Utc>>().expect("a time").timestamp_micros();
        let now = at("2026-11-22T12:00:00Z");
        for (birth, band) in [
            ("1996-11-22", Some("30-39")),
            ("1996-11-23", Some("20-29")),
            ("19961122", Some("30-39")),
            ("1990-12-31T00:00:00Z", Some("30-39")),
            ("1930", Some("90+")),
            ("2026-11-23", None),
            ("1996-13-01", None),
            ("yesterday", None),
            ("é996-11-22", None),
            ("", None),
        ] {
            assert_eq!(age_band(birth, now), band, "{birth}");
        }
    }
}
