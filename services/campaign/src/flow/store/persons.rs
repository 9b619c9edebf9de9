//! Statements on what is kept of persons beside their runs: entries, assignments, merges, what is held back.

use std::collections::{BTreeSet, HashMap};

use segue_model::TenantId;
use segue_store::{Db, Run as _, Tx, on_db, on_tx};
use sqlx::FromRow;

use super::ROWS_MAX;
use super::runs::OldRun;
use crate::error::CampaignError;
use crate::store::{counter, json, number};

const ENTRIES_SQLITE: &str = "SELECT r.person, r.scenario, r.entry_key, max(r.entry) AS entry, max(r.entered_us) AS last_entered_us,
        max(CASE WHEN r.slot = 0 THEN r.id ELSE 0 END) AS active
    FROM json_each($2) k CROSS JOIN flow_run r INDEXED BY flow_run_of_person
    WHERE r.tenant = $1 AND r.person = k.value ->> 0 AND r.scenario = k.value ->> 1 AND r.entry_key = k.value ->> 2
    GROUP BY r.person, r.scenario, r.entry_key
    UNION ALL
    SELECT e.person, e.scenario, e.entry_key, e.entry, e.last_entered_us, 0
    FROM json_each($2) k CROSS JOIN flow_entry e
    WHERE e.tenant = $1 AND e.person = k.value ->> 0 AND e.scenario = k.value ->> 1 AND e.entry_key = k.value ->> 2";
const ENTRIES_POSTGRES: &str = "SELECT r.person, r.scenario, r.entry_key, max(r.entry) AS entry, max(r.entered_us) AS last_entered_us,
        max(CASE WHEN r.slot = 0 THEN r.id ELSE 0 END) AS active
    FROM json_array_elements($2::json) AS k (value) JOIN flow_run r
    ON r.tenant = $1 AND r.person = (k.value ->> 0)::bigint AND r.scenario = k.value ->> 1 AND r.entry_key = k.value ->> 2
    GROUP BY r.person, r.scenario, r.entry_key
    UNION ALL
    SELECT e.person, e.scenario, e.entry_key, e.entry, e.last_entered_us, 0::bigint
    FROM json_array_elements($2::json) AS k (value) JOIN flow_entry e
    ON e.tenant = $1 AND e.person = (k.value ->> 0)::bigint AND e.scenario = k.value ->> 1 AND e.entry_key = k.value ->> 2";
const PUT_ENTRIES_SQLITE: &str = "INSERT INTO flow_entry (tenant, person, scenario, entry_key, entry, last_entered_us)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, person, scenario, entry_key) DO UPDATE SET entry = max(flow_entry.entry, excluded.entry),
        last_entered_us = max(flow_entry.last_entered_us, excluded.last_entered_us)";
const PUT_ENTRIES_POSTGRES: &str = "INSERT INTO flow_entry (tenant, person, scenario, entry_key, entry, last_entered_us)
    SELECT $1, (value ->> 0)::bigint, value ->> 1, value ->> 2, (value ->> 3)::bigint, (value ->> 4)::bigint
    FROM json_array_elements($2::json)
    ON CONFLICT (tenant, person, scenario, entry_key) DO UPDATE SET entry = greatest(flow_entry.entry, excluded.entry),
        last_entered_us = greatest(flow_entry.last_entered_us, excluded.last_entered_us)";
const ASSIGNED_SQLITE: &str = "SELECT a.person, a.scenario, a.step, a.variant FROM json_each($2) k CROSS JOIN assignment a
    WHERE a.tenant = $1 AND a.person = k.value";
const ASSIGNED_POSTGRES: &str = "SELECT a.person, a.scenario, a.step, a.variant
    FROM json_array_elements_text($2::json) AS k (value) JOIN assignment a ON a.tenant = $1 AND a.person = k.value::bigint";
