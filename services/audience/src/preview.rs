//! Previews and explanations.

use segue_proto::audience::v1::{ExplainMembershipRequest, ExplainMembershipResponse, PreviewAudienceRequest, PreviewAudienceResponse};
use segue_runtime::Tenant;

use crate::error::AudienceError;
use crate::service::Service;

impl Service {
    pub(crate) async fn preview_audience_of(
        &self,
        _tenant: &Tenant,
        _request: PreviewAudienceRequest,
    ) -> Result<PreviewAudienceResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn explain_membership_of(
        &self,
        _tenant: &Tenant,
        _request: ExplainMembershipRequest,
    ) -> Result<ExplainMembershipResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }
}
