//! Questions about many persons at once. Each reads one state of the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::TryStreamExt;
use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_model::identifier::PERSON_ID;
use segue_proto::events::v1::Identifier;
use segue_store::{Db, Tx, on_tx};

use super::{counter, json, number, read};
use crate::error::IdentityError;

/// Up to so many persons are always looked up one by one.
const LISTED: u64 = 1_000;
/// More are when they are few of all, up to so many; else what there is of a kind is read from one end to the other, which costs about a
/// tenth per person.
const LISTED_MAX: u64 = 200_000;
const READ_PER_LISTED: u64 = 10;

// CROSS JOIN keeps SQLite, which has no statistics here, from walking the tables and looking into the list.
const ROOTS_SQLITE: &str = "SELECT p.number, p.root FROM json_each($2) k CROSS JOIN persons p WHERE p.tenant = $1 AND p.number = k.value";
const ROOTS_POSTGRES: &str = "SELECT p.number, p.root FROM json_array_elements_text($2::json) k(value)
    JOIN persons p ON p.tenant = $1 AND p.number = k.value::bigint";

const MERGED_INTO_SQLITE: &str = "SELECT p.number, p.root FROM json_each($2) k CROSS JOIN persons p INDEXED BY persons_merged
    WHERE p.tenant = $1 AND p.root = k.value AND p.root <> p.number";
const MERGED_INTO_POSTGRES: &str = "SELECT p.number, p.root FROM json_array_elements_text($2::json) k(value)
    JOIN persons p ON p.tenant = $1 AND p.root = k.value::bigint AND p.root <> p.number";

const NAMED_SQLITE: &str = "SELECT k.value ->> 2, p.root FROM json_each($2) k CROSS JOIN identifiers i CROSS JOIN persons p
    WHERE i.tenant = $1 AND i.kind = k.value ->> 0 AND i.value = k.value ->> 1 AND p.tenant = $1 AND p.number = i.person";
const NAMED_POSTGRES: &str = "SELECT (k.value ->> 2)::bigint, p.root FROM json_array_elements($2::json) k(value)
    JOIN identifiers i ON i.tenant = $1 AND i.kind = k.value ->> 0 AND i.value = k.value ->> 1
    JOIN persons p ON p.tenant = $1 AND p.number = i.person";

const HAVING_SQLITE: &str =
    "SELECT DISTINCT i.kind, i.person FROM json_each($2) k CROSS JOIN identifiers i INDEXED BY identifiers_of_person
    WHERE i.tenant = $1 AND i.person = k.value AND i.person <> 0 AND i.kind IN (SELECT value FROM json_each($3))";
const HAVING_POSTGRES: &str = "SELECT DISTINCT i.kind, i.person FROM json_array_elements_text($2::json) k(value)
    JOIN identifiers i ON i.tenant = $1 AND i.person = k.value::bigint AND i.person <> 0
    WHERE i.kind = ANY (SELECT json_array_elements_text($3::json))";

const COUNT_PERSONS: &str = "SELECT persons FROM tenants WHERE tenant = $1";
const ALL_OF_KIND: &str = "SELECT person FROM identifiers WHERE tenant = $1 AND kind = $2 AND person <> 0";
const ALL_MERGED_SQLITE: &str = "SELECT number, root FROM persons INDEXED BY persons_merged WHERE tenant = $1 AND root <> number";
const ALL_MERGED_POSTGRES: &str = "SELECT number, root FROM persons WHERE tenant = $1 AND root <> number";

/// The survivor of each number that was given out.
pub(crate) async fn roots(tx: &mut Tx, tenant: &TenantId, numbers: &[u32]) -> Result<BTreeMap<u32, u32>, IdentityError> {
    let sql = tx.sql(ROOTS_SQLITE, ROOTS_POSTGRES);
    pairs(tx, sql, tenant, numbers).await
}

