//! Consents: what holds per number, channel and purpose, and what was said.
//!
//! A statement stays under the number that it was made of, as identifiers and traits do; a merge moves nothing.

use std::collections::{BTreeMap, BTreeSet};

use segue_model::TenantId;
use segue_proto::identity::v1::ConsentState;
use segue_store::{Db, Tx, on_tx};

use super::write::run;
use super::{json, number, read};
use crate::consent::{Consent, Ledger, TOPICS_MAX, topic};
use crate::error::IdentityError;

const FIND_SQLITE: &str = "SELECT c.person, c.channel, c.purpose, c.state, c.time_us, c.source, c.proof
    FROM json_each($2) k CROSS JOIN consents c
    WHERE c.tenant = $1 AND c.person = k.value ->> 0 AND c.channel = k.value ->> 1 AND c.purpose = k.value ->> 2";
const FIND_POSTGRES: &str = "SELECT c.person, c.channel, c.purpose, c.state, c.time_us, c.source, c.proof
    FROM json_array_elements($2::json) k(value)
    JOIN consents c ON c.tenant = $1 AND c.person = (k.value ->> 0)::bigint AND c.channel = k.value ->> 1 AND c.purpose = k.value ->> 2";

const COUNT_SQLITE: &str = "SELECT c.person, count(*) FROM json_each($2) k CROSS JOIN consents c
    WHERE c.tenant = $1 AND c.person = k.value GROUP BY c.person";
const COUNT_POSTGRES: &str = "SELECT c.person, count(*) FROM json_array_elements_text($2::json) k(value)
    JOIN consents c ON c.tenant = $1 AND c.person = k.value::bigint GROUP BY c.person";

const PUT_SQLITE: &str = "INSERT INTO consents (tenant, person, channel, purpose, state, time_us, digest, source, proof)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7
    FROM json_each($2) WHERE true
    ON CONFLICT (tenant, person, channel, purpose) DO UPDATE SET state = excluded.state, time_us = excluded.time_us,
        digest = excluded.digest, source = excluded.source, proof = excluded.proof";
const PUT_POSTGRES: &str = "INSERT INTO consents (tenant, person, channel, purpose, state, time_us, digest, source, proof)
    SELECT $1, (value ->> 0)::bigint, value ->> 1, value ->> 2, (value ->> 3)::bigint, (value ->> 4)::bigint, (value ->> 5)::bigint,
        value ->> 6, value ->> 7
    FROM json_array_elements($2::json)
    ON CONFLICT (tenant, person, channel, purpose) DO UPDATE SET state = excluded.state, time_us = excluded.time_us,
        digest = excluded.digest, source = excluded.source, proof = excluded.proof";

const LOG_SQLITE: &str = "INSERT INTO consent_log (tenant, person, channel, purpose, state, time_us, digest, source, proof)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7
    FROM json_each($2) WHERE true ON CONFLICT DO NOTHING";
const LOG_POSTGRES: &str = "INSERT INTO consent_log (tenant, person, channel, purpose, state, time_us, digest, source, proof)
    SELECT $1, (value ->> 0)::bigint, value ->> 1, value ->> 2, (value ->> 3)::bigint, (value ->> 4)::bigint, (value ->> 5)::bigint,
        value ->> 6, value ->> 7
    FROM json_array_elements($2::json) ON CONFLICT DO NOTHING";

const LIST_OF_MEMBERS_SQLITE: &str = "SELECT c.person, c.channel, c.purpose, c.state, c.time_us, c.source, c.proof
    FROM json_each($2) k CROSS JOIN consents c WHERE c.tenant = $1 AND c.person = k.value";
const LIST_OF_MEMBERS_POSTGRES: &str = "SELECT c.person, c.channel, c.purpose, c.state, c.time_us, c.source, c.proof
    FROM json_array_elements_text($2::json) k(value) JOIN consents c ON c.tenant = $1 AND c.person = k.value::bigint";

// What holds is in the log as well, unless it is a trait that said the same again.
const HISTORY_SQLITE: &str = "SELECT c.time_us, c.digest, c.person, c.channel, c.purpose, c.state, c.source, c.proof
    FROM json_each($2) k CROSS JOIN consent_log c
    WHERE c.tenant = $1 AND c.person = k.value AND (c.time_us, c.digest, c.person) < ($3, $4, $5)
    UNION
    SELECT c.time_us, c.digest, c.person, c.channel, c.purpose, c.state, c.source, c.proof
    FROM json_each($2) k CROSS JOIN consents c
    WHERE c.tenant = $1 AND c.person = k.value AND (c.time_us, c.digest, c.person) < ($3, $4, $5)
    ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT $6";
const HISTORY_POSTGRES: &str = "SELECT c.time_us, c.digest, c.person, c.channel, c.purpose, c.state, c.source, c.proof
    FROM json_array_elements_text($2::json) k(value) JOIN consent_log c ON c.tenant = $1 AND c.person = k.value::bigint
    WHERE (c.time_us, c.digest, c.person) < ($3, $4, $5)
    UNION
    SELECT c.time_us, c.digest, c.person, c.channel, c.purpose, c.state, c.source, c.proof
    FROM json_array_elements_text($2::json) k(value) JOIN consents c ON c.tenant = $1 AND c.person = k.value::bigint
    WHERE (c.time_us, c.digest, c.person) < ($3, $4, $5)
    ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT $6";

type Row = (i64, String, String, i64, i64, String, String);

