//! Statements of scenarios' runs. Here: claims on tenants and where they are.

pub(crate) mod persons;
pub(crate) mod runs;
#[cfg(test)]
mod tests;
pub(crate) mod work;

use segue_log::feed::{entries, of_entries};
use segue_model::TenantId;
use segue_store::{Db, DbKind, Run as _, Tx, on_db, on_tx, on_writer};

use super::feed::Positions;
use crate::error::CampaignError;
use crate::store::{counter, json};

/// Rows of one statement: a longer JSON text takes up memory and gains nothing.
pub(crate) const ROWS_MAX: usize = 2_000;

const CLAIM: &str =
    "INSERT INTO flow_tenant (tenant, owner, epoch, until_us, positions, numbers, calls, commands, asked, answered, done_us,
        steps_done, rounds, problem)
    VALUES ($1, $2, 1, $3, '[]', 0, 0, 0, 0, 0, 0, 0, 0, '')
    ON CONFLICT (tenant) DO UPDATE SET owner = excluded.owner, epoch = flow_tenant.epoch + 1, until_us = excluded.until_us,
        steps_done = 0, rounds = 0, problem = ''
    WHERE flow_tenant.until_us <= $4 OR flow_tenant.owner = excluded.owner
    RETURNING epoch, positions, numbers, calls, answered, done_us, steps_done, rounds, problem";
const RENEW: &str = "UPDATE flow_tenant SET until_us = $2 WHERE owner = $1 AND until_us > 0";
const RELEASE: &str = "UPDATE flow_tenant SET until_us = 0 WHERE tenant = $1 AND epoch = $2";
const GET: &str = "SELECT epoch, positions, numbers, calls, answered, done_us, steps_done, rounds, problem FROM flow_tenant
    WHERE tenant = $1";
const LIST_POSITIONS: &str = "SELECT tenant, positions FROM flow_tenant";
const LIST_ASKED: &str = "SELECT tenant FROM flow_tenant WHERE owner = $1 AND asked > answered";
const GET_ASKED: &str = "SELECT asked FROM flow_tenant WHERE tenant = $1";
const ASK: &str = "INSERT INTO flow_tenant (tenant, owner, epoch, until_us, positions, numbers, calls, commands, asked, answered, done_us,
        steps_done, rounds, problem)
    VALUES ($1, '', 0, 0, '[]', 0, 0, 0, 1, 0, 0, 0, 0, '')
    ON CONFLICT (tenant) DO UPDATE SET asked = flow_tenant.asked + 1
    RETURNING asked";
const ADVANCE: &str = "UPDATE flow_tenant SET positions = $3, numbers = $4, calls = $5, answered = $6, done_us = $7, steps_done = $8,
    rounds = $9, problem = $10 WHERE tenant = $1 AND epoch = $2";
const NEXT_COMMAND: &str =
    "INSERT INTO flow_tenant (tenant, owner, epoch, until_us, positions, numbers, calls, commands, asked, answered, done_us,
        steps_done, rounds, problem)
    VALUES ($1, '', 0, 0, '[]', 0, 0, 1, 0, 0, 0, 0, 0, '')
    ON CONFLICT (tenant) DO UPDATE SET commands = flow_tenant.commands + 1
    RETURNING commands";

/// Where a tenant is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantRow {
    pub(crate) epoch: i64,
    /// Where none is known, the tenant has never been worked on.
    pub(crate) positions: Positions,
    /// The last number given out.
    pub(crate) numbers: u64,
    /// Calls up to this one were dealt with.
    pub(crate) calls: i64,
    pub(crate) answered: u64,
    pub(crate) done_us: i64,
    pub(crate) steps_done: u64,
    pub(crate) rounds: u64,
    pub(crate) problem: String,
}

type RawTenant = (i64, String, i64, i64, i64, i64, i64, i64, String);

impl TenantRow {
    fn read((epoch, positions, numbers, calls, answered, done_us, steps_done, rounds, problem): RawTenant) -> Result<Self, CampaignError> {
        Ok(Self {
            epoch,
            positions: positions_of(&positions)?,
            numbers: counter(numbers)?,
            calls,
            answered: counter(answered)?,
            done_us,
            steps_done: counter(steps_done)?,
            rounds: counter(rounds)?,
            problem,
        })
    }
}

fn positions_of(text: &str) -> Result<Positions, CampaignError> {
    let entries = serde_json::from_str(text).ok();
    entries.and_then(of_entries).ok_or(CampaignError::Corrupt { what: "positions" })
}

