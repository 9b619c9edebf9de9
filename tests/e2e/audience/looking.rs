//! Looking before acting, and understanding after: previews and explanations.

use anyhow::{Context, ensure};
use segue_proto::audience::v1::explain_membership_request::Who;
use segue_proto::audience::v1::preview_audience_request::What;
use segue_proto::audience::v1::{Audience, ExplainMembershipRequest, PreviewAudienceRequest, PreviewAudienceResponse};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{Event, EventKind, Value};
use segue_proto::query::v1::{Condition, TimeUnit};
use segue_tests::events::{event, timestamp};
use segue_tests::installation::Installation;

use super::composition::{in_audience, in_segment};
use super::tenant::{Tenant, audience, micros};
use crate::semantics::now_us;
use crate::semantics::words::{all, behavior, did, not, within};

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// Opened within a week and never signed up.
fn looked() -> Condition {
    all([did(within(behavior("open"), 7, TimeUnit::Day)), not(did(behavior("signed-up")))])
}

fn identify(id: &str, time_us: i64, identifiers: &[(&str, &str)], traits: &[(&str, bool)]) -> Event {
    let traits = traits.iter().map(|(name, yes)| ((*name).to_owned(), Value { kind: Some(Kind::BoolValue(*yes)) })).collect();
    Event { kind: EventKind::Identify.into(), name: String::new(), traits, ..event(id, "", time_us, identifiers) }
}

pub async fn previews_and_explanations(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "looking", "").await?;
    let opened_us = now_us() - DAY_US;
    tenant
        .send(&[
            identify(
                "i/1",
                opened_us,
                &[("user_id", "u1"), ("email", "1@example.com"), ("phone", "821011112222")],
                &[("df_email_ads_optin", true)],
            ),
            identify("i/2", opened_us, &[("user_id", "u2"), ("email", "2@example.com")], &[("df_email_ads_optin", false)]),
            identify("i/3", opened_us, &[("user_id", "u3"), ("push_token", "token-3")], &[("df_push_ads_optin", true)]),
            identify("i/4", opened_us, &[("user_id", "u4"), ("phone", "821033334444")], &[]),
            identify("i/5", opened_us, &[("user_id", "u5"), ("kakao_user_id", "k5")], &[("df_kakao_ads_optin", true)]),
            event("e/1", "open", opened_us, &[("user_id", "u1")]),
            event("e/1b", "open", opened_us - 10 * DAY_US, &[("user_id", "u1")]),
            event("e/2", "open", opened_us, &[("user_id", "u2")]),
            event("e/3", "open", opened_us, &[("user_id", "u3")]),
            event("e/4", "signed-up", opened_us, &[("user_id", "u4")]),
            event("e/5", "open", opened_us, &[("user_id", "u5")]),
            event("e/5b", "signed-up", opened_us, &[("user_id", "u5")]),
        ])
        .await?;
    tenant.create_segment("looked", looked()).await?;
    tenant.create(audience("openers", did(behavior("open")))).await?;
    tenant.create(audience("signers", did(behavior("signed-up")))).await?;
    tenant.create(Audience { holdout: 10_000, ..audience("nobody", in_segment("looked")) }).await?;
    tenant.create(audience("looked", all([in_audience("openers"), in_segment("looked")]))).await?;
    tenant.settled().await?;
    previews(&tenant).await?;
    explanations(&tenant, opened_us).await
}

async fn preview(tenant: &Tenant, what: What) -> anyhow::Result<PreviewAudienceResponse> {
    let overlap_with = vec!["openers".to_owned(), "signers".to_owned()];
    let request = PreviewAudienceRequest { what: Some(what), sample_size: 2, overlap_with, ..Default::default() };
    Ok(tenant.client().preview_audience(request).await?.into_inner())
}

