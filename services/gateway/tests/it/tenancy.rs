//! Tenants, switches and keys, on every database.

use std::sync::Arc;
use std::time::Duration;

use segue_gateway::{Deps, Peers};
use segue_model::Module;
use segue_model::SystemClock;
use segue_model::module::ModuleSet;
use segue_proto::tenancy::v1 as proto;
use segue_proto::tenancy::v1::tenancy_service_client::TenancyServiceClient;
use segue_runtime::tenants::module_to_proto;
use segue_runtime::{Tasks, TenantDirectory};
use segue_store::sqlx;
use tonic::Code;

use crate::start::{Gateway, OPERATOR, config, refusal};

fn to_proto(modules: ModuleSet) -> Vec<i32> {
    modules.iter().map(|module| module_to_proto(module).into()).collect()
}

#[tokio::test]
async fn the_first_start_makes_an_operator_key_and_later_ones_do_not() {
    for store in segue_testkit::stores() {
        let start = || async {
            let tasks = Tasks::new();
            let deps = Deps {
                config: segue_gateway::Config::default(),
                store_url: store.url().to_owned(),
                clock: Arc::new(SystemClock),
                peers: Peers::default(),
                tasks: tasks.clone(),
            };
            let started = segue_gateway::start(deps).await.expect("the gateway starts");
            tasks.stop(Duration::from_secs(10)).await.expect("background work ends");
            started.closing.close().await;
            started.operator_key
        };
        let key = start().await.expect("made at the first start");
        assert!(key.starts_with("sgo_") && key.len() == 68);
        assert_eq!(start().await, None);
        let gateway = Gateway::start(store.url()).await;
        assert!(gateway.tenancy(&key).await.list_tenants(proto::ListTenantsRequest::default()).await.is_ok());
        assert_eq!(
            refusal(gateway.tenancy(&format!("sgo_{}", "0".repeat(64))).await.list_tenants(proto::ListTenantsRequest::default()).await),
            (Code::Unauthenticated, "UNKNOWN_KEY".to_owned())
        );
    }
}

#[tokio::test]
async fn operator_keys_are_listed_and_revoked_by_operators_and_the_next_start_replaces_them() {
    for store in segue_testkit::stores() {
        let start = || async {
            let tasks = Tasks::new();
            let deps = Deps {
                config: segue_gateway::Config::default(),
                store_url: store.url().to_owned(),
                clock: Arc::new(SystemClock),
                peers: Peers::default(),
                tasks: tasks.clone(),
            };
            let started = segue_gateway::start(deps).await.expect("the gateway starts");
            tasks.stop(Duration::from_secs(10)).await.expect("background work ends");
            started.closing.close().await;
            started.operator_key
        };
        let mut keys = vec![start().await.expect("made at the first start")];
        let gateway = Gateway::start(store.url()).await;
        for name in ["keys/operator", "keys/operator-2"] {
            let mut with_own = gateway.tenancy(&keys[keys.len() - 1]).await;
            let listed = with_own.list_keys(proto::ListKeysRequest::default()).await.expect("operator keys").into_inner().keys;
            let last = listed.last().expect("a key");
            assert_eq!((listed.len(), last.name.as_str(), last.tenant.as_str()), (keys.len(), name, ""));
            assert!(last.revoked_at.is_none());
            let revoked = with_own.revoke_key(proto::RevokeKeyRequest { name: name.into() }).await.expect("revoked").into_inner();
            assert!(revoked.revoked_at.is_some());
            let again = with_own.list_keys(proto::ListKeysRequest::default()).await;
            assert_eq!(refusal(again), (Code::Unauthenticated, "UNKNOWN_KEY".to_owned()));
            keys.push(start().await.expect("made, since none is live"));
            assert_eq!(start().await, None);
        }
        gateway.tenancy(&keys[2]).await.list_tenants(proto::ListTenantsRequest::default()).await.expect("the new one is good");
    }
}

