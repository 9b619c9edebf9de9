//! SQL of the quarantine and of correction rules.
//!
//! Entries are written many at a time, as one JSON text; bytes travel in it as hexadecimal. Keys are made safe for both
//! databases first (PostgreSQL refuses NUL in text), the event itself is kept as bytes, exactly as it came.

use std::collections::HashMap;

use prost::Message;
use segue_model::TenantId;
use segue_proto::events::v1::Event;
use segue_proto::ingest::v1::{CorrectionRule, EventOutcome, Reason};
use segue_store::{Db, StoreError, Tx, on_db, on_tx, sqlx};
use uuid::Uuid;

use crate::IngestError;

/// Rows of one statement: bounds the size of its text.
const ROWS_MAX: usize = 500;

const LOCK: &str = "INSERT INTO quarantine_count (tenant, entries, ever) VALUES ($1, 0, 0)
    ON CONFLICT (tenant) DO UPDATE SET entries = quarantine_count.entries RETURNING entries";
const ADD: &str = "UPDATE quarantine_count SET entries = entries + $2, ever = ever + $3 WHERE tenant = $1";
const EVER: &str = "SELECT ever FROM quarantine_count WHERE tenant = $1";
const KNOWN_SQLITE: &str = "SELECT source, message_id, id FROM quarantine
    WHERE tenant = $1 AND (source, message_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($2))";
const KNOWN_POSTGRES: &str = "SELECT source, message_id, id FROM quarantine
    WHERE tenant = $1 AND (source, message_id) IN (SELECT value ->> 0, value ->> 1 FROM json_array_elements($2::json))";
const INSERT_SQLITE: &str = "INSERT INTO quarantine
        (tenant, id, source, message_id, event_name, received_at_us, time_is_final, event, reasons)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, unhex(value ->> 6), unhex(value ->> 7)
    FROM json_each($2) WHERE true
    ON CONFLICT (tenant, source, message_id) DO UPDATE SET event_name = excluded.event_name, received_at_us = excluded.received_at_us,
        time_is_final = excluded.time_is_final, event = excluded.event, reasons = excluded.reasons, revision = quarantine.revision + 1";
const INSERT_POSTGRES: &str = "INSERT INTO quarantine
        (tenant, id, source, message_id, event_name, received_at_us, time_is_final, event, reasons)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, (value ->> 4)::bigint, (value ->> 5)::boolean,
        decode(value ->> 6, 'hex'), decode(value ->> 7, 'hex')
    FROM json_array_elements($2::json)
    ON CONFLICT (tenant, source, message_id) DO UPDATE SET event_name = excluded.event_name, received_at_us = excluded.received_at_us,
        time_is_final = excluded.time_is_final, event = excluded.event, reasons = excluded.reasons, revision = quarantine.revision + 1";
const DELETE_REASONS_SQLITE: &str = "DELETE FROM quarantine_reason WHERE tenant = $1 AND id IN (SELECT value FROM json_each($2))";
const DELETE_REASONS_POSTGRES: &str =
    "DELETE FROM quarantine_reason WHERE tenant = $1 AND id = ANY (SELECT json_array_elements_text($2::json))";
const INSERT_REASONS_SQLITE: &str = "INSERT INTO quarantine_reason (tenant, id, code, field)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2 FROM json_each($2) WHERE true ON CONFLICT DO NOTHING";
const INSERT_REASONS_POSTGRES: &str = "INSERT INTO quarantine_reason (tenant, id, code, field)
    SELECT $1, value ->> 0, (value ->> 1)::bigint, value ->> 2 FROM json_array_elements($2::json) ON CONFLICT DO NOTHING";

// $2 '' and $3 0 mean any; $4 is a JSON array of ids or ''; ($5, $6) is the entry to go on after; $7 rows.
const NEWEST_FIRST_SQLITE: &str = "SELECT id, received_at_us, time_is_final, event, reasons, revision FROM quarantine
    WHERE tenant = $1 AND ($2 = '' OR event_name = $2)
        AND ($3 = 0 OR id IN (SELECT id FROM quarantine_reason r WHERE r.tenant = $1 AND r.code = $3))
        AND ($4 = '' OR id IN (SELECT value FROM json_each($4)))
        AND (received_at_us < $5 OR (received_at_us = $5 AND id < $6))
    ORDER BY received_at_us DESC, id DESC LIMIT $7";
