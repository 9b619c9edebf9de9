//! Whose numbers are: a number that was kept while persons were merged means the survivor.

use std::collections::BTreeMap;
use std::time::Duration;

use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_proto::identity::v1::SelectSurvivorsRequest;
use segue_runtime::peers::{PeerError, request};
use tonic::Status;

use super::Definitions;
use crate::error::AudienceError;
use crate::lists::chunks;

/// Numbers that identity takes at once.
pub(crate) const ASKED_MAX: usize = 100_000;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Persons and all their numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Persons {
    /// The persons.
    pub(crate) survivors: RoaringBitmap,
    /// The survivor of each number that was merged into one of them.
    pub(crate) merged: BTreeMap<u32, u32>,
}

impl Persons {
    /// The survivor that a number means, if it is one of these persons.
    pub(crate) fn survivor_of(&self, number: u32) -> Option<u32> {
        self.merged.get(&number).copied().or_else(|| self.survivors.contains(number).then_some(number))
    }

    /// All their numbers.
    pub(crate) fn numbers(&self) -> RoaringBitmap {
        &self.survivors | self.merged.keys().copied().collect::<RoaringBitmap>()
    }
}

impl Definitions {
    /// The persons that these numbers mean; numbers that were never given out mean nobody.
    pub(crate) async fn persons_of(&self, tenant: &TenantId, numbers: &RoaringBitmap) -> Result<Persons, AudienceError> {
        let mut persons = Persons::default();
        let mut rest = numbers.iter();
        loop {
            let mut part = RoaringBitmap::new();
            // Ascending, so it cannot fail.
            let _ = part.append(rest.by_ref().take(ASKED_MAX));
            if part.is_empty() {
                return Ok(persons);
            }
            let message = SelectSurvivorsRequest { numbers: chunks::encode(&part) };
            let answer = self.peers.identity().select_survivors(request(tenant, message, TIMEOUT)).await;
            let answer = answer.map_err(PeerError::identity)?.into_inner();
            persons.survivors |= chunks::decode(&answer.survivors).map_err(|_| damaged())?;
            persons.merged.extend(answer.merged.into_iter().zip(answer.merged_into));
        }
    }
}

/// The answer cannot be read.
pub(crate) fn damaged() -> PeerError {
    PeerError::identity(Status::internal("an answer that is none to what was asked"))
}
