//! The RPCs about runs: reading them, ending and moving them, and how far they are.

use std::collections::BTreeMap;
use std::time::Duration;

use segue_model::FieldViolation;
use segue_proto::campaign::v1::{
    ExitRunsRequest, ExitRunsResponse, GetRunRequest, GetScenarioRequest, GetScenarioStatusRequest, GetScenarioStatusResponse,
    ListRunsRequest, ListRunsResponse, MoveRunsRequest, MoveRunsResponse, Run, RunState, Visit,
};
use segue_runtime::fields::{is_id, refuse};
use segue_runtime::{Tasks, Tenant, page};

use super::machine;
use super::store::runs::{self, RunRow, Shown, name_of};
use super::store::work::{self, CommandBody};
use super::{store, supervisor};
use crate::error::{CampaignError, Kind};
use crate::scenarios;
use crate::service::Service;
use crate::store::timestamp;

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1_000;
/// Longest that a status waits.
const WAIT_MS_MAX: u32 = 30_000;
/// Between looks whether the status has been answered.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

impl Service {
    /// Starts working on tenants.
    pub(crate) fn spawn_flow(&self, tasks: &Tasks) {
        tasks.spawn("scenarios", supervisor::run(self.clone(), tasks.clone(), tasks.stopping()));
    }

