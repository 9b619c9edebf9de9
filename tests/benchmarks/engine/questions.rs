//! What is asked, and how answers become comparable. To add a question: a variant here with its request and its rows, and a
//! statement for each peer in `peers.py`.

use anyhow::{Context, bail};
use prost_types::{Duration, Timestamp};
use segue_proto::analytics::v1::number::Kind as NumberKind;
use segue_proto::analytics::v1::{
    Aggregation, CohortEntry, CountPersonsRequest, CountPersonsResponse, FunnelStep, Grain, Metric, Number, QueryEventsRequest,
    QueryEventsResponse, QueryFunnelRequest, QueryFunnelResponse, QueryPathRequest, QueryPathResponse, QueryRetentionRequest,
    QueryRetentionResponse, Unit,
};
use segue_proto::events::v1::{Value as EventValue, value::Kind};
use segue_proto::query::v1::{
    Behavior, BehaviorAggregate, Comparison, Condition, EventSelector, Field, Filter, Operator, Span, TimeRange, TimeUnit, Window,
    condition, field, filter, window,
};
use serde_json::{Value, json};

use super::data::{DAY_MS, DAYS, START_MS};
use super::ours::Engine;

/// Rows of whole numbers and texts, sorted.
pub(crate) type Answer = Vec<Vec<Value>>;

pub(crate) const FUNNEL: [&str; 4] = ["df_view_product_details", "df_add_to_cart", "df_begin_checkout", "df_purchase"];
const WINDOW_MS: i64 = 7 * DAY_MS;
const RETENTION: &str = "df_app_open";
const RETENTION_DAYS: [u32; 3] = [0, 1, 7];
const BOUGHT: &str = "df_purchase";
const CATEGORY: &str = "category_007";
const SPENT: i64 = 200_000;
/// The condition looks back from the end of the stream.
const LAST_DAYS: u32 = 60;
const END_MS: i64 = START_MS + DAYS as i64 * DAY_MS;
const PATH_START: &str = "df_app_open";
/// A question to ClickHouse alone: only sessions that begin with the start. Smaller, so its time is told beside.
pub(crate) const PATH_ENTRY: &str = "path_entry";
/// Five steps from node to node.
const PATH_NODES: u32 = 6;
const GAP_MS: i64 = 30 * 60_000;

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// How many get through four steps within seven days of the first.
    Funnel,
    /// Who opens the app again so many days after the first time.
    Retention,
    /// Purchases per day and channel: how often, by how many persons, Σ price × quantity.
    Report,
    /// Who spent so much in one category in the last 60 days; the category is a property of the event.
    Condition,
    /// The same, where it is the category of an item.
    ConditionItems,
    /// The five steps after a session's first opening of the app, over all events.
    Path,
}

/// An answer as our engine gives it.
pub(crate) enum Raw {
    Funnel(QueryFunnelResponse),
    Retention(QueryRetentionResponse),
    Report(QueryEventsResponse),
    Persons(CountPersonsResponse),
    Path(QueryPathResponse),
}

/// Everything that the peers need to know, in the terms of the stream.
pub(crate) fn spec(questions: &[Question]) -> Value {
    let mut names: Vec<&str> = questions.iter().map(|question| question.asked_of_peers()).collect();
    if questions.contains(&Question::Path) {
        names.push(PATH_ENTRY);
    }
    json!({
        "questions": names,
        "start_ms": START_MS,
        "steps": FUNNEL,
        "window_ms": WINDOW_MS,
        "retention_event": RETENTION,
        "retention_days": RETENTION_DAYS,
        "report_event": BOUGHT,
        "category": CATEGORY,
        "spent": SPENT,
        "since_ms": END_MS - i64::from(LAST_DAYS) * DAY_MS,
        "path_start": PATH_START,
        "path_nodes": PATH_NODES,
        "gap_ms": GAP_MS,
    })
}

