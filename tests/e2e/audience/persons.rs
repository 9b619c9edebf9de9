//! Persons who become one, and persons who are deleted.

use anyhow::ensure;
use segue_proto::analytics::v1::DeletePersonEventsRequest;
use segue_proto::audience::v1::GetMembershipsRequest;
use segue_proto::identity::v1::MergePersonsRequest;
use segue_proto::query::v1::TimeUnit;
use segue_tests::events::event;
use segue_tests::installation::Installation;

use super::history::adds_up;
use super::tenant::{Tenant, audience};
use crate::semantics::now_us;
use crate::semantics::words::{all, behavior, did, not, within};

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

pub async fn merges_and_deletion(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "persons", "").await?;
    tenant.create(audience("opened", did(within(behavior("open"), 7, TimeUnit::Day)))).await?;
    tenant.create(audience("quiet", all([did(behavior("known")), not(did(behavior("open")))]))).await?;
    tenant.settled().await?;
    logins(&tenant).await?;
    on_request(&tenant).await?;
    deleted(&tenant).await?;
    tenant.audited().await
}

/// A login joins what happened before it on the device with whom the user is.
async fn logins(tenant: &Tenant) -> anyhow::Result<()> {
    let now_us = now_us() - 10 * SECOND_US;
    tenant
        .send(&[
            event("l/1", "open", now_us - DAY_US, &[("device_id", "new-device")]),
            event("l/2", "open", now_us - DAY_US, &[("device_id", "other-device")]),
            event("l/3", "known", now_us - 20 * DAY_US, &[("user_id", "known")]),
            event("l/4", "open", now_us - DAY_US, &[("device_id", "third-device")]),
            event("l/5", "open", now_us - 2 * DAY_US, &[("user_id", "opened")]),
        ])
        .await?;
    tenant.settled().await?;
    let first = tenant.number("device_id", "new-device").await?;
    let (merged, known) = (tenant.number("device_id", "other-device").await?, tenant.number("user_id", "known").await?);
    let (third, opened) = (tenant.number("device_id", "third-device").await?, tenant.number("user_id", "opened").await?);
    ensure!(tenant.memberships(merged).await? == ["opened"] && tenant.memberships(known).await? == ["quiet"], "before the logins");

    tenant
        .send(&[
            // The first login of a user nobody knew: the anonymous person goes on as the user.
            event("l/6", "df_login", now_us, &[("device_id", "new-device"), ("user_id", "new")]),
            // Users who are known: the anonymous person becomes part of them.
            event("l/7", "df_login", now_us, &[("device_id", "other-device"), ("user_id", "known")]),
            event("l/8", "df_login", now_us, &[("device_id", "third-device"), ("user_id", "opened")]),
        ])
        .await?;
    tenant.settled().await?;
    ensure!(tenant.number("user_id", "new").await? == first && tenant.number("device_id", "other-device").await? == known, "who is who");
    let history = adds_up(tenant).await?;
    for (audience, person, told) in [
        ("opened", first, "entered EVENT"),
        ("opened", merged, "entered EVENT, left MERGE"),
        ("opened", third, "entered EVENT, left MERGE"),
        ("opened", opened, "entered EVENT"),
        ("quiet", merged, ""),
    ] {
        let found = history.told(audience, person);
        ensure!(found == told, "{audience}, {person}: {found:?} instead of {told:?}");
    }
    // The login is an event of the survivor too, so either may be named as what made the difference.
    for (audience, told) in [("opened", "entered"), ("quiet", "entered EVENT, left")] {
        let found = history.told(audience, known);
        ensure!([format!("{told} MERGE"), format!("{told} EVENT")].contains(&found), "{audience}: {found:?}");
    }
    ensure!(tenant.memberships(known).await? == ["opened"], "the survivor has what happened to both");
    ensure!(tenant.memberships(merged).await? == ["opened"], "a merged number means the survivor");
    Ok(())
}

/// Persons who are merged by a call.
async fn on_request(tenant: &Tenant) -> anyhow::Result<()> {
    let now_us = now_us() - 10 * SECOND_US;
    tenant
        .send(&[
            event("r/1", "open", now_us - DAY_US, &[("email", "a@example.com")]),
            event("r/2", "known", now_us - DAY_US, &[("user_id", "reader")]),
        ])
        .await?;
    tenant.settled().await?;
    let (from, into) = (tenant.number("email", "a@example.com").await?, tenant.number("user_id", "reader").await?);
    let request = MergePersonsRequest { from, into, reason: "one household".to_owned(), request_id: "m1".to_owned(), ..Default::default() };
    for _ in 0..2 {
        tenant.keys.gateway.identity().merge_persons(request.clone()).await?;
    }
    tenant.settled().await?;
    let history = adds_up(tenant).await?;
    for (audience, person, told) in
        [("opened", from, "entered EVENT, left MERGE"), ("opened", into, "entered MERGE"), ("quiet", into, "entered EVENT, left MERGE")]
    {
        let found = history.told(audience, person);
        ensure!(found == told, "{audience}, {person}: {found:?} instead of {told:?}");
    }
    ensure!(!tenant.members("opened").await?.contains(&from), "who was merged is nobody any more");
    Ok(())
}

/// A person whose events are deleted leaves, and may come again.
async fn deleted(tenant: &Tenant) -> anyhow::Result<()> {
    let now_us = now_us() - 10 * SECOND_US;
    let who = [("user_id", "leaves")];
    tenant.send(&[event("d/1", "open", now_us - DAY_US, &who), event("d/2", "known", now_us - DAY_US, &who)]).await?;
    tenant.settled().await?;
    let person = tenant.number("user_id", "leaves").await?;
    ensure!(tenant.memberships(person).await? == ["opened"], "{:?}", tenant.memberships(person).await?);
    let request = DeletePersonEventsRequest { person, request_id: "d1".to_owned() };
    tenant.keys.gateway.analytics().delete_person_events(request).await?;
    tenant.settled().await?;
    let told = adds_up(tenant).await?.told("opened", person);
    ensure!(told == "entered EVENT, left DELETION", "{told:?}");
    ensure!(tenant.memberships(person).await?.is_empty(), "{:?}", tenant.memberships(person).await?);

    tenant.send(&[event("d/3", "open", crate::semantics::now_us() - SECOND_US, &who)]).await?;
    tenant.settled().await?;
    let told = adds_up(tenant).await?.told("opened", person);
    ensure!(told == "entered EVENT, left DELETION, entered EVENT", "{told:?}");

    // Nobody has a number that was never given out.
    let status = tenant.client().get_memberships(GetMembershipsRequest { person: 4_000_000_000 }).await.map(tonic::Response::into_inner);
    ensure!(
        status.as_ref().map_or_else(|status| status.code() == tonic::Code::NotFound, |answer| answer.memberships.is_empty()),
        "{status:?}"
    );
    Ok(())
}
