//! The gRPC services: dispatch only. One file per family of RPCs; `stream.rs` has the work of TrackStream.

mod ingest;
mod quarantine;
mod stream;
mod taxonomy;

pub(crate) use ingest::{Counts, IngestApi};
pub(crate) use quarantine::QuarantineApi;
pub(crate) use taxonomy::TaxonomyApi;
