//! Tests of statements, on every store.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use segue_model::TenantId;
use segue_store::{Db, Tx};

use super::super::feed::Stream;
use super::persons::{self, Assignment};
use super::runs::{self, NEVER_US, Written};
use super::work::{self, Wave, WaveBody};
use super::{Positions, TenantRow};
use crate::error::CampaignError;
use crate::flow::machine::{EndReason, Run, State};
use crate::store::{MIGRATIONS, NAMESPACE};

async fn claimed(store: &segue_testkit::TempStore) -> Result<(Db, TenantId, TenantRow)> {
    let db = store.open(NAMESPACE, MIGRATIONS).await?;
    let tenant: TenantId = "shop".parse()?;
    let row = super::claim_as_of(&db, &tenant, "a", 0, 100).await?.context("nobody has it")?;
    Ok((db, tenant, row))
}

fn run(id: u64, person: u32, due_us: Option<i64>) -> Run {
    Run {
        id,
        scenario: "s".to_owned(),
        version: 1,
        person,
        entry_key: String::new(),
        entry: 1,
        entered_us: 5,
        held_out: false,
        state: State { step: "a \"\\ \u{0} 홍".to_owned(), ..State::default() },
        due_us,
        ended: None,
    }
}

async fn insert(tx: &mut Tx, tenant: &TenantId, all: &[Run]) -> Result<(), CampaignError> {
    let written: Vec<Written<'_>> = all.iter().map(|run| Written { run, goals_until_us: 50 }).collect();
    runs::put(tx, tenant, &written).await
}

#[tokio::test]
async fn a_claim_that_was_lost_moves_nothing() -> Result<()> {
    for store in segue_testkit::stores() {
        let (db, shop, mut row) = claimed(&store).await?;
        assert_eq!(row.positions, Positions::new());
        assert!(super::claim_as_of(&db, &shop, "b", 99, 200).await?.is_none(), "it lasts until 100");
        row.positions = [((Stream::Resolved, 3), 7), ((Stream::Transitions, 0), u64::from(u32::MAX) * 4)].into();
        row.numbers = 12;
        let mut tx = db.begin().await?;
        super::advance(&mut tx, &shop, &row).await?;
        tx.commit().await?;
        let taken = super::claim_as_of(&db, &shop, "b", 100, 200).await?.context("it is over")?;
        assert_eq!((taken.epoch, &taken.positions, taken.numbers), (row.epoch + 1, &row.positions, 12));
        let mut tx = db.begin().await?;
        assert!(matches!(super::advance(&mut tx, &shop, &row).await, Err(CampaignError::Fenced)));
        tx.rollback().await?;
        super::release(&db, &shop, row.epoch).await?;
        assert!(super::claim_as_of(&db, &shop, "c", 150, 300).await?.is_none(), "only its owner gives it back");
        super::release(&db, &shop, taken.epoch).await?;
        assert!(super::claim_as_of(&db, &shop, "c", 150, 300).await?.is_some());
        assert_eq!(super::ask(&db, &shop).await?, 1);
        assert_eq!((super::ask(&db, &shop).await?, super::last_asked(&db, &shop).await?), (2, 2));
        assert_eq!(super::asked(&db, "c").await?, ["shop"]);
    }
    Ok(())
}

#[tokio::test]
async fn of_a_person_scenario_and_key_one_run_is_active() -> Result<()> {
    for store in segue_testkit::stores() {
        let (db, shop, _) = claimed(&store).await?;
        let mut first = run(1, 7, Some(10));
        let mut tx = db.begin().await?;
        insert(&mut tx, &shop, &[first.clone(), run(2, 8, None)]).await?;
        tx.commit().await?;
        let mut tx = db.begin().await?;
        assert!(insert(&mut tx, &shop, &[run(3, 7, None)]).await.is_err(), "person 7 has an active run");
        tx.rollback().await?;
        first.ended = Some((20, EndReason::ExitRule));
        let mut tx = db.begin().await?;
        runs::put(&mut tx, &shop, &[Written { run: &first, goals_until_us: 50 }]).await?;
        insert(&mut tx, &shop, &[run(3, 7, Some(30))]).await?;
        tx.commit().await?;
        let mut read: Vec<(Run, i64)> = Vec::new();
        for row in runs::of_persons(&db, &shop, &[7].into(), 49).await? {
            read.push(row.read()?);
        }
        read.sort_by_key(|(run, _)| run.id);
        first.due_us = None;
        assert_eq!(read, [(first, 50), (run(3, 7, Some(30)), NEVER_US)]);
        assert_eq!(runs::of_persons(&db, &shop, &[7].into(), 50).await?.len(), 1, "its goals' windows have closed");
        let key = (7, "s".to_owned(), String::new());
        let entries = persons::entries(&db, &shop, &[key.clone(), (9, "s".to_owned(), String::new())].into()).await?;
        assert_eq!(entries.get(&key).map(|known| (known.active, known.entry)), Some((3, 1)));
        assert_eq!(entries.len(), 1);
        assert_eq!(runs::count(&db, &shop, 30).await?, (2, 1));
    }
    Ok(())
}

