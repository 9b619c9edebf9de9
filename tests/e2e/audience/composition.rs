//! Audiences that refer to segments, audiences and lists: union, intersection, exclusion, holdouts; and that they follow what they refer to.

use anyhow::{Context, ensure};
use segue_proto::audience::v1::{
    ArchiveSegmentRequest, Audience, ChangeListMembersRequest, CreateListRequest, DefinitionKind, List, ListSizesRequest,
    ListVersionsRequest, Segment, UpdateAudienceRequest, UpdateSegmentRequest,
};
use segue_proto::events::v1::TransitionReason;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::membership::Of;
use segue_proto::query::v1::{Condition, HasIdentifier, Membership, RandomBucket};
use segue_tests::events::{event, identifier};
use segue_tests::installation::Installation;
use tonic_types::StatusExt;

use super::history::adds_up;
use super::tenant::{Tenant, audience};
use crate::semantics::now_us;
use crate::semantics::story::Story;
use crate::semantics::words::{all, any, behavior, condition, did, not};

const SECOND_US: i64 = 1_000_000;

pub fn in_segment(id: &str) -> Condition {
    condition(Node::MemberOf(Membership { of: Some(Of::Segment(id.to_owned())) }))
}

pub fn in_audience(id: &str) -> Condition {
    condition(Node::MemberOf(Membership { of: Some(Of::Audience(id.to_owned())) }))
}

pub fn on_list(id: &str) -> Condition {
    condition(Node::MemberOf(Membership { of: Some(Of::List(id.to_owned())) }))
}

pub async fn references(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "composition", "").await?;
    let streams = ["saw", "saw bought", "bought", "saw left", "came"];
    let story = Story { key: "composed".to_owned(), start_us: now_us() - 3_600 * SECOND_US, persons: streams.map(str::to_owned).to_vec() };
    tenant.tell(&[&story]).await?;
    tenant.create_segment("saw", did(behavior("saw"))).await?;
    tenant.create_segment("bought", did(behavior("bought"))).await?;
    // A segment of segments.
    tenant.create_segment("saw-or-bought", any([in_segment("saw"), in_segment("bought")])).await?;
    tenant.create(audience("saw", in_segment("saw"))).await?;
    tenant.create(audience("union", in_segment("saw-or-bought"))).await?;
    tenant.create(audience("both", all([in_audience("saw"), in_segment("bought")]))).await?;
    tenant.create(audience("only-saw", all([in_audience("saw"), not(in_segment("bought")), not(did(behavior("left")))]))).await?;
    tenant.create(audience("neither", not(in_segment("saw-or-bought")))).await?;
    let list = List { id: "vip".to_owned(), name: "Very important".to_owned(), ..Default::default() };
    tenant.client().create_list(CreateListRequest { list: Some(list), report: None }).await?;
    tenant.create(audience("vip-saw", all([on_list("vip"), in_audience("saw")]))).await?;
    tenant.create(audience("with-email", condition(Node::HasIdentifier(HasIdentifier { kind: "email".to_owned() })))).await?;
    tenant.settled().await?;
    expect(&tenant, &story, &[("saw", "1 2 4"), ("union", "1 2 3 4"), ("both", "2"), ("only-saw", "1"), ("neither", "5"), ("vip-saw", "")])
        .await?;

    lists_and_identifiers(&tenant, &story).await?;
    changed_segment(&tenant, &story).await?;
    in_use(&tenant).await?;
    held_out(&tenant).await?;
    adds_up(&tenant).await?;
    tenant.audited().await
}

async fn expect(tenant: &Tenant, story: &Story, expected: &[(&str, &str)]) -> anyhow::Result<()> {
    for (audience, members) in expected {
        let found = tenant.who(audience, story).await?;
        ensure!(found == *members, "{audience}: {found:?} instead of {members:?}");
    }
    Ok(())
}

