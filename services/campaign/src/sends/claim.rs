//! What is due, and taking hold of it.

use segue_model::TenantId;
use segue_store::{Db, on_db, on_writer};

use super::row::Claimed;
use crate::error::CampaignError;

// One step of the recursion per channel of a tenant: however much there is to do, it costs the same.
const DUE_SQLITE: &str = "WITH RECURSIVE first(place) AS (
        SELECT (SELECT rowid FROM send WHERE due_us IS NOT NULL ORDER BY tenant, channel, due_us LIMIT 1)
        UNION ALL
        SELECT (SELECT n.rowid FROM send n WHERE n.due_us IS NOT NULL AND (n.tenant, n.channel) > (s.tenant, s.channel)
            ORDER BY n.tenant, n.channel, n.due_us LIMIT 1)
        FROM first JOIN send s ON s.rowid = first.place)
    SELECT s.tenant, s.channel, s.due_us FROM first JOIN send s ON s.rowid = first.place";
const DUE_POSTGRES: &str = "WITH RECURSIVE first AS (
        (SELECT tenant, channel, due_us FROM send WHERE due_us IS NOT NULL ORDER BY tenant, channel, due_us LIMIT 1)
        UNION ALL
        SELECT n.tenant, n.channel, n.due_us FROM first f CROSS JOIN LATERAL
            (SELECT s.tenant, s.channel, s.due_us FROM send s WHERE s.due_us IS NOT NULL AND (s.tenant, s.channel) > (f.tenant, f.channel)
            ORDER BY s.tenant, s.channel, s.due_us LIMIT 1) n)
    SELECT tenant, channel, due_us FROM first";

macro_rules! claimed {
    () => {
        "RETURNING id, scenario, step, person, channel, kind, template, purpose, variant, held_out, time_zone, content, state, expires_us,
        due_us, claim, attempts, policy_version, counted, sent_us, addresses, decisions"
    };
}
/// $1 tenant, $2 channel, $3 now, $4 limit, $5 end of the hold, $6 whose.
macro_rules! claim_sqlite {
    ($expired:literal) => {
        concat!(
            "UPDATE send SET due_us = $5, claim = claim + 1, claimed_by = $6 WHERE rowid IN (SELECT rowid FROM send
                WHERE tenant = $1 AND channel = $2 AND due_us <= $3 ",
            $expired,
            " ORDER BY due_us LIMIT $4) ",
            claimed!()
        )
    };
}
// As a common table the rows are chosen once: a subquery may be run again, and would then take others.
macro_rules! claim_postgres {
    ($expired:literal) => {
        concat!(
            "WITH taken AS MATERIALIZED (SELECT id AS taken_id FROM send WHERE tenant = $1 AND channel = $2 AND due_us <= $3 ",
            $expired,
            " ORDER BY due_us LIMIT $4 FOR UPDATE SKIP LOCKED)
            UPDATE send SET due_us = $5, claim = claim + 1, claimed_by = $6 FROM taken WHERE id = taken_id AND tenant = $1 ",
            claimed!()
        )
    };
}
const CLAIM_SQLITE: &str = claim_sqlite!("");
const CLAIM_POSTGRES: &str = claim_postgres!("");
const CLAIM_EXPIRED_SQLITE: &str = claim_sqlite!("AND expires_us < $3");
const CLAIM_EXPIRED_POSTGRES: &str = claim_postgres!("AND expires_us < $3");

/// When the first send of a channel is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) tenant: TenantId,
    pub(super) channel: String,
    pub(super) due_us: i64,
}

/// Every channel that has something to do, now or later.
pub(super) async fn due(db: &Db) -> Result<Vec<Due>, CampaignError> {
    let sql = db.sql(DUE_SQLITE, DUE_POSTGRES);
    let rows: Vec<(String, String, i64)> = on_db!(db, pool => sqlx::query_as(sql).fetch_all(pool).await)?;
    rows.into_iter()
        .map(|(tenant, channel, due_us)| {
            let tenant = tenant.parse().map_err(|_| CampaignError::Corrupt { what: "tenant of a send" })?;
            Ok(Due { tenant, channel, due_us })
        })
        .collect()
}

/// What a claim is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'w> {
    pub(super) tenant: &'w TenantId,
    pub(super) channel: &'w str,
    pub(super) limit: usize,
    /// Only what is too late, to say so.
    pub(super) only_expired: bool,
    pub(super) now_us: i64,
    pub(super) until_us: i64,
    pub(super) owner: &'w str,
}

/// Takes hold of what is due, the longest first. Two never hold the same.
pub(super) async fn claim(db: &Db, wanted: &Wanted<'_>) -> Result<Vec<Claimed>, CampaignError> {
    let sql = match wanted.only_expired {
        false => db.sql(CLAIM_SQLITE, CLAIM_POSTGRES),
        true => db.sql(CLAIM_EXPIRED_SQLITE, CLAIM_EXPIRED_POSTGRES),
    };
    let limit = i64::try_from(wanted.limit).unwrap_or(i64::MAX);
    Ok(on_writer!(db, pool => sqlx::query_as(sql).bind(wanted.tenant.as_str()).bind(wanted.channel).bind(wanted.now_us).bind(limit)
        .bind(wanted.until_us).bind(wanted.owner).fetch_all(pool).await)?)
}
