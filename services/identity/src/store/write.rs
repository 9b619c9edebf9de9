//! Writing: what one transaction changed of a tenant, and the answers that go with it.

use std::collections::HashMap;

use prost::Message;
use segue_model::TenantId;
use segue_proto::events::v1::identity_change::Change;
use segue_proto::events::v1::{IdentityChange, IdentityChangeBatch, PersonMerged};
use segue_proto::identity::v1::LinkKind;
use segue_store::{Tx, on_tx};
use serde::Serialize;

use super::{accounts, consents, json, limits};
use crate::effects::{Effects, TraitChanges};
use crate::error::IdentityError;
use crate::registry::Counters;

const PUT_IDENTIFIERS_SQLITE: &str = "INSERT INTO identifiers (tenant, kind, value, person, device, noted, linked_at_us)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, kind, value) DO UPDATE SET person = excluded.person, device = excluded.device,
        noted = excluded.noted, linked_at_us = excluded.linked_at_us";
const PUT_IDENTIFIERS_POSTGRES: &str = "INSERT INTO identifiers (tenant, kind, value, person, device, noted, linked_at_us)
    SELECT $1, value ->> 0, value ->> 1, (value ->> 2)::bigint, (value ->> 3)::bigint, (value ->> 4)::bigint, (value ->> 5)::bigint
    FROM json_array_elements($2::json)
    ON CONFLICT (tenant, kind, value) DO UPDATE SET person = excluded.person, device = excluded.device,
        noted = excluded.noted, linked_at_us = excluded.linked_at_us";

const PUT_PERSONS_SQLITE: &str = "INSERT INTO persons (tenant, number, root, first_seen_us, last_seen_us)
    SELECT $1, value ->> 0, value ->> 0, value ->> 1, value ->> 2 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, number) DO UPDATE SET first_seen_us = excluded.first_seen_us, last_seen_us = excluded.last_seen_us";
const PUT_PERSONS_POSTGRES: &str = "INSERT INTO persons (tenant, number, root, first_seen_us, last_seen_us)
    SELECT $1, (value ->> 0)::bigint, (value ->> 0)::bigint, (value ->> 1)::bigint, (value ->> 2)::bigint
    FROM json_array_elements($2::json)
    ON CONFLICT (tenant, number) DO UPDATE SET first_seen_us = excluded.first_seen_us, last_seen_us = excluded.last_seen_us";

// A number that was merged takes those along that were merged into it. The rows exist; written as upserts, since SQLite would
// walk all persons for `UPDATE … FROM` a list.
const REDIRECT_SQLITE: &str = "INSERT INTO persons (tenant, number, root, first_seen_us, last_seen_us)
    SELECT $1, value ->> 0, value ->> 1, 0, 0 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, number) DO UPDATE SET root = excluded.root";
const REDIRECT_POSTGRES: &str = "INSERT INTO persons (tenant, number, root, first_seen_us, last_seen_us)
    SELECT $1, (value ->> 0)::bigint, (value ->> 1)::bigint, 0, 0 FROM json_array_elements($2::json)
    ON CONFLICT (tenant, number) DO UPDATE SET root = excluded.root";
const REDIRECT_FOLLOWERS_SQLITE: &str = "INSERT INTO persons (tenant, number, root, first_seen_us, last_seen_us)
    SELECT $1, p.number, m.value ->> 1, 0, 0 FROM json_each($2) m CROSS JOIN persons p INDEXED BY persons_merged
    WHERE p.tenant = $1 AND p.root = m.value ->> 0 AND p.root <> p.number
    ON CONFLICT (tenant, number) DO UPDATE SET root = excluded.root";
const REDIRECT_FOLLOWERS_POSTGRES: &str = "INSERT INTO persons (tenant, number, root, first_seen_us, last_seen_us)
    SELECT $1, p.number, (m.value ->> 1)::bigint, 0, 0 FROM json_array_elements($2::json) m(value)
    JOIN persons p ON p.tenant = $1 AND p.root = (m.value ->> 0)::bigint AND p.root <> p.number
    ON CONFLICT (tenant, number) DO UPDATE SET root = excluded.root";

const ADD_LINKS_SQLITE: &str = "INSERT INTO link_log
        (tenant, sequence, kind, person, other_person, identifier_kind, identifier_value, time_us, reason)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7
    FROM json_each($2)";
const ADD_LINKS_POSTGRES: &str = "INSERT INTO link_log
        (tenant, sequence, kind, person, other_person, identifier_kind, identifier_value, time_us, reason)
    SELECT $1, (value ->> 0)::bigint, (value ->> 1)::bigint, (value ->> 2)::bigint, (value ->> 3)::bigint, value ->> 4, value ->> 5,
        (value ->> 6)::bigint, value ->> 7
    FROM json_array_elements($2::json)";

