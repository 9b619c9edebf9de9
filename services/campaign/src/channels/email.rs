//! E-mail: a message of a template's parts, given to a mail server.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures::future::BoxFuture;
use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use segue_model::Clock;
use segue_proto::campaign::v1::EmailSettings;
use segue_runtime::outgoing::Rules;
use url::{Host, Url};

use super::message_uuid;
use super::secret::Secret;
use super::smtp::{Server, Smtp};
use super::{Message, Outcome, Outlet};

/// A line of a message has no more (RFC 5322), with room for the header's name.
const HEADER_BYTES_MAX: usize = 900;
/// With it a text is not shown in the message; inboxes show the first words of a message beside the subject nevertheless.
const HIDDEN: &str = "display:none;max-height:0;max-width:0;overflow:hidden;opacity:0;mso-hide:all";

/// A sender at a mail server.
#[derive(Debug)]
pub(super) struct Email {
    pub(super) smtp: Smtp,
    from: Mailbox,
    clock: Arc<dyn Clock>,
}

impl Email {
    pub(super) fn open(settings: &EmailSettings, rules: &Rules, clock: &Arc<dyn Clock>) -> Result<Self, String> {
        let server = Server::parse(&settings.url, rules).map_err(|problem| format!("the URL {problem}"))?;
        let from = settings.from.parse().map_err(|_| "`from` is not an address: set it again".to_owned())?;
        let smtp = Smtp::open(server, &settings.username, Secret::new(settings.password.clone()), rules)?;
        Ok(Self { smtp, from, clock: clock.clone() })
    }

    /// For whom, and what it says; or why it cannot be sent.
    fn compose(&self, message: &Message) -> Result<(Address, Vec<u8>), String> {
        let part = |name: &str| message.parts.get(name).map(String::as_str).filter(|text| !text.trim().is_empty());
        let to = address(&message.address).ok_or("the address is not one of e-mail")?;
        let mut from = self.from.clone();
        if let Some(name) = part("from_name") {
            from.name = Some(one_line(name));
        }
        let id = format!("<{}@{}>", message_uuid(&message.idempotency_key).simple(), ascii_domain(from.email.domain()).unwrap_or_default());
        let now = UNIX_EPOCH + Duration::from_micros(u64::try_from(self.clock.now_us()).unwrap_or_default());
        let mut builder = lettre::Message::builder()
            .from(from)
            .to(Mailbox::new(None, to.clone()))
            .subject(one_line(part("subject").unwrap_or_default()))
            .message_id(Some(id))
            .date(now);
        if let Some(reply_to) = part("reply_to") {
            let reply_to: Mailbox = one_line(reply_to).parse().map_err(|_| "the part `reply_to` is not an address")?;
            builder = builder.reply_to(reply_to);
        }
        if let Some(url) = &message.unsubscribe_url {
            let url = Url::parse(url).map_err(|_| "the link to unsubscribe is not a URL")?;
            if url.as_str().len() > HEADER_BYTES_MAX || url.as_str().contains(['<', '>']) {
                return Err("the link to unsubscribe does not fit into a header".to_owned());
            }
            builder = builder
                .raw_header(plain(HeaderName::new_from_ascii_str("List-Unsubscribe"), format!("<{url}>")))
                .raw_header(plain(HeaderName::new_from_ascii_str("List-Unsubscribe-Post"), "List-Unsubscribe=One-Click".to_owned()));
        }
        let html = part("html").map(|html| part("preheader").map_or_else(|| html.to_owned(), |text| with_preheader(html, text)));
        let built = match (part("text"), html) {
            (Some(text), Some(html)) => builder.multipart(MultiPart::alternative_plain_html(text.to_owned(), html)),
            (Some(text), None) => builder.singlepart(SinglePart::plain(text.to_owned())),
            (None, Some(html)) => builder.singlepart(SinglePart::html(html)),
            (None, None) => return Err("the template has neither `text` nor `html`".to_owned()),
        };
        let built = built.map_err(|error| format!("the message cannot be written: {error}"))?;
        Ok((to, built.formatted()))
    }

