//! Writing sends down, dropping and moving them: in the transactions of runs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use segue_model::TenantId;
use segue_proto::campaign::v1::{ChannelKind, Purpose, SendReason};
use segue_store::{Run, Tx, on_tx};
use serde::ser::{Serialize, SerializeTuple, Serializer};
use serde_json::value::RawValue;

use super::row::Decision;
use super::told::{About, reason_name};
use super::{NewSend, caps, id};
use crate::error::CampaignError;
use crate::outbox;
use crate::store::{json, number};

/// Rows of one statement.
const AT_ONCE: usize = 10_000;

macro_rules! insert {
    ($values:literal) => {
        concat!(
            "INSERT INTO send (tenant, id, scenario, version, step, run, person, entry_key, attempt_group, channel, template, purpose,
            variant, held_out, time_zone, content, planned_us, due_us, expires_us, kind, state, reason, reason_detail, claim, claimed_by,
            attempts, policy_version, counted, addresses, decisions, decision_count) SELECT $1, ",
            $values,
            ", 0, 1, 0, '', 0, '', 0, 0, false, '[]', '', 0 "
        )
    };
}

const INSERT_SQLITE: &str = concat!(
    insert!(
        "value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9,
        value ->> 10, value ->> 11, value ->> 12, value ->> 13, value -> 14, value ->> 15, value ->> 15, value ->> 16"
    ),
    "FROM json_each($2) WHERE true ON CONFLICT DO NOTHING"
);
const INSERT_POSTGRES: &str = concat!(
    insert!(
        "value ->> 0, value ->> 1, (value ->> 2)::bigint, value ->> 3, (value ->> 4)::bigint, (value ->> 5)::bigint, value ->> 6,
        value ->> 7, value ->> 8, value ->> 9, (value ->> 10)::bigint, value ->> 11, (value ->> 12)::boolean, value ->> 13,
        (value -> 14)::text, (value ->> 15)::bigint, (value ->> 15)::bigint, (value ->> 16)::bigint"
    ),
    "FROM json_array_elements($2::json) ON CONFLICT DO NOTHING"
);

// Rows are locked in the order in which senders lock them.
const DROP_SQLITE: &str = "UPDATE send INDEXED BY send_of_run
    SET state = 4, reason = $3, due_us = NULL, decisions = decisions || $4, decision_count = decision_count + 1
    WHERE tenant = $1 AND run IN (SELECT value FROM json_each($2)) AND due_us IS NOT NULL AND state = 1
    RETURNING id, scenario, step, variant, person, kind";
const DROP_POSTGRES: &str = "UPDATE send
    SET state = 4, reason = $3, due_us = NULL, decisions = decisions || $4, decision_count = decision_count + 1
    WHERE tenant = $1 AND state = 1 AND due_us IS NOT NULL AND id IN (
        SELECT id FROM send WHERE tenant = $1 AND due_us IS NOT NULL AND state = 1
            AND run = ANY (SELECT value::bigint FROM json_array_elements_text($2::json)) ORDER BY id FOR UPDATE)
    RETURNING id, scenario, step, variant, person, kind";

// SQLite would walk all sends of the tenant for an update from a list, were it not told which index to use.
const MOVE_SQLITE: &str = "UPDATE send INDEXED BY sqlite_autoindex_send_1 SET person = j.target
    FROM (SELECT s.id AS id, m.value ->> 1 AS target FROM json_each($2) m CROSS JOIN send s INDEXED BY send_of_person
        WHERE s.tenant = $1 AND s.person = m.value ->> 0) j
    WHERE send.id = j.id AND send.tenant = $1";
const MOVE_POSTGRES: &str = "UPDATE send SET person = (m.value ->> 1)::bigint FROM json_array_elements($2::json) m
    WHERE send.tenant = $1 AND send.person = (m.value ->> 0)::bigint";

const MOVE_UNSUBSCRIBED_SQLITE: &str = "INSERT INTO unsubscribed (tenant, person, channel, time_us)
    SELECT $1, m.value ->> 1, u.channel, MAX(u.time_us) FROM json_each($2) m CROSS JOIN unsubscribed u
    WHERE u.tenant = $1 AND u.person = m.value ->> 0 GROUP BY 2, 3
    ON CONFLICT (tenant, person, channel) DO UPDATE SET time_us = MAX(time_us, excluded.time_us)";
const MOVE_UNSUBSCRIBED_POSTGRES: &str = "INSERT INTO unsubscribed (tenant, person, channel, time_us)
    SELECT $1, (m.value ->> 1)::bigint, u.channel, MAX(u.time_us) FROM json_array_elements($2::json) m
        JOIN unsubscribed u ON u.tenant = $1 AND u.person = (m.value ->> 0)::bigint GROUP BY 2, 3
    ON CONFLICT (tenant, person, channel) DO UPDATE SET time_us = GREATEST(unsubscribed.time_us, excluded.time_us)";
