//! When messages may be sent: versions of a tenant's policy, and what follows from them.

use std::sync::Arc;

use chrono_tz::Tz;
use segue_model::TenantId;
use segue_proto::campaign::v1::{ChannelKind, GetSendingPolicyRequest, Purpose, SendingPolicy, UpdateSendingPolicyRequest};
use segue_runtime::Tenant;
use segue_store::Db;

use crate::error::CampaignError;
use crate::persons::Profile;
use crate::service::Service;

/// Policies of all tenants. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Policies {
    db: Db,
}

impl Policies {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// The newest version, read now; without one the default.
    pub(crate) async fn newest(&self, _tenant: &TenantId) -> Result<Arc<SendingPolicy>, CampaignError> {
        let _ = &self.db;
        Err(CampaignError::Stopping)
    }
}

/// What a decision is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'c> {
    pub(crate) kind: ChannelKind,
    pub(crate) purpose: Purpose,
    pub(crate) person: &'c Profile,
    /// The person's, or the scenario's.
    pub(crate) time_zone: Tz,
    /// The scenario holds the run out.
    pub(crate) held_out: bool,
    /// The person unsubscribed by a link.
    pub(crate) unsubscribed: bool,
}

/// One check with its result, as `SendDecision` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) check: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) detail: String,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it, if these caps leave room: day numbers are those of the person's calendar (days since 1970-01-01).
    Send {
        caps: Vec<Cap>,
    },
    WaitUntil {
        time_us: i64,
    },
    Suppress {
        reason: segue_proto::campaign::v1::SendReason,
        detail: String,
    },
}

/// At most `count` messages counted under `counter` on the days `first_day ..= day`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cap {
    /// Which messages count: the same for caps over the same kinds of channels.
    pub(crate) counter: String,
    pub(crate) count: u32,
    pub(crate) first_day: i64,
    pub(crate) day: i64,
}

/// Holdouts, consent and times, in this order; every check that was made is told.
pub(crate) fn decide(_policy: &SendingPolicy, _case: &Case<'_>, _now_us: i64, _checked: &mut Vec<Checked>) -> Verdict {
    Verdict::WaitUntil { time_us: i64::MAX }
}

/// How consents name a kind of channel; None: it needs none.
pub(crate) fn consent_channel(kind: ChannelKind) -> Option<&'static str> {
    match kind {
        ChannelKind::Email => Some("email"),
        ChannelKind::Fcm | ChannelKind::Apns => Some("push"),
        ChannelKind::Sms => Some("sms"),
        ChannelKind::Kakao => Some("kakao"),
        ChannelKind::InApp => Some("in_app"),
        ChannelKind::Webhook | ChannelKind::Unspecified => None,
    }
}

impl Service {
    pub(crate) async fn get_sending_policy_of(
        &self,
        _tenant: &Tenant,
        _request: GetSendingPolicyRequest,
    ) -> Result<SendingPolicy, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn update_sending_policy_of(
        &self,
        _tenant: &Tenant,
        _request: UpdateSendingPolicyRequest,
    ) -> Result<SendingPolicy, CampaignError> {
        Err(CampaignError::Stopping)
    }
}
