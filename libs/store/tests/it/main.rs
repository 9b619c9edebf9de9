//! The store's promises, on both databases.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use segue_store::sqlx::migrate::Migrator;
use segue_store::{ConstraintKind, Db, DbKind, Migrations, Run, StoreError, Tx, on_db, on_tx, on_writer};
use segue_testkit::stores;

static SQLITE: Migrator = sqlx::migrate!("tests/migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("tests/migrations/postgres");
static NEWER_SQLITE: Migrator = sqlx::migrate!("tests/migrations/newer_sqlite");
static NEWER_POSTGRES: Migrator = sqlx::migrate!("tests/migrations/newer_postgres");
const MIGRATIONS: Migrations = Migrations { sqlite: &SQLITE, postgres: &POSTGRES };
const NEWER: Migrations = Migrations { sqlite: &NEWER_SQLITE, postgres: &NEWER_POSTGRES };

const INSERT_ITEM: &str = "INSERT INTO item (tenant, key, amount, body, ratio, live) VALUES ($1, $2, $3, $4, $5, $6)";
const LIST_ITEMS: &str = "SELECT key, amount, body, ratio, live FROM item WHERE tenant = $1 ORDER BY key";
const ADD: &str = "INSERT INTO item (tenant, key, amount) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, key) DO UPDATE SET amount = item.amount + excluded.amount RETURNING amount";
const SUM: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM item WHERE tenant = $1";
const COUNT: &str = "SELECT COUNT(*) FROM item WHERE tenant = $1";

#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Item {
    key: String,
    amount: Option<i64>,
    body: Option<Vec<u8>>,
    ratio: Option<f64>,
    live: bool,
}

async fn insert(tx: &mut Tx, tenant: i64, item: &Item) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(INSERT_ITEM)
        .bind(tenant)
        .bind(&item.key)
        .bind(item.amount)
        .bind(item.body.as_deref())
        .bind(item.ratio)
        .bind(item.live)
        .run(conn)
        .await)?;
    Ok(())
}

