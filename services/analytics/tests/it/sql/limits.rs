//! Limits end or cut what takes too much, and nothing goes on when nobody waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use segue_analytics::scan::Snapshot;
use segue_analytics::sql::{SqlAnswer, SqlError, SqlLimits, SqlRuntime, Truncation, run};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{ask, cells, generous, now, snapshot};
use crate::events::events;

/// Takes for ever: 4,000 × 4,000 × 4,000 rows.
const ENDLESS: &str = "SELECT count(*) FROM events AS a CROSS JOIN events AS b CROSS JOIN events AS c WHERE a.ts < b.ts AND b.ts <> c.ts";

async fn within(snapshot: &Arc<Snapshot>, limits: SqlLimits, text: &str) -> Result<SqlAnswer, SqlError> {
    run(snapshot, &limits, now(), text, &CancellationToken::new()).await
}

#[tokio::test]
async fn an_answer_is_cut_at_the_most_rows_and_says_so() {
    let shop = snapshot(&events(3, 100));
    let ordered = "SELECT message_id FROM events ORDER BY message_id";
    let whole = cells(&ask(&shop, ordered).await.expect("an answer"));
    for (rows_max, rows, truncated) in [
        (99, 99, Some(Truncation::Rows)),
        (100, 100, None),
        (101, 100, None),
        (1, 1, Some(Truncation::Rows)),
        (0, 0, Some(Truncation::Rows)),
    ] {
        let answer = within(&shop, SqlLimits { rows_max, ..generous() }, ordered).await.expect("an answer");
        assert_eq!((answer.rows, answer.truncated), (rows, truncated), "{rows_max}");
        assert_eq!(cells(&answer), whole[..rows as usize]);
        let any = within(&shop, SqlLimits { rows_max, ..generous() }, "SELECT * FROM events").await.expect("an answer");
        assert_eq!((any.rows, any.truncated), (rows, truncated), "{rows_max}");
    }
    let answer = within(&shop, SqlLimits { rows_max: 10, ..generous() }, "SELECT * FROM events LIMIT 10").await.expect("an answer");
    assert_eq!((answer.rows, answer.truncated), (10, None), "the query's own limit is not a truncation");
    assert_eq!(answer.watermark_us, 7);
}

