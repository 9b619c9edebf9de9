//! Members as a file, a chunk at a time: nothing is read ahead of the caller, and when the caller goes away the work ends.
//!
//! To add a format: an arm in [`write::Writer`].

mod columns;
mod values;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use roaring::RoaringBitmap;
use segue_model::{Module, TenantId};
use segue_proto::audience::v1::{ExportMembersRequest, ExportMembersResponse};
use segue_runtime::Tenant;
use segue_runtime::status::to_status;
use tonic::Status;

use self::columns::{Columns, Row};
use self::write::Writer;
use crate::error::AudienceError;
use crate::members::members;
use crate::persons;
use crate::service::Service;

/// The largest chunk, in bytes.
const CHUNK_BYTES_MAX: usize = 1 << 20;

impl Service {
    pub(crate) async fn export_members_of(
        &self,
        tenant: &Tenant,
        request: ExportMembersRequest,
    ) -> Result<BoxStream<'static, Result<ExportMembersResponse, Status>>, AudienceError> {
        let columns = Arc::new(Columns::parse(&request.columns)?);
        let writer = Writer::new(request.format(), columns.clone())?;
        let membership = self.live.membership(&tenant.id, &request.audience).await?;
        let export = Export {
            service: self.clone(),
            tenant: tenant.id.clone(),
            members: members(&membership),
            columns,
            writer,
            next: Some(0),
            chunks: VecDeque::new(),
            rows: 0,
        };
        Ok(Box::pin(futures::stream::unfold(Some(export), |export| async move {
            let mut export = export?;
            match export.chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(export))),
                Ok(None) => None,
                Err(error) => Some((Err(to_status(&error)), None)),
            }
        })))
    }
}

/// A file that is being written.
struct Export {
    service: Service,
    tenant: TenantId,
    /// As they were when it began.
    members: RoaringBitmap,
    columns: Arc<Columns>,
    writer: Writer,
    /// The least person that is not written; `None` when the file is complete.
    next: Option<u32>,
    chunks: VecDeque<Bytes>,
    rows: u64,
}

impl Export {
    /// The next chunk; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<ExportMembersResponse>, AudienceError> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Ok(Some(ExportMembersResponse { chunk: chunk.into(), rows: self.rows }));
            }
            let Some(next) = self.next else { return Ok(None) };
            if !self.service.tenants.is_on(&self.tenant, Module::Audience) {
                return Err(AudienceError::ModuleDisabled { tenant: self.tenant.clone() });
            }
            let numbers = page(&self.members, next);
            self.next = numbers.last().and_then(|last| last.checked_add(1));
            if numbers.is_empty() {
                self.next = None;
            } else {
                let found = persons::get(&self.service.peers, &self.tenant, numbers.clone()).await?;
                let rows = rows(&self.columns, &self.members, &numbers, found);
                self.rows += rows.len() as u64;
                self.writer.write(&rows)?;
            }
            if self.next.is_none() {
                self.writer.finish()?;
            }
            let mut written = Bytes::from(self.writer.take());
            while !written.is_empty() {
                self.chunks.push_back(written.split_to(written.len().min(CHUNK_BYTES_MAX)));
            }
        }
    }
}

/// Members from a number on, as many as identity gives at once.
fn page(members: &RoaringBitmap, from: u32) -> Vec<u32> {
    let mut rest = members.iter();
    rest.advance_to(from);
    rest.take(persons::AT_ONCE).collect()
}

/// The rows of these members. Who was merged into another member meanwhile is left out: that one has a row.
fn rows(columns: &Columns, members: &RoaringBitmap, numbers: &[u32], persons: Vec<segue_proto::identity::v1::Person>) -> Vec<Row> {
    let pairs = numbers.iter().zip(persons);
    let kept = pairs.filter(|(number, person)| **number == person.number || !members.contains(person.number));
    kept.map(|(number, person)| columns.row(*number, person)).collect()
}

#[cfg(test)]
mod tests {
    use segue_proto::identity::v1::Person;

    use super::*;

    #[test]
    fn every_member_has_a_row_and_who_was_merged_into_a_member_has_none_of_its_own() {
        let members: RoaringBitmap = [1, 2, 3, 4].into_iter().collect();
        let person = |number| Person { number, id: format!("id{number}"), ..Person::default() };
        let columns = Columns::parse(&[]).expect("the default");
        // 2 was merged into the member 1, 3 into 9, who is none; 4 was never given out.
        let found = rows(&columns, &members, &[1, 2, 3, 4], vec![person(1), person(1), person(9), Person::default()]);
        let found: Vec<(u32, &str)> = found.iter().map(|row| (row.person, row.id.as_str())).collect();
        assert_eq!(found, [(1, "id1"), (9, "id9"), (4, "")]);
    }

    #[test]
    fn pages_cover_all_members_up_to_the_largest_number() {
        let members: RoaringBitmap = (1..=2_500).chain([u32::MAX]).collect();
        let (mut next, mut found) = (Some(0), Vec::new());
        while let Some(from) = next {
            let numbers = page(&members, from);
            next = numbers.last().and_then(|last| last.checked_add(1));
            found.extend(numbers);
        }
        assert_eq!(found, members.iter().collect::<Vec<u32>>());
    }
}
