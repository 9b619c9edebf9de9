//! Segments and audiences: creating, reading, changing, archiving.

use segue_proto::audience::v1::{
    ArchiveAudienceRequest, ArchiveSegmentRequest, Audience, CreateAudienceRequest, CreateSegmentRequest, GetAudienceRequest,
    GetSegmentRequest, ListAudiencesRequest, ListAudiencesResponse, ListSegmentsRequest, ListSegmentsResponse, ListVersionsRequest,
    ListVersionsResponse, RestoreDefinitionRequest, RestoreDefinitionResponse, Segment, UpdateAudienceRequest, UpdateSegmentRequest,
};
use segue_runtime::Tenant;

use crate::error::AudienceError;
use crate::service::Service;

impl Service {
    pub(crate) async fn create_segment_of(&self, _tenant: &Tenant, _request: CreateSegmentRequest) -> Result<Segment, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn get_segment_of(&self, _tenant: &Tenant, _request: GetSegmentRequest) -> Result<Segment, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn list_segments_of(
        &self,
        _tenant: &Tenant,
        _request: ListSegmentsRequest,
    ) -> Result<ListSegmentsResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn update_segment_of(&self, _tenant: &Tenant, _request: UpdateSegmentRequest) -> Result<Segment, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn archive_segment_of(&self, _tenant: &Tenant, _request: ArchiveSegmentRequest) -> Result<Segment, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn create_audience_of(&self, _tenant: &Tenant, _request: CreateAudienceRequest) -> Result<Audience, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn get_audience_of(&self, _tenant: &Tenant, _request: GetAudienceRequest) -> Result<Audience, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn list_audiences_of(
        &self,
        _tenant: &Tenant,
        _request: ListAudiencesRequest,
    ) -> Result<ListAudiencesResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn update_audience_of(&self, _tenant: &Tenant, _request: UpdateAudienceRequest) -> Result<Audience, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn archive_audience_of(&self, _tenant: &Tenant, _request: ArchiveAudienceRequest) -> Result<Audience, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn restore_definition_of(
        &self,
        _tenant: &Tenant,
        _request: RestoreDefinitionRequest,
    ) -> Result<RestoreDefinitionResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn list_versions_of(
        &self,
        _tenant: &Tenant,
        _request: ListVersionsRequest,
    ) -> Result<ListVersionsResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }
}
