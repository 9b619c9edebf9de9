//! When messages may be sent: versions of a tenant's policy, and what follows from them.
//!
//! [`decide`] is pure; `times` knows when a rule of times applies and when it ends, `check` what a policy may say. Caps are only named
//! here: whoever records the send counts, in the same transaction.

mod check;
mod decide;
mod times;

use std::sync::Arc;

use prost::Message;
use segue_model::TenantId;
use segue_proto::campaign::v1::{ChannelKind, GetSendingPolicyRequest, Purpose, SendingPolicy, TimeRule, UpdateSendingPolicyRequest};
use segue_runtime::{Tenant, fields};
use segue_store::{Db, Run, on_db, on_writer};

pub(crate) use decide::{Cap, Case, Checked, Verdict, decide, quiet_from};

use crate::error::{CampaignError, Kind};
use crate::service::Service;
use crate::store::{number, timestamp};

const NEWEST: &str = "SELECT version, content, created_us FROM sending_policy WHERE tenant = $1 ORDER BY version DESC LIMIT 1";
const FIND: &str = "SELECT version, content, created_us FROM sending_policy WHERE tenant = $1 AND version = $2";
const ADD: &str = "INSERT INTO sending_policy (tenant, version, content, created_us) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";

/// What errors call the one policy of a tenant.
const ID: &str = "sending";

type Row = (i64, Vec<u8>, i64);

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
    pub(crate) async fn newest(&self, tenant: &TenantId) -> Result<Arc<SendingPolicy>, CampaignError> {
        let row: Option<Row> = on_db!(self.db, pool => sqlx::query_as(NEWEST).bind(tenant.as_str()).fetch_optional(pool).await)?;
        Ok(Arc::new(row.map(policy).transpose()?.unwrap_or_else(default)))
    }

    async fn version(&self, tenant: &TenantId, version: u32) -> Result<Option<SendingPolicy>, CampaignError> {
        let version = i64::from(version);
        let row: Option<Row> =
            on_db!(self.db, pool => sqlx::query_as(FIND).bind(tenant.as_str()).bind(version).fetch_optional(pool).await)?;
        row.map(policy).transpose()
    }

    /// The version after `before`. What is the same already stays as it is.
    async fn replace(
        &self,
        tenant: &TenantId,
        before: &SendingPolicy,
        wanted: SendingPolicy,
        now_us: i64,
    ) -> Result<SendingPolicy, CampaignError> {
        if !wanted.etag.is_empty() && wanted.etag != before.etag {
            return Err(changed_meanwhile());
        }
        let wanted = content(wanted);
        if wanted == content(before.clone()) {
            return Ok(before.clone());
        }
        let version = i64::from(before.version) + 1;
        let bytes = wanted.encode_to_vec();
        let added = on_writer!(self.db, pool => sqlx::query(ADD)
            .bind(tenant.as_str()).bind(version).bind(&bytes).bind(now_us).run(pool).await)?;
        if added == 0 {
            return Err(changed_meanwhile());
        }
        policy((version, bytes, now_us))
    }
}

fn changed_meanwhile() -> CampaignError {
    CampaignError::EtagMismatch { kind: Kind::Policy, id: ID.to_owned() }
}

/// What a version says, without what says which version it is.
fn content(policy: SendingPolicy) -> SendingPolicy {
    SendingPolicy { version: 0, created_at: None, etag: String::new(), ..policy }
}

fn policy((version, content, created_us): Row) -> Result<SendingPolicy, CampaignError> {
    let content = SendingPolicy::decode(content.as_slice()).map_err(|_| CampaignError::Corrupt { what: "policy" })?;
    let version = number(version)?;
    let etag = fields::etag("policy", ID, version.into(), created_us);
    Ok(SendingPolicy { version, created_at: Some(timestamp(created_us)), etag, ..content })
}

