//! Switched off, killed, started again: what is told still adds up, and nothing is done for who is off.

use anyhow::{Context, ensure};
use segue_proto::analytics::v1::GetIndexStatusRequest;
use segue_proto::audience::v1::{GetLiveStatusRequest, ListAudiencesRequest, WatchTransitionsRequest};
use segue_proto::events::v1::TransitionReason;
use segue_proto::events::v1::value::Kind;
use segue_proto::ingest::v1::TrackRequest;
use segue_proto::query::v1::{BehaviorAggregate, Condition, Operator, TimeUnit};
use segue_proto::tenancy::v1::{DisableModuleRequest, EnableModuleRequest, Module};
use segue_tests::events::event;
use segue_tests::installation::Installation;
use tonic_types::StatusExt;

use super::history::{History, adds_up};
use super::refusals::reason;
use super::tenant::{Tenant, audience, micros};
use crate::crash::wait_until_indexed;
use crate::modules::eventually;
use crate::semantics::now_us;
use crate::semantics::words::{all, behavior, compared, did, not, within};

const SECOND_US: i64 = 1_000_000;

fn opened() -> Condition {
    did(within(behavior("open"), 7, TimeUnit::Day))
}

pub async fn off_and_on(installation: Installation) -> anyhow::Result<()> {
    let never_on = installation.tenant("never-on").await?;
    let refused = reason(never_on.gateway.audience().list_audiences(ListAudiencesRequest::default()).await);
    ensure!(refused == (tonic::Code::FailedPrecondition, "MODULE_DISABLED".to_owned()), "{refused:?}");

    let tenant = Tenant::new(&installation, "switched", "").await?;
    tenant.create(audience("opened", opened())).await?;
    tenant.create(audience("not-left", all([opened(), not(did(behavior("left")))]))).await?;
    let who = |user| [("user_id", user)];
    tenant.settled().await?;
    tenant.send(&[event("1", "open", now_us() - SECOND_US, &who("one")), event("2", "open", now_us() - SECOND_US, &who("two"))]).await?;
    tenant.settled().await?;
    let before = adds_up(&tenant).await?.0.len();
    let mut stream = tenant.client().watch_transitions(WatchTransitionsRequest::default()).await?.into_inner();

    installation.set_audiences("switched", false).await?;
    let ended = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("the stream ended without saying why"),
            Err(status) => break status,
        }
    };
    for status in [ended, tenant.client().get_live_status(GetLiveStatusRequest {}).await.expect_err("audiences are off")] {
        let details = status.get_error_details();
        let info = details.error_info().with_context(|| format!("every error has one: {status:?}"))?;
        ensure!(info.reason == "MODULE_DISABLED" && info.domain == "segue", "{info:?}");
        ensure!(info.metadata["module"] == "audience" && info.metadata["tenant"] == "switched", "{info:?}");
    }

    // A switch is felt everywhere within two seconds. Then somebody comes and somebody goes while nobody looks.
    let felt_us = now_us() + 2 * SECOND_US;
    let analytics = &tenant.keys.gateway.analytics();
    let watermark = async || {
        let status = analytics.clone().get_index_status(GetIndexStatusRequest {}).await?.into_inner();
        Ok(status.watermark.map_or(0, micros) >= felt_us)
    };
    eventually(true, watermark).await?;
    tenant.send(&[event("3", "open", now_us() - SECOND_US, &who("three")), event("4", "left", now_us() - SECOND_US, &who("one"))]).await?;
    tenant.keys.gateway.wait_until_indexed().await?;
    let on_us = now_us();
    installation.set_audiences("switched", true).await?;
    let history = caught_up(&tenant, before, on_us).await?;
    let [one, two, three] = [number(&tenant, "one").await?, number(&tenant, "two").await?, number(&tenant, "three").await?];
    for (audience, person, told) in [
        ("opened", one, "entered EVENT"),
        ("not-left", one, "entered EVENT, left EVENT"),
        ("not-left", two, "entered EVENT"),
        ("opened", three, "entered EVENT"),
        ("not-left", three, "entered EVENT"),
    ] {
        let found = told_apart_or_not(&history, audience, person);
        ensure!(found == told, "{audience}, {person}: {found:?} instead of {told:?}");
    }

    // With what it needs, and back with it.
    let before = history.0.len();
    let mut operator = installation.operator().await?.tenancy();
    let off = DisableModuleRequest { tenant: "switched".into(), module: Module::Analytics as i32, cascade: true };
    operator.disable_module(off).await?;
    // With analytics off, there is nothing to ask: nobody can be decided about.
    tenant.send(&[event("5", "open", now_us() - SECOND_US, &who("four"))]).await?;
    let on_us = now_us();
    let on = EnableModuleRequest { tenant: "switched".into(), module: Module::Audience as i32, with_dependencies: true };
    operator.enable_module(on).await?;
    let history = caught_up(&tenant, before, on_us).await?;
    let four = number(&tenant, "four").await?;
    ensure!(told_apart_or_not(&history, "opened", four) == "entered EVENT", "{}", history.told("opened", four));
    // From then on it is as before.
    tenant.send(&[event("6", "left", now_us() - SECOND_US, &who("two"))]).await?;
    tenant.settled().await?;
    let told = adds_up(&tenant).await?.told("not-left", two);
    ensure!(told == "entered EVENT, left EVENT", "{told}");
    tenant.audited().await
}

