//! What segments and audiences are made of: conditions as text or JSON, and their tables.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use segue_proto::audience::v1::{Audience, AudienceMode, DefinitionVersion, ParseConditionRequest, Segment};
use segue_proto::query::v1;

use super::Client;
use crate::cli::report::read_text;
use crate::cli::report::values::show_time;
use crate::cli::table;
use crate::json;

/// A condition, as text or as JSON.
#[derive(Debug, Args)]
pub(super) struct Condition {
    /// The condition as text, for example 'did df_app_open within 90 days and never did df_sign_up'.
    #[arg(long = "where", value_name = "TEXT")]
    text: Option<String>,
    /// The condition as JSON (segue.query.v1.Condition) in a file; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    condition: Option<PathBuf>,
}

impl Condition {
    /// The condition, if one is given. Text is read by the server.
    pub(super) async fn read(&self, client: &mut Client) -> anyhow::Result<Option<v1::Condition>> {
        if let Some(text) = &self.text {
            let request = ParseConditionRequest { text: text.clone() };
            return Ok(client.parse_condition(request).await?.into_inner().condition);
        }
        match &self.condition {
            Some(path) => Ok(Some(json::read("segue.query.v1.Condition", &read_text(path)?)?)),
            None => Ok(None),
        }
    }

    /// The condition, which must be given.
    pub(super) async fn required(&self, client: &mut Client) -> anyhow::Result<v1::Condition> {
        self.read(client).await?.context("say who is meant: --where 'did df_app_open within 90 days', or --condition FILE")
    }
}

/// How the members of an audience come about.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Mode {
    /// Kept true at every moment.
    Live,
    /// Those of the last evaluation.
    Snapshot,
}

/// What else an audience has.
#[derive(Debug, Args)]
pub(super) struct AudienceFields {
    /// For people.
    #[arg(long)]
    name: Option<String>,
    /// For people.
    #[arg(long)]
    description: Option<String>,
    /// How the members come about [default: live].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Per cent of those who meet the condition that are held out, for example 2.5.
    #[arg(long, value_name = "PERCENT", value_parser = hundredths)]
    holdout: Option<u32>,
    /// IANA zone of the days and months of the condition [default: the tenant's].
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

impl AudienceFields {
    /// The audience with what is given, and the names of what that is.
    pub(super) fn apply(self, mut audience: Audience) -> (Audience, Vec<String>) {
        let mut given = Vec::new();
        let mut take = |name: &str, is_given: bool| given.extend(is_given.then(|| name.to_owned()));
        take("name", self.name.is_some());
        take("description", self.description.is_some());
        take("mode", self.mode.is_some());
        take("holdout", self.holdout.is_some());
        take("time_zone", self.time_zone.is_some());
        // An audience needs a name; its id is one.
        audience.name = self.name.unwrap_or_else(|| audience.id.clone());
        audience.description = self.description.unwrap_or_default();
        audience.mode = match self.mode {
            Some(Mode::Live) => AudienceMode::Live,
            Some(Mode::Snapshot) => AudienceMode::Snapshot,
            None => AudienceMode::Unspecified,
        }
        .into();
        audience.holdout = self.holdout.unwrap_or_default();
        audience.time_zone = self.time_zone.unwrap_or_default();
        (audience, given)
    }
}

/// Per cent with at most two places as hundredths of a per cent: `2.5` is 250.
pub(super) fn hundredths(text: &str) -> Result<u32, String> {
    let fault = || format!("{text:?} is no percentage from 0 to 100 with at most two places");
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    let (whole, places) = number.split_once('.').unwrap_or((number, ""));
    if places.len() > 2 || whole.is_empty() || !format!("{whole}{places}").bytes().all(|b| b.is_ascii_digit()) {
        return Err(fault());
    }
    let hundredths = format!("{whole}{places:0<2}").parse().map_err(|_| fault())?;
    if hundredths > 10_000 { Err(fault()) } else { Ok(hundredths) }
}

/// Hundredths of a per cent as per cent.
pub(super) fn percent(hundredths: u32) -> String {
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

pub(super) fn audience_table(audiences: &[Audience]) -> comfy_table::Table {
    let mut shown = table(&["audience", "name", "state", "members", "held out", "version", "as of", "condition"]);
    for audience in audiences {
        let state = match (audience.archived, audience.mode()) {
            (true, _) => "archived",
            (false, AudienceMode::Snapshot) => "snapshot",
            (false, AudienceMode::Live | AudienceMode::Unspecified) => "live",
        };
        let count = |count: Option<u64>| count.map_or_else(|| "–".to_owned(), |count| count.to_string());
        let held_out = match audience.holdout {
            0 => String::new(),
            share => format!("{} ({})", count(audience.held_out), percent(share)),
        };
        shown.add_row([
            audience.id.clone(),
            audience.name.clone(),
            state.to_owned(),
            count(audience.size),
            held_out,
            // Members may still be those of an earlier version.
            if audience.evaluated_version == audience.version || audience.evaluated_version == 0 {
                audience.version.to_string()
            } else {
                format!("{} (members of {})", audience.version, audience.evaluated_version)
            },
            audience.evaluated_at.as_ref().map(show_time).unwrap_or_default(),
            audience.text.clone(),
        ]);
    }
    shown
}

pub(super) fn segment_table(segments: &[Segment]) -> comfy_table::Table {
    let mut shown = table(&["segment", "name", "state", "version", "condition"]);
    for segment in segments {
        let state = if segment.archived { "archived" } else { "in use" };
        shown.add_row([&segment.id, &segment.name, state, &segment.version.to_string(), &segment.text]);
    }
    shown
}

pub(super) fn version_table(versions: &[DefinitionVersion]) -> comfy_table::Table {
    let mut shown = table(&["version", "since", "held out", "time zone", "condition"]);
    for version in versions {
        let since = version.created_at.as_ref().map(show_time).unwrap_or_default();
        let held_out = if version.holdout == 0 { String::new() } else { percent(version.holdout) };
        shown.add_row([&version.version.to_string(), &since, &held_out, &version.time_zone, &version.text]);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_to_the_hundredth_of_a_per_cent_and_written_back() {
        for (text, expected) in [("0", 0), ("5", 500), ("2.5", 250), ("2.05%", 205), ("100", 10_000), ("100.00 %", 10_000)] {
            assert_eq!(hundredths(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "100.01", "2.505", "a", "1e1", ".5", "+5"] {
            assert!(hundredths(text).is_err(), "{text}");
        }
        assert_eq!([0, 205, 10_000].map(percent), ["0.00 %", "2.05 %", "100.00 %"]);
    }

    #[test]
    fn an_update_names_what_is_given_and_nothing_else() {
        let none = AudienceFields { name: None, description: None, mode: None, holdout: None, time_zone: None };
        let fields = AudienceFields { holdout: Some(0), mode: Some(Mode::Snapshot), ..none };
        let (audience, given) = fields.apply(Audience { id: "a".to_owned(), ..Default::default() });
        assert_eq!(given, ["mode", "holdout"]);
        assert_eq!((audience.mode(), audience.name.as_str()), (AudienceMode::Snapshot, "a"));
    }
}
