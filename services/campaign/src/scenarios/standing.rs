//! Where the scenarios of messages are, for whoever decides on the messages. It stays so until the decision is committed: a pause or an end
//! that was answered has no message decided after it, and who starts a scenario again finds every message that waits for it.

use std::collections::{BTreeSet, HashMap};

use segue_model::TenantId;
use segue_store::{Tx, on_tx};

use super::store::State;
use crate::error::CampaignError;
use crate::store::json;

const STATES_SQLITE: &str = "SELECT id, state FROM scenario WHERE tenant = $1 AND id IN (SELECT value FROM json_each($2))";
// SQLite has one writer anyway.
const STATES_POSTGRES: &str = "SELECT id, state FROM scenario
    WHERE tenant = $1 AND id = ANY (SELECT json_array_elements_text($2::json)) ORDER BY id FOR SHARE";

/// Why a scenario does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may be started again.
    Paused,
    /// For good.
    Ended,
}

/// Those of these scenarios that do not go on.
pub(crate) async fn standings(
    tx: &mut Tx,
    tenant: &TenantId,
    scenarios: &BTreeSet<&str>,
) -> Result<HashMap<String, Standing>, CampaignError> {
    let (sql, ids) = (tx.sql(STATES_SQLITE, STATES_POSTGRES), json(scenarios)?);
    let rows: Vec<(String, String)> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(ids).fetch_all(conn).await)?;
    let mut found = HashMap::new();
    for (id, state) in rows {
        match State::of(&state)? {
            State::Draft | State::Running => {}
            State::Paused => drop(found.insert(id, Standing::Paused)),
            State::Ended | State::Archived => drop(found.insert(id, Standing::Ended)),
        }
    }
    Ok(found)
}
