//! What a channel is asked to be, checked; and what it is, told without its secrets.

use std::collections::HashMap;

use lettre::message::Mailbox;
use prost_types::FieldMask;
use reqwest::header::{HeaderName, HeaderValue};
use segue_model::FieldViolation;
use segue_proto::campaign::v1::channel::Settings;
use segue_proto::campaign::v1::{ApnsSettings, Channel, ChannelKind, EmailSettings, FcmSettings, HttpSettings, InAppSettings};
use segue_runtime::fields;
use segue_runtime::outgoing::{Rules, check_url};

use super::store::Stored;
use super::{apns, fcm, smtp};
use crate::error::CampaignError;
use crate::store::timestamp;

const URL_BYTES_MAX: usize = 2_048;
const TEXT_BYTES_MAX: usize = 1_024;
const KEY_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 20;
const HEADER_BYTES_MAX: usize = 4 << 10;
const KEEP_DAYS_DEFAULT: u32 = 30;
const KEEP_DAYS_MAX: u32 = 3_650;
const RATE_MAX: u32 = 1_000_000;
/// Headers that requests have anyway.
const HEADERS_TAKEN: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// What can be changed of a channel. Its secrets are in it: its `Debug` leaves the settings out.
#[derive(Clone, PartialEq)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) settings: Settings,
    pub(super) rate_per_second: u32,
    pub(super) paused: bool,
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = kind_of(&self.settings);
        f.debug_struct("Definition").field("name", &self.name).field("kind", &kind).field("paused", &self.paused).finish_non_exhaustive()
    }
}

/// From the settings.
pub(super) fn kind_of(settings: &Settings) -> ChannelKind {
    match settings {
        Settings::Email(_) => ChannelKind::Email,
        Settings::Webhook(_) => ChannelKind::Webhook,
        Settings::Fcm(_) => ChannelKind::Fcm,
        Settings::Apns(_) => ChannelKind::Apns,
        Settings::Sms(_) => ChannelKind::Sms,
        Settings::Kakao(_) => ChannelKind::Kakao,
        Settings::InApp(_) => ChannelKind::InApp,
    }
}

/// Whether requests of a kind, and reports about it, are signed.
pub(super) fn is_signed(kind: ChannelKind) -> bool {
    matches!(kind, ChannelKind::Webhook | ChannelKind::Sms | ChannelKind::Kakao)
}

/// What a mask can name; the second is the settings.
fn changeable(settings: &Settings) -> &'static [&'static str; 4] {
    match settings {
        Settings::Email(_) => &["name", "email", "rate_per_second", "paused"],
        Settings::Webhook(_) => &["name", "webhook", "rate_per_second", "paused"],
        Settings::Fcm(_) => &["name", "fcm", "rate_per_second", "paused"],
        Settings::Apns(_) => &["name", "apns", "rate_per_second", "paused"],
        Settings::Sms(_) => &["name", "sms", "rate_per_second", "paused"],
        Settings::Kakao(_) => &["name", "kakao", "rate_per_second", "paused"],
        Settings::InApp(_) => &["name", "in_app", "rate_per_second", "paused"],
    }
}

fn settings_name(settings: &Settings) -> &'static str {
    let [_, name, ..] = changeable(settings);
    name
}

/// Reads a channel to be created.
pub(super) fn parse_new(channel: Option<Channel>, rules: &Rules) -> Result<(String, Definition), CampaignError> {
    let channel = channel.ok_or_else(|| CampaignError::field("channel", "is missing"))?;
    let mut faults = Vec::new();
    fields::check_id(&mut faults, "channel.id", &channel.id);
    let Some(settings) = channel.settings else {
        faults.push(FieldViolation::new("channel.settings", "is missing: set one of email, webhook, fcm, apns, sms, kakao, in_app"));
        return Err(CampaignError::Invalid(faults));
    };
    let mut definition = Definition { name: channel.name, settings, rate_per_second: channel.rate_per_second, paused: channel.paused };
    check(&mut definition, rules, &mut faults);
    fields::refuse(faults)?;
    Ok((channel.id, definition))
}

/// A channel with what a request changes of it.
pub(super) fn parse_change(
    channel: Channel,
    mask: Option<&FieldMask>,
    before: &Definition,
    rules: &Rules,
) -> Result<Definition, CampaignError> {
    let own = settings_name(&before.settings);
    let mut after = before.clone();
    for field in fields::masked(mask, changeable(&before.settings))? {
        match field {
            "name" => after.name.clone_from(&channel.name),
            "rate_per_second" => after.rate_per_second = channel.rate_per_second,
            "paused" => after.paused = channel.paused,
            _ => {
                let Some(settings) = channel.settings.clone() else {
                    return Err(CampaignError::field(format!("channel.{own}"), "is missing: give all of it, or leave it out of the mask"));
                };
                let given = settings_name(&settings);
                if given != own {
                    let problem = format!("is of another kind than the channel, which stays `{own}`: create another channel");
                    return Err(CampaignError::field(format!("channel.{given}"), problem));
                }
                after.settings = keep_secrets(settings, &before.settings);
            }
        }
    }
    let mut faults = Vec::new();
    check(&mut after, rules, &mut faults);
    fields::refuse(faults)?;
    Ok(after)
}

