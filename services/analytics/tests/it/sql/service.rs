//! SQL as a caller asks for it.

use segue_model::TenantId;
use segue_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use segue_proto::analytics::v1::{QuerySqlRequest, QuerySqlResponse};
use segue_proto::events::v1::value::Kind;
use segue_runtime::caller::{Caller, Role};
use segue_runtime::transport::local;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::events::events;
use crate::rig::{Life, Rig, eventually, tenant};

async fn call(life: &Life, tenant: &TenantId, role: Role, sql: &str, rows_max: u32) -> Result<QuerySqlResponse, Status> {
    let mut client = AnalyticsServiceClient::new(local(life.started.routes.clone()));
    let mut request = Request::new(QuerySqlRequest { sql: sql.to_owned(), rows_max });
    Caller { role, ..Caller::service(tenant.clone()) }.attach(request.metadata_mut().as_mut());
    client.query_sql(request).await.map(|response| response.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_asks_in_sql_about_its_own_tenant_alone() {
    let rig = Rig::embedded(&[("shop", true), ("other", true), ("off", false)]);
    let (shop, other) = (tenant("shop"), tenant("other"));
    let life = rig.start().await;
    let sent: Vec<_> = events(31, 2_500).into_iter().map(|event| (shop.clone(), event)).collect();
    life.send(&sent, 100).await;
    life.settled(&shop).await;

    let count = "SELECT count(*) AS rows, min(ts) AS first, sum(value) AS value FROM events WHERE person > 0";
    let answer = call(&life, &shop, Role::Analyst, count, 0).await.expect("an answer");
    let columns: Vec<(&str, &str)> = answer.columns.iter().map(|column| (column.name.as_str(), column.r#type.as_str())).collect();
    assert_eq!(columns, [("rows", "Int64"), ("first", "Timestamp(µs, \"UTC\")"), ("value", "Decimal128(38, 4)")]);
    let values: Vec<_> = answer.rows[0].values.iter().map(|value| value.kind.clone()).collect();
    assert_eq!(values[0], Some(Kind::IntValue(2_500)));
    assert!(matches!(values[1..], [Some(Kind::TimestampValue(_)), Some(Kind::DecimalE4Value(_))]), "{values:?}");
    let stats = answer.stats.expect("stats");
    assert_eq!((stats.rows_scanned, stats.tail_rows, stats.files), (2_500, 2_500, 0));
    assert!(answer.watermark.is_some() && !answer.truncated);

    life.index().flush(&shop).await.expect("a flush");
    let rows = call(&life, &shop, Role::Analyst, "SELECT * FROM events", 0).await.expect("an answer");
    assert_eq!((rows.rows.len(), rows.truncated), (1_000, true), "by default");
    let rows = call(&life, &shop, Role::Analyst, "SELECT * FROM events", 2_400).await.expect("an answer");
    assert_eq!((rows.rows.len(), rows.truncated), (2_400, true));
    let rows = call(&life, &shop, Role::Analyst, "SELECT * FROM events", 1_000_000).await.expect("an answer");
    assert_eq!((rows.rows.len(), rows.truncated), (2_500, false));
    assert!(rows.stats.is_some_and(|stats| stats.rows_scanned == 2_500 && stats.files > 0));

    let none = call(&life, &other, Role::Analyst, "SELECT count(*) FROM events", 0).await.expect("an answer");
    assert_eq!(none.rows[0].values[0].kind, Some(Kind::IntValue(0)));
    let refused = call(&life, &shop, Role::Analyst, "DROP TABLE events", 0).await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.get_details_error_info().expect("details").reason, "SQL_NOT_ALLOWED");
    let wrong = call(&life, &shop, Role::Analyst, "SELECT nothing FROM events", 0).await.expect_err("wrong");
    assert_eq!(wrong.get_details_bad_request().expect("details").field_violations[0].field, "sql");
    assert_eq!(call(&life, &shop, Role::Writer, count, 0).await.expect_err("refused").code(), Code::PermissionDenied);
    assert_eq!(call(&life, &tenant("off"), Role::Analyst, count, 0).await.expect_err("off").code(), Code::FailedPrecondition);
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_configuration_hold() {
    let mut rig = Rig::embedded(&[("shop", true)]);
    rig.config.sql.rows_max = 50;
    rig.config.sql.ms_max = 300;
    rig.config.sql.queries_max = 1;
    let shop = tenant("shop");
    let life = rig.start().await;
    let sent: Vec<_> = events(31, 4_000).into_iter().map(|event| (shop.clone(), event)).collect();
    life.send(&sent, 500).await;
    life.settled(&shop).await;
    let rows = call(&life, &shop, Role::Analyst, "SELECT person FROM events", 1_000).await.expect("an answer");
    assert_eq!((rows.rows.len(), rows.truncated), (50, true));
    let endless = "SELECT count(*) FROM events AS a CROSS JOIN events AS b CROSS JOIN events AS c WHERE a.ts < b.ts AND b.ts <> c.ts";
    let long = call(&life, &shop, Role::Analyst, endless, 0).await.expect_err("too long");
    assert_eq!((long.code(), long.message().contains("300 ms")), (Code::DeadlineExceeded, true), "{long:?}");
    // One runs at a time, and the next has room when what ended has really let go.
    let count = async || call(&life, &shop, Role::Analyst, "SELECT count(*) FROM events", 0).await;
    eventually("the next has room", async || count().await.map_or_else(|status| status.code() != Code::ResourceExhausted, |_| true)).await;
    assert_eq!(count().await.expect("an answer").rows[0].values[0].kind, Some(Kind::IntValue(4_000)));
    life.index().flush(&shop).await.expect("a flush");
    life.crash().await;

    rig.config.sql.ms_max = 60_000;
    rig.config.sql.memory_bytes_max = 1 << 20;
    let life = rig.start().await;
    life.index().load(&shop).await.expect("the tenant loads");
    let large = "SELECT a.message_id || b.message_id AS one, count(*) FROM events AS a CROSS JOIN events AS b GROUP BY one";
    let large = call(&life, &shop, Role::Analyst, large, 0).await.expect_err("too large");
    assert_eq!(large.code(), Code::ResourceExhausted, "{large:?}");
    assert!(large.message().contains("narrow"), "{large:?}");
    life.crash().await;
}
