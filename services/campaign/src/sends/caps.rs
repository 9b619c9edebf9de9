//! Counts of messages per person and day, and whether a cap leaves room. A cap holds however many senders there are: whoever counts for a
//! tenant has its counts to himself until his transaction ends.

use std::collections::{BTreeMap, BTreeSet};

use segue_model::TenantId;
use segue_store::{Run, Tx, on_tx};

use crate::error::CampaignError;
use crate::policies::{Cap, Checked};
use crate::store::json;

/// Caps look back so many days at most; older counts go.
const DAYS_KEPT: i64 = 40;

// SQLite has one writer anyway. The lock is of the transaction; tenants that happen to share a number merely wait for each other.
const LOCK_POSTGRES: &str =
    "SELECT 1::bigint FROM (SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/' || $1, 7461))) AS locked";

const READ_SQLITE: &str = "SELECT c.person, c.counter, c.day, c.count FROM json_each($2) k CROSS JOIN cap_count c
    WHERE c.tenant = $1 AND c.person = k.value";
const READ_POSTGRES: &str = "SELECT c.person, c.counter, c.day, c.count FROM json_array_elements_text($2::json) k
    JOIN cap_count c ON c.tenant = $1 AND c.person = k.value::bigint";

const ADD_SQLITE: &str = "INSERT INTO cap_count (tenant, person, counter, day, count)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, person, counter, day) DO UPDATE SET count = count + excluded.count";
const ADD_POSTGRES: &str = "INSERT INTO cap_count (tenant, person, counter, day, count)
    SELECT $1, (value ->> 0)::bigint, value ->> 1, (value ->> 2)::bigint, (value ->> 3)::bigint FROM json_array_elements($2::json)
    ON CONFLICT (tenant, person, counter, day) DO UPDATE SET count = cap_count.count + excluded.count";

const FORGET_SQLITE: &str = "DELETE FROM cap_count WHERE tenant = $1 AND person IN (SELECT value FROM json_each($2)) AND day < $3";
const FORGET_POSTGRES: &str =
    "DELETE FROM cap_count WHERE tenant = $1 AND person = ANY (SELECT value::bigint FROM json_array_elements_text($2::json)) AND day < $3";

const MOVE_SQLITE: &str = "INSERT INTO cap_count (tenant, person, counter, day, count)
    SELECT $1, m.value ->> 1, c.counter, c.day, SUM(c.count) FROM json_each($2) m CROSS JOIN cap_count c
    WHERE c.tenant = $1 AND c.person = m.value ->> 0 GROUP BY 2, 3, 4
    ON CONFLICT (tenant, person, counter, day) DO UPDATE SET count = count + excluded.count";
const MOVE_POSTGRES: &str = "INSERT INTO cap_count (tenant, person, counter, day, count)
    SELECT $1, (m.value ->> 1)::bigint, c.counter, c.day, CAST(SUM(c.count) AS BIGINT) FROM json_array_elements($2::json) m
        JOIN cap_count c ON c.tenant = $1 AND c.person = (m.value ->> 0)::bigint GROUP BY 2, 3, 4
    ON CONFLICT (tenant, person, counter, day) DO UPDATE SET count = cap_count.count + excluded.count";
const MOVED_SQLITE: &str = "DELETE FROM cap_count WHERE tenant = $1 AND person IN (SELECT value ->> 0 FROM json_each($2))";
const MOVED_POSTGRES: &str =
    "DELETE FROM cap_count WHERE tenant = $1 AND person = ANY (SELECT (value ->> 0)::bigint FROM json_array_elements($2::json))";

type Key = (u32, String, i64);

/// The counts of some persons, as they are in a transaction and as they will be.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Also of numbers that were merged and whose counts did not move yet.
    held: BTreeMap<Key, u64>,
    added: BTreeMap<Key, u64>,
}

impl Counts {
    /// Counts a message of a person (`numbers`: theirs, the surviving one first) unless a cap is reached; says which.
    pub(super) fn take(&mut self, numbers: &[u32], caps: &[Cap], checked: &mut Vec<Checked>) -> Result<(), String> {
        for cap in caps {
            let held = self.sum(numbers, cap);
            let days = cap.day.saturating_sub(cap.first_day).saturating_add(1);
            let detail = format!("{held} of {} messages in {days} days ({})", cap.count, cap.counter);
            if held >= u64::from(cap.count) {
                checked.push(Checked { check: "cap", outcome: "suppressed", detail: detail.clone() });
                return Err(detail);
            }
            checked.push(Checked { check: "cap", outcome: "passed", detail });
        }
        let counted: BTreeSet<(&str, i64)> = caps.iter().map(|cap| (cap.counter.as_str(), cap.day)).collect();
        if let Some(person) = numbers.first() {
            for (counter, day) in counted {
                *self.added.entry((*person, counter.to_owned(), day)).or_default() += 1;
            }
        }
        Ok(())
    }

