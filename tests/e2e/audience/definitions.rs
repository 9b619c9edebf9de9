//! The life of segments and audiences: made, read, changed, archived, restored.

use anyhow::{Context, ensure};
use segue_proto::audience::v1::{
    ArchiveAudienceRequest, ArchiveSegmentRequest, Audience, AudienceMode, CreateAudienceRequest, CreateSegmentRequest, DefinitionKind,
    EvaluateAudienceRequest, FillTemplateRequest, FormatConditionRequest, GetAudienceRequest, ListAudiencesRequest, ListSegmentsRequest,
    ListTemplatesRequest, ParseConditionRequest, RestoreDefinitionRequest, Segment, UpdateAudienceRequest,
};
use segue_proto::query::v1::{Condition, TimeUnit};
use segue_tests::events::event;
use segue_tests::installation::Installation;

use super::history::adds_up;
use super::refusals::reason;
use super::tenant::{Tenant, audience};
use crate::semantics::now_us;
use crate::semantics::words::{all, behavior, did, not, within};

const SECOND_US: i64 = 1_000_000;

pub async fn lives(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "definitions", "").await?;
    made_and_changed(&tenant).await?;
    archived_and_restored(&tenant).await?;
    snapshot(&tenant).await?;
    texts(&tenant).await?;
    templates(&tenant).await?;
    tenant.audited().await
}

async fn made_and_changed(tenant: &Tenant) -> anyhow::Result<()> {
    let mut client = tenant.client();
    let asked = audience("openers", did(behavior("open")));
    let made = tenant.create(asked.clone()).await?;
    ensure!((made.version, made.archived, made.mode()) == (1, false, AudienceMode::Live) && !made.etag.is_empty(), "{made:?}");
    ensure!(made.condition == asked.condition && !made.text.is_empty() && made.created_at.is_some(), "{made:?}");
    // Made again, it is the same one; another one of its name is refused.
    let again = tenant.create(asked.clone()).await?;
    ensure!((&again.etag, again.version) == (&made.etag, 1), "{again:?}");
    let other = Audience { condition: Some(did(behavior("other"))), ..asked };
    let refused = client.create_audience(CreateAudienceRequest { audience: Some(other) }).await;
    ensure!(reason(refused) == (tonic::Code::AlreadyExists, "ALREADY_EXISTS".to_owned()), "the id is taken");

    let renamed = Audience { id: "openers".to_owned(), name: "Opened".to_owned(), etag: made.etag.clone(), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["name".to_owned()] });
    let request = UpdateAudienceRequest { audience: Some(renamed), update_mask };
    let changed = client.update_audience(request.clone()).await?.into_inner();
    ensure!((changed.name.as_str(), changed.version) == ("Opened", 1) && changed.etag != made.etag, "a name makes no version: {changed:?}");
    ensure!(reason(client.update_audience(request).await) == (tonic::Code::Aborted, "ETAG_MISMATCH".to_owned()), "an old state");
    let nothing = GetAudienceRequest { id: "nothing".to_owned() };
    ensure!(reason(client.get_audience(nothing).await) == (tonic::Code::NotFound, "NOT_FOUND".to_owned()), "nothing");

    for id in ["b", "a", "c"] {
        tenant.create_segment(id, did(behavior(id))).await?;
    }
    let first = ListSegmentsRequest { page_size: 2, ..Default::default() };
    let page = client.list_segments(first.clone()).await?.into_inner();
    let rest = client.list_segments(ListSegmentsRequest { page_token: page.next_page_token, ..first }).await?.into_inner();
    let ids: Vec<&str> = page.segments.iter().chain(&rest.segments).map(|segment| segment.id.as_str()).collect();
    ensure!(ids == ["a", "b", "c"] && rest.next_page_token.is_empty(), "{ids:?}");
    let same = Segment { id: "a".to_owned(), name: "a".to_owned(), condition: Some(did(behavior("a"))), ..Default::default() };
    client.create_segment(CreateSegmentRequest { segment: Some(same) }).await.context("the same once more")?;
    Ok(())
}