    async fn send_once(&self, message: &Message) -> Outcome {
        match self.compose(message) {
            Ok((to, text)) => self.smtp.deliver(&self.from.email, &to, &text).await,
            Err(error) => Outcome::Refused { error },
        }
    }
}

/// A header whose value is ASCII without breaks, written as it is: folding or encoding would make it another one.
fn plain(name: HeaderName, value: String) -> HeaderValue {
    HeaderValue::dangerous_new_pre_encoded(name, value.clone(), value)
}

/// Without breaks and other characters that are not to be seen: nothing that is filled in begins another header.
fn one_line(text: &str) -> String {
    text.split(|letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}'))
        .map(str::trim)
        .filter(|words| !words.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// An address, its domain in ASCII.
fn address(text: &str) -> Option<Address> {
    let text = text.trim();
    if text.chars().any(|letter| letter.is_control() || letter.is_whitespace() || matches!(letter, '<' | '>')) {
        return None;
    }
    let (user, domain) = text.rsplit_once('@')?;
    Address::new(user, ascii_domain(domain)?).ok()
}

fn ascii_domain(domain: &str) -> Option<String> {
    match Host::parse(domain).ok()? {
        Host::Domain(domain) => Some(domain),
        // An address as a domain stands in brackets.
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

/// Puts a text that is not shown at the top of an HTML part.
fn with_preheader(html: &str, text: &str) -> String {
    let escaped = one_line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let hidden = format!("<div style=\"{HIDDEN}\">{escaped}</div>");
    let (before, after) = html.split_at(behind_body_tag(html));
    format!("{before}{hidden}{after}")
}

/// Where the body begins; 0 without a tag of it.
fn behind_body_tag(html: &str) -> usize {
    let lower = html.to_ascii_lowercase();
    let begins = |at: &usize| lower.as_bytes().get(at + 5).is_some_and(|next| next.is_ascii_whitespace() || *next == b'>');
    let Some(start) = lower.match_indices("<body").map(|(at, _)| at).find(begins) else { return 0 };
    let mut quote = None;
    for (at, letter) in lower.bytes().enumerate().skip(start) {
        match (quote, letter) {
            (None, b'>') => return at + 1,
            (None, b'"' | b'\'') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            _ => {}
        }
    }
    0
}

impl Outlet for Email {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(self.send_once(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preheader_stands_first_in_the_body_and_cannot_be_markup() {
        let div = |text: &str| format!("<div style=\"{HIDDEN}\">{text}</div>");
        assert_eq!(with_preheader("<p>Hi</p>", "a <b> & \"c\""), format!("{}<p>Hi</p>", div("a &lt;b&gt; &amp; &quot;c&quot;")));
        let html = "<html><BODY class=\"a>b\"><p>안녕</p></BODY></html>";
        assert_eq!(with_preheader(html, "x"), format!("<html><BODY class=\"a>b\">{}<p>안녕</p></BODY></html>", div("x")));
        assert_eq!(with_preheader("<bodyguard>", "x"), format!("{}<bodyguard>", div("x")));
        assert_eq!(with_preheader("<body", "x"), format!("{}<body", div("x")));
    }

    #[test]
    fn addresses_that_would_say_more_than_an_address_are_none() {
        for text in ["kim@shop.example", " kim+a@shop.example ", "o'neil@shop.example"] {
            assert_eq!(address(text).map(|address| address.to_string()), Some(text.trim().to_owned()), "{text}");
        }
        assert_eq!(address("kim@한국.example").map(|address| address.to_string()).as_deref(), Some("kim@xn--3e0b707e.example"));
        for text in [
            "",
            "kim",
            "@shop.example",
            "kim@",
            "a@b@",
            "kim@shop.example\r\nRCPT TO:<x@y.example>",
            "kim@shop.example>,<x@y.example",
            "kim x@shop.example",
            "<kim@shop.example>",
            "kim@127.0.0.1",
            "kim\0@shop.example",
        ] {
            assert_eq!(address(text), None, "{text:?}");
        }
    }

    #[test]
    fn breaks_of_every_kind_become_spaces() {
        assert_eq!(one_line("a\r\nBcc: x@y.example\u{2028}b\0c\u{85}d"), "a Bcc: x@y.example b c d");
    }
}
