//! Templates: ready-made conditions.

use segue_proto::audience::v1::{FillTemplateRequest, FillTemplateResponse, ListTemplatesRequest, ListTemplatesResponse};
use segue_runtime::Tenant;

use crate::error::AudienceError;
use crate::service::Service;

impl Service {
    pub(crate) async fn list_templates_of(
        &self,
        _tenant: &Tenant,
        _request: ListTemplatesRequest,
    ) -> Result<ListTemplatesResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn fill_template_of(
        &self,
        _tenant: &Tenant,
        _request: FillTemplateRequest,
    ) -> Result<FillTemplateResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }
}
