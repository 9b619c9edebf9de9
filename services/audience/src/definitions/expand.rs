//! Putting segments and audiences in place of what refers to them.
//!
//! A definition takes part in the limits as often as it is referred to, and the work stops where a limit is passed: conditions that
//! double with each reference cost no more than the limit.

use std::collections::BTreeSet;
use std::sync::Arc;

use segue_model::FieldViolation;
use segue_model::identifier::is_kind;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, ConditionList, Membership, RandomBucket, membership::Of};

use super::Expanded;
use super::graph::{Graph, reference};
use crate::error::Kind;

/// References that lead to one another.
const CHAIN_MAX: usize = 32;
/// Faults that are told at once.
pub(super) const FAULTS_MAX: usize = 50;

/// How large a condition may be with everything in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) nodes_max: u32,
    pub(crate) depth_max: u32,
}

/// Puts in place what `condition`, which stands at `path`, refers to. `of` is the definition that it is the condition of: referring back
/// to it is a cycle.
pub(crate) fn expand(
    graph: &Graph,
    limits: Limits,
    condition: &Condition,
    path: &str,
    of: Option<(Kind, &str)>,
) -> Result<Expanded, Vec<FieldViolation>> {
    let mut expansion = Expansion {
        graph,
        limits,
        chain: of.into_iter().collect(),
        nodes: 0,
        stopped: false,
        lists: BTreeSet::new(),
        identifier_kinds: BTreeSet::new(),
        faults: Vec::new(),
    };
    let place = Place { path: path.into(), inside: false };
    let condition = expansion.node(condition, &place, 1);
    let Expansion { nodes, lists, identifier_kinds, faults, .. } = expansion;
    if faults.is_empty() { Ok(Expanded { condition, lists, identifier_kinds, nodes }) } else { Err(faults) }
}

/// Where a node stands in the condition as it was given.
#[derive(Debug, Clone)]
struct Place {
    path: Arc<str>,
    /// The node is of what is referred to there.
    inside: bool,
}

impl Place {
    fn below(&self, step: impl FnOnce() -> String) -> Place {
        if self.inside { self.clone() } else { Place { path: format!("{}{}", self.path, step()).into(), inside: false } }
    }
}

struct Expansion<'g> {
    graph: &'g Graph,
    limits: Limits,
    /// What is being put in place, the outermost first.
    chain: Vec<(Kind, &'g str)>,
    nodes: u32,
    /// Nothing more is looked at.
    stopped: bool,
    lists: BTreeSet<String>,
    identifier_kinds: BTreeSet<String>,
    faults: Vec<FieldViolation>,
}

impl<'g> Expansion<'g> {
    fn fault(&mut self, place: &Place, step: &str, description: impl Into<String>) -> Condition {
        let place = place.below(|| step.to_owned());
        self.faults.push(FieldViolation::new(&*place.path, description));
        self.stopped |= self.faults.len() >= FAULTS_MAX;
        Condition::default()
    }

    /// Counts a node; false if it is one too many.
    fn count(&mut self, place: &Place, depth: u32) -> bool {
        let Limits { nodes_max, depth_max } = self.limits;
        if self.stopped {
            return false;
        }
        self.nodes += 1;
        let too = if self.nodes > nodes_max {
            format!("more than {nodes_max} nodes")
        } else if depth > depth_max {
            format!("more than {depth_max} levels")
        } else {
            return true;
        };
        self.fault(place, "", format!("with everything that it refers to in place, the condition has {too}"));
        self.stopped = true;
        false
    }

