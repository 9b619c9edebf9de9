//! `segue audience watch`: who enters and leaves, one line each, and the cursor to go on from.

use clap::Args;
use segue_proto::audience::v1::{Transition, WatchTransitionsRequest};
use segue_proto::events::v1::{TransitionKind, TransitionReason};

use super::Client;
use crate::cli::report::values::show_time;
use crate::cli::{Output, say};
use crate::json;

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Only these audiences; none: all.
    audiences: Vec<String>,
    /// Goes on behind the cursor of an earlier line.
    #[arg(long, conflicts_with_all = ["after", "from_beginning"])]
    cursor: Option<String>,
    /// Begins behind the transition with this number.
    #[arg(long, value_name = "NUMBER", conflicts_with = "from_beginning")]
    after: Option<u64>,
    /// Begins with the oldest transition that is kept.
    #[arg(long)]
    from_beginning: bool,
    /// Stops after so many.
    #[arg(long)]
    limit: Option<u64>,
}

/// Prints a line per transition; the last one of each answer has the cursor. JSON lines are `Transition`s, with `cursor` as one more field.
pub(super) async fn watch(output: Output, client: &mut Client, args: WatchArgs) -> anyhow::Result<()> {
    let mut cursor = args.cursor.unwrap_or_default();
    let request = WatchTransitionsRequest {
        audiences: args.audiences,
        cursor: cursor.clone(),
        after_sequence: args.after.unwrap_or_default(),
        from_beginning: args.from_beginning,
    };
    let mut answers = client.watch_transitions(request).await?.into_inner();
    let mut left = args.limit.unwrap_or(u64::MAX);
    while let Some(answer) = answers.message().await? {
        cursor = answer.cursor;
        let last = answer.transitions.len().checked_sub(1);
        for (at, transition) in answer.transitions.iter().enumerate() {
            let cursor = (Some(at) == last).then_some(cursor.as_str());
            match output {
                Output::Json => say(json_line(transition, cursor)?)?,
                Output::Table => say(line(transition, cursor))?,
            }
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
    }
    eprintln!("the server ended the stream, as it does when it stops; go on with --cursor {cursor}");
    Ok(())
}

fn json_line(transition: &Transition, cursor: Option<&str>) -> anyhow::Result<String> {
    let mut value = json::write("segue.audience.v1.Transition", transition)?;
    if let (Some(fields), Some(cursor)) = (value.as_object_mut(), cursor) {
        fields.insert("cursor".to_owned(), cursor.into());
    }
    Ok(value.to_string())
}

fn line(transition: &Transition, cursor: Option<&str>) -> String {
    let kind = match transition.kind() {
        TransitionKind::Entered => "entered",
        TransitionKind::Left => "left   ",
        TransitionKind::Unspecified => "?      ",
    };
    let why = match transition.reason() {
        TransitionReason::Event => format!("{} {}", transition.event_name, transition.message_id),
        reason => reason.as_str_name().trim_start_matches("TRANSITION_REASON_").to_lowercase(),
    };
    let time = transition.time.as_ref().map(show_time).unwrap_or_default();
    let held_out = if transition.held_out { " (held out)" } else { "" };
    let cursor = cursor.map(|cursor| format!("  cursor {cursor}")).unwrap_or_default();
    format!("{} {time} {} {kind} {}{held_out}: {why}{cursor}", transition.sequence, transition.person, transition.audience)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_did_what_when_and_why_and_the_last_one_how_to_go_on() {
        let transition = Transition {
            sequence: 12,
            audience: "openers".to_owned(),
            version: 1,
            person: 7,
            kind: TransitionKind::Entered.into(),
            time: Some(prost_types::Timestamp { seconds: 1_767_268_800, nanos: 0 }),
            reason: TransitionReason::Event.into(),
            event_name: "df_app_open".to_owned(),
            message_id: "m1".to_owned(),
            ..Default::default()
        };
        assert_eq!(line(&transition, None), "12 2026-01-01T12:00:00+00:00 7 entered openers: df_app_open m1");
        let left = Transition { kind: TransitionKind::Left.into(), reason: TransitionReason::Time.into(), ..transition.clone() };
        assert_eq!(line(&left, Some("c1")), "12 2026-01-01T12:00:00+00:00 7 left    openers: time  cursor c1");
        let json: serde_json::Value = serde_json::from_str(&json_line(&transition, Some("c1")).expect("a line")).expect("JSON");
        assert_eq!((&json["person"], &json["kind"], &json["cursor"]), (&7.into(), &"TRANSITION_KIND_ENTERED".into(), &"c1".into()));
    }
}