const NEWEST_FIRST_POSTGRES: &str = "SELECT id, received_at_us, time_is_final, event, reasons, revision FROM quarantine
    WHERE tenant = $1 AND ($2 = '' OR event_name = $2)
        AND ($3 = 0 OR id IN (SELECT id FROM quarantine_reason r WHERE r.tenant = $1 AND r.code = $3))
        AND ($4 = '' OR id = ANY (SELECT json_array_elements_text(NULLIF($4, '')::json)))
        AND (received_at_us < $5 OR (received_at_us = $5 AND id < $6))
    ORDER BY received_at_us DESC, id DESC LIMIT $7";
const OLDEST_FIRST_SQLITE: &str = "SELECT id, received_at_us, time_is_final, event, reasons, revision FROM quarantine
    WHERE tenant = $1 AND ($2 = '' OR event_name = $2)
        AND ($3 = 0 OR id IN (SELECT id FROM quarantine_reason r WHERE r.tenant = $1 AND r.code = $3))
        AND ($4 = '' OR id IN (SELECT value FROM json_each($4)))
        AND (received_at_us > $5 OR (received_at_us = $5 AND id > $6))
    ORDER BY received_at_us, id LIMIT $7";
const OLDEST_FIRST_POSTGRES: &str = "SELECT id, received_at_us, time_is_final, event, reasons, revision FROM quarantine
    WHERE tenant = $1 AND ($2 = '' OR event_name = $2)
        AND ($3 = 0 OR id IN (SELECT id FROM quarantine_reason r WHERE r.tenant = $1 AND r.code = $3))
        AND ($4 = '' OR id = ANY (SELECT json_array_elements_text(NULLIF($4, '')::json)))
        AND (received_at_us > $5 OR (received_at_us = $5 AND id > $6))
    ORDER BY received_at_us, id LIMIT $7";
const SUMMARIZE: &str = "SELECT q.event_name AS event_name, r.code AS code, r.field AS field, count(*) AS entries
    FROM quarantine q JOIN quarantine_reason r ON r.tenant = q.tenant AND r.id = q.id
    WHERE q.tenant = $1 GROUP BY q.event_name, r.code, r.field ORDER BY entries DESC, event_name, code, field LIMIT 1000";
const COUNT: &str = "SELECT count(*) FROM quarantine WHERE tenant = $1";
const DELETE: &str = "DELETE FROM quarantine WHERE tenant = $1 AND id = $2 AND revision = $3";
const UPDATE: &str = "UPDATE quarantine SET reasons = $4, revision = revision + 1 WHERE tenant = $1 AND id = $2 AND revision = $3";
const RULES: &str = "SELECT id, position, rule FROM correction_rule WHERE tenant = $1 AND position > $2 ORDER BY position LIMIT $3";
const COUNT_RULES: &str = "SELECT count(*) AS rules, COALESCE(max(position), 0) AS last FROM correction_rule WHERE tenant = $1";
const INSERT_RULE: &str = "INSERT INTO correction_rule (tenant, id, position, rule) VALUES ($1, $2, $3, $4)";
const DELETE_RULE: &str = "DELETE FROM correction_rule WHERE tenant = $1 AND id = $2";

/// An event to be set aside.
#[derive(Debug)]
pub struct NewEntry {
    event: Event,
    reasons: Vec<Reason>,
    received_at_us: i64,
    time_is_final: bool,
}

impl NewEntry {
    /// The event has its message id and source.
    pub fn new(event: Event, reasons: Vec<Reason>, received_at_us: i64, time_is_final: bool) -> Self {
        Self { event, reasons, received_at_us, time_is_final }
    }

    fn key(&self) -> (String, String) {
        (safe(&self.event.source), safe(&self.event.message_id))
    }
}

/// An entry as stored.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The last part of its name.
    pub id: String,
    /// As it came, with message id and source.
    pub event: Event,
    /// Why it is here.
    pub reasons: Vec<Reason>,
    /// When it was received.
    pub received_at_us: i64,
    /// Its time was taken as it is, without correcting the sender's clock.
    pub time_is_final: bool,
    /// Changes with every change of the entry.
    pub revision: i64,
}

/// Which entries; empty or zero means any.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Name of the event.
    pub event_name: String,
    /// A `ReasonCode`.
    pub code: i64,
    /// Ids.
    pub ids: Vec<String>,
}

/// How many entries have one reason.
#[derive(Debug, sqlx::FromRow)]
pub struct CountRow {
    /// Name of the event.
    pub event_name: String,
    /// The `ReasonCode`.
    pub code: i64,
    /// The field, without positions in lists.
    pub field: String,
    /// How many.
    pub entries: i64,
}