impl Question {
    pub(crate) const ALL: [Question; 6] =
        [Question::Funnel, Question::Retention, Question::Report, Question::Condition, Question::ConditionItems, Question::Path];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Question::Funnel => "funnel",
            Question::Retention => "retention",
            Question::Report => "report",
            Question::Condition => "condition",
            Question::ConditionItems => "condition_items",
            Question::Path => "path",
        }
    }

    /// Name of the statement that gives the same answer.
    pub(crate) fn asked_of_peers(self) -> &'static str {
        match self {
            // Their tables have one column for the category, whichever of ours is meant.
            Question::ConditionItems => Question::Condition.name(),
            _ => self.name(),
        }
    }

    /// Asks, and waits for the answer as it comes over the service.
    pub(crate) async fn ask(self, engine: &Engine) -> anyhow::Result<Raw> {
        let mut client = engine.client();
        Ok(match self {
            Question::Funnel => Raw::Funnel(client.query_funnel(engine.request(funnel(&FUNNEL))).await?.into_inner()),
            Question::Retention => Raw::Retention(client.query_retention(engine.request(retention())).await?.into_inner()),
            Question::Report => Raw::Report(client.query_events(engine.request(report())).await?.into_inner()),
            Question::Condition => {
                let of_event = compare(field::Field::Property("category".to_owned()));
                let behavior = Behavior { on: Some(EventSelector { filter: Some(of_event), ..selector(&[BOUGHT]) }), ..spent() };
                Raw::Persons(client.count_persons(engine.request(persons(behavior))).await?.into_inner())
            }
            Question::ConditionItems => {
                let of_item = compare(field::Field::ItemProperty("category1".to_owned()));
                let behavior = Behavior { on: Some(selector(&[BOUGHT])), items: Some(of_item), ..spent() };
                Raw::Persons(client.count_persons(engine.request(persons(behavior))).await?.into_inner())
            }
            Question::Path => Raw::Path(client.query_path(engine.request(path())).await?.into_inner()),
        })
    }
}

impl Raw {
    /// The comparable form.
    pub(crate) fn rows(&self) -> anyhow::Result<Answer> {
        match self {
            Raw::Funnel(answer) => {
                let steps = &answer.total.as_ref().context("a funnel without a total")?.steps;
                Ok(vec![steps.iter().map(|step| json!(step.count)).collect()])
            }
            Raw::Retention(answer) => retention_rows(answer),
            Raw::Report(answer) => report_rows(answer),
            Raw::Persons(answer) => Ok(vec![vec![json!(answer.count)]]),
            Raw::Path(answer) => Ok(path_rows(answer)),
        }
    }
}

fn timestamp(ms: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: ms.div_euclid(1_000), nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32 })
}

/// All of the stream.
fn whole() -> Option<TimeRange> {
    Some(TimeRange { start: timestamp(START_MS), end: timestamp(END_MS) })
}

fn property(name: &str) -> Field {
    Field { field: Some(field::Field::Property(name.to_owned())) }
}

fn selector(events: &[&str]) -> EventSelector {
    EventSelector { events: events.iter().map(|name| (*name).to_owned()).collect(), ..EventSelector::default() }
}

/// A funnel over the whole stream.
pub(crate) fn funnel(steps: &[&str]) -> QueryFunnelRequest {
    QueryFunnelRequest {
        range: whole(),
        steps: steps.iter().map(|event| FunnelStep { on: Some(selector(&[event])), ..FunnelStep::default() }).collect(),
        window: Some(Duration { seconds: WINDOW_MS / 1_000, nanos: 0 }),
        ..QueryFunnelRequest::default()
    }
}

fn retention() -> QueryRetentionRequest {
    QueryRetentionRequest {
        range: whole(),
        time_zone: "UTC".to_owned(),
        start: Some(selector(&[RETENTION])),
        grain: Grain::Day as i32,
        entry: CohortEntry::FirstMatching as i32,
        ..QueryRetentionRequest::default()
    }
}

/// Over all cohorts, how many came back after 0, 1 and 7 days.
fn retention_rows(answer: &QueryRetentionResponse) -> anyhow::Result<Answer> {
    let cohorts = &answer.total.as_ref().context("retention without a total")?.cohorts;
    let after = |days: u32| -> anyhow::Result<Value> {
        // A late cohort has no such cell: the range ends before.
        let cells = cohorts.iter().filter_map(|cohort| cohort.cells.get(days as usize));
        let returned = cells.map(|cell| cell.returned.context("a day of the past is not complete"));
        Ok(json!(returned.sum::<anyhow::Result<u64>>()?))
    };
    Ok(vec![RETENTION_DAYS.into_iter().map(after).collect::<anyhow::Result<_>>()?])
}

