//! `segue segment`: named conditions.

use clap::{Args, Subcommand};
use segue_proto::audience::v1::{
    ArchiveSegmentRequest, CreateSegmentRequest, DefinitionKind, GetSegmentRequest, ListSegmentsRequest, ListSegmentsResponse,
    RestoreDefinitionRequest, Segment, UpdateSegmentRequest,
};

use super::definition::{Condition, segment_table};
use super::{every_page, print, print_versions};
use crate::cli::{Output, ProcessArgs, ServerArgs};

#[derive(Debug, Args)]
pub(in crate::cli) struct SegmentArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: SegmentCommand,
}

#[derive(Debug, Subcommand)]
enum SegmentCommand {
    /// Makes a segment.
    Create {
        /// 1–63 characters a-z, 0-9, '_' and '-', starting with a letter.
        id: String,
        #[command(flatten)]
        condition: Condition,
        /// For people.
        #[arg(long)]
        name: Option<String>,
        /// For people.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Lists segments.
    List {
        /// Archived ones too.
        #[arg(long)]
        archived: bool,
    },
    /// Shows a segment.
    Show {
        /// Its id.
        id: String,
        /// Every version, newest first, instead of the present state.
        #[arg(long)]
        versions: bool,
    },
    /// Changes what is given of a segment; audiences that refer to it follow.
    Update {
        /// Its id.
        id: String,
        #[command(flatten)]
        condition: Condition,
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
    /// Archives a segment.
    Archive {
        /// Its id.
        id: String,
    },
    /// Takes an archived segment back into use.
    Restore {
        /// Its id.
        id: String,
    },
}

pub(in crate::cli) async fn segment(process: &ProcessArgs, args: SegmentArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.audience();
    match args.command {
        SegmentCommand::Create { id, condition, name, description } => {
            let condition = Some(condition.required(&mut client).await?);
            // A segment needs a name; its id is one.
            let name = name.unwrap_or_else(|| id.clone());
            let segment = Some(Segment { id, name, description, condition, ..Default::default() });
            print_segment(output, &client.create_segment(CreateSegmentRequest { segment }).await?.into_inner())
        }
        SegmentCommand::List { archived } => {
            let request = ListSegmentsRequest { with_archived: archived, page_size: 1_000, ..Default::default() };
            let segments = every_page!(client, list_segments, request, segments);
            let answer = ListSegmentsResponse { segments, ..Default::default() };
            print(output, "ListSegmentsResponse", &answer, |answer| segment_table(&answer.segments))
        }
        SegmentCommand::Show { id, versions: true } => print_versions(output, &mut client, DefinitionKind::Segment, id).await,
        SegmentCommand::Show { id, versions: false } => {
            print_segment(output, &client.get_segment(GetSegmentRequest { id }).await?.into_inner())
        }
        SegmentCommand::Update { id, condition, name, description, etag } => {
            let condition = condition.read(&mut client).await?;
            let given = [("name", name.is_some()), ("description", description.is_some()), ("condition", condition.is_some())];
            let paths: Vec<String> = given.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect();
            anyhow::ensure!(!paths.is_empty(), "nothing is to be changed: name something, for example --where");
            let segment = Segment {
                id,
                name: name.unwrap_or_default(),
                description: description.unwrap_or_default(),
                condition,
                etag: etag.unwrap_or_default(),
                ..Default::default()
            };
            let request = UpdateSegmentRequest { segment: Some(segment), update_mask: Some(prost_types::FieldMask { paths }) };
            print_segment(output, &client.update_segment(request).await?.into_inner())
        }
        SegmentCommand::Archive { id } => {
            let request = ArchiveSegmentRequest { id, ..Default::default() };
            print_segment(output, &client.archive_segment(request).await?.into_inner())
        }
        SegmentCommand::Restore { id } => {
            let request = RestoreDefinitionRequest { kind: DefinitionKind::Segment.into(), id };
            print_segment(output, &client.restore_definition(request).await?.into_inner().segment.unwrap_or_default())
        }
    }
}

fn print_segment(output: Output, segment: &Segment) -> anyhow::Result<()> {
    print(output, "Segment", segment, |segment| segment_table(std::slice::from_ref(segment)))
}
