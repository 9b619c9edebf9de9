//! `ExplainCondition`: why a condition is true or false of one person, node by node.
//!
//! Whether a node is met is what `crate::condition` says of it and this person alone, so an explanation cannot disagree with a selection.
//! What a leaf looked at is read by the code that evaluates it (`condition::account`), and when it may change is its first edge.

use roaring::RoaringBitmap;
use segue_model::FieldViolation;
use segue_proto::analytics::v1 as pb;
use segue_proto::query::v1::Condition;
use segue_proto::query::v1::condition::Node;

use crate::condition::{self, Account, LATEST_US, Plan};
use crate::persons::{Asked, all_right};
use crate::question::time::timestamp;
use crate::question::{Context, QueryError};
use crate::timeline;

const EVENTS_DEFAULT: u32 = 10;
const EVENTS_MAX: u32 = 100;
/// The first moment of the year 1: windows that begin before it have no begin that could be said.
const EARLIEST_US: i64 = -62_135_596_800_000_000;

/// Why a condition is true or false of a person.
pub fn query(context: &Context<'_>, request: &pb::ExplainConditionRequest) -> Result<pb::ExplainConditionResponse, QueryError> {
    let mut faults = Vec::new();
    if request.person == 0 {
        faults.push(FieldViolation::new("person", "required: the number of a person, see IdentityService.GetPerson"));
    }
    if request.events_max > EVENTS_MAX {
        faults.push(FieldViolation::new("events_max", format!("at most {EVENTS_MAX}; 0 is {EVENTS_DEFAULT}")));
    }
    let asked = Asked::parse(context, request.as_of.as_ref(), &request.time_zone, &[], &mut faults)?;
    let plan = asked.plan(context, request.condition.as_ref(), &mut faults);
    let plan = all_right(plan, faults)?;
    let person = context.snapshot.survivor(request.person);
    let evaluated = condition::count(context, &plan, asked.now_us, Some(&RoaringBitmap::from([person])))?;
    let events_max = if request.events_max == 0 { EVENTS_DEFAULT } else { request.events_max };
    let mut explainer =
        Explainer { context, plan: &plan, met: &evaluated.node_counts, of: (person, asked.now_us), most: events_max as usize, next: 0 };
    let explanation = request.condition.as_ref().map(|condition| explainer.node(condition, "condition")).transpose()?;
    Ok(pb::ExplainConditionResponse {
        explanation,
        person,
        known: context.snapshot.persons()?.contains(person),
        as_of: Some(timestamp(asked.now_us)),
        watermark: Some(timestamp(context.snapshot.watermark_us())),
    })
}

/// Walks a condition as its parser did.
struct Explainer<'e> {
    context: &'e Context<'e>,
    plan: &'e Plan,
    /// Per node, 1 if the person meets it.
    met: &'e [u64],
    /// Whom it is about, and *now*.
    of: (u32, i64),
    /// Events per node.
    most: usize,
    /// The number of the next node.
    next: usize,
}

impl Explainer<'_> {
    fn node(&mut self, condition: &Condition, path: &str) -> Result<pb::ConditionExplanation, QueryError> {
        let number = self.next;
        self.next += 1;
        let met = self.met.get(number).is_some_and(|count| *count > 0);
        let (name, operands): (_, &[Condition]) = match &condition.node {
            Some(Node::All(list)) => ("all", &list.conditions),
            Some(Node::Any(list)) => ("any", &list.conditions),
            Some(Node::Not(inner)) => ("not", std::slice::from_ref(&**inner)),
            Some(Node::Behavior(_)) => ("behavior", &[]),
            Some(Node::Sequence(_)) => ("sequence", &[]),
            Some(Node::Attribute(_)) => ("attribute", &[]),
            Some(Node::Acquisition(_)) => ("acquisition", &[]),
            Some(Node::RandomBucket(_)) => ("random_bucket", &[]),
            Some(Node::Persons(_)) => ("persons", &[]),
            Some(Node::MemberOf(_)) => ("member_of", &[]),
            Some(Node::HasIdentifier(_)) => ("has_identifier", &[]),
            // Conditions with such nodes are refused.
            None => ("", &[]),
        };
        let path = format!("{path}.{name}");
        let is_inner = matches!(name, "all" | "any" | "not");
        if !is_inner {
            return self.leaf(number, path, met);
        }
        let mut explained = Vec::with_capacity(operands.len());
        for (at, operand) in operands.iter().enumerate() {
            let below = if name == "not" { path.clone() } else { format!("{path}.conditions[{at}]") };
            explained.push(self.node(operand, &below)?);
        }
        let next_change = explained.iter().filter_map(|operand| operand.next_change).min_by_key(|at| (at.seconds, at.nanos));
        Ok(pb::ConditionExplanation { path, met, operands: explained, next_change, ..pb::ConditionExplanation::default() })
    }

    fn leaf(&self, number: usize, path: String, met: bool) -> Result<pb::ConditionExplanation, QueryError> {
        let Account { value, value_time_us, events, events_total, times } =
            condition::account(self.context, self.plan, number, self.of, self.most)?;
        let next_change = condition::next_change(self.context, self.plan, number, self.of)?;
        let bound = |us: i64| (EARLIEST_US..=LATEST_US).contains(&us).then(|| timestamp(us));
        Ok(pb::ConditionExplanation {
            path,
            met,
            operands: Vec::new(),
            value,
            value_time: value_time_us.map(timestamp),
            events: timeline::read(self.context, self.of.0, &events)?,
            events_total,
            window_start: times.and_then(|(from, _)| bound(from)),
            window_end: times.and_then(|(_, to)| bound(to)),
            next_change: next_change.map(timestamp),
        })
    }
}
