//! Static lists, filled from files, from numbers of reports and by hand; and members as files.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use arrow::array::AsArray;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use segue_proto::analytics::v1::report_cell::Cell;
use segue_proto::analytics::v1::{FunnelCell, FunnelStep, QueryFunnelRequest, ReportCell};
use segue_proto::audience::v1::import_list_members_request::Part;
use segue_proto::audience::v1::{
    ArchiveListRequest, ChangeListMembersRequest, CreateListRequest, ExportFormat, ExportMembersRequest, GetListRequest, ImportListHeader,
    ImportListMembersRequest, ImportListMembersResponse, List,
};
use segue_proto::query::v1::TimeRange;
use segue_tests::events::{event, timestamp};
use segue_tests::installation::Installation;

use super::composition::on_list;
use super::refusals::reason;
use super::tenant::{Tenant, audience};
use crate::semantics::now_us;
use crate::semantics::story::Story;
use crate::semantics::words::{length, on};

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;

pub async fn filled_and_exported(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "lists", "").await?;
    let story = Story {
        key: "listed".to_owned(),
        start_us: now_us() - HOUR_US,
        persons: ["look buy", "look buy", "look", "buy"].map(str::to_owned).to_vec(),
    };
    tenant.tell(&[&story]).await?;
    let mail = |person: usize| {
        let (id, user, address) = (format!("mail/{person}"), story.user(person), format!("{person}@example.com"));
        event(&id, "subscribed", story.start_us, &[("user_id", &user), ("email", &address)])
    };
    tenant.send(&[mail(1), mail(2), mail(3), mail(4)]).await?;
    tenant.settled().await?;
    from_file(&tenant, &story).await?;
    from_report(&tenant, &story).await?;
    exported(&tenant, &story).await?;
    archived(&tenant).await
}

async fn import(tenant: &Tenant, header: ImportListHeader, file: &str, chunk: usize) -> anyhow::Result<ImportListMembersResponse> {
    let chunks = file.as_bytes().chunks(chunk).map(|chunk| Part::Chunk(chunk.to_vec()));
    let parts: Vec<_> = std::iter::once(Part::Header(header)).chain(chunks).collect();
    let parts = parts.into_iter().map(|part| ImportListMembersRequest { part: Some(part) });
    Ok(tenant.client().import_list_members(tokio_stream::iter(parts)).await?.into_inner())
}

fn header(columns: &[(&str, &str)], replace: bool) -> ImportListHeader {
    let columns = columns.iter().map(|(column, kind)| ((*column).to_owned(), (*kind).to_owned())).collect::<HashMap<_, _>>();
    ImportListHeader { list: "vip".to_owned(), columns, replace }
}

async fn from_file(tenant: &Tenant, story: &Story) -> anyhow::Result<()> {
    let list = List { id: "vip".to_owned(), name: "Very important".to_owned(), ..Default::default() };
    tenant.client().create_list(CreateListRequest { list: Some(list), report: None }).await?;
    tenant.create(audience("vip", on_list("vip"))).await?;
    let who = async || {
        tenant.settled().await?;
        tenant.who("vip", story).await
    };

    // Quotes, a byte order mark, other line ends; lines and letters are torn apart by the pieces.
    let file = "\u{feff}E-Mail,Note\r\n1@example.com,\"first, \"\"really\"\"\"\r\nnobody@example.com,für niemand\r\n2@example.com,\r\n";
    let imported = import(tenant, header(&[("E-Mail", "email")], false), file, 5).await?;
    ensure!((imported.rows, imported.matched, imported.added, &imported.unmatched_rows) == (3, 2, 2, &vec![2]), "{imported:?}");
    ensure!(who().await? == "1 2", "{}", who().await?);
    let again = import(tenant, header(&[("E-Mail", "email")], false), file, 1_000).await?;
    ensure!((again.matched, again.added, again.list.unwrap_or_default().size) == (2, 0, 2), "the same again adds nobody");

    // Columns named by kinds; the strongest identifier that names somebody counts.
    let file = format!("user_id,email,other\n{},2@example.com,x\nnobody,4@example.com,y\n", story.user(3));
    let imported = import(tenant, header(&[], false), &file, 1_000).await?;
    ensure!((imported.rows, imported.matched, imported.added) == (2, 2, 2), "{imported:?}");
    ensure!(who().await? == "1 2 3 4", "{}", who().await?);

    // The persons of the file and no others.
    let imported = import(tenant, header(&[], true), "email\n4@example.com\n", 1_000).await?;
    ensure!((imported.matched, imported.added, imported.list.unwrap_or_default().size) == (1, 0, 1), "only one is left");
    ensure!(who().await? == "4", "{}", who().await?);

    let unknown = import(tenant, ImportListHeader { list: "nothing".to_owned(), ..Default::default() }, "email\n", 10).await;
    let status = unknown.expect_err("there is no such list");
    ensure!(status.downcast_ref::<tonic::Status>().is_some_and(|status| status.code() == tonic::Code::NotFound), "{status:?}");
    Ok(())
}

