//! Definitions of scenarios: versions, validation, starting, pausing and ending, and calls to enter.

use std::collections::BTreeMap;

use segue_model::TenantId;
use segue_proto::campaign::v1::{
    ArchiveScenarioRequest, CreateScenarioRequest, EndScenarioRequest, EnterScenarioRequest, EnterScenarioResponse, GetScenarioRequest,
    ListScenarioVersionsRequest, ListScenarioVersionsResponse, ListScenariosRequest, ListScenariosResponse, PauseScenarioRequest, Scenario,
    ScenarioDefinition, StartScenarioRequest, UpdateScenarioRequest, ValidateScenarioRequest, ValidateScenarioResponse,
};
use segue_runtime::Tenant;
use segue_store::{Db, Tx};

use crate::error::CampaignError;
use crate::flow::machine::Entered;
use crate::service::Service;

/// A scenario as the worker needs it.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Persons enter this one.
    pub(crate) version: u32,
    /// This one, and every other that runs may still be on.
    pub(crate) versions: BTreeMap<u32, ScenarioDefinition>,
    pub(crate) paused: bool,
    /// Runs are to be ended.
    pub(crate) ended: bool,
    /// Events and transitions before this do not let anybody enter.
    pub(crate) started_us: i64,
    /// Counts starts; with `enter_present_members`, the members as of the start enter once per count.
    pub(crate) starts: u32,
    pub(crate) enter_present_members: bool,
}

/// Somebody is to enter by call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Ascending per tenant.
    pub(crate) sequence: i64,
    pub(crate) scenario: String,
    pub(crate) person: u32,
    pub(crate) entry_key: String,
    pub(crate) event: Entered,
}

/// Changes of a tenant's scenarios so far: grows with each, so that a worker sees whether to load again. Of all tenants that have any.
pub(crate) async fn changes(_db: &Db) -> Result<Vec<(TenantId, i64)>, CampaignError> {
    Ok(Vec::new())
}

/// All scenarios of a tenant that were ever started and are not archived.
pub(crate) async fn started(_db: &Db, _tenant: &TenantId) -> Result<Vec<Started>, CampaignError> {
    Ok(Vec::new())
}

/// Calls after this sequence, the oldest first.
pub(crate) async fn calls(_db: &Db, _tenant: &TenantId, _after: i64, _limit: usize) -> Result<Vec<Call>, CampaignError> {
    Ok(Vec::new())
}

/// Forgets calls that were dealt with (their request ids are kept).
pub(crate) async fn forget_calls(_tx: &mut Tx, _tenant: &TenantId, _up_to: i64) -> Result<(), CampaignError> {
    Ok(())
}

/// Which running or paused scenarios use a template or channel, as `scenario a`.
pub(crate) async fn users_of(_db: &Db, _tenant: &TenantId, _what: Used<'_>) -> Result<Vec<String>, CampaignError> {
    Ok(Vec::new())
}

/// What a scenario may use.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Used<'u> {
    Template(&'u str),
    Channel(&'u str),
}

impl Service {
    pub(crate) async fn create_scenario_of(&self, _tenant: &Tenant, _request: CreateScenarioRequest) -> Result<Scenario, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn get_scenario_of(&self, _tenant: &Tenant, _request: GetScenarioRequest) -> Result<Scenario, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn list_scenarios_of(
        &self,
        _tenant: &Tenant,
        _request: ListScenariosRequest,
    ) -> Result<ListScenariosResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn update_scenario_of(&self, _tenant: &Tenant, _request: UpdateScenarioRequest) -> Result<Scenario, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn list_scenario_versions_of(
        &self,
        _tenant: &Tenant,
        _request: ListScenarioVersionsRequest,
    ) -> Result<ListScenarioVersionsResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn validate_scenario_of(
        &self,
        _tenant: &Tenant,
        _request: ValidateScenarioRequest,
    ) -> Result<ValidateScenarioResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn start_scenario_of(&self, _tenant: &Tenant, _request: StartScenarioRequest) -> Result<Scenario, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn pause_scenario_of(&self, _tenant: &Tenant, _request: PauseScenarioRequest) -> Result<Scenario, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn end_scenario_of(&self, _tenant: &Tenant, _request: EndScenarioRequest) -> Result<Scenario, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn archive_scenario_of(&self, _tenant: &Tenant, _request: ArchiveScenarioRequest) -> Result<Scenario, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn enter_scenario_of(
        &self,
        _tenant: &Tenant,
        _request: EnterScenarioRequest,
    ) -> Result<EnterScenarioResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }
}