/// Puts what is stored in the place of secrets that are left empty.
fn keep_secrets(mut settings: Settings, before: &Settings) -> Settings {
    let keep = |after: &mut String, before: &String| {
        if after.is_empty() {
            after.clone_from(before);
        }
    };
    match (&mut settings, before) {
        (Settings::Email(after), Settings::Email(before)) => keep(&mut after.password, &before.password),
        (Settings::Fcm(after), Settings::Fcm(before)) => keep(&mut after.private_key, &before.private_key),
        (Settings::Apns(after), Settings::Apns(before)) => keep(&mut after.private_key, &before.private_key),
        (Settings::Webhook(after), Settings::Webhook(before))
        | (Settings::Sms(after), Settings::Sms(before))
        | (Settings::Kakao(after), Settings::Kakao(before)) => {
            for (name, value) in &mut after.headers {
                if let Some(before) = before.headers.get(name) {
                    keep(value, before);
                }
            }
        }
        _ => {}
    }
    settings
}

/// Faults of a definition, and its defaults filled in.
fn check(definition: &mut Definition, rules: &Rules, faults: &mut Vec<FieldViolation>) {
    fields::check_name(faults, "channel.name", &definition.name);
    if definition.rate_per_second > RATE_MAX {
        faults.push(FieldViolation::new("channel.rate_per_second", format!("at most {RATE_MAX}; 0: no limit")));
    }
    let mut faults = Faults { within: format!("channel.{}", settings_name(&definition.settings)), faults };
    match &mut definition.settings {
        Settings::Email(email) => check_email(email, rules, &mut faults),
        Settings::Webhook(http) | Settings::Sms(http) | Settings::Kakao(http) => check_http(http, rules, &mut faults),
        Settings::Fcm(fcm) => check_fcm(fcm, rules, &mut faults),
        Settings::Apns(apns) => check_apns(apns, rules, &mut faults),
        Settings::InApp(in_app) => check_in_app(in_app, &mut faults),
    }
}

/// Faults of settings.
struct Faults<'f> {
    within: String,
    faults: &'f mut Vec<FieldViolation>,
}

impl Faults<'_> {
    fn push(&mut self, field: &str, problem: impl Into<String>) {
        self.faults.push(FieldViolation::new(format!("{}.{field}", self.within), problem));
    }

    /// Where requests go.
    fn url(&mut self, field: &str, url: &str, rules: &Rules) {
        if url.len() > URL_BYTES_MAX {
            self.push(field, format!("must be at most {URL_BYTES_MAX} bytes"));
        } else if let Err(problem) = check_url(url, rules) {
            self.push(field, problem);
        }
    }

    /// A word of letters, digits and a few more.
    fn word(&mut self, field: &str, word: &str, most: usize, others: &str) {
        let is_word = word.chars().all(|letter| letter.is_ascii_alphanumeric() || others.contains(letter));
        if word.is_empty() || word.len() > most || !is_word {
            let others = if others.is_empty() { String::new() } else { format!(" and `{others}`") };
            self.push(field, format!("must be 1 to {most} letters, digits{others}"));
        }
    }

    /// A key in PEM that signs.
    fn key(&mut self, field: &str, pem: &str, parsed: impl FnOnce(&str) -> Result<(), String>) {
        if pem.is_empty() || pem.len() > KEY_BYTES_MAX {
            self.push(field, format!("is missing, or longer than {KEY_BYTES_MAX} bytes"));
        } else if let Err(problem) = parsed(pem) {
            self.push(field, problem);
        }
    }
}

fn check_email(email: &EmailSettings, rules: &Rules, faults: &mut Faults<'_>) {
    if email.url.len() > URL_BYTES_MAX {
        faults.push("url", format!("must be at most {URL_BYTES_MAX} bytes"));
    } else if let Err(problem) = smtp::Server::parse(&email.url, rules) {
        faults.push("url", problem);
    }
    for (field, text) in [("username", &email.username), ("password", &email.password)] {
        if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            faults.push(field, format!("must be at most {TEXT_BYTES_MAX} bytes, without control characters"));
        }
    }
    if email.username.is_empty() != email.password.is_empty() {
        faults.push("password", "must be there if there is a username, and only then");
    }
    let one_line = email.from.len() <= TEXT_BYTES_MAX && !email.from.chars().any(char::is_control);
    if !one_line || email.from.parse::<Mailbox>().is_err() {
        faults.push("from", "must be an address like `Shop <news@shop.example>`");
    }
}

