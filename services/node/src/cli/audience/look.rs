//! `segue audience preview` and `segue audience explain`: looking before acting, and understanding after.

use clap::Args;
use prost_types::Timestamp;
use segue_proto::analytics::v1::ConditionExplanation;
use segue_proto::audience::v1::explain_membership_request::Who;
use segue_proto::audience::v1::preview_audience_request::What;
use segue_proto::audience::v1::{ExplainMembershipRequest, ExplainMembershipResponse, PreviewAudienceRequest, PreviewAudienceResponse};
use segue_proto::query::v1;
use segue_proto::query::v1::condition::Node;

use super::Client;
use super::definition::{Condition, hundredths};
use crate::cli::report::values::{show_seconds, show_share, show_time, show_value};
use crate::cli::{Output, print_json, say, table};
use crate::json;

#[derive(Debug, Args)]
pub(super) struct PreviewArgs {
    #[command(flatten)]
    condition: Condition,
    /// Of this audience instead.
    #[arg(long, value_name = "ID", conflicts_with_all = ["text", "condition", "segment"])]
    audience: Option<String>,
    /// Of this segment instead.
    #[arg(long, value_name = "ID", conflicts_with_all = ["text", "condition"])]
    segment: Option<String>,
    /// Per cent of those who meet the condition that are held out.
    #[arg(long, value_name = "PERCENT", value_parser = hundredths, default_value = "0")]
    holdout: u32,
    /// IANA zone of the days and months of the condition [default: the tenant's].
    #[arg(long, value_name = "ZONE", default_value = "")]
    time_zone: String,
    /// Persons to show, at most 100.
    #[arg(long, default_value_t = 10)]
    sample: u32,
    /// Audiences to compare with.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    overlap: Vec<String>,
}

pub(super) async fn preview(output: Output, client: &mut Client, args: PreviewArgs) -> anyhow::Result<()> {
    let what = match (args.audience, args.segment) {
        (Some(audience), _) => What::Audience(audience),
        (None, Some(segment)) => What::Segment(segment),
        (None, None) => What::Condition(args.condition.required(client).await?),
    };
    let request = PreviewAudienceRequest {
        what: Some(what),
        time_zone: args.time_zone,
        holdout: args.holdout,
        sample_size: args.sample,
        overlap_with: args.overlap,
    };
    let answer = client.preview_audience(request).await?.into_inner();
    if output == Output::Json {
        return print_json(&json::write("segue.audience.v1.PreviewAudienceResponse", &answer)?);
    }
    say_preview(&answer)?;
    let as_of = answer.as_of.as_ref().map(show_time).unwrap_or_default();
    eprintln!("as of {as_of}, evaluated in {}", show_seconds(answer.seconds));
    Ok(())
}

