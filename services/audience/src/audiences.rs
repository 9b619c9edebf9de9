//! Segments and audiences: creating, reading, changing, archiving. What is written is checked here, `message` turns it into and from
//! messages; the rules are those of [`crate::definitions`].

mod message;

use std::collections::HashMap;

use segue_model::TenantId;
use segue_proto::audience::v1::{
    ArchiveAudienceRequest, ArchiveSegmentRequest, Audience, CreateAudienceRequest, CreateSegmentRequest, DefinitionKind,
    GetAudienceRequest, GetSegmentRequest, ListAudiencesRequest, ListAudiencesResponse, ListSegmentsRequest, ListSegmentsResponse,
    ListVersionsRequest, ListVersionsResponse, RestoreDefinitionRequest, RestoreDefinitionResponse, Segment, UpdateAudienceRequest,
    UpdateSegmentRequest,
};
use segue_runtime::{Tenant, fields, page};
use segue_store::{Db, on_db};

use crate::definitions::change::{Content, Stored, Version};
use crate::error::{AudienceError, Kind};
use crate::service::Service;
use crate::store::{counter, json, number};
use message::{audience_of, audience_to_proto, check_content, segment_of, segment_to_proto, version_to_proto};

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1_000;
const SEGMENT_FIELDS: &[&str] = &["name", "description", "condition"];
const AUDIENCE_FIELDS: &[&str] = &["name", "description", "condition", "mode", "holdout", "time_zone"];

// What live membership last wrote down of each audience.
const EVALUATED_SQLITE: &str = "SELECT audience, version, evaluated_us, size, held_out FROM live_audience
    WHERE tenant = $1 AND audience IN (SELECT value FROM json_each($2))";
const EVALUATED_POSTGRES: &str = "SELECT audience, version, evaluated_us, size, held_out FROM live_audience
    WHERE tenant = $1 AND audience = ANY (SELECT json_array_elements_text($2::json))";

/// What is known of an audience's members.
struct Evaluated {
    version: u32,
    at_us: i64,
    size: u64,
    held_out: u64,
}

impl Service {
    pub(crate) async fn create_segment_of(&self, tenant: &Tenant, request: CreateSegmentRequest) -> Result<Segment, AudienceError> {
        let wanted = request.segment.ok_or_else(|| AudienceError::field("segment", "required"))?;
        let (id, content) = (wanted.id.clone(), segment_of(wanted, true)?);
        Ok(segment_to_proto(self.create(tenant, Kind::Segment, &id, content).await?))
    }

    pub(crate) async fn get_segment_of(&self, tenant: &Tenant, request: GetSegmentRequest) -> Result<Segment, AudienceError> {
        Ok(segment_to_proto(self.definitions.get(&tenant.id, Kind::Segment, &request.id).await?))
    }

    pub(crate) async fn list_segments_of(
        &self,
        tenant: &Tenant,
        request: ListSegmentsRequest,
    ) -> Result<ListSegmentsResponse, AudienceError> {
        let ListSegmentsRequest { page_size, page_token, with_archived } = request;
        let (stored, next_page_token) = self.page(tenant, Kind::Segment, page_size, &page_token, with_archived).await?;
        Ok(ListSegmentsResponse { segments: stored.into_iter().map(segment_to_proto).collect(), next_page_token })
    }

    pub(crate) async fn update_segment_of(&self, tenant: &Tenant, request: UpdateSegmentRequest) -> Result<Segment, AudienceError> {
        let wanted = request.segment.ok_or_else(|| AudienceError::field("segment", "required"))?;
        let masked = fields::masked(request.update_mask.as_ref(), SEGMENT_FIELDS)?;
        let (id, etag) = (wanted.id.clone(), wanted.etag.clone());
        let content = segment_of(wanted, false)?;
        Ok(segment_to_proto(self.update(tenant, Kind::Segment, &id, &etag, content, &masked).await?))
    }

    pub(crate) async fn archive_segment_of(&self, tenant: &Tenant, request: ArchiveSegmentRequest) -> Result<Segment, AudienceError> {
        let stored = self.definitions.get(&tenant.id, Kind::Segment, &request.id).await?;
        Ok(segment_to_proto(self.definitions.archive(&tenant.id, Kind::Segment, &stored.id, &request.etag).await?))
    }

