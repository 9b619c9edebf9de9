//! What a run does next: a pure function of the scenario, the run, what happened and what is known.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use segue_proto::campaign::v1::{ScenarioDefinition, ScenarioFault};
use segue_proto::events::v1::{Item, ResolvedEvent, Value};
use serde::{Deserialize, Serialize};

use crate::persons::Profile;

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
    /// Id of the step where it is.
    pub(crate) step: String,
    /// It is inside this step's wait (or asked something there) rather than about to do it.
    pub(crate) waiting: bool,
    /// Visits of steps so far, over all steps.
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

/// Checks a definition as far as it can be by itself: shapes, limits, the graph. What it names elsewhere is checked by `scenarios`.
/// Paths of faults begin with `definition`.
pub(crate) fn compile(
    scenario: &str,
    version: u32,
    definition: &ScenarioDefinition,
    default_zone: Tz,
) -> Result<Compiled, Vec<ScenarioFault>> {
    let _ = (scenario, version, definition, default_zone);
    Err(Vec::new())
}

/// Lets a run go on until it rests, ends or needs to know something. Calling it again with the same run, input and facts does the same.
pub(crate) fn advance(
    scenario: &Compiled,
    run: &mut Run,
    input: Input<'_>,
    facts: &Facts<'_>,
    now_us: i64,
    steps_max: u32,
    effects: &mut Vec<Effect>,
) -> Next {
    let _ = (scenario, run, input, facts, now_us, steps_max, effects);
    Next::Rest
}

/// Whether an event lets its person enter, and with which entry key.
pub(crate) fn enters(scenario: &Compiled, event: &ResolvedEvent) -> Option<String> {
    let _ = (scenario, event);
    None
}

/// Whether somebody may enter (again): given what is known of the entries so far of this person and entry key.
pub(crate) fn may_enter(scenario: &Compiled, last_entered_us: Option<i64>, is_active: bool, now_us: i64) -> bool {
    let _ = (scenario, last_entered_us, is_active, now_us);
    false
}

/// Names of events that matter to a scenario: entry, exits, goals, waits. None: all do.
pub(crate) fn interest(scenario: &Compiled) -> Option<Vec<String>> {
    let _ = scenario;
    None
}

/// After the end of a run its goals are still looked for until this moment.
pub(crate) fn goals_until_us(scenario: &Compiled, entered_us: i64) -> i64 {
    let _ = scenario;
    entered_us
}

/// The next time after `after_us` at which a schedule lets persons enter, in this zone; None: never again.
pub(crate) fn next_entry_us(scenario: &Compiled, after_us: i64, zone: Tz) -> Option<i64> {
    let _ = (scenario, after_us, zone);
    None
}

/// An event as `Entered` (and templates) see it.
pub(crate) fn entered_by(event: &ResolvedEvent) -> Entered {
    let _ = event;
    Entered::default()
}

/// A value as templates see it: decimals as numbers, times as RFC 3339.
pub(crate) fn json_of(value: &Value) -> serde_json::Value {
    let _ = value;
    serde_json::Value::Null
}
