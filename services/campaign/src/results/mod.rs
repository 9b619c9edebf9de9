//! Numbers of scenarios and their experiments, from the events that came back through ingest.

use segue_proto::campaign::v1::{
    GetExperimentResultsRequest, GetExperimentResultsResponse, GetScenarioResultsRequest, GetScenarioResultsResponse,
};
use segue_runtime::Tenant;

use crate::error::CampaignError;
use crate::service::Service;

impl Service {
    pub(crate) async fn get_scenario_results_of(
        &self,
        _tenant: &Tenant,
        _request: GetScenarioResultsRequest,
    ) -> Result<GetScenarioResultsResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn get_experiment_results_of(
        &self,
        _tenant: &Tenant,
        _request: GetExperimentResultsRequest,
    ) -> Result<GetExperimentResultsResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }
}
