//! Reading persons and the link log, merging on request, roles and switches.

use anyhow::Result;
use segue_identity::Config;
use segue_model::module::ModuleSet;
use segue_proto::identity::v1::{
    GetIdentityStatusRequest, GetPersonRequest, LinkKind, ListConsentsRequest, ListLinkRecordsRequest, ListPersonsRequest,
    MergePersonsRequest, Person, SetConsentsRequest, UnlinkIdentifierRequest, get_person_request::Who,
};
use segue_runtime::transport::for_tenant;
use segue_runtime::{Caller, Role, Tenant};
use segue_testkit::stores;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Process, event, log, other, persons, reason, shop, text};

async fn person(process: &Process, number: u32) -> Result<Person, Status> {
    let request = GetPersonRequest { who: Some(Who::Number(number)) };
    Ok(process.client.clone().get_person(for_tenant(&shop(), request)).await?.into_inner())
}

#[tokio::test]
async fn a_person_is_shown_whole_and_a_merged_number_shows_the_survivor() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A e:m plan=free @100", "d:x plan=pro df_gender=f @50", "u:A d:x @2000"]).await?;
        let shown = person(&process, 2).await?;
        assert_eq!(shown, person(&process, 1).await?);
        assert_eq!((shown.number, shown.merged_numbers.as_slice()), (1, [2].as_slice()));
        assert_eq!(shown.id.len(), 36);
        let identifiers: Vec<String> = shown
            .identifiers
            .iter()
            .filter_map(|linked| linked.identifier.as_ref())
            .map(|id| format!("{}:{}", id.kind, id.value))
            .collect();
        assert_eq!(identifiers, ["device_id:x", "email:m", "user_id:A"]);
        let traits: Vec<_> = shown.traits.iter().map(|set| (set.name.as_str(), set.value.clone())).collect();
        assert_eq!(traits, [("df_gender", Some(text("f"))), ("plan", Some(text("free")))]);
        assert_eq!(shown.first_seen_at.map(|time| time.seconds), Some(50));
        assert_eq!(shown.last_seen_at.map(|time| time.seconds), Some(2000));
        assert_eq!(person(&process, 3).await.expect_err("unknown").code(), Code::NotFound);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn persons_and_link_records_come_in_pages() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A", "d:x", "u:B", "u:C", "u:A d:x"]).await?;
        let (mut numbers, mut token) = (Vec::new(), String::new());
        loop {
            let request = ListPersonsRequest { page_size: 2, page_token: token };
            let page = process.client.clone().list_persons(for_tenant(&shop(), request)).await?.into_inner();
            assert!(page.persons.len() <= 2);
            numbers.extend(page.persons.iter().map(|person| person.number));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(numbers, [1, 3, 4], "merged ones are left out");

        let list = async |person: u32| -> Result<Vec<(u64, LinkKind, u32, u32)>> {
            let (mut records, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = ListLinkRecordsRequest { person, page_size: 2, page_token };
                let page = process.client.clone().list_link_records(for_tenant(&shop(), request)).await?.into_inner();
                records.extend(page.records.iter().map(|record| (record.sequence, record.kind(), record.person, record.other_person)));
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return Ok(records);
                }
            }
        };
        use LinkKind::{Attached, Merged};
        assert_eq!(list(0).await?.len(), 5);
        assert_eq!(list(2).await?, [(1, Attached, 1, 0), (2, Attached, 2, 0), (5, Merged, 1, 2)]);
        assert_eq!(list(3).await?, [(3, Attached, 3, 0)]);

        let status = process.client.clone().get_identity_status(for_tenant(&shop(), GetIdentityStatusRequest {})).await?.into_inner();
        assert_eq!((status.persons, status.devices, status.merged), (3, 1, 1));
        let request = ListPersonsRequest { page_size: 0, page_token: "x".to_owned() };
        let status = process.client.clone().list_persons(for_tenant(&shop(), request)).await.expect_err("no token of ours");
        assert_eq!(status.code(), Code::InvalidArgument);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_merge_on_request_happens_once_and_two_users_only_by_force() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A", "u:B", "e:m", "u:C"]).await?;
        let merge = async |from: u32, into: u32, force: bool, request_id: &str| {
            let request = MergePersonsRequest { from, into, force, reason: "same household".into(), request_id: request_id.into() };
            let answer = process.client.clone().merge_persons(for_tenant(&shop(), request)).await?;
            Ok::<Person, Status>(answer.into_inner().person.expect("a person"))
        };
        assert_eq!(merge(3, 1, false, "r1").await?.merged_numbers, [3]);
        assert_eq!(merge(3, 1, false, "r1").await?.number, 1);
        assert_eq!(reason(&merge(4, 1, true, "r1").await.expect_err("another merge")), "REQUEST_ID_REUSED");
        let status = merge(2, 1, false, "r2").await.expect_err("two users");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "BOTH_HAVE_USER_ID"));
        assert_eq!(merge(2, 3, true, "r2").await?.merged_numbers, [2, 3], "into a merged number means into its survivor");
        assert_eq!(merge(2, 1, true, "").await?.merged_numbers, [2, 3], "one already");
        assert_eq!(reason(&merge(9, 1, true, "").await.expect_err("unknown")), "PERSON_NOT_FOUND");
        let status = merge(0, 0, true, "").await.expect_err("no numbers");
        assert_eq!(status.get_error_details().bad_request().map(|bad| bad.field_violations.len()), Some(2));

        assert_eq!(persons(&process.resolve("s", 2, &["u:B", "e:m", "u:A", "u:C"]).await?), [1, 1, 1, 4]);
        // A chain: 1, which others were merged into, becomes part of 4.
        assert_eq!(merge(1, 4, true, "").await?.merged_numbers, [1, 2, 3]);
        assert_eq!(persons(&process.resolve("s", 3, &["u:B", "e:m"]).await?), [4, 4]);
        process.stop().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        assert_eq!(persons(&process.resolve("s", 4, &["u:B", "e:m", "u:A"]).await?), [4, 4, 4]);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn roles_bound_what_a_caller_may_do() -> Result<()> {
    let store = segue_testkit::TempStore::sqlite();
    let (_place, log) = log().await?;
    let process = Process::start(&store, &log, Config::default()).await?;
    process.resolve("s", 1, &["u:A", "u:B"]).await?;
    fn as_role<T>(role: Role, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        Caller { tenant: Some(shop()), role, key: String::new(), source: String::new() }.attach(&mut headers);
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        request
    }
    let mut client = process.client.clone();
    let number = GetPersonRequest { who: Some(Who::Number(1)) };
    assert_eq!(client.get_person(as_role(Role::Writer, number.clone())).await.expect_err("writer").code(), Code::PermissionDenied);
    assert!(client.get_person(as_role(Role::Analyst, number)).await.is_ok());
    let account = segue_proto::identity::v1::GetAccountRequest { account_id: "acme".into() };
    assert_eq!(client.get_account(as_role(Role::Writer, account.clone())).await.expect_err("writer").code(), Code::PermissionDenied);
    assert_eq!(client.get_account(as_role(Role::Analyst, account)).await.expect_err("none yet").code(), Code::NotFound);
    let merge = MergePersonsRequest { from: 1, into: 2, force: true, ..MergePersonsRequest::default() };
    assert_eq!(client.merge_persons(as_role(Role::Analyst, merge.clone())).await.expect_err("analyst").code(), Code::PermissionDenied);
    assert!(client.merge_persons(as_role(Role::Editor, merge)).await.is_ok());
    let consents = SetConsentsRequest::default();
    assert_eq!(client.set_consents(as_role(Role::Analyst, consents.clone())).await.expect_err("analyst").code(), Code::PermissionDenied);
    assert_eq!(client.set_consents(as_role(Role::Service, consents)).await.expect_err("empty").code(), Code::InvalidArgument);
    let history = ListConsentsRequest { person: 1, ..ListConsentsRequest::default() };
    assert_eq!(client.list_consents(as_role(Role::Writer, history.clone())).await.expect_err("writer").code(), Code::PermissionDenied);
    assert!(client.list_consents(as_role(Role::Analyst, history)).await.is_ok());
    let unlink = UnlinkIdentifierRequest::default();
    assert_eq!(client.unlink_identifier(as_role(Role::Analyst, unlink.clone())).await.expect_err("analyst").code(), Code::PermissionDenied);
    assert_eq!(client.unlink_identifier(as_role(Role::Editor, unlink)).await.expect_err("empty").code(), Code::InvalidArgument);
    let batch = segue_proto::identity::v1::ResolveBatchRequest { source: "s".into(), sequence: 9, subjects: vec![event("u:A")] };
    assert_eq!(client.resolve_batch(as_role(Role::Admin, batch)).await.expect_err("admin").code(), Code::PermissionDenied);
    assert_eq!(client.get_identity_status(GetIdentityStatusRequest {}).await.expect_err("nobody").code(), Code::Unauthenticated);
    process.stop().await
}