/// Runs a statement that answers a list of numbers with pairs of numbers.
async fn pairs(tx: &mut Tx, sql: &'static str, tenant: &TenantId, numbers: &[u32]) -> Result<BTreeMap<u32, u32>, IdentityError> {
    let list = json(numbers)?;
    let rows: Vec<(i64, i64)> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&list).fetch_all(conn).await)?;
    rows.into_iter().map(|(first, second)| Ok((number(first)?, number(second)?))).collect()
}

/// The survivors of these numbers, and every number that was merged into one of them, with its survivor.
pub(crate) async fn survivors(
    db: &Db,
    tenant: &TenantId,
    numbers: &RoaringBitmap,
) -> Result<(RoaringBitmap, BTreeMap<u32, u32>), IdentityError> {
    let mut tx = db.read().await?;
    survivors_within(&mut tx, tenant, numbers).await
}

async fn survivors_within(
    tx: &mut Tx,
    tenant: &TenantId,
    numbers: &RoaringBitmap,
) -> Result<(RoaringBitmap, BTreeMap<u32, u32>), IdentityError> {
    let survivors: BTreeSet<u32> = roots(tx, tenant, &numbers.iter().collect::<Vec<_>>()).await?.into_values().collect();
    let survivors: Vec<u32> = survivors.into_iter().collect();
    let sql = tx.sql(MERGED_INTO_SQLITE, MERGED_INTO_POSTGRES);
    let merged = pairs(tx, sql, tenant, &survivors).await?;
    Ok((survivors.into_iter().collect(), merged))
}

/// Whom each identifier names; 0: nobody.
pub(crate) async fn persons_of_identifiers(db: &Db, tenant: &TenantId, identifiers: &[Identifier]) -> Result<Vec<u32>, IdentityError> {
    // PostgreSQL cannot read the NUL character, which no stored identifier has.
    let stored = |id: &Identifier| id.kind != PERSON_ID && !id.kind.contains('\0') && !id.value.contains('\0');
    let readable = identifiers.iter().enumerate().filter(|(_, id)| stored(id));
    let list: Vec<(&str, &str, usize)> = readable.map(|(at, id)| (id.kind.as_str(), id.value.as_str(), at)).collect();
    let mut tx = db.read().await?;
    let sql = tx.sql(NAMED_SQLITE, NAMED_POSTGRES);
    let list = json(&list)?;
    let rows: Vec<(i64, i64)> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&list).fetch_all(conn).await)?;
    let mut persons = vec![0; identifiers.len()];
    for (at, person) in rows {
        let slot = usize::try_from(at).ok().and_then(|at| persons.get_mut(at)).ok_or(IdentityError::Corrupt { what: "index" })?;
        *slot = number(person)?;
    }
    let by_id: Vec<(usize, &str)> =
        identifiers.iter().enumerate().filter(|(_, id)| id.kind == PERSON_ID).map(|(at, id)| (at, id.value.as_str())).collect();
    if !by_id.is_empty() {
        let ids: Vec<&str> = by_id.iter().map(|(_, id)| *id).collect();
        let numbers = read::numbers_of_ids(&mut tx, tenant, &ids).await?;
        let roots = roots(&mut tx, tenant, &numbers.iter().flatten().copied().collect::<Vec<_>>()).await?;
        for ((at, _), number) in by_id.into_iter().zip(numbers) {
            if let (Some(slot), Some(root)) = (persons.get_mut(at), number.and_then(|number| roots.get(&number))) {
                *slot = *root;
            }
        }
    }
    Ok(persons)
}

/// The survivors who have an identifier of each of the kinds; with `within`, of these only.
pub(crate) async fn identified(
    db: &Db,
    tenant: &TenantId,
    kinds: &[String],
    within: Option<RoaringBitmap>,
) -> Result<Vec<RoaringBitmap>, IdentityError> {
    let mut tx = db.read().await?;
    match within {
        Some(within) if are_few(&mut tx, tenant, within.len()).await? => identified_among(&mut tx, tenant, kinds, &within).await,
        within => identified_of_all(&mut tx, tenant, kinds, within).await,
    }
}

