//! Questions as leaves of plans: the same answers as in one pass, in any number of parts, after a way through bytes, and over workers.

mod distributed;
mod on_the_index;

use std::sync::{Arc, LazyLock};

use chrono_tz::Tz;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::physical_plan::collect;
use datafusion_proto::bytes::{physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec};
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::{Config, TestRunner};
use prost_types::Timestamp;
use segue_analytics::leaves::{Answer, Asked, Finished, Inquiry, InquiryError, answer};
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::scan::Snapshot;
use segue_analytics::sql::{PlanCodec, SqlLimits, session};
use segue_analytics::{funnel, path, persons, retention, sessions};
use segue_proto::analytics::v1::select_persons_request::Who;
use segue_proto::analytics::v1::{CountPersonsRequest, ExecutionStats, QueryFunnelRequest, SelectPersonsRequest};
use segue_proto::events::v1::ResolvedEvent;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::cluster::replica;
use crate::condition::same_as_reference as conditions;
use crate::events::{DAY_US, START_US, did};
use crate::funnel::same_as_reference as funnel_questions;
use crate::path::same_as_reference as path_questions;
use crate::report::same_as_reference::{self as report_questions, knows_all};
use crate::retention::same_as_reference as retention_questions;
use crate::rig::tenant;
use crate::sessions::same_as_reference as session_questions;
use crate::sql::{generous, now};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// A snapshot and what is asked of it.
type Case = (Arc<Snapshot>, Asked);

fn snapshot(events: &[ResolvedEvent], watermark_us: i64) -> Arc<Snapshot> {
    Arc::new(Snapshot::of_events(&tenant("shop"), watermark_us, events).expect("a snapshot"))
}

/// Persons far apart are in chunks of their own.
fn far_apart(mut events: Vec<ResolvedEvent>) -> Vec<ResolvedEvent> {
    events.iter_mut().for_each(|event| event.person *= 40_000);
    events
}

fn any_funnel() -> impl Strategy<Value = Case> {
    use funnel_questions::{any_plain_request, any_request};
    let events = prop::collection::vec(report_questions::any_event(), 0..80);
    let among = prop::option::weighted(0.2, Just(did("df_purchase")));
    (events, prop_oneof![any_request(), any_plain_request()], among, -20_i64..40).prop_map(|(mut events, request, among, day)| {
        events.insert(0, knows_all());
        (snapshot(&far_apart(events), START_US + day * DAY_US), Asked::Funnel(QueryFunnelRequest { among, ..request }))
    })
}

fn any_retention() -> impl Strategy<Value = Case> {
    use retention_questions::{any_event, any_question};
    (prop::collection::vec(any_event(), 0..60), any_question())
        .prop_map(|(events, question)| (snapshot(&far_apart(events), question.watermark), Asked::Retention(question.request())))
}

fn any_path() -> impl Strategy<Value = Case> {
    use path_questions::{any_events, any_request};
    (any_events(), any_request()).prop_map(|(events, request)| (snapshot(&events, START_US), Asked::Path(request)))
}

fn any_sessions() -> impl Strategy<Value = Case> {
    use session_questions::{any_event, any_question};
    (prop::collection::vec(any_event(), 0..80), any_question())
        .prop_map(|(events, question)| (snapshot(&far_apart(events), question.watermark), Asked::Sessions(question.request())))
}

fn any_persons() -> impl Strategy<Value = Case> {
    let within = prop::option::of(subsequence(conditions::PERSONS.to_vec(), 0..8));
    let moment = (prop::option::of(conditions::any_now()), 0_i64..1_800);
    let form = (any::<bool>(), any::<bool>(), 0_i32..3);
    let events = prop::collection::vec(conditions::any_event(), 0..60);
    (events, conditions::any_condition(), within, moment, form).prop_map(|(mut events, condition, within, (as_of, hour), form)| {
        events.push(conditions::knows_all());
        let watermark_us = START_US + (hour - 900) * DAY_US / 24;
        let within = within.map(|persons| conditions::bytes_of(&persons)).unwrap_or_default();
        let as_of = as_of.map(timestamp);
        let (counts, bitmap, page_size) = form;
        let asked = if counts {
            Asked::Count(CountPersonsRequest { condition: Some(condition), as_of, within, ..CountPersonsRequest::default() })
        } else {
            let who = Some(Who::Condition(condition));
            Asked::Select(SelectPersonsRequest { who, as_of, within, bitmap, page_size, ..SelectPersonsRequest::default() })
        };
        (snapshot(&events, watermark_us), asked)
    })
}

