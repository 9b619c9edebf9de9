//! Marks against a plain map, through groups, merges, restarts and expiry, with good filters and useless ones.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use segue_store::Db;
use segue_testkit::{TempStore, stores};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::store::MIGRATIONS;

#[derive(Debug, Clone)]
enum Step {
    /// A group of these messages.
    Group(Vec<u32>),
    /// Days go by.
    Days(i64),
    /// The process ends and another one starts.
    Restart,
    /// Background work gets as far as it can.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(0u32..3_000, 0..200).prop_map(Step::Group),
        1 => (0i64..5).prop_map(Step::Days),
        1 => Just(Step::Restart),
        1 => Just(Step::Settle),
    ]
}

async fn open(db: &Db, config: &MarksConfig, bytes: usize, day: i64) -> MarkIndex {
    positions::create_partition(db, 3).await.expect("a row");
    let row = positions::take_over(db, 3, "test", i64::MAX).await.expect("the store answers").expect("a lease");
    let owner = Owner { partition: 3, epoch: row.epoch };
    MarkIndex::load(db.clone(), owner, config.clone(), bytes, day * DAY_US).await.expect("loaded")
}

async fn add(index: &mut MarkIndex, db: &Db, day: i64, marks: Vec<Fingerprint>) {
    let mut tx = db.begin().await.expect("a transaction");
    index.write(&mut tx, day, &marks).await.expect("written");
    tx.commit().await.expect("committed");
    index.remember(day, marks);
}

/// Waits for the background merge, if there is one, and goes on until nothing is left to do.
async fn settle(index: &mut MarkIndex, tasks: &Tasks) {
    loop {
        index.maintain(tasks).await.expect("maintained");
        if index.is_settled() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn mark(message: u32) -> Fingerprint {
    fingerprint("tenant", "source", &message.to_string())
}

async fn follow(store: &TempStore, config: MarksConfig, filter_bytes: usize, steps: Vec<Step>) {
    let db = store.open(&segue_testkit::unique_name(), MIGRATIONS).await.expect("the store opens");
    let tasks = Tasks::new();
    let mut day = 20_000;
    let mut index = open(&db, &config, filter_bytes, day).await;
    let mut reference: HashMap<Fingerprint, i64> = HashMap::new();
    for step in steps {
        match step {
            Step::Days(days) => day += days,
            Step::Restart => index = open(&db, &config, filter_bytes, day).await,
            Step::Settle => settle(&mut index, &tasks).await,
            Step::Group(messages) => {
                index.maintain(&tasks).await.expect("maintained");
                let asked: Vec<Fingerprint> = messages.iter().map(|message| mark(*message)).collect();
                let seen = index.seen(&asked, day).await.expect("answered");
                let expected: Vec<bool> = asked.iter().map(|mark| reference.get(mark).is_some_and(|at| *at >= day - 7)).collect();
                assert_eq!(seen, expected);
                let mut new: HashSet<Fingerprint> = HashSet::new();
                let fresh: Vec<Fingerprint> =
                    asked.iter().zip(&seen).filter(|(mark, seen)| !**seen && new.insert(**mark)).map(|(mark, _)| *mark).collect();
                reference.extend(fresh.iter().map(|mark| (*mark, day)));
                add(&mut index, &db, day, fresh).await;
            }
        }
    }
    tasks.stop(Duration::from_secs(10)).await.expect("merges end");
    db.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_was_seen_in_the_last_days_is_seen_and_nothing_else(
        steps in prop::collection::vec(step(), 1..40),
        bits in prop_oneof![Just(20.0), Just(0.001)],
        filter_bytes in prop_oneof![Just(1usize << 20), Just(0)],
        recent_max in 16u32..300,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let config = MarksConfig { recent_max, merge_fan_in: 2, filter_bits_per_mark: bits, ..MarksConfig::default() };
            for store in stores() {
                follow(&store, config.clone(), filter_bytes, steps.clone()).await;
            }
        });
    }
}

