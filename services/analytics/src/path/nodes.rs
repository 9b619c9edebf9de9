//! From the values of events to the codes of nodes: the same in every batch and thread of a question.
//!
//! Where the node is the event, all names are known beforehand and a batch has one code. Otherwise codes are given out as
//! names are met; a value of a dictionary is looked up once per batch, and only if a row has it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::Array;
use chrono::{DateTime, SecondsFormat};
use parking_lot::Mutex;
use segue_engine::path::node::NodeRules;
use segue_model::decimal::format_e4;

use super::plan::Plan;
use crate::filter::cells::{At, BatchCells, Cells, TextCells};
use crate::filter::fields::Place;
use crate::question::QueryError;
use crate::scan::Snapshot;

/// Different nodes of one question at most.
pub(super) const NODES_MAX: u32 = 100_000;
/// Values whose nodes are remembered; those beyond are named anew in every batch.
const REMEMBERED_MAX: usize = 100_000;

/// Nodes of one question.
#[derive(Debug)]
pub(super) struct Nodes<'p> {
    rules: &'p NodeRules,
    place: Place,
    /// Codes are below this; it stands for *hidden*.
    most: u32,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    names: Vec<Arc<str>>,
    codes: HashMap<Arc<str>, u32>,
    /// What values came out as, hidden ones too.
    of_value: HashMap<Box<str>, u32>,
}

impl Known {
    /// The code of a name; `None` if there are too many.
    fn code(&mut self, name: &str, most: u32) -> Option<u32> {
        if let Some(code) = self.codes.get(name) {
            return Some(*code);
        }
        let code = u32::try_from(self.names.len()).ok().filter(|code| *code < most)?;
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.codes.insert(name, code);
        Some(code)
    }
}

impl<'p> Nodes<'p> {
    /// Nothing met yet; of events, everything is known.
    pub(super) fn new(snapshot: &Snapshot, plan: &'p Plan) -> Nodes<'p> {
        let mut nodes = Nodes { rules: &plan.names, place: plan.place, most: NODES_MAX, known: Mutex::default() };
        if plan.place == Place::EventName {
            let events = snapshot.event_names();
            let selected = |event: &str| plan.selector.events.as_ref().is_none_or(|names| names.iter().any(|name| name == event));
            let names: BTreeSet<Cow<'_, str>> =
                events.iter().filter(|event| selected(event)).filter_map(|event| plan.names.name(event)).collect();
            let known = nodes.known.get_mut();
            for name in names.iter().take(NODES_MAX as usize) {
                known.code(name, NODES_MAX);
            }
            nodes.most = known.names.len() as u32;
        }
        nodes
    }

    /// Codes of visible nodes are below this, and it is that of hidden events.
    pub(super) fn most(&self) -> u32 {
        self.most
    }

    /// Names by code, of those met so far.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.known.lock().names.clone()
    }

    /// The code of a name, if it was met.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.known.lock().codes.get(name).copied()
    }

    /// The code of an anchor. One that cannot occur has that of hidden events, which anchors never meet.
    pub(super) fn anchor(&self, name: &str) -> u32 {
        self.code_of_name(name).unwrap_or(self.most)
    }

    /// The code of a name that may not have been met yet; none if it cannot occur.
    pub(super) fn code_of_name(&self, name: &str) -> Option<u32> {
        self.known.lock().code(name, self.most)
    }

    /// The code of one value.
    fn code(&self, value: &str) -> Result<u32, QueryError> {
        if let Some(code) = self.known.lock().of_value.get(value) {
            return Ok(*code);
        }
        // Patterns are tried outside the lock.
        let name = self.rules.name(value);
        let mut known = self.known.lock();
        let code = match name {
            None => self.most,
            Some(name) => known.code(&name, self.most).ok_or(QueryError::TooManyNodes { nodes_max: NODES_MAX })?,
        };
        if known.of_value.len() < REMEMBERED_MAX {
            known.of_value.insert(value.into(), code);
        }
        Ok(code)
    }

    /// The code of all rows of a batch, where that is known without looking at them.
    pub(super) fn code_of_batch(&self, batch: &BatchCells<'_>) -> Result<Option<u32>, QueryError> {
        match self.place {
            Place::EventName => self.code(batch.event).map(Some),
            Place::Column(_) => Ok(None),
            Place::Item(_) | Place::Absent => Ok(Some(self.most)),
        }
    }

    /// The codes of these rows of a batch, where [`Nodes::code_of_batch`] knows none.
    pub(super) fn codes(&self, batch: &BatchCells<'_>, rows: &[u32], out: &mut Vec<u32>) -> Result<(), QueryError> {
        let cells = match self.place {
            Place::Column(at) => batch.columns.get(at).unwrap_or(&Cells::Missing),
            Place::EventName | Place::Item(_) | Place::Absent => &Cells::Missing,
        };
        let start = out.len();
        out.resize(start + rows.len(), self.most);
        let out = &mut out[start..];
        match cells {
            Cells::Text(text) => self.codes_of_text(text, rows, out),
            Cells::Int(_) => self.codes_of_numbers(cells, rows, out, |value| value.cast_signed().to_string()),
            Cells::Bool(_) => self.codes_of_numbers(cells, rows, out, |value| (value != 0).to_string()),
            Cells::Decimal(_) => self.codes_of_numbers(cells, rows, out, |value| format_e4(value.cast_signed())),
            Cells::Double(_) => self.codes_of_numbers(cells, rows, out, |value| f64::from_bits(value as u64).to_string()),
            Cells::Time(_) => self.codes_of_numbers(cells, rows, out, |value| show_time(value.cast_signed())),
            Cells::Missing | Cells::Opaque(_) | Cells::Number(_) | Cells::Small(_) => Ok(()),
        }
    }

    fn codes_of_text(&self, text: &TextCells, rows: &[u32], out: &mut [u32]) -> Result<(), QueryError> {
        // Dictionaries may be much larger than the rows at hand: only values that occur are looked up.
        const UNKNOWN: u32 = u32::MAX;
        let mut of_value = vec![UNKNOWN; text.values.len() + 1];
        for (row, out) in rows.iter().zip(out) {
            let value = text.codes[*row as usize] as usize;
            let known = &mut of_value[value];
            if *known == UNKNOWN {
                let is_there = value < text.values.len() && text.values.is_valid(value);
                *known = if is_there { self.code(text.values.value(value))? } else { self.most };
            }
            *out = *known;
        }
        Ok(())
    }

    fn codes_of_numbers(&self, cells: &Cells, rows: &[u32], out: &mut [u32], show: impl Fn(u128) -> String) -> Result<(), QueryError> {
        let mut of_value: HashMap<u128, u32> = HashMap::new();
        let mut failed = None;
        cells.each_key(At::These(rows), |at, value| {
            let code = match of_value.get(&value) {
                Some(code) => *code,
                None => {
                    let code = self.code(&show(value)).unwrap_or_else(|error| {
                        failed.get_or_insert(error);
                        self.most
                    });
                    of_value.insert(value, code);
                    code
                }
            };
            out[at] = code;
        });
        failed.map_or(Ok(()), Err)
    }
}

/// As RFC 3339 in UTC, with as many digits as there are.
fn show_time(us: i128) -> String {
    let time = i64::try_from(us).ok().and_then(DateTime::from_timestamp_micros);
    time.map_or_else(|| us.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
