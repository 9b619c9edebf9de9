//! Tests of workers on every store, with a log and a clock moved by hand.

use segue_proto::campaign::v1::step::Kind;
use segue_proto::campaign::v1::{CallEntry, EndStep, Entry, ScenarioDefinition, Step, entry};

use crate::scenarios::Started;

/// A definition whose runs end at once.
pub(crate) fn one_step() -> ScenarioDefinition {
    ScenarioDefinition {
        entry: Some(Entry { on: Some(entry::On::Call(CallEntry {})), only_if: None }),
        steps: vec![Step { id: "end".to_owned(), next: String::new(), kind: Some(Kind::End(EndStep {})) }],
        ..ScenarioDefinition::default()
    }
}

/// A scenario that runs.
pub(crate) fn started(id: &str, definition: ScenarioDefinition, started_us: i64) -> Started {
    Started {
        id: id.to_owned(),
        name: id.to_owned(),
        version: 1,
        versions: [(1, definition)].into(),
        paused: false,
        ended: false,
        started_us,
        starts: 1,
        enter_present_members: false,
    }
}
