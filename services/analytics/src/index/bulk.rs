//! Taking in a history at once: events straight to files, past the log and the tail.
//!
//! The log is made for what comes in; a history of a hundred million events would pass through it only to be written to files
//! again. What was built of it is published in one transaction, so an import happens as a whole or not at all.

use segue_model::TenantId;
use segue_proto::events::v1::ResolvedEvent;

use super::Index;
use super::builder::Builder;
use super::files::FileEntry;
use super::flush::files_of;
use super::lake::{Lake, Unpublished};
use super::property::Properties;
use super::run::Piece;
use crate::config::Config;
use crate::scan::StoredProperty;
use crate::store::{Publication, Published};

/// What was built.
struct Built {
    rows: u64,
    files: Vec<FileEntry>,
    properties: Vec<StoredProperty>,
}

impl Index {
    /// Takes in events whose persons are known, and answers how many there were. An error among the events, or of the lake or
    /// store, leaves everything as it was.
    ///
    /// Nothing tells events that are imported twice apart: the caller knows what it has imported. `first` is the number of the
    /// first event, the others are counted on from it. Numbers order the events of one person and moment, so that no two imports
    /// of a tenant should share any; those below 2^24 come before all that the log brings.
    ///
    /// Files are written as they are built and published at the end: an import must not last longer than
    /// [`Config::sweep_age_ms_min`](crate::Config::sweep_age_ms_min), after which another process that starts would sweep them.
    pub async fn import<I>(&self, tenant: &TenantId, first: u64, events: I) -> anyhow::Result<u64>
    where
        I: Iterator<Item = anyhow::Result<ResolvedEvent>> + Send + 'static,
    {
        let shared = &self.shared;
        anyhow::ensure!(shared.is_on(tenant), "analytics of tenant {tenant} is off; switch it on before importing");
        let known = shared.load(tenant).await?.with(|state| state.properties.clone());
        let work = tokio::task::spawn_blocking({
            let (tenant, lake, config) = (tenant.clone(), shared.lake.clone(), shared.config.clone());
            move || build(&tenant, &lake, &config, known, first, events)
        });
        let built = work.await??;
        self.publish_import(tenant, built.files, built.properties).await?;
        Ok(built.rows)
    }

    async fn publish_import(&self, tenant: &TenantId, files: Vec<FileEntry>, properties: Vec<StoredProperty>) -> anyhow::Result<()> {
        let shared = &self.shared;
        let loaded = shared.load(tenant).await?;
        // While it is held, the tenant stays in memory: opened anew between the two steps below, it might lack these files.
        let _merging = loaded.merging.lock().await;
        loaded.with(|state| {
            anyhow::ensure!(!state.closed, "analytics of tenant {tenant} was switched off meanwhile; nothing was imported");
            for StoredProperty { scope, name, kind } in &properties {
                let stored = state.properties.type_of(*scope, name, *kind);
                anyhow::ensure!(
                    stored.is_none_or(|stored| stored == *kind),
                    "property `{name}` came with another type meanwhile; nothing was imported, import again"
                );
            }
            Ok(())
        })?;
        let publication = Publication { new: files.clone(), properties, ..Publication::default() };
        let published = shared.catalogue.publish(tenant, shared.clock.now_us(), &publication).await?;
        // Nothing is replaced and no position is moved, so nothing can stand against it.
        anyhow::ensure!(published == Published::Done, "the catalogue did not take the files of an import");
        loaded.replace_files(&[], files.into_iter().map(|entry| shared.handle(tenant, entry)).collect());
        Ok(())
    }
}

/// Writes files of about the size of a flush.
fn build(
    tenant: &TenantId,
    lake: &Lake,
    config: &Config,
    mut known: Properties,
    first: u64,
    events: impl Iterator<Item = anyhow::Result<ResolvedEvent>>,
) -> anyhow::Result<Built> {
    let mut builder = Builder::default();
    let mut rows = 0;
    let mut files = Unpublished::new(lake);
    let mut finish = |builder: &mut Builder| -> anyhow::Result<()> {
        let piece = Piece::new(std::mem::take(builder).finish()?);
        files.add(files_of(tenant, lake, &piece)?);
        Ok(())
    };
    for (number, event) in (first..).zip(events) {
        if builder.append(&event?, number, &mut known)? {
            rows += 1;
        }
        if builder.rows() >= config.flush_rows_max || builder.bytes() >= config.flush_bytes_max {
            finish(&mut builder)?;
        }
    }
    if builder.rows() > 0 {
        finish(&mut builder)?;
    }
    Ok(Built { rows, files: files.take(), properties: known.take_unsaved() })
}
