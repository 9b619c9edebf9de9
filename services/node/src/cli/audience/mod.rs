//! `segue audience`, and beside it `segment`, `list`, `sync`, `condition` and `template`: who is meant, and who that is. One module per
//! command; those of `segue audience` with much to print have modules of their own.

mod conditions;
mod definition;
mod lists;
mod look;
mod members;
mod segments;
mod syncs;
mod watch;

use clap::{Args, Subcommand};
use prost::Message;
use segue_proto::audience::v1::audience_service_client::AudienceServiceClient;
use segue_proto::audience::v1::{
    ArchiveAudienceRequest, Audience, CreateAudienceRequest, DefinitionKind, EvaluateAudienceRequest, GetAudienceRequest,
    ListAudiencesRequest, ListAudiencesResponse, ListVersionsRequest, ListVersionsResponse, RestoreDefinitionRequest,
    UpdateAudienceRequest,
};

use self::definition::{AudienceFields, Condition, audience_table, version_table};
use super::{Output, ProcessArgs, ServerArgs, print_json, say};
use crate::client::Authorized;
use crate::json;

pub(super) use conditions::{ConditionArgs, TemplateArgs, condition, template};
pub(super) use lists::{ListArgs, list};
pub(super) use segments::{SegmentArgs, segment};
pub(super) use syncs::{SyncArgs, sync};

type Client = AudienceServiceClient<Authorized>;

/// All entries of a list, page by page.
macro_rules! every_page {
    ($client:expr, $call:ident, $request:expr, $entries:ident) => {{
        let (mut request, mut entries) = ($request, Vec::new());
        loop {
            let page = $client.$call(request.clone()).await?.into_inner();
            entries.extend(page.$entries);
            if page.next_page_token.is_empty() {
                break entries;
            }
            request.page_token = page.next_page_token;
        }
    }};
}
use every_page;

#[derive(Debug, Args)]
pub(super) struct AudienceArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: AudienceCommand,
}

#[derive(Debug, Subcommand)]
enum AudienceCommand {
    /// Makes an audience; its members are kept from then on.
    Create {
        /// 1–63 characters a-z, 0-9, '_' and '-', starting with a letter.
        id: String,
        #[command(flatten)]
        condition: Condition,
        #[command(flatten)]
        fields: AudienceFields,
    },
    /// Lists audiences.
    List {
        /// Archived ones too.
        #[arg(long)]
        archived: bool,
    },
    /// Shows an audience.
    Show {
        /// Its id.
        id: String,
        /// Every version, newest first, instead of the present state.
        #[arg(long)]
        versions: bool,
    },
    /// Changes what is given of an audience.
    Update {
        /// Its id.
        id: String,
        #[command(flatten)]
        condition: Condition,
        #[command(flatten)]
        fields: AudienceFields,
        /// Only if it is still in this state.
        #[arg(long)]
        etag: Option<String>,
    },
    /// Archives an audience: everybody leaves.
    Archive {
        /// Its id.
        id: String,
    },
    /// Takes an archived audience back into use.
    Restore {
        /// Its id.
        id: String,
    },
    /// How many an audience would have, how they can be reached, and how it overlaps with others.
    Preview(look::PreviewArgs),
    /// Why a person is in an audience or not.
    Explain(look::ExplainArgs),
    /// The members, one number per line.
    Members(members::MembersArgs),
    /// Who enters and leaves, as it happens, one per line.
    Watch(watch::WatchArgs),
    /// How large an audience was, by the hour.
    Sizes(members::SizesArgs),
    /// Evaluates an audience in full now.
    Evaluate {
        /// Its id.
        id: String,
    },
    /// How far live membership is.
    Status,
    /// Writes the members as a file.
    Export(members::ExportArgs),
}

