//! Definitions of scenarios: versions, validation, starting, pausing and ending, and calls to enter.
//!
//! | module | what |
//! |---|---|
//! | [`content`] | what somebody wrote: limits, and the form in which it is kept |
//! | [`change`] | creating, updating, starting, pausing, ending, archiving |
//! | [`named`], [`faults`] | what a definition names elsewhere, and everything that keeps it from being started |
//! | [`enter`], [`calls`] | requests to enter by call, and the calls that the worker reads |
//! | [`standing`] | where scenarios are, for whoever decides on their messages |
//! | [`store`] | SQL of scenarios and versions |

mod calls;
mod change;
mod content;
mod enter;
mod faults;
mod named;
mod standing;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use segue_proto::campaign::v1::{
    ArchiveScenarioRequest, CreateScenarioRequest, EndScenarioRequest, EnterScenarioRequest, EnterScenarioResponse, GetScenarioRequest,
    ListScenarioVersionsRequest, ListScenarioVersionsResponse, ListScenariosRequest, ListScenariosResponse, PauseScenarioRequest, Scenario,
    ScenarioDefinition, ScenarioVersion, StartScenarioRequest, UpdateScenarioRequest, ValidateScenarioRequest, ValidateScenarioResponse,
};
use segue_runtime::{Tenant, fields, page};

pub(crate) use self::calls::{calls, forget_calls};
use self::change::{Outcome, Start};
use self::content::Content;
pub(crate) use self::standing::{Standing, standings};
use self::store::{Stored, Version};
pub(crate) use self::store::{changes, started, users_of};
#[cfg(test)]
pub(crate) use self::tests::put_started;
use crate::error::{CampaignError, Kind};
use crate::flow::machine::Entered;
use crate::service::Service;
use crate::store::timestamp;

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1_000;
const FIELDS: &[&str] = &["name", "description", "definition"];
/// How often a start looks at the newest version anew when it was changed meanwhile.
const START_ATTEMPTS: usize = 3;

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

/// What a scenario may use.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Used<'u> {
    Template(&'u str),
    Channel(&'u str),
}

impl<'u> Used<'u> {
    /// As stored.
    fn kind(self) -> &'static str {
        match self {
            Used::Template(_) => "template",
            Used::Channel(_) => "channel",
        }
    }

    fn name(self) -> &'u str {
        match self {
            Used::Template(name) | Used::Channel(name) => name,
        }
    }
}

impl Service {
    pub(crate) async fn create_scenario_of(&self, tenant: &Tenant, request: CreateScenarioRequest) -> Result<Scenario, CampaignError> {
        let mut wanted = request.scenario.ok_or_else(|| CampaignError::field("scenario", "required"))?;
        wanted.definition.get_or_insert_default();
        let (id, content) = (wanted.id.clone(), content_of(wanted, FIELDS)?);
        let mut faults = Vec::new();
        fields::check_id(&mut faults, "scenario.id", &id);
        content::check(&mut faults, &content, FIELDS);
        fields::refuse(faults)?;
        let (most, now_us) = (self.config.scenarios_max, self.clock.now_us());
        let outcome = change::create(&self.db, &tenant.id, most, &id, content, now_us).await?;
        Ok(scenario_of(self.rung(outcome)))
    }

    pub(crate) async fn get_scenario_of(&self, tenant: &Tenant, request: GetScenarioRequest) -> Result<Scenario, CampaignError> {
        Ok(scenario_of(store::get(&self.db, &tenant.id, &request.id).await?))
    }

    pub(crate) async fn list_scenarios_of(
        &self,
        tenant: &Tenant,
        request: ListScenariosRequest,
    ) -> Result<ListScenariosResponse, CampaignError> {
        let ListScenariosRequest { page_size, page_token, with_archived } = request;
        let size = page::size(page_size, PAGE_DEFAULT, PAGE_MAX)?;
        if !page_token.is_empty() && !fields::is_id(&page_token) {
            return Err(page::bad_token().into());
        }
        let mut found = store::page(&self.db, &tenant.id, &page_token, with_archived, size).await?;
        let next_page_token = page::cut_to_fit(&mut found, size, Stored::bytes, |stored| stored.id.clone());
        Ok(ListScenariosResponse { scenarios: found.into_iter().map(scenario_of).collect(), next_page_token })
    }

    pub(crate) async fn update_scenario_of(&self, tenant: &Tenant, request: UpdateScenarioRequest) -> Result<Scenario, CampaignError> {
        let wanted = request.scenario.ok_or_else(|| CampaignError::field("scenario", "required"))?;
        let masked = fields::masked(request.update_mask.as_ref(), FIELDS)?;
        let (id, etag) = (wanted.id.clone(), wanted.etag.clone());
        let content = content_of(wanted, &masked)?;
        let mut faults = Vec::new();
        content::check(&mut faults, &content, &masked);
        fields::refuse(faults)?;
        let change = |stored: &mut Content| take_over(stored, content, &masked);
        let outcome = change::update(&self.db, &tenant.id, &id, &etag, self.clock.now_us(), change).await?;
        Ok(scenario_of(self.rung(outcome)))
    }

