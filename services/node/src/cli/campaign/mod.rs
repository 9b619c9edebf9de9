//! `segue scenario`, and beside it `message` (templates), `channel`, `policy`, `send` and `consent`: what happens to persons, and what they are sent.
//! One module per command; those of `segue scenario` with much to print have modules of their own.

mod channels;
mod consents;
mod numbers;
mod policies;
mod runs;
mod scenarios;
mod sends;
mod templates;

use std::path::Path;

use prost::Message;
use segue_proto::events::v1::Identifier;

use super::report::read_text;
use super::report::values::show_time;
use super::{Output, print_json, say};
use crate::json;

pub(super) use channels::{ChannelArgs, channel};
pub(super) use consents::{ConsentArgs, consent};
pub(super) use policies::{PolicyArgs, policy};
pub(super) use scenarios::{ScenarioArgs, scenario};
pub(super) use sends::{SendArgs, send};
pub(super) use templates::{TemplateArgs, template};

/// All entries of a list, page by page.
macro_rules! every_page {
    ($client:expr, $call:ident, $request:expr, $entries:ident) => {{
        let (mut request, mut entries) = ($request, Vec::new());
        loop {
            let page = $client.$call(request.clone()).await?.into_inner();
            entries.extend(page.$entries);
            if page.next_page_token.is_empty() {
                break entries;
            }
            request.page_token = page.next_page_token;
        }
    }};
}
use every_page;

/// The first entries of a list, as many as asked for.
macro_rules! first_entries {
    ($client:expr, $call:ident, $request:expr, $entries:ident, $limit:expr) => {{
        let (mut request, mut entries) = ($request, Vec::new());
        loop {
            let page = $client.$call(request.clone()).await?.into_inner();
            entries.extend(page.$entries);
            if page.next_page_token.is_empty() || entries.len() >= $limit {
                entries.truncate($limit);
                break entries;
            }
            request.page_token = page.next_page_token;
        }
    }};
}
use first_entries;

/// A message of `segue.campaign.v1` from a file of JSON; `-` reads standard input.
fn read<M: Message + Default>(name: &str, path: &Path) -> anyhow::Result<M> {
    json::read(&format!("segue.campaign.v1.{name}"), &read_text(path)?)
}

/// Prints a message of `segue.campaign.v1`.
fn print<M: Message>(output: Output, name: &str, message: &M, table: impl FnOnce(&M) -> comfy_table::Table) -> anyhow::Result<()> {
    match output {
        Output::Json => print_json(&json::write(&format!("segue.campaign.v1.{name}"), message)?),
        Output::Table => say(table(message)),
    }
}

/// The value of an enumeration without its prefix, in small letters: `SEND_STATE_SENT` is `sent`; what is unspecified is nothing.
fn word(name: &str, prefix: &str) -> String {
    match name.strip_prefix(prefix).unwrap_or(name) {
        "UNSPECIFIED" => String::new(),
        word => word.to_lowercase(),
    }
}

/// A moment, where there is one.
fn moment(time: Option<&prost_types::Timestamp>) -> String {
    time.map(show_time).unwrap_or_default()
}

/// A person: by number, or by an identifier as `kind:value`.
#[derive(Debug, Clone, PartialEq)]
enum Who {
    Number(u32),
    Identifier(Identifier),
}

fn who(text: &str) -> Result<Who, String> {
    match (text.parse(), text.split_once(':')) {
        (Ok(number), _) => Ok(Who::Number(number)),
        (Err(_), Some((kind, value))) => Ok(Who::Identifier(Identifier { kind: kind.to_owned(), value: value.to_owned() })),
        (Err(_), None) => Err(format!("{text:?} is neither the number of a person nor an identifier like user_id:abc123")),
    }
}

/// `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_are_named_by_number_or_by_identifier() {
        assert_eq!(who("7"), Ok(Who::Number(7)));
        let identifier = Identifier { kind: "user_id".to_owned(), value: "abc:1".to_owned() };
        assert_eq!(who("user_id:abc:1"), Ok(Who::Identifier(identifier)));
        assert!(who("somebody").is_err());
    }

    #[test]
    fn enumerations_read_as_words() {
        assert_eq!(word("SEND_STATE_SENT", "SEND_STATE_"), "sent");
        assert_eq!(word("SEND_REASON_UNSPECIFIED", "SEND_REASON_"), "");
    }
}
