//! The gRPC services: dispatch only. The work of a family of RPCs is in its own module, as functions of [`Service`] that take the tenant and
//! the request.

mod channels;
mod messages;
mod results;
mod scenarios;
mod templates;

use std::sync::Arc;

use segue_log::Log;
use segue_model::{Clock, Module};
use segue_runtime::caller::{Caller, Role};
use segue_runtime::{Tenant, TenantDirectory};
use segue_store::Db;
use tonic::Request;

use crate::channels::Channels;
use crate::config::Config;
use crate::error::CampaignError;
use crate::links::Links;
use crate::peers::Peers;
use crate::policies::Policies;
use crate::start::Bells;
use crate::templates::Templates;

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) config: Arc<Config>,
    pub(crate) db: Db,
    pub(crate) log: Log,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tenants: TenantDirectory,
    pub(crate) peers: Peers,
    pub(crate) templates: Templates,
    pub(crate) channels: Channels,
    pub(crate) policies: Policies,
    pub(crate) links: Links,
    pub(crate) bells: Arc<Bells>,
}

impl Service {
    /// The tenant on whose behalf the caller may do this, if the module is on for it.
    fn admit<T>(&self, request: &Request<T>, least: Role) -> Result<Arc<Tenant>, CampaignError> {
        let caller = Caller::of(request)?;
        let id = caller.tenant_with(least)?;
        match self.tenants.get(id) {
            None => Err(CampaignError::TenantUnknown { tenant: id.clone() }),
            Some(tenant) if !tenant.modules.contains(Module::Campaign) => Err(CampaignError::ModuleDisabled { tenant: id.clone() }),
            Some(tenant) => Ok(tenant),
        }
    }
}