const PUT_TRAITS_SQLITE: &str = "INSERT INTO traits (tenant, person, name, value, time_us, ordinal)
    SELECT $1, value ->> 0, value ->> 1, unhex(value ->> 2), value ->> 3, value ->> 4 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, person, name) DO UPDATE SET value = excluded.value, time_us = excluded.time_us, ordinal = excluded.ordinal
    WHERE excluded.time_us >= traits.time_us";
const PUT_TRAITS_POSTGRES: &str = "INSERT INTO traits (tenant, person, name, value, time_us, ordinal)
    SELECT $1, (value ->> 0)::bigint, value ->> 1, decode(value ->> 2, 'hex'), (value ->> 3)::bigint, (value ->> 4)::bigint
    FROM json_array_elements($2::json)
    ON CONFLICT (tenant, person, name) DO UPDATE SET value = excluded.value, time_us = excluded.time_us, ordinal = excluded.ordinal
    WHERE excluded.time_us >= traits.time_us";

const PUT_COUNTERS: &str = "UPDATE tenants SET version = $2, persons = $3, devices = $4, links = $5, merged = $6, ordinals = $7
    WHERE tenant = $1";
const PUT_ANSWER: &str = "INSERT INTO answers (tenant, source, sequence, body) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant, source) DO UPDATE SET sequence = excluded.sequence, body = excluded.body
    WHERE answers.sequence < excluded.sequence";
const ADD_OUTBOX: &str = "INSERT INTO outbox (tenant, sequence, payload, changes) VALUES ($1, $2, $3, $4)";
const ADD_MERGE_REQUEST: &str =
    "INSERT INTO merge_requests (tenant, request_id, from_person, into_person, made_at_us) VALUES ($1, $2, $3, $4, $5)";

/// Writes everything that changed, and the counters under their new version.
pub(crate) async fn write(tx: &mut Tx, tenant: &TenantId, effects: Effects, counters: &Counters) -> Result<(), IdentityError> {
    let merges = final_merges(&effects.merges);
    let changes = changes_of(tenant, &effects);
    if !effects.persons.is_empty() {
        let rows: Vec<(u32, i64, i64)> = effects.persons.iter().map(|(number, (first, last))| (*number, *first, *last)).collect();
        run(tx, tenant, PUT_PERSONS_SQLITE, PUT_PERSONS_POSTGRES, &json(&rows)?).await?;
    }
    if !merges.is_empty() {
        let rows = json(&merges)?;
        run(tx, tenant, REDIRECT_FOLLOWERS_SQLITE, REDIRECT_FOLLOWERS_POSTGRES, &rows).await?;
        run(tx, tenant, REDIRECT_SQLITE, REDIRECT_POSTGRES, &rows).await?;
    }
    if !effects.identifiers.is_empty() {
        let mut identifiers = effects.identifiers;
        // Neighbours in the index are written together.
        identifiers.sort_unstable_by(|a, b| (a.id.kind.name(), &a.id.value).cmp(&(b.id.kind.name(), &b.id.value)));
        let rows: Vec<(&str, &str, u32, u32, u32, i64)> = identifiers
            .iter()
            .map(|row| (row.id.kind.name(), row.id.value.as_str(), row.link.person, row.link.device, row.link.noted, row.link.linked_at_us))
            .collect();
        run(tx, tenant, PUT_IDENTIFIERS_SQLITE, PUT_IDENTIFIERS_POSTGRES, &json(&rows)?).await?;
    }
    if !effects.links.is_empty() {
        type Row<'a> = (u64, i32, u32, u32, &'a str, &'a str, i64, &'a str);
        let rows: Vec<Row<'_>> = effects
            .links
            .iter()
            .map(|link| {
                let (kind, value) = (link.identifier_kind.as_str(), link.identifier_value.as_str());
                (link.sequence, link.kind as i32, link.person, link.other_person, kind, value, link.time_us, link.reason.as_str())
            })
            .collect();
        run(tx, tenant, ADD_LINKS_SQLITE, ADD_LINKS_POSTGRES, &json(&rows)?).await?;
    }
    let mut traits = effects.traits;
    limits::of_person_traits(tx, tenant, &mut traits).await?;
    if !traits.is_empty() {
        run(tx, tenant, PUT_TRAITS_SQLITE, PUT_TRAITS_POSTGRES, &trait_rows(&traits)?).await?;
    }
    if !effects.consents.is_empty() {
        consents::write(tx, tenant, effects.consents).await?;
    }
    if !effects.accounts.is_empty() {
        accounts::write(tx, tenant, &effects.accounts, effects.account_traits, effects.memberships).await?;
    }
    if let Some(changes) = changes {
        add_to_outbox(tx, tenant, &changes).await?;
    }
    put_counters(tx, tenant, counters).await
}

