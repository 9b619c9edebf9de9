//! Static lists. `members` says what a change makes of a list, `change` commits it, `import` reads files (`csv`), `chunks` is how persons are
//! stored, `store` has the statements.

pub(crate) mod change;
pub(crate) mod chunks;
mod csv;
mod import;
mod members;
#[cfg(test)]
mod on_stores;
pub(crate) mod store;

use std::time::Duration;

use roaring::RoaringBitmap;
use segue_model::{FieldViolation, TenantId};
use segue_proto::analytics::v1::select_persons_request::Who;
use segue_proto::analytics::v1::{ReportCell, SelectPersonsRequest};
use segue_proto::audience::v1::{
    ArchiveListRequest, ChangeListMembersRequest, ChangeListMembersResponse, CreateListRequest, GetListRequest, ImportListMembersRequest,
    ImportListMembersResponse, List, ListListsRequest, ListListsResponse,
};
use segue_runtime::peers::{PeerError, request};
use segue_runtime::{Tenant, fields, page};

use crate::definitions::numbers::Persons;
use crate::error::AudienceError;
use crate::service::Service;
use crate::store::timestamp;
use change::Stored;
use members::Change;

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1_000;
/// Persons of one change, by number and by identifier together.
const CHANGED_MAX: usize = 10_000;
/// How long analytics may take to compute a report again.
const REPORT_TIMEOUT: Duration = Duration::from_secs(60);

impl Service {
    pub(crate) async fn create_list_of(&self, tenant: &Tenant, request: CreateListRequest) -> Result<List, AudienceError> {
        let List { id, name, description, .. } = request.list.ok_or_else(|| AudienceError::field("list", "required"))?;
        let mut faults = Vec::new();
        fields::check_id(&mut faults, "list.id", &id);
        fields::check_name(&mut faults, "list.name", &name);
        fields::check_description(&mut faults, "list.description", &description);
        fields::refuse(faults)?;
        if let Some(list) = self.definitions.find_list(&tenant.id, &id).await? {
            return list.if_same(&name, &description).map(list_to_proto);
        }
        let persons = match request.report {
            Some(cell) => self.persons_behind(&tenant.id, cell).await?,
            None => RoaringBitmap::new(),
        };
        Ok(list_to_proto(self.definitions.create_list(&tenant.id, &id, &name, &description, &persons).await?))
    }

    pub(crate) async fn get_list_of(&self, tenant: &Tenant, request: GetListRequest) -> Result<List, AudienceError> {
        Ok(list_to_proto(self.definitions.get_list(&tenant.id, &request.id).await?))
    }

    pub(crate) async fn list_lists_of(&self, tenant: &Tenant, request: ListListsRequest) -> Result<ListListsResponse, AudienceError> {
        let ListListsRequest { page_size, page_token, with_archived } = request;
        let size = page::size(page_size, PAGE_DEFAULT, PAGE_MAX)?;
        if !page_token.is_empty() && !fields::is_id(&page_token) {
            return Err(page::bad_token().into());
        }
        let mut found = store::page(&self.db, &tenant.id, &page_token, with_archived, size + 1).await?;
        let next_page_token = page::cut(&mut found, size, |list| list.id.clone());
        Ok(ListListsResponse { lists: found.into_iter().map(list_to_proto).collect(), next_page_token })
    }

    pub(crate) async fn archive_list_of(&self, tenant: &Tenant, request: ArchiveListRequest) -> Result<List, AudienceError> {
        let list = self.definitions.get_list(&tenant.id, &request.id).await?;
        Ok(list_to_proto(self.definitions.archive_list(&tenant.id, &list.id, &request.etag).await?))
    }

    pub(crate) async fn change_list_members_of(
        &self,
        tenant: &Tenant,
        request: ChangeListMembersRequest,
    ) -> Result<ChangeListMembersResponse, AudienceError> {
        let ChangeListMembersRequest { list, add, remove, add_identified, remove_identified } = request;
        let asked = add.len() + remove.len() + add_identified.len() + remove_identified.len();
        if asked > CHANGED_MAX {
            let fault = format!("at most {CHANGED_MAX} persons in all, by number or identifier: change it in parts, or import a file");
            return Err(AudienceError::Invalid(vec![FieldViolation::new("add", fault)]));
        }
        let list = self.definitions.get_list(&tenant.id, &list).await?.if_in_use()?;
        let first_removed = add_identified.len();
        let identified = self.look_up_identifiers(&tenant.id, add_identified.into_iter().chain(remove_identified).collect()).await?;
        let (added, removed) = identified.split_at_checked(first_removed).unwrap_or_default();
        let named: RoaringBitmap = add.iter().chain(&remove).chain(&identified).copied().collect();
        let persons = self.definitions.persons_of(&tenant.id, &named).await?;
        let (add, unknown) = survivors(add.iter().chain(added), &persons);
        let (remove, unknown_too) = survivors(remove.iter().chain(removed), &persons);
        let change = Change { add, remove, replace: false, persons };
        let (list, changed) = self.definitions.change_list(&tenant.id, &list.id, &change).await?;
        Ok(ChangeListMembersResponse {
            list: Some(list_to_proto(list)),
            added: changed.added,
            removed: changed.removed,
            unknown: unknown + unknown_too,
        })
    }

    pub(crate) async fn import_list_members_of(
        &self,
        tenant: &Tenant,
        request: tonic::Streaming<ImportListMembersRequest>,
    ) -> Result<ImportListMembersResponse, AudienceError> {
        self.import(tenant, request).await
    }

    /// The persons behind a number of a report.
    async fn persons_behind(&self, tenant: &TenantId, cell: ReportCell) -> Result<RoaringBitmap, AudienceError> {
        let message = SelectPersonsRequest { who: Some(Who::Report(cell)), bitmap: true, ..SelectPersonsRequest::default() };
        let answer = self.peers.analytics().select_persons(request(tenant, message, REPORT_TIMEOUT)).await;
        let damaged = |_| PeerError::analytics(tonic::Status::internal("an answer without a set of persons")).into();
        chunks::decode(&answer.map_err(PeerError::analytics)?.into_inner().bitmap).map_err(damaged)
    }
}

/// The survivors that numbers mean, and how many of them mean nobody.
fn survivors<'a>(numbers: impl Iterator<Item = &'a u32>, persons: &Persons) -> (RoaringBitmap, u64) {
    let (mut survivors, mut unknown) = (RoaringBitmap::new(), 0);
    for number in numbers {
        match persons.survivor_of(*number) {
            Some(survivor) => {
                survivors.insert(survivor);
            }
            None => unknown += 1,
        }
    }
    (survivors, unknown)
}

fn list_to_proto(list: Stored) -> List {
    List {
        etag: list.etag(),
        id: list.id,
        name: list.name,
        description: list.description,
        size: list.size,
        archived: list.archived,
        created_at: Some(timestamp(list.created_us)),
        updated_at: Some(timestamp(list.updated_us)),
    }
}
