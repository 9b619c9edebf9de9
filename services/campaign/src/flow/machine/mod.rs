//! What a run does next: a pure function of the scenario, the run, what happened and what is known.
//!
//! | module | what |
//! |---|---|
//! | [`compile`] | a definition is checked by itself: every fault at once, with its path |
//! | [`selectors`] | the part of that which is about selectors, filters and conditions |
//! | [`graph`] | the part of that which is about where steps lead |
//! | [`steps`] | the part of that which is about single steps |
//! | [`advance`] | what a run does on an input |
//! | [`waits`] | until when a wait lasts |
//! | [`entry`] | who may enter, when, and by what |
//! | [`cron`] | schedules |
//! | [`local`] | wall clock times in a zone, and spans |
//! | [`values`] | events as templates see them |
//!
//! A further kind of step: its shape in [`steps`], where it leads in [`graph`], what it does in [`advance`].

mod advance;
mod compile;
mod cron;
mod entry;
mod graph;
mod local;
mod selectors;
mod steps;
#[cfg(test)]
mod tests;
mod values;
mod waits;

use std::collections::BTreeMap;

use chrono_tz::Tz;
use segue_proto::campaign::v1::ScenarioDefinition;
use segue_proto::events::v1::{Item, ResolvedEvent};
use serde::{Deserialize, Serialize};

use crate::persons::Profile;

pub(crate) use advance::advance;
pub(crate) use compile::compile;
pub(crate) use entry::{enters, goals_until_us, interest, may_enter, next_entry_us};
pub(crate) use values::{entered_by, json_of};

/// A scenario's version, checked and ready to be gone through.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) scenario: String,
    pub(crate) version: u32,
    pub(crate) definition: ScenarioDefinition,
    /// For whom no zone is known.
    pub(crate) time_zone: Tz,
    /// Position of each step by id.
    pub(crate) steps: BTreeMap<String, usize>,
    /// Of a schedule that has one.
    cron: Option<cron::Cron>,
}

/// What a run was entered with: what templates see as `event`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Entered {
    pub(crate) name: String,
    pub(crate) time_us: i64,
    pub(crate) message_id: String,
    /// JSON as templates see it.
    pub(crate) properties: serde_json::Map<String, serde_json::Value>,
    pub(crate) items: Vec<serde_json::Value>,
}

/// A run; everything but its key is one JSON text in the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub(crate) id: u64,
    pub(crate) scenario: String,
    pub(crate) version: u32,
    pub(crate) person: u32,
    pub(crate) entry_key: String,
    /// Counts entries of the person and entry key, from 1.
    pub(crate) entry: u32,
    pub(crate) entered_us: i64,
    /// Never messaged.
    pub(crate) held_out: bool,
    pub(crate) state: State,
    /// When it goes on by itself.
    pub(crate) due_us: Option<i64>,
    /// Set when it has ended.
    pub(crate) ended: Option<(i64, EndReason)>,
}

/// What a run carries along.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Id of the step where it is. Empty: it has just been entered, and goes to the first.
    pub(crate) step: String,
    /// It is inside this step's wait rather than about to do it.
    pub(crate) waiting: bool,
    /// Steps done so far, over all steps; a step is visited once it is left.
    pub(crate) visits: u32,
    /// The last 50.
    pub(crate) history: Vec<Visited>,
    /// By experiment step.
    pub(crate) variants: BTreeMap<String, String>,
    /// `<experiment step>=<variant>` of the experiment passed last.
    pub(crate) last_variant: String,
    pub(crate) event: Entered,
    /// Goals that were reached.
    pub(crate) converted: Vec<String>,
}

/// A step that was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Visited {
    pub(crate) step: String,
    pub(crate) time_us: i64,
    pub(crate) decision: String,
}

/// Why a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EndReason {
    Completed,
    ExitRule,
    ScenarioEnded,
    ExitCall,
    Merged,
    NoStep,
}

/// What happened to a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'i> {
    /// Its time has come, it has just been entered, or what it asked is answered.
    Go,
    /// An event of its person.
    Event(&'i ResolvedEvent),
    /// Its person entered or left an audience.
    Audience { audience: &'i str, entered: bool },
    /// It is to end.
    End(EndReason),
}

/// What is known when a run goes on. What is missing is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts<'f> {
    /// An empty profile for whom nobody knows any more.
    pub(crate) person: Option<&'f Profile>,
    /// By (step, arm): whether the person meets the arm's condition as of now.
    pub(crate) conditions: BTreeMap<(usize, usize), bool>,
    /// By experiment step: what was assigned to the person before, in whichever run.
    pub(crate) assigned: BTreeMap<String, String>,
    /// Those of `assigned` were looked up.
    pub(crate) assignments_known: bool,
}

/// What a run needs to know to go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ask {
    Person,
    /// The conditions of all arms of a step.
    Conditions {
        step: usize,
    },
    Assignments,
}

/// What a run does to the world.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// A message is planned: the step says which channel and template.
    Send {
        step: usize,
        visit: u32,
    },
    /// The run was assigned a variant that was not assigned before.
    Assign {
        step: String,
        variant: String,
    },
    /// The run met an experiment.
    Exposed {
        step: String,
        variant: String,
        visit: u32,
    },
    /// `value` is the constant; a template is rendered by the worker.
    UpdateTrait {
        step: usize,
        visit: u32,
    },
    List {
        step: usize,
    },
    /// A goal was reached by this event.
    Converted {
        goal: String,
        event: String,
        time_us: i64,
        value_e4: i64,
        items: Vec<Item>,
    },
}

/// What comes of going on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    /// It waits (see `Run::due_us`) or has ended.
    Rest,
    /// It goes on with `Input::Go` once this is known.
    Ask(Ask),
}
