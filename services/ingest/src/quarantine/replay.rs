//! Replaying: correct, check again, append what is good now, and only then remove it from quarantine.

use segue_model::TenantId;
use segue_proto::events::v1::AcceptedEvent;
use segue_proto::ingest::v1::{CorrectionRule, ReplayQuarantinedRequest, ReplayQuarantinedResponse};

use super::{Quarantine, Walk, correction, read_selection};
use crate::IngestError;
use crate::accept::{Candidate, Origin, Verdict};
use crate::store::quarantine::{self as store, Entry};
use crate::taxonomy::{NewNames, Snapshot};

impl Quarantine {
    pub(crate) async fn replay(
        &self,
        tenant: &TenantId,
        request: ReplayQuarantinedRequest,
    ) -> Result<ReplayQuarantinedResponse, IngestError> {
        let selection = read_selection(request.selection)?;
        let rules = store::list_rules(&self.db, tenant, 0, self.config.rules_max as usize).await?;
        let rules: Vec<CorrectionRule> = rules.into_iter().map(|(_, rule)| rule).collect();
        let mut response = ReplayQuarantinedResponse::default();
        let mut walk = Walk::until(self.clock.now_us());
        while let Some(entries) = walk.next(&self.db, tenant, &selection).await? {
            let (accepted, faulty) = self.replay_some(tenant, entries, &rules).await?;
            response.accepted += accepted;
            response.still_quarantined += faulty;
        }
        Ok(response)
    }

    async fn replay_some(&self, tenant: &TenantId, entries: Vec<Entry>, rules: &[CorrectionRule]) -> Result<(u64, u64), IngestError> {
        let mut snapshot = self.taxonomies.snapshot(tenant).await?;
        let mut new = NewNames::default();
        let mut checked: Vec<(Entry, Candidate, Verdict)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let (candidate, verdict) = self.check_entry(&entry, rules, &snapshot, Some(&mut new));
            checked.push((entry, candidate, verdict));
        }
        if !new.is_empty() {
            snapshot = self.taxonomies.register(tenant, new).await?;
            for (entry, candidate, verdict) in &mut checked {
                if matches!(verdict, Verdict::Unknown) {
                    (*candidate, *verdict) = self.check_entry(entry, rules, &snapshot, None);
                }
            }
        }

        let (mut good, mut keys, mut faulty) = (Vec::new(), Vec::new(), Vec::new());
        for (entry, candidate, verdict) in checked {
            match verdict {
                Verdict::Accepted { warnings: _, unregistered } => {
                    keys.push((entry.id, entry.revision));
                    good.push(AcceptedEvent {
                        event: Some(candidate.event),
                        received_at_us: entry.received_at_us,
                        unregistered,
                        time_is_final: true,
                    });
                }
                Verdict::Quarantined(reasons) | Verdict::Rejected(reasons) => faulty.push(Entry { reasons, ..entry }),
                Verdict::Unknown => faulty.push(entry),
            }
        }
        let counts = (good.len() as u64, faulty.len() as u64);
        if !good.is_empty() {
            self.accept.append_checked(tenant, good).await?;
            store::delete(&self.db, tenant, &keys).await?;
        }
        store::update_reasons(&self.db, tenant, faulty).await?;
        Ok(counts)
    }

    fn check_entry(
        &self,
        entry: &Entry,
        rules: &[CorrectionRule],
        snapshot: &Snapshot,
        new: Option<&mut NewNames>,
    ) -> (Candidate, Verdict) {
        let corrected = correction::apply(entry.event.clone(), &entry.reasons, entry.received_at_us, entry.time_is_final, rules, snapshot);
        let mut candidate = Candidate { event: corrected.event, faults: corrected.still_unreadable, unreadable: false };
        let origin = Origin { received_at_us: entry.received_at_us, trusted_time: true, ..Origin::default() };
        let verdict = self.accept.check_again(&mut candidate, &origin, snapshot, new);
        (candidate, verdict)
    }
}
