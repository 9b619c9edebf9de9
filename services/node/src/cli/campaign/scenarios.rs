//! `segue scenario`: what happens to a person after an event, on entering an audience, at a time or by call.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use segue_proto::campaign::v1::{
    ArchiveScenarioRequest, CreateScenarioRequest, EndScenarioRequest, GetScenarioRequest, ListScenarioVersionsRequest,
    ListScenarioVersionsResponse, ListScenariosRequest, ListScenariosResponse, PauseScenarioRequest, Scenario, ScenarioDefinition,
    ScenarioVersion, StartScenarioRequest, UpdateScenarioRequest, ValidateScenarioRequest, ValidateScenarioResponse, entry,
};

use super::{every_page, moment, numbers, print, read, runs, word};
use crate::cli::{Output, ProcessArgs, ServerArgs, table};

#[derive(Debug, Args)]
pub(in crate::cli) struct ScenarioArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: ScenarioCommand,
}

#[derive(Debug, Subcommand)]
enum ScenarioCommand {
    /// Lists scenarios.
    List {
        /// Archived ones too.
        #[arg(long)]
        archived: bool,
    },
    /// Shows a scenario; its definition with --output json.
    Show {
        /// Its id.
        id: String,
        /// Every version, newest first, instead of the present state.
        #[arg(long)]
        versions: bool,
    },
    /// Makes a scenario as a draft: nobody enters it yet.
    Create {
        /// 1–63 characters a-z, 0-9, '_' and '-', starting with a letter.
        id: String,
        /// A segue.campaign.v1.ScenarioDefinition as JSON; `-` reads standard input.
        definition: PathBuf,
        /// For people.
        #[arg(long)]
        name: Option<String>,
        /// For people.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Changes what is given of a scenario; a changed definition is a new version, which `start` lets persons enter.
    Update {
        /// Its id.
        id: String,
        /// A segue.campaign.v1.ScenarioDefinition as JSON; `-` reads standard input.
        #[arg(long, value_name = "FILE")]
        definition: Option<PathBuf>,
        /// For people.
        #[arg(long)]
        name: Option<String>,
        /// For people.
        #[arg(long)]
        description: Option<String>,
        /// Only if it is still in this state.
        #[arg(long)]
        etag: Option<String>,
    },
    /// Everything that keeps the newest version from being started.
    Validate {
        /// Its id.
        id: String,
    },
    /// Starts the newest version, or goes on after a pause.
    Start {
        /// Its id.
        id: String,
        /// Who is a member of the entry's audience now enters too.
        #[arg(long)]
        present_members: bool,
    },
    /// Nobody enters and nothing is sent until it is started again.
    Pause {
        /// Its id.
        id: String,
    },
    /// Ends every run, for good.
    End {
        /// Its id.
        id: String,
    },
    /// Takes a draft or ended scenario out of lists.
    Archive {
        /// Its id.
        id: String,
    },
    /// Lets persons enter by call.
    Enter(runs::EnterArgs),
    /// Runs of a scenario or a person, the newest first.
    Runs(runs::RunsArgs),
    /// One run, with the steps that were done.
    Run {
        /// Its number.
        id: u64,
    },
    /// Ends runs of a person at once.
    Exit(runs::ExitArgs),
    /// How far the tenant's scenarios are.
    Status {
        /// Waits up to so many milliseconds until everything that came in before has been dealt with.
        #[arg(long, value_name = "MS", default_value_t = 0)]
        wait: u32,
    },
    /// What a scenario sent, and what came of it, by step and variant.
    Results {
        /// Its id.
        id: String,
    },
    /// What an experiment says.
    Experiment(numbers::ExperimentArgs),
}

pub(in crate::cli) async fn scenario(process: &ProcessArgs, args: ScenarioArgs) -> anyhow::Result<()> {
    let output = process.output();
    let gateway = args.server.connect(process).await?;
    let mut client = gateway.scenarios();
    match args.command {
        ScenarioCommand::List { archived } => {
            let request = ListScenariosRequest { with_archived: archived, page_size: 1_000, ..Default::default() };
            let scenarios = every_page!(client, list_scenarios, request, scenarios);
            let answer = ListScenariosResponse { scenarios, ..Default::default() };
            print(output, "ListScenariosResponse", &answer, |answer| scenario_table(&answer.scenarios))
        }
        ScenarioCommand::Show { id, versions: true } => {
            let request = ListScenarioVersionsRequest { id, page_size: 1_000, ..Default::default() };
            let versions = every_page!(client, list_scenario_versions, request, versions);
            let answer = ListScenarioVersionsResponse { versions, ..Default::default() };
            print(output, "ListScenarioVersionsResponse", &answer, |answer| version_table(&answer.versions))
        }
        ScenarioCommand::Show { id, versions: false } => {
            print_scenario(output, &client.get_scenario(GetScenarioRequest { id }).await?.into_inner())
        }
        ScenarioCommand::Create { id, definition, name, description } => {
            let definition: ScenarioDefinition = read("ScenarioDefinition", &definition)?;
            // A scenario needs a name; its id is one.
            let name = name.unwrap_or_else(|| id.clone());
            let scenario = Some(Scenario { id, name, description, definition: Some(definition), ..Default::default() });
            print_scenario(output, &client.create_scenario(CreateScenarioRequest { scenario }).await?.into_inner())
        }
        ScenarioCommand::Update { id, definition, name, description, etag } => {
            let definition: Option<ScenarioDefinition> = definition.map(|path| read("ScenarioDefinition", &path)).transpose()?;
            let given = [("name", name.is_some()), ("description", description.is_some()), ("definition", definition.is_some())];
            let paths: Vec<String> = given.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect();
            anyhow::ensure!(!paths.is_empty(), "nothing is to be changed: name something, for example --definition FILE");
            let scenario = Scenario {
                id,
                name: name.unwrap_or_default(),
                description: description.unwrap_or_default(),
                definition,
                etag: etag.unwrap_or_default(),
                ..Default::default()
            };
            let request = UpdateScenarioRequest { scenario: Some(scenario), update_mask: Some(prost_types::FieldMask { paths }) };
            print_scenario(output, &client.update_scenario(request).await?.into_inner())
        }
        ScenarioCommand::Validate { id } => {
            let answer = client.validate_scenario(ValidateScenarioRequest { id }).await?.into_inner();
            print(output, "ValidateScenarioResponse", &answer, fault_table)?;
            anyhow::ensure!(answer.faults.is_empty(), "it cannot be started until these faults are mended: {}", answer.faults.len());
            eprintln!("it can be started");
            Ok(())
        }
        ScenarioCommand::Start { id, present_members } => {
            let request = StartScenarioRequest { id, enter_present_members: present_members, ..Default::default() };
            print_scenario(output, &client.start_scenario(request).await?.into_inner())
        }
        ScenarioCommand::Pause { id } => {
            let request = PauseScenarioRequest { id, ..Default::default() };
            print_scenario(output, &client.pause_scenario(request).await?.into_inner())
        }
        ScenarioCommand::End { id } => {
            let request = EndScenarioRequest { id, ..Default::default() };
            print_scenario(output, &client.end_scenario(request).await?.into_inner())
        }
        ScenarioCommand::Archive { id } => {
            let request = ArchiveScenarioRequest { id, ..Default::default() };
            print_scenario(output, &client.archive_scenario(request).await?.into_inner())
        }
        ScenarioCommand::Enter(args) => runs::enter(output, &mut client, args).await,
        ScenarioCommand::Runs(args) => runs::runs(output, &mut client, args).await,
        ScenarioCommand::Run { id } => runs::run(output, &mut client, id).await,
        ScenarioCommand::Exit(args) => runs::exit(&mut client, args).await,
        ScenarioCommand::Status { wait } => runs::status(output, &mut client, wait).await,
        ScenarioCommand::Results { id } => numbers::results(output, &mut gateway.results(), id).await,
        ScenarioCommand::Experiment(args) => numbers::experiment(output, &mut gateway.results(), args).await,
    }
}

fn print_scenario(output: Output, scenario: &Scenario) -> anyhow::Result<()> {
    print(output, "Scenario", scenario, |scenario| scenario_table(std::slice::from_ref(scenario)))
}

fn scenario_table(scenarios: &[Scenario]) -> comfy_table::Table {
    let mut shown = table(&["scenario", "name", "state", "entry", "steps", "version", "since", "etag"]);
    for scenario in scenarios {
        let (entry, steps) = outline(scenario.definition.as_ref());
        // Persons may still enter an earlier version.
        let version = match scenario.started_version {
            started if started == 0 || started == scenario.version => scenario.version.to_string(),
            started => format!("{} (entered: {started})", scenario.version),
        };
        shown.add_row([
            scenario.id.clone(),
            scenario.name.clone(),
            word(scenario.state().as_str_name(), "SCENARIO_STATE_"),
            entry,
            steps,
            version,
            moment(scenario.started_at.as_ref()),
            scenario.etag.clone(),
        ]);
    }
    shown
}

fn version_table(versions: &[ScenarioVersion]) -> comfy_table::Table {
    let mut shown = table(&["version", "since", "entry", "steps"]);
    for version in versions {
        let (entry, steps) = outline(version.definition.as_ref());
        shown.add_row([version.version.to_string(), moment(version.created_at.as_ref()), entry, steps]);
    }
    shown
}

/// By what it is entered, and its steps by id.
fn outline(definition: Option<&ScenarioDefinition>) -> (String, String) {
    let Some(definition) = definition else { return (String::new(), String::new()) };
    let entry = match definition.entry.as_ref().and_then(|entry| entry.on.as_ref()) {
        Some(entry::On::Event(event)) => match event.on.as_ref().map(|on| on.events.join(", ")) {
            Some(names) if !names.is_empty() => format!("event {names}"),
            _ => "any event".to_owned(),
        },
        Some(entry::On::Audience(audience)) if audience.on_leaving => format!("leaving {}", audience.audience),
        Some(entry::On::Audience(audience)) => format!("entering {}", audience.audience),
        Some(entry::On::Schedule(_)) => "schedule".to_owned(),
        Some(entry::On::Call(_)) => "call".to_owned(),
        None => String::new(),
    };
    let steps: Vec<&str> = definition.steps.iter().map(|step| step.id.as_str()).collect();
    (entry, steps.join(", "))
}

fn fault_table(answer: &ValidateScenarioResponse) -> comfy_table::Table {
    let mut shown = table(&["field", "fault"]);
    for fault in &answer.faults {
        shown.add_row([&fault.field, &fault.message]);
    }
    shown
}

#[cfg(test)]
mod tests {
    use segue_proto::campaign::v1::{AudienceEntry, Entry, Step};

    use super::*;

    #[test]
    fn an_outline_says_by_what_a_scenario_is_entered_and_what_it_does() {
        let step = |id: &str| Step { id: id.to_owned(), ..Default::default() };
        let on = entry::On::Audience(AudienceEntry { audience: "lapsed".to_owned(), on_leaving: true });
        let definition = ScenarioDefinition {
            entry: Some(Entry { on: Some(on), ..Default::default() }),
            steps: vec![step("wait"), step("mail")],
            ..Default::default()
        };
        assert_eq!(outline(Some(&definition)), ("leaving lapsed".to_owned(), "wait, mail".to_owned()));
        assert_eq!(outline(None), (String::new(), String::new()));
    }
}