/// Whether looking up so many persons is cheaper than reading all.
async fn are_few(tx: &mut Tx, tenant: &TenantId, persons: u64) -> Result<bool, IdentityError> {
    if persons <= LISTED || persons > LISTED_MAX {
        return Ok(persons <= LISTED);
    }
    let all: Option<i64> = on_tx!(tx, conn => sqlx::query_scalar(COUNT_PERSONS).bind(tenant.as_str()).fetch_optional(conn).await)?;
    Ok(persons.saturating_mul(READ_PER_LISTED) <= counter(all.unwrap_or_default())?)
}

/// Looks persons up one by one.
async fn identified_among(
    tx: &mut Tx,
    tenant: &TenantId,
    kinds: &[String],
    within: &RoaringBitmap,
) -> Result<Vec<RoaringBitmap>, IdentityError> {
    let (survivors, merged) = survivors_within(tx, tenant, within).await?;
    let members: Vec<u32> = survivors.iter().chain(merged.keys().copied()).collect();
    let sql = tx.sql(HAVING_SQLITE, HAVING_POSTGRES);
    let (members, wanted) = (json(&members)?, json(kinds)?);
    let rows: Vec<(String, i64)> =
        on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&members).bind(&wanted).fetch_all(conn).await)?;
    let mut found: HashMap<String, RoaringBitmap> = HashMap::new();
    for (kind, member) in rows {
        let member = number(member)?;
        found.entry(kind).or_default().insert(merged.get(&member).copied().unwrap_or(member));
    }
    Ok(kinds.iter().map(|kind| found.get(kind).cloned().unwrap_or_default()).collect())
}

/// Reads all identifiers of the kinds, and all merges.
async fn identified_of_all(
    tx: &mut Tx,
    tenant: &TenantId,
    kinds: &[String],
    within: Option<RoaringBitmap>,
) -> Result<Vec<RoaringBitmap>, IdentityError> {
    let mut sets: Vec<RoaringBitmap> = Vec::with_capacity(kinds.len() + 1);
    for kind in kinds {
        let mut persons = RoaringBitmap::new();
        let odd = on_tx!(tx, conn => {
            let mut rows = sqlx::query_scalar::<_, i64>(ALL_OF_KIND).bind(tenant.as_str()).bind(kind).fetch(conn);
            let mut odd = false;
            while let Some(person) = rows.try_next().await? {
                odd |= u32::try_from(person).map(|person| persons.insert(person)).is_err();
            }
            Ok::<bool, sqlx::Error>(odd)
        })?;
        if odd {
            return Err(IdentityError::Corrupt { what: "number" });
        }
        sets.push(persons);
    }
    let is_limited = within.is_some();
    sets.extend(within);
    redirect(tx, tenant, &mut sets).await?;
    if is_limited && let Some(within) = sets.pop() {
        sets.iter_mut().for_each(|persons| *persons &= &within);
    }
    Ok(sets)
}

/// Puts survivors in place of merged numbers.
async fn redirect(tx: &mut Tx, tenant: &TenantId, sets: &mut [RoaringBitmap]) -> Result<(), IdentityError> {
    let sql = tx.sql(ALL_MERGED_SQLITE, ALL_MERGED_POSTGRES);
    // No survivor is a merged number, so the order of the rows does not matter.
    let odd = on_tx!(tx, conn => {
        let mut rows = sqlx::query_as::<_, (i64, i64)>(sql).bind(tenant.as_str()).fetch(conn);
        let mut odd = false;
        while let Some((merged, root)) = rows.try_next().await? {
            let (Ok(merged), Ok(root)) = (u32::try_from(merged), u32::try_from(root)) else {
                odd = true;
                continue;
            };
            for set in sets.iter_mut() {
                if set.remove(merged) {
                    set.insert(root);
                }
            }
        }
        Ok::<bool, sqlx::Error>(odd)
    })?;
    if odd { Err(IdentityError::Corrupt { what: "number" }) } else { Ok(()) }
}