#[derive(sqlx::FromRow)]
struct EntryRow {
    id: String,
    received_at_us: i64,
    time_is_final: bool,
    event: Vec<u8>,
    reasons: Vec<u8>,
    revision: i64,
}

/// Text that both databases take.
fn safe(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A field without positions, so that the same fault of many events is one: `items[2].quantity` becomes `items[].quantity`.
fn general(field: &str) -> String {
    let mut general = String::with_capacity(field.len());
    let mut inside = false;
    for c in field.chars() {
        inside = inside && c.is_ascii_digit();
        if !inside {
            general.push(c);
        }
        inside |= c == '[';
    }
    safe(&general)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

fn json<T: serde::Serialize>(rows: &T) -> Result<String, IngestError> {
    serde_json::to_string(rows).map_err(|error| IngestError::Unreadable { what: error.to_string() })
}

fn encode_reasons(reasons: Vec<Reason>) -> Vec<u8> {
    EventOutcome { reasons, ..EventOutcome::default() }.encode_to_vec()
}

/// Stores entries, up to `entries_max` of the tenant; one that is there under the same source and message id is replaced.
/// Answers the tags of those that there was no room for.
pub(crate) async fn insert(
    db: &Db,
    tenant: &TenantId,
    entries: Vec<(usize, NewEntry)>,
    entries_max: i64,
) -> Result<Vec<usize>, IngestError> {
    // The same id twice in one call: the last one stands, as it would in two calls.
    let mut last: HashMap<(String, String), (Vec<usize>, NewEntry)> = HashMap::with_capacity(entries.len());
    for (tag, entry) in entries {
        let key = entry.key();
        let mut tags = last.remove(&key).map(|(tags, _)| tags).unwrap_or_default();
        tags.push(tag);
        last.insert(key, (tags, entry));
    }
    let mut rows: Vec<_> = last.into_iter().collect();
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));

    let mut refused = Vec::new();
    let mut tx = db.begin().await?;
    let mut room = entries_max - lock(&mut tx, tenant).await?;
    let mut added: i64 = 0;
    let events = rows.len() as i64;
    while !rows.is_empty() {
        let chunk: Vec<_> = rows.drain(..rows.len().min(ROWS_MAX)).collect();
        let known = find_known(&mut tx, tenant, chunk.iter().map(|(key, _)| key)).await?;
        let mut kept = Vec::with_capacity(chunk.len());
        for (key, (tags, entry)) in chunk {
            match known.get(&key) {
                Some(id) => kept.push((id.clone(), key, entry)),
                None if room > 0 => {
                    room -= 1;
                    added += 1;
                    kept.push((Uuid::now_v7().to_string(), key, entry));
                }
                None => refused.extend(tags),
            }
        }
        write(&mut tx, tenant, kept).await?;
    }
    let ever = events - refused.len() as i64;
    on_tx!(tx, conn => sqlx::query(ADD).bind(tenant.as_str()).bind(added).bind(ever.max(0)).execute(conn).await.map(drop))
        .map_err(StoreError::from)?;
    tx.commit().await?;
    Ok(refused)
}

/// Makes other changes of the tenant's quarantine wait; answers how many entries there are.
async fn lock(tx: &mut Tx, tenant: &TenantId) -> Result<i64, IngestError> {
    Ok(on_tx!(tx, conn => sqlx::query_scalar(LOCK).bind(tenant.as_str()).fetch_one(conn).await).map_err(StoreError::from)?)
}

async fn find_known(
    tx: &mut Tx,
    tenant: &TenantId,
    keys: impl Iterator<Item = &(String, String)>,
) -> Result<HashMap<(String, String), String>, IngestError> {
    let keys = json(&keys.collect::<Vec<_>>())?;
    let sql = tx.sql(KNOWN_SQLITE, KNOWN_POSTGRES);
    let known: Vec<(String, String, String)> =
        on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&keys).fetch_all(conn).await).map_err(StoreError::from)?;
    Ok(known.into_iter().map(|(source, message_id, id)| ((source, message_id), id)).collect())
}

type Kept = (String, (String, String), NewEntry);