pub(super) async fn audience(process: &ProcessArgs, args: AudienceArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.audience();
    match args.command {
        AudienceCommand::Create { id, condition, fields } => {
            let condition = Some(condition.required(&mut client).await?);
            let (audience, _) = fields.apply(Audience { id, condition, ..Default::default() });
            let made = client.create_audience(CreateAudienceRequest { audience: Some(audience) }).await?.into_inner();
            print_audience(output, &made)
        }
        AudienceCommand::List { archived } => {
            let request = ListAudiencesRequest { with_archived: archived, page_size: 1_000, ..Default::default() };
            let audiences = every_page!(client, list_audiences, request, audiences);
            let answer = ListAudiencesResponse { audiences, ..Default::default() };
            print(output, "ListAudiencesResponse", &answer, |answer| audience_table(&answer.audiences))
        }
        AudienceCommand::Show { id, versions: true } => print_versions(output, &mut client, DefinitionKind::Audience, id).await,
        AudienceCommand::Show { id, versions: false } => {
            print_audience(output, &client.get_audience(GetAudienceRequest { id }).await?.into_inner())
        }
        AudienceCommand::Update { id, condition, fields, etag } => {
            let condition = condition.read(&mut client).await?;
            let changed = condition.is_some();
            let (audience, mut paths) = fields.apply(Audience { id, condition, etag: etag.unwrap_or_default(), ..Default::default() });
            paths.extend(changed.then(|| "condition".to_owned()));
            anyhow::ensure!(!paths.is_empty(), "nothing is to be changed: name something, for example --where");
            let update_mask = Some(prost_types::FieldMask { paths });
            let request = UpdateAudienceRequest { audience: Some(audience), update_mask };
            print_audience(output, &client.update_audience(request).await?.into_inner())
        }
        AudienceCommand::Archive { id } => {
            let request = ArchiveAudienceRequest { id, ..Default::default() };
            print_audience(output, &client.archive_audience(request).await?.into_inner())
        }
        AudienceCommand::Restore { id } => {
            let request = RestoreDefinitionRequest { kind: DefinitionKind::Audience.into(), id };
            let restored = client.restore_definition(request).await?.into_inner();
            print_audience(output, &restored.audience.unwrap_or_default())
        }
        AudienceCommand::Preview(args) => look::preview(output, &mut client, args).await,
        AudienceCommand::Explain(args) => look::explain(output, &mut client, args).await,
        AudienceCommand::Members(args) => members::members(output, &mut client, args).await,
        AudienceCommand::Watch(args) => watch::watch(output, &mut client, args).await,
        AudienceCommand::Sizes(args) => members::sizes(output, &mut client, args).await,
        AudienceCommand::Evaluate { id } => {
            let answer = client.evaluate_audience(EvaluateAudienceRequest { audience: id }).await?.into_inner();
            print(output, "EvaluateAudienceResponse", &answer, members::evaluation_table)
        }
        AudienceCommand::Status => members::status(output, &mut client).await,
        AudienceCommand::Export(args) => members::export(&mut client, args).await,
    }
}

fn print_audience(output: Output, audience: &Audience) -> anyhow::Result<()> {
    print(output, "Audience", audience, |audience| audience_table(std::slice::from_ref(audience)))
}

async fn print_versions(output: Output, client: &mut Client, kind: DefinitionKind, id: String) -> anyhow::Result<()> {
    let request = ListVersionsRequest { kind: kind.into(), id, page_size: 1_000, ..Default::default() };
    let answer = ListVersionsResponse { versions: every_page!(client, list_versions, request, versions), ..Default::default() };
    print(output, "ListVersionsResponse", &answer, |answer| version_table(&answer.versions))
}

/// Prints a message of `segue.audience.v1`.
fn print<M: Message>(output: Output, name: &str, message: &M, table: impl FnOnce(&M) -> comfy_table::Table) -> anyhow::Result<()> {
    match output {
        Output::Json => print_json(&json::write(&format!("segue.audience.v1.{name}"), message)?),
        Output::Table => say(table(message)),
    }
}
