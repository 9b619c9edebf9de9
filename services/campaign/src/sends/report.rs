//! What came back about a message: noted in the ledger and told as an event, once.

use segue_model::TenantId;
use segue_proto::campaign::v1::{ChannelKind, SendReason, SendState};
use segue_store::{Run, Tx, on_tx};

use super::row::{addresses, clean, further};
use super::told::About;
use super::{Report, ReportKind};
use crate::error::CampaignError;
use crate::outbox;
use crate::policies::{Checked, consent_channel};
use crate::service::Service;
use crate::store::{json, number};

const FIND_SQLITE: &str =
    "SELECT scenario, step, variant, person, channel, kind, state, due_us, addresses, decisions FROM send WHERE id = $2 AND tenant = $1";
const FIND_POSTGRES: &str = "SELECT scenario, step, variant, person, channel, kind, state, due_us, addresses, decisions FROM send
    WHERE id = $2 AND tenant = $1 FOR UPDATE";
const REMEMBER: &str = "INSERT INTO send_report (tenant, send, address, kind) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
const NOTE: &str = "UPDATE send SET delivered_us = COALESCE(delivered_us, CAST($3 AS BIGINT)),
        opened_us = COALESCE(opened_us, CAST($4 AS BIGINT)), clicked_us = COALESCE(clicked_us, CAST($5 AS BIGINT)),
        unsubscribed_us = COALESCE(unsubscribed_us, CAST($6 AS BIGINT)), addresses = $7,
        decisions = decisions || $8, decision_count = decision_count + $9
    WHERE id = $2 AND tenant = $1";
const FAIL: &str = "UPDATE send SET state = $3, reason = $4, reason_detail = $5 WHERE id = $2 AND tenant = $1";
const UNSUBSCRIBE: &str = "INSERT INTO unsubscribed (tenant, person, channel, time_us) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant, person, channel) DO UPDATE SET time_us = excluded.time_us WHERE unsubscribed.time_us < excluded.time_us";

#[derive(sqlx::FromRow)]
struct Found {
    scenario: String,
    step: String,
    variant: String,
    person: i64,
    channel: String,
    kind: i64,
    state: i64,
    due_us: Option<i64>,
    addresses: String,
    decisions: String,
}

impl ReportKind {
    fn name(self) -> &'static str {
        match self {
            ReportKind::Delivered => "delivered",
            ReportKind::Failed => "failed",
            ReportKind::Opened => "opened",
            ReportKind::Clicked => "clicked",
            ReportKind::Unsubscribed => "unsubscribed",
        }
    }

    fn event(self) -> &'static str {
        match self {
            ReportKind::Delivered => "df_message_delivered",
            ReportKind::Failed => "df_message_failed",
            ReportKind::Opened => "df_message_opened",
            ReportKind::Clicked => "df_message_clicked",
            ReportKind::Unsubscribed => "df_message_unsubscribed",
        }
    }
}

impl Service {
    /// Notes what came back, and tells it as an event, once. False: it was known, or there is no such message.
    pub(crate) async fn report(&self, tenant: &TenantId, report: &Report) -> Result<bool, CampaignError> {
        self.note_report(tenant, report, None).await
    }

    /// The same, said by the provider of a channel: of other channels it knows nothing.
    pub(crate) async fn report_by(&self, tenant: &TenantId, channel: &str, report: &Report) -> Result<bool, CampaignError> {
        self.note_report(tenant, report, Some(channel)).await
    }

    async fn note_report(&self, tenant: &TenantId, report: &Report, by: Option<&str>) -> Result<bool, CampaignError> {
        let mut tx = self.db.begin().await?;
        let now_us = self.clock.now_us();
        let is_new = note(&mut tx, tenant, report, by, now_us).await?;
        tx.commit().await?;
        if is_new {
            self.bells.outbox.notify_one();
        }
        Ok(is_new)
    }
}