/// Who is put on a list, or gets an identifier, enters what refers to it.
async fn lists_and_identifiers(tenant: &Tenant, story: &Story) -> anyhow::Result<()> {
    let two = tenant.number("user_id", &story.user(2)).await?;
    let request = ChangeListMembersRequest {
        list: "vip".to_owned(),
        add: vec![two],
        add_identified: vec![identifier("user_id", &story.user(3)), identifier("user_id", "nobody")],
        ..Default::default()
    };
    let changed = tenant.client().change_list_members(request.clone()).await?.into_inner();
    ensure!((changed.added, changed.removed, changed.unknown) == (2, 0, 1), "{changed:?}");
    let again = tenant.client().change_list_members(request).await?.into_inner();
    ensure!((again.added, again.unknown, again.list.unwrap_or_default().size) == (0, 1, 2), "adding again changes nothing");
    let who = [("user_id", story.user(1)), ("email", "one@example.com".to_owned())];
    let who: Vec<(&str, &str)> = who.iter().map(|(kind, value)| (*kind, value.as_str())).collect();
    tenant.send(&[event("composed/mail", "came", now_us() - SECOND_US, &who)]).await?;
    tenant.settled().await?;
    expect(tenant, story, &[("vip-saw", "2"), ("with-email", "1")]).await?;
    let history = adds_up(tenant).await?;
    ensure!(history.told("vip-saw", two) == "entered DEFINITION", "{}", history.told("vip-saw", two));

    let remove = ChangeListMembersRequest { list: "vip".to_owned(), remove: vec![two], ..Default::default() };
    ensure!(tenant.client().change_list_members(remove).await?.into_inner().removed == 1, "taken off");
    tenant.settled().await?;
    expect(tenant, story, &[("vip-saw", "")]).await?;
    let history = adds_up(tenant).await?;
    ensure!(history.told("vip-saw", two) == "entered DEFINITION, left DEFINITION", "{}", history.told("vip-saw", two));
    Ok(())
}

/// Audiences follow a segment that is changed; their own versions stay.
async fn changed_segment(tenant: &Tenant, story: &Story) -> anyhow::Result<()> {
    let changed = Segment { id: "bought".to_owned(), condition: Some(did(behavior("bought left"))), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["condition".to_owned()] });
    let changed = tenant.client().update_segment(UpdateSegmentRequest { segment: Some(changed), update_mask }).await?.into_inner();
    ensure!(changed.version == 2 && changed.name == "bought", "{changed:?}");
    tenant.settled().await?;
    expect(tenant, story, &[("saw", "1 2 4"), ("union", "1 2 3 4"), ("both", "2 4"), ("only-saw", "1"), ("neither", "5")]).await?;
    let four = tenant.number("user_id", &story.user(4)).await?;
    let history = adds_up(tenant).await?;
    let entered = history.last("both", four)?;
    ensure!(entered.reason() == TransitionReason::Definition && entered.version == 1, "{entered:?}");

    let request = ListVersionsRequest { kind: DefinitionKind::Segment.into(), id: "bought".to_owned(), ..Default::default() };
    let versions = tenant.client().list_versions(request).await?.into_inner().versions;
    let conditions: Vec<_> = versions.iter().map(|version| (version.version, version.condition.clone())).collect();
    ensure!(conditions == [(2, changed.condition), (1, Some(did(behavior("bought"))))], "{conditions:?}");

    // An audience of its own changes by a new version: who is in under both stays.
    let update = Audience { id: "both".to_owned(), condition: Some(in_audience("saw")), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["condition".to_owned()] });
    let changed = tenant.client().update_audience(UpdateAudienceRequest { audience: Some(update), update_mask }).await?.into_inner();
    ensure!(changed.version == 2, "{changed:?}");
    tenant.settled().await?;
    expect(tenant, story, &[("both", "1 2 4")]).await?;
    let history = adds_up(tenant).await?;
    let [one, two] = [tenant.number("user_id", &story.user(1)).await?, tenant.number("user_id", &story.user(2)).await?];
    ensure!(history.told("both", one) == "entered DEFINITION" && history.last("both", one)?.version == 2, "{}", history.told("both", one));
    ensure!(history.told("both", two) == "entered DEFINITION" && history.last("both", two)?.version == 1, "{}", history.told("both", two));

    // Each hour in which something changed has a line; the last one is now.
    let sizes =
        tenant.client().list_sizes(ListSizesRequest { audience: "both".to_owned(), ..Default::default() }).await?.into_inner().sizes;
    let entered: u64 = sizes.iter().map(|size| size.entered).sum();
    let left: u64 = sizes.iter().map(|size| size.left).sum();
    ensure!(sizes.last().context("an hour")?.size == 3 && (entered, left) == (3, 0), "{sizes:?}");
    Ok(())
}

