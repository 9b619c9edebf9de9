//! What is refused: faulty conditions by the path of the node, too many of a kind, keys that may not, and what belongs to another tenant.

use anyhow::{Context, ensure};
use segue_proto::audience::v1::preview_audience_request::What;
use segue_proto::audience::v1::{
    Audience, CreateAudienceRequest, CreateListRequest, CreateSegmentRequest, CreateSyncRequest, GetAudienceRequest, GetLiveStatusRequest,
    List, ListAudiencesRequest, ListListsRequest, ListMembersRequest, ListSegmentsRequest, ParseConditionRequest, PreviewAudienceRequest,
    Segment, Sync, UpdateAudienceRequest,
};
use segue_proto::query::v1::{Behavior, Condition, Span, Window, window};
use segue_proto::tenancy::v1 as tenancy;
use segue_tests::events::event;
use segue_tests::installation::Installation;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use super::composition::{in_audience, in_segment, on_list};
use super::tenant::{Tenant, audience};
use crate::semantics::now_us;
use crate::semantics::words::{all, any, behavior, did};

/// Why a call was refused: its code, and the reason for machines.
pub fn reason<A>(answer: Result<Response<A>, Status>) -> (Code, String) {
    match answer {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => {
            let details = status.get_error_details();
            (status.code(), details.error_info().map(|info| info.reason.clone()).unwrap_or_default())
        }
    }
}

/// The call was refused, for these fields.
fn faulty<A>(call: &str, answer: Result<Response<A>, Status>, fields: &[&str]) -> anyhow::Result<()> {
    let status = answer.err().with_context(|| format!("{call} was answered"))?;
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let found: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let named = found.len() == fields.len() && found.iter().zip(fields).all(|(found, field)| found.starts_with(field));
    ensure!(status.code() == Code::InvalidArgument && named, "{call}: {status}, fields {found:?} instead of {fields:?}");
    ensure!(violations.iter().all(|violation| !violation.description.is_empty()), "{call}: {violations:?}");
    Ok(())
}

/// A window of no days.
fn no_days() -> Condition {
    let nothing = Some(Window { window: Some(window::Window::Last(Span { count: 0, unit: 4 })) });
    did(Behavior { window: nothing, ..behavior("open") })
}

pub async fn refused(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "refused", "").await?;
    fields(&tenant).await?;
    roles(&installation, &tenant).await?;
    other_tenants(&installation, &tenant).await
}

async fn fields(tenant: &Tenant) -> anyhow::Result<()> {
    let mut client = tenant.client();
    let create = |audience: Audience| CreateAudienceRequest { audience: Some(audience) };
    let good = did(behavior("open"));
    let second = "audience.condition.all.conditions[1].behavior.window.last.count";
    let two = all([good.clone(), no_days()]);
    faulty("CreateAudience", client.create_audience(create(audience("x", two.clone()))).await, &[second])?;
    let each = all([no_days(), good.clone(), no_days()]);
    let paths = [0, 2].map(|at| format!("audience.condition.all.conditions[{at}].behavior.window.last.count"));
    faulty("CreateAudience", client.create_audience(create(audience("x", each))).await, &[&paths[0], &paths[1]])?;
    let segment = Segment { id: "x".to_owned(), name: "x".to_owned(), condition: Some(two.clone()), ..Default::default() };
    let path = "segment.condition.all.conditions[1].behavior.window.last.count";
    faulty("CreateSegment", client.create_segment(CreateSegmentRequest { segment: Some(segment) }).await, &[path])?;
    let preview = PreviewAudienceRequest { what: Some(What::Condition(two)), ..Default::default() };
    faulty("PreviewAudience", client.preview_audience(preview).await, &["condition.all.conditions[1].behavior.window.last.count"])?;

    for unknown in [in_segment("nothing"), in_audience("nothing"), on_list("nothing")] {
        let asked = create(audience("x", all([good.clone(), unknown])));
        faulty("CreateAudience", client.create_audience(asked).await, &["audience.condition.all.conditions[1].member_of"])?;
    }
    for id in ["", "Upper", "1st", "with space", &"long".repeat(20)] {
        faulty("CreateAudience", client.create_audience(create(audience(id, good.clone()))).await, &["audience.id"])?;
    }
    let share = Audience { holdout: 10_001, ..audience("x", good.clone()) };
    faulty("CreateAudience", client.create_audience(create(share)).await, &["audience.holdout"])?;
    let zone = Audience { time_zone: "Mars".to_owned(), ..audience("x", good.clone()) };
    faulty("CreateAudience", client.create_audience(create(zone)).await, &["audience.time_zone"])?;
    let nothing = Audience { condition: None, ..audience("x", good.clone()) };
    faulty("CreateAudience", client.create_audience(create(nothing)).await, &["audience.condition"])?;
    let text = ParseConditionRequest { text: "did df_app_open within within".to_owned() };
    let status = client.parse_condition(text).await.expect_err("no condition");
    ensure!(status.code() == Code::InvalidArgument && status.message().contains(|letter: char| letter.is_ascii_digit()), "{status}");
    let pages = ListAudiencesRequest { page_size: -1, ..Default::default() };
    faulty("ListAudiences", client.list_audiences(pages).await, &["page_size"])?;
    ensure!(client.list_audiences(ListAudiencesRequest::default()).await?.into_inner().audiences.is_empty(), "nothing was made");
    Ok(())
}

