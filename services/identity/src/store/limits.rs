//! How much may belong to one person or account. What is new and beyond the limit is left out before it is written: what is
//! known already may change at any time, and of new names those that came first stay.
//!
//! It is counted per number that was given out, so what is kept does not depend on how events were put into transactions;
//! a person into whom others were merged has what each of them had.
//!
//! The usual case costs one statement, which counts; names are read only of those that might go beyond.
//!
//! To limit one more table: a [`Limit`] of it, and a function that applies it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use segue_model::TenantId;
use segue_store::{Tx, on_tx};
use serde::Serialize;

use super::json;
use crate::effects::{Membership, TraitChanges};
use crate::error::IdentityError;
use crate::registry::profile_index;

/// Distinct traits of a person, those of [`PROFILE_TRAITS`](crate::registry::PROFILE_TRAITS) not counted.
const PERSON_TRAITS_MAX: usize = 200;
/// Distinct traits of an account.
const ACCOUNT_TRAITS_MAX: usize = 200;
/// Accounts of a person.
const ACCOUNTS_MAX: usize = 100;

/// A limit of rows of a table per owner.
struct Limit {
    /// Of a list of `[owner, rows more]`, the places of owners that would have more than `$3` rows if all were new.
    over_sqlite: &'static str,
    over_postgres: &'static str,
    /// Of a list of owners, place and name of each row.
    names_sqlite: &'static str,
    names_postgres: &'static str,
    /// Rows per owner.
    max: usize,
    /// Names that are not counted and always kept.
    exempt: fn(&str) -> bool,
}

