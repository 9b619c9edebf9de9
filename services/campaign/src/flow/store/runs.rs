//! Statements on runs.

use std::collections::{BTreeMap, BTreeSet};

use segue_model::TenantId;
use segue_store::{Db, Run as _, Tx, on_db, on_tx};
use sqlx::FromRow;

use super::ROWS_MAX;
use crate::error::CampaignError;
use crate::flow::machine::{EndReason, Run, State};
use crate::store::{counter, json, number};

/// The time of what does not happen by itself, and until when active runs are looked at.
pub(crate) const NEVER_US: i64 = i64::MAX;

/// A statement that reads runs.
macro_rules! select {
    ($from:literal) => {
        concat!(
            "SELECT r.id, r.scenario, r.version, r.person, r.entry_key, r.entry, r.entered_us, r.held_out, r.due_us, ",
            "r.watch_until_us, r.ended_us, r.end_reason, r.state ",
            $from
        )
    };
}

// SQLite would go through all runs of the tenant for an update from a list: what is inserted and there already is changed.
const PUT_SQLITE: &str = "INSERT INTO flow_run (tenant, id, scenario, version, person, entry_key, entry, entered_us, held_out, slot,
        due_us, watch_until_us, ended_us, end_reason, state)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8,
        value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13
    FROM json_each($2) WHERE true
    ON CONFLICT (tenant, id) DO UPDATE SET version = excluded.version, slot = excluded.slot, due_us = excluded.due_us,
        watch_until_us = excluded.watch_until_us, ended_us = excluded.ended_us, end_reason = excluded.end_reason, state = excluded.state";
const PUT_POSTGRES: &str = "INSERT INTO flow_run (tenant, id, scenario, version, person, entry_key, entry, entered_us, held_out, slot,
        due_us, watch_until_us, ended_us, end_reason, state)
    SELECT $1, (value ->> 0)::bigint, value ->> 1, (value ->> 2)::bigint, (value ->> 3)::bigint, value ->> 4, (value ->> 5)::bigint,
        (value ->> 6)::bigint, (value ->> 7)::boolean, (value ->> 8)::bigint, (value ->> 9)::bigint, (value ->> 10)::bigint,
        (value ->> 11)::bigint, value ->> 12, value ->> 13
    FROM json_array_elements($2::json)
    ON CONFLICT (tenant, id) DO UPDATE SET version = excluded.version, slot = excluded.slot, due_us = excluded.due_us,
        watch_until_us = excluded.watch_until_us, ended_us = excluded.ended_us, end_reason = excluded.end_reason, state = excluded.state";
const OF_PERSONS_SQLITE: &str = select!(
    "FROM json_each($2) k CROSS JOIN flow_run r WHERE r.tenant = $1 AND r.person = k.value
    AND r.watch_until_us > $3"
);
const OF_PERSONS_POSTGRES: &str = select!(
    "FROM json_array_elements_text($2::json) AS k (value) JOIN flow_run r
    ON r.tenant = $1 AND r.person = k.value::bigint WHERE r.watch_until_us > $3"
);
const DUE: &str = select!(
    "FROM flow_run r WHERE r.tenant = $1 AND r.scenario = $2 AND r.slot = 0 AND r.due_us >= $3 AND r.due_us <= $4
    AND (r.due_us > $3 OR r.id > $5) ORDER BY r.due_us, r.id LIMIT $6"
);
const NEXT_DUE: &str = "SELECT r.due_us FROM flow_run r WHERE r.tenant = $1 AND r.scenario = $2 AND r.slot = 0 AND r.due_us >= $3
    AND (r.due_us > $3 OR r.id > $4) ORDER BY r.due_us, r.id LIMIT 1";
const OF_SCENARIO: &str = select!("FROM flow_run r WHERE r.tenant = $1 AND r.scenario = $2 AND r.id > $3 ORDER BY r.id LIMIT $4");
const COUNT: &str = "SELECT count(*), coalesce(CAST(sum(CASE WHEN due_us <= $2 THEN 1 ELSE 0 END) AS BIGINT), 0) FROM flow_run
    WHERE tenant = $1 AND slot = 0";