fn timestamp(us: i64) -> Timestamp {
    Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

/// The answer of one process.
fn alone(snapshot: &Snapshot, asked: &Asked) -> Result<Answer, QueryError> {
    let cancel = CancellationToken::new();
    let context = Context { snapshot, zone: Tz::UTC, limits: QueryLimits::default(), cancel: &cancel };
    Ok(untimed(match asked {
        Asked::Funnel(request) => Answer::Funnel(funnel::query(&context, request)?),
        Asked::Retention(request) => Answer::Retention(retention::query(&context, request)?),
        Asked::Path(request) => Answer::Path(path::query(&context, request)?),
        Asked::Sessions(request) => Answer::Sessions(sessions::query(&context, request)?),
        Asked::Count(request) => Answer::Count(persons::count(&context, request)?),
        Asked::Select(request) => Answer::Select(persons::select(&context, request)?),
    }))
}

/// All of it but how long it took; of conditions also without what was read, which is less where a part of one decides for all persons at
/// hand.
fn untimed(mut answer: Answer) -> Answer {
    let (stats, is_condition) = match &mut answer {
        Answer::Funnel(answer) => (&mut answer.stats, false),
        Answer::Retention(answer) => (&mut answer.stats, false),
        Answer::Path(answer) => (&mut answer.stats, false),
        Answer::Sessions(answer) => (&mut answer.stats, false),
        Answer::Count(answer) => (&mut answer.stats, true),
        Answer::Select(answer) => (&mut answer.stats, true),
    };
    *stats = stats.take().filter(|_| !is_condition).map(|stats| ExecutionStats { seconds: 0.0, ..stats });
    answer
}

fn in_parts(snapshot: &Arc<Snapshot>, partitions: usize) -> SessionState {
    session(snapshot, &SqlLimits { partitions, ..generous() }, now()).expect("a session")
}

fn inquiry((snapshot, asked): &Case) -> Inquiry {
    Inquiry::new(snapshot.clone(), Tz::UTC, QueryLimits::default(), asked.clone()).expect("a question that can be asked")
}

/// The answer by plans that go through bytes to a replica with this snapshot.
async fn by_bytes(case: &Case, there: &Arc<Snapshot>) -> Result<Answer, InquiryError> {
    let here = in_parts(&case.0, 3);
    let there = SessionStateBuilder::new_from_existing(here.clone()).with_config(replica(there)).build();
    let mut inquiry = inquiry(case);
    loop {
        let bytes = physical_plan_to_bytes_with_extension_codec(inquiry.plan(&here).await?, &PlanCodec)?;
        let plan = physical_plan_from_bytes_with_extension_codec(&bytes, &there.task_ctx(), &PlanCodec)?;
        match inquiry.finish(&collect(plan, there.task_ctx()).await?)? {
            Finished::Answer(answer) => return Ok(untimed(answer)),
            Finished::Again(next) => inquiry = next,
        }
    }
}

fn compare(cases: u32, strategy: &impl Strategy<Value = Case>) {
    let mut runner = TestRunner::new(Config::with_cases(cases));
    let checked = runner.run(strategy, |case| {
        let (snapshot, asked) = &case;
        let expected = alone(snapshot, asked).expect("an answer");
        for partitions in [1, 2, 8] {
            let found = RUNTIME.block_on(answer(&in_parts(snapshot, partitions), inquiry(&case)));
            prop_assert_eq!(&untimed(found.expect("an answer")), &expected, "in {} parts", partitions);
        }
        let found = RUNTIME.block_on(by_bytes(&case, snapshot)).expect("an answer");
        prop_assert_eq!(&found, &expected, "through bytes");
        Ok(())
    });
    checked.unwrap_or_else(|difference| panic!("{difference}"));
}

#[test]
fn funnels_by_plans_are_those_of_one_pass() {
    compare(150, &any_funnel());
}

#[test]
fn retention_by_plans_is_that_of_one_pass() {
    compare(150, &any_retention());
}

#[test]
fn paths_by_plans_are_those_of_one_pass() {
    compare(150, &any_path());
}

#[test]
fn sessions_by_plans_are_those_of_one_pass() {
    compare(150, &any_sessions());
}

#[test]
fn persons_of_conditions_by_plans_are_those_of_one_pass() {
    compare(150, &any_persons());
}

/// Many persons who did two things, each in a time of their own, with a value that only few share.
fn many() -> Arc<Snapshot> {
    let events = (0..30_000_u32).flat_map(|person| {
        let at = |name: &str, us: i64| ResolvedEvent {
            person: 1 + person * 7,
            name: name.to_owned(),
            time_us: START_US + us,
            source: format!("source {}", person % 700),
            ..ResolvedEvent::default()
        };
        [at("open", 0), at("buy", i64::from(person) * 1_000 + 1)]
    });
    snapshot(&events.collect::<Vec<_>>(), START_US + 10 * DAY_US)
}

fn many_questions() -> [Asked; 3] {
    use segue_proto::analytics::v1 as pb;
    use segue_proto::query::v1::{EventSelector, Field, TimeRange, field};
    let range = Some(TimeRange { start: Some(timestamp(START_US)), end: Some(timestamp(START_US + DAY_US)) });
    let on = |name: &str| Some(EventSelector { events: vec![name.to_owned()], filter: None });
    let source = || Field { field: Some(field::Field::Dimension("source".to_owned())) };
    let step = |name: &str| pb::FunnelStep { on: on(name), ..pb::FunnelStep::default() };
    let breakdown = Some(pb::FunnelBreakdown { field: Some(source()), ..pb::FunnelBreakdown::default() });
    [
        Asked::Funnel(QueryFunnelRequest { range, steps: vec![step("open"), step("buy")], breakdown, ..QueryFunnelRequest::default() }),
        Asked::Sessions(pb::QuerySessionsRequest { range, group_by: vec![source()], top: 3, ..pb::QuerySessionsRequest::default() }),
        Asked::Path(pb::QueryPathRequest { range, node: Some(source()), top: 5, ..pb::QueryPathRequest::default() }),
    ]
}

#[test]
fn partial_results_of_many_batches_are_put_together() {
    let snapshot = many();
    for asked in many_questions() {
        let expected = alone(&snapshot, &asked).expect("an answer");
        for partitions in [1, 3] {
            let found = RUNTIME.block_on(answer(&in_parts(&snapshot, partitions), inquiry(&(snapshot.clone(), asked.clone()))));
            assert_eq!(untimed(found.expect("an answer")), expected);
        }
    }
}

#[test]
fn what_a_question_may_not_take_is_refused_as_in_one_pass() {
    let snapshot = many();
    let mut limits = QueryLimits::default();
    limits.report.bytes_max = 100_000;
    for asked in many_questions().into_iter().take(2) {
        let inquiry = Inquiry::new(snapshot.clone(), Tz::UTC, limits, asked).expect("a question");
        let refused = RUNTIME.block_on(answer(&in_parts(&snapshot, 2), inquiry)).expect_err("too much");
        let is_refused = matches!(&refused, InquiryError::Query(error) if matches!(**error, QueryError::TooMuchMemory { .. }));
        assert!(is_refused, "{refused:?}");
    }
    let [funnel, ..] = many_questions();
    let cramped = session(&snapshot, &SqlLimits { memory_bytes_max: 50_000, ..generous() }, now()).expect("a session");
    let refused = RUNTIME.block_on(answer(&cramped, inquiry(&(snapshot.clone(), funnel)))).expect_err("too much");
    assert!(matches!(refused, InquiryError::Memory(_)), "{refused:?}");
    let wrong = Asked::Funnel(QueryFunnelRequest::default());
    let refused = Inquiry::new(snapshot.clone(), Tz::UTC, QueryLimits::default(), wrong.clone()).expect_err("no question");
    assert_eq!(refused.to_string(), alone(&snapshot, &wrong).expect_err("no question").to_string());
}

#[test]
fn a_leaf_finds_no_snapshot_of_another_tenant() {
    let [funnel, ..] = many_questions();
    let case = (snapshot(&[knows_all()], START_US), funnel);
    let other = Arc::new(Snapshot::of_events(&tenant("other"), START_US, &[knows_all()]).expect("a snapshot"));
    let refused = RUNTIME.block_on(by_bytes(&case, &other)).expect_err("another tenant's");
    assert!(format!("{refused:?}").contains("shop"), "{refused:?}");
}

#[test]
fn persons_are_judged_by_the_watermark_of_who_was_asked_or_by_an_earlier_one_of_who_answers() {
    let mut runner = TestRunner::new(Config::with_cases(60));
    let strategy = (prop_oneof![any_funnel(), any_retention(), any_sessions(), any_persons()], 0_i64..9, 0_i64..9);
    let checked = runner.run(&strategy, |((snapshot, asked), here, there)| {
        let before = |days: i64| Arc::new(snapshot.as_of(snapshot.watermark_us() - days * DAY_US));
        let found = RUNTIME.block_on(by_bytes(&(before(here), asked.clone()), &before(there))).expect("an answer");
        prop_assert_eq!(found, alone(&before(here.max(there)), &asked).expect("an answer"));
        Ok(())
    });
    checked.unwrap_or_else(|difference| panic!("{difference}"));
}
