//! Live membership.

use std::sync::Arc;

use roaring::RoaringBitmap;
use segue_log::Log;
use segue_model::{Clock, TenantId};
use segue_proto::audience::v1::{EvaluateAudienceRequest, EvaluateAudienceResponse, GetLiveStatusRequest, GetLiveStatusResponse};
use segue_runtime::{Tasks, Tenant, TenantDirectory};
use segue_store::Db;

use crate::config::Config;
use crate::definitions::Definitions;
use crate::error::AudienceError;
use crate::peers::Peers;
use crate::service::Service;

/// What live membership works with.
pub(crate) struct LiveDeps {
    pub(crate) config: Arc<Config>,
    pub(crate) db: Db,
    pub(crate) log: Log,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tenants: TenantDirectory,
    pub(crate) tasks: Tasks,
    pub(crate) peers: Peers,
    pub(crate) definitions: Definitions,
}

/// Live membership of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Live {
    deps: Arc<LiveDeps>,
}

/// Who meets the condition of an audience.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    /// Members and those held out.
    pub(crate) matched: Arc<RoaringBitmap>,
    /// Those of them who are held out.
    pub(crate) held_out: Arc<RoaringBitmap>,
    pub(crate) version: u32,
    /// True as of this moment.
    pub(crate) as_of_us: i64,
    /// Transitions up to this one are in it.
    pub(crate) sequence: u64,
}

impl Live {
    pub(crate) fn start(deps: LiveDeps) -> Self {
        Self { deps: Arc::new(deps) }
    }

    /// Who is in an audience; NOT_EVALUATED before the first evaluation.
    pub(crate) async fn membership(&self, _tenant: &TenantId, _audience: &str) -> Result<Membership, AudienceError> {
        Err(AudienceError::Stopping)
    }

    /// Rung whenever transitions were committed by this process.
    pub(crate) fn committed(&self) -> Arc<tokio::sync::Notify> {
        Arc::default()
    }
}

impl Service {
    pub(crate) async fn get_live_status_of(
        &self,
        _tenant: &Tenant,
        _request: GetLiveStatusRequest,
    ) -> Result<GetLiveStatusResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn evaluate_audience_of(
        &self,
        _tenant: &Tenant,
        _request: EvaluateAudienceRequest,
    ) -> Result<EvaluateAudienceResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }
}
