//! Loading: a tenant's lock and counters, answers, identifiers, persons.

use segue_model::TenantId;
use segue_store::{Tx, on_tx};

use super::{counter, json, number, trait_value};
use crate::answer::Answer;
use crate::error::IdentityError;
use crate::identifier::{Id, Kind};
use crate::registry::{Counters, Link, PROFILE_TRAITS, Person, PersonState, Registry, TraitValue, profile_index};

const ADD_TENANT: &str = "INSERT INTO tenants (tenant, salt, version, persons, devices, links, merged, ordinals)
    VALUES ($1, $2, 0, 0, 0, 0, 0, 0) ON CONFLICT (tenant) DO NOTHING";
// SQLite's transaction holds the lock of the whole file already.
const LOCK_TENANT_SQLITE: &str = "SELECT version, persons, devices, links, merged, ordinals, salt FROM tenants WHERE tenant = $1";
const LOCK_TENANT_POSTGRES: &str =
    "SELECT version, persons, devices, links, merged, ordinals, salt FROM tenants WHERE tenant = $1 FOR UPDATE";

const FIND_ANSWER_SEQUENCE: &str = "SELECT sequence FROM answers WHERE tenant = $1 AND source = $2";
const FIND_ANSWER: &str = "SELECT body FROM answers WHERE tenant = $1 AND source = $2";

// CROSS JOIN keeps SQLite from walking the table and looking into the list.
const FIND_IDENTIFIERS_SQLITE: &str = "SELECT k.key, i.person, i.device, i.noted, i.linked_at_us
    FROM json_each($2) k CROSS JOIN identifiers i
    WHERE i.tenant = $1 AND i.kind = k.value ->> 0 AND i.value = k.value ->> 1";
const FIND_IDENTIFIERS_POSTGRES: &str = "SELECT k.n - 1, i.person, i.device, i.noted, i.linked_at_us
    FROM json_array_elements($2::json) WITH ORDINALITY k(value, n)
    JOIN identifiers i ON i.tenant = $1 AND i.kind = k.value ->> 0 AND i.value = k.value ->> 1";

const FIND_PERSONS_SQLITE: &str = "SELECT p.number, p.root, p.first_seen_us, p.last_seen_us
    FROM json_each($2) k CROSS JOIN persons p WHERE p.tenant = $1 AND p.number = k.value";
const FIND_PERSONS_POSTGRES: &str = "SELECT p.number, p.root, p.first_seen_us, p.last_seen_us
    FROM json_array_elements_text($2::json) k(value) JOIN persons p ON p.tenant = $1 AND p.number = k.value::bigint";

const COUNT_IDENTIFIERS_SQLITE: &str = "SELECT m.root, i.kind, count(*)
    FROM (SELECT value AS root, value AS number FROM json_each($2)
          UNION ALL
          SELECT p.root, p.number FROM json_each($2) k CROSS JOIN persons p INDEXED BY persons_merged
          WHERE p.tenant = $1 AND p.root = k.value AND p.root <> p.number) m
    CROSS JOIN identifiers i INDEXED BY identifiers_of_person WHERE i.tenant = $1 AND i.person = m.number AND i.person <> 0
    GROUP BY m.root, i.kind";
const COUNT_IDENTIFIERS_POSTGRES: &str = "SELECT m.root, i.kind, count(*)
    FROM (SELECT value::bigint AS root, value::bigint AS number FROM json_array_elements_text($2::json) k(value)
          UNION ALL
          SELECT p.root, p.number FROM json_array_elements_text($2::json) k(value)
          JOIN persons p ON p.tenant = $1 AND p.root = k.value::bigint AND p.root <> p.number) m
    JOIN identifiers i ON i.tenant = $1 AND i.person = m.number AND i.person <> 0
    GROUP BY m.root, i.kind";