const ASSIGN_SQLITE: &str = "INSERT INTO assignment (tenant, person, scenario, step, variant, assigned_us)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($2) WHERE true ON CONFLICT DO NOTHING";
const ASSIGN_POSTGRES: &str = "INSERT INTO assignment (tenant, person, scenario, step, variant, assigned_us)
    SELECT $1, (value ->> 0)::bigint, value ->> 1, value ->> 2, value ->> 3, (value ->> 4)::bigint
    FROM json_array_elements($2::json) ON CONFLICT DO NOTHING";
const SURVIVORS_SQLITE: &str = "SELECT m.person, m.into_person FROM json_each($2) k CROSS JOIN flow_merged m
    WHERE m.tenant = $1 AND m.person = k.value";
const SURVIVORS_POSTGRES: &str = "SELECT m.person, m.into_person
    FROM json_array_elements_text($2::json) AS k (value) JOIN flow_merged m ON m.tenant = $1 AND m.person = k.value::bigint";
const HELD_PERSONS: &str = "SELECT h.person, h.number FROM flow_held h WHERE h.tenant = $1 AND h.number > $2 ORDER BY h.number LIMIT $3";
const HELD_SQLITE: &str = "SELECT h.number, h.person, h.body FROM json_each($2) k CROSS JOIN flow_held h INDEXED BY flow_held_of_person
    WHERE h.tenant = $1 AND h.person = k.value ORDER BY h.number";
const HELD_POSTGRES: &str = "SELECT h.number, h.person, h.body FROM json_array_elements_text($2::json) AS k (value) JOIN flow_held h
    ON h.tenant = $1 AND h.person = k.value::bigint ORDER BY h.number";
const HOLD_SQLITE: &str = "INSERT INTO flow_held (tenant, number, person, body)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2 FROM json_each($2)";
const HOLD_POSTGRES: &str = "INSERT INTO flow_held (tenant, number, person, body)
    SELECT $1, (value ->> 0)::bigint, (value ->> 1)::bigint, value ->> 2 FROM json_array_elements($2::json)";
const FREE_SQLITE: &str = "DELETE FROM flow_held WHERE tenant = $1 AND number IN (SELECT value FROM json_each($2))";
const FREE_POSTGRES: &str =
    "DELETE FROM flow_held WHERE tenant = $1 AND number = ANY (SELECT value::bigint FROM json_array_elements_text($2::json))";

/// A person, scenario and entry key.
pub(crate) type EntryKey = (u32, String, String);

/// What is known of the entries under an [`EntryKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Entries {
    /// How many there were.
    pub(crate) entry: u32,
    pub(crate) last_entered_us: i64,
    /// The run that is active; 0: none is.
    pub(crate) active: u64,
}

#[derive(FromRow)]
struct EntryRow {
    person: i64,
    scenario: String,
    entry_key: String,
    entry: i64,
    last_entered_us: i64,
    active: i64,
}

/// The entries so far under these keys; who never entered is left out.
pub(crate) async fn entries(db: &Db, tenant: &TenantId, keys: &BTreeSet<EntryKey>) -> Result<HashMap<EntryKey, Entries>, CampaignError> {
    let mut found: HashMap<EntryKey, Entries> = HashMap::new();
    let keys: Vec<&EntryKey> = keys.iter().collect();
    for some in keys.chunks(ROWS_MAX) {
        let keys = json(some)?;
        let sql = db.sql(ENTRIES_SQLITE, ENTRIES_POSTGRES);
        let rows: Vec<EntryRow> = on_db!(db, pool => sqlx::query_as(sql).bind(tenant.as_str()).bind(keys).fetch_all(pool).await)?;
        for row in rows {
            let known = found.entry((number(row.person)?, row.scenario, row.entry_key)).or_default();
            known.entry = known.entry.max(number(row.entry)?);
            known.last_entered_us = known.last_entered_us.max(row.last_entered_us);
            known.active = known.active.max(counter(row.active)?);
        }
    }
    Ok(found)
}

