//! How runs go on: by time, not while paused, to the end of the scenario, and not without what they have to know.

use segue_proto::campaign::v1::LocalTime;

use super::*;
use crate::flow::machine::EndReason;
use crate::flow::store::persons;
use crate::flow::store::work::{self, CommandBody};

fn waiting() -> ScenarioDefinition {
    ScenarioDefinition {
        entry: by_event("cart"),
        steps: vec![step("a", "b", wait_hours(1)), step("b", "", wait_hours(1))],
        ..ScenarioDefinition::default()
    }
}

#[tokio::test]
async fn a_paused_scenario_waits_and_goes_on_where_it_was() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let shop = Shop::open(&store, &log).await?;
        let paused = || Started { paused: true, ..started("s", waiting(), NOW_US) };
        let mut worker = shop.worker("p", vec![started("s", waiting(), NOW_US), started("t", waiting(), NOW_US)]).await?;
        shop.events("cart", NOW_US, &[1, 2]).await?;
        settle(&mut worker).await?;
        worker.define(vec![paused(), started("t", waiting(), NOW_US)]);
        shop.clock.advance_us(HOUR_US);
        // Settling would not end if what is paused were tried all the time.
        settle(&mut worker).await?;
        shop.events("cart", NOW_US + HOUR_US, &[3]).await?;
        settle(&mut worker).await?;
        let steps = |runs: Vec<Run>| runs.into_iter().map(|run| run.state.step).collect::<Vec<_>>();
        assert_eq!(steps(shop.runs("s").await?), ["a", "a"], "nobody goes on, nobody enters");
        assert_eq!(steps(shop.runs("t").await?), ["b", "b", "a"]);
        worker.define(vec![started("s", waiting(), NOW_US), started("t", waiting(), NOW_US)]);
        settle(&mut worker).await?;
        assert_eq!(steps(shop.runs("s").await?), ["b", "b"]);
        assert_eq!(shop.runs("s").await?[0].due_us, Some(NOW_US + 2 * HOUR_US));
        shop.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn runs_end_with_their_scenario_or_by_call_and_old_ones_are_removed() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let mut shop = Shop::open(&store, &log).await?;
        shop.config.round_runs_max = 10;
        let mut worker = shop.worker("p", vec![started("s", waiting(), NOW_US)]).await?;
        shop.events("cart", NOW_US, &(1..=55).collect::<Vec<_>>()).await?;
        settle(&mut worker).await?;
        let exit = CommandBody::Exit { scenario: "s".to_owned(), person: 7, entry_key: None };
        work::command(&shop.db, &shop.tenant, &exit).await?;
        settle(&mut worker).await?;
        let of = |runs: &[Run], reason: EndReason| runs.iter().filter(|run| run.ended.is_some_and(|(_, why)| why == reason)).count();
        let runs = shop.runs("s").await?;
        assert_eq!((of(&runs, EndReason::ExitCall), runs[6].ended.map(|(_, why)| why)), (1, Some(EndReason::ExitCall)));
        worker.define(vec![Started { ended: true, ..started("s", waiting(), NOW_US) }]);
        settle(&mut worker).await?;
        let runs = shop.runs("s").await?;
        assert_eq!((of(&runs, EndReason::ScenarioEnded), of(&runs, EndReason::ExitCall), runs.len()), (54, 1, 55));

        let month_us = 31 * 24 * HOUR_US;
        let row = worker.row.clone();
        assert!(!crate::flow::commit::remove_old(&shop.db, &shop.tenant, &row, NOW_US - 1).await?);
        assert_eq!(shop.runs("s").await?.len(), 55);
        crate::flow::commit::remove_old(&shop.db, &shop.tenant, &row, NOW_US + month_us).await?;
        assert!(shop.runs("s").await?.is_empty());
        let key = (7, "s".to_owned(), String::new());
        let entries = persons::entries(&shop.db, &shop.tenant, &[key.clone()].into()).await?;
        let known = persons::Entries { entry: 1, last_entered_us: runs[6].entered_us, active: 0 };
        assert_eq!(entries.get(&key), Some(&known), "that they entered is known still");
        shop.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn runs_are_moved_to_another_version_by_step() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let mut shop = Shop::open(&store, &log).await?;
        shop.config.round_runs_max = 2;
        let newer = ScenarioDefinition { steps: vec![step("c", "", wait_hours(5))], ..waiting() };
        let mut scenario = started("s", waiting(), NOW_US);
        scenario.versions.insert(2, newer);
        let mut worker = shop.worker("p", vec![scenario.clone()]).await?;
        shop.events("cart", NOW_US, &[1, 2, 3]).await?;
        settle(&mut worker).await?;
        shop.clock.advance_us(HOUR_US);
        settle(&mut worker).await?;
        shop.events("cart", NOW_US + HOUR_US, &[4, 5]).await?;
        settle(&mut worker).await?;
        let steps = [("a".to_owned(), "c".to_owned())].into();
        let body = CommandBody::Move { scenario: "s".to_owned(), from: 1, to: 2, steps, after_run: 0, until_run: 0 };
        work::command(&shop.db, &shop.tenant, &body).await?;
        settle(&mut worker).await?;
        let places: Vec<_> = shop.runs("s").await?.into_iter().map(|run| (run.version, run.state.step, run.due_us)).collect();
        let old = (1, "b".to_owned(), Some(NOW_US + 2 * HOUR_US));
        let new = (2, "c".to_owned(), Some(NOW_US + 6 * HOUR_US));
        assert_eq!(places, [old.clone(), old.clone(), old, new.clone(), new]);
        assert!(work::commands(&shop.db, &shop.tenant, 10).await?.is_empty());
        shop.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_cannot_be_asked_about_stays_and_what_came_after_is_kept() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let shop = Shop::open(&store, &log).await?;
        // Identity says the zone, and it does not answer.
        let local = LocalTime { time: "09:00".to_owned(), days_of_week: Vec::new() };
        let mut needy = cart();
        needy.steps.insert(0, step("zone", "wait", Kind::Wait(WaitStep { wait: Some(Wait::UntilLocalTime(local)) })));
        let mut worker = shop.worker("p", vec![started("needy", needy, NOW_US), started("s", cart(), NOW_US)]).await?;
        shop.events("cart", NOW_US, &[1]).await?;
        shop.events("buy", NOW_US + SECOND_US, &[1]).await?;
        shop.events("cart", NOW_US, &[2]).await?;
        shop.clock.advance_us(5 * SECOND_US);
        settle(&mut worker).await?;
        let needy = shop.runs("needy").await?;
        assert_eq!(
            needy.iter().map(|run| (run.person, run.state.step.as_str(), run.due_us.is_some())).collect::<Vec<_>>(),
            [(1, "zone", true), (2, "zone", true)]
        );
        let held = persons::held(&shop.db, &shop.tenant, &[1, 2].into()).await?;
        assert!(held.iter().any(|held| held.person == 1 && held.body.contains("Event")), "{held:?}");
        assert!(!worker.row.problem.is_empty(), "it says what it lacks");
        shop.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_end_of_a_wait_does_not_overtake_an_event_that_is_behind_more_than_a_round_takes() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let mut shop = Shop::open(&store, &log).await?;
        shop.config.round_inputs_max = 20;
        let mut worker = shop.worker("p", vec![started("s", cart(), NOW_US)]).await?;
        shop.events("cart", NOW_US, &[1]).await?;
        settle(&mut worker).await?;
        shop.events("cart", NOW_US + SECOND_US, &(2..=31).collect::<Vec<_>>()).await?;
        shop.events("buy", NOW_US + 2 * SECOND_US, &[1]).await?;
        shop.clock.advance_us(HOUR_US);
        settle(&mut worker).await?;
        let runs = shop.runs("s").await?;
        assert_eq!(runs[0].state.step, "bought", "{:?}", runs[0]);
        shop.close().await?;
    }
    Ok(())
}
