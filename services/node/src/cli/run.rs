//! `segue run`.

use std::sync::Arc;

use clap::Args;
use segue_model::SystemClock;
use segue_runtime::telemetry;
use tokio::signal::unix::{SignalKind, signal};

use super::ProcessArgs;
use crate::process::Process;

/// What runs, and where it listens.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Services of this process: all, or some of gateway,ingest,identity,analytics,audience.
    #[arg(long, value_name = "NAMES")]
    services: Option<String>,
    /// Where the gateway listens for clients.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where services listen for their peers.
    #[arg(long, value_name = "ADDRESS")]
    internal_listen: Option<String>,
}

pub(super) async fn run(process: &ProcessArgs, args: RunArgs) -> anyhow::Result<()> {
    let flags: Vec<(&str, String)> =
        [("server.services", args.services), ("server.listen", args.listen), ("server.internal_listen", args.internal_listen)]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
    let settings = process.settings(&flags)?;
    let _telemetry = telemetry::init(&settings.telemetry, &ProcessArgs::environment())?;
    let running = Process::start(&settings, Arc::new(SystemClock)).await?;
    if let Some(address) = running.edge {
        tracing::info!("clients: http://{address} (gRPC, gRPC-Web and HTTP)");
    }
    if let Some(address) = running.internal {
        tracing::info!("peers: http://{address}");
    }
    until_stopped(running).await
}

/// Runs until a signal or a failed task; then drains. A second signal exits at once.
pub(crate) async fn until_stopped(running: Process) -> anyhow::Result<()> {
    let failure = tokio::select! {
        () = stop_signal()? => None,
        error = running.failed() => Some(error),
    };
    tracing::info!("draining; a second signal exits at once");
    tokio::select! {
        stopped = running.stop() => match failure {
            Some(error) => Err(error),
            None => stopped,
        },
        () = stop_signal()? => {
            tracing::warn!("second signal: exiting without draining");
            std::process::exit(130);
        }
    }
}

/// Waits for SIGINT or SIGTERM.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
