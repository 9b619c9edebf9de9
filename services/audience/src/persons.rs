//! Persons as identity knows them, asked for on behalf of a tenant.

use std::time::Duration;

use segue_model::{Code, TenantId};
use segue_proto::identity::v1::get_person_request::Who;
use segue_proto::identity::v1::{BatchGetPersonsRequest, GetPersonRequest, Person};
use segue_runtime::peers::{PeerError, request};

use crate::error::{AudienceError, Kind};
use crate::peers::Peers;

/// Persons that identity gives at once.
pub(crate) const AT_ONCE: usize = 1_000;
/// How long identity may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// These persons, at most [`AT_ONCE`], in their order. Who was merged is the survivor, who never was is empty.
pub(crate) async fn get(peers: &Peers, tenant: &TenantId, numbers: Vec<u32>) -> Result<Vec<Person>, AudienceError> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let asked = numbers.len();
    let request = request(tenant, BatchGetPersonsRequest { numbers }, TIMEOUT);
    let answer = peers.identity().batch_get_persons(request).await.map_err(PeerError::identity)?.into_inner();
    if answer.persons.len() != asked {
        let status = tonic::Status::internal(format!("{} persons for {asked} numbers", answer.persons.len()));
        return Err(PeerError::identity(status).into());
    }
    Ok(answer.persons)
}

/// The number that a person has now: its own, or that of whom it was merged into.
pub(crate) async fn survivor(peers: &Peers, tenant: &TenantId, number: u32) -> Result<u32, AudienceError> {
    let request = request(tenant, GetPersonRequest { who: Some(Who::Number(number)) }, TIMEOUT);
    match peers.identity().get_person(request).await.map_err(PeerError::identity) {
        Ok(person) => Ok(person.into_inner().number),
        Err(error) if error.code() == Code::NotFound => Err(AudienceError::not_found(Kind::Person, number.to_string())),
        Err(error) => Err(error.into()),
    }
}
