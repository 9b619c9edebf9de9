//! The operator's command line. Data goes to stdout, logs and hints to stderr. Exit codes: 0 done, 1 failed, 2 wrong
//! usage or configuration, 3 the server cannot be reached.

mod admin;
mod audience;
mod campaign;
mod import;
mod persons;
mod report;
mod run;
mod sql;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use segue_runtime::config::{self, ConfigError};

pub(crate) use report::event_table;
pub(crate) use run::until_stopped;

use crate::client::Gateway;
use crate::settings::Settings;

/// Segue, a customer data platform: collects events, joins them per person, answers questions about them.
#[derive(Debug, Parser)]
#[command(name = "segue", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProcessArgs {
    /// Configuration file (TOML); `segue config` prints one with all keys.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for everything that is kept on this machine [default: segue-data].
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Sets one key of the configuration, for example --set log.partitions=8.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// How answers are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// One JSON value.
    Json,
}

/// Which server is called, as whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// Address of the gateway [default: http:// and `server.listen` of the configuration].
    #[arg(long, global = true, value_name = "URL", env = "SEGUE_SERVER")]
    server: Option<String>,
    /// API key [default: the operator key in the data folder].
    #[arg(long, global = true, value_name = "KEY", env = "SEGUE_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Tenant to act on (needed with the operator key).
    #[arg(long, global = true, value_name = "ID")]
    tenant: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs services until told to stop: the first signal drains, the second exits.
    Run(run::RunArgs),
    /// Starts everything, lets a simulated shop send events, and prints a report.
    Demo(crate::demo::DemoArgs),
    /// Imports a file of events (CSV, NDJSON or Parquet, also gzipped).
    Import(import::ImportArgs),
    /// Asks for a report.
    Report(report::ReportArgs),
    /// Who meets a condition, and what a person did.
    Persons(persons::PersonsArgs),
    /// Asks one read-only SQL query over the tables events and persons.
    Sql(sql::SqlArgs),
    /// Makes and shows segments: named conditions.
    Segment(audience::SegmentArgs),
    /// Makes, shows, previews, watches and exports audiences.
    Audience(audience::AudienceArgs),
    /// Makes, fills and shows static lists.
    List(audience::ListArgs),
    /// Makes, shows and pauses syncs: destinations that are told who enters and leaves an audience.
    Sync(audience::SyncArgs),
    /// Reads conditions from text and writes them as text.
    Condition(audience::ConditionArgs),
    /// Shows ready-made conditions and fills in their blanks.
    Template(audience::TemplateArgs),
    /// Makes, starts, pauses and shows scenarios, their runs and results.
    Scenario(campaign::ScenarioArgs),
    /// Makes, previews and tests templates of messages.
    Message(campaign::TemplateArgs),
    /// Makes and shows channels, by which messages leave.
    Channel(campaign::ChannelArgs),
    /// Shows and sets when messages may be sent.
    Policy(campaign::PolicyArgs),
    /// Shows the send ledger, and why a message was sent or not.
    Send(campaign::SendArgs),
    /// Records and shows what persons agreed to.
    Consent(campaign::ConsentArgs),
    /// Prints the effective configuration, with secrets hidden.
    Config,
    /// Makes and shows tenants.
    Tenant(admin::TenantArgs),
    /// Makes, shows and revokes API keys.
    Key(admin::KeyArgs),
    /// Switches modules of a tenant on and off.
    Module(admin::ModuleArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors: clap knows which stream and which code.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("segue: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("segue: {}", describe(&error));
            exit_code(&error)
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let process = cli.process;
    match cli.command {
        Command::Run(args) => run::run(&process, args).await,
        Command::Demo(args) => crate::demo::run(&process, args).await,
        Command::Import(args) => import::import(&process, args).await,
        Command::Report(args) => report::report(&process, args).await,
        Command::Persons(args) => persons::persons(&process, args).await,
        Command::Sql(args) => sql::sql(&process, args).await,
        Command::Segment(args) => audience::segment(&process, args).await,
        Command::Audience(args) => audience::audience(&process, args).await,
        Command::List(args) => audience::list(&process, args).await,
        Command::Sync(args) => audience::sync(&process, args).await,
        Command::Condition(args) => audience::condition(&process, args).await,
        Command::Template(args) => audience::template(&process, args).await,
        Command::Scenario(args) => campaign::scenario(&process, args).await,
        Command::Message(args) => campaign::template(&process, args).await,
        Command::Channel(args) => campaign::channel(&process, args).await,
        Command::Policy(args) => campaign::policy(&process, args).await,
        Command::Send(args) => campaign::send(&process, args).await,
        Command::Consent(args) => campaign::consent(&process, args).await,
        Command::Config => say(config::shown(&process.settings(&[])?)?.trim_end()),
        Command::Tenant(args) => admin::tenant(&process, args).await,
        Command::Key(args) => admin::key(&process, args).await,
        Command::Module(args) => admin::module(&process, args).await,
    }
}

/// A status as its message; other errors with what caused them.
fn describe(error: &anyhow::Error) -> String {
    match error.downcast_ref::<tonic::Status>() {
        Some(status) => {
            use tonic_types::StatusExt;
            let mut text = status.message().to_owned();
            for violation in status.get_error_details().bad_request().map_or(&[][..], |bad| &bad.field_violations) {
                text.push_str(&format!("\n  {}: {}", violation.field, violation.description));
            }
            text
        }
        None => format!("{error:#}"),
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<ConfigError>() {
        return ExitCode::from(2);
    }
    let unreachable = error.chain().any(|cause| cause.is::<tonic::transport::Error>())
        || error.downcast_ref::<tonic::Status>().is_some_and(|status| status.code() == tonic::Code::Unavailable);
    ExitCode::from(if unreachable { 3 } else { 1 })
}

impl ProcessArgs {
    /// The environment of this process.
    pub(crate) fn environment() -> HashMap<String, String> {
        // Names or values that are no text cannot be ours.
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
    }

    /// The settings; `flags` are what a command's own flags set.
    pub(crate) fn settings(&self, flags: &[(&str, String)]) -> anyhow::Result<Settings> {
        let mut overrides = Vec::new();
        for pair in &self.overrides {
            let (key, value) = pair.split_once('=').with_context(|| format!("--set {pair:?} is not KEY=VALUE"))?;
            overrides.push((key.to_owned(), value.to_owned()));
        }
        if let Some(folder) = &self.data_dir {
            overrides.push(("server.data_dir".to_owned(), folder.display().to_string()));
        }
        overrides.extend(flags.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        Ok(config::load(self.config.as_deref(), &Self::environment(), &overrides)?)
    }

    /// How answers are printed.
    pub(crate) fn output(&self) -> Output {
        self.output
    }
}

impl ServerArgs {
    /// Connects to the gateway that these arguments or the configuration name.
    pub(crate) async fn connect(&self, process: &ProcessArgs) -> anyhow::Result<Gateway> {
        let settings = process.settings(&[])?;
        let url = self.server.clone().unwrap_or_else(|| format!("http://{}", settings.server.listen));
        let key = match &self.key {
            Some(key) => key.clone(),
            None => {
                let path = settings.data_dir().join("operator.key");
                let text = std::fs::read_to_string(&path).with_context(|| {
                    format!(
                        "no key: give one with --key, or name with --data-dir the folder of the server ({} cannot be read)",
                        path.display()
                    )
                })?;
                text.trim().to_owned()
            }
        };
        Gateway::connect(&url, &key, self.tenant.as_deref()).await
    }
}

/// Prints JSON on stdout.
pub(crate) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    say(serde_json::to_string_pretty(value)?)
}

/// Writes a line to stdout. (`println!` panics when the reader has gone, as `head` does; here that is an error like any other,
/// which `main` takes for the end.)
pub(crate) fn say(text: impl std::fmt::Display) -> anyhow::Result<()> {
    use std::io::Write;
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// A table with these columns, in the one style of the command line.
pub(crate) fn table(header: &[&str]) -> comfy_table::Table {
    use comfy_table::TableComponent::{HorizontalLines, LeftBorderIntersections, MiddleIntersections, RightBorderIntersections};
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    // A line below the header and none between the rows: reports are read downwards.
    for line in [HorizontalLines, MiddleIntersections, LeftBorderIntersections, RightBorderIntersections] {
        table.remove_style(line);
    }
    table
}
