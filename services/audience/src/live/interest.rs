//! Which events may change whether somebody meets a condition. An event that is of no interest to it changes nothing, unless the person
//! was not known before.

use std::collections::BTreeSet;

use segue_model::catalogue::canonical_event;
use segue_model::dimension::DIMENSIONS;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, EventSelector, membership};

/// What a condition looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Canonical names of events.
    pub(crate) names: BTreeSet<String>,
    /// Every event, whatever its name.
    pub(crate) every_event: bool,
    /// Events that carry a dimension of acquisition.
    pub(crate) touches: bool,
    /// Traits of the person.
    pub(crate) traits: BTreeSet<String>,
    /// Static lists.
    pub(crate) lists: BTreeSet<String>,
}

impl Interest {
    /// Of a condition in which segments and audiences have been put in place.
    pub(crate) fn of(condition: &Condition) -> Self {
        let mut interest = Self::default();
        interest.add(condition);
        interest
    }

    fn add(&mut self, condition: &Condition) {
        match &condition.node {
            None | Some(Node::RandomBucket(_) | Node::Persons(_)) => {}
            Some(Node::All(list) | Node::Any(list)) => list.conditions.iter().for_each(|condition| self.add(condition)),
            Some(Node::Not(condition)) => self.add(condition),
            Some(Node::Behavior(behavior)) => self.select(behavior.on.as_ref()),
            Some(Node::Sequence(sequence)) => {
                sequence.steps.iter().for_each(|step| self.select(Some(step)));
                if sequence.not_between.is_some() {
                    self.select(sequence.not_between.as_ref());
                }
            }
            Some(Node::Attribute(attribute)) => {
                self.traits.insert(attribute.r#trait.clone());
            }
            Some(Node::Acquisition(_)) => self.touches = true,
            // Identifiers are linked by events, of whatever name.
            Some(Node::HasIdentifier(_)) => self.every_event = true,
            Some(Node::MemberOf(of)) => match &of.of {
                Some(membership::Of::List(list)) => {
                    self.lists.insert(list.clone());
                }
                Some(membership::Of::Segment(_) | membership::Of::Audience(_)) | None => {}
            },
        }
    }

    fn select(&mut self, on: Option<&EventSelector>) {
        match on.map(|on| on.events.as_slice()) {
            None | Some([]) => self.every_event = true,
            Some(names) => self.names.extend(names.iter().map(|name| canonical_event(name).unwrap_or(name).to_owned())),
        }
    }
}

/// Whether a dimension with this code makes an event a touch (see `Acquisition`).
pub(crate) fn is_of_touch(code: u32) -> bool {
    let found = DIMENSIONS.iter().find(|dimension| dimension.code == code);
    found.is_some_and(|dimension| dimension.attribution_dependent || dimension.name.starts_with("utm_"))
}

#[cfg(test)]
mod tests {
    use segue_proto::query::v1::{Attribute, Behavior, ConditionList, Membership};

    use super::*;

    fn node(node: Node) -> Condition {
        Condition { node: Some(node) }
    }

    #[test]
    fn every_leaf_says_what_it_looks_at() {
        let on = |names: &[&str]| Some(EventSelector { events: names.iter().map(|name| (*name).to_owned()).collect(), filter: None });
        let did = |names: &[&str]| node(Node::Behavior(Behavior { on: on(names), ..Behavior::default() }));
        let member = node(Node::Attribute(Attribute { r#trait: "df_membership".to_owned(), ..Attribute::default() }));
        let list = node(Node::MemberOf(Membership { of: Some(membership::Of::List("vips".to_owned())) }));
        let not = node(Node::Not(Box::new(did(&["Order Completed"]))));
        let all = node(Node::All(ConditionList { conditions: vec![did(&["df_app_open"]), not, member, list] }));
        let interest = Interest::of(&all);
        assert_eq!(interest.names, BTreeSet::from(["df_app_open".to_owned(), "df_purchase".to_owned()]));
        assert_eq!(interest.traits, BTreeSet::from(["df_membership".to_owned()]));
        assert_eq!(interest.lists, BTreeSet::from(["vips".to_owned()]));
        assert!(!interest.every_event && !interest.touches);
        assert!(Interest::of(&did(&[])).every_event);
        assert!(is_of_touch(segue_model::dimension::by_name("ad_partner").expect("a dimension").code));
        assert!(!is_of_touch(segue_model::dimension::by_name("platform").expect("a dimension").code));
    }
}
