//! A tenant with audiences: making them, and waiting until what was done shows.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use segue_node::client::Authorized;
use segue_proto::analytics::v1::GetIndexStatusRequest;
use segue_proto::audience::v1::audience_service_client::AudienceServiceClient;
use segue_proto::audience::v1::{
    Audience, AudienceMode, CreateAudienceRequest, CreateSegmentRequest, EvaluateAudienceRequest, GetLiveStatusRequest,
    GetMembershipsRequest, ListAudiencesRequest, ListMembersRequest, Segment,
};
use segue_proto::events::v1::Event;
use segue_proto::identity::v1::{GetPersonRequest, get_person_request::Who};
use segue_proto::query::v1::Condition;
use segue_tests::events::identifier;
use segue_tests::installation::{Installation, TenantKeys};

use crate::modules::eventually;
use crate::semantics::case::persons_of;
use crate::semantics::story::Story;
use crate::semantics::{now_us, send_events};

/// A tenant whose audiences are on.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub keys: TenantKeys,
}

impl Tenant {
    pub async fn new(installation: &Installation, id: &str, time_zone: &str) -> anyhow::Result<Self> {
        let tenant = Self { keys: installation.tenant_in(id, time_zone).await? };
        installation.set_audiences(id, true).await?;
        // Services hear of it a moment later.
        eventually(true, async || Ok(tenant.client().list_audiences(ListAudiencesRequest::default()).await.is_ok())).await?;
        let is_known = async || Ok(tenant.keys.gateway.analytics().get_index_status(GetIndexStatusRequest {}).await.is_ok());
        eventually(true, is_known).await?;
        Ok(tenant)
    }

    pub fn client(&self) -> AudienceServiceClient<Authorized> {
        self.keys.gateway.audience()
    }

    pub async fn send(&self, events: &[Event]) -> anyhow::Result<()> {
        send_events(&self.keys, events).await
    }

    pub async fn tell(&self, stories: &[&Story]) -> anyhow::Result<()> {
        let mut events = Vec::new();
        for story in stories {
            events.extend(story.events()?);
        }
        self.send(&events).await
    }

    pub async fn create(&self, audience: Audience) -> anyhow::Result<Audience> {
        let id = audience.id.clone();
        let made = self.client().create_audience(CreateAudienceRequest { audience: Some(audience) }).await;
        Ok(made.with_context(|| format!("audience {id}"))?.into_inner())
    }

    pub async fn create_segment(&self, id: &str, condition: Condition) -> anyhow::Result<Segment> {
        let segment = Segment { id: id.to_owned(), name: id.to_owned(), condition: Some(condition), ..Default::default() };
        let made = self.client().create_segment(CreateSegmentRequest { segment: Some(segment) }).await;
        Ok(made.with_context(|| format!("segment {id}"))?.into_inner())
    }

    /// Waits until everything that was sent, merged, deleted or defined before shows in who is in.
    pub async fn settled(&self) -> anyhow::Result<()> {
        self.keys.gateway.wait_until_indexed().await?;
        self.as_of(now_us()).await
    }

    /// Waits until membership is true as of this moment or a later one, and all audiences were evaluated as they are defined now.
    pub async fn as_of(&self, moment_us: i64) -> anyhow::Result<()> {
        let mut client = self.client();
        let behind = async || {
            let request = ListAudiencesRequest { page_size: 1_000, with_archived: true, ..Default::default() };
            let audiences = client.list_audiences(request).await?.into_inner().audiences;
            if audiences.is_empty() {
                // There is nothing to be true.
                return Ok(None);
            }
            let status = client.get_live_status(GetLiveStatusRequest {}).await?.into_inner();
            let as_of_us = status.as_of.map_or(0, micros);
            if as_of_us < moment_us {
                return Ok(Some(format!("true as of {as_of_us}, {} µs before {moment_us}; {status:?}", moment_us - as_of_us)));
            }
            let waits = |audience: &&Audience| {
                audience.mode() == AudienceMode::Live && !audience.archived && audience.evaluated_version != audience.version
            };
            Ok(audiences.iter().find(waits).map(|audience| format!("not evaluated yet: {audience:?}")))
        };
        eventually(None, behind).await
    }