/// Keeps what is to be known of entries whose runs are removed.
pub(crate) async fn put_entries(tx: &mut Tx, tenant: &TenantId, runs: &[OldRun]) -> Result<(), CampaignError> {
    let mut kept: HashMap<(i64, &str, &str), (i64, i64)> = HashMap::new();
    for run in runs {
        let entry = kept.entry((run.person, &run.scenario, &run.entry_key)).or_insert((run.entry, run.entered_us));
        *entry = (entry.0.max(run.entry), entry.1.max(run.entered_us));
    }
    let rows: Vec<_> =
        kept.into_iter().map(|((person, scenario, key), (entry, entered_us))| (person, scenario, key, entry, entered_us)).collect();
    let sql = tx.sql(PUT_ENTRIES_SQLITE, PUT_ENTRIES_POSTGRES);
    let rows = json(&rows)?;
    on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(rows).run(conn).await)?;
    Ok(())
}

/// What was assigned to a person: (scenario, step, variant).
pub(crate) type Assigned = HashMap<u32, Vec<(String, String, String)>>;

/// The variants that were assigned to these persons.
pub(crate) async fn assigned(db: &Db, tenant: &TenantId, persons: &BTreeSet<u32>) -> Result<Assigned, CampaignError> {
    let mut found = Assigned::new();
    let persons: Vec<u32> = persons.iter().copied().collect();
    for some in persons.chunks(ROWS_MAX) {
        let persons = json(some)?;
        let sql = db.sql(ASSIGNED_SQLITE, ASSIGNED_POSTGRES);
        let rows: Vec<(i64, String, String, String)> =
            on_db!(db, pool => sqlx::query_as(sql).bind(tenant.as_str()).bind(persons).fetch_all(pool).await)?;
        for (person, scenario, step, variant) in rows {
            found.entry(number(person)?).or_default().push((scenario, step, variant));
        }
    }
    Ok(found)
}

/// A variant that a person gets for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) person: u32,
    pub(crate) scenario: String,
    pub(crate) step: String,
    pub(crate) variant: String,
    pub(crate) assigned_us: i64,
}

/// Writes assignments down; one that is there already stays.
pub(crate) async fn assign(tx: &mut Tx, tenant: &TenantId, assignments: &[Assignment]) -> Result<(), CampaignError> {
    let sql = tx.sql(ASSIGN_SQLITE, ASSIGN_POSTGRES);
    for some in assignments.chunks(ROWS_MAX) {
        let rows: Vec<_> = some.iter().map(|a| (a.person, &a.scenario, &a.step, &a.variant, a.assigned_us)).collect();
        let rows = json(&rows)?;
        on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(rows).run(conn).await)?;
    }
    Ok(())
}

/// Who of these persons was merged, and into whom.
pub(crate) async fn survivors(db: &Db, tenant: &TenantId, persons: &BTreeSet<u32>) -> Result<HashMap<u32, u32>, CampaignError> {
    let mut found = HashMap::new();
    let persons: Vec<u32> = persons.iter().copied().collect();
    for some in persons.chunks(ROWS_MAX) {
        let persons = json(some)?;
        let sql = db.sql(SURVIVORS_SQLITE, SURVIVORS_POSTGRES);
        let rows: Vec<(i64, i64)> = on_db!(db, pool => sqlx::query_as(sql).bind(tenant.as_str()).bind(persons).fetch_all(pool).await)?;
        for (person, into) in rows {
            found.insert(number(person)?, number(into)?);
        }
    }
    Ok(found)
}

