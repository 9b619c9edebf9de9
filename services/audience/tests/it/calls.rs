//! Requests as clients send them, odd ones among them. Analytics and identity do not answer here: what needs them is held end to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use segue_audience::{Config, Deps};
use segue_model::module::ModuleSet;
use segue_model::{ManualClock, Module, TenantId};
use segue_proto::audience::v1::audience_service_client::AudienceServiceClient;
use segue_proto::audience::v1::import_list_members_request::Part;
use segue_proto::audience::v1::*;
use segue_proto::events::v1::Identifier;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, ConditionList, Membership, PersonSet, RandomBucket, membership::Of};
use segue_runtime::transport::{PeerChannel, for_tenant, local};
use segue_runtime::{Caller, Role, Tasks, Tenant, TenantDirectory};
use segue_testkit::{TempLog, TempStore, stores};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// One process; keep it for the whole test.
struct Process {
    client: AudienceServiceClient<PeerChannel>,
    tasks: Tasks,
    _log: TempLog,
}

impl Process {
    async fn start(store: &TempStore, config: Config) -> Result<Process> {
        let modules: ModuleSet = [Module::Ingest, Module::Identity, Module::Analytics, Module::Audience].into_iter().collect();
        let place = TempLog::embedded();
        let tasks = Tasks::new();
        let nobody = || local(tonic::service::Routes::default());
        let deps = Deps {
            config,
            store_url: store.url().to_owned(),
            log: place.open().await?,
            clock: Arc::new(ManualClock::new(1_000_000)),
            tenants: TenantDirectory::fixed(vec![Tenant::new(shop(), modules)]),
            tasks: tasks.clone(),
            analytics: nobody(),
            identity: nobody(),
        };
        let started = segue_audience::start(deps).await?;
        Ok(Process { client: AudienceServiceClient::new(local(started.routes)), tasks, _log: place })
    }

    async fn stop(self) -> Result<()> {
        Ok(self.tasks.stop(Duration::from_secs(10)).await?)
    }

    async fn create_list(&self, id: &str, name: &str) -> Result<List, Status> {
        let list = List { id: id.to_owned(), name: name.to_owned(), ..List::default() };
        let request = CreateListRequest { list: Some(list), report: None };
        Ok(self.client.clone().create_list(for_tenant(&shop(), request)).await?.into_inner())
    }

    async fn create_audience(&self, audience: Audience) -> Result<Audience, Status> {
        let request = CreateAudienceRequest { audience: Some(audience) };
        Ok(self.client.clone().create_audience(for_tenant(&shop(), request)).await?.into_inner())
    }

    async fn import(&self, parts: Vec<Part>) -> Result<ImportListMembersResponse, Status> {
        let parts = parts.into_iter().map(|part| ImportListMembersRequest { part: Some(part) });
        let request = for_tenant(&shop(), tokio_stream::iter(parts.collect::<Vec<_>>()));
        Ok(self.client.clone().import_list_members(request).await?.into_inner())
    }
}

fn shop() -> TenantId {
    "shop".parse().expect("a tenant id")
}

fn node(node: Node) -> Condition {
    Condition { node: Some(node) }
}

fn bucket() -> Condition {
    node(Node::RandomBucket(RandomBucket { salt: "a".to_owned(), from: 0, to: 1 }))
}

fn audience(id: &str, condition: Condition) -> Audience {
    Audience { id: id.to_owned(), name: "A name".to_owned(), condition: Some(condition), ..Audience::default() }
}

fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    details.bad_request().map_or(Vec::new(), |bad| bad.field_violations.iter().map(|fault| fault.field.clone()).collect())
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn all_faults_of_an_audience_are_told_at_once() -> Result<()> {
    let store = TempStore::sqlite();
    let process = Process::start(&store, Config::default()).await?;
    let wide = node(Node::Persons(PersonSet { numbers: vec![0; 65 << 10], label: String::new() }));
    let odd = Audience {
        name: "\u{7}".to_owned(),
        description: "a\0".to_owned(),
        holdout: 10_001,
        time_zone: "Mars/Olympus".to_owned(),
        ..audience("Big Spenders", wide)
    };
    let told = fields(&process.create_audience(odd).await.expect_err("all wrong"));
    let expected = ["audience.id", "audience.name", "audience.description", "audience.condition", "audience.holdout", "audience.time_zone"];
    assert_eq!(told, expected);
    let missing = Audience { condition: None, ..audience("a", bucket()) };
    assert_eq!(fields(&process.create_audience(missing).await.expect_err("no condition")), ["audience.condition"]);
    assert_eq!(fields(&process.create_audience(audience("a", Condition::default())).await.expect_err("no node")), ["audience.condition"]);
    let mode = Audience { mode: 7, ..audience("a", bucket()) };
    assert_eq!(fields(&process.create_audience(mode).await.expect_err("no mode")), ["audience.mode"]);
    let none = process.client.clone().create_audience(for_tenant(&shop(), CreateAudienceRequest { audience: None })).await;
    assert_eq!(fields(&none.expect_err("nothing")), ["audience"]);
    let refers = node(Node::Not(Box::new(node(Node::MemberOf(Membership { of: Some(Of::Segment("none".to_owned())) })))));
    let told = fields(&process.create_audience(audience("a", refers)).await.expect_err("no segment"));
    assert_eq!(told, ["audience.condition.not.member_of.segment"]);
    let deep = (0..20).fold(bucket(), |inner, _| node(Node::Not(Box::new(inner))));
    assert_eq!(fields(&process.create_audience(audience("a", deep)).await.expect_err("too deep")).len(), 1);
    let deeper = (0..90).fold(bucket(), |inner, _| node(Node::Not(Box::new(inner))));
    assert!(process.create_audience(audience("a", deeper)).await.is_err());
    let many = node(Node::All(ConditionList { conditions: vec![bucket(); 5_000] }));
    assert_eq!(
        fields(&process.create_audience(audience("a", many)).await.expect_err("too many")),
        ["audience.condition.all.conditions[99]"]
    );
    process.stop().await
}