/// Everybody leaves an archived audience, and enters again when it is restored.
async fn archived_and_restored(tenant: &Tenant) -> anyhow::Result<()> {
    let mut client = tenant.client();
    let who = |user| [("user_id", user)];
    let now_us = now_us();
    tenant.send(&[event("o/1", "open", now_us - SECOND_US, &who("one")), event("o/2", "open", now_us - SECOND_US, &who("two"))]).await?;
    tenant.settled().await?;
    let audience = client.get_audience(GetAudienceRequest { id: "openers".to_owned() }).await?.into_inner();
    ensure!((audience.size, audience.held_out, audience.evaluated_version) == (Some(2), Some(0), 1), "{audience:?}");
    ensure!(audience.evaluated_at.is_some(), "{audience:?}");

    let archived = client.archive_audience(ArchiveAudienceRequest { id: "openers".to_owned(), ..Default::default() }).await?.into_inner();
    ensure!(archived.archived, "{archived:?}");
    tenant.settled().await?;
    let one = tenant.number("user_id", "one").await?;
    let told = adds_up(tenant).await?.told("openers", one);
    ensure!(told == "entered EVENT, left ARCHIVED", "{told:?}");
    ensure!(tenant.memberships(one).await?.is_empty(), "it is archived");
    let with = |with_archived| ListAudiencesRequest { with_archived, ..Default::default() };
    ensure!(client.list_audiences(with(false)).await?.into_inner().audiences.is_empty(), "it is archived");
    ensure!(client.list_audiences(with(true)).await?.into_inner().audiences.len() == 1, "it can be read");

    let restore = RestoreDefinitionRequest { kind: DefinitionKind::Audience.into(), id: "openers".to_owned() };
    let restored = client.restore_definition(restore).await?.into_inner().audience.context("the audience")?;
    ensure!(!restored.archived, "{restored:?}");
    tenant.settled().await?;
    let told = adds_up(tenant).await?.told("openers", one);
    ensure!(told == "entered EVENT, left ARCHIVED, entered DEFINITION", "{told:?}");

    client.archive_segment(ArchiveSegmentRequest { id: "c".to_owned(), ..Default::default() }).await?;
    let listed = client.list_segments(ListSegmentsRequest::default()).await?.into_inner().segments;
    ensure!(listed.len() == 2, "{listed:?}");
    Ok(())
}

/// The members of a snapshot are those of its last evaluation.
async fn snapshot(tenant: &Tenant) -> anyhow::Result<()> {
    let mut client = tenant.client();
    let made = Audience { mode: AudienceMode::Snapshot.into(), ..audience("at-some-time", did(behavior("open"))) };
    tenant.create(made).await?;
    let evaluate = EvaluateAudienceRequest { audience: "at-some-time".to_owned() };
    let first = client.evaluate_audience(evaluate.clone()).await?.into_inner();
    ensure!((first.size, first.entered, first.left) == (2, 2, 0), "{first:?}");
    tenant.send(&[event("o/3", "open", now_us() - SECOND_US, &[("user_id", "three")])]).await?;
    tenant.settled().await?;
    ensure!(tenant.members("at-some-time").await?.len() == 2 && tenant.members("openers").await?.len() == 3, "a snapshot stays as it is");
    let second = client.evaluate_audience(evaluate).await?.into_inner();
    ensure!((second.size, second.entered, second.left) == (3, 1, 0), "{second:?}");
    adds_up(tenant).await?;
    Ok(())
}

/// Conditions are read from text and written as text that reads the same.
async fn texts(tenant: &Tenant) -> anyhow::Result<()> {
    let mut client = tenant.client();
    let written = "did df_app_open within 90 days and never did df_sign_up".to_owned();
    let parsed = client.parse_condition(ParseConditionRequest { text: written }).await?.into_inner();
    let condition = parsed.condition.context("a condition")?;
    let formatted = client.format_condition(FormatConditionRequest { condition: Some(condition.clone()) }).await?.into_inner();
    ensure!(formatted.text == parsed.text && formatted.nodes >= 3, "{formatted:?}");
    let again = client.parse_condition(ParseConditionRequest { text: formatted.text.clone() }).await?.into_inner();
    ensure!(again.condition.as_ref() == Some(&condition), "{again:?}");
    // Of what is built from messages too.
    let built: Condition = all([did(within(behavior("df_app_open"), 90, TimeUnit::Day)), not(did(behavior("df_sign_up")))]);
    let text = client.format_condition(FormatConditionRequest { condition: Some(built.clone()) }).await?.into_inner().text;
    let reread = client.parse_condition(ParseConditionRequest { text: text.clone() }).await?.into_inner();
    let rewritten = client.format_condition(FormatConditionRequest { condition: reread.condition }).await?.into_inner().text;
    ensure!(rewritten == text, "{rewritten:?} instead of {text:?}");
    Ok(())
}

/// Every template can be filled in with its defaults, and made an audience of.
async fn templates(tenant: &Tenant) -> anyhow::Result<()> {
    let mut client = tenant.client();
    let templates = client.list_templates(ListTemplatesRequest {}).await?.into_inner().templates;
    ensure!(!templates.is_empty(), "no templates");
    for template in &templates {
        let request = FillTemplateRequest { template: template.id.clone(), ..Default::default() };
        let filled = client.fill_template(request).await?.into_inner();
        ensure!(filled.text == template.text && filled.condition == template.condition, "{}: {filled:?}", template.id);
        let id = template.id.replace('.', "-");
        let condition = filled.condition.with_context(|| template.id.clone())?;
        tenant.create(audience(&id, condition)).await?;
    }
    tenant.settled().await?;
    for template in &templates {
        tenant.members(&template.id.replace('.', "-")).await?;
    }
    let unknown = FillTemplateRequest { template: "nothing".to_owned(), ..Default::default() };
    ensure!(reason(client.fill_template(unknown).await).0 == tonic::Code::NotFound, "there is no such template");
    Ok(())
}