/// Persons for whom something is held back behind a number, the oldest first; and the last number looked at.
pub(crate) async fn held_persons(db: &Db, tenant: &TenantId, after: u64, limit: usize) -> Result<(BTreeSet<u32>, u64), CampaignError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<(i64, i64)> = on_db!(db, pool => sqlx::query_as(HELD_PERSONS).bind(tenant.as_str()).bind(after as i64).bind(limit)
        .fetch_all(pool).await)?;
    let last = rows.last().map_or(Ok(after), |(_, number)| counter(*number))?;
    Ok((rows.into_iter().map(|(person, _)| number(person)).collect::<Result<_, _>>()?, last))
}

/// Something that is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) number: u64,
    pub(crate) person: u32,
    pub(crate) body: String,
}

/// All that is held back for these persons, in order.
pub(crate) async fn held(db: &Db, tenant: &TenantId, persons: &BTreeSet<u32>) -> Result<Vec<Held>, CampaignError> {
    let mut found = Vec::new();
    let persons: Vec<u32> = persons.iter().copied().collect();
    for some in persons.chunks(ROWS_MAX) {
        let persons = json(some)?;
        let sql = db.sql(HELD_SQLITE, HELD_POSTGRES);
        let rows: Vec<(i64, i64, String)> =
            on_db!(db, pool => sqlx::query_as(sql).bind(tenant.as_str()).bind(persons).fetch_all(pool).await)?;
        for (at, person, body) in rows {
            found.push(Held { number: counter(at)?, person: number(person)?, body });
        }
    }
    Ok(found)
}

/// Holds something back.
pub(crate) async fn hold(tx: &mut Tx, tenant: &TenantId, held: &[Held]) -> Result<(), CampaignError> {
    let sql = tx.sql(HOLD_SQLITE, HOLD_POSTGRES);
    for some in held.chunks(ROWS_MAX) {
        let rows: Vec<_> = some.iter().map(|held| (held.number, held.person, &held.body)).collect();
        let rows = json(&rows)?;
        on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(rows).run(conn).await)?;
    }
    Ok(())
}

/// Forgets what was held back and has been dealt with.
pub(crate) async fn free(tx: &mut Tx, tenant: &TenantId, numbers: &[u64]) -> Result<(), CampaignError> {
    let sql = tx.sql(FREE_SQLITE, FREE_POSTGRES);
    for some in numbers.chunks(ROWS_MAX) {
        let numbers = json(some)?;
        on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(numbers).run(conn).await)?;
    }
    Ok(())
}

// What a merge moves. Statements take pairs (from, into) of which no person is in both places.
// With its LIMIT, SQLite looks up whom the list names before it updates: else it would go through all rows of the tenant.
const MOVE_RUNS_SQLITE: &str = "UPDATE flow_run SET person = j.into_person
    FROM (SELECT r.rowid AS place, k.value ->> 1 AS into_person FROM json_each($2) k CROSS JOIN flow_run r
        WHERE r.tenant = $1 AND r.person = k.value ->> 0 LIMIT -1) AS j
    WHERE flow_run.rowid = j.place";
const MOVE_RUNS_POSTGRES: &str = "UPDATE flow_run SET person = j.into_person
    FROM (SELECT (value ->> 0)::bigint AS from_person, (value ->> 1)::bigint AS into_person FROM json_array_elements($2::json)) AS j
    WHERE flow_run.tenant = $1 AND flow_run.person = j.from_person";
const MOVE_HELD_SQLITE: &str = "UPDATE flow_held INDEXED BY flow_held_of_person
    SET person = (SELECT k.value ->> 1 FROM json_each($2) k WHERE k.value ->> 0 = flow_held.person)
    WHERE tenant = $1 AND person IN (SELECT value ->> 0 FROM json_each($2))";
const MOVE_HELD_POSTGRES: &str = "UPDATE flow_held SET person = j.into_person
    FROM (SELECT (value ->> 0)::bigint AS from_person, (value ->> 1)::bigint AS into_person FROM json_array_elements($2::json)) AS j
    WHERE flow_held.tenant = $1 AND flow_held.person = j.from_person";