#[tokio::test]
async fn every_set_of_modules_is_made_switched_or_refused_as_its_dependencies_say() {
    for store in segue_testkit::stores() {
        let gateway = Gateway::start(store.url()).await;
        let mut tenancy = gateway.tenancy(OPERATOR).await;
        for bits in 1..32u8 {
            let set = ModuleSet::from_bits(bits);
            let is_whole = set.iter().all(|module| module.needs().is_none_or(|need| set.contains(need)));
            let id = format!("tenant-{bits}");
            let tenant = proto::Tenant { id: id.clone(), modules: to_proto(set), ..proto::Tenant::default() };
            let made = tenancy.create_tenant(proto::CreateTenantRequest { tenant: Some(tenant) }).await;
            if !is_whole {
                assert_eq!(refusal(made), (Code::FailedPrecondition, "MODULE_MISSING_DEPENDENCY".to_owned()), "{bits}");
                continue;
            }
            assert_eq!(made.expect("made").into_inner().modules, to_proto(set));
        }
        // From each reachable set, every switch, with and without its flag; the rule itself is tested over all 32.
        let tenant = proto::Tenant { id: "shop".to_owned(), modules: vec![proto::Module::Ingest.into()], ..proto::Tenant::default() };
        tenancy.create_tenant(proto::CreateTenantRequest { tenant: Some(tenant) }).await.expect("made");
        for last in 0..=5usize {
            let set: ModuleSet = Module::ALL.into_iter().take(last).collect();
            for module in Module::ALL {
                for flag in [false, true] {
                    set_modules(&mut tenancy, set).await;
                    let request = proto::EnableModuleRequest {
                        tenant: "shop".to_owned(),
                        module: module_to_proto(module).into(),
                        with_dependencies: flag,
                    };
                    check(tenancy.enable_module(request).await, set.enable(module, flag), "MODULE_MISSING_DEPENDENCY");
                    set_modules(&mut tenancy, set).await;
                    let request =
                        proto::DisableModuleRequest { tenant: "shop".to_owned(), module: module_to_proto(module).into(), cascade: flag };
                    check(tenancy.disable_module(request).await, set.disable(module, flag), "MODULE_HAS_DEPENDENTS");
                }
            }
        }
    }
}

fn check(
    answered: Result<tonic::Response<proto::Tenant>, tonic::Status>,
    expected: Result<ModuleSet, segue_model::module::SwitchError>,
    reason: &str,
) {
    match expected {
        Ok(set) => assert_eq!(answered.expect("switched").into_inner().modules, to_proto(set)),
        Err(_) => assert_eq!(refusal(answered), (Code::FailedPrecondition, reason.to_owned())),
    }
}

async fn set_modules(tenancy: &mut TenancyServiceClient<crate::start::Keyed>, set: ModuleSet) {
    let tenant = "shop".to_owned();
    let off = proto::DisableModuleRequest { tenant: tenant.clone(), module: proto::Module::Ingest.into(), cascade: true };
    tenancy.disable_module(off).await.expect("all off");
    if let Some(last) = set.iter().last() {
        let on = proto::EnableModuleRequest { tenant, module: module_to_proto(last).into(), with_dependencies: true };
        tenancy.enable_module(on).await.expect("on");
    }
}

#[tokio::test]
async fn a_module_that_is_off_is_refused_by_name_and_works_again_once_it_is_on() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let mut ingest = gateway.ingest(&gateway.secret_key("shop", proto::Role::Editor).await).await;
    let mut tenancy = gateway.tenancy(OPERATOR).await;
    assert!(ingest.track(segue_proto::ingest::v1::TrackRequest::default()).await.is_ok());
    let off = proto::DisableModuleRequest { tenant: "shop".into(), module: proto::Module::Ingest.into(), cascade: true };
    tenancy.disable_module(off).await.expect("off");
    let status = ingest.track(segue_proto::ingest::v1::TrackRequest::default()).await.expect_err("off");
    let info = tonic_types::StatusExt::get_details_error_info(&status).expect("details");
    assert_eq!((status.code(), info.reason.as_str(), info.domain.as_str()), (Code::FailedPrecondition, "MODULE_DISABLED", "segue"));
    assert_eq!((info.metadata["module"].as_str(), info.metadata["tenant"].as_str()), ("ingest", "shop"));
    let on = proto::EnableModuleRequest { tenant: "shop".into(), module: proto::Module::Ingest.into(), with_dependencies: false };
    tenancy.enable_module(on).await.expect("on");
    assert!(ingest.track(segue_proto::ingest::v1::TrackRequest::default()).await.is_ok());
}

