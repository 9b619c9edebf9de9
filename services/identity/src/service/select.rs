//! Many persons at once: by numbers, by identifiers, by what they have.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use segue_model::identifier::is_kind;
use segue_model::{FieldViolation, TenantId};
use segue_proto::identity::v1::{
    BatchGetPersonsRequest, BatchGetPersonsResponse, LookupIdentifiersRequest, LookupIdentifiersResponse, Person, SelectIdentifiedRequest,
    SelectIdentifiedResponse, SelectSurvivorsRequest, SelectSurvivorsResponse,
};

use super::Identity;
use crate::error::IdentityError;
use crate::store::{read, select};

/// Persons of one [`BatchGetPersonsRequest`].
const PERSONS_MAX: usize = 1_000;
/// Identifiers of one [`LookupIdentifiersRequest`].
const IDENTIFIERS_MAX: usize = 10_000;
/// Kinds of one [`SelectIdentifiedRequest`].
const KINDS_MAX: usize = 20;
/// Of a set of persons, serialised.
const SET_BYTES_MAX: usize = 8 << 20;
/// Numbers of one [`SelectSurvivorsRequest`].
const NUMBERS_MAX: u64 = 100_000;

impl Identity {
    pub(super) async fn persons_of_numbers(
        &self,
        tenant: &TenantId,
        request: BatchGetPersonsRequest,
    ) -> Result<BatchGetPersonsResponse, IdentityError> {
        limit("numbers", request.numbers.len(), PERSONS_MAX)?;
        let (persons, root_of) = read::find_by_numbers(&self.db, tenant, &request.numbers).await?;
        let persons: HashMap<u32, Person> = persons.into_iter().map(|person| (person.number, person)).collect();
        let person = |number: &u32| root_of.get(number).and_then(|root| persons.get(root)).cloned().unwrap_or_default();
        Ok(BatchGetPersonsResponse { persons: request.numbers.iter().map(person).collect() })
    }

    pub(super) async fn lookup(
        &self,
        tenant: &TenantId,
        request: LookupIdentifiersRequest,
    ) -> Result<LookupIdentifiersResponse, IdentityError> {
        limit("identifiers", request.identifiers.len(), IDENTIFIERS_MAX)?;
        Ok(LookupIdentifiersResponse { persons: select::persons_of_identifiers(&self.db, tenant, &request.identifiers).await? })
    }

    pub(super) async fn identified(
        &self,
        tenant: &TenantId,
        request: SelectIdentifiedRequest,
    ) -> Result<SelectIdentifiedResponse, IdentityError> {
        limit("kinds", request.kinds.len(), KINDS_MAX)?;
        let no_kind = |(at, _): (usize, &String)| FieldViolation::new(format!("kinds[{at}]"), "1 to 64 characters of a-z, 0-9 and '_'");
        let faults: Vec<FieldViolation> = request.kinds.iter().enumerate().filter(|(_, kind)| !is_kind(kind)).map(no_kind).collect();
        if !faults.is_empty() {
            return Err(IdentityError::Invalid(faults));
        }
        let within = if request.within.is_empty() { None } else { Some(set("within", &request.within)?) };
        let found = select::identified(&self.db, tenant, &request.kinds, within).await?;
        Ok(SelectIdentifiedResponse { persons: found.iter().map(bytes_of).collect() })
    }

    pub(super) async fn survivors(
        &self,
        tenant: &TenantId,
        request: SelectSurvivorsRequest,
    ) -> Result<SelectSurvivorsResponse, IdentityError> {
        let numbers = set("numbers", &request.numbers)?;
        if numbers.len() > NUMBERS_MAX {
            return Err(IdentityError::field("numbers", format!("at most {NUMBERS_MAX} numbers: ask for them in parts")));
        }
        let (survivors, merged) = select::survivors(&self.db, tenant, &numbers).await?;
        let (merged, merged_into) = merged.into_iter().unzip();
        Ok(SelectSurvivorsResponse { survivors: bytes_of(&survivors), merged, merged_into })
    }
}

fn limit(field: &str, given: usize, most: usize) -> Result<(), IdentityError> {
    if (1..=most).contains(&given) { Ok(()) } else { Err(IdentityError::field(field, format!("1 to {most} of them"))) }
}

/// Reads a set of persons.
fn set(field: &str, bytes: &[u8]) -> Result<RoaringBitmap, IdentityError> {
    if bytes.len() > SET_BYTES_MAX {
        return Err(IdentityError::field(field, format!("at most {SET_BYTES_MAX} bytes")));
    }
    let mut rest = bytes;
    match RoaringBitmap::deserialize_from(&mut rest) {
        Ok(persons) if rest.is_empty() => Ok(persons),
        Ok(_) | Err(_) => Err(IdentityError::field(field, "not a Roaring bitmap in its portable serialisation")),
    }
}

fn bytes_of(persons: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(persons.serialized_size());
    // Writing to memory does not fail.
    let _ = persons.serialize_into(&mut bytes);
    bytes
}