const MOVE_ENTRIES_SQLITE: &str = "INSERT INTO flow_entry (tenant, person, scenario, entry_key, entry, last_entered_us)
    SELECT $1, k.value ->> 1, e.scenario, e.entry_key, max(e.entry), max(e.last_entered_us) FROM json_each($2) k CROSS JOIN flow_entry e
    WHERE e.tenant = $1 AND e.person = k.value ->> 0 GROUP BY k.value ->> 1, e.scenario, e.entry_key
    ON CONFLICT (tenant, person, scenario, entry_key) DO UPDATE SET entry = max(flow_entry.entry, excluded.entry),
        last_entered_us = max(flow_entry.last_entered_us, excluded.last_entered_us)";
const MOVE_ENTRIES_POSTGRES: &str = "INSERT INTO flow_entry (tenant, person, scenario, entry_key, entry, last_entered_us)
    SELECT $1, (k.value ->> 1)::bigint, e.scenario, e.entry_key, max(e.entry), max(e.last_entered_us)
    FROM json_array_elements($2::json) AS k (value) JOIN flow_entry e ON e.tenant = $1 AND e.person = (k.value ->> 0)::bigint
    GROUP BY (k.value ->> 1)::bigint, e.scenario, e.entry_key
    ON CONFLICT (tenant, person, scenario, entry_key) DO UPDATE SET entry = greatest(flow_entry.entry, excluded.entry),
        last_entered_us = greatest(flow_entry.last_entered_us, excluded.last_entered_us)";
const LEAVE_ENTRIES_SQLITE: &str = "DELETE FROM flow_entry WHERE tenant = $1 AND person IN (SELECT value ->> 0 FROM json_each($2))";
const LEAVE_ENTRIES_POSTGRES: &str = "DELETE FROM flow_entry
    WHERE tenant = $1 AND person = ANY (SELECT (value ->> 0)::bigint FROM json_array_elements($2::json))";
const ASSIGNMENTS_SQLITE: &str = "SELECT a.person, a.scenario, a.step, a.variant, a.assigned_us FROM json_each($2) k
    CROSS JOIN assignment a WHERE a.tenant = $1 AND a.person IN (k.value ->> 0, k.value ->> 1)";
const ASSIGNMENTS_POSTGRES: &str = "SELECT a.person, a.scenario, a.step, a.variant, a.assigned_us
    FROM json_array_elements($2::json) AS k (value) JOIN assignment a
    ON a.tenant = $1 AND a.person IN ((k.value ->> 0)::bigint, (k.value ->> 1)::bigint)";
const LEAVE_ASSIGNMENTS_SQLITE: &str = "DELETE FROM assignment
    WHERE tenant = $1 AND person IN (SELECT value FROM json_each($2))";
const LEAVE_ASSIGNMENTS_POSTGRES: &str = "DELETE FROM assignment
    WHERE tenant = $1 AND person = ANY (SELECT value::bigint FROM json_array_elements_text($2::json))";
const MOVE_MERGED_SQLITE: &str = "UPDATE flow_merged INDEXED BY flow_merged_into
    SET into_person = (SELECT k.value ->> 1 FROM json_each($2) k WHERE k.value ->> 0 = flow_merged.into_person)
    WHERE tenant = $1 AND into_person IN (SELECT value ->> 0 FROM json_each($2))";
const MOVE_MERGED_POSTGRES: &str = "UPDATE flow_merged SET into_person = j.into_person
    FROM (SELECT (value ->> 0)::bigint AS from_person, (value ->> 1)::bigint AS into_person FROM json_array_elements($2::json)) AS j
    WHERE flow_merged.tenant = $1 AND flow_merged.into_person = j.from_person";
const PUT_MERGED_SQLITE: &str = "INSERT INTO flow_merged (tenant, person, into_person)
    SELECT $1, value ->> 0, value ->> 1 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, person) DO UPDATE SET into_person = excluded.into_person";