#[tokio::test]
async fn tenants_are_made_once_listed_in_pages_and_changed_by_mask_and_etag() {
    for store in segue_testkit::stores() {
        let gateway = Gateway::start(store.url()).await;
        for id in ["c", "a", "b"] {
            gateway.tenant(id).await;
        }
        let mut tenancy = gateway.tenancy(OPERATOR).await;
        let again = proto::CreateTenantRequest { tenant: Some(proto::Tenant { id: "a".into(), ..proto::Tenant::default() }) };
        assert_eq!(refusal(tenancy.create_tenant(again).await), (Code::AlreadyExists, "TENANT_EXISTS".to_owned()));
        let faulty = proto::Tenant { id: "x".into(), time_zone: "Mars/Base".into(), currency: "eur".into(), ..proto::Tenant::default() };
        let status = tenancy.create_tenant(proto::CreateTenantRequest { tenant: Some(faulty) }).await.expect_err("two faults");
        let bad = tonic_types::StatusExt::get_details_bad_request(&status).expect("violations");
        assert_eq!(bad.field_violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), ["tenant.time_zone", "tenant.currency"]);

        let page = |token: &str| proto::ListTenantsRequest { page_size: 2, page_token: token.into() };
        let first = tenancy.list_tenants(page("")).await.expect("a page").into_inner();
        let second = tenancy.list_tenants(page(&first.next_page_token)).await.expect("a page").into_inner();
        let ids = |page: &proto::ListTenantsResponse| page.tenants.iter().map(|tenant| tenant.id.clone()).collect::<Vec<_>>();
        assert_eq!((ids(&first), ids(&second), second.next_page_token.as_str()), (vec!["a".into(), "b".into()], vec!["c".into()], ""));

        let change = |etag: &str, zone: &str| proto::UpdateTenantRequest {
            tenant: Some(proto::Tenant {
                id: "a".into(),
                time_zone: zone.into(),
                display_name: "no".into(),
                etag: etag.into(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["time_zone".into()] }),
        };
        let before = first.tenants[0].clone();
        let after = tenancy.update_tenant(change(&before.etag, "Europe/Berlin")).await.expect("changed").into_inner();
        assert_eq!((after.time_zone.as_str(), after.display_name.as_str()), ("Europe/Berlin", ""));
        assert_ne!(after.etag, before.etag);
        assert_eq!(refusal(tenancy.update_tenant(change(&before.etag, "UTC")).await), (Code::Aborted, "STALE_ETAG".to_owned()));
        // The same again makes no difference and no new etag.
        let same = tenancy.update_tenant(change("", "Europe/Berlin")).await.expect("the same").into_inner();
        assert_eq!(same.etag, after.etag);

        let keep = |days: u32| proto::UpdateTenantRequest {
            tenant: Some(proto::Tenant { id: "a".into(), event_retention_days: days, ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["event_retention_days".into()] }),
        };
        let kept = tenancy.update_tenant(keep(90)).await.expect("changed").into_inner();
        assert_eq!((kept.event_retention_days, kept.time_zone.as_str()), (90, "Europe/Berlin"));
        let listed = tenancy.list_tenants(page("")).await.expect("a page").into_inner();
        assert_eq!(listed.tenants.iter().map(|tenant| tenant.event_retention_days).collect::<Vec<_>>(), [90, 0]);
        assert_eq!(tenancy.update_tenant(keep(40_000)).await.expect_err("a slip of the hand").code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn admins_manage_the_keys_of_their_own_tenant_alone() {
    for store in segue_testkit::stores() {
        let gateway = Gateway::start(store.url()).await;
        gateway.tenant("shop").await;
        gateway.tenant("rival").await;
        let (rival_key, _) = gateway.key("rival", proto::KeyKind::Write, proto::Role::Unspecified).await;
        let mut admin = gateway.tenancy(&gateway.secret_key("shop", proto::Role::Admin).await).await;
        let mut analyst = gateway.tenancy(&gateway.secret_key("shop", proto::Role::Analyst).await).await;

        let key = |tenant: &str| proto::CreateKeyRequest {
            key: Some(proto::Key {
                tenant: tenant.into(),
                kind: proto::KeyKind::Secret.into(),
                role: proto::Role::Editor.into(),
                ..Default::default()
            }),
        };
        let made = admin.create_key(key("")).await.expect("own tenant").into_inner();
        assert!(made.secret.starts_with("sgs_"));
        let listed = admin.list_keys(proto::ListKeysRequest::default()).await.expect("own keys").into_inner();
        assert!(listed.keys.iter().all(|key| key.tenant == "shop") && listed.keys.len() == 3);
        assert_eq!(refusal(admin.create_key(key("rival")).await), (Code::NotFound, "NO_SUCH_TENANT".to_owned()));
        let revoke = proto::RevokeKeyRequest { name: rival_key.clone() };
        assert_eq!(refusal(admin.revoke_key(revoke).await), (Code::NotFound, "NO_SUCH_KEY".to_owned()));
        let rivals =
            gateway.tenancy(OPERATOR).await.list_keys(proto::ListKeysRequest { tenant: "rival".into(), ..Default::default() }).await;
        assert!(rivals.expect("the operator may").into_inner().keys[0].revoked_at.is_none(), "nothing was revoked");
        let operator_key = proto::RevokeKeyRequest { name: "keys/operator".into() };
        assert_eq!(refusal(admin.revoke_key(operator_key).await).0, Code::NotFound);

        assert_eq!(refusal(analyst.create_key(key("")).await), (Code::PermissionDenied, "ROLE_TOO_LOW".to_owned()));
        assert_eq!(analyst.get_tenant(proto::GetTenantRequest::default()).await.expect("own tenant").into_inner().id, "shop");
        assert_eq!(refusal(analyst.get_tenant(proto::GetTenantRequest { id: "rival".into() }).await).0, Code::NotFound);
        for role in [proto::Role::Unspecified, proto::Role::Admin] {
            let kind = if role == proto::Role::Admin { proto::KeyKind::Write } else { proto::KeyKind::Secret };
            let faulty = proto::Key { tenant: "shop".into(), kind: kind.into(), role: role.into(), ..Default::default() };
            assert_eq!(refusal(admin.create_key(proto::CreateKeyRequest { key: Some(faulty) }).await).0, Code::InvalidArgument);
        }
        assert_eq!(refusal(admin.list_tenants(proto::ListTenantsRequest::default()).await).0, Code::PermissionDenied);
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_here_and_soon_elsewhere() {
    for store in segue_testkit::stores() {
        let gateway = Gateway::start(store.url()).await;
        let other = Gateway::start(store.url()).await;
        gateway.tenant("shop").await;
        let (name, text) = gateway.key("shop", proto::KeyKind::Secret, proto::Role::Analyst).await;
        let mut here = gateway.tenancy(&text).await;
        let mut elsewhere = other.tenancy(&text).await;
        assert!(here.get_tenant(proto::GetTenantRequest::default()).await.is_ok());
        // The other gateway learns of the tenant with its first key.
        assert!(elsewhere.get_tenant(proto::GetTenantRequest::default()).await.is_ok());
        let mut operator = gateway.tenancy(OPERATOR).await;
        let revoked = operator.revoke_key(proto::RevokeKeyRequest { name: name.clone() }).await.expect("revoked").into_inner();
        assert!(revoked.revoked_at.is_some());
        assert_eq!(refusal(here.get_tenant(proto::GetTenantRequest::default()).await).0, Code::Unauthenticated);
        let again = operator.revoke_key(proto::RevokeKeyRequest { name }).await.expect("idempotent").into_inner();
        assert_eq!(again.revoked_at, revoked.revoked_at);
        let refused = async {
            while elsewhere.get_tenant(proto::GetTenantRequest::default()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), refused).await.expect("refused within the time the memory of keys holds");
    }
}

#[tokio::test]
async fn watchers_get_everything_and_then_changes_of_every_gateway() {
    for store in segue_testkit::stores() {
        let gateway = Gateway::start(store.url()).await;
        let other = Gateway::start(store.url()).await;
        gateway.tenant("shop").await;
        let tasks = Tasks::new();
        let directory = TenantDirectory::watching(gateway.internal.clone(), &tasks);
        directory.ready().await;
        let shop = "shop".parse().expect("an id");
        assert!(directory.is_on(&shop, Module::Analytics) && !directory.is_on(&shop, Module::Campaign));
        let mut changes = directory.changes();
        let on = proto::EnableModuleRequest { tenant: "shop".into(), module: proto::Module::Campaign.into(), with_dependencies: true };
        other.tenancy(OPERATOR).await.enable_module(on).await.expect("switched by the other gateway");
        let seen = changes.wait_for(|_| directory.is_on(&shop, Module::Campaign));
        tokio::time::timeout(Duration::from_secs(5), seen).await.expect("within the polling time").expect("the directory lives");
        gateway.stop().await;
        tasks.stop(Duration::from_secs(10)).await.expect("the watcher ends");
    }
}

#[tokio::test]
async fn changes_are_in_the_audit_log_with_who_and_when() {
    let store = segue_testkit::TempStore::sqlite();
    let clock = segue_model::ManualClock::new(1_700_000_000_000_000);
    let gateway = Gateway::start_with(store.url(), config(), Arc::new(clock)).await;
    gateway.tenant("shop").await;
    let (name, _) = gateway.key("shop", proto::KeyKind::Write, proto::Role::Unspecified).await;
    gateway.tenancy(OPERATOR).await.revoke_key(proto::RevokeKeyRequest { name: name.clone() }).await.expect("revoked");
    gateway.closing.close().await;
    let file = store.folder().expect("a folder").join("gateway.sqlite");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await.expect("the file");
    let lines: Vec<(i64, String, Option<String>, String, String)> =
        sqlx::query_as("SELECT at_us, actor, tenant, action, detail FROM audit ORDER BY id").fetch_all(&pool).await.expect("lines");
    let actions: Vec<_> = lines.iter().map(|line| (line.2.as_deref(), line.3.as_str())).collect();
    assert_eq!(actions, [(Some("shop"), "CreateTenant"), (Some("shop"), "CreateKey"), (Some("shop"), "RevokeKey")]);
    assert!(lines.iter().all(|line| line.0 == 1_700_000_000_000_000 && line.1 == "keys/configured-operator"), "{lines:?}");
    assert!(lines[2].4.contains(&name));
    let secrets: i64 =
        sqlx::query_scalar("SELECT count(*) FROM api_key WHERE length(secret_sha256) <> 32").fetch_one(&pool).await.expect("a count");
    assert_eq!(secrets, 0);
}
