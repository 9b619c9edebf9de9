//! The send ledger: planning, deciding, giving to providers, explaining.

use segue_model::TenantId;
use segue_proto::campaign::v1::{
    ExplainSendRequest, ExplainSendResponse, GetSendRequest, ListSendsRequest, ListSendsResponse, Purpose, Send, SendReason,
};
use segue_runtime::{Tasks, Tenant};
use segue_store::Tx;

use crate::error::CampaignError;
use crate::service::Service;

/// A message that a run wants sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewSend {
    pub(crate) scenario: String,
    pub(crate) version: u32,
    pub(crate) step: String,
    pub(crate) run: u64,
    pub(crate) person: u32,
    pub(crate) entry_key: String,
    /// `<entry>.<visit>`.
    pub(crate) attempt_group: String,
    pub(crate) channel: String,
    pub(crate) template: String,
    pub(crate) purpose: Purpose,
    pub(crate) variant: String,
    pub(crate) held_out: bool,
    /// For whom no zone is known.
    pub(crate) time_zone: String,
    /// What templates see beside `person`, `channel` and `unsubscribe_url`.
    pub(crate) values: serde_json::Value,
    pub(crate) planned_us: i64,
    /// Not sent after this.
    pub(crate) expires_us: i64,
}

/// What came back about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) send: String,
    /// Which of its addresses.
    pub(crate) address: usize,
    pub(crate) kind: ReportKind,
    pub(crate) time_us: i64,
    pub(crate) detail: String,
}

/// What happened to a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportKind {
    Delivered,
    Failed,
    Opened,
    Clicked,
    Unsubscribed,
}

/// The id of a send: 32 hexadecimal digits, always the same for the same visit of the same step of the same run.
pub(crate) fn id(scenario: &str, step: &str, run: u64, attempt_group: &str) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(format!("{scenario}\n{step}\n{run}\n{attempt_group}").as_bytes()))
}

/// Writes sends down; one that is there already stays as it is. Whoever commits rings `Bells::sends` afterwards.
pub(crate) async fn plan(_tx: &mut Tx, _tenant: &TenantId, sends: &[NewSend]) -> Result<(), CampaignError> {
    if sends.is_empty() { Ok(()) } else { Err(CampaignError::Stopping) }
}

/// Suppresses what runs have planned and nobody has begun to send.
pub(crate) async fn drop_of_runs(
    _tx: &mut Tx,
    _tenant: &TenantId,
    runs: &[u64],
    _reason: SendReason,
    _now_us: i64,
) -> Result<(), CampaignError> {
    if runs.is_empty() { Ok(()) } else { Err(CampaignError::Stopping) }
}

/// Sends of merged persons go to the survivors.
pub(crate) async fn move_persons(_tx: &mut Tx, _tenant: &TenantId, merged: &[(u32, u32)]) -> Result<(), CampaignError> {
    if merged.is_empty() { Ok(()) } else { Err(CampaignError::Stopping) }
}

impl Service {
    /// Starts giving messages to providers.
    pub(crate) fn spawn_senders(&self, _tasks: &Tasks) {}

    /// Notes what came back, and tells it as an event, once. False: it was known, or there is no such message.
    pub(crate) async fn report(&self, _tenant: &TenantId, _report: &Report) -> Result<bool, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn list_sends_of(&self, _tenant: &Tenant, _request: ListSendsRequest) -> Result<ListSendsResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn get_send_of(&self, _tenant: &Tenant, _request: GetSendRequest) -> Result<Send, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn explain_send_of(
        &self,
        _tenant: &Tenant,
        _request: ExplainSendRequest,
    ) -> Result<ExplainSendResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }
}
