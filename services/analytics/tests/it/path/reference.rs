//! Paths in the most obvious way: lists of names, everything counted from whole paths.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What stands at a step, and when.
type Path = Vec<(String, i64)>;

/// A path as the answer shows it, of whom, and each mean time's parts.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) person: u32,
    /// With `$exit` behind a path that ends before the last step.
    pub(super) names: Vec<String>,
    times: Vec<i64>,
}

/// What the answer should hold.
#[derive(Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) entrants: u64,
    pub(super) steps: Vec<PathStep>,
    pub(super) edges: Vec<PathEdge>,
}

/// The node of an event, if it has one.
fn node(event: &ResolvedEvent, request: &QueryPathRequest) -> Option<String> {
    let raw = match request.node.as_ref().and_then(|field| field.field.as_ref()) {
        None => event.name.clone(),
        Some(field::Field::Dimension(name)) if name == "event" => event.name.clone(),
        Some(field::Field::Dimension(name)) => {
            let code = dimension::by_name(name).expect("a dimension").code;
            event.dimensions.iter().find(|dimension| dimension.code == code)?.value.clone()
        }
        Some(field::Field::Property(name)) => match event.properties.get(name)?.kind.as_ref()? {
            Kind::StringValue(text) => text.clone(),
            Kind::IntValue(number) => number.to_string(),
            other => panic!("no reference for {other:?}"),
        },
        Some(field::Field::ItemProperty(_)) => panic!("items have no nodes"),
    };
    let mut value = raw.as_str();
    if request.strip_query {
        value = &value[..value.find(['?', '#']).unwrap_or(value.len())];
    }
    if request.strip_trailing_slash {
        while value.len() > 1 && value.ends_with('/') {
            value = &value[..value.len() - 1];
        }
    }
    for rule in &request.rules {
        // In tests, a star stands at the end or nowhere.
        let matches = match rule.pattern.strip_suffix('*') {
            Some(begin) => value.starts_with(begin),
            None => value == rule.pattern,
        };
        if matches {
            return match &rule.then {
                Some(Then::Name(name)) => Some(name.clone()),
                Some(Then::Hide(true)) => None,
                Some(Then::Hide(false)) | None => Some(rule.pattern.clone()),
            };
        }
    }
    Some(if value.is_empty() { "(empty)".to_owned() } else { value.to_owned() })
}

fn is_selected(event: &ResolvedEvent, request: &QueryPathRequest) -> bool {
    let range = request.range.expect("a range");
    let bound = |time: Option<Timestamp>| time.map(|time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1000).expect("a bound");
    let names = request.on.as_ref().map(|on| on.events.as_slice()).unwrap_or_default();
    (bound(range.start)..bound(range.end)).contains(&event.time_us) && (names.is_empty() || names.contains(&event.name))
}

fn paths(events: &[ResolvedEvent], request: &QueryPathRequest) -> Vec<(u32, Path)> {
    let gap_us = request.session_gap.map_or(30 * MINUTE, |gap| gap.seconds * 1_000_000);
    let mut persons: BTreeMap<u32, Vec<&ResolvedEvent>> = BTreeMap::new();
    for event in events.iter().filter(|event| is_selected(event, request)) {
        persons.entry(event.person).or_default().push(event);
    }
    let mut paths = Vec::new();
    for (person, mut events) in persons {
        // Stable: events of one moment stay in the order in which they came.
        events.sort_by_key(|event| event.time_us);
        let mut sessions: Vec<Vec<&ResolvedEvent>> = Vec::new();
        for event in events {
            match sessions.last_mut() {
                Some(session) if event.time_us - session.last().expect("an event").time_us <= gap_us => session.push(event),
                _ => sessions.push(vec![event]),
            }
        }
        let of_person = sessions.into_iter().filter_map(|session| path(&session, request));
        paths.extend(of_person.map(|path| (person, path)));
    }
    paths
}

fn path(session: &[&ResolvedEvent], request: &QueryPathRequest) -> Option<Path> {
    let mut path: Path = Vec::new();
    for event in session {
        let Some(name) = node(event, request) else { continue };
        if !request.keep_repeats && path.last().is_some_and(|last| last.0 == name) {
            path.pop();
        }
        path.push((name, event.time_us));
    }
    if !request.start.is_empty() {
        let first = path.iter().position(|visit| visit.0 == request.start)?;
        path = path.split_off(first);
    }
    if !request.end.is_empty() {
        let first = path.iter().position(|visit| visit.0 == request.end)?;
        path.truncate(first + 1);
    }
    let most = if request.nodes_max == 0 { 5 } else { request.nodes_max as usize };
    if path.len() > most {
        if request.end.is_empty() {
            path.truncate(most);
        } else if request.start.is_empty() {
            path = path.split_off(path.len() - most);
        } else {
            let end = path.split_off(path.len() - most / 2);
            let cut = ("...".to_owned(), path[most / 2].1);
            path.truncate(most / 2);
            path.push(cut);
            path.extend(end);
        }
    }
    (!path.is_empty()).then_some(path)
}

