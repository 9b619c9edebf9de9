//! Two processes that want the same tenant.

use segue_store::DbKind;

use super::*;
use crate::flow::store as flow_store;

#[tokio::test]
async fn whoever_lost_the_tenant_commits_nothing() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let shop = Shop::open(&store, &log).await?;
        let scenarios = || vec![started("s", cart(), NOW_US)];
        let mut first = shop.worker("p", scenarios()).await?;
        settle(&mut first).await?;
        let lease_us = i64::try_from(shop.config.lease_ms)? * 1_000;
        if store.kind() == DbKind::Postgres {
            let other = Worker::load(shop.process("q").await?, shop.tenant.clone(), Arc::new(Notify::new())).await?;
            assert!(other.is_none(), "the claim lasts");
        }
        shop.clock.advance_us(lease_us + 1);
        let mut second = shop.worker("q", scenarios()).await?;
        shop.events("cart", NOW_US, &[1, 2, 3]).await?;
        let lost = first.settle().await;
        assert!(matches!(lost, Err(Failure::Reload(CampaignError::Fenced))), "{lost:?}");
        assert!(shop.runs("s").await?.is_empty());
        settle(&mut second).await?;
        assert_eq!(shop.runs("s").await?.len(), 3);
        shop.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn however_often_the_tenant_changes_hands_each_run_does_each_step_once() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let mut shop = Shop::open(&store, &log).await?;
        shop.config.round_inputs_max = 20;
        shop.config.round_runs_max = 20;
        let definition = ScenarioDefinition {
            entry: by_event("cart"),
            steps: (0..5)
                .map(|at| step(&format!("s{at}"), &if at < 4 { format!("s{}", at + 1) } else { String::new() }, wait_hours(1)))
                .collect(),
            ..ScenarioDefinition::default()
        };
        let scenarios = || vec![started("s", definition.clone(), NOW_US)];
        let lease_us = i64::try_from(shop.config.lease_ms)? * 1_000;
        // Where it begins is written down before anything comes in.
        let mut first = shop.worker("p0", scenarios()).await?;
        settle(&mut first).await?;
        let mut workers = vec![first];
        for batch in 0..10_u32 {
            shop.events("cart", NOW_US, &(1..=30).map(|person| batch * 30 + person).collect::<Vec<_>>()).await?;
        }
        for turn in 1..=12 {
            shop.clock.advance_us(HOUR_US.max(lease_us + 1));
            workers.push(shop.worker(&format!("p{turn}"), scenarios()).await?);
            // The one before goes on as if nothing had happened, at the same time.
            let both = workers.len() - 2;
            let [old, new] = &mut workers[both..] else { anyhow::bail!("two") };
            let (old_done, ()) = tokio::join!(crate::flow::round::round(old), async {
                for _ in 0..3 {
                    assert!(crate::flow::round::round(new).await.is_ok());
                }
            });
            assert!(matches!(old_done, Err(Failure::Reload(CampaignError::Fenced)) | Ok(())), "{old_done:?}");
        }
        let mut last = workers.pop().context("one")?;
        for _ in 0..6 {
            settle(&mut last).await?;
            shop.clock.advance_us(HOUR_US);
        }
        let runs = shop.runs("s").await?;
        assert_eq!(runs.len(), 300);
        for run in &runs {
            let steps: Vec<_> = run.state.history.iter().map(|visited| visited.step.as_str()).collect();
            assert_eq!(steps, ["s0", "s1", "s2", "s3", "s4"], "run {}", run.id);
        }
        assert_eq!(flow_store::find(&shop.db, &shop.tenant).await?.map(|row| row.epoch), Some(13));
        shop.close().await?;
    }
    Ok(())
}
