//! Calls to enter on every store there is.

use anyhow::Result;
use futures::future::join_all;
use segue_model::TenantId;
use segue_proto::campaign::v1::EnterScenarioRequest;
use segue_proto::campaign::v1::entrant::Who;
use segue_store::Db;
use segue_testkit::stores;

use super::super::change::{self, Outcome};
use super::super::enter::tests::{person, text};
use super::super::{calls, enter, forget_calls};
use super::{after, by_audience, by_call, change_count, create, open, same, start, update, why};
use crate::error::CampaignError;

const DAY_US: i64 = 24 * 3_600 * 1_000_000;

fn entering(scenario: &str, request_id: &str, persons: &[u32]) -> enter::Enter {
    let entrants = persons.iter().map(|number| person(*number, &format!("key {number}"))).collect();
    let request = EnterScenarioRequest { id: scenario.to_owned(), entrants, request_id: request_id.to_owned() };
    enter::parse(request).expect("a right request")
}

async fn add(db: &Db, tenant: &TenantId, enter: &enter::Enter, known: &[u32], now_us: i64) -> Result<Outcome<Vec<bool>>, CampaignError> {
    let person = |entrant: &enter::Entering| match &entrant.who {
        Who::Person(number) => Some(*number).filter(|number| known.contains(number)),
        Who::Identifier(_) => None,
    };
    let persons: Vec<Option<u32>> = enter.entrants.iter().map(person).collect();
    calls::add(db, tenant, enter, &persons, now_us).await
}

#[tokio::test]
async fn calls_are_read_in_order_and_forgotten_when_dealt_with() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        create(&db, &shop, "s", by_call()).await?;
        start(&db, &shop, "s", 10).await?;
        assert_eq!(after(add(&db, &shop, &entering("s", "r1", &[7, 8, 9]), &[7, 9], 20).await?), [true, false, true]);
        assert_eq!(after(add(&db, &shop, &entering("s", "r2", &[3]), &[], 21).await?), [false]);
        let mut with_properties = entering("s", "r3", &[7]);
        with_properties.entrants[0].properties.insert("plan".to_owned(), text("gold \u{1f600} \"'\\"));
        after(add(&db, &shop, &with_properties, &[7], 22).await?);
        let read = calls(&db, &shop, 0, 10).await?;
        let told: Vec<_> = read.iter().map(|call| (call.sequence, call.scenario.as_str(), call.person, call.entry_key.as_str())).collect();
        assert_eq!(told, [(1, "s", 7, "key 7"), (2, "s", 9, "key 9"), (3, "s", 7, "key 7")]);
        assert_eq!(read[2].event, with_properties.entrants[0].event("r3", 22));
        assert!(read[2].event.properties.contains_key("plan") && read[2].event.time_us == 22 && read[2].event.message_id == "r3");
        assert_eq!(calls(&db, &shop, 1, 1).await?.iter().map(|call| call.sequence).collect::<Vec<_>>(), [2]);
        assert!(calls(&db, &"other".parse()?, 0, 10).await?.is_empty());
        let mut tx = db.begin().await?;
        forget_calls(&mut tx, &shop, 2).await?;
        tx.commit().await?;
        assert_eq!(calls(&db, &shop, 0, 10).await?.iter().map(|call| call.sequence).collect::<Vec<_>>(), [3]);
        let mut tx = db.begin().await?;
        forget_calls(&mut tx, &shop, 3).await?;
        tx.commit().await?;
        after(add(&db, &shop, &entering("s", "r4", &[1]), &[1], 23).await?);
        assert_eq!(calls(&db, &shop, 0, 10).await?[0].sequence, 4, "sequences are never used again");
        same(add(&db, &shop, &entering("s", "r1", &[7, 8, 9]), &[7, 8, 9], 24).await?);
        assert_eq!(change_count(&db, &shop).await?, 1, "calls are no changes");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_enters_once_and_keeps_its_answer_for_seven_days() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        for id in ["s", "t"] {
            create(&db, &shop, id, by_call()).await?;
            start(&db, &shop, id, 10).await?;
        }
        let first = entering("s", "r", &[1, 2]);
        assert_eq!(calls::answer(&db, &shop, &first).await?, None);
        after(add(&db, &shop, &first, &[1], 100).await?);
        // Meanwhile the other one has become known, and the scenario was paused.
        after(change::pause(&db, &shop, "s", "", 101).await?);
        assert_eq!(calls::answer(&db, &shop, &first).await?, Some(vec![true, false]));
        assert_eq!(same(add(&db, &shop, &first, &[1, 2], 102).await?), [true, false]);
        let other = entering("s", "r", &[1, 3]);
        for error in [calls::answer(&db, &shop, &other).await.err(), add(&db, &shop, &other, &[1], 103).await.err()] {
            assert!(matches!(error, Some(CampaignError::Invalid(faults)) if faults[0].field == "request_id"));
        }
        after(add(&db, &shop, &entering("t", "r", &[1]), &[1], 104).await?);
        start(&db, &shop, "s", 105).await?;
        after(add(&db, &shop, &entering("s", "week", &[5]), &[5], 100 + 7 * DAY_US).await?);
        assert!(calls::answer(&db, &shop, &first).await?.is_some(), "seven days are not over");
        after(add(&db, &shop, &entering("s", "later", &[5]), &[5], 101 + 7 * DAY_US).await?);
        assert_eq!(calls::answer(&db, &shop, &first).await?, None);
        assert!(calls::answer(&db, &shop, &entering("t", "r", &[1])).await?.is_some());
        assert_eq!(calls(&db, &shop, 0, 10).await?.len(), 4);
    }
    Ok(())
}

