//! The partial results of paths as rows, and the answer from their sum, or the round that has to come before it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use segue_engine::path::{self, Node, Part, Question, Tally};
use segue_proto::analytics::v1 as pb;

use super::nodes::{NODES_MAX, Nodes};
use super::plan::Plan;
use super::tally::Tallying;
use crate::leaves::key::{Cell, NodeKind, NodeProto, PathCell, PathFigure};
use crate::leaves::{Cost, Next, Row, Rows, selection};
use crate::pass::{self, NOBODY, Within};
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;
use crate::sql::selection::Selection;

/// Sums of times are sent in two halves of this many bits, so that neither overflows.
const HALF_BITS: u32 = 32;

/// What is counted in one go over all persons, with nodes by their names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Round {
    /// Every edge.
    Every,
    /// Which nodes enter each step.
    Ranking,
    /// The edges between the nodes that are shown, per step from the first.
    Shown(Vec<Vec<String>>),
}

/// What a request reads, and its first round.
pub(crate) fn begin(context: &Context<'_>, request: &pb::QueryPathRequest) -> Result<(Selection, Round), QueryError> {
    let plan = Plan::new(context, request, NOBODY)?;
    let nodes = Nodes::new(context.snapshot, &plan);
    let question = Question::new(plan.rules(&nodes), nodes.most(), plan.top);
    Ok((selection(std::slice::from_ref(&plan.selector), None), round_of(&question, &[])))
}

/// The round of a question whose nodes have these names.
fn round_of(question: &Question, names: &[Arc<str>]) -> Round {
    let name = |code: &u32| names.get(*code as usize).map(ToString::to_string);
    match question.round() {
        path::Round::Every => Round::Every,
        path::Round::Ranking => Round::Ranking,
        path::Round::Shown(steps) => Round::Shown(steps.iter().map(|codes| codes.iter().filter_map(name).collect()).collect()),
    }
}

/// The round in codes. Nodes that have none cannot occur.
fn in_codes(round: &Round, code: impl Fn(&str) -> Option<u32>) -> path::Round {
    match round {
        Round::Every => path::Round::Every,
        Round::Ranking => path::Round::Ranking,
        Round::Shown(steps) => path::Round::Shown(steps.iter().map(|names| names.iter().filter_map(|name| code(name)).collect()).collect()),
    }
}

/// Counts the paths of some persons.
pub(crate) fn write(
    context: &Context<'_>,
    request: &pb::QueryPathRequest,
    round: &Round,
    within: Within<'_>,
    out: &mut Rows,
) -> Result<ScanStats, QueryError> {
    let plan = Plan::new(context, request, within)?;
    let nodes = Nodes::new(context.snapshot, &plan);
    let of_round = in_codes(round, |name| nodes.code_of_name(name));
    let question = Question::in_round(plan.rules(&nodes), nodes.most(), plan.top, of_round);
    let tallying = Tallying { question: &question, nodes: &nodes, range: plan.selector.range };
    let (tally, stats) = pass::run_within(context, &super::gather(&plan), &tallying, within)?;
    write_tally(&tally, &nodes.names(), *round != Round::Ranking, out)?;
    Ok(stats)
}

fn write_tally(tally: &Tally, names: &[Arc<str>], with_times: bool, out: &mut Rows) -> Result<(), QueryError> {
    let key = |figure: PathFigure, step: u32, from: Option<Node>, to: Option<Node>| {
        let [from, to] = [from, to].map(|node| node.map(|node| NodeProto::of(node, names)));
        Cell::Path(PathCell { figure: figure.into(), step, from, to }).key()
    };
    for Part { step, from, to, sessions, time_us, profiles } in tally.parts() {
        let key = |figure| key(figure, step, from, Some(to));
        out.add(&key(PathFigure::Sessions), None, sessions)?;
        out.add(&key(PathFigure::Persons), None, profiles)?;
        if with_times {
            out.add(&key(PathFigure::TimeLow), None, (time_us & ((1 << HALF_BITS) - 1)) as u64)?;
            out.add(&key(PathFigure::TimeHigh), None, u64::try_from(time_us >> HALF_BITS).map_err(|_| QueryError::Overflow)?)?;
        }
    }
    for (step, node, persons) in tally.entrants_of_steps() {
        out.add(&key(PathFigure::Entrants, step, None, Some(node)), None, persons)?;
    }
    out.add(&key(PathFigure::Total, 0, None, None), None, tally.profiles_total())
}