    fn sum(&self, numbers: &[u32], cap: &Cap) -> u64 {
        let range = |person: u32| (person, cap.counter.clone(), cap.first_day)..=(person, cap.counter.clone(), cap.day);
        let of = |counts: &BTreeMap<Key, u64>, person: u32| counts.range(range(person)).map(|(_, count)| count).sum::<u64>();
        let distinct: BTreeSet<u32> = numbers.iter().copied().collect();
        distinct.into_iter().map(|person| of(&self.held, person) + of(&self.added, person)).sum()
    }

    /// The counts of these persons, to himself until the transaction ends.
    pub(super) async fn lock(tx: &mut Tx, tenant: &TenantId, numbers: &BTreeSet<u32>) -> Result<Self, CampaignError> {
        lock(tx, tenant).await?;
        let (sql, numbers) = (tx.sql(READ_SQLITE, READ_POSTGRES), json(numbers)?);
        let rows: Vec<(i64, String, i64, i64)> =
            on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(numbers).fetch_all(conn).await)?;
        let mut held = BTreeMap::new();
        for (person, counter, day, count) in rows {
            held.insert((crate::store::number(person)?, counter, day), crate::store::counter(count)?);
        }
        Ok(Self { held, added: BTreeMap::new() })
    }

    /// Writes what was counted, and forgets what no cap can look at any more.
    pub(super) async fn write(&self, tx: &mut Tx, tenant: &TenantId) -> Result<(), CampaignError> {
        let Some(last_day) = self.added.keys().map(|key| key.2).max() else { return Ok(()) };
        let before = last_day.saturating_sub(DAYS_KEPT);
        let rows: Vec<_> = self.added.iter().map(|((person, counter, day), count)| (person, counter, day, count)).collect();
        let (sql, rows) = (tx.sql(ADD_SQLITE, ADD_POSTGRES), json(&rows)?);
        on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(rows).run(conn).await)?;
        let old: BTreeSet<u32> = self.held.keys().filter(|key| key.2 < before).map(|key| key.0).collect();
        if !old.is_empty() {
            let (sql, persons) = (tx.sql(FORGET_SQLITE, FORGET_POSTGRES), json(&old)?);
            on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(persons).bind(before).run(conn).await)?;
        }
        Ok(())
    }
}

async fn lock(tx: &mut Tx, tenant: &TenantId) -> Result<(), CampaignError> {
    if let Tx::Postgres(conn) = tx {
        sqlx::query(LOCK_POSTGRES).bind(tenant.as_str()).execute(&mut **conn).await?;
    }
    Ok(())
}

/// Adds the counts of merged persons to those of the survivors. `moves`: JSON array of [from, to].
pub(super) async fn move_persons(tx: &mut Tx, tenant: &TenantId, moves: &str) -> Result<(), CampaignError> {
    lock(tx, tenant).await?;
    for sql in [tx.sql(MOVE_SQLITE, MOVE_POSTGRES), tx.sql(MOVED_SQLITE, MOVED_POSTGRES)] {
        on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(moves).run(conn).await)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_message_is_let_through_exactly_when_no_window_of_a_cap_is_full(
            sends in proptest::collection::vec((1_u32..4, 100_i64..110), 1..60),
            caps in proptest::collection::vec((1_u32..4, 1_i64..5, 0_usize..2), 0..3),
        ) {
            let mut counts = Counts::default();
            // What was let through: person, counter, day.
            let mut let_through: Vec<(u32, usize, i64)> = Vec::new();
            for (person, day) in sends {
                let asked: Vec<Cap> = caps.iter().map(|(count, days, counter)| Cap {
                    counter: format!("c{counter}"), count: *count, first_day: day - days + 1, day,
                }).collect();
                let is_full = |(count, days, counter): &(u32, i64, usize)| {
                    let in_window = |seen: &&(u32, usize, i64)| seen.0 == person && seen.1 == *counter && (day - days + 1..=day).contains(&seen.2);
                    let_through.iter().filter(in_window).count() >= *count as usize
                };
                let expected = !caps.iter().any(is_full);
                prop_assert_eq!(counts.take(&[person], &asked, &mut Vec::new()).is_ok(), expected);
                if expected {
                    let counters: BTreeSet<usize> = caps.iter().map(|cap| cap.2).collect();
                    let_through.extend(counters.into_iter().map(|counter| (person, counter, day)));
                }
            }
        }
    }

    #[test]
    fn what_was_counted_of_a_merged_number_counts_for_the_survivor() {
        let mut counts = Counts { held: [((2, "c".to_owned(), 5), 1)].into(), added: BTreeMap::new() };
        let caps = [Cap { counter: "c".to_owned(), count: 2, first_day: 5, day: 5 }];
        assert!(counts.take(&[1, 2], &caps, &mut Vec::new()).is_ok());
        let mut checked = Vec::new();
        assert_eq!(counts.take(&[1, 2], &caps, &mut checked), Err("2 of 2 messages in 1 days (c)".to_owned()));
        assert_eq!(checked.last().map(|one| one.outcome), Some("suppressed"));
    }
}