#[tokio::test]
async fn due_runs_come_in_the_order_of_their_times_behind_a_place() -> Result<()> {
    for store in segue_testkit::stores() {
        let (db, shop, _) = claimed(&store).await?;
        let mut tx = db.begin().await?;
        let all = [run(1, 1, Some(30)), run(2, 2, Some(10)), run(3, 3, Some(10)), run(4, 4, None), run(5, 5, Some(20))];
        insert(&mut tx, &shop, &all).await?;
        tx.commit().await?;
        let due = async |after: (i64, u64), until: i64, limit: usize| -> Result<Vec<i64>> {
            Ok(runs::due(&db, &shop, "s", after, until, limit).await?.iter().map(|row| row.id()).collect())
        };
        assert_eq!(due((i64::MIN, 0), 20, 10).await?, [2, 3, 5]);
        assert_eq!(due((i64::MIN, 0), 20, 2).await?, [2, 3]);
        assert_eq!(due((10, 2), 30, 10).await?, [3, 5, 1]);
        assert_eq!(due((10, 3), 9, 10).await?, [0; 0]);
        assert_eq!(due((i64::MIN, 0), NEVER_US, 10).await?, [2, 3, 5, 1, 4], "all that are active");
        assert_eq!(runs::next_due(&db, &shop, "s", (10, 3)).await?, Some(20));
        assert_eq!(runs::next_due(&db, &shop, "s", (30, 1)).await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn a_survivor_gets_runs_entries_and_the_earlier_variant() -> Result<()> {
    for store in segue_testkit::stores() {
        let (db, shop, _) = claimed(&store).await?;
        let assignment = |person: u32, step: &str, variant: &str, assigned_us: i64| Assignment {
            person,
            scenario: "s".to_owned(),
            step: step.to_owned(),
            variant: variant.to_owned(),
            assigned_us,
        };
        let all =
            [assignment(1, "x", "late", 20), assignment(2, "x", "early", 10), assignment(3, "y", "own", 5), assignment(9, "x", "z", 1)];
        let mut tx = db.begin().await?;
        insert(&mut tx, &shop, &[run(1, 2, Some(10)), run(2, 9, None)]).await?;
        persons::assign(&mut tx, &shop, &all).await?;
        persons::assign(&mut tx, &shop, &[assignment(1, "x", "other", 1)]).await?;
        let held = persons::Held { number: 40, person: 3, body: "{}".to_owned() };
        persons::hold(&mut tx, &shop, &[held]).await?;
        tx.commit().await?;
        // Twice: it is the same.
        for _ in 0..2 {
            let mut tx = db.begin().await?;
            persons::merge(&mut tx, &shop, &[(2, 1), (3, 1)]).await?;
            tx.commit().await?;
        }
        let mut tx = db.begin().await?;
        persons::merge(&mut tx, &shop, &[(1, 4)]).await?;
        tx.commit().await?;
        let assigned = persons::assigned(&db, &shop, &(1..=9).collect()).await?;
        let of = |person: u32| assigned.get(&person).into_iter().flatten().map(|(_, step, variant)| (step.as_str(), variant.as_str()));
        assert_eq!(of(4).collect::<BTreeSet<_>>(), [("x", "early"), ("y", "own")].into());
        assert_eq!(assigned.len(), 2);
        let survivors = persons::survivors(&db, &shop, &(1..=9).collect()).await?;
        assert_eq!(survivors, [(1, 4), (2, 4), (3, 4)].into());
        let whose: Vec<_> = runs::of_persons(&db, &shop, &[4].into(), 0).await?.iter().map(|row| row.id()).collect();
        assert_eq!(whose, [1]);
        assert_eq!(persons::held(&db, &shop, &[4].into()).await?.len(), 1);
        let mut tx = db.begin().await?;
        persons::unmerge(&mut tx, &shop, &[2]).await?;
        tx.commit().await?;
        assert_eq!(persons::survivors(&db, &shop, &[2].into()).await?, [].into());
    }
    Ok(())
}

#[tokio::test]
async fn waves_go_on_where_they_were_and_end() -> Result<()> {
    for store in segue_testkit::stores() {
        let (db, shop, _) = claimed(&store).await?;
        let wave =
            Wave { number: 3, body: WaveBody::Enter { scenario: "s".to_owned(), time_us: 4 }, persons: (1..10).collect(), after_person: 0 };
        let mut tx = db.begin().await?;
        work::put_wave(&mut tx, &shop, &wave).await?;
        work::move_wave(&mut tx, &shop, 3, Some(5)).await?;
        tx.commit().await?;
        assert_eq!(work::waves(&db, &shop, 9).await?, [Wave { after_person: 5, ..wave }]);
        let mut tx = db.begin().await?;
        work::move_wave(&mut tx, &shop, 3, None).await?;
        tx.commit().await?;
        assert!(work::waves(&db, &shop, 9).await?.is_empty());
    }
    Ok(())
}