const FORGET_UNSUBSCRIBED_SQLITE: &str = "DELETE FROM unsubscribed WHERE tenant = $1 AND person IN (SELECT value ->> 0 FROM json_each($2))";
const FORGET_UNSUBSCRIBED_POSTGRES: &str =
    "DELETE FROM unsubscribed WHERE tenant = $1 AND person = ANY (SELECT (value ->> 0)::bigint FROM json_array_elements($2::json))";

// What somebody unsubscribed from while they were taken for another holds for both.
const UNMERGE_UNSUBSCRIBED_SQLITE: &str = "INSERT INTO unsubscribed (tenant, person, channel, time_us)
    SELECT $1, m.person, u.channel, u.time_us FROM json_each($2) k CROSS JOIN flow_merged m CROSS JOIN unsubscribed u
    WHERE m.tenant = $1 AND m.person = k.value AND u.tenant = $1 AND u.person = m.into_person
    ON CONFLICT (tenant, person, channel) DO UPDATE SET time_us = MAX(time_us, excluded.time_us)";
const UNMERGE_UNSUBSCRIBED_POSTGRES: &str = "INSERT INTO unsubscribed (tenant, person, channel, time_us)
    SELECT $1, m.person, u.channel, u.time_us FROM json_array_elements_text($2::json) k
        JOIN flow_merged m ON m.tenant = $1 AND m.person = k.value::bigint
        JOIN unsubscribed u ON u.tenant = $1 AND u.person = m.into_person
    ON CONFLICT (tenant, person, channel) DO UPDATE SET time_us = GREATEST(unsubscribed.time_us, excluded.time_us)";

/// Writes sends down; one that is there already stays as it is. Whoever commits rings `Bells::sends` afterwards.
pub(crate) async fn plan(tx: &mut Tx, tenant: &TenantId, sends: &[NewSend]) -> Result<(), CampaignError> {
    let mut ids: Vec<(String, &NewSend)> =
        sends.iter().map(|send| (id(&send.scenario, &send.step, send.run, &send.attempt_group), send)).collect();
    // Two transactions that write the same ones must not wait for each other.
    ids.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for some in ids.chunks(AT_ONCE) {
        let rows: Vec<_> =
            some.iter().map(|(id, send)| Ok(NewRow(id, send, content(&send.values)?))).collect::<Result<_, CampaignError>>()?;
        let (sql, rows) = (tx.sql(INSERT_SQLITE, INSERT_POSTGRES), json(&rows)?);
        on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(rows).run(conn).await)?;
    }
    Ok(())
}

/// As the statement takes it: an array in the order of its columns.
struct NewRow<'s>(&'s str, &'s NewSend, Box<RawValue>);

impl Serialize for NewRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let NewRow(id, send, content) = self;
        let purpose = match send.purpose {
            Purpose::Transactional => Purpose::Transactional,
            Purpose::Advertising | Purpose::Unspecified => Purpose::Advertising,
        };
        let mut row = serializer.serialize_tuple(17)?;
        row.serialize_element(id)?;
        row.serialize_element(&send.scenario)?;
        row.serialize_element(&send.version)?;
        row.serialize_element(&send.step)?;
        row.serialize_element(&(send.run as i64))?;
        row.serialize_element(&send.person)?;
        row.serialize_element(&without_nul(&send.entry_key))?;
        row.serialize_element(&send.attempt_group)?;
        row.serialize_element(&send.channel)?;
        row.serialize_element(&send.template)?;
        row.serialize_element(&i32::from(purpose))?;
        row.serialize_element(&without_nul(&send.variant))?;
        row.serialize_element(&send.held_out)?;
        row.serialize_element(&send.time_zone)?;
        row.serialize_element(content)?;
        row.serialize_element(&send.planned_us)?;
        row.serialize_element(&send.expires_us)?;
        row.end()
    }
}

/// Values as they are stored, without the NUL character.
fn content(values: &serde_json::Value) -> Result<Box<RawValue>, CampaignError> {
    let mut text = json(values)?;
    if text.contains("\\u0000") {
        let mut values = values.clone();
        replace_nul(&mut values);
        text = json(&values)?;
    }
    RawValue::from_string(text).map_err(|_| CampaignError::Corrupt { what: "values of a send" })
}

