//! `segue sync`: destinations that are told who enters and leaves.

use clap::{Args, Subcommand};
use segue_proto::audience::v1::{
    CreateSyncRequest, DeleteSyncRequest, GetSyncRequest, ListSyncsRequest, ListSyncsResponse, Sync, SyncState, UpdateSyncRequest,
};

use super::{Client, every_page, print};
use crate::cli::report::values::show_time;
use crate::cli::{Output, ProcessArgs, ServerArgs, say, table};

#[derive(Debug, Args)]
pub(in crate::cli) struct SyncArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: SyncCommand,
}

#[derive(Debug, Subcommand)]
enum SyncCommand {
    /// Makes a sync; the secret that its requests are signed with is shown this once.
    Create {
        /// 1–63 characters a-z, 0-9, '_' and '-', starting with a letter.
        id: String,
        /// Whose members are told.
        #[arg(long, value_name = "ID")]
        audience: String,
        /// Where to, for example https://ads.example/audiences.
        #[arg(long)]
        url: String,
        /// Kinds of identifiers to send [default: user_id].
        #[arg(long, value_name = "KIND", value_delimiter = ',')]
        kind: Vec<String>,
    },
    /// Lists syncs.
    List {
        /// Of this audience only.
        #[arg(long, value_name = "ID", default_value = "")]
        audience: String,
    },
    /// Shows a sync.
    Show {
        /// Its id.
        id: String,
    },
    /// Changes what is given of a sync.
    Update {
        /// Its id.
        id: String,
        /// Where to.
        #[arg(long)]
        url: Option<String>,
        /// Kinds of identifiers to send.
        #[arg(long, value_name = "KIND", value_delimiter = ',')]
        kind: Vec<String>,
    },
    /// Stops sending; what happens meanwhile is sent when it goes on.
    Pause {
        /// Its id.
        id: String,
    },
    /// Goes on sending.
    Resume {
        /// Its id.
        id: String,
    },
    /// Deletes a sync.
    Delete {
        /// Its id.
        id: String,
    },
}

pub(in crate::cli) async fn sync(process: &ProcessArgs, args: SyncArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.audience();
    match args.command {
        SyncCommand::Create { id, audience, url, kind } => {
            let sync = Some(Sync { id, audience, url, identifier_kinds: kind, ..Default::default() });
            let made = client.create_sync(CreateSyncRequest { sync }).await?.into_inner();
            print_sync(output, &made)?;
            if output == Output::Table {
                say(&made.secret)?;
                eprintln!("this is the only time that the secret is shown");
            }
            Ok(())
        }
        SyncCommand::List { audience } => {
            let request = ListSyncsRequest { audience, page_size: 1_000, ..Default::default() };
            let answer = ListSyncsResponse { syncs: every_page!(client, list_syncs, request, syncs), ..Default::default() };
            print(output, "ListSyncsResponse", &answer, |answer| sync_table(&answer.syncs))
        }
        SyncCommand::Show { id } => print_sync(output, &client.get_sync(GetSyncRequest { id }).await?.into_inner()),
        SyncCommand::Update { id, url, kind } => {
            let changed = update(&mut client, id, |sync| {
                if let Some(url) = url {
                    sync.url = url;
                }
                if !kind.is_empty() {
                    sync.identifier_kinds = kind;
                }
            });
            print_sync(output, &changed.await?)
        }
        SyncCommand::Pause { id } => print_sync(output, &update(&mut client, id, |sync| sync.set_state(SyncState::Paused)).await?),
        SyncCommand::Resume { id } => print_sync(output, &update(&mut client, id, |sync| sync.set_state(SyncState::Active)).await?),
        SyncCommand::Delete { id } => {
            client.delete_sync(DeleteSyncRequest { id }).await?;
            Ok(())
        }
    }
}

/// An update takes all that can change, so what is not to change is read before.
async fn update(client: &mut Client, id: String, change: impl FnOnce(&mut Sync)) -> anyhow::Result<Sync> {
    let mut sync = client.get_sync(GetSyncRequest { id }).await?.into_inner();
    change(&mut sync);
    Ok(client.update_sync(UpdateSyncRequest { sync: Some(sync) }).await?.into_inner())
}

fn print_sync(output: Output, sync: &Sync) -> anyhow::Result<()> {
    print(output, "Sync", sync, |sync| sync_table(std::slice::from_ref(sync)))
}

fn sync_table(syncs: &[Sync]) -> comfy_table::Table {
    let mut shown = table(&["sync", "audience", "url", "sends", "state", "delivered up to", "at", "failures", "problem"]);
    for sync in syncs {
        shown.add_row([
            sync.id.clone(),
            sync.audience.clone(),
            sync.url.clone(),
            sync.identifier_kinds.join(", "),
            sync.state().as_str_name().trim_start_matches("SYNC_STATE_").to_lowercase(),
            sync.delivered_sequence.to_string(),
            sync.delivered_at.as_ref().map(show_time).unwrap_or_default(),
            sync.failures.to_string(),
            sync.problem.clone(),
        ]);
    }
    shown
}
