//! Modules switched off and on while events flow, and tenants that cannot reach each other.

use anyhow::ensure;
use segue_proto::analytics::v1::GetIndexStatusRequest;
use segue_proto::audience::v1::ListAudiencesRequest;
use segue_proto::identity::v1::GetIdentityStatusRequest;
use segue_proto::ingest::v1::{GetPipelineStatusRequest, TrackRequest};
use segue_proto::tenancy::v1::{CreateTenantRequest, DisableModuleRequest, EnableModuleRequest, Module, Tenant};
use segue_tests::events::{by_event, counts, event};
use segue_tests::installation::{Installation, TenantKeys};
use tonic_types::StatusExt;

const NOON_US: i64 = 1_767_268_800_000_000;

async fn send(keys: &TenantKeys, ids: std::ops::Range<u32>) -> anyhow::Result<()> {
    let events = ids.map(|n| event(&format!("e{n}"), "tick", NOON_US + i64::from(n), &[("user_id", &format!("u{}", n % 7))])).collect();
    let answer = keys.gateway.ingest().track(TrackRequest { events }).await?.into_inner();
    ensure!(answer.quarantined == 0 && answer.rejected == 0, "{answer:?}");
    Ok(())
}

async fn ticks(keys: &TenantKeys) -> anyhow::Result<u64> {
    let counts = counts(&keys.gateway.analytics().query_events(by_event()).await?.into_inner());
    Ok(counts.get("tick").map_or(0, |(total, _)| *total))
}

