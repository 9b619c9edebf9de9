//! What messages say: templates with versions, partials and locales, rendered by MiniJinja within limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use segue_model::TenantId;
use segue_proto::campaign::v1::{
    ArchiveTemplateRequest, ChannelKind, CreateTemplateRequest, GetTemplateRequest, ListTemplatesRequest, ListTemplatesResponse,
    PreviewTemplateRequest, PreviewTemplateResponse, SendTestRequest, SendTestResponse, Template, TemplateFault, UpdateTemplateRequest,
};
use segue_runtime::Tenant;
use segue_store::Db;

use crate::config::Config;
use crate::error::CampaignError;
use crate::persons::Profile;
use crate::service::Service;

/// Templates of all tenants, with the newest versions compiled and kept. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Templates {
    config: Arc<Config>,
    db: Db,
}

/// The newest version of a template with the partials that it includes.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) kind: ChannelKind,
    pub(crate) version: u32,
}

/// A message's parts, filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) parts: BTreeMap<String, String>,
    pub(crate) locale: String,
}

impl Templates {
    pub(crate) fn new(config: Arc<Config>, db: Db) -> Self {
        Self { config, db }
    }

    /// The newest version. None: there is none, or it is archived.
    pub(crate) async fn find(&self, _tenant: &TenantId, _id: &str) -> Result<Option<Arc<Loaded>>, CampaignError> {
        let _ = (&self.config, &self.db);
        Ok(None)
    }
}

impl Loaded {
    /// Fills in the parts for a locale. Faults: why a message must not be sent.
    pub(crate) fn render(&self, _values: &serde_json::Value, _locale: Option<&str>) -> Result<Rendered, Vec<TemplateFault>> {
        Err(Vec::new())
    }
}

/// Fills in one expression (of an UpdateTrait step).
pub(crate) fn render_text(_config: &Config, _source: &str, _values: &serde_json::Value) -> Result<String, TemplateFault> {
    Err(TemplateFault::default())
}

/// `person` as templates see it.
pub(crate) fn person_values(_profile: &Profile) -> serde_json::Value {
    serde_json::Value::Null
}

impl Service {
    pub(crate) async fn create_template_of(&self, _tenant: &Tenant, _request: CreateTemplateRequest) -> Result<Template, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn get_template_of(&self, _tenant: &Tenant, _request: GetTemplateRequest) -> Result<Template, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn list_templates_of(
        &self,
        _tenant: &Tenant,
        _request: ListTemplatesRequest,
    ) -> Result<ListTemplatesResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn update_template_of(&self, _tenant: &Tenant, _request: UpdateTemplateRequest) -> Result<Template, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn archive_template_of(&self, _tenant: &Tenant, _request: ArchiveTemplateRequest) -> Result<Template, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn preview_template_of(
        &self,
        _tenant: &Tenant,
        _request: PreviewTemplateRequest,
    ) -> Result<PreviewTemplateResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn send_test_of(&self, _tenant: &Tenant, _request: SendTestRequest) -> Result<SendTestResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }
}