const FIND_PROFILES_SQLITE: &str = "SELECT m.root, t.name, t.value, t.time_us, t.ordinal
    FROM (SELECT value AS root, value AS number FROM json_each($2)
          UNION ALL
          SELECT p.root, p.number FROM json_each($2) k CROSS JOIN persons p INDEXED BY persons_merged
          WHERE p.tenant = $1 AND p.root = k.value AND p.root <> p.number) m
    CROSS JOIN traits t WHERE t.tenant = $1 AND t.person = m.number AND t.name IN (SELECT value FROM json_each($3))";
const FIND_PROFILES_POSTGRES: &str = "SELECT m.root, t.name, t.value, t.time_us, t.ordinal
    FROM (SELECT value::bigint AS root, value::bigint AS number FROM json_array_elements_text($2::json) k(value)
          UNION ALL
          SELECT p.root, p.number FROM json_array_elements_text($2::json) k(value)
          JOIN persons p ON p.tenant = $1 AND p.root = k.value::bigint AND p.root <> p.number) m
    JOIN traits t ON t.tenant = $1 AND t.person = m.number AND t.name = ANY (SELECT json_array_elements_text($3::json))";

const FIND_MERGE_REQUEST: &str = "SELECT from_person, into_person FROM merge_requests WHERE tenant = $1 AND request_id = $2";

/// Locks a tenant against other processes until the transaction ends, and returns its counters and salt. A tenant
/// that is new begins with the salt given.
pub(crate) async fn lock_tenant(tx: &mut Tx, tenant: &TenantId, salt: &[u8]) -> Result<(Counters, Vec<u8>), IdentityError> {
    type Row = (i64, i64, i64, i64, i64, i64, Vec<u8>);
    let sql = tx.sql(LOCK_TENANT_SQLITE, LOCK_TENANT_POSTGRES);
    let mut row: Option<Row> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).fetch_optional(conn).await)?;
    if row.is_none() {
        on_tx!(tx, conn => sqlx::query(ADD_TENANT).bind(tenant.as_str()).bind(salt).execute(conn).await.map(drop))?;
        row = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).fetch_optional(conn).await)?;
    }
    let Some((version, persons, devices, links, merged, ordinals, salt)) = row else {
        return Err(IdentityError::Corrupt { what: "tenant" });
    };
    let counters = Counters {
        version: counter(version)?,
        persons: number(persons)?,
        devices: number(devices)?,
        links: counter(links)?,
        merged: number(merged)?,
        ordinals: counter(ordinals)?,
    };
    Ok((counters, salt))
}

/// The last sequence that was answered to a source.
pub(crate) async fn last_sequence(tx: &mut Tx, tenant: &TenantId, source: &str) -> Result<Option<u64>, IdentityError> {
    let sequence: Option<i64> =
        on_tx!(tx, conn => sqlx::query_scalar(FIND_ANSWER_SEQUENCE).bind(tenant.as_str()).bind(source).fetch_optional(conn).await)?;
    sequence.map(counter).transpose()
}

/// The last answer to a source.
pub(crate) async fn last_answer(tx: &mut Tx, tenant: &TenantId, source: &str) -> Result<Answer, IdentityError> {
    let body: Vec<u8> = on_tx!(tx, conn => sqlx::query_scalar(FIND_ANSWER).bind(tenant.as_str()).bind(source).fetch_one(conn).await)?;
    Answer::decode(&body)
}

/// The merge that a request id stands for.
pub(crate) async fn merge_request(tx: &mut Tx, tenant: &TenantId, request_id: &str) -> Result<Option<(u32, u32)>, IdentityError> {
    let row: Option<(i64, i64)> =
        on_tx!(tx, conn => sqlx::query_as(FIND_MERGE_REQUEST).bind(tenant.as_str()).bind(request_id).fetch_optional(conn).await)?;
    row.map(|(from, into)| Ok((number(from)?, number(into)?))).transpose()
}

