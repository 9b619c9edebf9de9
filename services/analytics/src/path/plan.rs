//! A request, parsed: everything checked, defaults filled in, names resolved to columns.

use roaring::RoaringBitmap;
use segue_engine::path::node::{NodeRule, NodeRules, Outcome, Pattern};
use segue_engine::path::{Counting, NODES_MAX_RANGE, Rules};
use segue_model::FieldViolation;
use segue_proto::analytics::v1 as pb;
use segue_proto::query::v1::{Field, field};

use super::nodes::Nodes;
use crate::condition::Among;
use crate::filter::fields::{ItemColumn, Place, Resolver};
use crate::filter::predicate::Predicate;
use crate::pass::{Selector, Within};
use crate::question::parse;
use crate::question::{Context, QueryError};
use crate::scan::Column;

/// Rules for nodes in one question.
const RULES_MAX: usize = 50;
/// Characters of a pattern and of a node's name.
const TEXT_CHARACTERS_MAX: usize = 1_024;
const NODES_DEFAULT: u32 = 5;
const TOP_DEFAULT: u32 = 10;
const TOP_MAX: u32 = 100;
const SECOND_US: i64 = 1_000_000;
const SESSION_GAP_DEFAULT_US: i64 = 30 * 60 * SECOND_US;
/// From the resolution of time (of a gap of nothing, only events of one moment would be a session) to a day.
const SESSION_GAP_BOUNDS_US: (i64, i64) = (1, 86_400 * SECOND_US);

/// The selector's filter is the only one.
pub(super) static NO_FILTER: Predicate = Predicate::Always(true);

/// A question about paths, ready to be asked.
#[derive(Debug)]
pub(super) struct Plan {
    /// Which events.
    pub(super) selector: Selector,
    /// Columns that are read.
    pub(super) columns: Vec<Column>,
    /// Fields of items that the filter reads.
    pub(super) items: Vec<ItemColumn>,
    /// Where the raw value of a node is.
    pub(super) place: Place,
    /// That place, if it is a column.
    pub(super) payload: Vec<usize>,
    /// What becomes of raw values.
    pub(super) names: NodeRules,
    /// Nodes shown per step.
    pub(super) top: usize,
    /// Only these persons.
    pub(super) among: Option<RoaringBitmap>,
    /// What the answer says about all this.
    pub(super) resolved: pb::QueryPathRequest,
    /// Without the anchors: their codes are not known yet.
    rules: Rules,
}

impl Plan {
    /// Checks and resolves a request, which will be asked about some persons. All faults are reported at once.
    pub(super) fn new(context: &Context<'_>, request: &pb::QueryPathRequest, within: Within<'_>) -> Result<Plan, QueryError> {
        let mut faults = Vec::new();
        let vocabulary = context.vocabulary();
        let mut resolver = Resolver::new(&vocabulary);
        let mut resolved = request.clone();
        let range = parse::range(request.range.as_ref(), "range", &mut faults);
        let (events, on) = parse::selector(request.on.as_ref(), "on", &mut resolver, &mut faults);
        resolved.on = Some(on);
        let path = "session_gap";
        let gap_us = parse::duration_us(request.session_gap.as_ref(), SESSION_GAP_DEFAULT_US, SESSION_GAP_BOUNDS_US, path, &mut faults);
        resolved.session_gap = Some(parse::duration(gap_us));
        let by_event = || Field { field: Some(field::Field::Dimension("event".to_owned())) };
        let field = resolved.node.get_or_insert_with(by_event);
        let place = parse::event_field(Some(field), "node", &mut resolver, &mut faults).map(|field| field.place);
        let names = NodeRules {
            strip_query: request.strip_query,
            strip_trailing_slash: request.strip_trailing_slash,
            rules: node_rules(&request.rules, &mut faults),
        };
        for (path, name) in [("start", &request.start), ("end", &request.end)] {
            if name.chars().count() > TEXT_CHARACTERS_MAX {
                faults.push(FieldViolation::new(path, format!("at most {TEXT_CHARACTERS_MAX} characters")));
            }
        }
        if resolved.nodes_max == 0 {
            resolved.nodes_max = NODES_DEFAULT;
        }
        if !NODES_MAX_RANGE.contains(&resolved.nodes_max) {
            let (least, most) = (NODES_MAX_RANGE.start(), NODES_MAX_RANGE.end());
            faults.push(FieldViolation::new("nodes_max", format!("between {least} and {most}")));
        }
        let counting = counting(&mut resolved, &mut faults);
        if resolved.top == 0 {
            resolved.top = TOP_DEFAULT;
        }
        if resolved.top > TOP_MAX {
            faults.push(FieldViolation::new("top", format!("at most {TOP_MAX}")));
        }
        let among = Among::parse(request.among.as_ref(), &vocabulary, context.zone, &mut faults);
        let (Some(range), Some(place), true) = (range, place, faults.is_empty()) else { return Err(QueryError::Invalid(faults)) };
        let payload = match place {
            Place::Column(at) => vec![at],
            Place::EventName | Place::Item(_) | Place::Absent => Vec::new(),
        };
        let Resolver { columns, items, .. } = resolver;
        Ok(Plan {
            selector: Selector { events: events.names, filter: events.filter, range },
            columns,
            items,
            place,
            payload,
            names,
            top: resolved.top as usize,
            among: among.persons(context, within)?,
            rules: Rules {
                session_gap_us: gap_us.unsigned_abs(),
                nodes_max: resolved.nodes_max,
                start: None,
                end: None,
                keep_repeats: request.keep_repeats,
                counting,
            },
            resolved,
        })
    }