/// The answer from the sum over everybody, or the round that it takes besides.
pub(crate) fn answer(
    context: &Context<'_>,
    request: &pb::QueryPathRequest,
    round: &Round,
    sum: Vec<Row>,
    cost: Cost,
) -> Result<Next<pb::QueryPathResponse, Round>, QueryError> {
    let plan = Plan::new(context, request, NOBODY)?;
    let cells = sum.into_iter().map(|row| match row.cell {
        Cell::Path(cell) => Ok((cell, row.amount)),
        Cell::Frame(_) | Cell::Funnel(_) | Cell::Retention(_) | Cell::Sessions(_) | Cell::Condition(_) => Err(QueryError::BrokeOff),
    });
    let cells: Vec<(PathCell, u64)> = cells.collect::<Result<_, _>>()?;
    let names = names(round, &cells);
    let nodes = u32::try_from(names.len()).ok().filter(|nodes| *nodes <= NODES_MAX);
    let nodes = nodes.ok_or(QueryError::TooManyNodes { nodes_max: NODES_MAX })?;
    let codes: HashMap<&str, u32> = names.iter().map(|name| &**name).zip(0..).collect();
    let of_round = in_codes(round, |name| codes.get(name).copied());
    let mut question = Question::in_round(plan.rules_of_sum(), nodes, plan.top, of_round);
    let mut tally = question.tally();
    for (cell, amount) in &cells {
        add(&mut tally, cell, *amount, &codes)?;
    }
    // Codes are in the order of names.
    Ok(match question.take(tally, |one, other| one.cmp(&other)) {
        Some(paths) => {
            let response = super::respond(context, plan.resolved, &paths, &names);
            Next::Answer(pb::QueryPathResponse { stats: Some(cost.message()), ..response })
        }
        None => Next::Again(round_of(&question, &names)),
    })
}

/// The names of all nodes, in their order.
fn names(round: &Round, cells: &[(PathCell, u64)]) -> Vec<Arc<str>> {
    let in_cells = cells.iter().flat_map(|(cell, _)| [&cell.from, &cell.to]).filter_map(|node| match node.as_ref()?.kind.as_ref()? {
        NodeKind::Name(name) => Some(name.as_str()),
        NodeKind::Cut(_) | NodeKind::Other(_) | NodeKind::Exit(_) => None,
    });
    let shown = match round {
        Round::Every | Round::Ranking => &[],
        Round::Shown(steps) => steps.as_slice(),
    };
    let names: BTreeSet<&str> = in_cells.chain(shown.iter().flatten().map(String::as_str)).collect();
    names.into_iter().map(Arc::from).collect()
}

fn add(tally: &mut Tally, cell: &PathCell, amount: u64, codes: &HashMap<&str, u32>) -> Result<(), QueryError> {
    let node = |node: &Option<NodeProto>| node.as_ref().map(|node| node.node(codes).ok_or(QueryError::BrokeOff)).transpose();
    let (step, from) = (cell.step, node(&cell.from)?);
    let to = || node(&cell.to)?.ok_or(QueryError::BrokeOff);
    let part = |to| Part { step, from, to, sessions: 0, time_us: 0, profiles: 0 };
    match PathFigure::try_from(cell.figure) {
        Ok(PathFigure::Sessions) => tally.add_part(&Part { sessions: amount, ..part(to()?) }),
        Ok(PathFigure::TimeLow) => tally.add_part(&Part { time_us: u128::from(amount), ..part(to()?) }),
        Ok(PathFigure::TimeHigh) => tally.add_part(&Part { time_us: u128::from(amount) << HALF_BITS, ..part(to()?) }),
        Ok(PathFigure::Persons) => tally.add_part(&Part { profiles: amount, ..part(to()?) }),
        Ok(PathFigure::Entrants) => tally.add_entrants(step, to()?, amount),
        Ok(PathFigure::Total) => tally.add_profiles(amount),
        Ok(PathFigure::Unspecified) | Err(_) => return Err(QueryError::BrokeOff),
    }
    Ok(())
}

impl NodeProto {
    fn of(node: Node, names: &[Arc<str>]) -> Self {
        let kind = match node {
            Node::Is(code) => NodeKind::Name(names.get(code as usize).map_or_else(String::new, ToString::to_string)),
            Node::Cut => NodeKind::Cut(true),
            Node::Other => NodeKind::Other(true),
            Node::Exit => NodeKind::Exit(true),
        };
        Self { kind: Some(kind) }
    }

    fn node(&self, codes: &HashMap<&str, u32>) -> Option<Node> {
        Some(match self.kind.as_ref()? {
            NodeKind::Name(name) => Node::Is(*codes.get(name.as_str())?),
            NodeKind::Cut(_) => Node::Cut,
            NodeKind::Other(_) => Node::Other,
            NodeKind::Exit(_) => Node::Exit,
        })
    }
}