/// Analysts read, editors change; a write key does neither.
async fn roles(installation: &Installation, tenant: &Tenant) -> anyhow::Result<()> {
    let key = tenancy::Key {
        tenant: tenant.keys.id.clone(),
        kind: tenancy::KeyKind::Secret.into(),
        role: tenancy::Role::Analyst.into(),
        ..Default::default()
    };
    let request = tenancy::CreateKeyRequest { key: Some(key) };
    let analyst = installation.operator().await?.tenancy().create_key(request).await?.into_inner().secret;
    let mut client = tenant.keys.gateway.with_key(&analyst)?.audience();
    client.list_audiences(ListAudiencesRequest::default()).await.context("analysts read")?;
    let preview = PreviewAudienceRequest { what: Some(What::Condition(did(behavior("open")))), ..Default::default() };
    client.preview_audience(preview).await.context("a preview changes nothing")?;
    let create = CreateAudienceRequest { audience: Some(audience("x", did(behavior("open")))) };
    ensure!(reason(client.create_audience(create).await).0 == Code::PermissionDenied, "analysts change nothing");
    let mut writer = tenant.keys.gateway.with_key(&tenant.keys.write)?.audience();
    ensure!(reason(writer.list_audiences(ListAudiencesRequest::default()).await).0 == Code::PermissionDenied, "a public key only sends");
    Ok(())
}