    /// The members, ascending.
    pub async fn members(&self, audience: &str) -> anyhow::Result<Vec<u32>> {
        self.listed(audience, false).await
    }

    /// Who meets the condition and is held out, ascending.
    pub async fn held_out(&self, audience: &str) -> anyhow::Result<Vec<u32>> {
        self.listed(audience, true).await
    }

    async fn listed(&self, audience: &str, held_out: bool) -> anyhow::Result<Vec<u32>> {
        let mut request = ListMembersRequest { audience: audience.to_owned(), held_out, page_size: 7, ..Default::default() };
        let mut members = Vec::new();
        loop {
            let answer = self.client().list_members(request.clone()).await.with_context(|| format!("members of {audience}"))?;
            let page = answer.into_inner();
            members.extend(page.persons);
            if page.next_page_token.is_empty() {
                ensure!(page.size == members.len() as u64, "{audience}: {} of {}", members.len(), page.size);
                ensure!(members.is_sorted_by(|a, b| a < b), "{audience}: {members:?}");
                return Ok(members);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The members among the persons of a story, by their place in it.
    pub async fn who(&self, audience: &str, story: &Story) -> anyhow::Result<String> {
        let persons: BTreeMap<u32, usize> = persons_of(&self.keys, story).await?;
        let mut own: Vec<usize> = self.members(audience).await?.iter().filter_map(|number| persons.get(number).copied()).collect();
        own.sort_unstable();
        Ok(crate::semantics::case::joined(&own))
    }

    /// To which audiences a person belongs, by id.
    pub async fn memberships(&self, person: u32) -> anyhow::Result<Vec<String>> {
        let answer = self.client().get_memberships(GetMembershipsRequest { person }).await?.into_inner();
        let mut ids: Vec<String> =
            answer.memberships.into_iter().filter(|membership| !membership.held_out).map(|membership| membership.audience).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The number of whoever has this identifier.
    pub async fn number(&self, kind: &str, value: &str) -> anyhow::Result<u32> {
        let who = Some(Who::Identifier(identifier(kind, value)));
        let person = self.keys.gateway.identity().get_person(GetPersonRequest { who }).await;
        Ok(person.with_context(|| format!("{kind}:{value}"))?.into_inner().number)
    }

    /// Evaluates every live audience in full: nobody may be found to differ.
    pub async fn audited(&self) -> anyhow::Result<()> {
        let audiences = self.client().list_audiences(ListAudiencesRequest { page_size: 1_000, ..Default::default() }).await?.into_inner();
        for audience in audiences.audiences.iter().filter(|audience| audience.mode() == AudienceMode::Live) {
            let request = EvaluateAudienceRequest { audience: audience.id.clone() };
            let answer = self.client().evaluate_audience(request).await.with_context(|| format!("evaluating {}", audience.id))?;
            let found = answer.into_inner();
            ensure!(found.repaired == 0, "{}: {found:?}", audience.id);
        }
        let status = self.client().get_live_status(GetLiveStatusRequest {}).await?.into_inner();
        ensure!(status.repaired == 0 && status.problem.is_empty(), "{status:?}");
        Ok(())
    }
}

/// A live audience in the tenant's zone, without a holdout.
pub fn audience(id: &str, condition: Condition) -> Audience {
    Audience { id: id.to_owned(), name: format!("Who {id}"), condition: Some(condition), ..Default::default() }
}

/// A moment in microseconds.
pub fn micros(time: prost_types::Timestamp) -> i64 {
    time.seconds * 1_000_000 + i64::from(time.nanos / 1_000)
}
