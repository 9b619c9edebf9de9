//! What a template says: its parts by locale, checked by themselves. To add a part: its line in [`form`], and in template.proto.

use std::collections::{BTreeMap, BTreeSet};

use segue_model::FieldViolation;
use segue_proto::campaign::v1::{ChannelKind, LocalizedParts, MissingValue, Template, TemplateFault};

use super::engine::{Checker, Escape};
use super::scan::{Refused, scan};

const LOCALES_MAX: usize = 50;
const LOCALE_BYTES_MAX: usize = 35;
const SUBTAG_BYTES_MAX: usize = 8;

/// What a part becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One line: a header, an address, a title.
    Line,
    Text,
    Html,
    Json,
    JsonObject,
    JsonArray,
}

impl Form {
    pub(super) fn escape(self) -> Escape {
        match self {
            Form::Line | Form::Text => Escape::None,
            Form::Html => Escape::Html,
            Form::Json | Form::JsonObject | Form::JsonArray => Escape::Json,
        }
    }

    /// Makes what was filled in into what may leave, or says why it may not. None: there is nothing.
    pub(super) fn finish(self, text: String) -> Result<Option<String>, String> {
        let object = match self {
            // A line's end in a header begins another header.
            Form::Line => {
                let text = text.replace(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'), " ");
                return Ok(Some(text.trim().to_owned()));
            }
            Form::Text | Form::Html => {
                return Ok(Some(text.replace(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t'), " ")));
            }
            Form::JsonObject | Form::JsonArray if text.trim().is_empty() => return Ok(None),
            Form::Json => return is_json(&text, |_| true, "JSON").map(|()| Some(text)),
            Form::JsonObject => is_json(&text, serde_json::Value::is_object, "a JSON object"),
            Form::JsonArray => is_json(&text, serde_json::Value::is_array, "a JSON array"),
        };
        object.map(|()| Some(text))
    }
}

fn is_json(text: &str, is_right: fn(&serde_json::Value) -> bool, what: &str) -> Result<(), String> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if is_right(&value) => Ok(()),
        Ok(_) => Err(format!("what comes out is not {what}")),
        Err(error) => Err(format!("what comes out is not {what}: {error} (texts are filled in with their quotes)")),
    }
}

/// The parts of each kind of template.
pub(super) fn form(kind: ChannelKind, part: &str) -> Option<Form> {
    use ChannelKind::{Apns, Email, Fcm, InApp, Kakao, Sms, Unspecified, Webhook};
    Some(match (kind, part) {
        (Email, "subject" | "from_name" | "reply_to" | "preheader") => Form::Line,
        (Email, "text") => Form::Text,
        (Email, "html") => Form::Html,
        (Fcm | Apns, "title" | "image_url" | "url") | (InApp, "title" | "url") => Form::Line,
        (Fcm | Apns | InApp, "body") => Form::Text,
        (Fcm | Apns | InApp, "data") => Form::JsonObject,
        (Sms, "text") | (Kakao, "text" | "fallback_text") => Form::Text,
        (Kakao, "template_code") => Form::Line,
        (Kakao, "buttons") => Form::JsonArray,
        (Webhook, "body") => Form::Json,
        (Webhook, "path") => Form::Line,
        (Unspecified, "content") => Form::Text,
        _ => return None,
    })
}

/// Of each of these, one has to be there.
fn required(kind: ChannelKind) -> &'static [&'static [&'static str]] {
    match kind {
        ChannelKind::Email => &[&["subject"], &["text", "html"]],
        ChannelKind::Fcm | ChannelKind::Apns => &[&["title", "body", "data"]],
        ChannelKind::InApp => &[&["title", "body"]],
        ChannelKind::Sms => &[&["text"]],
        ChannelKind::Kakao => &[&["template_code"], &["text"]],
        ChannelKind::Webhook => &[&["body"]],
        ChannelKind::Unspecified => &[&["content"]],
    }
}

/// The parts for one locale; none of them is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Localized {
    pub(super) locale: String,
    pub(super) parts: BTreeMap<String, String>,
}

/// What somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) locales: Vec<Localized>,
    pub(super) default_locale: String,
    pub(super) missing: MissingValue,
}

/// A fault, and where in the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Position of the locale.
    pub(super) locale: usize,
    pub(super) part: String,
    pub(super) refused: Refused,
}

impl Fault {
    pub(super) fn violation(&self) -> FieldViolation {
        let Self { locale, part, refused: Refused { line, message } } = self;
        FieldViolation::new(format!("template.locales[{locale}].parts.{part}"), format!("line {line}: {message}"))
    }

    pub(super) fn answered(self) -> TemplateFault {
        TemplateFault { part: self.part, line: self.refused.line, message: self.refused.message }
    }
}

/// What a content refers to, and how it has to be run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Outline {
    /// With the place where each is included first.
    pub(super) includes: BTreeMap<String, (usize, String, u32)>,
    pub(super) keeps_values: bool,
}

