//! Syncs: telling HTTP destinations who entered and left.

use segue_proto::audience::v1::{
    CreateSyncRequest, DeleteSyncRequest, DeleteSyncResponse, GetSyncRequest, ListSyncsRequest, ListSyncsResponse, Sync, UpdateSyncRequest,
};
use segue_runtime::Tenant;

use crate::error::AudienceError;
use crate::service::Service;

impl Service {
    pub(crate) async fn create_sync_of(&self, _tenant: &Tenant, _request: CreateSyncRequest) -> Result<Sync, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn get_sync_of(&self, _tenant: &Tenant, _request: GetSyncRequest) -> Result<Sync, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn list_syncs_of(&self, _tenant: &Tenant, _request: ListSyncsRequest) -> Result<ListSyncsResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn update_sync_of(&self, _tenant: &Tenant, _request: UpdateSyncRequest) -> Result<Sync, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn delete_sync_of(&self, _tenant: &Tenant, _request: DeleteSyncRequest) -> Result<DeleteSyncResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }
}

impl Service {
    /// Starts delivering to destinations.
    pub(crate) fn spawn_syncs(&self, _tasks: &segue_runtime::Tasks) {}
}
