//! Conditions of requests to plans: every fault at once, each with the path of what is wrong.

use chrono_tz::Tz;
use roaring::RoaringBitmap;
use segue_engine::condition::{BUCKETS, STEPS_MAX, Span, Window};
use segue_model::FieldViolation;
use segue_model::dimension::DIMENSIONS;
use segue_proto::query::v1 as pb;
use segue_proto::query::v1::condition::Node as PbNode;

use super::plan::{Edge, Kind, Measure, Node, Plan, Rows, Sequence, Step};
use crate::filter::fields::{Resolver, Vocabulary};
use crate::filter::predicate::{FilterParser, Predicate};
use crate::question::parse::{range, selector};
use crate::scan::Column;

/// Nodes of one condition; those of its filters are counted for each filter.
const NODES_MAX: usize = 100;
/// Levels of one condition.
const DEPTH_MAX: usize = 8;
/// Of a span.
const SPAN_COUNT_MAX: u32 = 100_000;
/// Of a set of persons, serialised.
const SET_BYTES_MAX: usize = 8 << 20;
/// Of a salt or label.
const TEXT_BYTES_MAX: usize = 1_024;

impl Plan {
    /// Reads a condition at `path`. Faults are added to `faults`; with any, the plan is of no use. Days and months are those of `zone`.
    pub(crate) fn parse(
        condition: &pb::Condition,
        path: &str,
        vocabulary: &Vocabulary,
        zone: Tz,
        faults: &mut Vec<FieldViolation>,
    ) -> Plan {
        let mut parser = Parser { vocabulary, faults, nodes: 0 };
        let root = parser.node(condition, path, 1);
        Plan { root, nodes: parser.nodes, zone }
    }
}

pub(super) struct Parser<'v, 'f> {
    pub(super) vocabulary: &'v Vocabulary,
    pub(super) faults: &'f mut Vec<FieldViolation>,
    nodes: usize,
}

impl Parser<'_, '_> {
    pub(super) fn fault(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.faults.push(FieldViolation::new(path, description));
    }

    fn node(&mut self, condition: &pb::Condition, path: &str, depth: usize) -> Node {
        let number = self.nodes;
        self.nodes += 1;
        // What a faulty plan holds is never evaluated.
        let nothing = Node { number, kind: Kind::Any(Vec::new()) };
        if number >= NODES_MAX {
            // Said once; the rest is not looked at.
            if number == NODES_MAX {
                self.fault(path, format!("the condition has more than {NODES_MAX} nodes"));
            }
            return nothing;
        }
        if depth > DEPTH_MAX {
            self.fault(path, format!("the condition is nested deeper than {DEPTH_MAX} levels"));
            return nothing;
        }
        let kind = match &condition.node {
            None => {
                self.fault(path, "set one of all, any, not, behavior, sequence, attribute, acquisition, random_bucket, persons, member_of and has_identifier");
                None
            }
            Some(PbNode::All(list)) => Some(Kind::All(self.list(list, &format!("{path}.all"), depth))),
            Some(PbNode::Any(list)) => Some(Kind::Any(self.list(list, &format!("{path}.any"), depth))),
            Some(PbNode::Not(inner)) => Some(Kind::Not(Box::new(self.node(inner, &format!("{path}.not"), depth + 1)))),
            Some(PbNode::Behavior(behavior)) => self.behavior(behavior, &format!("{path}.behavior")).map(|rows| Kind::Rows(Box::new(rows))),
            Some(PbNode::Sequence(sequence)) => {
                self.sequence(sequence, &format!("{path}.sequence")).map(|sequence| Kind::Sequence(Box::new(sequence)))
            }
            Some(PbNode::Attribute(attribute)) => {
                self.attribute(attribute, &format!("{path}.attribute")).map(|rows| Kind::Rows(Box::new(rows)))
            }
            Some(PbNode::Acquisition(acquisition)) => {
                self.acquisition(acquisition, &format!("{path}.acquisition")).map(|rows| Kind::Rows(Box::new(rows)))
            }
            Some(PbNode::RandomBucket(bucket)) => self.bucket(bucket, &format!("{path}.random_bucket")),
            Some(PbNode::Persons(set)) => self.persons(set, &format!("{path}.persons")),
            Some(PbNode::MemberOf(_)) => self.unknown_here(&format!("{path}.member_of"), "who belongs to an audience or a list"),
            Some(PbNode::HasIdentifier(_)) => self.unknown_here(&format!("{path}.has_identifier"), "who has an identifier"),
        };
        kind.map_or(nothing, |kind| Node { number, kind })
    }

