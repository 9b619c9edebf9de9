//! Static lists.

pub(crate) mod chunks;
pub(crate) mod store;

use segue_proto::audience::v1::{
    ArchiveListRequest, ChangeListMembersRequest, ChangeListMembersResponse, CreateListRequest, GetListRequest, ImportListMembersRequest,
    ImportListMembersResponse, List, ListListsRequest, ListListsResponse,
};
use segue_runtime::Tenant;

use crate::error::AudienceError;
use crate::service::Service;

impl Service {
    pub(crate) async fn create_list_of(&self, _tenant: &Tenant, _request: CreateListRequest) -> Result<List, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn get_list_of(&self, _tenant: &Tenant, _request: GetListRequest) -> Result<List, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn list_lists_of(&self, _tenant: &Tenant, _request: ListListsRequest) -> Result<ListListsResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn archive_list_of(&self, _tenant: &Tenant, _request: ArchiveListRequest) -> Result<List, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn change_list_members_of(
        &self,
        _tenant: &Tenant,
        _request: ChangeListMembersRequest,
    ) -> Result<ChangeListMembersResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn import_list_members_of(
        &self,
        _tenant: &Tenant,
        _request: tonic::Streaming<ImportListMembersRequest>,
    ) -> Result<ImportListMembersResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }
}