async fn write(tx: &mut Tx, tenant: &TenantId, kept: Vec<Kept>) -> Result<(), IngestError> {
    if kept.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(kept.len());
    let mut ids = Vec::with_capacity(kept.len());
    let mut reasons = Vec::new();
    for (id, (source, message_id), entry) in kept {
        for reason in &entry.reasons {
            reasons.push((id.clone(), i64::from(reason.code), general(&reason.field)));
        }
        let event = hex(&entry.event.encode_to_vec());
        let encoded_reasons = hex(&encode_reasons(entry.reasons));
        let name = safe(&entry.event.name);
        rows.push((id.clone(), source, message_id, name, entry.received_at_us, entry.time_is_final, event, encoded_reasons));
        ids.push(id);
    }
    let (rows, ids, reasons) = (json(&rows)?, json(&ids)?, json(&reasons)?);
    let insert = tx.sql(INSERT_SQLITE, INSERT_POSTGRES);
    on_tx!(tx, conn => sqlx::query(insert).bind(tenant.as_str()).bind(&rows).execute(conn).await.map(drop)).map_err(StoreError::from)?;
    replace_reasons(tx, tenant, &ids, &reasons).await
}

async fn replace_reasons(tx: &mut Tx, tenant: &TenantId, ids: &str, reasons: &str) -> Result<(), IngestError> {
    let delete = tx.sql(DELETE_REASONS_SQLITE, DELETE_REASONS_POSTGRES);
    on_tx!(tx, conn => sqlx::query(delete).bind(tenant.as_str()).bind(ids).execute(conn).await.map(drop)).map_err(StoreError::from)?;
    let insert = tx.sql(INSERT_REASONS_SQLITE, INSERT_REASONS_POSTGRES);
    on_tx!(tx, conn => sqlx::query(insert).bind(tenant.as_str()).bind(reasons).execute(conn).await.map(drop)).map_err(StoreError::from)?;
    Ok(())
}

/// In which order entries are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// For people.
    NewestFirst,
    /// For replaying: in the order in which they came.
    OldestFirst,
}

/// Entries of a selection, after the entry (`received_at_us`, `id`).
pub(crate) async fn list(
    db: &Db,
    tenant: &TenantId,
    selection: &Selection,
    order: Order,
    after: (i64, &str),
    rows: usize,
) -> Result<Vec<Entry>, IngestError> {
    let ids = if selection.ids.is_empty() { String::new() } else { json(&selection.ids)? };
    let sql = match order {
        Order::NewestFirst => db.sql(NEWEST_FIRST_SQLITE, NEWEST_FIRST_POSTGRES),
        Order::OldestFirst => db.sql(OLDEST_FIRST_SQLITE, OLDEST_FIRST_POSTGRES),
    };
    let found: Vec<EntryRow> = on_db!(db, pool => sqlx::query_as(sql).bind(tenant.as_str()).bind(safe(&selection.event_name))
        .bind(selection.code).bind(&ids).bind(after.0).bind(after.1).bind(rows as i64).fetch_all(pool).await)
    .map_err(StoreError::from)?;
    found.into_iter().map(read_entry).collect()
}

fn read_entry(row: EntryRow) -> Result<Entry, IngestError> {
    let unreadable = |error: prost::DecodeError| IngestError::Unreadable { what: format!("quarantine/{}: {error}", row.id) };
    Ok(Entry {
        event: Event::decode(row.event.as_slice()).map_err(unreadable)?,
        reasons: EventOutcome::decode(row.reasons.as_slice()).map_err(unreadable)?.reasons,
        received_at_us: row.received_at_us,
        time_is_final: row.time_is_final,
        revision: row.revision,
        id: row.id,
    })
}

/// Counts by event, reason and field, the most frequent first, and the number of entries.
pub(crate) async fn summarize(db: &Db, tenant: &TenantId) -> Result<(Vec<CountRow>, u64), IngestError> {
    let mut tx = db.read().await?;
    let counts = on_tx!(tx, conn => sqlx::query_as(SUMMARIZE).bind(tenant.as_str()).fetch_all(conn).await).map_err(StoreError::from)?;
    let total: i64 = on_tx!(tx, conn => sqlx::query_scalar(COUNT).bind(tenant.as_str()).fetch_one(conn).await).map_err(StoreError::from)?;
    tx.commit().await?;
    Ok((counts, total.unsigned_abs()))
}

/// How many events of the tenant were ever quarantined.
pub async fn count_ever(db: &Db, tenant: &TenantId) -> Result<u64, IngestError> {
    let ever: Option<i64> =
        on_db!(db, pool => sqlx::query_scalar(EVER).bind(tenant.as_str()).fetch_optional(pool).await).map_err(StoreError::from)?;
    Ok(ever.unwrap_or(0).unsigned_abs())
}

