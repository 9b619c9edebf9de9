//! What becomes of messages whose scenario is started again or ends, in the transactions of these: they are due, and decided on anew.

use segue_model::TenantId;
use segue_store::{Run, Tx, on_tx};

use crate::error::CampaignError;

// What waits for its scenario is looked at when it is too late: nobody's hold ends in just that moment.
const RESUME_SQLITE: &str = "UPDATE send INDEXED BY send_due SET due_us = $3
    WHERE tenant = $1 AND scenario = $2 AND due_us IS NOT NULL AND due_us - 1 = expires_us";
// Rows are locked in the order in which senders lock them.
const RESUME_POSTGRES: &str = "UPDATE send SET due_us = $3 WHERE tenant = $1 AND id IN (
    SELECT id FROM send WHERE tenant = $1 AND scenario = $2 AND due_us IS NOT NULL AND due_us - 1 = expires_us ORDER BY id FOR UPDATE)";
// Somebody may hold some of them and not have decided yet: whoever takes them from there decides the same.
const END_SQLITE: &str = "UPDATE send INDEXED BY send_due SET due_us = $3
    WHERE tenant = $1 AND scenario = $2 AND due_us IS NOT NULL AND due_us > $3 AND state = 1";
const END_POSTGRES: &str = "UPDATE send SET due_us = $3 WHERE tenant = $1 AND id IN (
    SELECT id FROM send WHERE tenant = $1 AND scenario = $2 AND due_us IS NOT NULL AND due_us > $3 AND state = 1 ORDER BY id FOR UPDATE)";

/// What waits for its scenario to be started again is due. Whoever commits rings `Bells::sends` afterwards.
pub(crate) async fn resume(tx: &mut Tx, tenant: &TenantId, scenario: &str, now_us: i64) -> Result<(), CampaignError> {
    let sql = tx.sql(RESUME_SQLITE, RESUME_POSTGRES);
    on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(scenario).bind(now_us).run(conn).await)?;
    Ok(())
}

/// What of a scenario that ends nobody has begun to send is due, to be dropped. Whoever commits rings `Bells::sends` afterwards.
pub(crate) async fn end(tx: &mut Tx, tenant: &TenantId, scenario: &str, now_us: i64) -> Result<(), CampaignError> {
    let sql = tx.sql(END_SQLITE, END_POSTGRES);
    on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(scenario).bind(now_us).run(conn).await)?;
    Ok(())
}