const COUNT_SQLITE: &str = "SELECT count(*), coalesce(CAST(sum(CASE WHEN due_us <= $2 THEN 1 ELSE 0 END) AS BIGINT), 0)
    FROM flow_run INDEXED BY flow_run_due WHERE tenant = $1 AND slot = 0";
const COUNT_BY_END: &str = "SELECT slot = 0, end_reason, count(*) FROM flow_run WHERE tenant = $1 AND scenario = $2
    GROUP BY slot = 0, end_reason";
const OLD: &str = "SELECT id, person, scenario, entry_key, entry, entered_us FROM flow_run
    WHERE tenant = $1 AND slot <> 0 AND watch_until_us <= $2 ORDER BY watch_until_us LIMIT $3";
const DELETE_SQLITE: &str = "DELETE FROM flow_run WHERE tenant = $1 AND id IN (SELECT value FROM json_each($2))";
const DELETE_POSTGRES: &str =
    "DELETE FROM flow_run WHERE tenant = $1 AND id = ANY (SELECT value::bigint FROM json_array_elements_text($2::json))";
const GET: &str = select!("FROM flow_run r WHERE r.tenant = $1 AND r.id = $2");
const PAGE: &str = select!(
    "FROM flow_run r WHERE r.tenant = $1 AND ($2 = '' OR r.scenario = $2) AND (CAST($3 AS BIGINT) = 0 OR r.person = $3)
    AND (NOT $4 OR r.slot = 0) AND r.id < $5 ORDER BY r.id DESC LIMIT $6"
);
const PAGE_OF_PERSON_SQLITE: &str = select!(
    "FROM flow_run r INDEXED BY flow_run_of_person WHERE r.tenant = $1 AND ($2 = '' OR r.scenario = $2)
    AND r.person = $3 AND (NOT $4 OR r.slot = 0) AND r.id < $5 ORDER BY r.id DESC LIMIT $6"
);
const PAGE_OF_SCENARIO: &str = select!(
    "FROM flow_run r WHERE r.tenant = $1 AND r.scenario = $2 AND CAST($3 AS BIGINT) = 0 AND (NOT $4 OR r.slot = 0)
    AND r.id < $5 ORDER BY r.id DESC LIMIT $6"
);

/// A run as it is stored.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct RunRow {
    id: i64,
    scenario: String,
    version: i64,
    person: i64,
    entry_key: String,
    entry: i64,
    entered_us: i64,
    held_out: bool,
    due_us: i64,
    watch_until_us: i64,
    ended_us: Option<i64>,
    end_reason: String,
    state: String,
}

impl RunRow {
    /// Its size in answers, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.state.len() + 200
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    /// The run, and until when events of its person are looked at.
    pub(crate) fn read(self) -> Result<(Run, i64), CampaignError> {
        let state: State = serde_json::from_str(&self.state).map_err(|_| CampaignError::Corrupt { what: "the state of a run" })?;
        let ended = match self.ended_us {
            None => None,
            Some(ended_us) => Some((ended_us, reason_of(&self.end_reason)?)),
        };
        let run = Run {
            id: counter(self.id)?,
            scenario: self.scenario,
            version: number(self.version)?,
            person: number(self.person)?,
            entry_key: self.entry_key,
            entry: number(self.entry)?,
            entered_us: self.entered_us,
            held_out: self.held_out,
            state,
            due_us: (self.due_us != NEVER_US).then_some(self.due_us),
            ended,
        };
        Ok((run, self.watch_until_us))
    }
}

/// Runs of a scenario, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) entered: u64,
    pub(crate) active: u64,
    /// By reason.
    pub(crate) ended: BTreeMap<String, u64>,
}

