//! Accounts: what GROUP events said about them, and who acted for them.
//!
//! A membership stays under the number that it was noted for, as identifiers and traits do; a merge moves nothing.

use std::collections::{BTreeMap, HashMap};

use segue_model::TenantId;
use segue_proto::identity::v1::{Account, Trait};
use segue_store::{Db, Tx, on_tx};

use super::write::{run, trait_rows};
use super::{counter, json, limits, timestamp, trait_value};
use crate::effects::{Membership, TraitChanges};
use crate::error::IdentityError;

const PUT_ACCOUNTS_SQLITE: &str = "INSERT INTO accounts (tenant, account, first_seen_us, last_seen_us)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, account) DO UPDATE SET first_seen_us = min(accounts.first_seen_us, excluded.first_seen_us),
        last_seen_us = max(accounts.last_seen_us, excluded.last_seen_us)
    WHERE excluded.first_seen_us < accounts.first_seen_us OR excluded.last_seen_us > accounts.last_seen_us";
const PUT_ACCOUNTS_POSTGRES: &str = "INSERT INTO accounts (tenant, account, first_seen_us, last_seen_us)
    SELECT $1, value ->> 0, (value ->> 1)::bigint, (value ->> 2)::bigint FROM json_array_elements($2::json)
    ON CONFLICT (tenant, account) DO UPDATE SET first_seen_us = least(accounts.first_seen_us, excluded.first_seen_us),
        last_seen_us = greatest(accounts.last_seen_us, excluded.last_seen_us)
    WHERE excluded.first_seen_us < accounts.first_seen_us OR excluded.last_seen_us > accounts.last_seen_us";

const PUT_TRAITS_SQLITE: &str = "INSERT INTO account_traits (tenant, account, name, value, time_us, ordinal)
    SELECT $1, value ->> 0, value ->> 1, unhex(value ->> 2), value ->> 3, value ->> 4 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, account, name) DO UPDATE SET value = excluded.value, time_us = excluded.time_us, ordinal = excluded.ordinal
    WHERE excluded.time_us >= account_traits.time_us";
const PUT_TRAITS_POSTGRES: &str = "INSERT INTO account_traits (tenant, account, name, value, time_us, ordinal)
    SELECT $1, value ->> 0, value ->> 1, decode(value ->> 2, 'hex'), (value ->> 3)::bigint, (value ->> 4)::bigint
    FROM json_array_elements($2::json)
    ON CONFLICT (tenant, account, name) DO UPDATE SET value = excluded.value, time_us = excluded.time_us, ordinal = excluded.ordinal
    WHERE excluded.time_us >= account_traits.time_us";

const PUT_MEMBERSHIPS_SQLITE: &str = "INSERT INTO memberships (tenant, person, account, first_seen_us, last_seen_us)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, person, account) DO UPDATE SET first_seen_us = min(memberships.first_seen_us, excluded.first_seen_us),
        last_seen_us = max(memberships.last_seen_us, excluded.last_seen_us)
    WHERE excluded.first_seen_us < memberships.first_seen_us OR excluded.last_seen_us > memberships.last_seen_us";
const PUT_MEMBERSHIPS_POSTGRES: &str = "INSERT INTO memberships (tenant, person, account, first_seen_us, last_seen_us)
    SELECT $1, (value ->> 0)::bigint, value ->> 1, (value ->> 2)::bigint, (value ->> 3)::bigint FROM json_array_elements($2::json)
    ON CONFLICT (tenant, person, account) DO UPDATE SET first_seen_us = least(memberships.first_seen_us, excluded.first_seen_us),
        last_seen_us = greatest(memberships.last_seen_us, excluded.last_seen_us)
    WHERE excluded.first_seen_us < memberships.first_seen_us OR excluded.last_seen_us > memberships.last_seen_us";

const FIND: &str = "SELECT first_seen_us, last_seen_us FROM accounts WHERE tenant = $1 AND account = $2";
const LIST_TRAITS: &str = "SELECT name, value, time_us FROM account_traits WHERE tenant = $1 AND account = $2";
// SQLite has no statistics here, and would walk the persons of the tenant.
const COUNT_PERSONS_SQLITE: &str = "SELECT count(DISTINCT p.root)
    FROM memberships m INDEXED BY memberships_of_account CROSS JOIN persons p
    WHERE m.tenant = $1 AND m.account = $2 AND p.tenant = $1 AND p.number = m.person";