    fn list(&mut self, list: &pb::ConditionList, path: &str, depth: usize) -> Vec<Node> {
        let conditions = list.conditions.iter().enumerate();
        let mut nodes: Vec<Node> =
            conditions.map(|(at, condition)| self.node(condition, &format!("{path}.conditions[{at}]"), depth + 1)).collect();
        nodes.sort_by_key(Node::cost);
        nodes
    }

    /// A node that somebody else has to put persons in place of.
    fn unknown_here(&mut self, path: &str, what: &str) -> Option<Kind> {
        self.fault(path, format!("{what} is not known to analytics: ask the audience service, which puts the persons in its place"));
        None
    }

    fn bucket(&mut self, bucket: &pb::RandomBucket, path: &str) -> Option<Kind> {
        let before = self.faults.len();
        if bucket.salt.is_empty() || bucket.salt.len() > TEXT_BYTES_MAX {
            self.fault(format!("{path}.salt"), format!("1 to {TEXT_BYTES_MAX} bytes: it decides which draw is meant"));
        }
        if bucket.from >= bucket.to || bucket.to > BUCKETS {
            self.fault(format!("{path}.to"), format!("must be above from and at most {BUCKETS}: buckets from ≤ bucket < to are meant"));
        }
        let kind = Kind::Bucket { salt: bucket.salt.clone(), from: bucket.from, to: bucket.to };
        (self.faults.len() == before).then_some(kind)
    }

    fn persons(&mut self, set: &pb::PersonSet, path: &str) -> Option<Kind> {
        if set.label.len() > TEXT_BYTES_MAX {
            self.fault(format!("{path}.label"), format!("at most {TEXT_BYTES_MAX} bytes"));
        }
        persons_of_bytes(&set.numbers, &format!("{path}.numbers"), self.faults).map(Kind::Persons)
    }

    pub(super) fn window(&mut self, window: Option<&pb::Window>, path: &str) -> Option<Window> {
        use pb::window::Window as PbWindow;
        match window.and_then(|window| window.window.as_ref()) {
            None => Some(Window::Ever),
            Some(PbWindow::Last(last)) => self.span(last, &format!("{path}.last")).map(Window::Last),
            Some(PbWindow::Absolute(absolute)) => {
                range(Some(absolute), &format!("{path}.absolute"), self.faults).map(|range| Window::Absolute(range.start, range.end))
            }
        }
    }

    fn span(&mut self, span: &pb::Span, path: &str) -> Option<Span> {
        const SECOND_US: i64 = 1_000_000;
        let unit_us = match pb::TimeUnit::try_from(span.unit) {
            Ok(pb::TimeUnit::Second) => Some(SECOND_US),
            Ok(pb::TimeUnit::Minute) => Some(60 * SECOND_US),
            Ok(pb::TimeUnit::Hour) => Some(3_600 * SECOND_US),
            Ok(pb::TimeUnit::Day) => Some(86_400 * SECOND_US),
            Ok(pb::TimeUnit::Week) => Some(7 * 86_400 * SECOND_US),
            Ok(pb::TimeUnit::Month) => None,
            Ok(pb::TimeUnit::Unspecified) | Err(_) => {
                self.fault(format!("{path}.unit"), "set one of SECOND, MINUTE, HOUR, DAY, WEEK and MONTH");
                return None;
            }
        };
        if !(1..=SPAN_COUNT_MAX).contains(&span.count) {
            self.fault(format!("{path}.count"), format!("must be between 1 and {SPAN_COUNT_MAX}"));
            return None;
        }
        Some(unit_us.map_or(Span::Months(span.count), |us| Span::Fixed(i64::from(span.count) * us)))
    }

    fn sequence(&mut self, sequence: &pb::EventSequence, path: &str) -> Option<Sequence> {
        let before = self.faults.len();
        if !(2..=STEPS_MAX).contains(&sequence.steps.len()) {
            self.fault(format!("{path}.steps"), format!("2 to {STEPS_MAX} steps"));
        }
        let within = match &sequence.within {
            Some(within) => self.span(within, &format!("{path}.within")),
            None => {
                self.fault(format!("{path}.within"), "required: how long after the first step the last may come");
                None
            }
        };
        let window = self.window(sequence.window.as_ref(), &format!("{path}.window"));
        let mut resolver = Resolver::new(self.vocabulary);
        let mut step = |on: &pb::EventSelector, path: &str| {
            let (events, _) = selector(Some(on), path, &mut resolver, self.faults);
            Step { events: events.names, filter: events.filter }
        };
        let steps = sequence.steps.iter().take(STEPS_MAX).enumerate().map(|(at, on)| step(on, &format!("{path}.steps[{at}]"))).collect();
        let not_between = sequence.not_between.as_ref().map(|on| step(on, &format!("{path}.not_between")));
        let (columns, item_columns) = resolver.finish();
        let (within, window) = (within?, window?);
        (self.faults.len() == before).then_some(Sequence { steps, not_between, within, window, columns, item_columns })
    }

