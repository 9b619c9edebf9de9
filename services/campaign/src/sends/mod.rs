//! The send ledger: planning, deciding, giving to providers, explaining.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | writing down, dropping and moving sends, in the transactions of runs |
//! | [`row`] | a send as stored: its addresses and decisions |
//! | [`claim`] | what is due, and taking hold of it |
//! | [`judge`] | pure: whether to send, to whom, and what is said about it |
//! | [`caps`] | counts of messages per person and day |
//! | [`prepare`] | from claimed sends to messages |
//! | [`commit`] | the transactions in which decisions and results become true |
//! | [`lane`] | what a process knows of a channel: its rate, its concurrency, whether its provider is down |
//! | [`deliver`] | giving messages to providers |
//! | [`worker`] | which send comes next |
//! | [`standing`] | what becomes of messages when their scenario is started again or ends |
//! | [`report`] | what came back |
//! | [`list`] | reading the ledger |
//!
//! A send is due at `due_us`; claiming it moves that to the end of the hold and counts `claim` up, so that a hold that ran out is simply due
//! again, and whoever lost it changes nothing. Every provider call is made under a hold that outlasts it.

mod caps;
mod claim;
mod commit;
mod deliver;
mod judge;
mod lane;
mod list;
mod plan;
mod prepare;
mod report;
mod row;
mod standing;
#[cfg(test)]
mod tests;
mod told;
mod worker;

use segue_proto::campaign::v1::Purpose;

pub(crate) use plan::{drop_of_runs, move_persons, plan, unmerge_persons};
pub(crate) use standing::{end, resume};
#[cfg(test)]
pub(crate) use tests::process::SendingProcess;

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

/// What a provider knows the message to one address by: the same for every attempt.
fn idempotency_key(id: &str, address: usize, addresses: usize) -> String {
    if addresses <= 1 { id.to_owned() } else { format!("{id}.{address}") }
}

const WAITING: &str = "SELECT count(*) FROM send WHERE tenant = $1 AND due_us <= $2";

/// Sends that are looked at again by then; those that somebody holds until the hold ends.
pub(crate) async fn waiting(
    db: &segue_store::Db,
    tenant: &segue_model::TenantId,
    until_us: i64,
) -> Result<u64, crate::error::CampaignError> {
    let count: i64 =
        segue_store::on_db!(db, pool => sqlx::query_scalar(WAITING).bind(tenant.as_str()).bind(until_us).fetch_one(pool).await)?;
    crate::store::counter(count)
}