fn replace_nul(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = without_nul(text).into_owned(),
        serde_json::Value::Array(values) => values.iter_mut().for_each(replace_nul),
        serde_json::Value::Object(values) => {
            let replaced = std::mem::take(values).into_iter().map(|(name, mut value)| {
                replace_nul(&mut value);
                (without_nul(&name).into_owned(), value)
            });
            *values = replaced.collect();
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

/// PostgreSQL cannot store the NUL character, and properties of events may hold it.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

#[derive(sqlx::FromRow)]
struct Dropped {
    id: String,
    scenario: String,
    step: String,
    variant: String,
    person: i64,
    kind: i64,
}

/// Suppresses what runs have planned and nobody has begun to send.
pub(crate) async fn drop_of_runs(
    tx: &mut Tx,
    tenant: &TenantId,
    runs: &[u64],
    reason: SendReason,
    now_us: i64,
) -> Result<(), CampaignError> {
    if runs.is_empty() {
        return Ok(());
    }
    let (sql, name) = (tx.sql(DROP_SQLITE, DROP_POSTGRES), reason_name(reason));
    let detail = "the run ended before the message was sent".to_owned();
    let decision = format!("\n{}", json(&Decision(now_us, "exit".to_owned(), "suppressed".to_owned(), detail))?);
    for some in runs.chunks(AT_ONCE) {
        let runs = json(&some.iter().map(|run| *run as i64).collect::<Vec<_>>())?;
        let reason = i64::from(i32::from(reason));
        let dropped: Vec<Dropped> = on_tx!(tx, conn => sqlx::query_as(sql)
            .bind(tenant.as_str()).bind(runs).bind(reason).bind(decision.as_str()).fetch_all(conn).await)?;
        let mut told = Vec::with_capacity(dropped.len());
        for send in &dropped {
            let about = About {
                send: &send.id,
                person: number(send.person)?,
                scenario: &send.scenario,
                step: &send.step,
                variant: &send.variant,
                kind: i32::try_from(send.kind).ok().and_then(|kind| ChannelKind::try_from(kind).ok()).unwrap_or_default(),
            };
            told.push(about.tell("df_message_suppressed", "suppressed", now_us, &name));
        }
        outbox::put(tx, tenant, &told).await?;
    }
    Ok(())
}

/// Sends of merged persons go to the survivors, with what was counted of them and what they unsubscribed from.
pub(crate) async fn move_persons(tx: &mut Tx, tenant: &TenantId, merged: &[(u32, u32)]) -> Result<(), CampaignError> {
    let moves: Vec<(u32, u32)> = survivors(merged).into_iter().collect();
    for some in moves.chunks(AT_ONCE) {
        let moves = json(some)?;
        for sql in [
            tx.sql(MOVE_SQLITE, MOVE_POSTGRES),
            tx.sql(MOVE_UNSUBSCRIBED_SQLITE, MOVE_UNSUBSCRIBED_POSTGRES),
            tx.sql(FORGET_UNSUBSCRIBED_SQLITE, FORGET_UNSUBSCRIBED_POSTGRES),
        ] {
            on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(moves.as_str()).run(conn).await)?;
        }
        caps::move_persons(tx, tenant, &moves).await?;
    }
    Ok(())
}

/// Persons who are their own again, in the transaction that forgets into whom they were merged. Their sends stay with the survivor.
pub(crate) async fn unmerge_persons(tx: &mut Tx, tenant: &TenantId, persons: &[u32]) -> Result<(), CampaignError> {
    for some in persons.chunks(AT_ONCE) {
        let (sql, persons) = (tx.sql(UNMERGE_UNSUBSCRIBED_SQLITE, UNMERGE_UNSUBSCRIBED_POSTGRES), json(some)?);
        on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(persons).run(conn).await)?;
    }
    Ok(())
}

/// Who went where in the end: a survivor may have been merged later in the same list.
fn survivors(merged: &[(u32, u32)]) -> BTreeMap<u32, u32> {
    let mut into: BTreeMap<u32, u32> = BTreeMap::new();
    for (from, to) in merged {
        let to = into.get(to).copied().unwrap_or(*to);
        if *from == to {
            continue;
        }
        for target in into.values_mut() {
            if *target == *from {
                *target = to;
            }
        }
        into.insert(*from, to);
    }
    into
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_merges_leads_to_its_end_in_whichever_order_it_was_told() {
        let ends: BTreeMap<u32, u32> = [(1, 3), (2, 3)].into();
        assert_eq!(survivors(&[(1, 2), (2, 3)]), ends);
        assert_eq!(survivors(&[(2, 3), (1, 2)]), ends);
        assert_eq!(survivors(&[(1, 1)]), BTreeMap::new());
    }
}
