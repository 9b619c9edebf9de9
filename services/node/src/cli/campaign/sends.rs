//! `segue send`: what was sent, to whom, and why or why not.

use clap::{Args, Subcommand};
use segue_proto::campaign::v1::{
    ExplainSendRequest, ExplainSendResponse, GetSendRequest, ListSendsRequest, ListSendsResponse, Send, SendState,
};

use super::{first_entries, moment, print, word};
use crate::cli::{Output, ProcessArgs, ServerArgs, print_json, say, table};
use crate::json;

#[derive(Debug, Args)]
pub(in crate::cli) struct SendArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: SendCommand,
}

#[derive(Debug, Subcommand)]
enum SendCommand {
    /// Lists messages, the newest first.
    List {
        /// Of this scenario.
        #[arg(long, value_name = "ID", default_value = "")]
        scenario: String,
        /// Of this step.
        #[arg(long, value_name = "ID", default_value = "")]
        step: String,
        /// To this person, by number.
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        person: u32,
        /// In this state: planned, sending, sent, suppressed or failed.
        #[arg(long, value_parser = state)]
        state: Option<SendState>,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Shows a message.
    Show {
        /// Its id.
        id: String,
    },
    /// Why a message was sent, waits or was not sent.
    Explain {
        /// Its id.
        id: String,
    },
}

pub(in crate::cli) async fn send(process: &ProcessArgs, args: SendArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.messages();
    match args.command {
        SendCommand::List { scenario, step, person, state, limit } => {
            let page_size = i32::try_from(limit.min(1_000)).unwrap_or(1_000);
            let state = state.unwrap_or_default().into();
            let request = ListSendsRequest { scenario, step, person, state, page_size, ..Default::default() };
            let answer = ListSendsResponse { sends: first_entries!(client, list_sends, request, sends, limit), ..Default::default() };
            print(output, "ListSendsResponse", &answer, |answer| send_table(&answer.sends))
        }
        SendCommand::Show { id } => {
            let send = client.get_send(GetSendRequest { id }).await?.into_inner();
            print(output, "Send", &send, |send| send_table(std::slice::from_ref(send)))
        }
        SendCommand::Explain { id } => explain(output, &client.explain_send(ExplainSendRequest { id }).await?.into_inner()),
    }
}

/// A state by its word.
fn state(text: &str) -> Result<SendState, String> {
    let state = SendState::from_str_name(&format!("SEND_STATE_{}", text.to_uppercase()));
    state
        .filter(|state| *state != SendState::Unspecified)
        .ok_or_else(|| format!("{text:?}: use planned, sending, sent, suppressed or failed"))
}

fn explain(output: Output, answer: &ExplainSendResponse) -> anyhow::Result<()> {
    if output == Output::Json {
        return print_json(&json::write("segue.campaign.v1.ExplainSendResponse", answer)?);
    }
    say(send_table(answer.send.as_slice()))?;
    let mut decisions = table(&["time", "check", "outcome", "on what"]);
    for decision in &answer.decisions {
        decisions.add_row([moment(decision.time.as_ref()), decision.check.clone(), decision.outcome.clone(), decision.detail.clone()]);
    }
    say(decisions)
}

fn send_table(sends: &[Send]) -> comfy_table::Table {
    let mut shown =
        table(&["send", "scenario", "step", "person", "by", "template", "variant", "state", "reason", "planned", "sent", "addresses"]);
    for send in sends {
        let reason = match (word(send.reason().as_str_name(), "SEND_REASON_"), send.reason_detail.as_str()) {
            (reason, "") => reason,
            (reason, detail) => format!("{reason}: {detail}"),
        };
        let addresses: Vec<String> = send
            .addresses
            .iter()
            .map(|address| {
                let state = word(address.state().as_str_name(), "SEND_STATE_");
                let value = address.address.as_ref().map_or("", |identifier| identifier.value.as_str());
                let error = if address.error.is_empty() { String::new() } else { format!(" ({})", address.error) };
                format!("{value} {state}{error}")
            })
            .collect();
        shown.add_row([
            send.id.clone(),
            format!("{} v{}", send.scenario, send.version),
            send.step.clone(),
            send.person.to_string(),
            send.channel.clone(),
            send.template.clone(),
            send.variant.clone(),
            word(send.state().as_str_name(), "SEND_STATE_"),
            reason,
            moment(send.planned_at.as_ref()),
            moment(send.sent_at.as_ref()),
            addresses.join("\n"),
        ]);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_named_by_their_words() {
        assert_eq!(state("sent"), Ok(SendState::Sent));
        assert_eq!(state("Suppressed"), Ok(SendState::Suppressed));
        assert!(state("unspecified").is_err() && state("gone").is_err());
    }
}