async fn note(tx: &mut Tx, tenant: &TenantId, report: &Report, by: Option<&str>, now_us: i64) -> Result<bool, CampaignError> {
    let sql = tx.sql(FIND_SQLITE, FIND_POSTGRES);
    let found: Option<Found> = on_tx!(tx, conn => sqlx::query_as(sql)
        .bind(tenant.as_str()).bind(report.send.as_str()).fetch_optional(conn).await)?;
    let Some(found) = found.filter(|found| by.is_none_or(|by| by == found.channel)) else { return Ok(false) };
    // What was never given to a provider cannot have come back.
    let has_gone = [SendState::Sending, SendState::Sent, SendState::Failed].map(|state| i64::from(i32::from(state))).contains(&found.state);
    let mut addresses = addresses(&found.addresses)?;
    let Some(address) = addresses.get_mut(report.address).filter(|_| has_gone) else { return Ok(false) };
    let kind = i32::try_from(found.kind).ok().and_then(|kind| ChannelKind::try_from(kind).ok()).unwrap_or_default();
    // What a clock elsewhere says is in the future happened now.
    let time_us = report.time_us.min(now_us);
    if report.kind == ReportKind::Unsubscribed
        && let Some(channel) = consent_channel(kind)
    {
        // Also when it is told again: it may have been granted anew in between.
        on_tx!(tx, conn => sqlx::query(UNSUBSCRIBE)
            .bind(tenant.as_str()).bind(found.person).bind(channel).bind(time_us).run(conn).await)?;
    }
    let (name, at) = (report.kind.name(), i64::try_from(report.address).unwrap_or(i64::MAX));
    let remembered = on_tx!(tx, conn => sqlx::query(REMEMBER)
        .bind(tenant.as_str()).bind(report.send.as_str()).bind(at).bind(name).run(conn).await)?;
    if remembered == 0 {
        return Ok(false);
    }
    if report.kind == ReportKind::Failed {
        address.state = SendState::Failed.into();
        address.error = clean(&report.detail);
    }
    let failed = i64::from(i32::from(SendState::Failed));
    let detail = match address.value.is_empty() {
        true => report.detail.clone(),
        false => format!("`{}`: {}", address.value, report.detail),
    };
    let checked = [Checked { check: "callback", outcome: name, detail }];
    let added = further(&found.decisions, &checked, time_us, true)?;
    let first = |kind: ReportKind| (report.kind == kind).then_some(time_us);
    let count = i64::from(!added.is_empty());
    // What its provider took and then could not deliver, to nobody, has failed after all.
    let has_failed = addresses.iter().all(|address| i64::from(address.state) == failed);
    if report.kind == ReportKind::Failed && found.due_us.is_none() && found.state != failed && has_failed {
        let reason = i64::from(i32::from(SendReason::ProviderFailed));
        on_tx!(tx, conn => sqlx::query(FAIL).bind(tenant.as_str()).bind(report.send.as_str())
            .bind(failed).bind(reason).bind(clean(&report.detail)).run(conn).await)?;
    }
    let addresses = json(&addresses)?;
    on_tx!(tx, conn => sqlx::query(NOTE).bind(tenant.as_str()).bind(report.send.as_str())
        .bind(first(ReportKind::Delivered)).bind(first(ReportKind::Opened)).bind(first(ReportKind::Clicked))
        .bind(first(ReportKind::Unsubscribed)).bind(addresses).bind(added).bind(count).run(conn).await)?;
    let (scenario, step, variant) = (found.scenario.as_str(), found.step.as_str(), found.variant.as_str());
    let about = About { send: &report.send, person: number(found.person)?, scenario, step, variant, kind };
    let reason = if report.kind == ReportKind::Failed { clean(&report.detail) } else { String::new() };
    let told = about.tell(report.kind.event(), &format!("{}:{name}", report.address), time_us, &reason);
    outbox::put(tx, tenant, &[told]).await?;
    Ok(true)
}
