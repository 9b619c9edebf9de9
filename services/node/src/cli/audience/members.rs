//! Who is in: members, sizes, evaluations, the state of live membership, and members as a file.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use prost_types::Timestamp;
use segue_proto::audience::v1::{
    EvaluateAudienceResponse, ExportFormat, ExportMembersRequest, GetLiveStatusRequest, GetLiveStatusResponse, ListMembersRequest,
    ListMembersResponse, ListSizesRequest, ListSizesResponse,
};
use segue_proto::identity::v1::Person;

use super::{Client, print};
use crate::cli::report::values::{show_seconds, show_time, show_value};
use crate::cli::{Output, print_json, say, table};
use crate::json;

#[derive(Debug, Args)]
pub(super) struct MembersArgs {
    /// The audience.
    audience: String,
    /// With identifiers and traits, as a table.
    #[arg(long)]
    details: bool,
    /// Those held out instead.
    #[arg(long)]
    held_out: bool,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

pub(super) async fn members(output: Output, client: &mut Client, args: MembersArgs) -> anyhow::Result<()> {
    let MembersArgs { audience, details, held_out, limit } = args;
    let page_size = if details { 1_000 } else { 10_000 };
    let mut request = ListMembersRequest { audience, details, held_out, page_size, page_token: String::new() };
    let mut all = ListMembersResponse::default();
    loop {
        let page = client.list_members(request.clone()).await?.into_inner();
        all.persons.extend(page.persons);
        all.details.extend(page.details);
        (all.size, all.as_of) = (page.size, page.as_of);
        if page.next_page_token.is_empty() || all.persons.len().max(all.details.len()) >= limit {
            break;
        }
        request.page_token = page.next_page_token;
    }
    all.persons.truncate(limit);
    all.details.truncate(limit);
    if output == Output::Json {
        return print_json(&json::write("segue.audience.v1.ListMembersResponse", &all)?);
    }
    if details {
        say(person_table(&all.details))?;
    } else {
        for person in &all.persons {
            say(person)?;
        }
    }
    eprintln!("{} in all, as of {}", all.size, all.as_of.as_ref().map(show_time).unwrap_or_default());
    Ok(())
}

pub(super) fn person_table(persons: &[Person]) -> comfy_table::Table {
    let mut shown = table(&["person", "identifiers", "traits"]);
    for person in persons {
        let identifiers: Vec<String> = person
            .identifiers
            .iter()
            .filter_map(|linked| linked.identifier.as_ref())
            .map(|identifier| format!("{}:{}", identifier.kind, identifier.value))
            .collect();
        let traits: Vec<String> = person
            .traits
            .iter()
            .map(|stated| format!("{}={}", stated.name, stated.value.as_ref().map(show_value).unwrap_or_default()))
            .collect();
        shown.add_row([person.number.to_string(), identifiers.join(" "), traits.join(" ")]);
    }
    shown
}

#[derive(Debug, Args)]
pub(super) struct SizesArgs {
    /// The audience.
    audience: String,
    /// From this moment on [default: 30 days ago].
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
    /// Up to this moment.
    #[arg(long, value_name = "TIME")]
    end: Option<Timestamp>,
}

pub(super) async fn sizes(output: Output, client: &mut Client, args: SizesArgs) -> anyhow::Result<()> {
    let request = ListSizesRequest { audience: args.audience, start: args.start, end: args.end };
    let answer = client.list_sizes(request).await?.into_inner();
    print(output, "ListSizesResponse", &answer, size_table)
}

fn size_table(answer: &ListSizesResponse) -> comfy_table::Table {
    let mut shown = table(&["hour", "members", "held out", "entered", "left"]);
    for size in &answer.sizes {
        let hour = size.hour.as_ref().map(show_time).unwrap_or_default();
        let [members, held_out, entered, left] = [size.size, size.held_out, size.entered, size.left].map(|count| count.to_string());
        shown.add_row([hour, members, held_out, entered, left]);
    }
    shown
}

pub(super) fn evaluation_table(answer: &EvaluateAudienceResponse) -> comfy_table::Table {
    let mut shown = table(&["members", "held out", "entered", "left", "repaired", "as of"]);
    let [members, held_out, entered, left, repaired] =
        [answer.size, answer.held_out, answer.entered, answer.left, answer.repaired].map(|count| count.to_string());
    shown.add_row([members, held_out, entered, left, repaired, answer.as_of.as_ref().map(show_time).unwrap_or_default()]);
    shown
}

pub(super) async fn status(output: Output, client: &mut Client) -> anyhow::Result<()> {
    let answer = client.get_live_status(GetLiveStatusRequest {}).await?.into_inner();
    print(output, "GetLiveStatusResponse", &answer, status_table)?;
    if !answer.problem.is_empty() {
        eprintln!("it does not go on: {}", answer.problem);
    }
    Ok(())
}

fn status_table(answer: &GetLiveStatusResponse) -> comfy_table::Table {
    let mut shown =
        table(&["as of", "transitions", "audiences", "rounds", "persons evaluated", "last round", "bytes", "audits", "repaired"]);
    shown.add_row([
        answer.as_of.as_ref().map(show_time).unwrap_or_default(),
        answer.sequence.to_string(),
        answer.audiences.to_string(),
        answer.rounds.to_string(),
        answer.persons_evaluated.to_string(),
        show_seconds(answer.round_seconds),
        answer.bytes.to_string(),
        answer.audits.to_string(),
        answer.repaired.to_string(),
    ]);
    shown
}

/// What kind of file.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// With a header line.
    Csv,
    /// One JSON object per line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The audience.
    audience: String,
    /// What kind of file.
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Columns besides the number and the id: kinds of identifiers (email) and traits (trait:df_membership) [default: user_id].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    column: Vec<String>,
    /// Where to; standard output if it is not given.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) async fn export(client: &mut Client, args: ExportArgs) -> anyhow::Result<()> {
    let format = match args.format {
        Format::Csv => ExportFormat::Csv,
        Format::Ndjson => ExportFormat::Ndjson,
        Format::Parquet => ExportFormat::Parquet,
    };
    let request = ExportMembersRequest { audience: args.audience, format: format.into(), columns: args.column };
    let mut chunks = client.export_members(request).await?.into_inner();
    // Nothing is written over before the first chunk is there: most refusals come instead of it.
    let mut next = chunks.message().await?;
    let mut out: Box<dyn Write + Send> = match &args.file {
        Some(path) => Box::new(std::fs::File::create(path).with_context(|| format!("{} cannot be written", path.display()))?),
        None => Box::new(std::io::stdout()),
    };
    let mut rows = 0;
    while let Some(part) = next {
        out.write_all(&part.chunk)?;
        rows = part.rows;
        next = chunks.message().await?;
    }
    out.flush()?;
    eprintln!("{rows} members");
    Ok(())
}