fn say_preview(answer: &PreviewAudienceResponse) -> anyhow::Result<()> {
    let share = |part: u64, whole: u64| show_share((whole > 0).then(|| part as f64 / whole as f64));
    let of_all = share(answer.size, answer.persons_total);
    let held_out = if answer.held_out == 0 { String::new() } else { format!(", {} more held out", answer.held_out) };
    say(format!("{} of {} known persons ({of_all}){held_out}", answer.size, answer.persons_total))?;
    let mut nodes = table(&["by itself", "node of the condition"]);
    for (count, line) in answer.node_counts.iter().zip(answer.expanded.as_ref().map(node_lines).unwrap_or_default()) {
        nodes.add_row([count.to_string(), line]);
    }
    say(nodes)?;
    let mut reach = table(&["channel", "addressable", "", "said yes", "said no"]);
    for channel in &answer.reach {
        let addressable = share(channel.addressable, answer.size);
        let (yes, no) = (channel.opted_in.to_string(), channel.opted_out.to_string());
        reach.add_row([&channel.channel, &channel.addressable.to_string(), &addressable, &yes, &no]);
    }
    say(reach)?;
    if !answer.overlaps.is_empty() {
        let mut overlaps = table(&["audience", "members", "in both", "of this one"]);
        for overlap in &answer.overlaps {
            let of_this = share(overlap.common, answer.size);
            overlaps.add_row([&overlap.audience, &overlap.size.to_string(), &overlap.common.to_string(), &of_this]);
        }
        say(overlaps)?;
    }
    if !answer.sample.is_empty() {
        say(super::members::person_table(&answer.sample))?;
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The audience.
    audience: String,
    /// A person's number, or an identifier as kind:value, for example user_id:abc123.
    person: String,
    /// As of this moment instead of now, for example 2026-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    as_of: Option<Timestamp>,
    /// Events per node, at most 100.
    #[arg(long, default_value_t = 10)]
    events: u32,
}

pub(super) async fn explain(output: Output, client: &mut Client, args: ExplainArgs) -> anyhow::Result<()> {
    let who = match args.person.parse() {
        Ok(number) => Who::Person(number),
        Err(_) => Who::Identifier(args.person),
    };
    let request = ExplainMembershipRequest { who: Some(who), audience: args.audience, as_of: args.as_of, events_max: args.events };
    let answer = client.explain_membership(request).await?.into_inner();
    match output {
        Output::Json => print_json(&json::write("segue.audience.v1.ExplainMembershipResponse", &answer)?),
        Output::Table => {
            for line in explanation_lines(&answer) {
                say(line)?;
            }
            eprintln!("as of {}", answer.as_of.as_ref().map(show_time).unwrap_or_default());
            Ok(())
        }
    }
}

fn explanation_lines(answer: &ExplainMembershipResponse) -> Vec<String> {
    let verdict = match (answer.member, answer.held_out) {
        (true, _) => "is a member".to_owned(),
        (false, true) => format!("meets the condition, but is held out (bucket {})", answer.holdout_bucket),
        (false, false) => "is no member".to_owned(),
    };
    let mut lines = vec![format!("person {} {verdict}: {}", answer.person, answer.text)];
    if let Some(root) = &answer.explanation {
        let nodes = answer.expanded.as_ref().map(node_lines).unwrap_or_default();
        explained(root, &mut nodes.into_iter(), 0, &mut lines);
    }
    lines
}

/// The nodes of a condition in the order of a walk from the root, each as a line that is as far in as it is deep.
fn node_lines(condition: &v1::Condition) -> Vec<String> {
    let mut lines = Vec::new();
    segue_query::walk(condition, |path, node| {
        let text = match &node.node {
            Some(Node::All(_)) => "all of".to_owned(),
            Some(Node::Any(_)) => "any of".to_owned(),
            Some(Node::Not(_)) => "not".to_owned(),
            // What has no text here may be newer than this program.
            _ => segue_query::format(node).unwrap_or_else(|_| path.to_owned()),
        };
        // Each level adds an operand's place, or is that of a `not`.
        let depth = path.matches("].").count() + path.matches("not.").count();
        lines.push(format!("{}{text}", "  ".repeat(depth)));
    });
    lines
}

/// A node with what decided it, and the nodes below it further in. Conditions have at most 8 levels; `nodes` says each in words.
fn explained(node: &ConditionExplanation, nodes: &mut impl Iterator<Item = String>, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    let words = nodes.next().unwrap_or_else(|| format!("{indent}{}", node.path));
    let mut line = format!("{} {words}", if node.met { "✓" } else { "✗" });
    if let Some(value) = &node.value {
        line.push_str(&format!(" = {}", show_value(value)));
    }
    if let Some(time) = &node.value_time {
        line.push_str(&format!(" (since {})", show_time(time)));
    }
    if let Some(start) = &node.window_start {
        line.push_str(&format!(", from {}", show_time(start)));
    }
    if let Some(change) = &node.next_change {
        line.push_str(&format!(", may change at {}", show_time(change)));
    }
    lines.push(line);
    for event in &node.events {
        let time = event.time.as_ref().map(show_time).unwrap_or_default();
        lines.push(format!("  {indent}  {time} {} {}", event.name, event.message_id));
    }
    let listed = node.events.len() as u64;
    if node.events_total > listed {
        lines.push(format!("  {indent}  … and {} more", node.events_total - listed));
    }
    for operand in &node.operands {
        explained(operand, nodes, depth + 1, lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_proto::analytics::v1::TimelineEvent;
    use segue_proto::events::v1::{Value, value};

    #[test]
    fn an_explanation_reads_from_the_root_down_with_the_events_that_decided() {
        let text = "did df_app_open within 90 days and not (did df_sign_up or has email)";
        let expanded = segue_query::parse(text).expect("a condition");
        let node = |met: bool, operands: Vec<ConditionExplanation>| ConditionExplanation { met, operands, ..Default::default() };
        let opened = ConditionExplanation {
            value: Some(Value { kind: Some(value::Kind::IntValue(3)) }),
            events: vec![TimelineEvent { name: "df_app_open".to_owned(), message_id: "m1".to_owned(), ..Default::default() }],
            events_total: 3,
            ..node(true, Vec::new())
        };
        let not = node(true, vec![node(false, vec![node(false, Vec::new()), node(false, Vec::new())])]);
        let answer = ExplainMembershipResponse {
            person: 7,
            held_out: true,
            holdout_bucket: 42,
            text: text.to_owned(),
            explanation: Some(node(true, vec![opened, not])),
            expanded: Some(expanded),
            ..Default::default()
        };
        assert_eq!(
            explanation_lines(&answer),
            [
                &format!("person 7 meets the condition, but is held out (bucket 42): {text}"),
                "✓ all of",
                "✓   did df_app_open within 90 days = 3",
                "       df_app_open m1",
                "      … and 2 more",
                "✓   not",
                "✗     any of",
                "✗       did df_sign_up",
                "✗       has email",
            ]
        );
    }
}
