//! A send as stored: its addresses and decisions, and as the API shows it.

use segue_proto::campaign::v1::{Purpose, Send, SendAddress, SendDecision, SendState};
use segue_proto::events::v1::Identifier;
use serde::{Deserialize, Serialize};

use crate::error::CampaignError;
use crate::policies::Checked;
use crate::store::{json, number, timestamp};

/// Decisions that are kept of one send.
pub(super) const DECISIONS_MAX: usize = 100;
/// Decisions on the way; the rest of the room is for how it ended and what came back.
const DECISIONS_ON_THE_WAY_MAX: usize = 85;
/// Characters of one detail.
const DETAIL_CHARS_MAX: usize = 300;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Address {
    /// Kind of identifier; empty: the channel needs no address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) value: String,
    /// Number of a [`SendState`].
    pub(super) state: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) provider_message_id: String,
    /// What the provider said last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) error: String,
}

/// A decision: time, check, outcome, detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Decision(pub(super) i64, pub(super) String, pub(super) String, pub(super) String);

/// A send that a worker holds.
#[derive(Debug, Clone, PartialEq, Default, sqlx::FromRow)]
pub(super) struct Claimed {
    pub(super) id: String,
    pub(super) scenario: String,
    pub(super) step: String,
    pub(super) person: i64,
    pub(super) channel: String,
    pub(super) kind: i64,
    pub(super) template: String,
    pub(super) purpose: i64,
    pub(super) variant: String,
    pub(super) held_out: bool,
    pub(super) time_zone: String,
    pub(super) content: String,
    pub(super) state: i64,
    pub(super) expires_us: i64,
    /// The end of the hold.
    pub(super) due_us: i64,
    pub(super) claim: i64,
    pub(super) attempts: i64,
    pub(super) policy_version: i64,
    pub(super) counted: bool,
    pub(super) sent_us: Option<i64>,
    pub(super) addresses: String,
    pub(super) decisions: String,
}

impl Claimed {
    pub(super) fn purpose(&self) -> Purpose {
        purpose(self.purpose)
    }

    pub(super) fn person(&self) -> Result<u32, CampaignError> {
        number(self.person)
    }

    pub(super) fn addresses(&self) -> Result<Vec<Address>, CampaignError> {
        addresses(&self.addresses)
    }

    /// Some address has it.
    pub(super) fn is_sent(&self) -> bool {
        self.sent_us.is_some()
    }
}

fn purpose(stored: i64) -> Purpose {
    match i32::try_from(stored).ok().and_then(|purpose| Purpose::try_from(purpose).ok()) {
        Some(Purpose::Transactional) => Purpose::Transactional,
        Some(Purpose::Advertising | Purpose::Unspecified) | None => Purpose::Advertising,
    }
}

pub(super) fn addresses(stored: &str) -> Result<Vec<Address>, CampaignError> {
    serde_json::from_str(stored).map_err(|_| CampaignError::Corrupt { what: "addresses of a send" })
}

/// Text as it may be stored: PostgreSQL cannot store the NUL character, and providers are talkative.
pub(super) fn clean(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

pub(super) fn decisions(stored: &str) -> Result<Vec<Decision>, CampaignError> {
    let lines = stored.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).map_err(|_| CampaignError::Corrupt { what: "decisions of a send" })).collect()
}

/// What is to be added to the decisions of a send. What was decided as the last time is not said again; provider calls and what came back
/// are. `last` of all is what ends the send, or comes after it.
pub(super) fn further(stored: &str, checked: &[Checked], now_us: i64, last: bool) -> Result<String, CampaignError> {
    let known = decisions(stored)?;
    let room = if last { DECISIONS_MAX } else { DECISIONS_ON_THE_WAY_MAX };
    let mut added = String::new();
    let mut count = known.len();
    for one in checked {
        let detail = clean(&one.detail);
        let before = known.iter().rev().find(|decision| decision.1 == one.check);
        let is_repeated = before.is_some_and(|before| before.2 == one.outcome && before.3 == detail);
        let is_act = matches!(one.check, "attempt" | "callback");
        if count >= room || (is_repeated && !is_act) {
            continue;
        }
        added.push('\n');
        added.push_str(&json(&Decision(now_us, one.check.to_owned(), one.outcome.to_owned(), detail))?);
        count += 1;
    }
    Ok(added)
}