#[tokio::test]
async fn what_analytics_could_not_check_is_not_stored() -> Result<()> {
    for store in stores() {
        let process = Process::start(&store, Config::default()).await?;
        let status = process.create_audience(audience("a", bucket())).await.expect_err("nobody checks it");
        assert_eq!(reason(&status), "PEER_FAILED");
        let mut client = process.client.clone();
        let get = |id: &str| for_tenant(&shop(), GetAudienceRequest { id: id.to_owned() });
        for id in ["a", "", "A\0", "' OR 1=1 --"] {
            assert_eq!(client.get_audience(get(id)).await.expect_err("none").code(), Code::NotFound, "{id:?}");
        }
        let update = UpdateAudienceRequest { audience: Some(audience("a", bucket())), update_mask: None };
        assert_eq!(client.update_audience(for_tenant(&shop(), update)).await.expect_err("none").code(), Code::NotFound);
        let paths = vec!["name".to_owned(), "version".to_owned()];
        let update = UpdateAudienceRequest { audience: Some(audience("a", bucket())), update_mask: Some(prost_types::FieldMask { paths }) };
        let status = client.update_audience(for_tenant(&shop(), update)).await.expect_err("no such field");
        assert_eq!(fields(&status), ["update_mask.paths[1]"]);
        let restore = RestoreDefinitionRequest { kind: 0, id: "a".to_owned() };
        assert_eq!(fields(&client.restore_definition(for_tenant(&shop(), restore)).await.expect_err("no kind")), ["kind"]);
        let versions = ListVersionsRequest { kind: 2, id: "a".to_owned(), page_size: 0, page_token: "x".to_owned() };
        assert_eq!(fields(&client.list_versions(for_tenant(&shop(), versions)).await.expect_err("no token")), ["page_token"]);
        for (page_size, page_token, field) in [(-1, "", "page_size"), (0, "a\0", "page_token"), (0, "A", "page_token")] {
            let request = ListSegmentsRequest { page_size, page_token: page_token.to_owned(), with_archived: true };
            assert_eq!(fields(&client.list_segments(for_tenant(&shop(), request)).await.expect_err("odd")), [field]);
        }
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn lists_are_created_once_paged_and_archived() -> Result<()> {
    for store in stores() {
        let process = Process::start(&store, Config { lists_max: 3, ..Config::default() }).await?;
        let mut client = process.client.clone();
        let first = process.create_list("b", "B").await?;
        assert_eq!((first.size, first.archived, first.created_at.map(|time| time.seconds)), (0, false, Some(1)));
        assert_eq!(process.create_list("b", "B").await?, first);
        assert_eq!(process.create_list("b", "C").await.expect_err("another").code(), Code::AlreadyExists);
        process.create_list("a", "A").await?;
        process.create_list("c", "C").await?;
        let status = process.create_list("d", "D").await.expect_err("a fourth");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY"));
        let status = process.create_list("E", "").await.expect_err("odd");
        assert_eq!(fields(&status), ["list.id", "list.name"]);

        let archive = |etag: &str| for_tenant(&shop(), ArchiveListRequest { id: "c".to_owned(), etag: etag.to_owned() });
        let status = client.archive_list(archive("7-00000000")).await.expect_err("an old etag");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        let archived = client.archive_list(archive("")).await?.into_inner();
        assert!(archived.archived);
        assert_eq!(process.create_list("c", "C").await.expect_err("archived").code(), Code::FailedPrecondition);
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListListsRequest { page_size: 1, page_token, with_archived: false };
            let page = client.list_lists(for_tenant(&shop(), request)).await?.into_inner();
            seen.extend(page.lists.into_iter().map(|list| list.id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, ["a", "b"]);
        assert_eq!(client.get_list(for_tenant(&shop(), GetListRequest { id: "c".to_owned() })).await?.into_inner(), archived);
        let change = ChangeListMembersRequest { list: "c".to_owned(), add: vec![1], ..ChangeListMembersRequest::default() };
        assert_eq!(client.change_list_members(for_tenant(&shop(), change)).await.expect_err("archived").code(), Code::FailedPrecondition);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_change_of_a_list_has_limits_and_needs_identity() -> Result<()> {
    let store = TempStore::sqlite();
    let process = Process::start(&store, Config::default()).await?;
    let mut client = process.client.clone();
    process.create_list("vip", "VIP").await?;
    let of = |add: usize, identified: usize| {
        let add_identified = vec![Identifier { kind: "email".to_owned(), value: "a@x".to_owned() }; identified];
        let change =
            ChangeListMembersRequest { list: "vip".to_owned(), add: vec![1; add], add_identified, ..ChangeListMembersRequest::default() };
        for_tenant(&shop(), change)
    };
    assert_eq!(fields(&client.change_list_members(of(9_999, 2)).await.expect_err("too many")), ["add"]);
    assert_eq!(reason(&client.change_list_members(of(1, 0)).await.expect_err("no identity")), "PEER_FAILED");
    let nothing = client.change_list_members(of(0, 0)).await?.into_inner();
    assert_eq!((nothing.added, nothing.removed, nothing.unknown, nothing.list.map(|list| list.size)), (0, 0, 0, Some(0)));
    process.stop().await
}

#[tokio::test]
async fn a_file_that_cannot_be_imported_says_why_and_leaves_the_list() -> Result<()> {
    let store = TempStore::sqlite();
    let process = Process::start(&store, Config::default()).await?;
    process.create_list("vip", "VIP").await?;
    let header = |list: &str, columns: &[(&str, &str)]| {
        let columns = columns.iter().map(|(column, kind)| ((*column).to_owned(), (*kind).to_owned())).collect();
        Part::Header(ImportListHeader { list: list.to_owned(), columns, replace: true })
    };
    let chunk = |text: &str| Part::Chunk(text.as_bytes().to_vec());
    let refused = [
        (vec![], "header"),
        (vec![chunk("email\n")], "header"),
        (vec![header("vip", &[]), header("vip", &[])], "header"),
        (vec![header("vip", &[])], "chunk"),
        (vec![header("vip", &[]), chunk("")], "chunk"),
        (vec![header("vip", &[]), Part::Chunk(vec![b'a'; (1 << 20) + 1])], "chunk"),
        (vec![header("vip", &[]), chunk("name,age\na,1\n")], "header.columns"),
        (vec![header("vip", &[("mail", "email")]), chunk("email\na\n")], "header.columns"),
        (vec![header("vip", &[("mail", "E-Mail")]), chunk("mail\na\n")], "header.columns[mail]"),
    ];
    for (parts, field) in refused {
        assert_eq!(fields(&process.import(parts).await.expect_err("refused")), [field]);
    }
    assert_eq!(process.import(vec![header("none", &[])]).await.expect_err("no list").code(), Code::NotFound);
    let named = process.import(vec![header("vip", &[]), chunk("email\na@x\n")]).await.expect_err("no identity");
    assert_eq!(reason(&named), "PEER_FAILED");
    // Of a file that can name nobody, nobody is asked.
    let rows: String = (0..150).map(|_| "null\n").collect();
    let answer = process.import(vec![header("vip", &[]), chunk("em"), chunk("ail\n"), chunk(&rows)]).await?;
    assert_eq!((answer.rows, answer.matched, answer.added), (150, 0, 0));
    assert_eq!(answer.unmatched_rows, (1..=100).collect::<Vec<u64>>());
    process.stop().await
}

#[tokio::test]
async fn reading_takes_an_analyst_and_changing_an_editor() -> Result<()> {
    let store = TempStore::sqlite();
    let process = Process::start(&store, Config::default()).await?;
    fn as_role<T>(role: Role, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        Caller { tenant: Some(shop()), role, key: String::new(), source: String::new() }.attach(&mut headers);
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        request
    }
    let mut client = process.client.clone();
    let list = List { id: "vip".to_owned(), name: "VIP".to_owned(), ..List::default() };
    let create = CreateListRequest { list: Some(list), report: None };
    assert_eq!(client.create_list(as_role(Role::Analyst, create.clone())).await.expect_err("analyst").code(), Code::PermissionDenied);
    client.create_list(as_role(Role::Editor, create)).await?;
    let get = GetListRequest { id: "vip".to_owned() };
    assert_eq!(client.get_list(as_role(Role::Writer, get.clone())).await.expect_err("writer").code(), Code::PermissionDenied);
    client.get_list(as_role(Role::Analyst, get)).await?;
    process.stop().await
}
