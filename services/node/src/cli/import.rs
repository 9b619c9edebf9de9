//! `segue import`: uploads a file and follows its import.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use segue_proto::ingest::v1::create_import_request::Part;
use segue_proto::ingest::v1::{CreateImportRequest, Import, ImportStart, ImportState, WaitImportRequest};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;

use super::{Output, ProcessArgs, ServerArgs, print_json, say, table};
use crate::json;

/// Pause between two looks at an import that still runs: a server that is about to stop answers at once.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes of one message of the upload.
const CHUNK_BYTES: usize = 512 << 10;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// CSV, NDJSON or Parquet; also gzipped.
    file: PathBuf,
    /// Which column is what (TOML, keys as in `segue.ingest.v1.Mapping`).
    #[arg(long, value_name = "FILE")]
    mapping: PathBuf,
    /// Also wait until the events are in reports.
    #[arg(long)]
    indexed: bool,
}

pub(super) async fn import(process: &ProcessArgs, args: ImportArgs) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&args.mapping).with_context(|| format!("{} cannot be read", args.mapping.display()))?;
    let mapping = segue_ingest::import::mapping_from_toml(&text).with_context(|| format!("{} is no mapping", args.mapping.display()))?;
    let file = tokio::fs::File::open(&args.file).await.with_context(|| format!("{} cannot be read", args.file.display()))?;
    let size_bytes = file.metadata().await?.len();
    let file_name = args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let gateway = args.server.connect(process).await?;
    let mut client = gateway.imports();

    let bar = progress_bar("uploading", size_bytes);
    let start = CreateImportRequest { part: Some(Part::Start(ImportStart { mapping: Some(mapping), file_name, size_bytes })) };
    let (parts, unreadable) = upload(file, start, bar.clone());
    let mut import = tokio::select! {
        import = client.create_import(parts) => import?.into_inner(),
        // The call is dropped, so the server forgets what it has of the file.
        Ok(error) = unreadable => {
            return Err(error).with_context(|| format!("{} cannot be read further; nothing was imported", args.file.display()));
        }
    };
    bar.finish_and_clear();
    let bar = progress_bar("importing", import.bytes_total.max(1));
    while import.state() == ImportState::Running {
        import = client.wait_import(WaitImportRequest { name: import.name.clone() }).await?.into_inner();
        bar.set_position(import.bytes_read);
        if import.state() == ImportState::Running {
            tokio::time::sleep(LOOK).await;
        }
    }
    bar.finish_and_clear();
    if args.indexed {
        gateway.wait_until_indexed().await?;
    }
    show(process.output(), &import)?;
    match import.state() {
        ImportState::Succeeded => Ok(()),
        _ => anyhow::bail!("the import did not succeed: {}", import.error),
    }
}

/// Sends the file in pieces, reading no faster than they are taken. Also hands over why the file could not be read to its end;
/// the pieces then never end, since an end would say that the file is complete.
fn upload(
    mut file: tokio::fs::File,
    start: CreateImportRequest,
    bar: ProgressBar,
) -> (ReceiverStream<CreateImportRequest>, oneshot::Receiver<std::io::Error>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let (unreadable, cause) = oneshot::channel();
    #[allow(clippy::disallowed_methods, reason = "ends with the call that reads its channel")]
    tokio::spawn(async move {
        if sender.send(start).await.is_err() {
            return;
        }
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            match file.read(&mut chunk).await {
                Ok(0) => return,
                Ok(read) => {
                    chunk.truncate(read);
                    bar.inc(read as u64);
                    if sender.send(CreateImportRequest { part: Some(Part::Chunk(chunk)) }).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // Whoever does not want the cause has dropped the pieces too.
                    let _ = unreadable.send(error);
                    sender.closed().await;
                    return;
                }
            }
        }
    });
    (ReceiverStream::new(receiver), cause)
}

/// A bar that shows on a terminal only.
fn progress_bar(what: &'static str, bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style).with_message(what)
}

fn show(output: Output, import: &Import) -> anyhow::Result<()> {
    match output {
        Output::Json => print_json(&json::write("segue.ingest.v1.Import", import)?),
        Output::Table => {
            let mut shown = table(&["import", "state", "rows", "accepted", "quarantined", "rejected", ""]);
            let state = import.state().as_str_name().trim_start_matches("IMPORT_STATE_").to_lowercase();
            let note = if import.already_imported { "this file had been imported before; nothing was changed" } else { "" };
            shown.add_row([
                &import.name,
                &state,
                &import.rows.to_string(),
                &import.accepted.to_string(),
                &import.quarantined.to_string(),
                &import.rejected.to_string(),
                note,
            ]);
            say(&shown)?;
            for fault in &import.faults {
                for reason in &fault.reasons {
                    eprintln!("row {}: {}: {}", fault.row, reason.field, reason.message);
                }
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_file_that_cannot_be_read_hands_over_the_cause_and_is_never_ended_as_if_it_were_complete() {
        // A folder can be opened like a file; reading it fails.
        let file = tokio::fs::File::open(std::env::temp_dir()).await.expect("it opens");
        let (mut parts, cause) = upload(file, CreateImportRequest::default(), ProgressBar::hidden());
        assert!(parts.next().await.is_some(), "the start");
        assert_eq!(cause.await.expect("a cause").kind(), std::io::ErrorKind::IsADirectory);
        assert!(futures::poll!(parts.next()).is_pending(), "an end would say that all is there");
    }
}
