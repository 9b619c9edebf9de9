//! Who enters, once, however it comes in.

use std::collections::BTreeSet;

use super::*;
use crate::flow::machine::EndReason;

#[tokio::test]
async fn an_event_lets_its_person_enter_and_the_next_one_goes_to_the_run() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let shop = Shop::open(&store, &log).await?;
        let mut worker = shop.worker("p", vec![started("s", cart(), NOW_US)]).await?;
        shop.events("cart", NOW_US - SECOND_US, &[9]).await?;
        shop.events("cart", NOW_US, &[1, 2]).await?;
        shop.events("look", NOW_US, &[3]).await?;
        shop.events("buy", NOW_US + SECOND_US, &[1]).await?;
        shop.clock.advance_us(2 * SECOND_US);
        settle(&mut worker).await?;
        let ends = |runs: Vec<Run>| runs.into_iter().map(|run| (run.person, run.state.step, run.ended.is_some())).collect::<Vec<_>>();
        let expected = [(1, "bought".to_owned(), true), (2, "wait".to_owned(), false)];
        assert_eq!(ends(shop.runs("s").await?), expected, "who carted before the start does not enter");
        shop.clock.advance_us(HOUR_US);
        settle(&mut worker).await?;
        let expected = [(1, "bought".to_owned(), true), (2, "left".to_owned(), true)];
        assert_eq!(ends(shop.runs("s").await?), expected);
        // Again, since the run before has ended.
        shop.events("cart", NOW_US + HOUR_US, &[2, 2]).await?;
        settle(&mut worker).await?;
        let entries: Vec<_> = shop.runs("s").await?.iter().map(|run| (run.person, run.entry)).collect();
        assert_eq!(entries, [(1, 1), (2, 1), (2, 2)]);
        shop.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn many_who_enter_an_audience_at_once_enter_once_each_in_parts() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let mut shop = Shop::open(&store, &log).await?;
        shop.config.round_inputs_max = 700;
        let definition = ScenarioDefinition { entry: by_audience("a"), steps: vec![step("w", "", wait_hours(1))], ..one_step() };
        let scenarios = || vec![started("s", definition.clone(), NOW_US)];
        let mut worker = shop.worker("p", scenarios()).await?;
        let persons: RoaringBitmap = (1..=2_500).collect();
        shop.entered("a", NOW_US, &persons).await?;
        shop.entered("a", NOW_US, &(2_400..=2_600).collect()).await?;
        shop.entered("b", NOW_US, &(5_000..=5_100).collect()).await?;
        // A process that ends between two parts loses nothing.
        for _ in 0..3 {
            assert!(crate::flow::round::round(&mut worker).await.is_ok());
        }
        let some = shop.runs("s").await?.len();
        assert!((1..2_500).contains(&some), "{some} after three rounds");
        shop.clock.advance_us(60 * SECOND_US);
        let mut worker = shop.worker("q", scenarios()).await?;
        settle(&mut worker).await?;
        let runs = shop.runs("s").await?;
        assert_eq!(runs.len(), 2_600);
        assert_eq!(runs.iter().map(|run| run.person).collect::<BTreeSet<_>>(), (1..=2_600).collect());
        assert!(runs.windows(2).all(|pair| pair[0].id < pair[1].id));
        shop.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_inbox_that_overflows_loses_nothing() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let mut shop = Shop::open(&store, &log).await?;
        shop.config.round_inputs_max = 50;
        let mut worker = shop.worker("p", vec![started("s", cart(), NOW_US)]).await?;
        settle(&mut worker).await?;
        for batch in 0..40_u32 {
            let persons: Vec<u32> = (1..=30).map(|person| batch * 30 + person).collect();
            shop.events("cart", NOW_US, &persons).await?;
            shop.events("buy", NOW_US + SECOND_US, &persons[..15]).await?;
        }
        shop.clock.advance_us(2 * SECOND_US);
        settle(&mut worker).await?;
        let runs = shop.runs("s").await?;
        assert_eq!(runs.len(), 1_200);
        assert_eq!(runs.iter().filter(|run| run.ended.is_some()).count(), 600);
        shop.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_is_merged_keeps_the_run_entered_first() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let shop = Shop::open(&store, &log).await?;
        let mut worker = shop.worker("p", vec![started("s", cart(), NOW_US)]).await?;
        shop.events("cart", NOW_US, &[2, 1, 4]).await?;
        settle(&mut worker).await?;
        shop.merged(2, 1).await?;
        shop.merged(4, 3).await?;
        settle(&mut worker).await?;
        let told = |runs: &[Run]| runs.iter().map(|run| (run.person, run.ended.map(|(_, reason)| reason))).collect::<Vec<_>>();
        assert_eq!(told(&shop.runs("s").await?), [(1, None), (1, Some(EndReason::Merged)), (3, None)]);
        // What still comes under an old number is the survivor's.
        shop.events("buy", NOW_US + SECOND_US, &[2, 4]).await?;
        shop.events("cart", NOW_US + 2 * SECOND_US, &[4]).await?;
        shop.clock.advance_us(5 * SECOND_US);
        settle(&mut worker).await?;
        let runs = shop.runs("s").await?;
        let completed = Some(EndReason::Completed);
        assert_eq!(told(&runs), [(1, completed), (1, Some(EndReason::Merged)), (3, completed), (3, None)]);
        assert_eq!(runs.last().map(|run| run.entry), Some(2));
        shop.close().await?;
    }
    Ok(())
}