    pub(crate) async fn list_scenario_versions_of(
        &self,
        tenant: &Tenant,
        request: ListScenarioVersionsRequest,
    ) -> Result<ListScenarioVersionsResponse, CampaignError> {
        let size = page::size(request.page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let below: u32 = match request.page_token.as_str() {
            "" => u32::MAX,
            token => token.parse().map_err(|_| page::bad_token())?,
        };
        let stored = store::get(&self.db, &tenant.id, &request.id).await?;
        let mut versions = store::versions(&self.db, &tenant.id, &stored.id, below, size).await?;
        let bytes = |version: &Version| prost::Message::encoded_len(&version.definition);
        let next_page_token = page::cut_to_fit(&mut versions, size, bytes, |version| version.version.to_string());
        Ok(ListScenarioVersionsResponse { versions: versions.into_iter().map(version_of).collect(), next_page_token })
    }

    pub(crate) async fn validate_scenario_of(
        &self,
        tenant: &Tenant,
        request: ValidateScenarioRequest,
    ) -> Result<ValidateScenarioResponse, CampaignError> {
        let stored = store::get(&self.db, &tenant.id, &request.id).await?;
        Ok(ValidateScenarioResponse { faults: self.faults(tenant, &stored).await? })
    }

    pub(crate) async fn start_scenario_of(&self, tenant: &Tenant, request: StartScenarioRequest) -> Result<Scenario, CampaignError> {
        let start = Start { id: &request.id, etag: &request.etag, present: request.enter_present_members };
        // What a definition names is looked at outside the transaction: others are asked for it.
        for _ in 0..START_ATTEMPTS {
            let stored = store::get(&self.db, &tenant.id, start.id).await?;
            if change::is_started(&stored, start)? {
                return Ok(scenario_of(stored));
            }
            let faults = self.faults(tenant, &stored).await?;
            if !faults.is_empty() {
                return Err(faults::refusal(faults));
            }
            if let Some(outcome) = change::start(&self.db, &tenant.id, start, stored.version, self.clock.now_us()).await? {
                return Ok(scenario_of(self.rung(outcome)));
            }
        }
        Err(CampaignError::EtagMismatch { kind: Kind::Scenario, id: request.id })
    }

    pub(crate) async fn pause_scenario_of(&self, tenant: &Tenant, request: PauseScenarioRequest) -> Result<Scenario, CampaignError> {
        let outcome = change::pause(&self.db, &tenant.id, &request.id, &request.etag, self.clock.now_us()).await?;
        Ok(scenario_of(self.rung(outcome)))
    }

    pub(crate) async fn end_scenario_of(&self, tenant: &Tenant, request: EndScenarioRequest) -> Result<Scenario, CampaignError> {
        let outcome = change::end(&self.db, &tenant.id, &request.id, &request.etag, self.clock.now_us()).await?;
        Ok(scenario_of(self.rung(outcome)))
    }

    pub(crate) async fn archive_scenario_of(&self, tenant: &Tenant, request: ArchiveScenarioRequest) -> Result<Scenario, CampaignError> {
        let outcome = change::archive(&self.db, &tenant.id, &request.id, &request.etag, self.clock.now_us()).await?;
        Ok(scenario_of(self.rung(outcome)))
    }

    pub(crate) async fn enter_scenario_of(
        &self,
        tenant: &Tenant,
        request: EnterScenarioRequest,
    ) -> Result<EnterScenarioResponse, CampaignError> {
        let enter = enter::parse(request)?;
        if let Some(known) = calls::answer(&self.db, &tenant.id, &enter).await? {
            return Ok(EnterScenarioResponse { known });
        }
        calls::check(&self.db, &tenant.id, &enter.scenario).await?;
        let persons = enter::persons_of(&self.peers, &tenant.id, &enter.entrants).await?;
        let outcome = calls::add(&self.db, &tenant.id, &enter, &persons, self.clock.now_us()).await?;
        Ok(EnterScenarioResponse { known: self.rung(outcome) })
    }

    /// What came of a change; the worker and the senders look at once if it was one.
    fn rung<T>(&self, outcome: Outcome<T>) -> T {
        match outcome {
            Outcome::Changed(after) => {
                self.bells.flow.notify_one();
                self.bells.sends.notify_one();
                after
            }
            Outcome::Same(before) => before,
        }
    }
}

/// What a scenario says, in the form in which it is kept. A definition that is to be written has to be there, if empty: leaving it out of a
/// change of everything would lose it.
fn content_of(scenario: Scenario, written: &[&str]) -> Result<Content, CampaignError> {
    let Scenario { name, description, definition, .. } = scenario;
    if definition.is_none() && written.contains(&"definition") {
        return Err(CampaignError::field("scenario.definition", "required: or leave it out of update_mask, to keep the present one"));
    }
    let mut definition = definition.unwrap_or_default();
    content::normalise(&mut definition);
    Ok(Content { name, description, definition })
}

/// Puts the masked fields of `wanted` in place.
fn take_over(stored: &mut Content, wanted: Content, masked: &[&str]) {
    let Content { name, description, definition } = wanted;
    if masked.contains(&"name") {
        stored.name = name;
    }
    if masked.contains(&"description") {
        stored.description = description;
    }
    if masked.contains(&"definition") {
        stored.definition = definition;
    }
}

fn scenario_of(stored: Stored) -> Scenario {
    let etag = stored.etag();
    let Content { name, description, definition } = stored.content;
    Scenario {
        id: stored.id,
        name,
        description,
        definition: Some(definition),
        version: stored.version,
        state: stored.state.to_proto().into(),
        started_version: stored.started_version,
        created_at: Some(timestamp(stored.created_us)),
        updated_at: Some(timestamp(stored.updated_us)),
        started_at: (stored.started_version > 0).then(|| timestamp(stored.started_us)),
        etag,
    }
}

fn version_of(version: Version) -> ScenarioVersion {
    let Version { version, definition, created_us } = version;
    ScenarioVersion { version, definition: Some(definition), created_at: Some(timestamp(created_us)) }
}