#[tokio::test]
async fn only_running_scenarios_whose_entry_is_a_call_are_entered_by_call() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        create(&db, &shop, "s", by_call()).await?;
        let enter = entering("s", "r", &[1]);
        let refused = async || -> Result<String> {
            let checked = why(calls::check(&db, &shop, "s").await);
            assert_eq!(why(add(&db, &shop, &enter, &[1], 1).await), checked);
            Ok(checked)
        };
        assert_eq!(refused().await?, "was never started: start it first");
        start(&db, &shop, "s", 10).await?;
        calls::check(&db, &shop, "s").await?;
        update(&db, &shop, "s", by_audience("a", false)).await?;
        calls::check(&db, &shop, "s").await?;
        start(&db, &shop, "s", 20).await?;
        assert_eq!(refused().await?, "is entered by an audience, not by call: use a scenario whose entry is `call`");
        after(change::pause(&db, &shop, "s", "", 30).await?);
        assert_eq!(refused().await?, "is paused: start it again first");
        after(change::end(&db, &shop, "s", "", 40).await?);
        assert_eq!(refused().await?, "has ended: nobody enters it any more");
        assert!(calls(&db, &shop, 0, 10).await?.is_empty());
        for id in ["t", "t\0"] {
            let missing = entering(id, "r", &[1]);
            let answer = calls::answer(&db, &shop, &missing).await;
            let found = match answer {
                Ok(_) => calls::check(&db, &shop, id).await.err(),
                Err(error) => Some(error),
            };
            assert!(matches!(found, Some(CampaignError::NotFound { .. })), "{id:?}: {found:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn concurrent_calls_are_all_kept_in_one_order_and_a_reader_misses_none() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        create(&db, &shop, "s", by_call()).await?;
        start(&db, &shop, "s", 10).await?;
        let requests: Vec<_> = (0..24).map(|at| entering("s", &format!("r{}", at / 2), &[at / 2 + 1, 100 + at / 2])).collect();
        let known: Vec<u32> = (1..=200).collect();
        let writing = async {
            let all = join_all(requests.iter().map(|request| add(&db, &shop, request, &known, 20))).await;
            all.into_iter().map(|outcome| matches!(outcome, Ok(Outcome::Changed(_)))).filter(|changed| *changed).count()
        };
        let reading = async {
            let (mut after, mut seen) = (0, Vec::new());
            // Whatever is committed later has a later sequence: reading on never meets a gap that is filled afterwards.
            while seen.len() < 24 {
                for call in calls(&db, &shop, after, 5).await? {
                    after = call.sequence;
                    seen.push(call.sequence);
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, CampaignError>(seen)
        };
        let (written, seen) = tokio::time::timeout(std::time::Duration::from_secs(60), futures::future::join(writing, reading)).await?;
        assert_eq!(written, 12, "each request id counts once");
        assert_eq!(seen?, (1..=24).collect::<Vec<i64>>());
        let mut persons: Vec<u32> = calls(&db, &shop, 0, 100).await?.iter().map(|call| call.person).collect();
        persons.sort_unstable();
        assert_eq!(persons, (1..=12).chain(100..112).collect::<Vec<_>>());
    }
    Ok(())
}