/// What holds before the first update: Korea's rule for nights, unknown consent is no, no caps.
fn default() -> SendingPolicy {
    let night = TimeRule {
        name: "night".to_owned(),
        from: "21:00".to_owned(),
        to: "08:00".to_owned(),
        purpose: Purpose::Advertising.into(),
        unless_consent: "night_advertising".to_owned(),
        time_zone: "Asia/Seoul".to_owned(),
        ..TimeRule::default()
    };
    SendingPolicy { times: vec![night], etag: fields::etag("policy", ID, 0, 0), ..SendingPolicy::default() }
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
        tenant: &Tenant,
        request: GetSendingPolicyRequest,
    ) -> Result<SendingPolicy, CampaignError> {
        if request.version == 0 {
            return self.policies.newest(&tenant.id).await.map(Arc::unwrap_or_clone);
        }
        let found = self.policies.version(&tenant.id, request.version).await?;
        found.ok_or_else(|| CampaignError::not_found(Kind::Policy, format!("{ID} version {}", request.version)))
    }

    pub(crate) async fn update_sending_policy_of(
        &self,
        tenant: &Tenant,
        request: UpdateSendingPolicyRequest,
    ) -> Result<SendingPolicy, CampaignError> {
        let wanted = request.policy.ok_or_else(|| CampaignError::field("policy", "required"))?;
        check::policy(&wanted)?;
        let before = self.policies.newest(&tenant.id).await?;
        self.policies.replace(&tenant.id, &before, wanted, self.clock.now_us()).await
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use segue_model::FieldViolation;
    use segue_proto::campaign::v1::FrequencyCap;
    use segue_testkit::stores;

    use super::*;
    use crate::store::{MIGRATIONS, NAMESPACE};

    #[tokio::test]
    async fn versions_are_appended_and_old_ones_stay_readable() -> Result<()> {
        for store in stores() {
            let policies = Policies::new(store.open(NAMESPACE, MIGRATIONS).await?);
            let shop: TenantId = "shop".parse()?;
            let first = policies.newest(&shop).await?;
            assert_eq!((first.version, first.times.len(), first.caps.len()), (0, 1, 0));
            assert!(!first.unknown_consent_is_yes);
            let wanted = SendingPolicy { global_holdout: 500, etag: first.etag.clone(), ..SendingPolicy::default() };
            let second = policies.replace(&shop, &first, wanted.clone(), 5_000_000).await?;
            assert_eq!((second.version, second.global_holdout, second.times.len()), (1, 500, 0));
            assert_eq!(second.created_at.map(|at| at.seconds), Some(5));
            assert_eq!(*policies.newest(&shop).await?, second);
            let raced = policies.replace(&shop, &first, wanted.clone(), 6_000_000).await;
            assert!(matches!(raced, Err(CampaignError::EtagMismatch { .. })), "two updates of one version: one of them is told");
            let stale = policies.replace(&shop, &second, wanted, 6_000_000).await;
            assert!(matches!(stale, Err(CampaignError::EtagMismatch { .. })));
            let same = SendingPolicy { global_holdout: 500, ..SendingPolicy::default() };
            assert_eq!(policies.replace(&shop, &second, same, 6_000_000).await?, second, "the same is no version");
            let cap = FrequencyCap { count: 3, days: 7, kinds: Vec::new() };
            let third = policies.replace(&shop, &second, SendingPolicy { caps: vec![cap], ..second.clone() }, 7_000_000).await?;
            assert_eq!((third.version, third.global_holdout), (2, 500));
            assert_eq!(policies.version(&shop, 1).await?, Some(second));
            assert_eq!(policies.version(&shop, 3).await?, None);
            assert_eq!(policies.newest(&"other".parse()?).await?.version, 0, "another tenant has its own");
        }
        Ok(())
    }

    #[test]
    fn the_default_may_be_written_and_every_fault_is_told_with_its_path() {
        assert!(check::policy(&default()).is_ok());
        let faulty = SendingPolicy {
            global_holdout: 10_001,
            caps: vec![
                FrequencyCap { count: 0, days: 32, kinds: vec![ChannelKind::Email.into(), ChannelKind::Email.into(), 99, 0] },
                FrequencyCap { count: 1, days: 1, kinds: Vec::new() },
            ],
            times: vec![
                TimeRule { name: String::new(), from: "24:00".to_owned(), to: "8:00".to_owned(), ..TimeRule::default() },
                TimeRule {
                    name: "x".to_owned(),
                    from: "08:00".to_owned(),
                    to: "08:00".to_owned(),
                    purpose: 9,
                    unless_consent: "Night!".to_owned(),
                    time_zone: "Asia/Nowhere".to_owned(),
                    ..TimeRule::default()
                },
            ],
            ..SendingPolicy::default()
        };
        let Err(CampaignError::Invalid(faults)) = check::policy(&faulty) else { panic!("it is faulty") };
        let paths: Vec<&str> = faults.iter().map(|FieldViolation { field, .. }| field.as_str()).collect();
        assert_eq!(
            paths,
            [
                "policy.global_holdout",
                "policy.caps[0].count",
                "policy.caps[0].days",
                "policy.caps[0].kinds[1]",
                "policy.caps[0].kinds[2]",
                "policy.caps[0].kinds[3]",
                "policy.times[0].name",
                "policy.times[0].from",
                "policy.times[0].to",
                "policy.times[1].to",
                "policy.times[1].purpose",
                "policy.times[1].unless_consent",
                "policy.times[1].time_zone",
            ]
        );
        let many = SendingPolicy { times: vec![default().times.remove(0); 21], ..SendingPolicy::default() };
        let Err(CampaignError::Invalid(faults)) = check::policy(&many) else { panic!("too many") };
        assert_eq!(faults.len(), 1);
    }
}