/// Every path as the answer shows it.
pub(super) fn shown(events: &[ResolvedEvent], request: &QueryPathRequest) -> Vec<Shown> {
    let paths = paths(events, request);
    let mut last_step = if request.nodes_max == 0 { 5 } else { request.nodes_max as usize };
    if !request.start.is_empty() && !request.end.is_empty() && last_step % 2 == 0 {
        last_step += 1;
    }
    let is_shown: Vec<BTreeSet<String>> = (0..last_step).map(|at| top(&paths, at, request)).collect();
    paths
        .into_iter()
        .map(|(person, path)| {
            let times = path.iter().map(|visit| visit.1).collect();
            let name = |(at, (name, _)): (usize, (String, i64))| match name == "..." || is_shown[at].contains(&name) {
                true => name,
                false => "$other".to_owned(),
            };
            let mut names: Vec<String> = path.into_iter().enumerate().map(name).collect();
            if names.len() < last_step {
                names.push("$exit".to_owned());
            }
            Shown { person, names, times }
        })
        .collect()
}

/// The names that are shown at a step.
fn top(paths: &[(u32, Path)], at: usize, request: &QueryPathRequest) -> BTreeSet<String> {
    let mut found: BTreeMap<&str, (u64, BTreeSet<u32>)> = BTreeMap::new();
    for (person, path) in paths {
        if let Some((name, _)) = path.get(at).filter(|(name, _)| name != "...") {
            let (sessions, persons) = found.entry(name).or_default();
            *sessions += 1;
            persons.insert(*person);
        }
    }
    let value = |(sessions, persons): &(u64, BTreeSet<u32>)| if by_person(request) { persons.len() as u64 } else { *sessions };
    let mut ranked: Vec<(u64, &str)> = found.iter().map(|(name, counts)| (value(counts), *name)).collect();
    ranked.sort_by_key(|(value, _)| std::cmp::Reverse(*value));
    let top = if request.top == 0 { 10 } else { request.top as usize };
    ranked.into_iter().take(top).map(|(_, name)| name.to_owned()).collect()
}

fn by_person(request: &QueryPathRequest) -> bool {
    request.counting == PathCounting::Persons as i32
}

/// The answer to a request.
pub(super) fn expected(events: &[ResolvedEvent], request: &QueryPathRequest) -> Expected {
    #[derive(Default)]
    struct Count {
        sessions: u64,
        persons: BTreeSet<u32>,
        time: i64,
    }
    let value = |count: &Count| if by_person(request) { count.persons.len() as u64 } else { count.sessions };
    let shown = shown(events, request);
    let mut all = Count::default();
    let mut nodes: BTreeMap<(u32, &str), Count> = BTreeMap::new();
    let mut edges: BTreeMap<(u32, &str, &str), Count> = BTreeMap::new();
    for path in &shown {
        all.sessions += 1;
        all.persons.insert(path.person);
        for (at, name) in path.names.iter().enumerate() {
            if name != "$exit" {
                let count = nodes.entry((at as u32 + 1, name)).or_default();
                count.sessions += 1;
                count.persons.insert(path.person);
            }
            if let Some(to) = path.names.get(at + 1) {
                let count = edges.entry((at as u32 + 1, name, to)).or_default();
                count.sessions += 1;
                count.persons.insert(path.person);
                count.time += path.times.get(at + 1).map_or(0, |time| time - path.times[at]);
            }
        }
    }
    let mut steps: Vec<PathStep> = Vec::new();
    for ((step, name), count) in &nodes {
        if steps.last().is_none_or(|last| last.step != *step) {
            steps.push(PathStep { step: *step, nodes: Vec::new() });
        }
        steps.last_mut().expect("a step").nodes.push(PathNode { name: (*name).to_owned(), value: value(count) });
    }
    for step in &mut steps {
        step.nodes.sort_by_key(|node| (node.name == "$other", std::cmp::Reverse(node.value)));
    }
    let mut edges: Vec<PathEdge> = edges
        .iter()
        .map(|((step, from, to), count)| PathEdge {
            step: *step,
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            value: value(count),
            mean_seconds: (*to != "$exit").then(|| count.time as f64 / count.sessions as f64 / 1e6),
        })
        .collect();
    edges.sort_by_key(|edge| (edge.step, std::cmp::Reverse(edge.value)));
    Expected { entrants: value(&all), steps, edges }
}
