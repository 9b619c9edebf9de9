//! `segue persons`: who meets a condition, how many, and what one of them did.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use segue_proto::analytics::v1::{CountPersonsRequest, GetPersonTimelineRequest, SelectPersonsRequest, select_persons_request::Who};
use segue_proto::query::v1::Condition;

use super::report::read_text;
use super::report::values::{as_of, show_time, show_value};
use super::{Output, ProcessArgs, ServerArgs, print_json, say, table};
use crate::json;

#[derive(Debug, Args)]
pub(super) struct PersonsArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: PersonsCommand,
}

#[derive(Debug, Subcommand)]
enum PersonsCommand {
    /// How many persons meet a condition.
    Count {
        /// A segue.query.v1.Condition as JSON; `-` reads standard input.
        condition: PathBuf,
    },
    /// The numbers of the persons who meet a condition, one per line.
    Select {
        /// A segue.query.v1.Condition as JSON; `-` reads standard input.
        condition: PathBuf,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// What a person did, newest first.
    Timeline {
        /// The person's number.
        person: u32,
        /// At most so many events.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
}

pub(super) async fn persons(process: &ProcessArgs, args: PersonsArgs) -> anyhow::Result<()> {
    let mut analytics = args.server.connect(process).await?.analytics();
    match args.command {
        PersonsCommand::Count { condition } => {
            let condition: Condition = json::read("segue.query.v1.Condition", &read_text(&condition)?)?;
            let answer =
                analytics.count_persons(CountPersonsRequest { condition: Some(condition), ..Default::default() }).await?.into_inner();
            match process.output() {
                Output::Json => print_json(&json::write("segue.analytics.v1.CountPersonsResponse", &answer)?),
                Output::Table => {
                    say(answer.count)?;
                    eprintln!("of {} known persons, {}", answer.persons_total, as_of(answer.watermark.as_ref()));
                    Ok(())
                }
            }
        }
        PersonsCommand::Select { condition, limit } => {
            let condition: Condition = json::read("segue.query.v1.Condition", &read_text(&condition)?)?;
            let mut request = SelectPersonsRequest { who: Some(Who::Condition(condition)), page_size: 10_000, ..Default::default() };
            let mut left = limit;
            loop {
                let answer = analytics.select_persons(request.clone()).await?.into_inner();
                for person in answer.persons.iter().take(left) {
                    say(person)?;
                }
                left = left.saturating_sub(answer.persons.len());
                if left == 0 || answer.next_page_token.is_empty() {
                    eprintln!("{} persons in all, {}", answer.count, as_of(answer.watermark.as_ref()));
                    return Ok(());
                }
                request.page_token = answer.next_page_token;
            }
        }
        PersonsCommand::Timeline { person, limit } => {
            let request = GetPersonTimelineRequest { person, page_size: limit, ..Default::default() };
            let answer = analytics.get_person_timeline(request).await?.into_inner();
            if process.output() == Output::Json {
                return print_json(&json::write("segue.analytics.v1.GetPersonTimelineResponse", &answer)?);
            }
            let mut shown = table(&["time", "event", "device", "items", "properties"]);
            for event in &answer.events {
                let mut properties: Vec<String> =
                    event.properties.iter().map(|(name, value)| format!("{name}={}", show_value(value))).collect();
                properties.sort_unstable();
                let time = event.time.as_ref().map(show_time).unwrap_or_default();
                let items = event.items.len();
                shown.add_row([time, event.name.clone(), event.device.to_string(), items.to_string(), properties.join(" ")]);
            }
            say(shown)
        }
    }
}
