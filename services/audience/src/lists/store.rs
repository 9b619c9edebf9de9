//! SQL of lists.

use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_store::{Db, on_db};

use super::chunks;
use crate::error::AudienceError;
use crate::store::{counter, json};

const BYTES: &str = "SELECT CAST(COALESCE(sum(length(persons)), 0) AS BIGINT) FROM list_chunk WHERE tenant = $1 AND list = $2";
const CHUNKS: &str = "SELECT persons FROM list_chunk WHERE tenant = $1 AND list = $2 ORDER BY chunk";
// CROSS JOIN keeps SQLite from walking the list and looking into the chunks asked for.
const CHUNKS_AMONG_SQLITE: &str = "SELECT c.chunk, c.persons FROM json_each($3) k CROSS JOIN list_chunk c
    WHERE c.tenant = $1 AND c.list = $2 AND c.chunk = k.value ORDER BY c.chunk";
const CHUNKS_AMONG_POSTGRES: &str = "SELECT c.chunk, c.persons FROM json_array_elements_text($3::json) k(value)
    JOIN list_chunk c ON c.tenant = $1 AND c.list = $2 AND c.chunk = k.value::bigint ORDER BY c.chunk";

/// How many bytes the persons of a list take.
pub(crate) async fn bytes(db: &Db, tenant: &TenantId, list: &str) -> Result<u64, AudienceError> {
    let bytes: i64 = on_db!(db, pool => sqlx::query_scalar(BYTES).bind(tenant.as_str()).bind(list).fetch_one(pool).await)?;
    counter(bytes)
}

/// The persons of a list.
pub(crate) async fn persons(db: &Db, tenant: &TenantId, list: &str) -> Result<RoaringBitmap, AudienceError> {
    let rows: Vec<Vec<u8>> = on_db!(db, pool => sqlx::query_scalar(CHUNKS).bind(tenant.as_str()).bind(list).fetch_all(pool).await)?;
    union(rows.iter().map(Vec::as_slice))
}

/// The persons of a list who are among these.
pub(crate) async fn persons_among(db: &Db, tenant: &TenantId, list: &str, among: &RoaringBitmap) -> Result<RoaringBitmap, AudienceError> {
    let sql = db.sql(CHUNKS_AMONG_SQLITE, CHUNKS_AMONG_POSTGRES);
    let touched = json(&chunks::touched(among))?;
    let rows: Vec<(i64, Vec<u8>)> =
        on_db!(db, pool => sqlx::query_as(sql).bind(tenant.as_str()).bind(list).bind(&touched).fetch_all(pool).await)?;
    Ok(union(rows.iter().map(|(_, persons)| persons.as_slice()))? & among)
}

fn union<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Result<RoaringBitmap, AudienceError> {
    let mut persons = RoaringBitmap::new();
    for part in parts {
        persons |= chunks::decode(part)?;
    }
    Ok(persons)
}
