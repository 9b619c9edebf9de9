//! A request, checked.

use std::collections::HashMap;
use std::sync::Arc;

use chrono_tz::Tz;
use prost::Message;
use roaring::RoaringBitmap;
use segue_model::FieldViolation;
use segue_proto::analytics::v1 as pb;
use segue_proto::analytics::v1::evaluation_item::Whom;
use segue_proto::query::v1::Condition;

use crate::condition::{Ask, EdgesAsk, LATEST_US, LeafKeys, Plan, persons_of_bytes};
use crate::filter::fields::Vocabulary;
use crate::question::{Context, QueryError, parse};

const ITEMS_MAX: usize = 1_000;
/// Faults that are told of: an answer's head has no room for thousands.
const FAULTS_MAX: usize = 30;

/// A request, checked.
pub(super) struct Asked {
    pub(super) now_us: i64,
    pub(super) conditions: Vec<Parsed>,
    pub(super) items: Vec<Item>,
}

/// A condition that one or several items have.
pub(super) struct Parsed {
    plan: Plan,
    keys: LeafKeys,
}

/// A condition of the request, and about whom it is asked.
pub(super) struct Item {
    /// Which of the conditions.
    condition: usize,
    now_us: i64,
    /// Known survivors; `None` is everybody.
    persons: Option<RoaringBitmap>,
    /// The survivors, known or not, where they are others than those that the request names.
    pub(super) survivors: Option<RoaringBitmap>,
    pub(super) edges: Option<Wish>,
}

/// Which edges are asked for.
pub(super) struct Wish {
    after_us: i64,
    until_us: i64,
    of_everyone: bool,
}

impl Item {
    pub(super) fn ask<'a>(&'a self, conditions: &'a [Parsed]) -> Ask<'a> {
        let Parsed { plan, keys } = &conditions[self.condition];
        Ask { plan, keys, now_us: self.now_us, persons: self.persons.as_ref() }
    }

    pub(super) fn edges_ask<'a>(&'a self, conditions: &'a [Parsed]) -> Option<EdgesAsk<'a>> {
        let Wish { after_us, until_us, of_everyone } = self.edges.as_ref()?;
        let Parsed { plan, keys } = &conditions[self.condition];
        let persons = self.persons.as_ref().filter(|_| !of_everyone);
        Some(EdgesAsk { plan, keys, after_us: *after_us, until_us: *until_us, persons })
    }
}

/// Conditions that were parsed, by their bytes and zone.
struct Conditions<'c> {
    context: &'c Context<'c>,
    vocabulary: Vocabulary,
    /// Who is known.
    everybody: Arc<RoaringBitmap>,
    parsed_before: HashMap<(Vec<u8>, Tz), usize>,
    parsed: Vec<Parsed>,
}

impl Conditions<'_> {
    fn place(&mut self, condition: &Condition, path: &str, zone: Tz, faults: &mut Vec<FieldViolation>) -> Option<usize> {
        let key = (condition.encode_to_vec(), zone);
        if let Some(place) = self.parsed_before.get(&key) {
            return Some(*place);
        }
        let before = faults.len();
        let mut plan = Plan::parse(condition, path, &self.vocabulary, zone, faults);
        if faults.len() > before {
            return None;
        }
        plan.settle(self.context.snapshot);
        self.parsed.push(Parsed { plan, keys: LeafKeys::of(condition) });
        self.parsed_before.insert(key, self.parsed.len() - 1);
        Some(self.parsed.len() - 1)
    }
}

impl Asked {
    pub(super) fn parse(context: &Context<'_>, request: &pb::EvaluateConditionsRequest) -> Result<Asked, QueryError> {
        let watermark_us = context.known_until_us()?;
        // Whoever names a moment knows that the snapshot holds everything before it: the watermark may still lag behind.
        let now_us = if request.as_of_us == 0 { watermark_us } else { request.as_of_us };
        if request.items.len() > ITEMS_MAX {
            return Err(QueryError::invalid("items", format!("at most {ITEMS_MAX}")));
        }
        let mut faults = Vec::new();
        let mut conditions = Conditions {
            context,
            vocabulary: context.vocabulary(),
            everybody: context.snapshot.persons()?,
            parsed_before: HashMap::new(),
            parsed: Vec::new(),
        };
        let mut items = Vec::with_capacity(request.items.len());
        for (at, item) in request.items.iter().enumerate() {
            items.extend(parse_item(&mut conditions, item, &format!("items[{at}]"), now_us, &mut faults));
            if faults.len() >= FAULTS_MAX {
                faults.truncate(FAULTS_MAX);
                break;
            }
        }
        if faults.is_empty() { Ok(Asked { now_us, conditions: conditions.parsed, items }) } else { Err(QueryError::Invalid(faults)) }
    }
}

/// An item at `path`; `now_us` is that of the answer.
fn parse_item(
    conditions: &mut Conditions<'_>,
    item: &pb::EvaluationItem,
    path: &str,
    now_us: i64,
    faults: &mut Vec<FieldViolation>,
) -> Option<Item> {
    let snapshot = conditions.context.snapshot;
    let zone = parse::zone(&item.time_zone, conditions.context.zone, &format!("{path}.time_zone"), faults);
    let condition = match &item.condition {
        Some(condition) => conditions.place(condition, &format!("{path}.condition"), zone, faults),
        None => {
            faults.push(FieldViolation::new(format!("{path}.condition"), "required"));
            None
        }
    };
    let named = match &item.whom {
        Some(Whom::Persons(bytes)) if bytes.is_empty() => Some(RoaringBitmap::new()),
        Some(Whom::Persons(bytes)) => Some(persons_of_bytes(bytes, &format!("{path}.persons"), faults)?),
        Some(Whom::Everyone(true)) => None,
        Some(Whom::Everyone(false)) | None => {
            faults.push(FieldViolation::new(format!("{path}.persons"), "set the persons, or `everyone` to true"));
            None
        }
    };
    if item.as_of_us > now_us {
        faults.push(FieldViolation::new(format!("{path}.as_of_us"), "is after that of the answer"));
    }
    let now_us = if item.as_of_us == 0 { now_us } else { item.as_of_us };
    let (persons, survivors) = match named {
        None => (None, None),
        Some(named) => {
            let moved = !snapshot.are_survivors(&named);
            let mut survivors = named;
            snapshot.survivors(&mut survivors);
            (Some(conditions.everybody.as_ref() & &survivors), moved.then_some(survivors))
        }
    };
    if item.edges_until_us > LATEST_US {
        faults.push(FieldViolation::new(format!("{path}.edges_until_us"), "is after the year 9999"));
    }
    let edges = (item.edges_until_us != 0).then_some(Wish {
        after_us: if item.edges_after_us == 0 { now_us } else { item.edges_after_us },
        until_us: item.edges_until_us,
        of_everyone: item.edges_of_everyone,
    });
    Some(Item { condition: condition?, now_us, persons, survivors, edges })
}