    fn acquisition(&mut self, acquisition: &pb::Acquisition, path: &str) -> Option<Rows> {
        let before = self.faults.len();
        let last = match pb::Touch::try_from(acquisition.touch) {
            Ok(pb::Touch::Unspecified | pb::Touch::Last) => true,
            Ok(pb::Touch::First) => false,
            Err(_) => {
                self.fault(format!("{path}.touch"), "one of FIRST and LAST");
                true
            }
        };
        let window = self.window(acquisition.window.as_ref(), &format!("{path}.window"));
        let filter_path = format!("{path}.filter");
        if let Some(filter) = &acquisition.filter {
            let is_dimension = |comparison: &pb::Comparison| {
                let field = comparison.field.as_ref().and_then(|field| field.field.as_ref());
                matches!(field, None | Some(pb::field::Field::Dimension(_)))
                    .then_some(())
                    .ok_or((".field", "a touch is told apart by its dimensions alone: set `dimension`"))
            };
            check_comparisons(filter, &filter_path, &is_dimension, self.faults);
        }
        let mut resolver = Resolver::new(self.vocabulary);
        let passes = FilterParser::parse(acquisition.filter.as_ref(), &filter_path, &mut resolver, self.faults);
        let edge = Edge { last, of_items: false, present: Predicate::Always(true), passes, otherwise: false };
        let rows = Rows {
            events: None,
            filter: Predicate::Always(true),
            items: None,
            window: window?,
            columns: resolver.columns,
            having: touch_dimensions().map(Column::Dimension).collect(),
            item_columns: resolver.items,
            measure: Measure::Edge(edge),
        };
        (self.faults.len() == before).then_some(rows)
    }
}

/// Codes of the dimensions of which a touch carries at least one.
fn touch_dimensions() -> impl Iterator<Item = u32> {
    let of_touch = DIMENSIONS.iter().filter(|dimension| dimension.attribution_dependent || dimension.name.starts_with("utm_"));
    of_touch.map(|dimension| dimension.code)
}

/// Calls `check` with each comparison of a filter; what it says is wrong is a fault below the comparison's path.
pub(super) fn check_comparisons(
    filter: &pb::Filter,
    path: &str,
    check: &impl Fn(&pb::Comparison) -> Result<(), (&'static str, &'static str)>,
    faults: &mut Vec<FieldViolation>,
) {
    use pb::filter::Node as FilterNode;
    let mut list = |filters: &[pb::Filter], path: &str| {
        for (at, filter) in filters.iter().enumerate() {
            check_comparisons(filter, &format!("{path}.filters[{at}]"), check, faults);
        }
    };
    match &filter.node {
        None => {}
        Some(FilterNode::All(all)) => list(&all.filters, &format!("{path}.all")),
        Some(FilterNode::Any(any)) => list(&any.filters, &format!("{path}.any")),
        Some(FilterNode::Not(inner)) => check_comparisons(inner, &format!("{path}.not"), check, faults),
        Some(FilterNode::Compare(comparison)) => {
            if let Err((field, description)) = check(comparison) {
                faults.push(FieldViolation::new(format!("{path}.compare{field}"), description));
            }
        }
    }
}

/// Reads a set of persons that stands at `path`.
pub(crate) fn persons_of_bytes(bytes: &[u8], path: &str, faults: &mut Vec<FieldViolation>) -> Option<RoaringBitmap> {
    if bytes.len() > SET_BYTES_MAX {
        faults.push(FieldViolation::new(path, format!("at most {SET_BYTES_MAX} bytes")));
        return None;
    }
    let mut rest = bytes;
    match RoaringBitmap::deserialize_from(&mut rest) {
        Ok(persons) if rest.is_empty() => Some(persons),
        Ok(_) | Err(_) => {
            faults.push(FieldViolation::new(path, "not a Roaring bitmap in its portable serialisation"));
            None
        }
    }
}