/// Claims a tenant, if nobody has a claim that lasts. With SQLite there is one process, so a claim is of one that is gone.
pub(crate) async fn claim(db: &Db, tenant: &TenantId, owner: &str, now_us: i64, until_us: i64) -> Result<Option<TenantRow>, CampaignError> {
    let gone_us = if db.kind() == DbKind::Sqlite { i64::MAX } else { now_us };
    claim_as_of(db, tenant, owner, gone_us, until_us).await
}

/// Claims a tenant, if nobody has a claim that lasts beyond `gone_us`.
pub(crate) async fn claim_as_of(
    db: &Db,
    tenant: &TenantId,
    owner: &str,
    gone_us: i64,
    until_us: i64,
) -> Result<Option<TenantRow>, CampaignError> {
    let row: Option<RawTenant> = on_writer!(db, pool => sqlx::query_as(CLAIM).bind(tenant.as_str()).bind(owner).bind(until_us)
        .bind(gone_us).fetch_optional(pool).await)?;
    row.map(TenantRow::read).transpose()
}

/// Renews all claims of a process.
pub(crate) async fn renew(db: &Db, owner: &str, until_us: i64) -> Result<(), CampaignError> {
    on_writer!(db, pool => sqlx::query(RENEW).bind(owner).bind(until_us).execute(pool).await.map(drop))?;
    Ok(())
}

/// Gives a claim back.
pub(crate) async fn release(db: &Db, tenant: &TenantId, epoch: i64) -> Result<(), CampaignError> {
    on_writer!(db, pool => sqlx::query(RELEASE).bind(tenant.as_str()).bind(epoch).execute(pool).await.map(drop))?;
    Ok(())
}

/// Where a tenant is, whoever works on it.
pub(crate) async fn find(db: &Db, tenant: &TenantId) -> Result<Option<TenantRow>, CampaignError> {
    let row: Option<RawTenant> = on_db!(db, pool => sqlx::query_as(GET).bind(tenant.as_str()).fetch_optional(pool).await)?;
    row.map(TenantRow::read).transpose()
}

/// The positions of all tenants.
pub(crate) async fn positions(db: &Db) -> Result<Vec<(String, Positions)>, CampaignError> {
    let rows: Vec<(String, String)> = on_db!(db, pool => sqlx::query_as(LIST_POSITIONS).fetch_all(pool).await)?;
    rows.into_iter().map(|(tenant, positions)| Ok((tenant, positions_of(&positions)?))).collect()
}

/// Tenants of a process about which somebody wants to know how far they are.
pub(crate) async fn asked(db: &Db, owner: &str) -> Result<Vec<String>, CampaignError> {
    Ok(on_db!(db, pool => sqlx::query_scalar(LIST_ASKED).bind(owner).fetch_all(pool).await)?)
}

/// The number of the last question how far a tenant is.
pub(crate) async fn last_asked(db: &Db, tenant: &TenantId) -> Result<u64, CampaignError> {
    let asked: Option<i64> = on_db!(db, pool => sqlx::query_scalar(GET_ASKED).bind(tenant.as_str()).fetch_optional(pool).await)?;
    counter(asked.unwrap_or_default())
}

/// Asks how far a tenant is: answered when [`TenantRow::answered`] has reached the number.
pub(crate) async fn ask(db: &Db, tenant: &TenantId) -> Result<u64, CampaignError> {
    counter(on_writer!(db, pool => sqlx::query_scalar(ASK).bind(tenant.as_str()).fetch_one(pool).await)?)
}

/// The number of a tenant's next command.
pub(crate) async fn next_command(tx: &mut Tx, tenant: &TenantId) -> Result<i64, CampaignError> {
    Ok(on_tx!(tx, conn => sqlx::query_scalar(NEXT_COMMAND).bind(tenant.as_str()).fetch_one(conn).await)?)
}

/// Moves a tenant on, in the transaction of everything that the round did and before it: whoever has lost the claim finds out first.
/// [`CampaignError::Fenced`]: it is somebody else's.
pub(crate) async fn advance(tx: &mut Tx, tenant: &TenantId, row: &TenantRow) -> Result<(), CampaignError> {
    let positions = json(&entries(&row.positions))?;
    let rows = on_tx!(tx, conn => sqlx::query(ADVANCE).bind(tenant.as_str()).bind(row.epoch).bind(positions).bind(row.numbers as i64)
        .bind(row.calls).bind(row.answered as i64).bind(row.done_us).bind(row.steps_done as i64).bind(row.rounds as i64)
        .bind(row.problem.as_str()).run(conn).await)?;
    if rows == 1 { Ok(()) } else { Err(CampaignError::Fenced) }
}