    pub(crate) async fn create_audience_of(&self, tenant: &Tenant, request: CreateAudienceRequest) -> Result<Audience, AudienceError> {
        let wanted = request.audience.ok_or_else(|| AudienceError::field("audience", "required"))?;
        let (id, content) = (wanted.id.clone(), audience_of(wanted, true)?);
        let stored = self.create(tenant, Kind::Audience, &id, content).await?;
        self.audience(&tenant.id, stored).await
    }

    pub(crate) async fn get_audience_of(&self, tenant: &Tenant, request: GetAudienceRequest) -> Result<Audience, AudienceError> {
        let stored = self.definitions.get(&tenant.id, Kind::Audience, &request.id).await?;
        self.audience(&tenant.id, stored).await
    }

    pub(crate) async fn list_audiences_of(
        &self,
        tenant: &Tenant,
        request: ListAudiencesRequest,
    ) -> Result<ListAudiencesResponse, AudienceError> {
        let ListAudiencesRequest { page_size, page_token, with_archived } = request;
        let (stored, next_page_token) = self.page(tenant, Kind::Audience, page_size, &page_token, with_archived).await?;
        let ids: Vec<&str> = stored.iter().map(|stored| stored.id.as_str()).collect();
        let mut evaluated = evaluated(&self.db, &tenant.id, &ids).await?;
        let audience = |stored: Stored| {
            let evaluated = evaluated.remove(&stored.id);
            audience_to_proto(stored, evaluated)
        };
        Ok(ListAudiencesResponse { audiences: stored.into_iter().map(audience).collect(), next_page_token })
    }

    pub(crate) async fn update_audience_of(&self, tenant: &Tenant, request: UpdateAudienceRequest) -> Result<Audience, AudienceError> {
        let wanted = request.audience.ok_or_else(|| AudienceError::field("audience", "required"))?;
        let masked = fields::masked(request.update_mask.as_ref(), AUDIENCE_FIELDS)?;
        let (id, etag) = (wanted.id.clone(), wanted.etag.clone());
        let content = audience_of(wanted, false)?;
        let stored = self.update(tenant, Kind::Audience, &id, &etag, content, &masked).await?;
        self.audience(&tenant.id, stored).await
    }

    pub(crate) async fn archive_audience_of(&self, tenant: &Tenant, request: ArchiveAudienceRequest) -> Result<Audience, AudienceError> {
        let stored = self.definitions.get(&tenant.id, Kind::Audience, &request.id).await?;
        let stored = self.definitions.archive(&tenant.id, Kind::Audience, &stored.id, &request.etag).await?;
        self.audience(&tenant.id, stored).await
    }

    pub(crate) async fn restore_definition_of(
        &self,
        tenant: &Tenant,
        request: RestoreDefinitionRequest,
    ) -> Result<RestoreDefinitionResponse, AudienceError> {
        let kind = definition_kind(request.kind)?;
        let stored = self.definitions.get(&tenant.id, kind, &request.id).await?;
        let stored = self.definitions.restore(tenant, kind, &stored.id).await?;
        Ok(match kind {
            Kind::Audience => RestoreDefinitionResponse { segment: None, audience: Some(self.audience(&tenant.id, stored).await?) },
            _ => RestoreDefinitionResponse { segment: Some(segment_to_proto(stored)), audience: None },
        })
    }