impl Content {
    /// Of a message; what it says otherwise is not looked at. Empty parts are as good as none.
    pub(super) fn of(template: Template) -> Self {
        let missing = match template.missing() {
            MissingValue::Abort => MissingValue::Abort,
            MissingValue::Unspecified | MissingValue::Default => MissingValue::Default,
        };
        let localized = |LocalizedParts { locale, parts }| {
            let parts = parts.into_iter().filter(|(_, text)| !text.is_empty()).collect();
            Localized { locale, parts }
        };
        let locales = template.locales.into_iter().map(localized).collect();
        Self { locales, default_locale: template.default_locale, missing }
    }

    pub(super) fn to_proto(&self) -> Template {
        let localized = |localized: &Localized| LocalizedParts {
            locale: localized.locale.clone(),
            parts: localized.parts.iter().map(|(name, text)| (name.clone(), text.clone())).collect(),
        };
        Template {
            locales: self.locales.iter().map(localized).collect(),
            default_locale: self.default_locale.clone(),
            missing: self.missing.into(),
            ..Template::default()
        }
    }

    /// Bytes of all parts.
    pub(super) fn bytes(&self) -> usize {
        self.locales.iter().flat_map(|localized| &localized.parts).map(|(name, text)| name.len() + text.len()).sum()
    }

    /// Checks everything but the sources.
    pub(super) fn check(&self, kind: ChannelKind, bytes_max: usize, faults: &mut Vec<FieldViolation>) {
        let mut fault = |field: String, description: String| faults.push(FieldViolation::new(field, description));
        if !(1..=LOCALES_MAX).contains(&self.locales.len()) {
            fault("template.locales".to_owned(), format!("1 to {LOCALES_MAX}"));
            return;
        }
        let bytes = self.bytes();
        if bytes > bytes_max {
            fault(
                "template.locales".to_owned(),
                format!("has {bytes} bytes of parts, of {bytes_max} (campaign.template.source_bytes_max)"),
            );
        }
        let mut seen = BTreeSet::new();
        for (at, Localized { locale, parts }) in self.locales.iter().enumerate() {
            let path = format!("template.locales[{at}]");
            if !is_locale(locale) {
                fault(format!("{path}.locale"), "not a BCP 47 tag such as ko or ko-KR".to_owned());
            } else if !seen.insert(locale.to_ascii_lowercase()) {
                fault(format!("{path}.locale"), "named twice".to_owned());
            }
            for part in parts.keys().filter(|part| form(kind, part).is_none()) {
                fault(format!("{path}.parts.{part}"), format!("not a part of {}", called(kind)));
            }
            for any in required(kind) {
                if !any.iter().any(|part| parts.contains_key(*part)) {
                    fault(format!("{path}.parts.{}", any.join("|")), "required".to_owned());
                }
            }
        }
        if !self.locales.iter().any(|localized| localized.locale == self.default_locale) {
            fault("template.default_locale".to_owned(), "has to be one of `locales`".to_owned());
        }
    }

    /// Looks at all sources, and compiles them.
    pub(super) fn outline(&self) -> Result<Outline, Vec<Fault>> {
        let (mut outline, mut faults) = (Outline::default(), Vec::new());
        let mut checker = Checker::new();
        for (locale, localized) in self.locales.iter().enumerate() {
            for (part, text) in &localized.parts {
                let found = scan(text).and_then(|found| checker.check(text, &found.filters, &found.tests).map(|()| found));
                match found {
                    Ok(found) => {
                        for (id, line) in found.includes {
                            outline.includes.entry(id).or_insert_with(|| (locale, part.clone(), line));
                        }
                        outline.keeps_values |= found.keeps_values;
                    }
                    Err(refused) => faults.push(Fault { locale, part: part.clone(), refused }),
                }
            }
        }
        if faults.is_empty() { Ok(outline) } else { Err(faults) }
    }

    /// Position of the locale for whoever has this one: that, else one with fewer subtags, else the default.
    pub(super) fn choose(&self, wanted: Option<&str>) -> usize {
        let mut wanted = wanted.unwrap_or_default().replace('_', "-");
        while !wanted.is_empty() {
            if let Some(at) = self.locales.iter().position(|localized| localized.locale.eq_ignore_ascii_case(&wanted)) {
                return at;
            }
            let shorter = wanted.rfind('-').unwrap_or_default();
            wanted.truncate(shorter);
        }
        self.locales.iter().position(|localized| localized.locale == self.default_locale).unwrap_or_default()
    }
}

/// For people.
pub(super) fn called(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Unspecified => "a partial (a template without kind)",
        ChannelKind::Email => "a template of the kind EMAIL",
        ChannelKind::Webhook => "a template of the kind WEBHOOK",
        ChannelKind::Fcm => "a template of the kind FCM",
        ChannelKind::Apns => "a template of the kind APNS",
        ChannelKind::Sms => "a template of the kind SMS",
        ChannelKind::Kakao => "a template of the kind KAKAO",
        ChannelKind::InApp => "a template of the kind IN_APP",
    }
}

fn is_locale(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let is_language = |tag: &str| (2..=SUBTAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphabetic());
    let is_subtag = |tag: &str| (1..=SUBTAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
    tag.len() <= LOCALE_BYTES_MAX && subtags.next().is_some_and(is_language) && subtags.all(is_subtag)
}