async fn previews(tenant: &Tenant) -> anyhow::Result<()> {
    let seen = preview(tenant, What::Condition(looked())).await?;
    ensure!((seen.size, seen.held_out, seen.persons_total) == (3, 0, 5), "{seen:?}");
    // All, opened, not signed up, signed up.
    ensure!(seen.node_counts == [3, 4, 3, 2] && seen.expanded == Some(looked()), "{seen:?}");
    let reach: Vec<_> = seen.reach.iter().map(|one| (one.channel.as_str(), one.addressable, one.opted_in, one.opted_out)).collect();
    ensure!(reach == [("push", 1, 1, 0), ("email", 2, 1, 1), ("sms", 1, 0, 0), ("kakao", 1, 0, 0)], "{reach:?}");
    let overlaps: Vec<_> = seen.overlaps.iter().map(|one| (one.audience.as_str(), one.size, one.common)).collect();
    ensure!(overlaps == [("openers", 4, 3), ("signers", 2, 0)], "{overlaps:?}");
    let sample: Vec<u32> = seen.sample.iter().map(|person| person.number).collect();
    let members = tenant.members("looked").await?;
    ensure!(sample.len() == 2 && sample.iter().all(|person| members.contains(person)), "{sample:?} of {members:?}");
    let again = preview(tenant, What::Condition(looked())).await?;
    ensure!(again.sample.iter().map(|person| person.number).eq(sample), "the same members give the same sample");

    // What is referred to is put in place before nodes are counted.
    let of_segment = preview(tenant, What::Segment("looked".to_owned())).await?;
    ensure!((of_segment.size, of_segment.node_counts) == (3, vec![3, 4, 3, 2]), "of the segment");
    let of_audience = preview(tenant, What::Audience("looked".to_owned())).await?;
    ensure!(of_audience.size == 3 && of_audience.node_counts == [3, 4, 3, 4, 3, 2], "{of_audience:?}");
    let expanded = all([did(behavior("open")), looked()]);
    ensure!(of_audience.expanded == Some(expanded), "{:?}", of_audience.expanded);
    // All are held out: who would be a member is nobody.
    let nobody = preview(tenant, What::Audience("nobody".to_owned())).await?;
    ensure!((nobody.size, nobody.held_out, nobody.sample.len()) == (0, 3, 0), "{nobody:?}");
    let whole = PreviewAudienceRequest { what: Some(What::Condition(looked())), holdout: 10_000, ..Default::default() };
    let whole = tenant.client().preview_audience(whole).await?.into_inner();
    ensure!((whole.size, whole.held_out) == (0, 3), "{whole:?}");
    Ok(())
}

async fn explanations(tenant: &Tenant, opened_us: i64) -> anyhow::Result<()> {
    let explain = async |audience: &str, who: Who, as_of_us: Option<i64>| {
        let as_of = as_of_us.map(timestamp);
        let request = ExplainMembershipRequest { who: Some(who), audience: audience.to_owned(), as_of, events_max: 5 };
        anyhow::Ok(tenant.client().explain_membership(request).await?.into_inner())
    };
    let user = |user: &str| Who::Identifier(format!("user_id:{user}"));
    let first = tenant.number("user_id", "u1").await?;
    for who in [user("u1"), Who::Person(first)] {
        let answer = explain("looked", who, None).await?;
        ensure!((answer.person, answer.member, answer.held_out) == (first, true, false), "{answer:?}");
        let root = answer.explanation.context("a root")?;
        // openers and (opened and not signed up)
        let [openers, looked] = root.operands.as_slice() else { anyhow::bail!("{root:?}") };
        ensure!(root.met && openers.met && looked.met, "{root:?}");
        let [opened, not_signed_up] = looked.operands.as_slice() else { anyhow::bail!("{looked:?}") };
        ensure!(opened.path.ends_with("all.conditions[1].all.conditions[0].behavior"), "{}", opened.path);
        ensure!(opened.value == Some(Value { kind: Some(Kind::IntValue(1)) }) && opened.events_total == 1, "{opened:?}");
        ensure!(opened.events.iter().map(|event| event.message_id.as_str()).eq(["e/1"]), "{opened:?}");
        ensure!(opened.next_change.map(micros) == Some(opened_us + 7 * DAY_US), "{opened:?}");
        ensure!(openers.events_total == 2 && openers.next_change.is_none(), "{openers:?}");
        let [signed_up] = not_signed_up.operands.as_slice() else { anyhow::bail!("{not_signed_up:?}") };
        ensure!(not_signed_up.met && !signed_up.met && signed_up.events.is_empty(), "{not_signed_up:?}");
    }
    let fifth = explain("looked", user("u5"), None).await?;
    ensure!(!fifth.member && fifth.explanation.as_ref().is_some_and(|root| !root.met), "{fifth:?}");
    // Before the events there was nothing; the older opening was out of its week then.
    let before = explain("looked", user("u1"), Some(opened_us - 1)).await?;
    ensure!(!before.member && before.as_of.map(micros) == Some(opened_us - 1), "{before:?}");
    let earlier = explain("looked", user("u1"), Some(opened_us - 9 * DAY_US)).await?;
    ensure!(earlier.member, "{earlier:?}");

    let held_out = explain("nobody", user("u2"), None).await?;
    ensure!((held_out.member, held_out.held_out) == (false, true) && held_out.holdout_bucket < 10_000, "{held_out:?}");
    let nobody = explain("looked", user("nobody"), None).await.expect_err("names nobody");
    let status = nobody.downcast_ref::<tonic::Status>().context("a status")?;
    ensure!(status.code() == tonic::Code::NotFound, "{status}");
    Ok(())
}