    pub(crate) async fn list_versions_of(
        &self,
        tenant: &Tenant,
        request: ListVersionsRequest,
    ) -> Result<ListVersionsResponse, AudienceError> {
        let kind = definition_kind(request.kind)?;
        let size = page::size(request.page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let below: u32 = match request.page_token.as_str() {
            "" => u32::MAX,
            token => token.parse().map_err(|_| page::bad_token())?,
        };
        let stored = self.definitions.get(&tenant.id, kind, &request.id).await?;
        let mut versions = self.definitions.versions(&tenant.id, kind, &stored.id, below, size + 1).await?;
        let bytes = |version: &Version| prost::Message::encoded_len(&version.condition);
        let next_page_token = page::cut_to_fit(&mut versions, size, bytes, |version| version.version.to_string());
        Ok(ListVersionsResponse { versions: versions.into_iter().map(version_to_proto).collect(), next_page_token })
    }

    /// Creates a segment or audience. One that there is already need not be looked at by analytics again.
    async fn create(&self, tenant: &Tenant, kind: Kind, id: &str, content: Content) -> Result<Stored, AudienceError> {
        let mut faults = Vec::new();
        fields::check_id(&mut faults, &format!("{kind}.id"), id);
        check_content(&mut faults, kind, &content, &["name", "description", "condition", "holdout", "time_zone"]);
        fields::refuse(faults)?;
        if self.definitions.find(&tenant.id, kind, id).await?.is_none() {
            self.check_condition(tenant, kind, &content).await?;
        }
        self.definitions.create(tenant, kind, id, content).await
    }

    /// Changes the masked fields of a segment or audience.
    async fn update(
        &self,
        tenant: &Tenant,
        kind: Kind,
        id: &str,
        etag: &str,
        content: Content,
        masked: &[&str],
    ) -> Result<Stored, AudienceError> {
        let mut faults = Vec::new();
        check_content(&mut faults, kind, &content, masked);
        fields::refuse(faults)?;
        let before = self.definitions.get(&tenant.id, kind, id).await?;
        let change = |stored: &mut Content| take_over(stored, &content, masked);
        let mut after = before.content.clone();
        change(&mut after);
        if after.condition != before.content.condition {
            self.check_condition(tenant, kind, &after).await?;
        }
        self.definitions.update(tenant, kind, &before.id, etag, change).await
    }

    /// Whether a condition can be evaluated: what it refers to, and what analytics says of it.
    async fn check_condition(&self, tenant: &Tenant, kind: Kind, content: &Content) -> Result<(), AudienceError> {
        let path = format!("{kind}.condition");
        self.definitions.expand(&tenant.id, &content.condition, &path).await?;
        self.definitions.check(&tenant.id, &content.condition, &content.time_zone, &path).await
    }

    async fn page(
        &self,
        tenant: &Tenant,
        kind: Kind,
        page_size: i32,
        page_token: &str,
        with_archived: bool,
    ) -> Result<(Vec<Stored>, String), AudienceError> {
        let size = page::size(page_size, PAGE_DEFAULT, PAGE_MAX)?;
        if !page_token.is_empty() && !fields::is_id(page_token) {
            return Err(page::bad_token().into());
        }
        let mut found = self.definitions.page(&tenant.id, kind, page_token, with_archived, size + 1).await?;
        let next_page_token = page::cut_to_fit(&mut found, size, Stored::bytes, |stored| stored.id.clone());
        Ok((found, next_page_token))
    }

    /// An audience with what is known of its members.
    async fn audience(&self, tenant: &TenantId, stored: Stored) -> Result<Audience, AudienceError> {
        let evaluated = evaluated(&self.db, tenant, &[&stored.id]).await?.remove(&stored.id);
        Ok(audience_to_proto(stored, evaluated))
    }
}

/// Puts the masked fields of `wanted` in place.
fn take_over(stored: &mut Content, wanted: &Content, masked: &[&str]) {
    for field in masked {
        match *field {
            "name" => stored.name.clone_from(&wanted.name),
            "description" => stored.description.clone_from(&wanted.description),
            "condition" => stored.condition.clone_from(&wanted.condition),
            "mode" => stored.mode = wanted.mode,
            "holdout" => stored.holdout = wanted.holdout,
            "time_zone" => stored.time_zone.clone_from(&wanted.time_zone),
            _ => {}
        }
    }
}

fn definition_kind(kind: i32) -> Result<Kind, AudienceError> {
    match DefinitionKind::try_from(kind) {
        Ok(DefinitionKind::Segment) => Ok(Kind::Segment),
        Ok(DefinitionKind::Audience) => Ok(Kind::Audience),
        Ok(DefinitionKind::Unspecified) | Err(_) => Err(AudienceError::field("kind", "set one of SEGMENT and AUDIENCE")),
    }
}

/// What live membership last wrote down of these audiences.
async fn evaluated(db: &Db, tenant: &TenantId, ids: &[&str]) -> Result<HashMap<String, Evaluated>, AudienceError> {
    let sql = db.sql(EVALUATED_SQLITE, EVALUATED_POSTGRES);
    let ids = json(ids)?;
    let rows: Vec<(String, i64, i64, i64, i64)> =
        on_db!(db, pool => sqlx::query_as(sql).bind(tenant.as_str()).bind(&ids).fetch_all(pool).await)?;
    rows.into_iter()
        .map(|(audience, version, at_us, size, held_out)| {
            Ok((audience, Evaluated { version: number(version)?, at_us, size: counter(size)?, held_out: counter(held_out)? }))
        })
        .collect()
}