/// Another tenant's key sees nothing of it, and changes nothing.
async fn other_tenants(installation: &Installation, tenant: &Tenant) -> anyhow::Result<()> {
    let other = Tenant::new(installation, "other", "").await?;
    tenant.create_segment("ours", did(behavior("open"))).await?;
    tenant.create(audience("ours", in_segment("ours"))).await?;
    let list = List { id: "ours".to_owned(), name: "Ours".to_owned(), ..Default::default() };
    tenant.client().create_list(CreateListRequest { list: Some(list), report: None }).await?;
    tenant.send(&[event("1", "open", now_us() - 1_000_000, &[("user_id", "one")])]).await?;
    tenant.settled().await?;
    ensure!(tenant.members("ours").await?.len() == 1, "one is in");

    other.settled().await?;
    let mut client = other.client();
    ensure!(client.list_audiences(ListAudiencesRequest::default()).await?.into_inner().audiences.is_empty(), "audiences of another");
    ensure!(client.list_segments(ListSegmentsRequest::default()).await?.into_inner().segments.is_empty(), "segments of another");
    ensure!(client.list_lists(ListListsRequest::default()).await?.into_inner().lists.is_empty(), "lists of another");
    let get = GetAudienceRequest { id: "ours".to_owned() };
    ensure!(reason(client.get_audience(get).await).0 == Code::NotFound, "an audience of another");
    let members = ListMembersRequest { audience: "ours".to_owned(), ..Default::default() };
    ensure!(reason(client.list_members(members).await).0 == Code::NotFound, "members of another");
    let update = UpdateAudienceRequest { audience: Some(audience("ours", any([]))), update_mask: None };
    ensure!(reason(client.update_audience(update).await).0 == Code::NotFound, "changing an audience of another");
    ensure!(client.get_live_status(GetLiveStatusRequest {}).await?.into_inner().sequence == 0, "transitions of another");
    for url in ["http://ads.example/", "https://127.0.0.1/", "https://10.0.0.1/", "ftp://ads.example/", "nothing"] {
        let sync = Sync { id: "x".to_owned(), audience: "ours".to_owned(), url: url.to_owned(), ..Default::default() };
        faulty(url, tenant.client().create_sync(CreateSyncRequest { sync: Some(sync) }).await, &["sync.url"])?;
    }
    let foreign = Sync { id: "x".to_owned(), audience: "ours".to_owned(), url: "https://ads.example/".to_owned(), ..Default::default() };
    ensure!(
        reason(client.create_sync(CreateSyncRequest { sync: Some(foreign) }).await).0 == Code::NotFound,
        "a sync of another's audience"
    );
    // The same names are free for it.
    other.create_segment("ours", did(behavior("other"))).await?;
    other.create(audience("ours", in_segment("ours"))).await?;
    other.settled().await?;
    ensure!(other.members("ours").await?.is_empty() && tenant.members("ours").await?.len() == 1, "each has its own");
    Ok(())
}

/// With `audiences_max=2`, `segments_max=1`, `lists_max=1`, `condition_nodes_max=5`.
pub async fn limits(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "limits", "").await?;
    let mut client = tenant.client();
    let too_many = (Code::ResourceExhausted, "TOO_MANY".to_owned());
    let opened = did(behavior("open"));
    tenant.create(audience("a", opened.clone())).await?;
    tenant.create(audience("b", opened.clone())).await?;
    let third = CreateAudienceRequest { audience: Some(audience("c", opened.clone())) };
    ensure!(reason(client.create_audience(third.clone()).await) == too_many, "a third audience");
    tenant.create(audience("a", opened.clone())).await.context("the same once more is none more")?;
    tenant.create_segment("a", opened.clone()).await?;
    let second = Segment { id: "b".to_owned(), name: "b".to_owned(), condition: Some(opened.clone()), ..Default::default() };
    ensure!(reason(client.create_segment(CreateSegmentRequest { segment: Some(second) }).await) == too_many, "a second segment");
    let list =
        |id: &str| CreateListRequest { list: Some(List { id: id.to_owned(), name: id.to_owned(), ..Default::default() }), report: None };
    client.create_list(list("a")).await?;
    ensure!(reason(client.create_list(list("b")).await) == too_many, "a second list");

    // An archived one makes room.
    let archive = segue_proto::audience::v1::ArchiveAudienceRequest { id: "b".to_owned(), ..Default::default() };
    client.archive_audience(archive).await?;
    client.create_audience(third).await.context("there is room again")?;
    // What is referred to counts with its nodes.
    let five = all([opened.clone(), opened.clone(), opened.clone(), opened.clone()]);
    let preview = |condition| PreviewAudienceRequest { what: Some(What::Condition(condition)), ..Default::default() };
    client.preview_audience(preview(five)).await.context("five nodes")?;
    let referring = all([opened.clone(), opened.clone(), opened.clone(), in_segment("a")]);
    client.preview_audience(preview(referring)).await.context("five nodes with the segment put in place")?;
    let more = all([opened.clone(), opened.clone(), opened.clone(), opened.clone(), in_segment("a")]);
    faulty("PreviewAudience", client.preview_audience(preview(more)).await, &["condition"])
}