fn check_http(http: &HttpSettings, rules: &Rules, faults: &mut Faults<'_>) {
    faults.url("url", &http.url, rules);
    if http.headers.len() > HEADERS_MAX {
        faults.push("headers", format!("must be at most {HEADERS_MAX}"));
    }
    // In one order, so that the same faults are told in the same way.
    let mut names: Vec<&String> = http.headers.keys().collect();
    names.sort_unstable();
    let mut seen = Vec::new();
    for (name, value) in names.into_iter().filter_map(|name| Some((name, http.headers.get(name)?))) {
        let field = format!("headers[{}]", name.escape_debug());
        let lower = name.to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            faults.push(&field, "is not a name of a header");
        } else if HEADERS_TAKEN.contains(&lower.as_str()) || seen.contains(&lower) {
            faults.push(&field, "is there already");
        } else if value.is_empty() {
            faults.push(&field, "has no value: give one, or leave the header out");
        } else if value.len() > HEADER_BYTES_MAX || HeaderValue::from_str(value).is_err() {
            faults.push(&field, format!("has a value that is longer than {HEADER_BYTES_MAX} bytes, or not visible ASCII"));
        }
        seen.push(lower);
    }
}

fn check_fcm(fcm: &mut FcmSettings, rules: &Rules, faults: &mut Faults<'_>) {
    for (field, default) in [(&mut fcm.url, fcm::URL_DEFAULT), (&mut fcm.token_url, fcm::TOKEN_URL_DEFAULT)] {
        if field.is_empty() {
            default.clone_into(field);
        }
    }
    faults.word("project_id", &fcm.project_id, 64, "-");
    if fcm.client_email.len() > TEXT_BYTES_MAX || !fcm.client_email.contains('@') || fcm.client_email.chars().any(char::is_control) {
        faults.push("client_email", "must be the e-mail address of the service account");
    }
    faults.key("private_key", &fcm.private_key, fcm::check_key);
    faults.url("url", &fcm.url, rules);
    faults.url("token_url", &fcm.token_url, rules);
}

fn check_apns(apns: &mut ApnsSettings, rules: &Rules, faults: &mut Faults<'_>) {
    if apns.url.is_empty() {
        apns::URL_DEFAULT.clone_into(&mut apns.url);
    }
    faults.word("team_id", &apns.team_id, 32, "");
    faults.word("key_id", &apns.key_id, 32, "");
    faults.key("private_key", &apns.private_key, apns::check_key);
    faults.word("bundle_id", &apns.bundle_id, 255, ".-");
    faults.url("url", &apns.url, rules);
}

fn check_in_app(in_app: &mut InAppSettings, faults: &mut Faults<'_>) {
    if in_app.keep_days == 0 {
        in_app.keep_days = KEEP_DAYS_DEFAULT;
    }
    if in_app.keep_days > KEEP_DAYS_MAX {
        faults.push("keep_days", format!("at most {KEEP_DAYS_MAX}; 0: {KEEP_DAYS_DEFAULT}"));
    }
}

/// Settings without their secrets; of headers the names stay.
fn without_secrets(mut settings: Settings) -> Settings {
    match &mut settings {
        Settings::Email(email) => email.password.clear(),
        Settings::Fcm(fcm) => fcm.private_key.clear(),
        Settings::Apns(apns) => apns.private_key.clear(),
        Settings::Webhook(http) | Settings::Sms(http) | Settings::Kakao(http) => {
            http.headers = http.headers.drain().map(|(name, _)| (name, String::new())).collect::<HashMap<_, _>>();
        }
        Settings::InApp(_) => {}
    }
    settings
}

/// A channel as the API tells it, without its secrets.
pub(super) fn to_proto(stored: Stored, callback_url: String) -> Channel {
    Channel {
        etag: etag(&stored),
        id: stored.id,
        name: stored.definition.name,
        kind: kind_of(&stored.definition.settings).into(),
        settings: Some(without_secrets(stored.definition.settings)),
        rate_per_second: stored.definition.rate_per_second,
        paused: stored.definition.paused,
        created_at: Some(timestamp(stored.state.created_us)),
        updated_at: Some(timestamp(stored.updated_us)),
        callback_url,
        signing_secret: String::new(),
    }
}

pub(super) fn etag(stored: &Stored) -> String {
    fields::etag("channel", &stored.id, stored.state.revision, stored.state.created_us)
}
