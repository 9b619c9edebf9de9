//! Reading persons and the link log, and merging on request.

use segue_model::{FieldViolation, TenantId};
use segue_proto::identity::v1::get_person_request::Who;
use segue_proto::identity::v1::{
    GetIdentityStatusResponse, GetPersonRequest, ListLinkRecordsRequest, ListLinkRecordsResponse, ListPersonsRequest, ListPersonsResponse,
    MergePersonsRequest, MergePersonsResponse, Person,
};
use tokio::sync::oneshot;

use super::Identity;
use crate::error::IdentityError;
use crate::store::read;
use crate::writer::{Job, Merge};

const PAGE_SIZE_DEFAULT: i32 = 50;
const PAGE_SIZE_MAX: i32 = 1_000;
const TEXT_BYTES_MAX: usize = 512;

impl Identity {
    pub(super) async fn person(&self, tenant: &TenantId, request: GetPersonRequest) -> Result<Person, IdentityError> {
        let found = match request.who {
            Some(Who::Number(number)) => read::find_by_number(&self.db, tenant, number).await?,
            Some(Who::Identifier(id)) if id.kind.contains('\0') || id.value.contains('\0') => None,
            Some(Who::Identifier(id)) => read::find_by_identifier(&self.db, tenant, &id.kind, &id.value).await?,
            None => return Err(IdentityError::field("who", "is missing; set `number` or `identifier`")),
        };
        found.ok_or(IdentityError::PersonNotFound)
    }

    pub(super) async fn persons(&self, tenant: &TenantId, request: ListPersonsRequest) -> Result<ListPersonsResponse, IdentityError> {
        let rows_max = page_size(request.page_size)?;
        let after: u32 = page_token(&request.page_token)?;
        let mut persons = read::list_persons(&self.db, tenant, after, rows_max + 1).await?;
        let more = persons.len() as i64 > rows_max;
        persons.truncate(rows_max as usize);
        let next_page_token = next_token(more, persons.last().map(|person| person.number.to_string()));
        Ok(ListPersonsResponse { persons, next_page_token })
    }

    pub(super) async fn link_records(
        &self,
        tenant: &TenantId,
        request: ListLinkRecordsRequest,
    ) -> Result<ListLinkRecordsResponse, IdentityError> {
        let rows_max = page_size(request.page_size)?;
        let after: u64 = page_token(&request.page_token)?;
        let person = Some(request.person).filter(|person| *person != 0);
        let mut records = read::list_links(&self.db, tenant, person, after, rows_max + 1).await?;
        let more = records.len() as i64 > rows_max;
        records.truncate(rows_max as usize);
        let next_page_token = next_token(more, records.last().map(|record| record.sequence.to_string()));
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

    pub(super) async fn status(&self, tenant: &TenantId) -> Result<GetIdentityStatusResponse, IdentityError> {
        read::status(&self.db, tenant).await
    }
}

fn page_size(asked: i32) -> Result<i64, IdentityError> {
    match asked {
        0 => Ok(i64::from(PAGE_SIZE_DEFAULT)),
        1.. => Ok(i64::from(asked.min(PAGE_SIZE_MAX))),
        _ => Err(IdentityError::field("page_size", "must not be negative")),
    }
}

fn page_token<T: std::str::FromStr + Default>(token: &str) -> Result<T, IdentityError> {
    if token.is_empty() {
        return Ok(T::default());
    }
    token.parse().map_err(|_| IdentityError::field("page_token", "is not one of ours; pass on `next_page_token` as it came"))
}

fn next_token(more: bool, last: Option<String>) -> String {
    if more { last.unwrap_or_default() } else { String::new() }
}