/// The statements of a limit on `$table`, whose rows belong to `$owner` (`$cast` in PostgreSQL) and are called `$name`.
macro_rules! limit {
    ($table:literal, $owner:literal, $cast:literal, $name:literal, $max:expr, $exempt:expr) => {
        Limit {
            over_sqlite: concat!(
                "SELECT k.key FROM json_each($2) k WHERE (k.value ->> 1) + (SELECT count(*) FROM ",
                $table,
                " t WHERE t.tenant = $1 AND t.",
                $owner,
                " = k.value ->> 0) > $3"
            ),
            over_postgres: concat!(
                "SELECT k.n - 1 FROM json_array_elements($2::json) WITH ORDINALITY k(value, n)
                WHERE (k.value ->> 1)::bigint + (SELECT count(*) FROM ",
                $table,
                " t WHERE t.tenant = $1 AND t.",
                $owner,
                " = (k.value ->> 0)::",
                $cast,
                ") > $3"
            ),
            names_sqlite: concat!(
                "SELECT k.key, t.",
                $name,
                " FROM json_each($2) k CROSS JOIN ",
                $table,
                " t WHERE t.tenant = $1 AND t.",
                $owner,
                " = k.value"
            ),
            names_postgres: concat!(
                "SELECT k.n - 1, t.",
                $name,
                " FROM json_array_elements_text($2::json) WITH ORDINALITY k(value, n) JOIN ",
                $table,
                " t ON t.tenant = $1 AND t.",
                $owner,
                " = k.value::",
                $cast
            ),
            max: $max,
            exempt: $exempt,
        }
    };
}

// The cache holds the traits for reports of its persons: a limit that left them out would have to be known there too.
const PERSON_TRAITS: Limit = limit!("traits", "person", "bigint", "name", PERSON_TRAITS_MAX, |name| profile_index(name).is_some());
const ACCOUNT_TRAITS: Limit = limit!("account_traits", "account", "text", "name", ACCOUNT_TRAITS_MAX, |_| false);
const MEMBERSHIPS: Limit = limit!("memberships", "person", "bigint", "account", ACCOUNTS_MAX, |_| false);

/// Leaves out traits that a person has no room for.
pub(super) async fn of_person_traits(tx: &mut Tx, tenant: &TenantId, changes: &mut TraitChanges<u32>) -> Result<(), IdentityError> {
    keep_within(tx, tenant, &PERSON_TRAITS, changes, |change| change.first_ordinal).await
}

/// Leaves out traits that an account has no room for.
pub(super) async fn of_account_traits(tx: &mut Tx, tenant: &TenantId, changes: &mut TraitChanges<String>) -> Result<(), IdentityError> {
    keep_within(tx, tenant, &ACCOUNT_TRAITS, changes, |change| change.first_ordinal).await
}

/// Leaves out accounts that a person has no room for.
pub(super) async fn of_memberships(
    tx: &mut Tx,
    tenant: &TenantId,
    changes: &mut HashMap<(u32, String), Membership>,
) -> Result<(), IdentityError> {
    keep_within(tx, tenant, &MEMBERSHIPS, changes, |membership| membership.order).await
}

async fn keep_within<K: Hash + Ord + Clone + Serialize, V>(
    tx: &mut Tx,
    tenant: &TenantId,
    limit: &Limit,
    changes: &mut HashMap<(K, String), V>,
    order: fn(&V) -> u64,
) -> Result<(), IdentityError> {
    let owners = owners_over(tx, tenant, limit, changes).await?;
    if owners.is_empty() {
        return Ok(());
    }
    let mut known = known_names(tx, tenant, limit, &owners).await?;
    let mut fresh: Vec<(u64, K, String)> = changes
        .iter()
        .filter(|((owner, name), _)| !(limit.exempt)(name) && known.get(owner).is_some_and(|names| !names.contains(name)))
        .map(|((owner, name), change)| (order(change), owner.clone(), name.clone()))
        .collect();
    fresh.sort_unstable();
    let mut left_out = 0u64;
    for (_, owner, name) in fresh {
        let Some(names) = known.get_mut(&owner) else { continue };
        if names.len() < limit.max {
            names.insert(name);
        } else {
            changes.remove(&(owner, name));
            left_out += 1;
        }
    }
    if left_out > 0 {
        tracing::info!(tenant = tenant.as_str(), left_out, max = limit.max, "traits or accounts beyond the limit were ignored");
    }
    Ok(())
}

/// Owners who might have more than allowed with these changes.
async fn owners_over<K: Hash + Ord + Clone + Serialize, V>(
    tx: &mut Tx,
    tenant: &TenantId,
    limit: &Limit,
    changes: &HashMap<(K, String), V>,
) -> Result<Vec<K>, IdentityError> {
    let mut more: BTreeMap<&K, u64> = BTreeMap::new();
    for (owner, name) in changes.keys() {
        if !(limit.exempt)(name) {
            *more.entry(owner).or_default() += 1;
        }
    }
    if more.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(&K, u64)> = more.into_iter().collect();
    let (sql, list, max) = (tx.sql(limit.over_sqlite, limit.over_postgres), json(&rows)?, limit.max as i64);
    let over: Vec<i64> = on_tx!(tx, conn => sqlx::query_scalar(sql).bind(tenant.as_str()).bind(&list).bind(max).fetch_all(conn).await)?;
    over.into_iter().map(|place| at(&rows, place).map(|(owner, _)| (*owner).clone())).collect()
}

/// The names that count of each owner.
async fn known_names<K: Hash + Ord + Clone + Serialize>(
    tx: &mut Tx,
    tenant: &TenantId,
    limit: &Limit,
    owners: &[K],
) -> Result<HashMap<K, HashSet<String>>, IdentityError> {
    let (sql, list) = (tx.sql(limit.names_sqlite, limit.names_postgres), json(owners)?);
    let rows: Vec<(i64, String)> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&list).fetch_all(conn).await)?;
    let mut known: HashMap<K, HashSet<String>> = owners.iter().map(|owner| (owner.clone(), HashSet::new())).collect();
    for (place, name) in rows {
        if !(limit.exempt)(&name) {
            known.entry(at(owners, place)?.clone()).or_default().insert(name);
        }
    }
    Ok(known)
}

fn at<T>(list: &[T], place: i64) -> Result<&T, IdentityError> {
    usize::try_from(place).ok().and_then(|place| list.get(place)).ok_or(IdentityError::Corrupt { what: "index" })
}