/// Columns of [`Stored`].
macro_rules! stored_columns {
    () => {
        "id, scenario, version, step, run, person, entry_key, attempt_group, channel, kind, template, purpose, variant, state, reason,
        reason_detail, planned_us, due_us, sent_us, attempts, policy_version, delivered_us, opened_us, clicked_us, addresses, decisions"
    };
}
pub(super) use stored_columns;

/// A send as it is read.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Stored {
    pub(super) id: String,
    scenario: String,
    version: i64,
    step: String,
    run: i64,
    pub(super) person: i64,
    entry_key: String,
    attempt_group: String,
    channel: String,
    kind: i64,
    template: String,
    purpose: i64,
    variant: String,
    state: i64,
    reason: i64,
    reason_detail: String,
    pub(super) planned_us: i64,
    due_us: Option<i64>,
    sent_us: Option<i64>,
    attempts: i64,
    policy_version: i64,
    delivered_us: Option<i64>,
    opened_us: Option<i64>,
    clicked_us: Option<i64>,
    addresses: String,
    decisions: String,
}

impl Stored {
    pub(super) fn show(&self) -> Result<Send, CampaignError> {
        let small = |stored: i64| i32::try_from(stored).map_err(|_| CampaignError::Corrupt { what: "number" });
        let addresses = addresses(&self.addresses)?.into_iter().map(|address| SendAddress {
            address: (!address.kind.is_empty()).then_some(Identifier { kind: address.kind, value: address.value }),
            state: address.state,
            provider_message_id: address.provider_message_id,
            error: address.error,
        });
        Ok(Send {
            id: self.id.clone(),
            scenario: self.scenario.clone(),
            version: number(self.version)?,
            step: self.step.clone(),
            // Stored bit by bit.
            run: self.run as u64,
            person: number(self.person)?,
            entry_key: self.entry_key.clone(),
            attempt_group: self.attempt_group.clone(),
            channel: self.channel.clone(),
            kind: small(self.kind)?,
            template: self.template.clone(),
            purpose: purpose(self.purpose).into(),
            variant: self.variant.clone(),
            state: small(self.state)?,
            reason: small(self.reason)?,
            reason_detail: self.reason_detail.clone(),
            planned_at: Some(timestamp(self.planned_us)),
            due_at: self.due_us.map(timestamp),
            sent_at: self.sent_us.map(timestamp),
            attempts: number(self.attempts)?,
            policy_version: number(self.policy_version)?,
            addresses: addresses.collect(),
            delivered_at: self.delivered_us.map(timestamp),
            opened_at: self.opened_us.map(timestamp),
            clicked_at: self.clicked_us.map(timestamp),
        })
    }

    /// Every decision, the oldest first.
    pub(super) fn explain(&self) -> Result<Vec<SendDecision>, CampaignError> {
        let shown = |decision: Decision| SendDecision {
            time: Some(timestamp(decision.0)),
            check: decision.1,
            outcome: decision.2,
            detail: decision.3,
        };
        let planned = format!("step `{}` of version {} of scenario `{}`, by `{}`", self.step, self.version, self.scenario, self.channel);
        let planned = Decision(self.planned_us, "planned".to_owned(), "passed".to_owned(), planned);
        Ok(std::iter::once(planned).chain(decisions(&self.decisions)?).map(shown).collect())
    }

    /// Bytes of the variable part, for pages.
    pub(super) fn bytes(&self) -> usize {
        512 + self.entry_key.len() + self.reason_detail.len() + 2 * self.addresses.len()
    }
}

/// The number under which a state is stored.
pub(super) fn stored_state(state: SendState) -> i64 {
    i64::from(i32::from(state))
}