/// Rows of `[owner, name, value, time_us, ordinal]`, by key.
pub(super) fn trait_rows<K: Serialize + Ord>(changes: &TraitChanges<K>) -> Result<String, IdentityError> {
    let mut rows: Vec<(&K, &str, String, i64, u64)> = changes
        .iter()
        .map(|((owner, name), change)| {
            let value = &change.winner;
            (owner, name.as_str(), hex::encode(value.value.encode_to_vec()), value.time_us, value.ordinal)
        })
        .collect();
    rows.sort_unstable();
    json(&rows)
}

/// Runs a statement over rows of a tenant.
pub(super) async fn run(
    tx: &mut Tx,
    tenant: &TenantId,
    sqlite: &'static str,
    postgres: &'static str,
    rows: &str,
) -> Result<(), IdentityError> {
    let sql = tx.sql(sqlite, postgres);
    on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(rows).execute(conn).await.map(drop))?;
    Ok(())
}

/// Where each merged number ends up, when several merges follow one another in a transaction.
fn final_merges(merges: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let direct: HashMap<u32, u32> = merges.iter().copied().collect();
    merges
        .iter()
        .map(|(from, into)| {
            let mut root = *into;
            // Each number is merged once, and never into one that is part of it: this ends.
            while let Some(next) = direct.get(&root) {
                root = *next;
            }
            (*from, root)
        })
        .collect()
}

/// What consumers of the log must follow.
fn changes_of(tenant: &TenantId, effects: &Effects) -> Option<IdentityChangeBatch> {
    let changes: Vec<IdentityChange> = effects
        .links
        .iter()
        .filter(|link| link.kind == LinkKind::Merged)
        .map(|link| IdentityChange {
            sequence: link.sequence,
            time_us: link.time_us,
            change: Some(Change::Merged(PersonMerged { from: link.other_person, into: link.person })),
        })
        .collect();
    if changes.is_empty() { None } else { Some(IdentityChangeBatch { tenant: tenant.to_string(), changes }) }
}

async fn add_to_outbox(tx: &mut Tx, tenant: &TenantId, batch: &IdentityChangeBatch) -> Result<(), IdentityError> {
    let sequence = batch.changes.last().map_or(0, |change| change.sequence) as i64;
    let (payload, changes) = (batch.encode_to_vec(), batch.changes.len() as i64);
    on_tx!(tx, conn => sqlx::query(ADD_OUTBOX)
        .bind(tenant.as_str()).bind(sequence).bind(&payload).bind(changes).execute(conn).await.map(drop))?;
    Ok(())
}

async fn put_counters(tx: &mut Tx, tenant: &TenantId, counters: &Counters) -> Result<(), IdentityError> {
    on_tx!(tx, conn => sqlx::query(PUT_COUNTERS)
        .bind(tenant.as_str())
        .bind(counters.version as i64)
        .bind(i64::from(counters.persons))
        .bind(i64::from(counters.devices))
        .bind(counters.links as i64)
        .bind(i64::from(counters.merged))
        .bind(counters.ordinals as i64)
        .execute(conn).await.map(drop))?;
    Ok(())
}

/// Stores the last answer to a source. False when another process has stored a later one meanwhile (or the same).
pub(crate) async fn put_answer(tx: &mut Tx, tenant: &TenantId, source: &str, sequence: u64, body: &[u8]) -> Result<bool, IdentityError> {
    let rows = on_tx!(tx, conn => sqlx::query(PUT_ANSWER)
        .bind(tenant.as_str()).bind(source).bind(sequence as i64).bind(body).execute(conn).await.map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Remembers which merge a request id stands for.
pub(crate) async fn add_merge_request(
    tx: &mut Tx,
    tenant: &TenantId,
    request_id: &str,
    (from, into): (u32, u32),
    now_us: i64,
) -> Result<(), IdentityError> {
    on_tx!(tx, conn => sqlx::query(ADD_MERGE_REQUEST)
        .bind(tenant.as_str()).bind(request_id).bind(i64::from(from)).bind(i64::from(into)).bind(now_us).execute(conn).await.map(drop))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_that_follow_one_another_end_at_the_last_survivor() {
        assert_eq!(final_merges(&[(1, 2), (3, 2), (2, 4)]), [(1, 4), (3, 4), (2, 4)]);
    }
}