/// Counts the runs of a scenario that are kept.
pub(crate) async fn counts(db: &Db, tenant: &TenantId, scenario: &str) -> Result<Counts, CampaignError> {
    let rows: Vec<(bool, String, i64)> =
        on_db!(db, pool => sqlx::query_as(COUNT_BY_END).bind(tenant.as_str()).bind(scenario).fetch_all(pool).await)?;
    let mut counts = Counts::default();
    for (is_active, reason, number) in rows {
        let number = counter(number)?;
        counts.entered += number;
        if is_active {
            counts.active += number;
        } else {
            *counts.ended.entry(reason).or_default() += number;
        }
    }
    Ok(counts)
}

/// A reason as the API and the store say it.
pub(crate) fn name_of(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Completed => "COMPLETED",
        EndReason::ExitRule => "EXIT_RULE",
        EndReason::ScenarioEnded => "SCENARIO_ENDED",
        EndReason::ExitCall => "EXIT_CALL",
        EndReason::Merged => "MERGED",
        EndReason::NoStep => "NO_STEP",
    }
}

fn reason_of(name: &str) -> Result<EndReason, CampaignError> {
    use EndReason::{Completed, ExitCall, ExitRule, Merged, NoStep, ScenarioEnded};
    let all = [Completed, ExitRule, ScenarioEnded, ExitCall, Merged, NoStep];
    all.into_iter().find(|reason| name_of(*reason) == name).ok_or(CampaignError::Corrupt { what: "the end of a run" })
}

/// A run to be written, and until when events of its person are looked at after its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'r> {
    pub(crate) run: &'r Run,
    pub(crate) goals_until_us: i64,
}

impl Written<'_> {
    fn slot(&self) -> u64 {
        if self.run.ended.is_some() { self.run.id } else { 0 }
    }

    fn due_us(&self) -> i64 {
        if self.run.ended.is_some() { NEVER_US } else { self.run.due_us.unwrap_or(NEVER_US) }
    }

    fn watch_until_us(&self) -> i64 {
        self.run.ended.map_or(NEVER_US, |(ended_us, _)| self.goals_until_us.max(ended_us))
    }

    fn ended(&self) -> (Option<i64>, &'static str) {
        self.run.ended.map_or((None, ""), |(ended_us, reason)| (Some(ended_us), name_of(reason)))
    }

    fn state(&self) -> Result<String, CampaignError> {
        json(&self.run.state)
    }
}

/// Writes runs, new ones and changed ones. Of changed ones whose they are and what they were entered with stays.
pub(crate) async fn put(tx: &mut Tx, tenant: &TenantId, runs: &[Written<'_>]) -> Result<(), CampaignError> {
    let sql = tx.sql(PUT_SQLITE, PUT_POSTGRES);
    for some in runs.chunks(ROWS_MAX) {
        let mut rows = Vec::with_capacity(some.len());
        for written in some {
            let run = written.run;
            let (ended_us, reason) = written.ended();
            rows.push((
                run.id,
                &run.scenario,
                run.version,
                run.person,
                &run.entry_key,
                run.entry,
                run.entered_us,
                run.held_out,
                written.slot(),
                written.due_us(),
                written.watch_until_us(),
                ended_us,
                reason,
                written.state()?,
            ));
        }
        let rows = json(&rows)?;
        on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(rows).run(conn).await)?;
    }
    Ok(())
}

/// Runs of these persons that events may still matter to at this moment.
pub(crate) async fn of_persons(
    db: &Db,
    tenant: &TenantId,
    persons: &BTreeSet<u32>,
    watched_after_us: i64,
) -> Result<Vec<RunRow>, CampaignError> {
    let mut found = Vec::new();
    let persons: Vec<u32> = persons.iter().copied().collect();
    for some in persons.chunks(ROWS_MAX) {
        let persons = json(some)?;
        let sql = db.sql(OF_PERSONS_SQLITE, OF_PERSONS_POSTGRES);
        let rows: Vec<RunRow> = on_db!(db, pool => sqlx::query_as(sql).bind(tenant.as_str()).bind(persons).bind(watched_after_us)
            .fetch_all(pool).await)?;
        found.extend(rows);
    }
    Ok(found)
}

