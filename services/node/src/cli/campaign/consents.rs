//! `segue consent`: what persons agreed to or refused.

use clap::{Args, Subcommand};
use segue_proto::identity::v1::get_person_request;
use segue_proto::identity::v1::{
    Consent, ConsentState, GetPersonRequest, ListConsentsRequest, ListConsentsResponse, PersonConsent, SetConsentsRequest, person_consent,
};

use super::{Who, every_page, moment, who, word};
use crate::cli::{Output, ProcessArgs, ServerArgs, print_json, say, table};
use crate::json;

#[derive(Debug, Args)]
pub(in crate::cli) struct ConsentArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: ConsentCommand,
}

#[derive(Debug, Subcommand)]
enum ConsentCommand {
    /// Records what persons agreed to or refused, as of now.
    Set {
        /// `granted` or `refused`.
        #[arg(value_parser = state)]
        state: ConsentState,
        /// `push`, `email`, `sms`, `kakao`, `in_app`, or a custom one.
        channel: String,
        /// Numbers of persons, or identifiers as kind:value, for example user_id:abc123.
        #[arg(required = true, value_parser = who)]
        persons: Vec<Who>,
        /// `all`, `advertising`, `night_advertising`, or a custom one.
        #[arg(long, default_value = "advertising")]
        purpose: String,
        /// What shows it: a form's version, a message's id.
        #[arg(long, default_value = "")]
        proof: String,
    },
    /// Every consent that was ever recorded of a person, newest first.
    List {
        /// The person's number, or an identifier as kind:value.
        #[arg(value_parser = who)]
        person: Who,
    },
}

pub(in crate::cli) async fn consent(process: &ProcessArgs, args: ConsentArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.identity();
    match args.command {
        ConsentCommand::Set { state, channel, persons, purpose, proof } => {
            let consent = Consent { channel, purpose, state: state.into(), source: "cli".to_owned(), proof, ..Default::default() };
            let consents = persons.into_iter().map(|person| {
                let who = match person {
                    Who::Number(number) => person_consent::Who::Person(number),
                    Who::Identifier(identifier) => person_consent::Who::Identifier(identifier),
                };
                PersonConsent { who: Some(who), consent: Some(consent.clone()) }
            });
            client.set_consents(SetConsentsRequest { consents: consents.collect() }).await?;
            Ok(())
        }
        ConsentCommand::List { person } => {
            let person = match person {
                Who::Number(number) => number,
                Who::Identifier(identifier) => {
                    let who = Some(get_person_request::Who::Identifier(identifier));
                    client.get_person(GetPersonRequest { who }).await?.into_inner().number
                }
            };
            let request = ListConsentsRequest { person, page_size: 1_000, ..Default::default() };
            let answer = ListConsentsResponse { consents: every_page!(client, list_consents, request, consents), ..Default::default() };
            match output {
                Output::Json => print_json(&json::write("segue.identity.v1.ListConsentsResponse", &answer)?),
                Output::Table => say(consent_table(&answer.consents)),
            }
        }
    }
}

/// A state by its word.
fn state(text: &str) -> Result<ConsentState, String> {
    match text {
        "granted" => Ok(ConsentState::Granted),
        "refused" => Ok(ConsentState::Refused),
        _ => Err(format!("{text:?}: use granted or refused")),
    }
}

fn consent_table(consents: &[Consent]) -> comfy_table::Table {
    let mut shown = table(&["time", "channel", "purpose", "state", "source", "proof"]);
    for consent in consents {
        shown.add_row([
            moment(consent.time.as_ref()),
            consent.channel.clone(),
            consent.purpose.clone(),
            word(consent.state().as_str_name(), "CONSENT_STATE_"),
            consent.source.clone(),
            consent.proof.clone(),
        ]);
    }
    shown
}