/// Adds what was said, in order, under the lock of the tenant.
pub(super) async fn write(tx: &mut Tx, tenant: &TenantId, said: Vec<(u32, Consent)>) -> Result<(), IdentityError> {
    let topics: BTreeSet<_> = said.iter().map(|(person, consent)| topic(*person, consent)).collect();
    let (sql, list) = (tx.sql(FIND_SQLITE, FIND_POSTGRES), json(&topics)?);
    let rows: Vec<Row> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&list).fetch_all(conn).await)?;
    let mut ledger = Ledger::new(rows.into_iter().map(of_row).collect::<Result<Vec<_>, _>>()?);
    let new = said.iter().filter(|(person, consent)| consent.is_custom() && !ledger.knows(&topic(*person, consent)));
    let mut counts = counts(tx, tenant, &new.map(|(person, _)| *person).collect()).await?;
    let mut refused = 0_u64;
    for (person, consent) in said {
        if !ledger.knows(&topic(person, &consent)) {
            let count = counts.entry(person).or_default();
            if consent.is_custom() && *count >= TOPICS_MAX {
                refused += 1;
                continue;
            }
            *count += 1;
        }
        ledger.add(person, consent);
    }
    if refused > 0 {
        tracing::warn!(%tenant, refused, "consents about custom channels and purposes are not kept: a person has {TOPICS_MAX} at most");
    }
    let mut changed = ledger.changed().peekable();
    if changed.peek().is_some() {
        run(tx, tenant, PUT_SQLITE, PUT_POSTGRES, &rows_of(changed)?).await?;
    }
    if !ledger.kept().is_empty() {
        let kept = ledger.kept().iter().map(|(person, consent)| (*person, consent));
        run(tx, tenant, LOG_SQLITE, LOG_POSTGRES, &rows_of(kept)?).await?;
    }
    Ok(())
}

/// About how much something was said of each of these numbers.
async fn counts(tx: &mut Tx, tenant: &TenantId, persons: &BTreeSet<u32>) -> Result<BTreeMap<u32, usize>, IdentityError> {
    if persons.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (sql, list) = (tx.sql(COUNT_SQLITE, COUNT_POSTGRES), json(persons)?);
    let rows: Vec<(i64, i64)> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&list).fetch_all(conn).await)?;
    rows.into_iter().map(|(person, count)| Ok((number(person)?, usize::try_from(count).unwrap_or(usize::MAX)))).collect()
}

/// What holds of each of these numbers. `members` is a JSON list of them.
pub(super) async fn of_members(tx: &mut Tx, tenant: &TenantId, members: &str) -> Result<Vec<(u32, Consent)>, IdentityError> {
    let sql = tx.sql(LIST_OF_MEMBERS_SQLITE, LIST_OF_MEMBERS_POSTGRES);
    let rows: Vec<Row> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(members).fetch_all(conn).await)?;
    rows.into_iter().map(of_row).collect()
}

/// A place in a history, which goes from the newest to the oldest: time, digest, number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) i64, pub(crate) i64, pub(crate) i64);

impl Place {
    /// Before everything.
    pub(crate) const BEGIN: Place = Place(i64::MAX, i64::MAX, i64::MAX);
}

/// What was said of a person (and of whom was merged into them) after a place, newest first. `None`: there is no such person.
pub(crate) async fn history(
    db: &Db,
    tenant: &TenantId,
    person: u32,
    after: Place,
    rows_max: i64,
) -> Result<Option<Vec<(Place, Consent)>>, IdentityError> {
    type Row = (i64, i64, i64, String, String, i64, String, String);
    let mut tx = db.read().await?;
    let Some(members) = read::members_of(&mut tx, tenant, person).await? else { return Ok(None) };
    let (sql, members) = (tx.sql(HISTORY_SQLITE, HISTORY_POSTGRES), json(&members)?);
    let rows: Vec<Row> = on_tx!(tx, conn => sqlx::query_as(sql)
        .bind(tenant.as_str()).bind(&members).bind(after.0).bind(after.1).bind(after.2).bind(rows_max).fetch_all(conn).await)?;
    rows.into_iter()
        .map(|(time_us, digest, person, channel, purpose, state, source, proof)| {
            let (_, consent) = of_row((person, channel, purpose, state, time_us, source, proof))?;
            Ok((Place(time_us, digest, person), consent))
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

fn of_row((person, channel, purpose, state, time_us, source, proof): Row) -> Result<(u32, Consent), IdentityError> {
    let granted = match i32::try_from(state).map(ConsentState::try_from) {
        Ok(Ok(ConsentState::Granted)) => true,
        Ok(Ok(ConsentState::Refused)) => false,
        Ok(Ok(ConsentState::Unspecified) | Err(_)) | Err(_) => return Err(IdentityError::Corrupt { what: "consent" }),
    };
    Ok((number(person)?, Consent { channel, purpose, granted, time_us, source, proof }))
}

/// Rows of `[person, channel, purpose, state, time_us, digest, source, proof]`.
fn rows_of<'c>(consents: impl Iterator<Item = (u32, &'c Consent)>) -> Result<String, IdentityError> {
    let rows: Vec<_> = consents
        .map(|(person, consent)| {
            let state = if consent.granted { ConsentState::Granted } else { ConsentState::Refused } as i32;
            let (channel, purpose) = (consent.channel.as_str(), consent.purpose.as_str());
            (person, channel, purpose, state, consent.time_us, consent.digest(), consent.source.as_str(), consent.proof.as_str())
        })
        .collect();
    json(&rows)
}
