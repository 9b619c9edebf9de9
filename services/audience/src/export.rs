//! Members as a file.

use segue_proto::audience::v1::{ExportMembersRequest, ExportMembersResponse};
use segue_runtime::Tenant;

use crate::error::AudienceError;
use crate::service::Service;

impl Service {
    pub(crate) async fn export_members_of(
        &self,
        _tenant: &Tenant,
        _request: ExportMembersRequest,
    ) -> Result<futures::stream::BoxStream<'static, Result<ExportMembersResponse, tonic::Status>>, AudienceError> {
        Err(AudienceError::Stopping)
    }
}
