//! Days and months of which zone are meant. A condition is evaluated in one zone as a whole; an audience whose days or months are those of
//! another zone cannot be put in its place without changing who belongs to it, so that is refused.

use std::collections::BTreeSet;

use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{BehaviorAggregate, Condition, Span, TimeUnit, Window, window};

use super::graph::{Graph, reference};
use crate::error::Kind;

/// Why an audience that can be expanded does not mean what it refers to, if so. Zones that are not named are `own_zone`, the tenant's.
pub(crate) fn fault(graph: &Graph, own_zone: &str, kind: Kind, id: &str) -> Option<String> {
    let audience = graph.find(kind, id).filter(|_| kind == Kind::Audience)?;
    let of = |zone: &str| if zone.is_empty() { own_zone.to_owned() } else { zone.to_owned() };
    let meant = of(&audience.time_zone);
    // What is left to look at, with the zone that it is meant in and the audience that says so.
    let mut next = vec![(&audience.condition, meant.clone(), id)];
    let mut seen = BTreeSet::new();
    while let Some((condition, zone, said_by)) = next.pop() {
        match &condition.node {
            Some(Node::All(list) | Node::Any(list)) => next.extend(list.conditions.iter().map(|inner| (inner, zone.clone(), said_by))),
            Some(Node::Not(inner)) => next.push((inner, zone, said_by)),
            Some(Node::MemberOf(membership)) => {
                let Some((kind, id)) = membership.of.as_ref().map(reference) else { continue };
                let Some(definition) = graph.find(kind, id) else { continue };
                let (zone, said_by) = if kind == Kind::Audience { (of(&definition.time_zone), id) } else { (zone, said_by) };
                if seen.insert((kind, id, zone.clone())) {
                    next.push((&definition.condition, zone, said_by));
                }
            }
            _ if zone != meant && depends_on_zone(condition) => {
                return Some(format!(
                    "the days and months of the audience `{said_by}` are those of {zone}, these would be those of {meant}: \
                     set the same time_zone, or refer to a segment instead"
                ));
            }
            _ => {}
        }
    }
    None
}

/// Whether a leaf counts days or months of the calendar.
fn depends_on_zone(leaf: &Condition) -> bool {
    match &leaf.node {
        Some(Node::Behavior(behavior)) => behavior.aggregate() == BehaviorAggregate::DistinctDays || of_months(behavior.window.as_ref()),
        Some(Node::Sequence(sequence)) => sequence.within.as_ref().is_some_and(is_months) || of_months(sequence.window.as_ref()),
        Some(Node::Acquisition(acquisition)) => of_months(acquisition.window.as_ref()),
        Some(
            Node::All(_)
            | Node::Any(_)
            | Node::Not(_)
            | Node::Attribute(_)
            | Node::RandomBucket(_)
            | Node::Persons(_)
            | Node::MemberOf(_)
            | Node::HasIdentifier(_),
        )
        | None => false,
    }
}

fn of_months(window: Option<&Window>) -> bool {
    matches!(window.and_then(|window| window.window.as_ref()), Some(window::Window::Last(last)) if is_months(last))
}

fn is_months(span: &Span) -> bool {
    span.unit() == TimeUnit::Month
}
