//! `segue.campaign.v1.ResultService`: dispatch only.

use segue_proto::campaign::v1::result_service_server::ResultService;
use segue_proto::campaign::v1::{
    GetExperimentResultsRequest, GetExperimentResultsResponse, GetScenarioResultsRequest, GetScenarioResultsResponse,
};
use segue_runtime::caller::Role;
use segue_runtime::status::reply;
use tonic::{Request, Response, Status};

use super::Service;

#[tonic::async_trait]
impl ResultService for Service {
    async fn get_scenario_results(
        &self,
        request: Request<GetScenarioResultsRequest>,
    ) -> Result<Response<GetScenarioResultsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_scenario_results_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_experiment_results(
        &self,
        request: Request<GetExperimentResultsRequest>,
    ) -> Result<Response<GetExperimentResultsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_experiment_results_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }
}