/// Waits until a tenant that was switched on has caught up. Nothing was decided while it was off.
async fn caught_up(tenant: &Tenant, before: usize, on_us: i64) -> anyhow::Result<History> {
    eventually(true, async || Ok(tenant.client().get_live_status(GetLiveStatusRequest {}).await.is_ok())).await?;
    wait_until_indexed(&tenant.keys.gateway).await?;
    tenant.settled().await?;
    let history = adds_up(tenant).await?;
    for transition in &history.0[before..] {
        let decided_us = transition.evaluated_at.map_or(0, micros);
        let is_known = matches!(transition.reason(), TransitionReason::CatchUp | TransitionReason::Event);
        ensure!(decided_us >= on_us && is_known, "while it was off, until {on_us}: {transition:?}");
    }
    Ok(history)
}

/// What was told, however much had to be caught up with: little is told event by event.
fn told_apart_or_not(history: &History, audience: &str, person: u32) -> String {
    history.told(audience, person).replace("CATCH_UP", "EVENT")
}

async fn number(tenant: &Tenant, user: &str) -> anyhow::Result<u32> {
    tenant.number("user_id", user).await
}

pub async fn killed(mut installation: Installation) -> anyhow::Result<()> {
    let mut tenant = Tenant::new(&installation, "killed", "").await?;
    let often =
        compared(within(behavior("open"), 7, TimeUnit::Day), BehaviorAggregate::Count, Operator::GreaterOrEqual, &[Kind::IntValue(3)]);
    let conditions = [("opened", opened()), ("often", often), ("not-left", all([did(behavior("known")), not(did(behavior("left")))]))];
    for (id, condition) in &conditions {
        tenant.create(audience(id, condition.clone())).await?;
    }
    tenant.settled().await?;
    // The service of audiences each time, and one after the other all that there are.
    let of_audiences = installation.running("audience");
    for round in 0..6usize {
        let events = (0..60usize).map(|person| {
            // Of seven, one never leaves in six rounds.
            let name = match (round + person) % 7 {
                0 => "left",
                1..=3 => "open",
                _ => "known",
            };
            event(&format!("{round}/{person}"), name, now_us() - SECOND_US, &[("user_id", &format!("u{person}"))])
        });
        let events: Vec<_> = events.collect();
        accepted(&tenant, events).await?;
        let also = round % installation.len();
        for at in of_audiences.iter().copied().chain((!of_audiences.contains(&also)).then_some(also)) {
            installation.kill_and_restart(at)?;
        }
    }
    installation.ready().await?;
    tenant.keys.gateway = segue_node::client::Gateway::connect(&installation.url(), &tenant.keys.secret, None).await?;
    wait_until_indexed(&tenant.keys.gateway).await?;
    tenant.settled().await?;
    adds_up(&tenant).await?;
    for (id, condition) in conditions {
        let who = segue_proto::analytics::v1::select_persons_request::Who::Condition(condition);
        let select = segue_proto::analytics::v1::SelectPersonsRequest { who: Some(who), page_size: 1_000, ..Default::default() };
        let truth = tenant.keys.gateway.analytics().select_persons(select).await?.into_inner().persons;
        let members = tenant.members(id).await?;
        ensure!(members == truth && !truth.is_empty(), "{id}: {members:?} instead of {truth:?}");
    }
    tenant.audited().await
}

/// Sends until it is acknowledged, under the same ids.
async fn accepted(tenant: &Tenant, events: Vec<segue_proto::events::v1::Event>) -> anyhow::Result<()> {
    let wanted = events.len() as u32;
    let send = async || {
        let answer = tenant.keys.gateway.ingest().track(TrackRequest { events: events.clone() }).await?;
        Ok(answer.into_inner().accepted)
    };
    eventually(wanted, send).await
}
