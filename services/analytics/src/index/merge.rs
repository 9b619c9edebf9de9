//! Putting small files together: event by event, with merged persons rewritten to their survivors.
//!
//! Readers are not held up: snapshots keep the old files until they are dropped, and the old files are deleted after that.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use arrow::record_batch::RecordBatch;
use segue_model::TenantId;

use super::Shared;
use super::files::{FileEntry, FileHandle};
use super::flush::{day_of, file_name, select};
use super::merge_plan::{Plan, next_merge};
use super::redirects::Redirects;
use super::run::{MemoryRun, merge_runs};
use super::tail::TenantIndex;
use super::write::{WrittenFile, union_schema, write_file};
use crate::store::{Publication, Published};

impl Shared {
    /// Runs the next merge that is worth it; false when there is none.
    pub(crate) async fn merge_next(&self, tenant: &TenantIndex) -> anyhow::Result<bool> {
        // While it is held, the tenant stays in memory: opened anew, it would go on with files that this merge replaces.
        let _merging = tenant.merging.lock().await;
        if tenant.with(|state| state.closed) {
            return Ok(false);
        }
        let (files, redirects) = tenant.files_and_redirects();
        let entries: Vec<&FileEntry> = files.iter().map(|file| &file.entry).collect();
        let Some(plan) = next_merge(&entries, &self.config, day_of(self.clock.now_us())) else { return Ok(false) };
        let inputs: Vec<Arc<FileHandle>> = plan.files.iter().map(|at| files[*at].clone()).collect();
        drop(files);
        let written = tokio::task::spawn_blocking({
            let (id, inputs) = (tenant.id.clone(), inputs.clone());
            move || merged_files(&id, &inputs, &plan, &redirects)
        })
        .await??;
        for file in &written {
            self.lake.write(&file.entry.name, file.content.clone()).await.with_context(|| format!("writing {}", file.entry.name))?;
        }
        let publication = Publication {
            new: written.iter().map(|file| file.entry.clone()).collect(),
            replaced: inputs.iter().map(|file| file.entry.name.clone()).collect(),
            ..Publication::default()
        };
        if self.catalogue.publish(&tenant.id, self.clock.now_us(), &publication).await? != Published::Done {
            for file in &written {
                self.lake.delete(&file.entry.name).await?;
            }
            anyhow::bail!("another process has merged files of tenant {}; restart to see them", tenant.id);
        }
        tracing::debug!(tenant = %tenant.id, from = inputs.len(), to = written.len(), "merged files");
        let new = written.into_iter().map(|file| self.handle(&tenant.id, file.entry)).collect();
        tenant.replace_files(&inputs, new);
        Ok(true)
    }
}

fn merged_files(tenant: &TenantId, inputs: &[Arc<FileHandle>], plan: &Plan, redirects: &Redirects) -> anyhow::Result<Vec<WrittenFile>> {
    let events: BTreeSet<Arc<str>> = inputs.iter().flat_map(|file| &file.entry.groups).map(|group| group.event.clone()).collect();
    let schemas = inputs.iter().map(|file| file.schema()).collect::<Result<Vec<_>, _>>()?;
    let schema = union_schema(schemas.iter().map(AsRef::as_ref));
    let mut files = Vec::new();
    for days in &plan.outputs {
        let belongs = |ts: i64| (days.0..=days.1).contains(&day_of(ts));
        let whole = plan.outputs.len() == 1;
        let runs = events.iter().filter_map(|event| {
            let merged = merged_run(event, inputs, redirects);
            match merged {
                Ok(run) if whole => Some(Ok(run)),
                Ok(run) => select(&run, &belongs).transpose(),
                Err(error) => Some(Err(error)),
            }
        });
        let file = write_file(file_name(tenant, *days), *days, schema.clone(), runs)?;
        // A month without events needs no file.
        if !file.entry.groups.is_empty() {
            files.push(file);
        }
    }
    let (before, after) =
        (inputs.iter().map(|file| file.entry.rows()).sum::<u64>(), files.iter().map(|file| file.entry.rows()).sum::<u64>());
    anyhow::ensure!(before == after, "merging {before} events gave {after}: nothing is replaced");
    Ok(files)
}

/// All rows of one event in these files.
fn merged_run(event: &Arc<str>, inputs: &[Arc<FileHandle>], redirects: &Redirects) -> anyhow::Result<MemoryRun> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    for file in inputs {
        for (group, _) in file.entry.groups.iter().enumerate().filter(|(_, group)| group.event == *event) {
            batches.push(file.group(group)?);
        }
    }
    Ok(merge_runs(event.clone(), &batches, Some(redirects))?)
}