/// Asks until the answer is as wanted; fails with the last answer after a minute.
pub(crate) async fn eventually<T: PartialEq + std::fmt::Debug>(
    wanted: T,
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let answer = ask().await;
        if answer.as_ref().is_ok_and(|answer| *answer == wanted) {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < deadline, "wanted {wanted:?}, got {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_module_that_is_off_says_so_and_catches_up_when_it_is_on_again() {
    super::for_every_shape(off_and_on).await;
}

async fn off_and_on(installation: Installation) -> anyhow::Result<()> {
    let keys = installation.tenant("shop").await?;
    let mut operator = installation.operator().await?.tenancy();
    send(&keys, 0..100).await?;
    eventually(100, async || ticks(&keys).await).await?;

    for module in [Module::Analytics, Module::Identity] {
        operator.disable_module(DisableModuleRequest { tenant: "shop".into(), module: module as i32, cascade: false }).await?;
        let status = eventually(tonic::Code::FailedPrecondition, async || match keys.gateway.analytics().query_events(by_event()).await {
            Ok(_) => Ok(tonic::Code::Ok),
            Err(status) => Ok(status.code()),
        });
        status.await?;
    }
    let status = keys.gateway.analytics().query_events(by_event()).await.expect_err("analytics is off");
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has one");
    ensure!(info.reason == "MODULE_DISABLED" && info.domain == "segue", "{info:?}");
    ensure!(info.metadata["module"] == "analytics" && info.metadata["tenant"] == "shop", "{info:?}");
    // Accepting goes on; what waits is resolved and indexed later.
    send(&keys, 100..200).await?;

    operator
        .enable_module(EnableModuleRequest { tenant: "shop".into(), module: Module::Identity as i32, with_dependencies: false })
        .await?;
    send(&keys, 200..250).await?;
    operator
        .enable_module(EnableModuleRequest { tenant: "shop".into(), module: Module::Analytics as i32, with_dependencies: false })
        .await?;
    send(&keys, 250..300).await?;
    // Sent again: known from before the switch.
    send(&keys, 0..300).await?;
    eventually(300, async || ticks(&keys).await).await
}

#[tokio::test]
async fn a_tenants_key_reaches_its_own_tenant_only() {
    super::for_every_shape(isolation).await;
}

async fn isolation(installation: Installation) -> anyhow::Result<()> {
    let (ours, theirs) = (installation.tenant("ours").await?, installation.tenant("theirs").await?);
    send(&ours, 0..10).await?;
    send(&theirs, 0..20).await?;
    ours.gateway.wait_until_indexed().await?;
    theirs.gateway.wait_until_indexed().await?;
    ensure!(ticks(&ours).await? == 10 && ticks(&theirs).await? == 20, "the same message ids of two tenants are different events");

    // Pretending in a header changes nothing.
    let mut request = tonic::Request::new(by_event());
    request.metadata_mut().insert("x-segue-tenant", "theirs".parse()?);
    request.metadata_mut().insert("x-segue-act-as-tenant", "theirs".parse()?);
    request.metadata_mut().insert("x-segue-role", "service".parse()?);
    match ours.gateway.analytics().query_events(request).await {
        Ok(answer) => ensure!(counts(&answer.into_inner())["tick"].0 == 10, "a header opened another tenant"),
        Err(status) => ensure!(matches!(status.code(), tonic::Code::PermissionDenied | tonic::Code::InvalidArgument), "{status}"),
    }
    // A public key sends and does nothing else.
    let writer = ours.gateway.with_key(&ours.write)?;
    let status = writer.analytics().query_events(by_event()).await.expect_err("a write key cannot read");
    ensure!(status.code() == tonic::Code::PermissionDenied, "{status}");
    let nobody = ours.gateway.with_key("sgs_wrong")?;
    let status = nobody.analytics().query_events(by_event()).await.expect_err("no such key");
    ensure!(status.code() == tonic::Code::Unauthenticated, "{status}");
    Ok(())
}

#[tokio::test]
async fn every_set_of_modules_is_refused_or_answers_for_what_is_on_and_names_what_is_off() {
    super::for_every_shape(sets_of_modules).await;
}

/// Each module needs the one before it.
const MODULES: [(Module, &str); 5] = [
    (Module::Ingest, "ingest"),
    (Module::Identity, "identity"),
    (Module::Analytics, "analytics"),
    (Module::Audience, "audience"),
    (Module::Campaign, "campaign"),
];

async fn sets_of_modules(installation: Installation) -> anyhow::Result<()> {
    let mut operator = installation.operator().await?.tenancy();
    for set in 0..32u32 {
        let id = format!("set-{set}");
        let on: Vec<Module> = MODULES.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0).map(|(_, (module, _))| *module).collect();
        // One without the one before it.
        if set & !(set << 1) & !1 != 0 {
            let tenant = Tenant { id, modules: on.iter().map(|module| *module as i32).collect(), ..Default::default() };
            let status = operator.create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await.expect_err("one is missing");
            let details = status.get_error_details();
            ensure!(details.error_info().is_some_and(|info| info.reason == "MODULE_MISSING_DEPENDENCY"), "{set:05b}: {status:?}");
            continue;
        }
        let keys = installation.tenant_with(&id, "", &on).await?;
        if set == 0 {
            // None is asked for by switching off the first: naming none means the usual ones.
            operator.disable_module(DisableModuleRequest { tenant: id.clone(), module: Module::Ingest as i32, cascade: true }).await?;
        }
        for (at, (_, name)) in MODULES.iter().enumerate().take(4) {
            let wanted = if set & (1 << at) != 0 { String::new() } else { format!("MODULE_DISABLED {name} {id}") };
            // Services hear of a new tenant a moment later.
            eventually(wanted, async || Ok(said(asked(&keys, name).await))).await?;
        }
    }
    Ok(())
}

/// Asks a module for its state.
async fn asked(keys: &TenantKeys, module: &str) -> Result<(), tonic::Status> {
    let gateway = &keys.gateway;
    match module {
        "ingest" => gateway.ingest().get_pipeline_status(GetPipelineStatusRequest {}).await.map(drop),
        "identity" => gateway.identity().get_identity_status(GetIdentityStatusRequest {}).await.map(drop),
        "analytics" => gateway.analytics().get_index_status(GetIndexStatusRequest {}).await.map(drop),
        "audience" => gateway.audience().list_audiences(ListAudiencesRequest::default()).await.map(drop),
        other => Err(tonic::Status::unimplemented(format!("{other} has no calls"))),
    }
}

/// The reason for machines with the module and the tenant that it names; nothing if there was an answer.
fn said(answer: Result<(), tonic::Status>) -> String {
    let Err(status) = answer else { return String::new() };
    let details = status.get_error_details();
    let Some(info) = details.error_info() else { return status.to_string() };
    let named = |key: &str| info.metadata.get(key).cloned().unwrap_or_default();
    format!("{} {} {}", info.reason, named("module"), named("tenant"))
}
