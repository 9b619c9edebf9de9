//! `segue sql`: one read-only query over the tables `events` and `persons`.

use clap::Args;
use segue_proto::analytics::v1::QuerySqlRequest;

use super::report::values::{as_of, show_value};
use super::{Output, ProcessArgs, ServerArgs, print_json, say, table};
use crate::json;

#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// For example: SELECT event, count(*) FROM events GROUP BY event
    query: String,
    /// Rows at most; 0: as many as the server gives by default.
    #[arg(long, default_value_t = 0)]
    limit: u32,
}

pub(super) async fn sql(process: &ProcessArgs, args: SqlArgs) -> anyhow::Result<()> {
    let mut analytics = args.server.connect(process).await?.analytics();
    let answer = analytics.query_sql(QuerySqlRequest { sql: args.query, rows_max: args.limit }).await?.into_inner();
    if process.output() == Output::Json {
        return print_json(&json::write("segue.analytics.v1.QuerySqlResponse", &answer)?);
    }
    let mut shown = table(&answer.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>());
    for row in &answer.rows {
        shown.add_row(row.values.iter().map(|value| if value.kind.is_none() { "NULL".to_owned() } else { show_value(value) }));
    }
    say(shown)?;
    let cut = if answer.truncated { "; there are more rows: ask with LIMIT and OFFSET, or for fewer columns" } else { "" };
    eprintln!("{} rows, {}{cut}", answer.rows.len(), as_of(answer.watermark.as_ref()));
    Ok(())
}
