//! The numbers, with the names of nodes.

use std::cmp::Reverse;
use std::sync::Arc;

use segue_engine::path::{Node, Paths};
use segue_proto::analytics::v1::{PathEdge, PathNode, PathStep};

/// What a path leaves out in its middle.
pub(super) const CUT: &str = "...";
/// Nodes beyond those that are shown.
pub(super) const OTHER: &str = "$other";
/// The end of a path.
pub(super) const EXIT: &str = "$exit";

/// Steps and edges, each in the order that the contract states.
pub(super) fn answer(paths: &Paths, names: &[Arc<str>]) -> (Vec<PathStep>, Vec<PathEdge>) {
    let mut steps: Vec<PathStep> = Vec::new();
    for entrants in &paths.entrants {
        let node = PathNode { name: name(entrants.node, names), value: entrants.value() };
        match steps.last_mut().filter(|step| step.step == entrants.step) {
            Some(step) => step.nodes.push(node),
            None => steps.push(PathStep { step: entrants.step, nodes: vec![node] }),
        }
    }
    for step in &mut steps {
        step.nodes.sort_by(|a, b| {
            let key = |node: &PathNode| (node.name == OTHER, Reverse(node.value));
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
    }
    let edge = |edge: &segue_engine::path::Edge| PathEdge {
        step: edge.step,
        from: name(edge.from, names),
        to: name(edge.to, names),
        value: edge.value(),
        // Over the sessions that took it, whatever is counted.
        mean_seconds: (edge.to != Node::Exit).then(|| edge.time_us as f64 / edge.sessions.max(1) as f64 / 1e6),
    };
    let mut edges: Vec<PathEdge> = paths.edges.iter().map(edge).collect();
    edges.sort_by(|a, b| {
        let key = |edge: &PathEdge| (edge.step, Reverse(edge.value));
        key(a).cmp(&key(b)).then_with(|| (&a.from, &a.to).cmp(&(&b.from, &b.to)))
    });
    (steps, edges)
}

fn name(node: Node, names: &[Arc<str>]) -> String {
    match node {
        Node::Is(code) => names.get(code as usize).map_or_else(String::new, |name| name.to_string()),
        Node::Cut => CUT.to_owned(),
        Node::Other => OTHER.to_owned(),
        Node::Exit => EXIT.to_owned(),
    }
}
