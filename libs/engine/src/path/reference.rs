//! The rules again, in the most obvious way, to hold the tally against: lists of lists, everything counted from whole paths.

use std::collections::{BTreeMap, BTreeSet};

use super::{Counting, Edge, Entrants, Node, Rules};

/// What the reference says of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) sessions: u64,
    pub(super) profiles: Option<u64>,
    pub(super) entrants: Vec<Entrants>,
    pub(super) edges: Vec<Edge>,
}

/// A path: what stands at its steps, and when.
type Path = Vec<(Node, i64)>;

/// All paths of a person, given (time, code).
pub(super) fn paths_of(rules: &Rules, nodes: u32, hits: &[(i64, u32)]) -> Vec<Path> {
    let mut sessions: Vec<Vec<(i64, u32)>> = Vec::new();
    for (at, hit) in hits.iter().enumerate() {
        if at == 0 || hit.0 - hits[at - 1].0 > rules.session_gap_us as i64 {
            sessions.push(Vec::new());
        }
        sessions.last_mut().unwrap().push(*hit);
    }
    sessions.into_iter().filter_map(|session| path_of(rules, nodes, session)).collect()
}

fn path_of(rules: &Rules, nodes: u32, session: Vec<(i64, u32)>) -> Option<Path> {
    let visible: Vec<(i64, u32)> = session.into_iter().filter(|(_, code)| *code < nodes).collect();
    // Of equal neighbours the last one stays.
    let mut path: Vec<(u32, i64)> = Vec::new();
    for (at, (ts, code)) in visible.iter().enumerate() {
        if rules.keep_repeats || visible.get(at + 1).map(|next| next.1) != Some(*code) {
            path.push((*code, *ts));
        }
    }
    if let Some(start) = rules.start {
        let first = path.iter().position(|(code, _)| *code == start)?;
        path = path[first..].to_vec();
    }
    if let Some(end) = rules.end {
        let first = path.iter().position(|(code, _)| *code == end)?;
        path = path[..=first].to_vec();
    }
    if path.is_empty() {
        return None;
    }
    let path: Path = path.into_iter().map(|(code, ts)| (Node::Is(code), ts)).collect();
    let most = rules.nodes_max as usize;
    if path.len() <= most {
        return Some(path);
    }
    Some(match (rules.start, rules.end) {
        (_, None) => path[..most].to_vec(),
        (None, Some(_)) => path[path.len() - most..].to_vec(),
        (Some(_), Some(_)) => {
            let half = most / 2;
            let cut = (Node::Cut, path[half].1);
            [&path[..half], &[cut], &path[path.len() - half..]].concat()
        }
    })
}

/// The answer for persons, each given as (time, code).
pub(super) fn answer(rules: &Rules, nodes: u32, top: usize, persons: &[Vec<(i64, u32)>]) -> Answer {
    let paths: Vec<(usize, Path)> = persons
        .iter()
        .enumerate()
        .flat_map(|(person, hits)| paths_of(rules, nodes, hits).into_iter().map(move |path| (person, path)))
        .collect();
    let shown = shown(rules, top, &paths);
    let is_shown = |step: u32, node: Node| node == Node::Cut || shown.get(&step).is_some_and(|list| list.contains(&node));
    let shown_as = |step: u32, node: Node| if is_shown(step, node) { node } else { Node::Other };
    let rank = |step: u32, node: Node| match node {
        Node::Is(_) => shown[&step].iter().position(|other| *other == node).unwrap(),
        Node::Cut => usize::MAX - 2,
        Node::Other => usize::MAX - 1,
        Node::Exit => usize::MAX,
    };

    let mut entrants: BTreeMap<(u32, usize), (Node, u64, BTreeSet<usize>)> = BTreeMap::new();
    let mut edges: BTreeMap<(u32, usize, usize), (Edge, BTreeSet<usize>)> = BTreeMap::new();
    for (person, path) in &paths {
        for (at, (node, ts)) in path.iter().enumerate() {
            let step = at as u32 + 1;
            let node = shown_as(step, *node);
            let entry = entrants.entry((step, rank(step, node))).or_insert((node, 0, BTreeSet::new()));
            entry.1 += 1;
            entry.2.insert(*person);
            let (to, us) = match path.get(at + 1) {
                Some((to, later)) => (shown_as(step + 1, *to), (later - ts) as u128),
                None if step < rules.columns() => (Node::Exit, 0),
                None => continue,
            };
            let new = Edge { step, from: node, to, sessions: 0, profiles: None, time_us: 0 };
            let (edge, persons) = edges.entry((step, rank(step, node), rank(step + 1, to))).or_insert((new, BTreeSet::new()));
            edge.sessions += 1;
            edge.time_us += us;
            persons.insert(*person);
        }
    }
    let profiles = |persons: &BTreeSet<usize>| (rules.counting == Counting::Profiles).then_some(persons.len() as u64);
    Answer {
        sessions: paths.len() as u64,
        profiles: profiles(&paths.iter().map(|(person, _)| *person).collect()),
        entrants: entrants
            .into_iter()
            .map(|((step, _), (node, sessions, persons))| Entrants { step, node, sessions, profiles: profiles(&persons) })
            .collect(),
        edges: edges.into_values().map(|(edge, persons)| Edge { profiles: profiles(&persons), ..edge }).collect(),
    }
}

/// The nodes shown per step, by rank.
fn shown(rules: &Rules, top: usize, paths: &[(usize, Path)]) -> BTreeMap<u32, Vec<Node>> {
    let mut counts: BTreeMap<u32, BTreeMap<Node, (u64, BTreeSet<usize>)>> = BTreeMap::new();
    for (person, path) in paths {
        for (at, (node, _)) in path.iter().enumerate().filter(|(_, (node, _))| *node != Node::Cut) {
            let entry = counts.entry(at as u32 + 1).or_default().entry(*node).or_default();
            entry.0 += 1;
            entry.1.insert(*person);
        }
    }
    counts
        .into_iter()
        .map(|(step, nodes)| {
            let mut ranked: Vec<(Node, u64)> = nodes
                .into_iter()
                .map(|(node, (sessions, persons))| match rules.counting {
                    Counting::Sessions => (node, sessions),
                    Counting::Profiles => (node, persons.len() as u64),
                })
                .collect();
            // Stable, and so far by code.
            ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            (step, ranked.into_iter().take(top).map(|(node, _)| node).collect())
        })
        .collect()
}
