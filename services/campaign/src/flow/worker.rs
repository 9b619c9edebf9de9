//! Feeds the machine: reads the log, asks other services, commits.

use segue_proto::campaign::v1::{
    ExitRunsRequest, ExitRunsResponse, GetRunRequest, GetScenarioStatusRequest, GetScenarioStatusResponse, ListRunsRequest,
    ListRunsResponse, MoveRunsRequest, MoveRunsResponse, Run,
};
use segue_runtime::{Tasks, Tenant};

use crate::error::CampaignError;
use crate::service::Service;

impl Service {
    /// Starts working on tenants.
    pub(crate) fn spawn_flow(&self, _tasks: &Tasks) {}

    pub(crate) async fn list_runs_of(&self, _tenant: &Tenant, _request: ListRunsRequest) -> Result<ListRunsResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn get_run_of(&self, _tenant: &Tenant, _request: GetRunRequest) -> Result<Run, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn exit_runs_of(&self, _tenant: &Tenant, _request: ExitRunsRequest) -> Result<ExitRunsResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn move_runs_of(&self, _tenant: &Tenant, _request: MoveRunsRequest) -> Result<MoveRunsResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn get_scenario_status_of(
        &self,
        _tenant: &Tenant,
        _request: GetScenarioStatusRequest,
    ) -> Result<GetScenarioStatusResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }
}
