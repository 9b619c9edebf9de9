//! Reading persons and the link log, merging and taking identifiers away on request.

use segue_model::identifier::PERSON_ID;
use segue_model::{FieldViolation, TenantId};
use segue_proto::identity::v1::get_person_request::Who;
use segue_proto::identity::v1::{
    GetIdentityStatusResponse, GetPersonRequest, ListLinkRecordsRequest, ListLinkRecordsResponse, ListPersonsRequest, ListPersonsResponse,
    MergePersonsRequest, MergePersonsResponse, Person, UnlinkIdentifierRequest, UnlinkIdentifierResponse,
};
use segue_runtime::page;
use tokio::sync::oneshot;

use super::Identity;
use crate::error::IdentityError;
use crate::store::read;
use crate::writer::{Job, Merge, Unlink};

const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 1_000;
const TEXT_BYTES_MAX: usize = 512;
/// Why an identifier is taken away.
const REASON_BYTES_MAX: usize = 256;

impl Identity {
    pub(super) async fn person(&self, tenant: &TenantId, request: GetPersonRequest) -> Result<Person, IdentityError> {
        let found = match request.who {
            Some(Who::Number(number)) => read::find_by_number(&self.db, tenant, number).await?,
            Some(Who::Identifier(id)) if id.kind == PERSON_ID => read::find_by_id(&self.db, tenant, &id.value).await?,
            Some(Who::Identifier(id)) if id.kind.contains('\0') || id.value.contains('\0') => None,
            Some(Who::Identifier(id)) => read::find_by_identifier(&self.db, tenant, &id.kind, &id.value).await?,
            None => return Err(IdentityError::field("who", "is missing; set `number` or `identifier`")),
        };
        found.ok_or(IdentityError::PersonNotFound)
    }

    pub(super) async fn persons(&self, tenant: &TenantId, request: ListPersonsRequest) -> Result<ListPersonsResponse, IdentityError> {
        let size = page_size(request.page_size)?;
        let after: u32 = page_token(&request.page_token)?;
        let mut persons = read::list_persons(&self.db, tenant, after, size as i64 + 1).await?;
        let next_page_token = page::cut(&mut persons, size, |person| person.number.to_string());
        Ok(ListPersonsResponse { persons, next_page_token })
    }

    pub(super) async fn link_records(
        &self,
        tenant: &TenantId,
        request: ListLinkRecordsRequest,
    ) -> Result<ListLinkRecordsResponse, IdentityError> {
        let size = page_size(request.page_size)?;
        let after: u64 = page_token(&request.page_token)?;
        let person = Some(request.person).filter(|person| *person != 0);
        let mut records = read::list_links(&self.db, tenant, person, after, size as i64 + 1).await?;
        let next_page_token = page::cut(&mut records, size, |record| record.sequence.to_string());
        Ok(ListLinkRecordsResponse { records, next_page_token })
    }

    pub(super) async fn merge(&self, tenant: TenantId, request: MergePersonsRequest) -> Result<MergePersonsResponse, IdentityError> {
        let mut faults = Vec::new();
        for (field, number) in [("from", request.from), ("into", request.into)] {
            if number == 0 {
                faults.push(FieldViolation::new(field, "is missing; set the number of a person"));
            }
        }
        if request.from == request.into && request.from != 0 {
            faults.push(FieldViolation::new("into", "must be another person than `from`"));
        }
        for (field, text) in [("reason", &request.reason), ("request_id", &request.request_id)] {
            if text.len() > TEXT_BYTES_MAX || text.contains('\0') {
                faults.push(FieldViolation::new(field, format!("must be text of at most {TEXT_BYTES_MAX} bytes")));
            }
        }
        if !faults.is_empty() {
            return Err(IdentityError::Invalid(faults));
        }
        let reason = if request.reason.is_empty() { "merged on request".to_owned() } else { request.reason };
        let merge = Merge { from: request.from, into: request.into, force: request.force, reason, request_id: request.request_id };
        let (reply, outcome) = oneshot::channel();
        let survivor = self.submit(Job::Merge { tenant: tenant.clone(), merge, reply }, outcome).await?;
        let person = read::find_by_number(&self.db, &tenant, survivor).await?;
        Ok(MergePersonsResponse { person: Some(person.ok_or(IdentityError::PersonNotFound)?) })
    }

    pub(super) async fn unlink(
        &self,
        tenant: TenantId,
        request: UnlinkIdentifierRequest,
    ) -> Result<UnlinkIdentifierResponse, IdentityError> {
        let mut faults = Vec::new();
        let identifier = request.identifier.unwrap_or_default();
        if identifier.kind.is_empty() {
            faults.push(FieldViolation::new("identifier", "is missing; set `kind` and `value`"));
        } else if identifier.kind == PERSON_ID {
            faults.push(FieldViolation::new("identifier.kind", "is no identifier that was linked: a person keeps its stable id"));
        }
        if request.reason.len() > REASON_BYTES_MAX || request.reason.contains('\0') {
            faults.push(FieldViolation::new("reason", format!("must be text of at most {REASON_BYTES_MAX} bytes")));
        }
        if !faults.is_empty() {
            return Err(IdentityError::Invalid(faults));
        }
        // What names nobody was never linked.
        let id = self.identifiers.linkable(identifier).ok_or(IdentityError::IdentifierNotFound)?;
        let reason = if request.reason.is_empty() { "taken away on request".to_owned() } else { request.reason };
        let (reply, outcome) = oneshot::channel();
        self.submit(Job::Unlink { tenant, unlink: Unlink { id, person: request.person, reason }, reply }, outcome).await?;
        Ok(UnlinkIdentifierResponse {})
    }

    pub(super) async fn status(&self, tenant: &TenantId) -> Result<GetIdentityStatusResponse, IdentityError> {
        read::status(&self.db, tenant).await
    }
}

pub(super) fn page_size(asked: i32) -> Result<usize, IdentityError> {
    Ok(page::size(asked, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)?)
}

fn page_token<T: std::str::FromStr + Default>(token: &str) -> Result<T, IdentityError> {
    if token.is_empty() {
        return Ok(T::default());
    }
    Ok(token.parse().map_err(|_| page::bad_token())?)
}
