//! `segue report`: asks for a report written as JSON and prints it, as a table with a picture or as JSON. To add one: its
//! module with a table and footnotes, and a command below.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

mod events;
mod funnel;
mod path;
mod picture;
mod retention;
mod sessions;
pub(super) mod values;

use super::{Output, ProcessArgs, ServerArgs, print_json, say};
use crate::json;
pub(crate) use events::event_table;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: ReportCommand,
}

#[derive(Debug, Subcommand)]
enum ReportCommand {
    /// How often, by how many, how much, per period and group.
    Events {
        /// A segue.analytics.v1.QueryEventsRequest as JSON; `-` reads standard input.
        request: PathBuf,
    },
    /// How far persons get through steps.
    Funnel {
        /// A segue.analytics.v1.QueryFunnelRequest as JSON; `-` reads standard input.
        request: PathBuf,
    },
    /// Who comes back, and when.
    Retention {
        /// A segue.analytics.v1.QueryRetentionRequest as JSON; `-` reads standard input.
        request: PathBuf,
    },
    /// Which way sessions take.
    Path {
        /// A segue.analytics.v1.QueryPathRequest as JSON; `-` reads standard input.
        request: PathBuf,
    },
    /// How many sessions, how long, how deep.
    Sessions {
        /// A segue.analytics.v1.QuerySessionsRequest as JSON; `-` reads standard input.
        request: PathBuf,
    },
}

/// Asks by `$method` of the service, and prints the answer. `$name` is that of the call in the contract.
macro_rules! ask {
    ($process:expr, $server:expr, $request:expr, $name:literal, $kind:ident, $method:ident, $view:ident :: $table:ident) => {{
        let request: segue_proto::analytics::v1::$kind =
            json::read(concat!("segue.analytics.v1.", $name, "Request"), &read_text(&$request)?)?;
        let answer = $server.connect($process).await?.analytics().$method(request).await?.into_inner();
        match $process.output() {
            Output::Json => print_json(&json::write(concat!("segue.analytics.v1.", $name, "Response"), &answer)?),
            Output::Table => {
                say($view::$table(&answer))?;
                eprintln!("{}", $view::footnotes(&answer));
                Ok(())
            }
        }
    }};
}

pub(super) async fn report(process: &ProcessArgs, args: ReportArgs) -> anyhow::Result<()> {
    let server = args.server;
    match args.command {
        ReportCommand::Events { request } => {
            ask!(process, server, request, "QueryEvents", QueryEventsRequest, query_events, events::event_table)
        }
        ReportCommand::Funnel { request } => {
            ask!(process, server, request, "QueryFunnel", QueryFunnelRequest, query_funnel, funnel::funnel_table)
        }
        ReportCommand::Retention { request } => {
            ask!(process, server, request, "QueryRetention", QueryRetentionRequest, query_retention, retention::retention_table)
        }
        ReportCommand::Path { request } => ask!(process, server, request, "QueryPath", QueryPathRequest, query_path, path::path_table),
        ReportCommand::Sessions { request } => {
            ask!(process, server, request, "QuerySessions", QuerySessionsRequest, query_sessions, sessions::sessions_table)
        }
    }
}

/// The text of a file, or of standard input for `-`.
pub(super) fn read_text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
