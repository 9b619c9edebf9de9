//! Imports: whole or not at all, the same rows as events of the log give.

use segue_analytics::scan::{PropertyScope, PropertyType};
use segue_proto::events::v1::{ResolvedEvent, value::Kind};

use crate::events::{events, value};
use crate::rig::{Life, Rig, expected, tenant};

async fn import(life: &Life, name: &str, first: u64, events: Vec<anyhow::Result<ResolvedEvent>>) -> anyhow::Result<u64> {
    life.index().import(&tenant(name), first, events.into_iter()).await
}

fn all_fine(events: &[ResolvedEvent]) -> Vec<anyhow::Result<ResolvedEvent>> {
    events.iter().cloned().map(Ok).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_events_stand_beside_those_of_the_log_across_merges_and_restarts() {
    for mut rig in Rig::each(&[("shop", true)]) {
        rig.config.flush_rows_max = 100;
        let shop = tenant("shop");
        let all = events(11, 900);
        let life = rig.start().await;
        assert_eq!(import(&life, "shop", 0, all_fine(&all[..300])).await.expect("an import"), 300);
        let live: Vec<_> = all[300..600].iter().map(|event| (shop.clone(), event.clone())).collect();
        life.send(&live, 20).await;
        life.settled(&shop).await;
        assert_eq!(import(&life, "shop", 300, all_fine(&all[600..])).await.expect("an import"), 300);
        let want = expected(all.iter(), |person| person);
        assert_eq!(life.rows_with_traits(&shop).await, want);
        life.crash().await;

        let life = rig.start().await;
        life.index().load(&shop).await.expect("the tenant");
        life.settled(&shop).await;
        assert_eq!(life.rows_with_traits(&shop).await, want, "after a restart");
        life.index().flush(&shop).await.expect("a flush");
        assert!(life.index().merge(&shop).await.expect("merges") > 0);
        life.index().forget_columns();
        assert_eq!(life.rows_with_traits(&shop).await, want, "after merges");
        life.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_breaks_off_leaves_nothing_to_be_read() {
    for mut rig in Rig::each(&[("shop", true), ("closed", false)]) {
        rig.config.flush_rows_max = 10;
        let shop = tenant("shop");
        let life = rig.start().await;
        life.index().load(&shop).await.expect("the tenant");
        let mut broken = all_fine(&events(5, 40));
        broken.push(Err(anyhow::anyhow!("the source ends here")));
        let error = import(&life, "shop", 0, broken).await.expect_err("the source is broken");
        assert!(error.to_string().contains("the source ends here"));
        assert!(life.rows(&shop).await.is_empty());
        import(&life, "closed", 0, all_fine(&events(5, 1))).await.expect_err("analytics is off");
        life.crash().await;

        assert!(rig.files().is_empty(), "what was written is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_properties_of_imported_events_are_known_and_keep_the_types_that_the_tenant_has() {
    for rig in Rig::each(&[("shop", true)]) {
        let shop = tenant("shop");
        let life = rig.start().await;
        let with = |person, kind| {
            let mut event = ResolvedEvent { person, name: "custom".into(), ..ResolvedEvent::default() };
            event.properties.insert("size".into(), value(kind));
            event
        };
        life.send(&[(shop.clone(), with(1, Kind::StringValue("10".into())))], 1).await;
        life.settled(&shop).await;
        import(&life, "shop", 0, vec![Ok(with(2, Kind::IntValue(10)))]).await.expect("an import");
        life.crash().await;

        let life = rig.start().await;
        life.index().load(&shop).await.expect("the tenant");
        life.settled(&shop).await;
        let snapshot = life.snapshot(&shop);
        let of_events: Vec<_> = snapshot.properties().iter().filter(|property| property.scope == PropertyScope::Event).collect();
        assert!(of_events.len() == 1 && of_events[0].name == "size" && of_events[0].kind == PropertyType::String);
        let rows = life.rows(&shop).await;
        assert!(rows.len() == 2 && rows.iter().all(|row| row["p.size"] == "10"), "{rows:?}");
        life.crash().await;
    }
}
