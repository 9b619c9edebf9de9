//! Persons going through scenarios: entering by call, runs, and how far the tenant is.

use std::collections::HashMap;

use clap::Args;
use segue_proto::campaign::v1::scenario_service_client::ScenarioServiceClient;
use segue_proto::campaign::v1::{
    EnterScenarioRequest, Entrant, ExitRunsRequest, GetRunRequest, GetScenarioStatusRequest, GetScenarioStatusResponse, ListRunsRequest,
    ListRunsResponse, Run, entrant,
};
use segue_proto::events::v1::{Value, value};

use super::{Who, first_entries, moment, pair, print, who, word};
use crate::cli::{Output, print_json, say, table};
use crate::client::Authorized;
use crate::json;

type Client = ScenarioServiceClient<Authorized>;

#[derive(Debug, Args)]
pub(super) struct EnterArgs {
    /// Id of the scenario.
    id: String,
    /// Numbers of persons, or identifiers as kind:value, for example user_id:abc123.
    #[arg(required = true, value_parser = who)]
    persons: Vec<Who>,
    /// The same request enters once: the same id when it is repeated.
    #[arg(long, value_name = "ID")]
    request_id: String,
    /// One run per person and key.
    #[arg(long, value_name = "KEY", default_value = "")]
    entry_key: String,
    /// What templates see as event.properties, for example --property plan=gold. Texts; other values are written by an API call.
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(super) struct RunsArgs {
    /// Of this scenario.
    #[arg(required_unless_present = "person", default_value = "", hide_default_value = true)]
    scenario: String,
    /// Of this person, by number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    person: u32,
    /// Those that have not ended.
    #[arg(long)]
    active: bool,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, Args)]
pub(super) struct ExitArgs {
    /// Id of the scenario.
    scenario: String,
    /// The person's number.
    person: u32,
    /// The run with this entry key [default: all of them].
    #[arg(long, value_name = "KEY", default_value = "")]
    entry_key: String,
}

pub(super) async fn enter(output: Output, client: &mut Client, args: EnterArgs) -> anyhow::Result<()> {
    let properties: HashMap<String, Value> =
        args.properties.into_iter().map(|(name, text)| (name, Value { kind: Some(value::Kind::StringValue(text)) })).collect();
    let entrants = args.persons.into_iter().map(|person| {
        let who = match person {
            Who::Number(number) => entrant::Who::Person(number),
            Who::Identifier(identifier) => entrant::Who::Identifier(identifier),
        };
        Entrant { who: Some(who), entry_key: args.entry_key.clone(), properties: properties.clone() }
    });
    let request = EnterScenarioRequest { id: args.id, entrants: entrants.collect(), request_id: args.request_id };
    let answer = client.enter_scenario(request).await?.into_inner();
    if output == Output::Json {
        return print_json(&json::write("segue.campaign.v1.EnterScenarioResponse", &answer)?);
    }
    let known = answer.known.iter().filter(|known| **known).count();
    say(format!("{known} of {} are known and enter if they may; see `segue scenario runs`", answer.known.len()))
}

pub(super) async fn runs(output: Output, client: &mut Client, args: RunsArgs) -> anyhow::Result<()> {
    let RunsArgs { scenario, person, active, limit } = args;
    let page_size = i32::try_from(limit.min(1_000)).unwrap_or(1_000);
    let request = ListRunsRequest { scenario, person, active_only: active, page_size, ..Default::default() };
    let answer = ListRunsResponse { runs: first_entries!(client, list_runs, request, runs, limit), ..Default::default() };
    print(output, "ListRunsResponse", &answer, |answer| run_table(&answer.runs))
}

pub(super) async fn run(output: Output, client: &mut Client, id: u64) -> anyhow::Result<()> {
    let run = client.get_run(GetRunRequest { id }).await?.into_inner();
    print(output, "Run", &run, |run| run_table(std::slice::from_ref(run)))?;
    if output == Output::Table {
        say(visit_table(&run))?;
    }
    Ok(())
}

pub(super) async fn exit(client: &mut Client, args: ExitArgs) -> anyhow::Result<()> {
    let ExitArgs { scenario, person, entry_key } = args;
    client.exit_runs(ExitRunsRequest { scenario, person, entry_key }).await?;
    Ok(())
}

pub(super) async fn status(output: Output, client: &mut Client, wait_ms: u32) -> anyhow::Result<()> {
    let answer = client.get_scenario_status(GetScenarioStatusRequest { wait_ms }).await?.into_inner();
    print(output, "GetScenarioStatusResponse", &answer, status_table)
}

fn run_table(runs: &[Run]) -> comfy_table::Table {
    let mut shown = table(&["run", "scenario", "version", "person", "key", "state", "step", "entered", "goes on", "variants", "goals"]);
    for run in runs {
        let state = match (run.end_reason.as_str(), run.held_out) {
            ("", false) => word(run.state().as_str_name(), "RUN_STATE_"),
            ("", true) => format!("{}, held out", word(run.state().as_str_name(), "RUN_STATE_")),
            (reason, _) => reason.to_lowercase(),
        };
        let mut variants: Vec<String> = run.variants.iter().map(|(step, variant)| format!("{step}={variant}")).collect();
        variants.sort_unstable();
        shown.add_row([
            run.id.to_string(),
            run.scenario.clone(),
            run.version.to_string(),
            run.person.to_string(),
            run.entry_key.clone(),
            state,
            run.step.clone(),
            moment(run.entered_at.as_ref()),
            moment(run.due_at.as_ref()),
            variants.join(" "),
            run.converted.join(" "),
        ]);
    }
    shown
}

fn visit_table(run: &Run) -> comfy_table::Table {
    let mut shown = table(&["time", "step", "decision"]);
    for visit in &run.visits {
        shown.add_row([moment(visit.time.as_ref()), visit.step.clone(), visit.decision.clone()]);
    }
    shown
}

fn status_table(status: &GetScenarioStatusResponse) -> comfy_table::Table {
    let mut shown = table(&["dealt with until", "active runs", "due runs", "waiting sends", "steps done", "rounds", "problem"]);
    shown.add_row([
        moment(status.dealt_with_until.as_ref()),
        status.active_runs.to_string(),
        status.due_runs.to_string(),
        status.waiting_sends.to_string(),
        status.steps_done.to_string(),
        status.rounds.to_string(),
        status.problem.clone(),
    ]);
    shown
}