    fn node(&mut self, condition: &'g Condition, place: &Place, depth: u32) -> Condition {
        if let Some(Node::MemberOf(Membership { of: Some(of @ (Of::Segment(_) | Of::Audience(_))) })) = &condition.node {
            return self.definition(of, place, depth);
        }
        if !self.count(place, depth) {
            return Condition::default();
        }
        match &condition.node {
            Some(Node::All(list)) => node(Node::All(self.list(list, place, ".all", depth))),
            Some(Node::Any(list)) => node(Node::Any(self.list(list, place, ".any", depth))),
            Some(Node::Not(inner)) => {
                let inner = self.node(inner, &place.below(|| ".not".to_owned()), depth + 1);
                node(Node::Not(Box::new(inner)))
            }
            Some(Node::MemberOf(Membership { of: Some(Of::List(id)) })) => match self.graph.lists.get(id) {
                Some(false) => {
                    self.lists.insert(id.clone());
                    condition.clone()
                }
                Some(true) => self.fault(place, ".member_of.list", format!("the list `{id}` is archived")),
                None => self.fault(place, ".member_of.list", format!("there is no list `{id}`")),
            },
            Some(Node::MemberOf(_)) => self.fault(place, ".member_of", "set one of segment, audience and list"),
            Some(Node::HasIdentifier(identifier)) if is_kind(&identifier.kind) => {
                self.identifier_kinds.insert(identifier.kind.clone());
                condition.clone()
            }
            Some(Node::HasIdentifier(_)) => {
                self.fault(place, ".has_identifier.kind", "1 to 64 characters of a-z, 0-9 and '_', for example `email`")
            }
            Some(
                Node::Behavior(_)
                | Node::Sequence(_)
                | Node::Attribute(_)
                | Node::Acquisition(_)
                | Node::RandomBucket(_)
                | Node::Persons(_),
            ) => condition.clone(),
            None => self.fault(
                place,
                "",
                "set one of all, any, not, behavior, sequence, attribute, acquisition, random_bucket, persons, member_of and has_identifier",
            ),
        }
    }

    fn list(&mut self, list: &'g ConditionList, place: &Place, step: &str, depth: u32) -> ConditionList {
        let mut conditions = Vec::new();
        for (at, condition) in list.conditions.iter().enumerate() {
            if self.stopped {
                break;
            }
            conditions.push(self.node(condition, &place.below(|| format!("{step}.conditions[{at}]")), depth + 1));
        }
        ConditionList { conditions }
    }

    /// What stands for a segment or audience.
    fn definition(&mut self, of: &'g Of, place: &Place, depth: u32) -> Condition {
        let (kind, id) = reference(of);
        let place = place.below(|| format!(".member_of.{kind}"));
        if let Some(begin) = self.chain.iter().position(|link| *link == (kind, id)) {
            let cycle: Vec<String> =
                self.chain.iter().skip(begin).chain([&(kind, id)]).map(|(kind, id)| format!("{kind} `{id}`")).collect();
            return self.fault(&place, "", format!("refers to itself: {}", cycle.join(" → ")));
        }
        if self.chain.len() >= CHAIN_MAX {
            return self.fault(&place, "", format!("more than {CHAIN_MAX} segments and audiences refer to one another in a row"));
        }
        let Some(definition) = self.graph.find(kind, id) else {
            return self.fault(&place, "", format!("there is no {kind} `{id}`"));
        };
        if definition.archived {
            return self.fault(&place, "", format!("the {kind} `{id}` is archived"));
        }
        let inside = Place { inside: true, ..place };
        self.chain.push((kind, id));
        let condition = match definition.holdout {
            0 => self.node(&definition.condition, &inside, depth),
            holdout => self.without_held_out(&definition.condition, id, holdout, &inside, depth),
        };
        self.chain.pop();
        condition
    }

    /// The condition of an audience, but for whom it holds out.
    fn without_held_out(&mut self, condition: &'g Condition, id: &str, holdout: u32, inside: &Place, depth: u32) -> Condition {
        if !self.count(inside, depth) {
            return Condition::default();
        }
        let condition = self.node(condition, inside, depth + 1);
        if !(self.count(inside, depth + 1) && self.count(inside, depth + 2)) {
            return Condition::default();
        }
        let bucket = RandomBucket { salt: holdout_salt(id), from: 0, to: holdout };
        let kept = node(Node::Not(Box::new(node(Node::RandomBucket(bucket)))));
        node(Node::All(ConditionList { conditions: vec![condition, kept] }))
    }
}

/// The salt that decides whom an audience holds out.
pub(crate) fn holdout_salt(audience: &str) -> String {
    format!("holdout:{audience}")
}

fn node(node: Node) -> Condition {
    Condition { node: Some(node) }
}
