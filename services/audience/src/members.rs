//! Members, memberships and sizes.

use segue_proto::audience::v1::{
    GetMembershipsRequest, GetMembershipsResponse, ListMembersRequest, ListMembersResponse, ListSizesRequest, ListSizesResponse,
};
use segue_runtime::Tenant;

use crate::error::AudienceError;
use crate::service::Service;

impl Service {
    pub(crate) async fn list_members_of(
        &self,
        _tenant: &Tenant,
        _request: ListMembersRequest,
    ) -> Result<ListMembersResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn get_memberships_of(
        &self,
        _tenant: &Tenant,
        _request: GetMembershipsRequest,
    ) -> Result<GetMembershipsResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn list_sizes_of(&self, _tenant: &Tenant, _request: ListSizesRequest) -> Result<ListSizesResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }
}
