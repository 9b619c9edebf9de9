//! What reaches a person, in order.

use std::sync::Arc;

use prost::Message;
use segue_proto::events::v1::ResolvedEvent;
use serde::{Deserialize, Serialize};

use super::machine::{EndReason, Entered};
use crate::error::CampaignError;
use crate::store::json;

/// Somebody is to enter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entrant {
    pub(crate) scenario: String,
    pub(crate) entry_key: String,
    pub(crate) time_us: i64,
    pub(crate) event: Entered,
    /// The condition of the entry is met: whoever came up with the person has looked.
    pub(crate) is_met: bool,
    /// It was called for while the scenario ran: it counts though the scenario may be paused by now.
    pub(crate) is_called: bool,
}

/// A trait that is to be set to what a template says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Filling {
    pub(crate) run: u64,
    pub(crate) step: String,
    pub(crate) visit: u32,
    pub(crate) r#trait: String,
    pub(crate) template: String,
    /// What the template sees beside the person.
    pub(crate) values: serde_json::Value,
    pub(crate) time_us: i64,
}

/// What reaches a person.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Happening {
    Event(Arc<ResolvedEvent>),
    /// An audience was entered or left.
    Moved {
        audience: Arc<str>,
        entered: bool,
        held_out: bool,
        time_us: i64,
    },
    Enter(Entrant),
    /// A run's time has come.
    Go(u64),
    /// A run is to end.
    End(u64, EndReason),
    /// Runs of a scenario are to end: with one entry key, or all.
    Exit {
        scenario: String,
        entry_key: Option<String>,
    },
    Fill(Filling),
}

/// The same as it is stored.
#[derive(Serialize, Deserialize)]
enum Stored {
    Event(String),
    Moved { audience: String, entered: bool, held_out: bool, time_us: i64 },
    Enter(Entrant),
    Go(u64),
    End(u64, EndReason),
    Exit { scenario: String, entry_key: Option<String> },
    Fill(Filling),
}

impl Happening {
    /// As it is held back.
    pub(crate) fn to_text(&self) -> Result<String, CampaignError> {
        json(&match self.clone() {
            Happening::Event(event) => Stored::Event(hex::encode(event.encode_to_vec())),
            Happening::Moved { audience, entered, held_out, time_us } => {
                Stored::Moved { audience: audience.to_string(), entered, held_out, time_us }
            }
            Happening::Enter(entrant) => Stored::Enter(entrant),
            Happening::Go(run) => Stored::Go(run),
            Happening::End(run, reason) => Stored::End(run, reason),
            Happening::Exit { scenario, entry_key } => Stored::Exit { scenario, entry_key },
            Happening::Fill(filling) => Stored::Fill(filling),
        })
    }

    /// What was held back.
    pub(crate) fn of_text(text: &str) -> Result<Self, CampaignError> {
        let corrupt = || CampaignError::Corrupt { what: "what was held back" };
        Ok(match serde_json::from_str(text).map_err(|_| corrupt())? {
            Stored::Event(event) => {
                let bytes = hex::decode(event).map_err(|_| corrupt())?;
                Happening::Event(Arc::new(ResolvedEvent::decode(&*bytes).map_err(|_| corrupt())?))
            }
            Stored::Moved { audience, entered, held_out, time_us } => {
                Happening::Moved { audience: audience.into(), entered, held_out, time_us }
            }
            Stored::Enter(entrant) => Happening::Enter(entrant),
            Stored::Go(run) => Happening::Go(run),
            Stored::End(run, reason) => Happening::End(run, reason),
            Stored::Exit { scenario, entry_key } => Happening::Exit { scenario, entry_key },
            Stored::Fill(filling) => Happening::Fill(filling),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_comes_back_as_it_was() {
        let event = ResolvedEvent { person: 3, name: "a \0 b".to_owned(), time_us: -5, ..ResolvedEvent::default() };
        let entrant = Entrant {
            scenario: "s".to_owned(),
            entry_key: "\"k\"".to_owned(),
            time_us: 4,
            event: Entered { name: "e".to_owned(), ..Entered::default() },
            is_met: false,
            is_called: true,
        };
        let filling = Filling {
            run: 1,
            step: "a".to_owned(),
            visit: 2,
            r#trait: "t".to_owned(),
            template: "{{ 1 }}".to_owned(),
            values: serde_json::json!({"event": {"n": 1.5}}),
            time_us: 7,
        };
        for happening in [
            Happening::Event(Arc::new(event)),
            Happening::Moved { audience: "a".into(), entered: true, held_out: false, time_us: 1 },
            Happening::Enter(entrant),
            Happening::Go(7),
            Happening::End(7, EndReason::ExitCall),
            Happening::Exit { scenario: "s".to_owned(), entry_key: None },
            Happening::Fill(filling),
        ] {
            let text = happening.to_text().expect("text");
            assert_eq!(Happening::of_text(&text).expect("as written"), happening);
        }
        assert!(Happening::of_text("{}").is_err());
    }
}
