//! The index: the same rows from everywhere, whatever crashes, merges, is off or is damaged.

use std::collections::HashMap;
use std::time::Instant;

use segue_analytics::scan::{PropertyScope, PropertyType, ScanError, TRAITS};
use segue_model::TenantId;
use segue_proto::events::v1::{EventKind, ResolvedEvent, value::Kind};
use segue_testkit::{TempLog, TempStore};

use crate::events::{DAY_US, START_US, events, value};
use crate::rig::{ALL_TIMES, Life, Rig, Row, all_rows, events_of, eventually, expected, rows, rows_by_chunks, switched, tenant};

fn of(tenant: &TenantId, events: &[ResolvedEvent]) -> Vec<(TenantId, ResolvedEvent)> {
    events.iter().map(|event| (tenant.clone(), event.clone())).collect()
}

/// Where chains of merges end.
fn survivor(merges: &[(u32, u32)]) -> impl Fn(u32) -> u32 {
    let steps: HashMap<u32, u32> = merges.iter().copied().collect();
    move |mut person| {
        while let Some(next) = steps.get(&person) {
            person = *next;
        }
        person
    }
}

async fn check(life: &Life, shop: &TenantId, want: &[Row], stage: &str) {
    let got = life.rows_with_traits(shop).await;
    assert_eq!(got.len(), want.len(), "{stage}: number of rows");
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got, want, "{stage}");
    }
    let persons: std::collections::BTreeSet<u32> = want.iter().map(|row| row["person"].parse().expect("a number")).collect();
    let known = life.snapshot(shop);
    let known = tokio::task::spawn_blocking(move || known.persons().expect("persons")).await.expect("no panic");
    assert_eq!(known.iter().collect::<Vec<u32>>(), persons.into_iter().collect::<Vec<_>>(), "{stage}: persons");
    // Ranges of persons and of time cut the same rows into parts.
    let snapshot = life.snapshot(shop);
    let want = events_of(want);
    let cut = tokio::task::spawn_blocking(move || {
        let number = |row: &Row, name: &str| row[name].parse::<i64>().expect("a number");
        let bounds = [0, 1, 65_536, 100_001, 131_072, u32::MAX];
        for pair in bounds.windows(2) {
            let part = rows(&snapshot, None, ALL_TIMES, Some(pair[0]..pair[1])).expect("rows");
            let inside = |row: &&Row| (i64::from(pair[0])..i64::from(pair[1])).contains(&number(row, "person"));
            assert_eq!(part, want.iter().filter(inside).cloned().collect::<Vec<_>>());
        }
        assert_eq!(rows_by_chunks(&snapshot, ALL_TIMES).expect("rows"), want);
        let (from, to) = (START_US + DAY_US / 3, START_US + DAY_US * 2);
        let in_time = |row: &&Row| (from..to).contains(&number(row, "ts"));
        assert_eq!(rows_by_chunks(&snapshot, (from, to)).expect("rows"), want.iter().filter(in_time).cloned().collect::<Vec<_>>());
        let part = rows(&snapshot, Some(vec!["custom".into(), "df_purchase".into()]), (from, to), Some(1..100_000)).expect("rows");
        let inside = |row: &&Row| {
            (from..to).contains(&number(row, "ts"))
                && number(row, "person") < 100_000
                && ["custom", "df_purchase"].contains(&row["event"].as_str())
        };
        assert_eq!(part, want.iter().filter(inside).cloned().collect::<Vec<_>>());
    });
    cut.await.unwrap_or_else(|error| panic!("{stage}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_come_from_the_tail_from_files_and_from_merged_files_across_restarts_and_merges_of_persons() {
    let mut rigs = Rig::each(&[("shop", true), ("other", true)]);
    // Without room for decoded columns, everything is decoded again and again, to the same end.
    let mut cramped = Rig::embedded(&[("shop", true), ("other", true)]);
    (cramped.config.cache_bytes_max, cramped.config.pass_bytes_max) = (0, 20_000);
    rigs.push(cramped);
    for (round, rig) in rigs.into_iter().enumerate() {
        let (shop, other) = (tenant("shop"), tenant("other"));
        let all = events(7 + round as u64, 1_200);
        let noise = events(99, 50);
        let life = rig.start().await;
        life.send(&of(&shop, &all[..400]), 7).await;
        life.send(&of(&other, &noise), 7).await;
        life.settled(&shop).await;
        let same = |person| person;
        check(&life, &shop, &expected(all[..400].iter(), same), "tail").await;
        assert!(rig.files().is_empty());

        life.index().flush(&shop).await.expect("a flush");
        check(&life, &shop, &expected(all[..400].iter(), same), "files").await;
        life.send(&of(&shop, &all[400..800]), 50).await;
        life.settled(&shop).await;
        check(&life, &shop, &expected(all[..800].iter(), same), "files and tail").await;

        let merges = [(1, 50_001), (5_001, 10_001), (10_001, 150_001), (195_001, 20_001), (3, 4)];
        life.merge_persons(&shop, 1, &merges).await;
        let want = expected(all[..800].iter(), survivor(&merges));
        eventually("merged persons are redirected", || async { life.rows_with_traits(&shop).await == want }).await;
        check(&life, &shop, &want, "redirected").await;

        life.crash().await;
        let life = rig.start().await;
        life.index().load(&shop).await.expect("the tenant loads");
        life.settled(&shop).await;
        check(&life, &shop, &want, "after a crash").await;

        life.index().flush(&shop).await.expect("a flush");
        life.send(&of(&shop, &all[800..]), 20).await;
        life.settled(&shop).await;
        life.index().flush(&shop).await.expect("a flush");
        let want = expected(all.iter(), survivor(&merges));
        check(&life, &shop, &want, "many files").await;

        let held = life.snapshot(&shop);
        assert!(life.index().merge(&shop).await.expect("merges") > 0);
        check(&life, &shop, &want, "merged files").await;
        let old = tokio::task::spawn_blocking(move || all_rows(&held)).await.expect("no panic");
        assert_eq!(old.expect("a snapshot keeps its files"), want);
        let now = life.index().status(&shop).await.expect("a status");
        assert_eq!((now.rows, now.tail_rows), (1_200, 0));
        eventually("replaced files are deleted", || async { rig.files().len() == now.files as usize }).await;

        // Persons of files that were rewritten may be merged again.
        let more = [(50_001, 150_001), (25_001, 1_000_001)];
        life.merge_persons(&shop, 10, &more).await;
        let merges: Vec<_> = merges.into_iter().chain(more).collect();
        let want = expected(all.iter(), survivor(&merges));
        eventually("persons are redirected again", || async { life.rows_with_traits(&shop).await == want }).await;
        check(&life, &shop, &want, "redirected again").await;

        life.crash().await;
        let life = rig.start().await;
        life.index().load(&shop).await.expect("the tenant loads");
        life.index().load(&other).await.expect("the tenant loads");
        life.settled(&shop).await;
        check(&life, &shop, &want, "after the second crash").await;
        check(&life, &other, &expected(noise.iter(), same), "the other tenant").await;
        life.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_writing_files_and_publishing_them_counts_each_event_once() {
    for rig in Rig::each(&[("shop", true)]) {
        let shop = tenant("shop");
        let all = events(3, 300);
        let want = expected(all.iter(), |person| person);
        let life = rig.start().await;
        life.send(&of(&shop, &all), 10).await;
        life.settled(&shop).await;
        // The flush is cut off as soon as a file is there: at most its first files are written, or it just got through.
        tokio::select! {
            _ = life.index().flush(&shop) => {}
            () = eventually("a file is written", || async { !rig.files().is_empty() }) => {}
        }
        life.crash().await;
        // What a crash right before publishing leaves for sure: a whole file that nobody knows.
        if let Some(file) = rig.files().first() {
            std::fs::copy(file, file.with_file_name("20261101-20261101-left.parquet")).expect("a copy");
        }
        let life = rig.start().await;
        life.index().load(&shop).await.expect("the tenant loads");
        life.settled(&shop).await;
        check(&life, &shop, &want, "after the crash").await;
        assert!(rig.files().iter().all(|file| !file.ends_with("20261101-20261101-left.parquet")));
        life.index().flush(&shop).await.expect("a flush");
        check(&life, &shop, &want, "flushed").await;
        life.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_was_off_catches_up_and_others_never_wait() {
    for rig in Rig::each(&[("shop", true), ("other", true)]) {
        let (shop, other) = (tenant("shop"), tenant("other"));
        let all = events(11, 900);
        let want = |upto: usize| expected(all[..upto].iter(), |person| person);
        let life = rig.start().await;
        life.send(&of(&shop, &all[..200]), 10).await;
        life.settled(&shop).await;

        rig.tenants.replace(switched(&[("shop", false), ("other", true)]));
        eventually("the tenant is out of memory", || async { life.index().snapshot(&shop).is_err() }).await;
        life.send(&of(&shop, &all[200..500]), 10).await;
        life.send(&of(&other, &all[..100]), 10).await;
        life.index().load(&other).await.expect("the tenant loads");
        life.settled(&other).await;
        check(&life, &other, &want(100), "the other tenant").await;
        assert!(matches!(life.index().snapshot(&shop), Err(ScanError::NotLoaded { .. })));
        // Let the positions of what was passed by become durable, then crash.
        tokio::time::timeout(std::time::Duration::from_secs(20), life.index().flush(&other)).await.expect("in time").expect("a flush");
        life.crash().await;

        let life = rig.start().await;
        life.index().load(&other).await.expect("the tenant loads");
        life.settled(&other).await;
        rig.tenants.replace(switched(&[("shop", true), ("other", true)]));
        life.index().load(&shop).await.expect("the tenant loads");
        life.send(&of(&shop, &all[500..700]), 10).await;
        eventually("the tenant has caught up", || async { life.rows(&shop).await.len() >= 700 }).await;
        life.settled(&shop).await;
        check(&life, &shop, &want(700), "caught up").await;
        life.send(&of(&shop, &all[700..]), 10).await;
        life.settled(&shop).await;
        check(&life, &shop, &want(900), "live again").await;
        life.crash().await;

        let life = rig.start().await;
        life.index().load(&shop).await.expect("the tenant loads");
        life.settled(&shop).await;
        check(&life, &shop, &want(900), "after a crash").await;
        check(&life, &other, &want(100), "the other tenant").await;
        life.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_missing_file_fails_by_name_the_queries_that_need_it_and_no_others() {
    let rig = Rig::embedded(&[("shop", true), ("other", true)]);
    let (shop, other) = (tenant("shop"), tenant("other"));
    let all = events(5, 200);
    let life = rig.start().await;
    for tenant in [&shop, &other] {
        life.send(&of(tenant, &all), 10).await;
        life.settled(tenant).await;
        life.index().flush(tenant).await.expect("a flush");
    }
    life.crash().await;
    let of_shop = || {
        rig.files().into_iter().filter(|file| {
            file.starts_with(rig.lake.path().canonicalize().expect("a path").join("shop")) || file.to_string_lossy().contains("/shop/")
        })
    };
    let largest = of_shop().max_by_key(|file| file.metadata().expect("a file").len()).expect("files");
    let whole = std::fs::read(&largest).expect("a file");
    let name = largest.file_name().expect("a name").to_string_lossy().into_owned();
    // Every kind of damage: in the data, in the footer, cut off, gone.
    let damages: [fn(&mut Vec<u8>); 4] = [
        // Not in one place alone: columns without values are not read.
        |bytes| {
            let end = bytes.len() / 2;
            bytes[4..end].iter_mut().for_each(|byte| *byte ^= 1)
        },
        |bytes| {
            let at = bytes.len() - 20;
            bytes[at] ^= 1
        },
        |bytes| bytes.truncate(100),
        |bytes| bytes.clear(),
    ];
    for damage in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        if bytes.is_empty() {
            std::fs::remove_file(&largest).expect("removed")
        } else {
            std::fs::write(&largest, bytes).expect("written")
        }
        let life = rig.start().await;
        for tenant in [&shop, &other] {
            life.index().load(tenant).await.expect("the tenant loads");
        }
        life.settled(&shop).await;
        let snapshot = life.snapshot(&shop);
        let read = move |range: (i64, i64)| {
            let snapshot = snapshot.clone();
            tokio::task::spawn_blocking(move || -> Result<Vec<Row>, ScanError> {
                let mut all = rows(&snapshot, None, range, None)?;
                all.extend(rows(&snapshot, Some(vec![TRAITS.to_owned()]), range, None)?);
                Ok(all)
            })
        };
        let error = read(ALL_TIMES).await.expect("no panic").expect_err("the file is damaged");
        assert!(error.to_string().contains(&name), "{error}");
        assert!(read((0, START_US)).await.expect("no panic").is_ok(), "nothing of that file is needed");
        check(&life, &other, &expected(all.iter(), |person| person), "the other tenant").await;
        life.crash().await;
    }
    std::fs::write(&largest, whole).expect("restored");
    let life = rig.start().await;
    life.index().load(&shop).await.expect("the tenant loads");
    life.settled(&shop).await;
    check(&life, &shop, &expected(all.iter(), |person| person), "restored").await;
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_stays_within_its_memory_and_the_log_keeps_what_is_waiting() {
    let mut rig = Rig::embedded(&[("shop", true)]);
    rig.config.tail_bytes_max = 200_000;
    let shop = tenant("shop");
    let all = events(21, 6_000);
    let life = rig.start().await;
    life.index().load(&shop).await.expect("the tenant loads");
    life.send(&of(&shop, &all), 50).await;
    let mut most = 0;
    eventually("all is indexed", || {
        most = most.max(life.index().tail_bytes());
        async { life.rows(&shop).await.len() == all.len() }
    })
    .await;
    // One read of each partition may come in after the check.
    assert!(most < 3_000_000, "{most} bytes");
    assert!(!rig.files().is_empty(), "the tail was written to make room");
    check(&life, &shop, &expected(all.iter(), |person| person), "bounded").await;
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_is_left_out_and_values_of_another_type_are_converted_or_kept_aside() {
    let rig = Rig::embedded(&[("shop", true)]);
    let shop = tenant("shop");
    let plain = |number: usize, kind: Kind| ResolvedEvent {
        person: 1,
        name: "e".to_owned(),
        message_id: format!("m{number}"),
        time_us: START_US + number as i64,
        properties: [("size".to_owned(), value(kind))].into(),
        ..ResolvedEvent::default()
    };
    let mut all = vec![plain(0, Kind::DecimalE4Value(125_000)), plain(1, Kind::IntValue(3)), plain(2, Kind::StringValue("big".to_owned()))];
    all.push(ResolvedEvent { kind: EventKind::Identify as i32, ..plain(3, Kind::IntValue(1)) });
    let life = rig.start().await;
    life.send(&of(&shop, &all), 10).await;
    life.settled(&shop).await;
    for stage in ["tail", "files"] {
        let found = life.rows(&shop).await;
        let sizes: Vec<_> = found.iter().map(|row| row.get("p.size").map(String::as_str)).collect();
        assert_eq!(sizes, [Some("12.5000"), Some("3.0000"), None], "{stage}");
        assert_eq!(found[2]["u.size"], "\"big\"", "{stage}");
        let snapshot = life.snapshot(&shop);
        assert_eq!(snapshot.property_type("size"), Some(PropertyType::Decimal));
        assert!(snapshot.properties().iter().any(|known| known.scope == PropertyScope::Unregistered && known.name == "size"));
        assert_eq!(snapshot.event_names().iter().map(|name| name.as_ref()).collect::<Vec<_>>(), ["e"]);
        life.index().flush(&shop).await.expect("a flush");
    }
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traits_are_kept_beside_events_and_shown_to_those_alone_who_ask_for_them() {
    // One partition, so that the first value is the one sent first.
    let rig = Rig::new(TempStore::sqlite(), TempLog::embedded().with_partitions(1), &[("shop", true)]);
    let shop = tenant("shop");
    let stated = |number: usize, kind: EventKind, traits: &[(&str, Kind)]| ResolvedEvent {
        person: number as u32 + 1,
        name: if kind == EventKind::Track { "e".to_owned() } else { String::new() },
        kind: kind as i32,
        message_id: format!("m{number}"),
        time_us: START_US + number as i64,
        traits: traits.iter().map(|(name, kind)| ((*name).to_owned(), value(kind.clone()))).collect(),
        ..ResolvedEvent::default()
    };
    let all = [
        stated(0, EventKind::Track, &[("size", Kind::DecimalE4Value(125_000)), ("grade", Kind::StringValue("gold".to_owned()))]),
        stated(1, EventKind::Identify, &[("size", Kind::IntValue(3))]),
        stated(2, EventKind::Identify, &[]),
        stated(3, EventKind::Alias, &[("size", Kind::StringValue("big".to_owned()))]),
        stated(4, EventKind::Track, &[]),
        stated(5, EventKind::Group, &[]),
        // Ingest refuses it; were it here, it would be taken for traits.
        ResolvedEvent { name: TRAITS.to_owned(), ..stated(6, EventKind::Track, &[]) },
    ];
    let life = rig.start().await;
    life.send(&of(&shop, &all), 10).await;
    life.settled(&shop).await;
    for stage in ["tail", "files"] {
        let snapshot = life.snapshot(&shop);
        let names: Vec<_> = snapshot.traits().iter().map(|known| (known.name.as_str(), known.kind, known.scope)).collect();
        assert_eq!(
            names,
            [("grade", PropertyType::String, PropertyScope::Trait), ("size", PropertyType::Decimal, PropertyScope::Trait)],
            "{stage}"
        );
        assert!(snapshot.properties().iter().all(|known| known.scope != PropertyScope::Trait));
        assert_eq!(snapshot.event_names().iter().map(|name| name.as_ref()).collect::<Vec<_>>(), ["e"], "{stage}");
        assert_eq!(life.rows(&shop).await.len(), 2, "{stage}");
        assert_eq!(life.index().status(&shop).await.expect("a status").rows, 2, "{stage}");
        let found = tokio::task::spawn_blocking(move || {
            let persons: Vec<u32> = snapshot.persons().expect("persons").iter().collect();
            (rows(&snapshot, Some(vec![TRAITS.to_owned()]), ALL_TIMES, None).expect("rows"), persons)
        });
        let (mut found, persons) = found.await.expect("no panic");
        assert_eq!(persons, [1, 2, 3, 4, 5, 6], "{stage}");
        found.sort_by_key(|row| row["ts"].clone());
        let text = |row: &Row, name: &str| row.get(name).cloned();
        let of: Vec<_> = found.iter().map(|row| (row["person"].as_str(), text(row, "t.size"), text(row, "t.grade"))).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            of,
            [("1", some("12.5000"), some("gold")), ("2", some("3.0000"), None), ("3", None, None), ("4", None, None), ("6", None, None)],
            "{stage}"
        );
        // A value of another type is not lost.
        assert_eq!(found[3]["u.size"], "\"big\"", "{stage}");
        life.index().flush(&shop).await.expect("a flush");
    }
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_move_on_so_that_the_log_may_forget_and_status_tells_of_them() {
    let rig = Rig::embedded(&[("shop", true)]);
    let shop = tenant("shop");
    let life = rig.start().await;
    life.send(&of(&shop, &events(2, 100)), 5).await;
    life.settled(&shop).await;
    let status = life.index().status(&shop).await.expect("a status");
    assert_eq!((status.rows, status.tail_rows, status.files), (100, 100, 0));
    assert!(status.partitions.iter().all(|partition| partition.flushed_position < partition.position || partition.position == 0));
    life.index().flush(&shop).await.expect("a flush");
    let status = life.index().status(&shop).await.expect("a status");
    assert!(status.files > 0 && status.file_bytes > 0 && status.tail_rows == 0);
    assert!(status.partitions.iter().all(|partition| partition.flushed_position == partition.log_position));
    let now_us = segue_model::Clock::now_us(&segue_model::SystemClock);
    eventually("the watermark passes", || async { life.snapshot(&shop).watermark_us() >= now_us }).await;
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_see_each_event_once_while_tails_are_written_and_files_are_merged() {
    let mut rig = Rig::embedded(&[("shop", true)]);
    rig.config.flush_rows_max = 300;
    rig.config.merge_interval_ms = 5;
    let shop = tenant("shop");
    let all = events(31, 5_000);
    let merges = [(1, 50_001), (100_001, 50_001)];
    let life = rig.start().await;
    life.index().load(&shop).await.expect("the tenant loads");
    let sending = async {
        for part in all.chunks(100) {
            life.send(&of(&shop, part), 20).await;
        }
        life.merge_persons(&shop, 1, &merges).await;
    };
    let reading = async {
        let mut seen = 0;
        while seen < all.len() {
            let found = life.rows(&shop).await;
            let ids: std::collections::HashSet<&str> = found.iter().map(|row| row["message_id"].as_str()).collect();
            assert_eq!(ids.len(), found.len(), "an event was seen twice");
            assert!(found.len() >= seen, "events were lost: {} after {seen}", found.len());
            seen = found.len();
        }
    };
    tokio::join!(sending, tokio::time::timeout(std::time::Duration::from_secs(60), reading)).1.expect("in time");
    let want = expected(all.iter(), survivor(&merges));
    eventually("merged persons are redirected", || async { life.rows_with_traits(&shop).await == want }).await;
    check(&life, &shop, &want, "at rest").await;
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn catching_up_goes_on_where_it_was_when_it_is_cut_off() {
    for rig in Rig::each(&[("shop", false)]) {
        let shop = tenant("shop");
        let all = events(41, 3_000);
        let life = rig.start().await;
        life.send(&of(&shop, &all), 10).await;
        // Off, on for a moment, off, on, with crashes between: whatever was taken in counts once.
        for _ in 0..3 {
            rig.tenants.replace(switched(&[("shop", true)]));
            eventually("catching up has begun", || async { life.index().snapshot(&shop).is_ok_and(|snapshot| snapshot.persons_max() > 0) })
                .await;
            rig.tenants.replace(switched(&[("shop", false)]));
            eventually("the tenant is out of memory", || async { life.index().snapshot(&shop).is_err() }).await;
        }
        life.crash().await;
        rig.tenants.replace(switched(&[("shop", true)]));
        let life = rig.start().await;
        life.index().load(&shop).await.expect("the tenant loads");
        eventually("all is there", || async { life.rows(&shop).await.len() >= all.len() }).await;
        life.settled(&shop).await;
        check(&life, &shop, &expected(all.iter(), |person| person), "caught up").await;
        life.crash().await;
    }
}

/// How fast one core decodes and indexes; run it by hand with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed_of_indexing() {
    let rig = Rig::embedded(&[("shop", true)]);
    let shop = tenant("shop");
    let life = rig.start().await;
    life.index().load(&shop).await.expect("the tenant loads");
    let all = events(1, 200_000);
    life.send(&of(&shop, &all), 1_000).await;
    life.settled(&shop).await;
    life.crash().await;
    let life = rig.start().await;
    let started = Instant::now();
    life.index().load(&shop).await.expect("the tenant loads");
    life.settled(&shop).await;
    let seconds = started.elapsed().as_secs_f64();
    println!("{} rows in {seconds:.2} s: {:.0} rows/s", all.len(), all.len() as f64 / seconds);
    let started = Instant::now();
    life.index().flush(&shop).await.expect("a flush");
    println!("flush: {:.2} s", started.elapsed().as_secs_f64());
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_for_a_tenant_that_is_off_say_so_and_the_others_are_answered() {
    use segue_proto::analytics::v1::{GetIndexStatusRequest, ListDimensionsRequest, analytics_service_client::AnalyticsServiceClient};
    use segue_runtime::transport::{for_tenant, local};

    let rig = Rig::embedded(&[("shop", true), ("other", false)]);
    let (shop, other) = (tenant("shop"), tenant("other"));
    let life = rig.start().await;
    life.send(&of(&shop, &events(2, 100)), 5).await;
    let mut client = AnalyticsServiceClient::new(local(life.started.routes.clone()));
    let status = client.get_index_status(for_tenant(&shop, GetIndexStatusRequest {})).await.expect("an answer").into_inner();
    assert!(status.rows <= 100 && status.partitions.len() == 4);
    life.settled(&shop).await;
    let listed = client.list_dimensions(for_tenant(&shop, ListDimensionsRequest {})).await.expect("an answer").into_inner();
    assert!(!listed.dimensions.is_empty());
    let refused = client.get_index_status(for_tenant(&other, GetIndexStatusRequest {})).await.expect_err("it is off");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_when_its_caller_goes_away() {
    let rig = Rig::embedded(&[("shop", true)]);
    let shop = tenant("shop");
    let life = rig.start().await;
    life.send(&of(&shop, &events(2, 100)), 5).await;
    life.settled(&shop).await;
    let caller = tokio_util::sync::CancellationToken::new();
    let snapshot = life.index().cancelled_by(caller.clone()).snapshot(&shop).expect("a snapshot");
    let read = {
        let snapshot = snapshot.clone();
        tokio::task::spawn_blocking(move || rows(&snapshot, None, ALL_TIMES, None)).await.expect("no panic")
    };
    assert_eq!(read.expect("rows").len(), 100);
    caller.cancel();
    let read = tokio::task::spawn_blocking(move || rows(&snapshot, None, ALL_TIMES, None)).await.expect("no panic");
    assert!(matches!(read, Err(ScanError::Cancelled)));
    life.crash().await;
}
