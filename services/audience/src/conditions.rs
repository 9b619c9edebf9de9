//! Conditions as text, and their check.

use segue_proto::audience::v1::{FormatConditionRequest, FormatConditionResponse, ParseConditionRequest, ParseConditionResponse};
use segue_runtime::Tenant;

use crate::error::AudienceError;
use crate::service::Service;

impl Service {
    pub(crate) async fn parse_condition_of(
        &self,
        _tenant: &Tenant,
        _request: ParseConditionRequest,
    ) -> Result<ParseConditionResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn format_condition_of(
        &self,
        _tenant: &Tenant,
        _request: FormatConditionRequest,
    ) -> Result<FormatConditionResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }
}