#[tokio::test]
async fn an_answer_is_cut_at_the_most_bytes_and_says_so() {
    let shop = snapshot(&events(3, 1_000));
    let ordered = "SELECT message_id, person FROM events ORDER BY message_id";
    let whole = cells(&ask(&shop, ordered).await.expect("an answer"));
    let answer = within(&shop, SqlLimits { bytes_max: 1_000, ..generous() }, ordered).await.expect("an answer");
    assert_eq!(answer.truncated, Some(Truncation::Bytes));
    assert!((50..120).contains(&answer.rows), "{}", answer.rows);
    assert_eq!(cells(&answer), whole[..answer.rows as usize]);
    match within(&shop, SqlLimits { bytes_max: 10, ..generous() }, "SELECT string_agg(message_id, ',') FROM events").await {
        Err(SqlError::RowTooLarge { bytes_max: 10 }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_statement_that_needs_too_much_memory_ends() {
    let shop = snapshot(&events(3, 20_000));
    let limits = SqlLimits { memory_bytes_max: 1 << 20, ..generous() };
    for text in [
        "SELECT message_id, person, ts, count(*) FROM events GROUP BY message_id, person, ts",
        "SELECT count(DISTINCT message_id || event) FROM events",
        "SELECT * FROM events ORDER BY ts, message_id",
        "SELECT a.message_id FROM events AS a JOIN events AS b ON a.message_id = b.message_id",
        "SELECT *, count(*) OVER () FROM events",
        "SELECT array_agg(message_id || event || message_id || event || ts) FROM events",
    ] {
        match within(&shop, limits.clone(), text).await {
            Err(SqlError::Memory { bytes_max: 1_048_576 }) => {}
            other => panic!("{text}: {other:?}"),
        }
    }
    // What fits goes on as ever.
    let answer = within(&shop, limits, "SELECT event, count(*) FROM events GROUP BY event").await.expect("an answer");
    assert_eq!(answer.rows, 4);
}

#[tokio::test]
async fn values_that_are_made_longer_and_longer_end_the_statement() {
    let shop = snapshot(&events(3, 2_000));
    for step in ["v || v || v || v || v || v || v || v", "concat(v, v, v, v, v, v, v, v)", "concat_ws(v, v, v, v, v)", "replace(v, 'x', v)"]
    {
        for first in ["SELECT 'xxxxxxxx' AS v", "SELECT 'x' || message_id AS v FROM events"] {
            let mut text = format!("WITH a0 AS ({first})");
            for level in 1..12 {
                text.push_str(&format!(", a{level} AS (SELECT {step} AS v FROM a{})", level - 1));
            }
            match ask(&shop, &format!("{text} SELECT max(length(v)) FROM a11")).await {
                Err(SqlError::ValueTooLarge { .. }) => {}
                other => panic!("{step}: {other:?}"),
            }
        }
    }
    let lists = "WITH a AS (SELECT array_agg(message_id) AS v FROM events), b AS (SELECT array_concat(v, v, v, v) AS v FROM a), \
                 c AS (SELECT array_concat(v, v, v, v) AS v FROM b) SELECT array_length(array_concat(v, v, v, v)) FROM c";
    assert!(matches!(ask(&shop, lists).await, Err(SqlError::ValueTooLarge { .. })));
    // What stays within bounds is what it always was.
    let texts = "SELECT 'a' || 'b', concat('a', NULL, 1), 'a' || NULL, replace('xyx', 'x', 'ab'), concat_ws('-', 'a', 'b'), \
                 regexp_replace('a1b2', '[0-9]', '#', 'g'), array_to_string([1, 2], '+')";
    let texts = ask(&shop, texts).await.expect("an answer");
    assert_eq!(cells(&texts), [["ab", "a1", "NULL", "abyab", "a-b", "a#b#", "1+2"]]);
    let names: Vec<String> = texts.schema.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names[0], "Utf8(\"a\") || Utf8(\"b\")");
    let both = ask(&shop, "SELECT event || '-' || person FROM events WHERE event || 'x' = 'customx' LIMIT 1").await.expect("an answer");
    assert!(cells(&both)[0][0].starts_with("custom-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_ends() {
    let shop = snapshot(&events(3, 4_000));
    let begun = Instant::now();
    let runtime = SqlRuntime::start(2).expect("threads");
    let limits = SqlLimits { ms_max: 100, ..generous() };
    let (held, ended) = oneshot::channel::<()>();
    match runtime.run(shop, limits, now(), ENDLESS.to_owned(), CancellationToken::new(), held).await {
        Err(SqlError::TooLong { limit_ms: 100 }) => {}
        other => panic!("{other:?}"),
    }
    // The sender is dropped when the work has ended.
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the work ends").expect_err("dropped");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_ends_when_the_call_is_dropped_or_cancelled() {
    let shop = snapshot(&events(3, 4_000));
    let runtime = SqlRuntime::start(2).expect("threads");
    let (held, ended) = oneshot::channel::<()>();
    {
        let call = runtime.run(shop.clone(), generous(), now(), ENDLESS.to_owned(), CancellationToken::new(), held);
        tokio::pin!(call);
        // Far longer than it takes to plan; the caller then goes away.
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut call).await.is_err());
    }
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the work ends").expect_err("dropped");

    let (held, ended) = oneshot::channel::<()>();
    let cancelled = CancellationToken::new();
    let call = runtime.run(shop, generous(), now(), ENDLESS.to_owned(), cancelled.clone(), held);
    let (answer, ()) = tokio::join!(call, async { cancelled.cancel() });
    assert!(matches!(answer, Err(SqlError::Cancelled)), "{answer:?}");
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the work ends").expect_err("dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deepest_statements_that_are_allowed_are_planned_and_computed() {
    let shop = snapshot(&events(3, 10));
    let runtime = SqlRuntime::start(1).expect("threads");
    let sum = vec!["person"; 900].join(" + ");
    let either: Vec<String> = (0..480).map(|number| format!("message_id = 'm{number}' AND person > {number}")).collect();
    let union = vec!["SELECT person FROM events"; 90].join(" UNION ALL ");
    for text in [
        format!("SELECT max({sum}) FROM events"),
        format!("SELECT count(*) FROM events WHERE {}", either.join(" OR ")),
        format!("SELECT count(*) FROM ({union})"),
    ] {
        let answer = runtime.run(shop.clone(), generous(), now(), text.clone(), CancellationToken::new(), ()).await;
        assert!(answer.is_ok(), "{:.80}: {answer:?}", text);
    }
}