/// Loads the identifiers of `ids` and everybody whom they name. Those that the store does not know are remembered as such.
pub(crate) async fn load_identifiers(tx: &mut Tx, tenant: &TenantId, registry: &mut Registry, ids: &[&Id]) -> Result<(), IdentityError> {
    let missing: Vec<&Id> = ids.iter().copied().filter(|id| registry.linked(id.key).is_none()).collect();
    if !missing.is_empty() {
        let keys: Vec<(&str, &str)> = missing.iter().map(|id| (id.kind.name(), id.value.as_str())).collect();
        let keys = json(&keys)?;
        let sql = tx.sql(FIND_IDENTIFIERS_SQLITE, FIND_IDENTIFIERS_POSTGRES);
        let rows: Vec<(i64, i64, i64, i64, i64)> =
            on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&keys).fetch_all(conn).await)?;
        for id in &missing {
            registry.insert_identifier(id.key, Link::default());
        }
        for (index, person, device, noted, linked_at_us) in rows {
            let id = usize::try_from(index).ok().and_then(|index| missing.get(index)).ok_or(IdentityError::Corrupt { what: "index" })?;
            let link = Link { person: number(person)?, device: number(device)?, noted: number(noted)?, linked_at_us };
            registry.insert_identifier(id.key, link);
        }
    }
    let numbers: Vec<u32> = ids.iter().filter_map(|id| registry.linked(id.key)).filter(|number| *number != 0).collect();
    load_persons(tx, tenant, registry, &numbers).await
}

/// Loads persons, and those into whom they were merged. Numbers that were never given out stay missing.
pub(crate) async fn load_persons(tx: &mut Tx, tenant: &TenantId, registry: &mut Registry, numbers: &[u32]) -> Result<(), IdentityError> {
    // The second round loads the survivors that redirects of the first lead to.
    for _ in 0..3 {
        let mut missing: Vec<u32> = numbers.iter().filter_map(|number| registry.missing_for(*number)).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            break;
        }
        let sql = tx.sql(FIND_PERSONS_SQLITE, FIND_PERSONS_POSTGRES);
        let list = json(&missing)?;
        let rows: Vec<(i64, i64, i64, i64)> =
            on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&list).fetch_all(conn).await)?;
        let mut survivors = Vec::new();
        for (person, root, first_seen_us, last_seen_us) in rows {
            if person == root {
                survivors.push((number(person)?, PersonState { first_seen_us, last_seen_us, ..PersonState::default() }));
            } else {
                registry.insert_person(number(person)?, Person::Merged(number(root)?));
            }
        }
        load_states(tx, tenant, registry, survivors).await?;
    }
    Ok(())
}

async fn load_states(
    tx: &mut Tx,
    tenant: &TenantId,
    registry: &mut Registry,
    survivors: Vec<(u32, PersonState)>,
) -> Result<(), IdentityError> {
    if survivors.is_empty() {
        return Ok(());
    }
    let list = json(&survivors.iter().map(|(number, _)| *number).collect::<Vec<_>>())?;
    let names = json(&PROFILE_TRAITS)?;
    for (number, state) in survivors {
        registry.insert_person(number, Person::Survivor(state));
    }
    let sql = tx.sql(COUNT_IDENTIFIERS_SQLITE, COUNT_IDENTIFIERS_POSTGRES);
    let counts: Vec<(i64, String, i64)> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&list).fetch_all(conn).await)?;
    for (root, kind, count) in counts {
        registry.person(number(root)?)?.add(&Kind::of(&kind), number(count)?);
    }
    let sql = tx.sql(FIND_PROFILES_SQLITE, FIND_PROFILES_POSTGRES);
    let profiles: Vec<(i64, String, Vec<u8>, i64, i64)> =
        on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&list).bind(&names).fetch_all(conn).await)?;
    for (root, name, value, time_us, ordinal) in profiles {
        if let Some(index) = profile_index(&name) {
            let value = TraitValue { value: trait_value(&value)?, time_us, ordinal: counter(ordinal)? };
            registry.person(number(root)?)?.set_profile(index, value);
        }
    }
    Ok(())
}