const PUT_MERGED_POSTGRES: &str = "INSERT INTO flow_merged (tenant, person, into_person)
    SELECT $1, (value ->> 0)::bigint, (value ->> 1)::bigint FROM json_array_elements($2::json)
    ON CONFLICT (tenant, person) DO UPDATE SET into_person = excluded.into_person";
const LEAVE_MERGED_SQLITE: &str = "DELETE FROM flow_merged WHERE tenant = $1 AND person IN (SELECT value FROM json_each($2))";
const LEAVE_MERGED_POSTGRES: &str = "DELETE FROM flow_merged
    WHERE tenant = $1 AND person = ANY (SELECT value::bigint FROM json_array_elements_text($2::json))";

/// Gives the survivors what the merged persons had. No person may be both merged and survivor, and runs that would be active twice have
/// ended.
pub(crate) async fn merge(tx: &mut Tx, tenant: &TenantId, pairs: &[(u32, u32)]) -> Result<(), CampaignError> {
    for some in pairs.chunks(ROWS_MAX) {
        let rows = json(some)?;
        merge_assignments(tx, tenant, some, &rows).await?;
        let statements = [
            tx.sql(MOVE_RUNS_SQLITE, MOVE_RUNS_POSTGRES),
            tx.sql(MOVE_HELD_SQLITE, MOVE_HELD_POSTGRES),
            tx.sql(MOVE_ENTRIES_SQLITE, MOVE_ENTRIES_POSTGRES),
            tx.sql(LEAVE_ENTRIES_SQLITE, LEAVE_ENTRIES_POSTGRES),
            tx.sql(MOVE_MERGED_SQLITE, MOVE_MERGED_POSTGRES),
            tx.sql(PUT_MERGED_SQLITE, PUT_MERGED_POSTGRES),
        ];
        for sql in statements {
            on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(rows.as_str()).run(conn).await)?;
        }
    }
    Ok(())
}

/// Of two variants of one experiment the earlier one stays.
async fn merge_assignments(tx: &mut Tx, tenant: &TenantId, pairs: &[(u32, u32)], rows: &str) -> Result<(), CampaignError> {
    let sql = tx.sql(ASSIGNMENTS_SQLITE, ASSIGNMENTS_POSTGRES);
    let found: Vec<(i64, String, String, String, i64)> =
        on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(rows).fetch_all(conn).await)?;
    if found.is_empty() {
        return Ok(());
    }
    let into: HashMap<u32, u32> = pairs.iter().copied().collect();
    let mut earliest: HashMap<(u32, String, String), Assignment> = HashMap::new();
    let mut persons = BTreeSet::new();
    for (person, scenario, step, variant, assigned_us) in found {
        let old = number(person)?;
        persons.insert(old);
        let person = into.get(&old).copied().unwrap_or(old);
        let assignment = Assignment { person, scenario, step, variant, assigned_us };
        let key = (person, assignment.scenario.clone(), assignment.step.clone());
        match earliest.get(&key) {
            Some(known) if known.assigned_us <= assigned_us => {}
            _ => drop(earliest.insert(key, assignment)),
        }
    }
    let sql = tx.sql(LEAVE_ASSIGNMENTS_SQLITE, LEAVE_ASSIGNMENTS_POSTGRES);
    let persons = json(&persons)?;
    on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(persons).run(conn).await)?;
    let earliest: Vec<Assignment> = earliest.into_values().collect();
    assign(tx, tenant, &earliest).await
}

/// Persons who are their own again: what comes in under their number is theirs. What went to the survivor stays there.
pub(crate) async fn unmerge(tx: &mut Tx, tenant: &TenantId, persons: &[u32]) -> Result<(), CampaignError> {
    let sql = tx.sql(LEAVE_MERGED_SQLITE, LEAVE_MERGED_POSTGRES);
    let persons = json(persons)?;
    on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(persons).run(conn).await)?;
    Ok(())
}