/// What is referred to cannot be archived, and nothing refers to itself.
async fn in_use(tenant: &Tenant) -> anyhow::Result<()> {
    let request = ArchiveSegmentRequest { id: "saw".to_owned(), ..Default::default() };
    let status = tenant.client().archive_segment(request).await.expect_err("it is referred to");
    let details = status.get_error_details();
    ensure!(details.error_info().is_some_and(|info| info.reason == "IN_USE"), "{status:?}");
    ensure!(status.message().contains("saw-or-bought"), "{}", status.message());
    let around = Segment { id: "saw".to_owned(), condition: Some(in_segment("saw-or-bought")), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["condition".to_owned()] });
    let request = UpdateSegmentRequest { segment: Some(around), update_mask };
    let status = tenant.client().update_segment(request).await.expect_err("it would refer to itself");
    ensure!(status.code() == tonic::Code::InvalidArgument, "{status:?}");
    Ok(())
}

/// Who is held out meets the condition, is no member, and is told of as such.
async fn held_out(tenant: &Tenant) -> anyhow::Result<()> {
    let now_us = now_us();
    let users: Vec<String> = (0..60).map(|user| format!("drawn/{user}")).collect();
    let drawn = |user: &String| event(user, "drawn", now_us - SECOND_US, &[("user_id", user)]);
    tenant.create(Audience { holdout: 2_500, ..audience("drawn", did(behavior("drawn"))) }).await?;
    tenant.send(&users.iter().map(drawn).collect::<Vec<_>>()).await?;
    tenant.settled().await?;
    let bucket = condition(Node::RandomBucket(RandomBucket { salt: "holdout:drawn".to_owned(), from: 0, to: 2_500 }));
    let select = segue_proto::analytics::v1::SelectPersonsRequest {
        who: Some(segue_proto::analytics::v1::select_persons_request::Who::Condition(all([did(behavior("drawn")), bucket]))),
        page_size: 1_000,
        ..Default::default()
    };
    let expected = tenant.keys.gateway.analytics().select_persons(select).await?.into_inner().persons;
    let (members, held_out) = (tenant.members("drawn").await?, tenant.held_out("drawn").await?);
    ensure!(held_out == expected && members.len() + held_out.len() == 60, "{held_out:?} instead of {expected:?}");
    ensure!(!held_out.is_empty() && !members.is_empty() && members.iter().all(|member| !held_out.contains(member)), "{held_out:?}");
    // Referring to the audience means its members.
    tenant.create(audience("of-drawn", in_audience("drawn"))).await?;
    tenant.settled().await?;
    ensure!(tenant.members("of-drawn").await? == members, "whom an audience holds out does not belong to it");

    // Nobody changes sides when more are held out: some members leave for the holdout.
    let more = Audience { id: "drawn".to_owned(), holdout: 5_000, ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["holdout".to_owned()] });
    tenant.client().update_audience(UpdateAudienceRequest { audience: Some(more), update_mask }).await?;
    tenant.settled().await?;
    let now_held = tenant.held_out("drawn").await?;
    ensure!(held_out.iter().all(|person| now_held.contains(person)) && now_held.len() > held_out.len(), "{now_held:?}");
    ensure!(tenant.members("of-drawn").await? == tenant.members("drawn").await?, "what refers to it follows");
    Ok(())
}