async fn count(db: &Db, tenant: i64) -> Result<i64, StoreError> {
    Ok(on_db!(db, pool => sqlx::query_scalar(COUNT).bind(tenant).fetch_one(pool).await)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_statement_binds_and_reads_every_type_on_both_databases() -> anyhow::Result<()> {
    for store in stores() {
        let db = store.open("items", MIGRATIONS).await?;
        assert_eq!(db.kind(), store.kind());
        db.ping().await?;
        let full = Item { key: "a".into(), amount: Some(i64::MAX), body: Some(vec![0, 255]), ratio: Some(0.5), live: false };
        let empty = Item { key: "b".into(), amount: None, body: None, ratio: None, live: true };
        let mut tx = db.begin().await?;
        insert(&mut tx, 1, &full).await?;
        insert(&mut tx, 1, &empty).await?;
        tx.commit().await?;
        let read: Vec<Item> = on_db!(db, pool => sqlx::query_as(LIST_ITEMS).bind(1i64).fetch_all(pool).await)?;
        assert_eq!(read, [full, empty]);

        // The same data after closing and opening again.
        db.close().await;
        assert!(matches!(db.ping().await, Err(StoreError::Unavailable { .. })));
        let db = store.open("items", MIGRATIONS).await?;
        assert_eq!(count(&db, 1).await?, 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_all_or_nothing_and_invisible_until_committed() -> anyhow::Result<()> {
    for store in stores() {
        let db = store.open("items", MIGRATIONS).await?;
        let item = Item { key: "a".into(), amount: Some(1), body: None, ratio: None, live: true };
        let mut tx = db.begin().await?;
        insert(&mut tx, 1, &item).await?;
        assert_eq!(count(&db, 1).await?, 0);
        drop(tx);
        let mut tx = db.begin().await?;
        insert(&mut tx, 1, &item).await?;
        tx.rollback().await?;
        assert_eq!(count(&db, 1).await?, 0);

        let mut snapshot = db.read().await?;
        assert_eq!(on_tx!(snapshot, conn => sqlx::query_scalar::<_, i64>(COUNT).bind(1i64).fetch_one(conn).await)?, 0);
        let mut tx = db.begin().await?;
        insert(&mut tx, 1, &item).await?;
        tx.commit().await?;
        assert_eq!(on_tx!(snapshot, conn => sqlx::query_scalar::<_, i64>(COUNT).bind(1i64).fetch_one(conn).await)?, 0, "a snapshot");
        drop(snapshot);
        assert_eq!(count(&db, 1).await?, 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_queue_and_none_of_their_work_is_lost() -> anyhow::Result<()> {
    for store in stores() {
        let db = store.open("items", MIGRATIONS).await?;
        let expected = Arc::new(AtomicI64::new(0));
        let writers = (0..16i64).map(|writer| {
            let (db, expected) = (db.clone(), expected.clone());
            async move {
                for n in 0..20i64 {
                    let key = format!("k{}", (writer + n) % 3);
                    let amount: i64 = on_writer!(db, pool => sqlx::query_scalar(ADD).bind(7i64).bind(&key).bind(n).fetch_one(pool).await)?;
                    assert!(amount >= n);
                    expected.fetch_add(n, Ordering::Relaxed);
                }
                Ok::<_, StoreError>(())
            }
        });
        futures::future::try_join_all(writers).await?;
        let sum: i64 = on_db!(db, pool => sqlx::query_scalar(SUM).bind(7i64).fetch_one(pool).await)?;
        assert_eq!(sum, expected.load(Ordering::Relaxed));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_go_in_and_are_found_with_one_json_parameter() -> anyhow::Result<()> {
    const INSERT_SQLITE: &str = "INSERT INTO item (tenant, key, amount, body)
        SELECT $1, value ->> 0, value ->> 1, unhex(value ->> 2) FROM json_each($2) WHERE true
        ON CONFLICT DO NOTHING RETURNING key";
    const INSERT_POSTGRES: &str = "INSERT INTO item (tenant, key, amount, body)
        SELECT $1, value ->> 0, (value ->> 1)::bigint, decode(value ->> 2, 'hex') FROM json_array_elements($2::json)
        ON CONFLICT DO NOTHING RETURNING key";
    const FIND_SQLITE: &str = "SELECT key FROM item WHERE tenant = $1 AND key IN (SELECT value FROM json_each($2))";
    const FIND_POSTGRES: &str = "SELECT key FROM item WHERE tenant = $1 AND key = ANY (SELECT json_array_elements_text($2::json))";
    for store in stores() {
        let db = store.open("items", MIGRATIONS).await?;
        let rows: Vec<String> = (0..5000).map(|n| format!(r#"["key {n}", {n}, "00ff{:02x}"]"#, n % 256)).collect();
        let mut new = 0;
        for part in [&rows[..3000], &rows[2000..]] {
            let mut tx = db.begin().await?;
            let (sql, json) = (tx.sql(INSERT_SQLITE, INSERT_POSTGRES), format!("[{}]", part.join(",")));
            let keys: Vec<String> = on_tx!(tx, conn => sqlx::query_scalar(sql).bind(1i64).bind(&json).fetch_all(conn).await)?;
            tx.commit().await?;
            new += keys.len();
        }
        assert_eq!(new, 5000, "rows that were there already are not returned");
        let sql = db.sql(FIND_SQLITE, FIND_POSTGRES);
        let keys = r#"["key 4999", "absent", "key 0"]"#;
        let found: Vec<String> = on_db!(db, pool => sqlx::query_scalar(sql).bind(1i64).bind(keys).fetch_all(pool).await)?;
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["key 0".to_owned(), "key 4999".to_owned()]));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_sorted_by_what_a_caller_can_do() -> anyhow::Result<()> {
    const BAD_OWNER: &str = "INSERT INTO item (tenant, key, owner) VALUES (1, 'y', 99)";
    const BAD_CHECK: &str = "INSERT INTO item (tenant, key, amount) VALUES (1, 'y', -1)";
    const BAD_NULL: &str = "INSERT INTO item (tenant, key) VALUES (1, NULL)";
    const GOOD: &str = "INSERT INTO item (tenant, key) VALUES (1, 'x')";
    for store in stores() {
        let db = store.open("items", MIGRATIONS).await?;
        let run = async |sql: &'static str| -> Result<(), StoreError> {
            on_writer!(db, pool => sqlx::query(sql).run(pool).await)?;
            Ok(())
        };
        run(GOOD).await?;
        for (sql, expected) in [
            (GOOD, ConstraintKind::Unique),
            (BAD_OWNER, ConstraintKind::ForeignKey),
            (BAD_CHECK, ConstraintKind::Check),
            (BAD_NULL, ConstraintKind::NotNull),
        ] {
            let error = run(sql).await.unwrap_err();
            assert!(matches!(error, StoreError::Constraint { kind, .. } if kind == expected), "{sql}: {error:?}");
            assert_eq!(error.is_unique_violation(), expected == ConstraintKind::Unique);
            assert!(!error.is_retryable());
        }
        let error = run("SELECT nonsense FROM nowhere").await.unwrap_err();
        assert!(matches!(error, StoreError::Statement { .. }), "{error:?}");
        let one = on_db!(db, pool => sqlx::query("SELECT key FROM item WHERE tenant = 2").fetch_one(pool).await.map(|_| ()));
        assert!(matches!(one.map_err(StoreError::from), Err(StoreError::RowNotFound)));
        if db.kind() == DbKind::Sqlite {
            let written = on_db!(db, pool => sqlx::query("DELETE FROM item").run(pool).await);
            assert!(written.is_err(), "readers cannot write");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicting_transactions_on_postgres_are_retryable() -> anyhow::Result<()> {
    const LOCK: &str = "UPDATE item SET amount = amount + 1 WHERE tenant = 1 AND key = $1";
    let Some(store) = segue_testkit::TempStore::postgres() else { return Ok(()) };
    let db = store.open("items", MIGRATIONS).await?;
    for key in ["a", "b"] {
        on_writer!(db, pool => sqlx::query_scalar::<_, i64>(ADD).bind(1i64).bind(key).bind(0i64).fetch_one(pool).await)?;
    }
    let cross = async |first: &str, second: &str, both: &tokio::sync::Barrier| -> Result<(), StoreError> {
        let mut tx = db.begin().await?;
        on_tx!(tx, conn => sqlx::query(LOCK).bind(first).run(conn).await)?;
        both.wait().await;
        on_tx!(tx, conn => sqlx::query(LOCK).bind(second).run(conn).await)?;
        tx.commit().await
    };
    let both = tokio::sync::Barrier::new(2);
    let (one, two) = tokio::join!(cross("a", "b", &both), cross("b", "a", &both));
    let error = one.and(two).expect_err("the database breaks the deadlock");
    assert!(matches!(error, StoreError::Busy { .. }) && error.is_retryable(), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_may_start_at_once_and_namespaces_are_apart() -> anyhow::Result<()> {
    for store in stores() {
        let opened = futures::future::try_join_all((0..6).map(|_| store.open("items", MIGRATIONS))).await?;
        let other = store.open("other", MIGRATIONS).await?;
        on_writer!(opened[0], pool => sqlx::query("INSERT INTO item (tenant, key) VALUES (1, 'x')").run(pool).await)?;
        assert_eq!(count(&opened[5], 1).await?, 1);
        assert_eq!(count(&other, 1).await?, 0);
        for db in opened {
            db.close().await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_forward_and_an_older_program_is_refused() -> anyhow::Result<()> {
    for store in stores() {
        store.open("items", MIGRATIONS).await?.close().await;
        let db = store.open("items", NEWER).await?;
        on_writer!(db, pool => sqlx::query("INSERT INTO owner (id, name, note) VALUES (1, 'o', 'n')").run(pool).await)?;
        db.close().await;
        let error = store.open("items", MIGRATIONS).await.unwrap_err();
        assert!(matches!(error, StoreError::Migration { .. }), "{error:?}");
        // The refusal left no lock behind.
        tokio::time::timeout(std::time::Duration::from_secs(20), store.open("items", NEWER)).await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_and_namespaces_that_cannot_be_used_are_refused_with_a_reason() -> anyhow::Result<()> {
    for url in ["", "mysql://x", "sqlite:", "postgres://h/d?connections_max=none", "postgres://h/d?schema_prefix=Bad%20Name"] {
        let error = Db::open(url, "items", MIGRATIONS).await.unwrap_err();
        assert!(matches!(error, StoreError::InvalidUrl { .. }), "{url}: {error:?}");
    }
    for namespace in ["", "Items", "1items", "a-b", "a;b"] {
        let error = Db::open("sqlite:/nowhere", namespace, MIGRATIONS).await.unwrap_err();
        assert!(matches!(error, StoreError::InvalidNamespace { .. }), "{namespace}: {error:?}");
    }
    let closed = format!("postgres://postgres@127.0.0.1:{}/postgres", segue_testkit::free_port());
    let error = Db::open(&closed, "items", MIGRATIONS).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }) && error.is_retryable(), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_is_corrupt() -> anyhow::Result<()> {
    let store = segue_testkit::TempStore::sqlite();
    let folder = store.folder().expect("it has a folder");
    std::fs::write(folder.join("items.sqlite"), vec![b'x'; 8192])?;
    let error = store.open("items", MIGRATIONS).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    Ok(())
}

/// Needs a small file system: `mount -t tmpfs -o size=3m tmpfs <folder>` and `SEGUE_TEST_SMALL_DISK=<folder>`.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
async fn a_full_disk_is_told_and_the_database_works_again_once_there_is_room() -> anyhow::Result<()> {
    let Ok(folder) = std::env::var("SEGUE_TEST_SMALL_DISK") else { return Ok(()) };
    let folder = tempfile::TempDir::new_in(folder)?;
    let db = Db::open(&format!("sqlite:{}", folder.path().display()), "items", MIGRATIONS).await?;
    let ballast = folder.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20])?;
    let write = async |key: i64| -> Result<(), StoreError> {
        let mut tx = db.begin().await?;
        let body = vec![key as u8; 40_000];
        insert(&mut tx, 1, &Item { key: key.to_string(), amount: None, body: Some(body), ratio: None, live: true }).await?;
        tx.commit().await
    };
    let mut written = 0;
    let error = loop {
        match write(written).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the disk is small");
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    assert_eq!(count(&db, 1).await?, written);
    std::fs::remove_file(&ballast)?;
    write(written).await?;
    assert_eq!(count(&db, 1).await?, written + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_while_a_transaction_begins_leaves_no_transaction_open() -> anyhow::Result<()> {
    for store in stores() {
        let db = store.open("gone", MIGRATIONS).await?;
        for polls in 0..2_000 {
            // Some callers leave before BEGIN was sent, most while the answer is on its way, some never.
            let mut beginning =
                if polls % 2 == 0 { Box::pin(db.begin()) as futures::future::BoxFuture<'_, _> } else { Box::pin(db.read()) };
            for _ in 0..polls % 97 {
                if let std::task::Poll::Ready(begun) = futures::poll!(beginning.as_mut()) {
                    begun?.rollback().await?;
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let writes = (0..40i64).map(|key| {
            let db = db.clone();
            async move { on_writer!(db, pool => sqlx::query("INSERT INTO item (tenant, key, amount) VALUES (7, $1, 1)").bind(key.to_string()).run(pool).await) }
        });
        for written in futures::future::join_all(writes).await {
            assert_eq!(written?, 1);
        }
        // Another process sees them: each was committed, none sits in a transaction that somebody left open.
        assert_eq!(count(&store.open("gone", MIGRATIONS).await?, 7).await?, 40, "{:?}", store.kind());
    }
    Ok(())
}