const COUNT_PERSONS_POSTGRES: &str = "SELECT count(DISTINCT p.root)
    FROM memberships m JOIN persons p ON p.tenant = $1 AND p.number = m.person
    WHERE m.tenant = $1 AND m.account = $2";

const LIST_OF_MEMBERS_SQLITE: &str = "SELECT m.person, m.account
    FROM json_each($2) k CROSS JOIN memberships m WHERE m.tenant = $1 AND m.person = k.value
    ORDER BY m.last_seen_us DESC, m.account";
const LIST_OF_MEMBERS_POSTGRES: &str = "SELECT m.person, m.account
    FROM json_array_elements_text($2::json) k(value) JOIN memberships m ON m.tenant = $1 AND m.person = k.value::bigint
    ORDER BY m.last_seen_us DESC, m.account COLLATE \"C\"";

/// Writes what changed of accounts: when they were seen, their traits and their members.
pub(super) async fn write(
    tx: &mut Tx,
    tenant: &TenantId,
    accounts: &BTreeMap<String, (i64, i64)>,
    mut traits: TraitChanges<String>,
    mut memberships: HashMap<(u32, String), Membership>,
) -> Result<(), IdentityError> {
    let rows: Vec<(&str, i64, i64)> = accounts.iter().map(|(account, (first, last))| (account.as_str(), *first, *last)).collect();
    run(tx, tenant, PUT_ACCOUNTS_SQLITE, PUT_ACCOUNTS_POSTGRES, &json(&rows)?).await?;
    limits::of_account_traits(tx, tenant, &mut traits).await?;
    if !traits.is_empty() {
        run(tx, tenant, PUT_TRAITS_SQLITE, PUT_TRAITS_POSTGRES, &trait_rows(&traits)?).await?;
    }
    limits::of_memberships(tx, tenant, &mut memberships).await?;
    if !memberships.is_empty() {
        let mut rows: Vec<(u32, &str, i64, i64)> = memberships
            .iter()
            .map(|((person, account), seen)| (*person, account.as_str(), seen.first_seen_us, seen.last_seen_us))
            .collect();
        rows.sort_unstable();
        run(tx, tenant, PUT_MEMBERSHIPS_SQLITE, PUT_MEMBERSHIPS_POSTGRES, &json(&rows)?).await?;
    }
    Ok(())
}

/// An account with its traits by name, and how many persons belong to it.
pub(crate) async fn find(db: &Db, tenant: &TenantId, account: String) -> Result<Option<Account>, IdentityError> {
    let mut tx = db.read().await?;
    let seen: Option<(i64, i64)> =
        on_tx!(tx, conn => sqlx::query_as(FIND).bind(tenant.as_str()).bind(&account).fetch_optional(conn).await)?;
    let Some((first_seen_us, last_seen_us)) = seen else { return Ok(None) };
    let rows: Vec<(String, Vec<u8>, i64)> =
        on_tx!(tx, conn => sqlx::query_as(LIST_TRAITS).bind(tenant.as_str()).bind(&account).fetch_all(conn).await)?;
    let mut traits = Vec::with_capacity(rows.len());
    for (name, value, time_us) in rows {
        traits.push(Trait { name, value: Some(trait_value(&value)?), set_at: Some(timestamp(time_us)) });
    }
    // Here rather than by the database, whose order of texts depends on its locale.
    traits.sort_by(|a, b| a.name.cmp(&b.name));
    let sql = tx.sql(COUNT_PERSONS_SQLITE, COUNT_PERSONS_POSTGRES);
    let persons: i64 = on_tx!(tx, conn => sqlx::query_scalar(sql).bind(tenant.as_str()).bind(&account).fetch_one(conn).await)?;
    Ok(Some(Account {
        account_id: account,
        traits,
        persons: counter(persons)?,
        first_seen_at: Some(timestamp(first_seen_us)),
        last_seen_at: Some(timestamp(last_seen_us)),
    }))
}

/// The accounts of person numbers, those seen last first. `members` is a JSON list of numbers.
pub(super) async fn of_members(tx: &mut Tx, tenant: &TenantId, members: &str) -> Result<Vec<(i64, String)>, IdentityError> {
    let sql = tx.sql(LIST_OF_MEMBERS_SQLITE, LIST_OF_MEMBERS_POSTGRES);
    Ok(on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(members).fetch_all(conn).await)?)
}