/// A list of the persons behind a number of a report.
async fn from_report(tenant: &Tenant, story: &Story) -> anyhow::Result<()> {
    let range = TimeRange { start: Some(timestamp(story.start_us - HOUR_US)), end: Some(timestamp(story.start_us + HOUR_US)) };
    let steps = ["look", "buy"].map(|name| FunnelStep { on: Some(on(name)), ..Default::default() }).to_vec();
    let funnel = QueryFunnelRequest { range: Some(range), steps, window: length("1h"), ..Default::default() };
    let answer = tenant.keys.gateway.analytics().query_funnel(funnel).await?.into_inner();
    let counts: Vec<u64> = answer.total.iter().flat_map(|total| &total.steps).map(|step| step.count).collect();
    ensure!(counts == [3, 2], "{counts:?}");
    let cell = Cell::Funnel(FunnelCell { step: 2, ..Default::default() });
    let report = Some(ReportCell { persons_token: answer.persons_token, cell: Some(cell) });
    let list = List { id: "converted".to_owned(), name: "Converted".to_owned(), ..Default::default() };
    let made = tenant.client().create_list(CreateListRequest { list: Some(list), report }).await?.into_inner();
    ensure!(made.size == 2, "{made:?}");
    tenant.create(audience("converted", on_list("converted"))).await?;
    tenant.settled().await?;
    let who = tenant.who("converted", story).await?;
    ensure!(who == "1 2", "{who}");
    Ok(())
}

async fn export(tenant: &Tenant, format: ExportFormat, columns: &[&str]) -> anyhow::Result<Vec<u8>> {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    let request = ExportMembersRequest { audience: "converted".to_owned(), format: format.into(), columns };
    let mut answers = tenant.client().export_members(request).await?.into_inner();
    let (mut file, mut rows) = (Vec::new(), 0);
    while let Some(part) = answers.message().await? {
        ensure!(part.chunk.len() <= 1 << 20, "{} bytes at once", part.chunk.len());
        file.extend(part.chunk);
        rows = part.rows;
    }
    ensure!(rows == 2, "{rows} rows");
    Ok(file)
}

/// The same two members in each of the formats.
async fn exported(tenant: &Tenant, story: &Story) -> anyhow::Result<()> {
    let members = tenant.members("converted").await?;
    let mut expected: Vec<(u32, String)> = Vec::new();
    for person in [1, 2] {
        expected.push((tenant.number("user_id", &story.user(person)).await?, story.user(person)));
    }
    expected.sort_unstable();
    ensure!(expected.iter().map(|(number, _)| *number).eq(members), "who is in");

    let csv = String::from_utf8(export(tenant, ExportFormat::Csv, &[]).await?)?;
    let lines: Vec<&str> = csv.lines().collect();
    ensure!(lines.len() == 3 && lines[0] == "person,id,user_id", "{csv}");
    for (line, (number, user)) in lines[1..].iter().zip(&expected) {
        ensure!(line.starts_with(&format!("{number},")) && line.ends_with(&format!(",{user}")), "{line}");
    }
    let ndjson = String::from_utf8(export(tenant, ExportFormat::Ndjson, &["user_id", "email", "trait:df_membership"]).await?)?;
    for (line, (number, user)) in ndjson.lines().zip(&expected) {
        let row: serde_json::Value = serde_json::from_str(line)?;
        let email = row["email"].to_string();
        ensure!(row["person"] == *number && row["user_id"].to_string().contains(user) && email.contains("@example.com"), "{line}");
        ensure!(row["id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
    }
    let parquet = export(tenant, ExportFormat::Parquet, &["user_id"]).await?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(parquet))?.build()?;
    let mut found: Vec<(u32, String)> = Vec::new();
    for batch in reader {
        let batch = batch?;
        let persons = arrow::compute::cast(batch.column_by_name("person").context("a column")?, &arrow::datatypes::DataType::UInt32)?;
        let users = batch.column_by_name("user_id").context("a column")?;
        for row in 0..batch.num_rows() {
            let user = arrow::util::display::array_value_to_string(users, row)?;
            found.push((persons.as_primitive::<arrow::datatypes::UInt32Type>().value(row), user));
        }
    }
    ensure!(found.len() == 2, "{found:?}");
    for ((number, user), (expected_number, expected_user)) in found.iter().zip(&expected) {
        ensure!(number == expected_number && user.contains(expected_user), "{found:?} instead of {expected:?}");
    }
    Ok(())
}

/// A list that is referred to stays; limits of a call are named.
async fn archived(tenant: &Tenant) -> anyhow::Result<()> {
    let mut client = tenant.client();
    let used = client.archive_list(ArchiveListRequest { id: "vip".to_owned(), ..Default::default() }).await;
    ensure!(reason(used) == (tonic::Code::FailedPrecondition, "IN_USE".to_owned()), "the list is referred to");
    let many = ChangeListMembersRequest { list: "vip".to_owned(), add: (1..=10_001).collect(), ..Default::default() };
    ensure!(reason(client.change_list_members(many).await).0 == tonic::Code::InvalidArgument, "10,000 at once");
    let read = client.get_list(GetListRequest { id: "vip".to_owned() }).await?.into_inner();
    ensure!(read.size == 1 && !read.archived, "{read:?}");
    let list = List { id: "unused".to_owned(), name: "Unused".to_owned(), ..Default::default() };
    client.create_list(CreateListRequest { list: Some(list), report: None }).await?;
    let archived = client.archive_list(ArchiveListRequest { id: "unused".to_owned(), ..Default::default() }).await?.into_inner();
    ensure!(archived.archived, "{archived:?}");
    Ok(())
}
