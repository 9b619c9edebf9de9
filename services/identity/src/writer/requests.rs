//! What is changed on request rather than by events: merges, consents, identifiers taken away.

use segue_model::TenantId;
use segue_store::Tx;

use super::job::{Merge, Outcome, Unlink, Whom};
use super::{Group, Writer};
use crate::consent::Consent;
use crate::error::IdentityError;
use crate::registry::{Registry, RegistryError};
use crate::store::load;

impl Writer {
    pub(super) async fn merge(
        &mut self,
        tx: &mut Tx,
        group: &mut Group,
        tenant: &TenantId,
        merge: &Merge,
    ) -> Result<Result<Outcome, IdentityError>, IdentityError> {
        let registry = &mut self.known.entry(tenant.clone()).or_default().registry;
        let pair = (merge.from, merge.into);
        if [merge.from, merge.into].into_iter().any(|number| registry.missing_for(number).is_some()) {
            return Ok(Err(IdentityError::PersonNotFound));
        }
        let (from, into) = (registry.root(merge.from)?, registry.root(merge.into)?);
        if !merge.request_id.is_empty() {
            let in_group = group.requests.iter().find(|(of, id, _)| of == tenant && *id == merge.request_id).map(|(_, _, pair)| *pair);
            let done = match in_group {
                Some(pair) => Some(pair),
                None => load::merge_request(tx, tenant, &merge.request_id).await?,
            };
            match done {
                Some(done) if done == pair => return Ok(Ok(Outcome::Survivor(into))),
                Some((from, into)) => return Ok(Err(IdentityError::RequestIdReused { from, into })),
                None => {}
            }
        }
        if from != into {
            if !merge.force && !registry.person(from)?.is_anonymous() && !registry.person(into)?.is_anonymous() {
                return Ok(Err(IdentityError::BothHaveUserId { from, into }));
            }
            let effects = group.effects.entry(tenant.clone()).or_default();
            self.deps.rules.merge(registry, effects, from, into, self.deps.clock.now_us(), &merge.reason)?;
        }
        if !merge.request_id.is_empty() {
            group.requests.push((tenant.clone(), merge.request_id.clone(), pair));
        }
        Ok(Ok(Outcome::Survivor(into)))
    }

    pub(super) fn set_consents(
        &mut self,
        group: &mut Group,
        tenant: &TenantId,
        said: &[(Whom, Consent)],
    ) -> Result<Result<Outcome, IdentityError>, IdentityError> {
        let registry = &mut self.known.entry(tenant.clone()).or_default().registry;
        let mut found = Vec::with_capacity(said.len());
        for (at, (whom, consent)) in said.iter().enumerate() {
            match number_of(registry, whom)? {
                // Under the number that was named: a merge that is undone takes it along.
                Some(number) => found.push((number, consent.clone())),
                None => return Ok(Err(IdentityError::NamesNobody { field: format!("consents[{at}]") })),
            }
        }
        group.effects.entry(tenant.clone()).or_default().consents.extend(found);
        Ok(Ok(Outcome::Done))
    }

    pub(super) fn unlink(
        &mut self,
        group: &mut Group,
        tenant: &TenantId,
        unlink: &Unlink,
    ) -> Result<Result<Outcome, IdentityError>, IdentityError> {
        let registry = &mut self.known.entry(tenant.clone()).or_default().registry;
        let owner = registry.owner(unlink.id.key)?;
        let meant = match unlink.person {
            0 => owner,
            person if registry.missing_for(person).is_some() => 0,
            person => registry.root(person)?,
        };
        if owner == 0 || owner != meant {
            return Ok(Err(IdentityError::IdentifierNotFound));
        }
        let effects = group.effects.entry(tenant.clone()).or_default();
        self.deps.rules.unlink(registry, effects, &unlink.id, self.deps.clock.now_us(), &unlink.reason)?;
        Ok(Ok(Outcome::Done))
    }
}

/// The number that a request names, which may have been merged; `None` if it names nobody. Everything must be loaded.
fn number_of(registry: &mut Registry, whom: &Whom) -> Result<Option<u32>, RegistryError> {
    let number = match whom {
        Whom::Number(number) => Some(*number),
        Whom::Id(id) => registry.number_of(id),
        Whom::Identifier(id) => Some(registry.link(id.key)?.person),
    };
    Ok(number.filter(|number| registry.missing_for(*number).is_none()))
}
