//! `segue.campaign.v1.ScenarioService`: dispatch only.

use segue_proto::campaign::v1::scenario_service_server::ScenarioService;
use segue_proto::campaign::v1::{
    ArchiveScenarioRequest, CreateScenarioRequest, EndScenarioRequest, EnterScenarioRequest, EnterScenarioResponse, ExitRunsRequest,
    ExitRunsResponse, GetRunRequest, GetScenarioRequest, GetScenarioStatusRequest, GetScenarioStatusResponse, ListRunsRequest,
    ListRunsResponse, ListScenarioVersionsRequest, ListScenarioVersionsResponse, ListScenariosRequest, ListScenariosResponse,
    MoveRunsRequest, MoveRunsResponse, PauseScenarioRequest, Run, Scenario, StartScenarioRequest, UpdateScenarioRequest,
    ValidateScenarioRequest, ValidateScenarioResponse,
};
use segue_runtime::caller::Role;
use segue_runtime::status::reply;
use tonic::{Request, Response, Status};

use super::Service;

#[tonic::async_trait]
impl ScenarioService for Service {
    async fn create_scenario(&self, request: Request<CreateScenarioRequest>) -> Result<Response<Scenario>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.create_scenario_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_scenario(&self, request: Request<GetScenarioRequest>) -> Result<Response<Scenario>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_scenario_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_scenarios(&self, request: Request<ListScenariosRequest>) -> Result<Response<ListScenariosResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_scenarios_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn update_scenario(&self, request: Request<UpdateScenarioRequest>) -> Result<Response<Scenario>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.update_scenario_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_scenario_versions(
        &self,
        request: Request<ListScenarioVersionsRequest>,
    ) -> Result<Response<ListScenarioVersionsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_scenario_versions_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn validate_scenario(&self, request: Request<ValidateScenarioRequest>) -> Result<Response<ValidateScenarioResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.validate_scenario_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn start_scenario(&self, request: Request<StartScenarioRequest>) -> Result<Response<Scenario>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.start_scenario_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn pause_scenario(&self, request: Request<PauseScenarioRequest>) -> Result<Response<Scenario>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.pause_scenario_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn end_scenario(&self, request: Request<EndScenarioRequest>) -> Result<Response<Scenario>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.end_scenario_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn archive_scenario(&self, request: Request<ArchiveScenarioRequest>) -> Result<Response<Scenario>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.archive_scenario_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn enter_scenario(&self, request: Request<EnterScenarioRequest>) -> Result<Response<EnterScenarioResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.enter_scenario_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_runs_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<Run>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_run_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn exit_runs(&self, request: Request<ExitRunsRequest>) -> Result<Response<ExitRunsResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.exit_runs_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn move_runs(&self, request: Request<MoveRunsRequest>) -> Result<Response<MoveRunsResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.move_runs_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_scenario_status(&self, request: Request<GetScenarioStatusRequest>) -> Result<Response<GetScenarioStatusResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_scenario_status_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }
}