#[tokio::test]
async fn a_filter_that_is_always_wrong_drops_nothing() {
    let store = TempStore::sqlite();
    let db = store.open("ingest", MIGRATIONS).await.expect("the store opens");
    let config = MarksConfig { recent_max: 1_000, filter_bits_per_mark: 0.001, ..MarksConfig::default() };
    let tasks = Tasks::new();
    let mut index = open(&db, &config, 1 << 20, 1).await;
    add(&mut index, &db, 1, (0..5_000).map(mark).collect()).await;
    settle(&mut index, &tasks).await;
    let filter = index.segments[0].filter.as_ref().expect("a filter");
    assert!((100_000..100_100).all(|message| filter.may_contain(mark(message))), "the filter is full");
    let seen = index.seen(&(4_000..6_000).map(mark).collect::<Vec<_>>(), 1).await.expect("answered");
    assert!(seen[..1_000].iter().all(|seen| *seen) && !seen[1_000..].iter().any(|seen| *seen));
}

#[tokio::test]
async fn segments_that_expired_leave_nothing_behind() {
    let store = TempStore::sqlite();
    let db = store.open("ingest", MIGRATIONS).await.expect("the store opens");
    let config = MarksConfig { recent_max: 100, merge_fan_in: 2, ..MarksConfig::default() };
    let tasks = Tasks::new();
    let mut index = open(&db, &config, 1 << 20, 1).await;
    for round in 0..20 {
        add(&mut index, &db, 1, (round * 100..round * 100 + 100).map(mark).collect()).await;
        index.maintain(&tasks).await.expect("maintained");
    }
    settle(&mut index, &tasks).await;
    add(&mut index, &db, 9, vec![mark(1_000_000)]).await;
    settle(&mut index, &tasks).await;
    assert_eq!(index.len(), 1);
    let left: i64 =
        segue_store::on_db!(db, pool => sqlx::query_scalar("SELECT count(*) FROM mark_chunk").fetch_one(pool).await).expect("counted");
    let segments: i64 =
        segue_store::on_db!(db, pool => sqlx::query_scalar("SELECT count(*) FROM mark_segment").fetch_one(pool).await).expect("counted");
    assert_eq!((left, segments), (0, 0));
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_can_change_no_marks() {
    for store in stores() {
        let db = store.open("ingest", MIGRATIONS).await.expect("the store opens");
        let config = MarksConfig { recent_max: 16, ..MarksConfig::default() };
        let tasks = Tasks::new();
        let mut zombie = open(&db, &config, 1 << 20, 1).await;
        add(&mut zombie, &db, 1, (0..50).map(mark).collect()).await;
        let mut heir = open(&db, &config, 1 << 20, 1).await;
        assert!(matches!(zombie.maintain(&tasks).await, Err(PipelineError::Fenced { .. })));
        settle(&mut heir, &tasks).await;
        assert!(heir.seen(&(0..50).map(mark).collect::<Vec<_>>(), 1).await.expect("answered").iter().all(|seen| *seen));
    }
}

async fn count(db: &Db, sql: &'static str) -> i64 {
    segue_store::on_db!(db, pool => sqlx::query_scalar(sql).fetch_one(pool).await).expect("counted")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_that_was_given_up_writes_nothing_more() {
    for store in stores() {
        let db = store.open(&segue_testkit::unique_name(), MIGRATIONS).await.expect("the store opens");
        let config = MarksConfig { recent_max: 16, merge_fan_in: 2, ..MarksConfig::default() };
        let tasks = Tasks::new();
        let mut index = open(&db, &config, 1 << 20, 1).await;
        for round in 0..2 {
            add(&mut index, &db, 1, (round * 20..round * 20 + 20).map(mark).collect()).await;
            index.flush_oldest().await.expect("flushed");
        }
        let plan = index.choose_merge().expect("two segments");
        let stop = CancellationToken::new();
        stop.cancel();
        let given_up = merge::merge(&db, index.owner, plan, 20.0, &stop).await;
        assert!(matches!(given_up, Err(PipelineError::Stopping)));
        assert_eq!(count(&db, "SELECT count(*) FROM mark_segment").await, 2);

        index.maintain(&tasks).await.expect("maintained");
        let Merging { told, _stop } = index.merging.take().expect("a merge");
        drop(_stop);
        let mut heir = MarkIndex::load(db.clone(), index.owner, config, 1 << 20, DAY_US).await.expect("loaded");
        settle(&mut heir, &tasks).await;
        let _ended = told.await;
        assert!(heir.seen(&(0..40).map(mark).collect::<Vec<_>>(), 1).await.expect("answered").iter().all(|seen| *seen));
        let astray = "SELECT count(*) FROM mark_chunk WHERE id >> 22 NOT IN (SELECT id FROM mark_segment WHERE state = 1)";
        assert_eq!(count(&db, astray).await, 0);
        assert_eq!(count(&db, "SELECT count(*) FROM mark_segment").await, 1);
        tasks.stop(Duration::from_secs(10)).await.expect("merges end");
    }
}

#[tokio::test]
async fn what_was_left_under_the_id_of_a_new_segment_is_removed_first() {
    for store in stores() {
        let db = store.open(&segue_testkit::unique_name(), MIGRATIONS).await.expect("the store opens");
        let mut index = open(&db, &MarksConfig::default(), 1 << 20, 1).await;
        let left = mark(99);
        let mut tx = db.begin().await.expect("a transaction");
        let id = index.next_segment << sql::CHUNK_BITS_MAX;
        sql::insert_chunks(&mut tx, &encode(&[left]), &[(id, 0, 16)]).await.expect("inserted");
        tx.commit().await.expect("committed");
        add(&mut index, &db, 1, (0..20).map(mark).collect()).await;
        index.flush_oldest().await.expect("flushed");
        assert_eq!(index.seen(&[left, mark(7)], 1).await.expect("answered"), [false, true]);
    }
}

#[tokio::test]
async fn marks_of_days_that_are_yet_to_come_count_from_today_once_the_clock_is_right() {
    for store in stores() {
        let db = store.open(&segue_testkit::unique_name(), MIGRATIONS).await.expect("the store opens");
        let config = MarksConfig { recent_max: 16, ..MarksConfig::default() };
        let tasks = Tasks::new();
        let mut index = open(&db, &config, 1 << 20, 5_000).await;
        add(&mut index, &db, 5_000, (0..20).map(mark).collect()).await;
        index.maintain(&tasks).await.expect("maintained");
        add(&mut index, &db, 5_000, vec![mark(20)]).await;
        add(&mut index, &db, 10, vec![mark(21)]).await;
        settle(&mut index, &tasks).await;
        let marks: Vec<Fingerprint> = (0..22).map(mark).collect();
        assert!(index.seen(&marks, 17).await.expect("answered").iter().all(|seen| *seen));
        assert_eq!(count(&db, "SELECT max(day) FROM mark_segment").await, 10);
        add(&mut index, &db, 18, vec![mark(22)]).await;
        settle(&mut index, &tasks).await;
        assert_eq!(index.len(), 1);
    }
}

/// Prints the cost per event; `SEGUE_BENCH_MARKS=20000000 cargo test -p segue-ingest --lib marks::tests::cost -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_methods, reason = "a measurement has no configuration but the environment")]
async fn cost_per_event_at_many_marks() {
    let total: u32 = std::env::var("SEGUE_BENCH_MARKS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let store = TempStore::sqlite();
    let db = store.open("ingest", MIGRATIONS).await.expect("the store opens");
    let tasks = Tasks::new();
    let mut index = open(&db, &MarksConfig::default(), 256 << 20, 1).await;
    let (mut asked_for, mut wrote, mut kept) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut next_report = 1_000_000;
    let (mut last, mut count) = ((Duration::ZERO, Duration::ZERO, Duration::ZERO), 0u32);
    for batch in 0..total / 1_000 {
        let day = 1 + i64::from(batch) * 7 / i64::from(total / 1_000).max(1);
        let marks: Vec<Fingerprint> = (batch * 1_000..batch * 1_000 + 1_000).map(mark).collect();
        let begun = Instant::now();
        assert!(!index.seen(&marks, day).await.expect("answered").iter().any(|seen| *seen));
        asked_for += begun.elapsed();
        let begun = Instant::now();
        add(&mut index, &db, day, marks).await;
        wrote += begun.elapsed();
        let begun = Instant::now();
        index.maintain(&tasks).await.expect("maintained");
        kept += begun.elapsed();
        count += 1_000;
        if (batch + 1) * 1_000 >= next_report {
            let per = |now: Duration, then: Duration| (now - then).as_nanos() as f64 / f64::from(count);
            println!(
                "{:>9} marks: look-up {:.0} ns, row and commit {:.0} ns, moving and sweeping {:.0} ns per event; {:?} (filter bytes, segments)",
                index.len(),
                per(asked_for, last.0),
                per(wrote, last.1),
                per(kept, last.2),
                index.filters()
            );
            (last, count, next_report) = ((asked_for, wrote, kept), 0, next_report.saturating_mul(2));
        }
    }
    let begun = Instant::now();
    let again = open(&db, &MarksConfig::default(), 256 << 20, 7).await;
    println!("restart with {} marks: {:?}", again.len(), begun.elapsed());
}
