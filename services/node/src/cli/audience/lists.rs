//! `segue list`: persons that somebody named.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use segue_proto::analytics::v1::ReportCell;
use segue_proto::audience::v1::import_list_members_request::Part;
use segue_proto::audience::v1::{
    ArchiveListRequest, ChangeListMembersRequest, ChangeListMembersResponse, CreateListRequest, GetListRequest, ImportListHeader,
    ImportListMembersRequest, ImportListMembersResponse, List, ListListsRequest, ListListsResponse,
};
use segue_proto::events::v1::Identifier;

use super::conditions::pair;
use super::{every_page, print};
use crate::cli::report::read_text;
use crate::cli::{Output, ProcessArgs, ServerArgs, table};
use crate::json;

/// Bytes of one message of an upload.
const CHUNK_BYTES: usize = 512 << 10;

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: ListCommand,
}

#[derive(Debug, Subcommand)]
enum ListCommand {
    /// Makes a list.
    Create {
        /// 1–63 characters a-z, 0-9, '_' and '-', starting with a letter.
        id: String,
        /// For people.
        #[arg(long)]
        name: Option<String>,
        /// For people.
        #[arg(long, default_value = "")]
        description: String,
        /// It begins with the persons behind a number of a report: a segue.analytics.v1.ReportCell as JSON; `-` reads standard input.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Lists lists.
    List {
        /// Archived ones too.
        #[arg(long)]
        archived: bool,
    },
    /// Shows a list.
    Show {
        /// Its id.
        id: String,
    },
    /// Archives a list.
    Archive {
        /// Its id.
        id: String,
    },
    /// Puts persons on a list.
    Add(ChangeArgs),
    /// Takes persons off a list.
    Remove(ChangeArgs),
    /// Puts the persons of a CSV file of identifiers on a list.
    Import {
        /// Its id.
        id: String,
        /// CSV with a header line.
        file: PathBuf,
        /// A column with identifiers of a kind, for example --column 'E-Mail=email'; none: columns are named by kinds.
        #[arg(long = "column", value_name = "COLUMN=KIND", value_parser = pair)]
        columns: Vec<(String, String)>,
        /// The list has the persons of the file and no others.
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Debug, Args)]
struct ChangeArgs {
    /// Its id.
    id: String,
    /// Numbers of persons, or identifiers as kind:value, for example user_id:abc123.
    #[arg(required = true)]
    persons: Vec<String>,
}

pub(in crate::cli) async fn list(process: &ProcessArgs, args: ListArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.audience();
    match args.command {
        ListCommand::Create { id, name, description, report } => {
            let report = match report {
                Some(path) => Some(json::read::<ReportCell>("segue.analytics.v1.ReportCell", &read_text(&path)?)?),
                None => None,
            };
            // A list needs a name; its id is one.
            let name = name.unwrap_or_else(|| id.clone());
            let list = Some(List { id, name, description, ..Default::default() });
            print_list(output, &client.create_list(CreateListRequest { list, report }).await?.into_inner())
        }
        ListCommand::List { archived } => {
            let request = ListListsRequest { with_archived: archived, page_size: 1_000, ..Default::default() };
            let answer = ListListsResponse { lists: every_page!(client, list_lists, request, lists), ..Default::default() };
            print(output, "ListListsResponse", &answer, |answer| list_table(&answer.lists))
        }
        ListCommand::Show { id } => print_list(output, &client.get_list(GetListRequest { id }).await?.into_inner()),
        ListCommand::Archive { id } => {
            let request = ArchiveListRequest { id, ..Default::default() };
            print_list(output, &client.archive_list(request).await?.into_inner())
        }
        ListCommand::Add(ChangeArgs { id, persons }) => {
            let (add, add_identified) = named(&persons)?;
            let request = ChangeListMembersRequest { list: id, add, add_identified, ..Default::default() };
            let answer = client.change_list_members(request).await?.into_inner();
            print(output, "ChangeListMembersResponse", &answer, change_table)
        }
        ListCommand::Remove(ChangeArgs { id, persons }) => {
            let (remove, remove_identified) = named(&persons)?;
            let request = ChangeListMembersRequest { list: id, remove, remove_identified, ..Default::default() };
            let answer = client.change_list_members(request).await?.into_inner();
            print(output, "ChangeListMembersResponse", &answer, change_table)
        }
        ListCommand::Import { id, file, columns, replace } => {
            let content = std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            let header = ImportListHeader { list: id, columns: columns.into_iter().collect::<HashMap<_, _>>(), replace };
            let answer = client.import_list_members(tokio_stream::iter(upload(header, &content))).await?.into_inner();
            print(output, "ImportListMembersResponse", &answer, import_table)?;
            if !answer.unmatched_rows.is_empty() {
                let rows: Vec<String> = answer.unmatched_rows.iter().map(u64::to_string).collect();
                eprintln!("rows that name nobody: {}", rows.join(" "));
            }
            Ok(())
        }
    }
}

/// The header, then the file in pieces.
fn upload(header: ImportListHeader, content: &[u8]) -> Vec<ImportListMembersRequest> {
    let chunks = content.chunks(CHUNK_BYTES).map(|chunk| Part::Chunk(chunk.to_vec()));
    std::iter::once(Part::Header(header)).chain(chunks).map(|part| ImportListMembersRequest { part: Some(part) }).collect()
}

/// Numbers, and identifiers.
fn named(persons: &[String]) -> anyhow::Result<(Vec<u32>, Vec<Identifier>)> {
    let (mut numbers, mut identifiers) = (Vec::new(), Vec::new());
    for person in persons {
        match (person.parse(), person.split_once(':')) {
            (Ok(number), _) => numbers.push(number),
            (Err(_), Some((kind, value))) => identifiers.push(Identifier { kind: kind.to_owned(), value: value.to_owned() }),
            (Err(_), None) => anyhow::bail!("{person:?} is neither the number of a person nor an identifier like user_id:abc123"),
        }
    }
    Ok((numbers, identifiers))
}

fn print_list(output: Output, list: &List) -> anyhow::Result<()> {
    print(output, "List", list, |list| list_table(std::slice::from_ref(list)))
}

fn list_table(lists: &[List]) -> comfy_table::Table {
    let mut shown = table(&["list", "name", "state", "persons"]);
    for list in lists {
        let state = if list.archived { "archived" } else { "in use" };
        shown.add_row([&list.id, &list.name, state, &list.size.to_string()]);
    }
    shown
}

fn change_table(answer: &ChangeListMembersResponse) -> comfy_table::Table {
    let mut shown = table(&["list", "persons", "added", "removed", "unknown"]);
    let list = answer.list.clone().unwrap_or_default();
    let [size, added, removed, unknown] = [list.size, answer.added, answer.removed, answer.unknown].map(|count| count.to_string());
    shown.add_row([list.id, size, added, removed, unknown]);
    shown
}

fn import_table(answer: &ImportListMembersResponse) -> comfy_table::Table {
    let mut shown = table(&["list", "persons", "rows", "matched", "added"]);
    let list = answer.list.clone().unwrap_or_default();
    let [size, rows, matched, added] = [list.size, answer.rows, answer.matched, answer.added].map(|count| count.to_string());
    shown.add_row([list.id, size, rows, matched, added]);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_are_named_by_number_or_by_identifier() {
        let texts = ["7", "user_id:abc:1", "email:a@example.com"].map(str::to_owned);
        let (numbers, identifiers) = named(&texts).expect("named");
        let pairs: Vec<_> = identifiers.iter().map(|identifier| (identifier.kind.as_str(), identifier.value.as_str())).collect();
        assert_eq!((numbers, pairs), (vec![7], vec![("user_id", "abc:1"), ("email", "a@example.com")]));
        assert!(named(&["somebody".to_owned()]).is_err());
    }

    #[test]
    fn an_upload_begins_with_the_header_and_carries_the_whole_file() {
        let content = vec![7; CHUNK_BYTES + 1];
        let parts = upload(ImportListHeader { list: "vip".to_owned(), ..Default::default() }, &content);
        let sizes: Vec<usize> = parts
            .iter()
            .map(|part| match &part.part {
                Some(Part::Chunk(chunk)) => chunk.len(),
                Some(Part::Header(_)) | None => 0,
            })
            .collect();
        assert_eq!(sizes, [0, CHUNK_BYTES, 1]);
    }
}
