//! The scenarios of a tenant as its worker goes by them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono_tz::Tz;
use segue_proto::campaign::v1::entry::On;
use segue_proto::campaign::v1::exit_rule;

use super::incoming::Interest;
use super::machine::{self, Compiled};
use crate::scenarios::Started;

/// A version of a scenario.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) compiled: Compiled,
    /// Names of events that matter to its runs and entries; None: all do.
    events: Option<BTreeSet<String>>,
    /// Audiences that its runs leave with.
    exit_audiences: BTreeSet<String>,
}

impl Plan {
    fn new(compiled: Compiled) -> Self {
        let events = machine::interest(&compiled).map(BTreeSet::from_iter);
        let exits = compiled.definition.exits.iter().filter_map(|exit| match &exit.on {
            Some(exit_rule::On::Audience(on)) => Some(on.audience.clone()),
            Some(exit_rule::On::Event(_)) | None => None,
        });
        Self { events, exit_audiences: exits.collect(), compiled }
    }

    pub(crate) fn wants_event(&self, name: &str) -> bool {
        self.events.as_ref().is_none_or(|events| events.contains(name))
    }

    pub(crate) fn wants_audience(&self, audience: &str) -> bool {
        self.exit_audiences.contains(audience)
    }

    /// By what persons enter.
    pub(crate) fn entry(&self) -> Option<&On> {
        self.compiled.definition.entry.as_ref()?.on.as_ref()
    }
}

/// A scenario that was started.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) started: Started,
    /// By version.
    pub(crate) plans: BTreeMap<u32, Arc<Plan>>,
}

impl Scenario {
    /// What persons enter now; none while nobody may.
    pub(crate) fn open(&self) -> Option<&Arc<Plan>> {
        if self.started.paused || self.started.ended { None } else { self.plans.get(&self.started.version) }
    }
}

/// All scenarios of a tenant.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    pub(crate) scenarios: BTreeMap<String, Arc<Scenario>>,
    pub(crate) interest: Arc<Interest>,
    /// What is wrong with them; empty: nothing.
    pub(crate) problem: String,
}

impl Definitions {
    pub(crate) fn new(started: Vec<Started>, zone: Tz) -> Self {
        let mut definitions = Definitions::default();
        let mut interest = Interest::default();
        for scenario in started {
            let mut plans = BTreeMap::new();
            for (version, definition) in &scenario.versions {
                match machine::compile(&scenario.id, *version, definition, zone) {
                    Ok(compiled) => drop(plans.insert(*version, Arc::new(Plan::new(compiled)))),
                    Err(faults) => {
                        let first = faults.first().map_or_else(String::new, |fault| format!(" ({}: {})", fault.field, fault.message));
                        definitions.problem = format!("version {version} of scenario {} does not compile{first}", scenario.id);
                    }
                }
            }
            for plan in plans.values() {
                add(&mut interest, plan);
            }
            definitions.scenarios.insert(scenario.id.clone(), Arc::new(Scenario { started: scenario, plans }));
        }
        definitions.interest = Arc::new(interest);
        definitions
    }

    pub(crate) fn get(&self, scenario: &str) -> Option<&Arc<Scenario>> {
        self.scenarios.get(scenario)
    }
}

fn add(interest: &mut Interest, plan: &Plan) {
    match (&mut interest.events, &plan.events) {
        (Some(all), Some(events)) => all.extend(events.iter().cloned()),
        (_, None) => interest.events = None,
        (None, _) => {}
    }
    interest.audiences.extend(plan.exit_audiences.iter().cloned());
    if let Some(On::Audience(entry)) = plan.entry() {
        interest.audiences.insert(entry.audience.clone());
    }
}
