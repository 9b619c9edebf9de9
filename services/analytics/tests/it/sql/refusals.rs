//! What is refused, and how it says so.

use segue_analytics::sql::SqlError;

use super::{ask, cell, snapshot};
use crate::events::events;

#[tokio::test]
async fn statements_that_change_or_read_anything_else_are_refused() {
    let shop = snapshot(&events(1, 50));
    for text in [
        "DROP TABLE events",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE SCHEMA s",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "COPY (SELECT 1) TO '/tmp/segue-sql-test.csv'",
        "COPY events TO '/tmp/segue-sql-test.csv'",
        "INSERT INTO events SELECT * FROM events",
        "UPDATE events SET event = 'x'",
        "DELETE FROM events",
        "TRUNCATE TABLE events",
        "SET datafusion.execution.target_partitions = 1000",
        "RESET datafusion.execution.target_partitions",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "BEGIN",
        "EXPLAIN DELETE FROM events",
        "SELECT generate_series(1, 1000000000)",
        "SELECT * FROM generate_series(1, 1000000000)",
        "SELECT * FROM range(1, 1000000000)",
        "SELECT repeat('x', 1000000000)",
        "SELECT lpad('x', 1000000000)",
        "SELECT array_repeat(1, 1000000000)",
        "SELECT array_resize([1], 1000000000)",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT input_file_name() FROM events",
        "SELECT to_char(ts, concat('%Y', event)) FROM events",
        "SELECT date_format(ts, '%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+%+') FROM events",
        "SHOW ALL",
        "SHOW FUNCTIONS",
        "SELECT * FROM information_schema.df_settings",
        "SELECT * FROM information_schema.routines",
        "SELECT (SELECT count(*) FROM information_schema.df_settings)",
    ] {
        match ask(&shop, text).await {
            Err(SqlError::Refused { .. }) => {}
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn nothing_makes_types_that_double_or_memory_of_a_length_that_is_named() {
    let shop = snapshot(&events(1, 50));
    let mut doubling = "WITH a0 AS (SELECT person AS a FROM persons)".to_owned();
    for level in 1..=40 {
        doubling.push_str(&format!(", a{level} AS (SELECT {{'x': a, 'y': a}} AS a FROM a{})", level - 1));
    }
    doubling.push_str(" SELECT a FROM a40");
    for text in [
        "SELECT CAST([person] AS BIGINT[2000000000]) FROM events",
        "SELECT TRY_CAST([person] AS BIGINT[2000000000]) FROM events",
        "SELECT [person]::BIGINT[2000000000] FROM events",
        "SELECT struct(person, person) FROM events",
        "SELECT named_struct('a', person) FROM events",
        "SELECT {'a': person, 'b': person} FROM events",
        "SELECT MAP {'a': person} FROM events",
        "SELECT (person, person) FROM events",
        "SELECT levenshtein(event, message_id) FROM events",
        "SELECT arrow_cast(person, 'FixedSizeBinary(2000000000)') FROM events",
        &doubling,
    ] {
        match ask(&shop, text).await {
            Err(SqlError::Refused { .. } | SqlError::Invalid(_)) => {}
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_short() {
    let shop = snapshot(&events(1, 50));
    for (text, said) in [
        ("SELEC 1", "Expected"),
        ("SELECT 1; SELECT 2", "single SQL statement"),
        ("", "No SQL statements"),
        ("SELECT nothing FROM events", "No field named nothing"),
        ("SELECT * FROM orders", "table 'segue.public.orders' not found"),
        ("SELECT * FROM '/etc/passwd'", "not found"),
        ("SELECT * FROM \"/etc/passwd\"", "not found"),
        ("SELECT * FROM other.public.events", "not found"),
        ("SELECT * INTO copied FROM events", "DDL not supported"),
        ("SELECT frobnicate(1)", "frobnicate"),
        ("SELECT 1 / (person - person) FROM events", "ivide by zero"),
        ("SELECT CAST(event AS INT) FROM events", "Cannot cast string"),
        ("WITH RECURSIVE a AS (SELECT 1 AS v UNION ALL SELECT v + 1 FROM a) SELECT * FROM a", "ecursive"),
        ("SELECT $1", "laceholder"),
        ("SELECT @@version", "variable"),
    ] {
        match ask(&shop, text).await {
            Err(error @ SqlError::Invalid(_)) => {
                let message = error.to_string();
                assert!(message.contains(said), "{text}: {message}");
                assert!(message.chars().count() < 450 && !message.contains("backtrace") && !message.contains("bug"), "{text}: {message}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(!std::path::Path::new("/tmp/segue-sql-test.csv").exists());
    // A session is not harmed by what failed in it before.
    assert_eq!(cell(&shop, "SELECT count(*) FROM events").await, "50");
}