/// Removes entries as they were read; one that changed since stays. Answers how many went.
pub(crate) async fn delete(db: &Db, tenant: &TenantId, entries: &[(String, i64)]) -> Result<u64, IngestError> {
    let mut tx = db.begin().await?;
    lock(&mut tx, tenant).await?;
    let mut deleted: i64 = 0;
    for (id, revision) in entries {
        deleted += on_tx!(tx, conn => sqlx::query(DELETE).bind(tenant.as_str()).bind(id).bind(*revision)
            .execute(conn).await.map(|done| done.rows_affected() as i64))
        .map_err(StoreError::from)?;
    }
    on_tx!(tx, conn => sqlx::query(ADD).bind(tenant.as_str()).bind(-deleted).bind(0_i64).execute(conn).await.map(drop))
        .map_err(StoreError::from)?;
    tx.commit().await?;
    Ok(deleted.unsigned_abs())
}

/// Writes the new reasons of entries; the events stay as they came. Entries that changed since they were read are left alone.
pub(crate) async fn update_reasons(db: &Db, tenant: &TenantId, entries: Vec<Entry>) -> Result<(), IngestError> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    lock(&mut tx, tenant).await?;
    for entry in entries {
        let rows: Vec<_> = entry.reasons.iter().map(|reason| (entry.id.as_str(), i64::from(reason.code), general(&reason.field))).collect();
        let (ids, rows) = (json(&[&entry.id])?, json(&rows)?);
        let reasons = encode_reasons(entry.reasons);
        let updated = on_tx!(tx, conn => sqlx::query(UPDATE).bind(tenant.as_str()).bind(&entry.id).bind(entry.revision)
            .bind(&reasons).execute(conn).await.map(|done| done.rows_affected()))
        .map_err(StoreError::from)?;
        if updated == 1 {
            replace_reasons(&mut tx, tenant, &ids, &rows).await?;
        }
    }
    Ok(tx.commit().await?)
}

/// Correction rules in the order of their creation, after a position.
pub(crate) async fn list_rules(db: &Db, tenant: &TenantId, after: i64, rows: usize) -> Result<Vec<(i64, CorrectionRule)>, IngestError> {
    let found: Vec<(String, i64, Vec<u8>)> =
        on_db!(db, pool => sqlx::query_as(RULES).bind(tenant.as_str()).bind(after).bind(rows as i64).fetch_all(pool).await)
            .map_err(StoreError::from)?;
    let read = |(id, position, rule): (String, i64, Vec<u8>)| {
        let rule = CorrectionRule::decode(rule.as_slice())
            .map_err(|error| IngestError::Unreadable { what: format!("correctionRules/{id}: {error}") })?;
        Ok((position, CorrectionRule { name: format!("correctionRules/{id}"), ..rule }))
    };
    found.into_iter().map(read).collect()
}

/// Adds a rule and answers its id.
pub(crate) async fn insert_rule(db: &Db, tenant: &TenantId, rule: &CorrectionRule, rules_max: u32) -> Result<String, IngestError> {
    let mut tx = db.begin().await?;
    lock(&mut tx, tenant).await?;
    let (rules, last): (i64, i64) =
        on_tx!(tx, conn => sqlx::query_as(COUNT_RULES).bind(tenant.as_str()).fetch_one(conn).await).map_err(StoreError::from)?;
    if rules >= i64::from(rules_max) {
        return Err(IngestError::TooMany { what: "correction rules", limit: rules_max });
    }
    let id = Uuid::now_v7().to_string();
    on_tx!(tx, conn => sqlx::query(INSERT_RULE).bind(tenant.as_str()).bind(&id).bind(last + 1).bind(rule.encode_to_vec())
        .execute(conn).await.map(drop))
    .map_err(StoreError::from)?;
    tx.commit().await?;
    Ok(id)
}

/// Removes a rule; false when there was none.
pub(crate) async fn delete_rule(db: &Db, tenant: &TenantId, id: &str) -> Result<bool, IngestError> {
    let mut tx = db.begin().await?;
    let rows = on_tx!(tx, conn => sqlx::query(DELETE_RULE).bind(tenant.as_str()).bind(id)
        .execute(conn).await.map(|done| done.rows_affected()))
    .map_err(StoreError::from)?;
    tx.commit().await?;
    Ok(rows == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lose_their_positions_and_nothing_else() {
        assert_eq!(general("items[12].properties.a[b"), "items[].properties.a[b");
        assert_eq!(general("name"), "name");
        assert_eq!(general("x\0"), "x\u{fffd}");
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
    }
}