    /// The last step of the question.
    pub(super) fn columns(&self) -> u32 {
        self.rules_of_sum().columns()
    }

    /// The rules, with anchors that stand for themselves: for whoever has no paths to cut.
    pub(super) fn rules_of_sum(&self) -> Rules {
        let is_set = |name: &str| (!name.is_empty()).then_some(0);
        Rules { start: is_set(&self.resolved.start), end: is_set(&self.resolved.end), ..self.rules }
    }

    /// The rules, with anchors by their codes.
    pub(super) fn rules(&self, nodes: &Nodes<'_>) -> Rules {
        let anchor = |name: &str| (!name.is_empty()).then(|| nodes.anchor(name));
        Rules { start: anchor(&self.resolved.start), end: anchor(&self.resolved.end), ..self.rules }
    }
}

fn node_rules(rules: &[pb::NodeRule], faults: &mut Vec<FieldViolation>) -> Vec<NodeRule> {
    if rules.len() > RULES_MAX {
        faults.push(FieldViolation::new("rules", format!("at most {RULES_MAX}")));
        return Vec::new();
    }
    let mut parsed = Vec::with_capacity(rules.len());
    for (at, rule) in rules.iter().enumerate() {
        let is_name = |text: &str| (1..=TEXT_CHARACTERS_MAX).contains(&text.chars().count());
        if !is_name(&rule.pattern) {
            let description = format!("1 to {TEXT_CHARACTERS_MAX} characters; `*` alone stands for every value");
            faults.push(FieldViolation::new(format!("rules[{at}].pattern"), description));
        }
        use pb::node_rule::Then;
        let outcome = match &rule.then {
            None | Some(Then::Hide(false)) => Outcome::Group,
            Some(Then::Hide(true)) => Outcome::Hide,
            Some(Then::Name(name)) => {
                if !is_name(name) {
                    let description = format!("1 to {TEXT_CHARACTERS_MAX} characters; leave it out to call the node as the pattern");
                    faults.push(FieldViolation::new(format!("rules[{at}].name"), description));
                }
                Outcome::Name(name.clone())
            }
        };
        parsed.push(NodeRule { pattern: Pattern::new(rule.pattern.as_str()), outcome });
    }
    parsed
}

fn counting(resolved: &mut pb::QueryPathRequest, faults: &mut Vec<FieldViolation>) -> Counting {
    match pb::PathCounting::try_from(resolved.counting) {
        Ok(pb::PathCounting::Unspecified | pb::PathCounting::Sessions) => {
            resolved.set_counting(pb::PathCounting::Sessions);
            Counting::Sessions
        }
        Ok(pb::PathCounting::Persons) => Counting::Profiles,
        Err(_) => {
            faults.push(FieldViolation::new("counting", "not a way of counting of this version"));
            Counting::Sessions
        }
    }
}
