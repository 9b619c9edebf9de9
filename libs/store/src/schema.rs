//! PostgreSQL schemas: their names, creating and dropping them. The only place with SQL put together at run time, since
//! a schema's name cannot be a parameter; [`SchemaName`] is what makes that safe.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::StoreError;

/// Key of the advisory lock that serialises schema creation in one database ("segue" in ASCII). `CREATE SCHEMA IF NOT
/// EXISTS` by two sessions at once fails for one of them without it.
const CREATE_SCHEMA_LOCK: i64 = 0x73_65_67_75_65;

/// A schema name that needs no quoting: lower-case letters, digits and underscores, at most 63 of them.
#[derive(Clone, Debug)]
pub(crate) struct SchemaName(String);

impl SchemaName {
    pub(crate) fn new(prefix: &str, namespace: &str) -> Result<SchemaName, StoreError> {
        let name = format!("{prefix}{namespace}");
        let fits = name.len() <= 63 && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if !fits || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(StoreError::InvalidUrl {
                reason: format!("`{name}` cannot be a schema: a-z, 0-9 and _, starting with a letter, at most 63 of them"),
            });
        }
        Ok(SchemaName(name))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `name` can be a namespace.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Creates the schema when it is missing.
pub(crate) async fn create(options: &PgConnectOptions, name: &SchemaName) -> Result<(), StoreError> {
    let mut conn = options.connect().await?;
    let mut tx = conn.begin().await?;
    // Ends with the transaction.
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(CREATE_SCHEMA_LOCK).execute(&mut *tx).await?;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)").bind(name.as_str()).fetch_one(&mut *tx).await?;
    // Asked first, because a role that may not create schemas can still use one that its operator made.
    if !exists {
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {}", name.as_str()))).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    conn.close().await?;
    Ok(())
}

/// Drops every schema whose name starts with `prefix`, and all that is in it. For tests, which give each test a prefix of
/// its own through `schema_prefix=`; refuses a prefix of fewer than 8 characters.
pub async fn drop_schemas_with_prefix(url: &str, prefix: &str) -> Result<(), StoreError> {
    if prefix.len() < 8 {
        return Err(StoreError::InvalidUrl { reason: format!("the prefix `{prefix}` is too short to drop schemas by") });
    }
    let options = PgConnectOptions::from_str(url).map_err(|error| StoreError::InvalidUrl { reason: error.to_string() })?;
    let mut conn = options.connect().await?;
    let names: Vec<String> = sqlx::query_scalar("SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname, $1)")
        .bind(prefix)
        .fetch_all(&mut conn)
        .await?;
    for name in names {
        let name = SchemaName::new("", &name)?;
        sqlx::raw_sql(AssertSqlSafe(format!("DROP SCHEMA {} CASCADE", name.as_str()))).execute(&mut conn).await?;
    }
    conn.close().await?;
    Ok(())
}