    pub(crate) async fn list_runs_of(&self, tenant: &Tenant, request: ListRunsRequest) -> Result<ListRunsResponse, CampaignError> {
        let mut faults = Vec::new();
        if request.scenario.is_empty() && request.person == 0 {
            faults.push(FieldViolation::new("scenario", "name a scenario, a person, or both"));
        }
        if !request.scenario.is_empty() && !is_id(&request.scenario) {
            faults.push(FieldViolation::new("scenario", "is not an id"));
        }
        refuse(faults)?;
        let size = page::size(request.page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let before = match request.page_token.as_str() {
            "" => i64::MAX,
            token => token.parse().map_err(|_| page::bad_token())?,
        };
        let shown = Shown { scenario: &request.scenario, person: request.person, active_only: request.active_only, before };
        let mut rows = runs::page(&self.db, &tenant.id, shown, size + 1).await?;
        let next_page_token = page::cut_to_fit(&mut rows, size, RunRow::bytes, |row| row.id().to_string());
        let runs = rows.into_iter().map(message).collect::<Result<_, _>>()?;
        Ok(ListRunsResponse { runs, next_page_token })
    }

    pub(crate) async fn get_run_of(&self, tenant: &Tenant, request: GetRunRequest) -> Result<Run, CampaignError> {
        let found = runs::find(&self.db, &tenant.id, request.id).await?;
        message(found.ok_or_else(|| CampaignError::not_found(Kind::Run, request.id.to_string()))?)
    }

    pub(crate) async fn exit_runs_of(&self, tenant: &Tenant, request: ExitRunsRequest) -> Result<ExitRunsResponse, CampaignError> {
        let mut faults = Vec::new();
        if request.person == 0 {
            faults.push(FieldViolation::new("person", "is required"));
        }
        if request.entry_key.len() > 255 || request.entry_key.contains('\0') {
            faults.push(FieldViolation::new("entry_key", "at most 255 bytes, without NUL characters"));
        }
        refuse(faults)?;
        self.versions(tenant, &request.scenario).await?;
        let entry_key = (!request.entry_key.is_empty()).then_some(request.entry_key);
        let body = CommandBody::Exit { scenario: request.scenario, person: request.person, entry_key };
        work::command(&self.db, &tenant.id, &body).await?;
        self.bells.flow.notify_one();
        Ok(ExitRunsResponse {})
    }

    pub(crate) async fn move_runs_of(&self, tenant: &Tenant, request: MoveRunsRequest) -> Result<MoveRunsResponse, CampaignError> {
        let versions = self.versions(tenant, &request.scenario).await?;
        let (mut steps, mut faults) = (BTreeMap::new(), Vec::new());
        if request.from_version == request.to_version {
            faults.push(FieldViolation::new("to_version", "is the version that they are on already"));
        }
        let mut known = |field: &str, version: u32| match versions.get(&version) {
            Some(steps) => Some(steps),
            None => {
                faults.push(FieldViolation::new(field, "is not a version that was started"));
                None
            }
        };
        if let (Some(old), Some(new)) = (known("from_version", request.from_version), known("to_version", request.to_version)) {
            if request.steps.is_empty() {
                faults.push(FieldViolation::new("steps", "say for each step where its runs go on"));
            }
            for (from, to) in &request.steps {
                if !old.contains(from) {
                    faults.push(FieldViolation::new(format!("steps[{from}]"), "is not a step of the old version"));
                }
                if !new.contains(to) {
                    faults.push(FieldViolation::new(format!("steps[{from}]"), format!("`{to}` is not a step of the new version")));
                }
            }
            steps.extend(request.steps);
        }
        refuse(faults)?;
        let (from, to) = (request.from_version, request.to_version);
        let body = CommandBody::Move { scenario: request.scenario, from, to, steps, after_run: 0, until_run: 0 };
        work::command(&self.db, &tenant.id, &body).await?;
        self.bells.flow.notify_one();
        Ok(MoveRunsResponse {})
    }

    /// Ids of the steps of a scenario's versions that runs can be on.
    async fn versions(&self, tenant: &Tenant, scenario: &str) -> Result<BTreeMap<u32, Vec<String>>, CampaignError> {
        let started = scenarios::started(&self.db, &tenant.id).await?;
        let found = started.into_iter().find(|started| started.id == scenario);
        let Some(found) = found else {
            // Of what has ended, and whose runs were removed, no run is on any.
            let stored = self.get_scenario_of(tenant, GetScenarioRequest { id: scenario.to_owned() }).await?;
            let was_started = stored.started_version > 0;
            return if was_started { Ok(BTreeMap::new()) } else { Err(CampaignError::not_found(Kind::Scenario, scenario)) };
        };
        let ids = |definition: segue_proto::campaign::v1::ScenarioDefinition| definition.steps.into_iter().map(|step| step.id).collect();
        Ok(found.versions.into_iter().map(|(version, definition)| (version, ids(definition))).collect())
    }

    pub(crate) async fn get_scenario_status_of(
        &self,
        tenant: &Tenant,
        request: GetScenarioStatusRequest,
    ) -> Result<GetScenarioStatusResponse, CampaignError> {
        if request.wait_ms > WAIT_MS_MAX {
            return Err(CampaignError::field("wait_ms", format!("at most {WAIT_MS_MAX}")));
        }
        let asked = store::ask(&self.db, &tenant.id).await?;
        self.bells.flow.notify_one();
        let until = tokio::time::Instant::now() + Duration::from_millis(request.wait_ms.into());
        let mut row = store::find(&self.db, &tenant.id).await?;
        while row.as_ref().is_none_or(|row| row.answered < asked) && tokio::time::Instant::now() < until {
            tokio::time::sleep(LOOK_PAUSE).await;
            row = store::find(&self.db, &tenant.id).await?;
        }
        let row = row.ok_or(CampaignError::Corrupt { what: "where scenarios are" })?;
        let now_us = self.clock.now_us();
        let (active_runs, due_runs) = runs::count(&self.db, &tenant.id, now_us).await?;
        let lease_us = i64::try_from(self.config.send.lease_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        let soon_us = now_us.saturating_add(lease_us);
        let problem = match (row.problem.is_empty(), row.answered >= asked) {
            (false, _) => row.problem,
            (true, true) => String::new(),
            (true, false) if row.epoch == 0 => "no process has taken the tenant up yet".to_owned(),
            (true, false) => "a round is under way".to_owned(),
        };
        Ok(GetScenarioStatusResponse {
            dealt_with_until: Some(timestamp(row.done_us)),
            active_runs,
            due_runs,
            waiting_sends: crate::sends::waiting(&self.db, &tenant.id, soon_us).await?,
            waiting_events: crate::outbox::waiting(&self.db, &tenant.id).await?,
            steps_done: row.steps_done,
            rounds: row.rounds,
            problem,
        })
    }
}

/// A run as the API says it.
fn message(row: RunRow) -> Result<Run, CampaignError> {
    let (run, _): (machine::Run, i64) = row.read()?;
    let visit =
        |visited: machine::Visited| Visit { step: visited.step, time: Some(timestamp(visited.time_us)), decision: visited.decision };
    Ok(Run {
        id: run.id,
        scenario: run.scenario,
        version: run.version,
        person: run.person,
        entry_key: run.entry_key,
        state: if run.ended.is_some() { RunState::Ended } else { RunState::Active }.into(),
        step: run.state.step,
        entered_at: Some(timestamp(run.entered_us)),
        ended_at: run.ended.map(|(ended_us, _)| timestamp(ended_us)),
        end_reason: run.ended.map_or_else(String::new, |(_, reason)| name_of(reason).to_owned()),
        due_at: run.due_us.map(timestamp),
        variants: run.state.variants.into_iter().collect(),
        visits: run.state.history.into_iter().map(visit).collect(),
        held_out: run.held_out,
        converted: run.state.converted,
    })
}
