//! `segue policy`: when messages may be sent.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use segue_proto::campaign::v1::{GetSendingPolicyRequest, SendingPolicy, UpdateSendingPolicyRequest};

use super::{moment, print, read, word};
use crate::cli::{Output, ProcessArgs, ServerArgs, table};

#[derive(Debug, Args)]
pub(in crate::cli) struct PolicyArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Shows the policy.
    Show {
        /// An earlier version.
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        version: u32,
    },
    /// Puts another policy in its place: a new version.
    Set {
        /// A segue.campaign.v1.SendingPolicy as JSON, all of it; `-` reads standard input.
        policy: PathBuf,
        /// Only if it is still in this state.
        #[arg(long)]
        etag: Option<String>,
    },
}

pub(in crate::cli) async fn policy(process: &ProcessArgs, args: PolicyArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.channels();
    match args.command {
        PolicyCommand::Show { version } => {
            print_policy(output, &client.get_sending_policy(GetSendingPolicyRequest { version }).await?.into_inner())
        }
        PolicyCommand::Set { policy, etag } => {
            let policy = SendingPolicy { etag: etag.unwrap_or_default(), ..read("SendingPolicy", &policy)? };
            let request = UpdateSendingPolicyRequest { policy: Some(policy) };
            print_policy(output, &client.update_sending_policy(request).await?.into_inner())
        }
    }
}

fn print_policy(output: Output, policy: &SendingPolicy) -> anyhow::Result<()> {
    print(output, "SendingPolicy", policy, policy_table)
}

/// A line per rule.
fn policy_table(policy: &SendingPolicy) -> comfy_table::Table {
    let mut shown = table(&["rule", "what"]);
    let mut line = |rule: &str, what: String| {
        shown.add_row([rule.to_owned(), what]);
    };
    line("version", format!("{} of {} (etag {})", policy.version, moment(policy.created_at.as_ref()), policy.etag));
    line("never messaged", format!("{}.{:02} % of all persons", policy.global_holdout / 100, policy.global_holdout % 100));
    line("unknown consent", if policy.unknown_consent_is_yes { "is yes" } else { "is no" }.to_owned());
    for cap in &policy.caps {
        line("at most", format!("{} in {} days{}", cap.count, cap.days, kinds(cap.kinds())));
    }
    for rule in &policy.times {
        let mut what = format!("{} to {}: {}{}", rule.from, rule.to, if rule.drop { "drop" } else { "wait" }, kinds(rule.kinds()));
        match word(rule.purpose().as_str_name(), "PURPOSE_") {
            purpose if purpose.is_empty() => {}
            purpose => what.push_str(&format!(", {purpose}")),
        }
        if !rule.unless_consent.is_empty() {
            what.push_str(&format!(", unless {} was granted", rule.unless_consent));
        }
        let zone = if rule.time_zone.is_empty() { "of the person" } else { &rule.time_zone };
        line(&rule.name, format!("{what} (clock: {zone})"));
    }
    shown
}

fn kinds(kinds: impl Iterator<Item = segue_proto::campaign::v1::ChannelKind>) -> String {
    let kinds: Vec<String> = kinds.map(|kind| word(kind.as_str_name(), "CHANNEL_KIND_")).collect();
    if kinds.is_empty() { String::new() } else { format!(" by {}", kinds.join(", ")) }
}