#[tokio::test]
async fn a_tenant_that_is_switched_off_is_refused_and_keeps_its_data() -> Result<()> {
    let store = segue_testkit::TempStore::sqlite();
    let (_place, log) = log().await?;
    let process = Process::start(&store, &log, Config::default()).await?;
    process.resolve("s", 1, &["u:A"]).await?;
    process.tenants.replace(vec![Tenant::new(shop(), ModuleSet::default())]);
    let status = process.resolve("s", 2, &["u:A"]).await.expect_err("off");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "MODULE_DISABLED"));
    let status = process.resolve_for(&other(), "s", 1, vec![event("u:A")]).await.expect_err("gone");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "TENANT_UNKNOWN"));
    process.tenants.replace(vec![Tenant::new(shop(), crate::harness::switched_on())]);
    assert_eq!(persons(&process.resolve("s", 2, &["u:A", "u:B"]).await?), [1, 2]);
    process.stop().await
}

#[tokio::test]
async fn a_tenant_that_is_switched_off_is_told_the_last_answer_again_and_nothing_new() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A"]).await?;
        let answer = process.resolve("s", 2, &["identify u:B df_gender=f", "d:x"]).await?;
        process.tenants.replace(vec![Tenant::new(shop(), ModuleSet::default())]);
        assert_eq!(process.resolve("s", 2, &["identify u:B df_gender=f", "d:x"]).await?, answer);
        for (source, sequence) in [("s", 1), ("s", 3), ("t", 2)] {
            let status = process.resolve(source, sequence, &["u:C"]).await.expect_err("off");
            assert_eq!(reason(&status), "MODULE_DISABLED", "{source} {sequence}");
        }
        assert_eq!(reason(&process.resolve("", 2, &[]).await.expect_err("invalid")), "INVALID_REQUEST");
        assert_eq!(reason(&person(&process, 1).await.expect_err("off")), "MODULE_DISABLED");
        process.tenants.replace(vec![Tenant::new(shop(), crate::harness::switched_on())]);
        assert_eq!(persons(&process.resolve("s", 3, &["u:C"]).await?), [4], "nothing was resolved meanwhile");
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn requests_that_no_state_could_serve_name_the_field() -> Result<()> {
    let store = segue_testkit::TempStore::sqlite();
    let (_place, log) = log().await?;
    let process = Process::start(&store, &log, Config { subjects_max: 1, ..Config::default() }).await?;
    let status = process.resolve("", u64::MAX, &["u:A", "u:B"]).await.expect_err("invalid");
    let details = status.get_error_details();
    let fields: Vec<&str> = details.bad_request().map_or(Vec::new(), |bad| bad.field_violations.iter().map(|v| v.field.as_str()).collect());
    assert_eq!(fields, ["source", "sequence", "subjects"]);
    process.stop().await
}
