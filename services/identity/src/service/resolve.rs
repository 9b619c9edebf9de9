//! ResolveBatch: the message becomes subjects here, on the caller's own task; the writer does the rest.
//! A batch that was resolved already is answered even when the tenant's switch is off.

use segue_model::identifier::PERSON_ID;
use segue_model::{FieldViolation, TenantId};
use segue_proto::events::v1::EventKind;
use segue_proto::identity::v1::{ResolveBatchRequest, ResolveBatchResponse, Subject as SubjectProto};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Identity;
use crate::Config;
use crate::error::IdentityError;
use crate::identifier::{Identifiers, Kind};
use crate::rules::{Previous, Subject};
use crate::store::load;
use crate::writer::{Batch, Job};

impl Identity {
    pub(super) async fn resolve(&self, tenant: TenantId, request: ResolveBatchRequest) -> Result<ResolveBatchResponse, IdentityError> {
        let batch = parse(&self.config, &self.identifiers, request)?;
        let (reply, outcome) = oneshot::channel();
        Ok(self.submit(Job::Resolve { tenant, batch, reply }, outcome).await?.into_proto())
    }

    /// For a tenant whose switch is off: the answer, if this batch was the last that was resolved for its source. Ingest may
    /// have written a part of what follows from it, and must be able to write the rest. Nothing new is resolved.
    pub(super) async fn resolved_before(
        &self,
        tenant: TenantId,
        request: ResolveBatchRequest,
    ) -> Result<ResolveBatchResponse, IdentityError> {
        let batch = parse(&self.config, &self.identifiers, request)?;
        // One state of the database: sequence and answer belong together.
        let mut tx = self.db.read().await?;
        if load::last_sequence(&mut tx, &tenant, &batch.source).await? != Some(batch.sequence) {
            return Err(IdentityError::ModuleDisabled { tenant });
        }
        Ok(load::last_answer(&mut tx, &tenant, &batch.source).await?.into_proto())
    }
}

/// The batch as the rules read it.
pub(crate) fn parse(config: &Config, identifiers: &Identifiers, request: ResolveBatchRequest) -> Result<Batch, IdentityError> {
    let mut faults = Vec::new();
    if request.source.is_empty() || request.source.len() > 128 || request.source.contains('\0') {
        faults.push(FieldViolation::new("source", "must be 1 to 128 bytes"));
    }
    if i64::try_from(request.sequence).is_err() {
        faults.push(FieldViolation::new("sequence", "must be at most 9223372036854775807"));
    }
    if request.subjects.len() > config.subjects_max {
        faults.push(FieldViolation::new("subjects", format!("must be at most {}", config.subjects_max)));
    }
    if !faults.is_empty() {
        return Err(IdentityError::Invalid(faults));
    }
    let subjects = request.subjects.into_iter().map(|subject| parse_subject(identifiers, subject)).collect();
    Ok(Batch { source: request.source, sequence: request.sequence, subjects })
}

/// Ingest has checked sizes when it took the event in; what names nobody is left out here.
fn parse_subject(identifiers: &Identifiers, subject: SubjectProto) -> Subject {
    let kind = subject.kind();
    let stable = subject.identifiers.iter().filter(|id| id.kind == PERSON_ID);
    let named = stable.filter_map(|id| Uuid::try_parse(&id.value).ok()).collect();
    let mut ids: Vec<_> = subject.identifiers.into_iter().filter_map(|id| identifiers.linkable(id)).collect();
    // Stable: of equally strong ones the first stays first.
    ids.sort_by(|a, b| a.kind.cmp(&b.kind));
    if ids.len() > 1 {
        let mut seen = Vec::with_capacity(ids.len());
        ids.retain(|id| {
            !seen.contains(&id.key) && {
                seen.push(id.key);
                true
            }
        });
    }
    let account = if kind == EventKind::Group { identifiers.account(subject.account_id) } else { None };
    let previous = match kind {
        EventKind::Alias => identifiers.parse(Kind::UserId.name(), subject.previous_id).map(|user| {
            let anonymous = identifiers.id(Kind::AnonymousId, user.value.clone());
            Previous { user, anonymous }
        }),
        EventKind::Unspecified | EventKind::Track | EventKind::Identify | EventKind::Page | EventKind::Screen | EventKind::Group => None,
    };
    // Maps have no order; the order of names makes runs repeatable.
    let mut traits: Vec<_> = subject.traits.into_iter().filter(|(name, _)| !name.contains('\0')).collect();
    traits.sort_by(|a, b| a.0.cmp(&b.0));
    Subject { named, ids, time_us: subject.time_us, kind, traits, account, previous, logout: subject.logout }
}