/// Active runs of a scenario that are due by a moment, in order, behind (due, id).
pub(crate) async fn due(
    db: &Db,
    tenant: &TenantId,
    scenario: &str,
    after: (i64, u64),
    until_us: i64,
    limit: usize,
) -> Result<Vec<RunRow>, CampaignError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(on_db!(db, pool => sqlx::query_as(DUE).bind(tenant.as_str()).bind(scenario).bind(after.0).bind(until_us)
        .bind(after.1 as i64).bind(limit).fetch_all(pool).await)?)
}

/// When the next active run of a scenario is due, behind (due, id).
pub(crate) async fn next_due(db: &Db, tenant: &TenantId, scenario: &str, after: (i64, u64)) -> Result<Option<i64>, CampaignError> {
    let due: Option<i64> = on_db!(db, pool => sqlx::query_scalar(NEXT_DUE).bind(tenant.as_str()).bind(scenario).bind(after.0)
        .bind(after.1 as i64).fetch_optional(pool).await)?;
    Ok(due.filter(|due| *due != NEVER_US))
}

/// Runs of a scenario behind an id, ascending.
pub(crate) async fn of_scenario(
    db: &Db,
    tenant: &TenantId,
    scenario: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<RunRow>, CampaignError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(on_db!(db, pool => sqlx::query_as(OF_SCENARIO).bind(tenant.as_str()).bind(scenario).bind(after as i64).bind(limit)
        .fetch_all(pool).await)?)
}

/// How many runs are active, and how many of them are due.
pub(crate) async fn count(db: &Db, tenant: &TenantId, now_us: i64) -> Result<(u64, u64), CampaignError> {
    let (active, due): (i64, i64) =
        on_db!(db, pool => sqlx::query_as(db.sql(COUNT_SQLITE, COUNT)).bind(tenant.as_str()).bind(now_us).fetch_one(pool).await)?;
    Ok((counter(active)?, counter(due)?))
}

/// An ended run that is not needed any more.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct OldRun {
    pub(crate) id: i64,
    pub(crate) person: i64,
    pub(crate) scenario: String,
    pub(crate) entry_key: String,
    pub(crate) entry: i64,
    pub(crate) entered_us: i64,
}

/// Runs that were ended, and their goals' windows closed, before a moment.
pub(crate) async fn old(db: &Db, tenant: &TenantId, before_us: i64, limit: usize) -> Result<Vec<OldRun>, CampaignError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(on_db!(db, pool => sqlx::query_as(OLD).bind(tenant.as_str()).bind(before_us).bind(limit).fetch_all(pool).await)?)
}

pub(crate) async fn delete(tx: &mut Tx, tenant: &TenantId, ids: &[i64]) -> Result<(), CampaignError> {
    let sql = tx.sql(DELETE_SQLITE, DELETE_POSTGRES);
    let ids = json(ids)?;
    on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(ids).run(conn).await)?;
    Ok(())
}

pub(crate) async fn find(db: &Db, tenant: &TenantId, id: u64) -> Result<Option<RunRow>, CampaignError> {
    let Ok(id) = i64::try_from(id) else { return Ok(None) };
    Ok(on_db!(db, pool => sqlx::query_as(GET).bind(tenant.as_str()).bind(id).fetch_optional(pool).await)?)
}

/// Which runs a list shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'s> {
    /// Empty: of all.
    pub(crate) scenario: &'s str,
    /// 0: of all.
    pub(crate) person: u32,
    pub(crate) active_only: bool,
    /// Only those with a lower id.
    pub(crate) before: i64,
}

/// Runs, the newest first.
pub(crate) async fn page(db: &Db, tenant: &TenantId, shown: Shown<'_>, limit: usize) -> Result<Vec<RunRow>, CampaignError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // SQLite goes through all runs of the tenant unless it is told which index is narrow.
    let sql = if shown.person != 0 { db.sql(PAGE_OF_PERSON_SQLITE, PAGE) } else { PAGE_OF_SCENARIO };
    Ok(on_db!(db, pool => sqlx::query_as(sql).bind(tenant.as_str()).bind(shown.scenario).bind(i64::from(shown.person))
        .bind(shown.active_only).bind(shown.before).bind(limit).fetch_all(pool).await)?)
}
