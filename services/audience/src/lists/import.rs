//! Putting the persons of a file on a list: the file is read as it comes in, and whom it names is asked for in parts; the list changes at
//! the end, at once.

use std::time::Duration;

use futures::{Stream, StreamExt};
use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_proto::audience::v1::import_list_members_request::Part;
use segue_proto::audience::v1::{ImportListHeader, ImportListMembersRequest, ImportListMembersResponse};
use segue_proto::events::v1::Identifier;
use segue_proto::identity::v1::LookupIdentifiersRequest;
use segue_runtime::Tenant;
use segue_runtime::peers::{PeerError, request};
use tonic::Status;

use super::change::Stored;
use super::csv::{Reader, Row};
use super::list_to_proto;
use super::members::{Change, Changed};
use crate::definitions::numbers::damaged;
use crate::error::AudienceError;
use crate::service::Service;

const CHUNK_BYTES_MAX: usize = 1 << 20;
const FILE_BYTES_MAX: usize = 256 << 20;
/// So much is read before rows are passed on: rows take many times the memory of their text.
const PIECE_BYTES: usize = 16 << 10;
/// How long the next part of a file may take.
const PART_TIMEOUT: Duration = Duration::from_secs(60);
/// Identifiers that identity takes at once.
const LOOKUP_MAX: usize = 10_000;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Rows that name nobody and are told.
const UNMATCHED_TOLD_MAX: usize = 100;

/// Whom a file names, so far.
#[derive(Debug, Default)]
struct Found {
    persons: RoaringBitmap,
    rows: u64,
    matched: u64,
    unmatched_rows: Vec<u64>,
}

/// Rows whose identifiers are asked for together.
#[derive(Debug, Default)]
struct Batch {
    identifiers: Vec<Identifier>,
    /// How many identifiers each row has.
    rows: Vec<usize>,
}

impl Service {
    /// Reads a file and puts its persons on a list.
    pub(super) async fn import<S>(&self, tenant: &Tenant, parts: S) -> Result<ImportListMembersResponse, AudienceError>
    where
        S: Stream<Item = Result<ImportListMembersRequest, Status>> + Send,
    {
        let mut parts = std::pin::pin!(parts);
        let ImportListHeader { list, columns, replace } = match self.next_part(&mut parts).await? {
            Some(Part::Header(header)) => header,
            Some(Part::Chunk(_)) | None => return Err(AudienceError::field("header", "the first message must name the list")),
        };
        self.definitions.get_list(&tenant.id, &list).await?.if_in_use()?;
        let mut reader = Reader::new(columns.into_iter().collect())?;
        let (mut found, mut batch, mut rows, mut bytes) = (Found::default(), Batch::default(), Vec::new(), 0usize);
        while let Some(part) = self.next_part(&mut parts).await? {
            let chunk = match part {
                Part::Chunk(chunk) if chunk.len() <= CHUNK_BYTES_MAX => chunk,
                Part::Chunk(_) => return Err(AudienceError::field("chunk", format!("at most {CHUNK_BYTES_MAX} bytes: send more parts"))),
                Part::Header(_) => return Err(AudienceError::field("header", "only the first message names the list")),
            };
            bytes += chunk.len();
            if bytes > FILE_BYTES_MAX {
                return Err(AudienceError::field(
                    "chunk",
                    format!("the file has more than {} MiB: cut it into files", FILE_BYTES_MAX >> 20),
                ));
            }
            for piece in chunk.chunks(PIECE_BYTES) {
                reader.read(piece, &mut rows)?;
                self.take_rows(&tenant.id, rows.drain(..), reader.identifiers_max(), &mut batch, &mut found).await?;
            }
        }
        reader.finish(&mut rows)?;
        self.take_rows(&tenant.id, rows.drain(..), reader.identifiers_max(), &mut batch, &mut found).await?;
        self.look_up(&tenant.id, &mut batch, &mut found).await?;
        let (stored, changed) = self.put_on_list(&tenant.id, &list, &found.persons, replace).await?;
        Ok(ImportListMembersResponse {
            list: Some(list_to_proto(stored)),
            rows: found.rows,
            matched: found.matched,
            added: changed.added,
            unmatched_rows: found.unmatched_rows,
        })
    }

    async fn next_part<S>(&self, parts: &mut S) -> Result<Option<Part>, AudienceError>
    where
        S: Stream<Item = Result<ImportListMembersRequest, Status>> + Send + Unpin,
    {
        let next = tokio::select! {
            () = self.draining.cancelled() => return Err(AudienceError::Stopping),
            next = tokio::time::timeout(PART_TIMEOUT, parts.next()) => next,
        };
        match next {
            Err(_) => Err(AudienceError::field("chunk", format!("nothing came for {} s: send the file again", PART_TIMEOUT.as_secs()))),
            Ok(None) => Ok(None),
            Ok(Some(Ok(message))) => message.part.map(Some).ok_or_else(|| AudienceError::field("part", "set one of header and chunk")),
            Ok(Some(Err(status))) => Err(AudienceError::field("chunk", format!("the file broke off: {}", status.message()))),
        }
    }

    /// Takes rows, and asks whom they name whenever there are enough of them.
    async fn take_rows(
        &self,
        tenant: &TenantId,
        rows: impl Iterator<Item = Row>,
        identifiers_max: usize,
        batch: &mut Batch,
        found: &mut Found,
    ) -> Result<(), AudienceError> {
        for row in rows {
            if batch.identifiers.len() + identifiers_max > LOOKUP_MAX || batch.rows.len() >= LOOKUP_MAX {
                self.look_up(tenant, batch, found).await?;
            }
            batch.rows.push(row.len());
            batch.identifiers.extend(row);
        }
        Ok(())
    }

    async fn look_up(&self, tenant: &TenantId, batch: &mut Batch, found: &mut Found) -> Result<(), AudienceError> {
        let Batch { identifiers, rows } = std::mem::take(batch);
        let persons = self.look_up_identifiers(tenant, identifiers).await?;
        let mut rest = persons.as_slice();
        for count in rows {
            let Some((of_row, others)) = rest.split_at_checked(count) else { return Err(damaged().into()) };
            rest = others;
            found.rows += 1;
            match of_row.iter().find(|person| **person != 0) {
                Some(person) => {
                    found.matched += 1;
                    found.persons.insert(*person);
                }
                None if found.unmatched_rows.len() < UNMATCHED_TOLD_MAX => found.unmatched_rows.push(found.rows),
                None => {}
            }
        }
        Ok(())
    }

    /// Whom identifiers name, 0 for nobody.
    pub(super) async fn look_up_identifiers(&self, tenant: &TenantId, identifiers: Vec<Identifier>) -> Result<Vec<u32>, AudienceError> {
        if identifiers.is_empty() {
            return Ok(Vec::new());
        }
        let asked = identifiers.len();
        let message = LookupIdentifiersRequest { identifiers };
        let answer = self.peers.identity().lookup_identifiers(request(tenant, message, LOOKUP_TIMEOUT)).await;
        let persons = answer.map_err(PeerError::identity)?.into_inner().persons;
        if persons.len() == asked { Ok(persons) } else { Err(damaged().into()) }
    }

    async fn put_on_list(
        &self,
        tenant: &TenantId,
        list: &str,
        found: &RoaringBitmap,
        replace: bool,
    ) -> Result<(Stored, Changed), AudienceError> {
        let persons = self.definitions.persons_of(tenant, found).await?;
        let change = Change { add: persons.survivors.clone(), remove: RoaringBitmap::new(), replace, persons };
        self.definitions.change_list(tenant, list, &change).await
    }
}
