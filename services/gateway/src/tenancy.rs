//! `TenancyService`: dispatch. The work is in one file per family of RPCs.

mod keys;
mod tenants;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use segue_model::{Clock, TenantId};
use segue_proto::tenancy::v1 as proto;
use segue_proto::tenancy::v1::tenancy_service_server::TenancyService;
use segue_runtime::caller::{Caller, Role};
use segue_runtime::status::reply;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::directory::Directory;
use crate::error::TenancyError;
use crate::keys::Keys;
use crate::record::TenantRecord;
use crate::store::{Audit, Store};

/// Answers operators, tenants' admins, and services that watch tenants.
#[derive(Debug, Clone)]
pub(crate) struct Tenancy {
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    pub(crate) keys: Keys,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) draining: CancellationToken,
}

impl Tenancy {
    /// The tenant with this id after a change, as every call of this process sees it from now on.
    async fn changed(&self, id: &TenantId) -> Result<proto::Tenant, TenancyError> {
        self.directory.refresh().await?;
        self.directory.get(id).map(|tenant| tenant.to_proto()).ok_or_else(|| TenancyError::NoSuchTenant(id.to_string()))
    }

    /// The tenant that a key may see: operators all, others their own. An empty id is the caller's own.
    async fn visible(&self, caller: &Caller, id: &str) -> Result<Arc<TenantRecord>, TenancyError> {
        let missing = || TenancyError::NoSuchTenant(id.to_owned());
        let id: TenantId = match &caller.tenant {
            Some(own) if id.is_empty() || id == own.as_str() => own.clone(),
            // Whether another tenant exists is none of this key's business.
            Some(_) if caller.role < Role::Operator => return Err(missing()),
            Some(_) | None => id.parse().map_err(|_| missing())?,
        };
        self.directory.get_or_refresh(&id).await?.ok_or_else(missing)
    }

    fn audit<'a>(&self, caller: &'a Caller, tenant: Option<&'a TenantId>, action: &'static str, detail: String) -> Audit<'a> {
        Audit { at_us: self.clock.now_us(), actor: &caller.key, tenant, action, detail }
    }
}

/// Parses a request's caller, then acts.
macro_rules! act {
    ($self:ident, $request:ident, $method:ident) => {
        reply(match Caller::of(&$request) {
            Ok(caller) => $self.$method(&caller, $request.into_inner()).await,
            Err(error) => Err(error.into()),
        })
    };
}

#[tonic::async_trait]
impl TenancyService for Tenancy {
    async fn create_tenant(&self, request: Request<proto::CreateTenantRequest>) -> Result<Response<proto::Tenant>, Status> {
        act!(self, request, do_create_tenant)
    }

    async fn get_tenant(&self, request: Request<proto::GetTenantRequest>) -> Result<Response<proto::Tenant>, Status> {
        act!(self, request, do_get_tenant)
    }

    async fn list_tenants(&self, request: Request<proto::ListTenantsRequest>) -> Result<Response<proto::ListTenantsResponse>, Status> {
        act!(self, request, do_list_tenants)
    }

    async fn update_tenant(&self, request: Request<proto::UpdateTenantRequest>) -> Result<Response<proto::Tenant>, Status> {
        act!(self, request, do_update_tenant)
    }

    async fn enable_module(&self, request: Request<proto::EnableModuleRequest>) -> Result<Response<proto::Tenant>, Status> {
        act!(self, request, do_enable_module)
    }

    async fn disable_module(&self, request: Request<proto::DisableModuleRequest>) -> Result<Response<proto::Tenant>, Status> {
        act!(self, request, do_disable_module)
    }

    async fn create_key(&self, request: Request<proto::CreateKeyRequest>) -> Result<Response<proto::CreateKeyResponse>, Status> {
        act!(self, request, do_create_key)
    }

    async fn list_keys(&self, request: Request<proto::ListKeysRequest>) -> Result<Response<proto::ListKeysResponse>, Status> {
        act!(self, request, do_list_keys)
    }

    async fn revoke_key(&self, request: Request<proto::RevokeKeyRequest>) -> Result<Response<proto::Key>, Status> {
        act!(self, request, do_revoke_key)
    }

    type WatchTenantsStream = Pin<Box<dyn Stream<Item = Result<proto::WatchTenantsResponse, Status>> + Send>>;

    async fn watch_tenants(&self, _request: Request<proto::WatchTenantsRequest>) -> Result<Response<Self::WatchTenantsStream>, Status> {
        // Reachable on the internal listener alone, which asks for the cluster token.
        Ok(Response::new(Box::pin(self.do_watch_tenants())))
    }
}

/// Fewest and most of a page, and how many when none is asked for.
fn page_size(asked: i32) -> Result<usize, TenancyError> {
    match usize::try_from(asked) {
        Ok(0) => Ok(50),
        Ok(size) => Ok(size.min(1_000)),
        Err(_) => Err(TenancyError::field("page_size", "is negative; use 1 to 1,000, or 0 for 50")),
    }
}