/// The category is the one.
fn compare(field: field::Field) -> Filter {
    let comparison = Comparison {
        field: Some(Field { field: Some(field) }),
        operator: Operator::In as i32,
        values: vec![EventValue { kind: Some(Kind::StringValue(CATEGORY.to_owned())) }],
        ..Comparison::default()
    };
    Filter { node: Some(filter::Node::Compare(comparison)) }
}

/// Σ price × quantity in the last 60 days is at least so much.
fn spent() -> Behavior {
    let last = Span { count: LAST_DAYS, unit: TimeUnit::Day as i32 };
    Behavior {
        window: Some(Window { window: Some(window::Window::Last(last)) }),
        aggregate: BehaviorAggregate::Sum as i32,
        operator: Operator::GreaterOrEqual as i32,
        values: vec![EventValue { kind: Some(Kind::IntValue(SPENT)) }],
        ..Behavior::default()
    }
}

fn persons(behavior: Behavior) -> CountPersonsRequest {
    CountPersonsRequest {
        condition: Some(Condition { node: Some(condition::Node::Behavior(behavior)) }),
        as_of: timestamp(END_MS),
        ..CountPersonsRequest::default()
    }
}

fn path() -> QueryPathRequest {
    QueryPathRequest {
        range: whole(),
        session_gap: Some(Duration { seconds: GAP_MS / 1_000, nanos: 0 }),
        start: PATH_START.to_owned(),
        nodes_max: PATH_NODES,
        // More than there are names: nothing falls under `$other`.
        top: 100,
        keep_repeats: true,
        ..QueryPathRequest::default()
    }
}

/// Edges by the place of the node that they lead to. Ends of sessions are no edges to the peers.
fn path_rows(answer: &QueryPathResponse) -> Answer {
    let edges = answer.edges.iter().filter(|edge| edge.to != "$exit");
    let mut rows: Vec<(u32, &str, &str, u64)> =
        edges.map(|edge| (edge.step + 1, edge.from.as_str(), edge.to.as_str(), edge.value)).collect();
    rows.sort_unstable();
    rows.into_iter().map(|(place, from, to, value)| vec![json!(place), json!(from), json!(to), json!(value)]).collect()
}

fn report() -> QueryEventsRequest {
    let metric = |(aggregation, unit): (Aggregation, Unit)| Metric {
        events: vec![BOUGHT.to_owned()],
        aggregation: aggregation as i32,
        unit: unit as i32,
        ..Metric::default()
    };
    let metrics =
        [(Aggregation::Total, Unit::Unspecified), (Aggregation::Unique, Unit::Profile), (Aggregation::Revenue, Unit::Unspecified)];
    QueryEventsRequest {
        range: whole(),
        grain: Grain::Day as i32,
        time_zone: "UTC".to_owned(),
        metrics: metrics.map(metric).to_vec(),
        group_by: vec![property("channel")],
        ..QueryEventsRequest::default()
    }
}

/// Day, channel, and the three metrics, where anything was bought.
fn report_rows(answer: &QueryEventsResponse) -> anyhow::Result<Answer> {
    let mut rows = Vec::new();
    for group in &answer.groups {
        let value = group.values.first().and_then(|value| value.value.as_ref()).and_then(|value| value.kind.as_ref());
        let Some(Kind::StringValue(channel)) = value else { bail!("a group has no channel: {:?}", group.values) };
        for period in &group.periods {
            let seconds = period.start.as_ref().context("a period has no start")?.seconds;
            let day = (seconds * 1_000 - START_MS) / DAY_MS;
            let numbers = period.values.iter().map(whole_number).collect::<anyhow::Result<Vec<_>>>()?;
            if numbers.first() != Some(&0) {
                rows.push([vec![json!(day), json!(channel)], numbers.into_iter().map(Value::from).collect()].concat());
            }
        }
    }
    rows.sort_by_key(|row| (row[0].as_i64(), row[1].as_str().map(str::to_owned)));
    Ok(rows)
}

/// A number that has no fraction.
fn whole_number(number: &Number) -> anyhow::Result<i64> {
    match &number.kind {
        Some(NumberKind::Count(count)) => Ok(i64::try_from(*count)?),
        Some(NumberKind::Int(number)) => Ok(*number),
        Some(NumberKind::Decimal(decimal)) => {
            let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
            anyhow::ensure!(fraction.chars().all(|digit| digit == '0'), "{decimal} has a fraction");
            Ok(whole.parse()?)
        }
        other => bail!("{other:?} is no whole number"),
    }
}
