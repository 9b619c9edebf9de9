//! Putting small files together: event by event, with merged persons rewritten to their survivors.
//!
//! Inputs and output are in the order of persons, so a merge goes up through the persons of an event and holds, of each input, the
//! one row group that it is at. Readers are not held up: snapshots keep the old files until they are dropped, and the old files
//! are deleted after that.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use segue_model::TenantId;
use segue_store::StoreError;

use super::Shared;
use super::files::{FileEntry, FileHandle};
use super::flush::{DAY_US, day_of, file_name};
use super::lake::{Lake, Unpublished};
use super::merge_plan::{Plan, next_merge};
use super::redirects::Specials;
use super::run::{MemoryRun, Rewrite, merge_runs, take_rows};
use super::tail::TenantIndex;
use super::write::{FileWriter, GROUP_ROWS_MAX, union_schema};
use crate::scan::{Chosen, Column, PERSONS_PER_CHUNK, Rows, Run, StoredView, View, Wanted, choose};
use crate::store::{Publication, Published};

/// All persons.
const EVERYBODY: (u64, u64) = (0, u32::MAX as u64 + 1);

impl Shared {
    /// Runs the next merge that is worth it; false when there is none.
    pub(crate) async fn merge_next(&self, tenant: &TenantIndex) -> anyhow::Result<bool> {
        // While it is held, the tenant stays in memory: opened anew, it would go on with files that this merge replaces.
        let _merging = tenant.merging.lock().await;
        if tenant.with(|state| state.closed) {
            return Ok(false);
        }
        let (files, rewrite) = tenant.files_and_rewrite(self.stored_from_us(&tenant.id));
        let entries: Vec<&FileEntry> = files.iter().map(|file| &file.entry).collect();
        let Some(plan) = next_merge(&entries, &self.config, day_of(self.clock.now_us())) else { return Ok(false) };
        let inputs: Vec<Arc<FileHandle>> = plan.files.iter().map(|at| files[*at].clone()).collect();
        drop(files);
        self.rewrite_files(tenant, inputs, plan, rewrite).await?;
        Ok(true)
    }

    /// Puts new files in the place of others. Hold [`TenantIndex::merging`].
    pub(super) async fn rewrite_files(
        &self,
        tenant: &TenantIndex,
        inputs: Vec<Arc<FileHandle>>,
        plan: Plan,
        rewrite: Rewrite,
    ) -> anyhow::Result<()> {
        let written = tokio::task::spawn_blocking({
            let (id, lake, inputs) = (tenant.id.clone(), self.lake.clone(), inputs.clone());
            move || merged_files(&id, &lake, inputs, &plan, &rewrite)
        })
        .await??;
        let publication = Publication {
            new: written.clone(),
            replaced: inputs.iter().map(|file| file.entry.name.clone()).collect(),
            ..Publication::default()
        };
        let published = self.replace_in_catalogue(tenant, &publication).await;
        if !matches!(published, Ok(Published::Done) | Err(StoreError::Unavailable { .. })) {
            for file in &written {
                self.lake.delete(&file.name).await?;
            }
        }
        anyhow::ensure!(published? == Published::Done, "another process has merged files of tenant {}; restart to see them", tenant.id);
        tracing::debug!(tenant = %tenant.id, from = inputs.len(), to = written.len(), "merged files");
        let new = written.into_iter().map(|entry| self.handle(&tenant.id, entry)).collect();
        tenant.replace_files(&inputs, new);
        Ok(())
    }
}

impl Shared {
    /// Publishes files in the place of others. Where the answer to the commit is lost, the catalogue is asked what became of it.
    pub(super) async fn replace_in_catalogue(&self, tenant: &TenantIndex, publication: &Publication) -> Result<Published, StoreError> {
        let published = self.catalogue.publish(&tenant.id, self.clock.now_us(), publication).await;
        let Err(error @ StoreError::Unavailable { .. }) = published else { return published };
        let names = |files: &[FileEntry]| files.iter().map(|file| file.name.clone()).collect::<Vec<String>>();
        let happened = match publication.new.as_slice() {
            [] => !self.catalogue.is_published(&tenant.id, &publication.replaced, &[]).await?,
            new => self.catalogue.is_published(&tenant.id, &names(new), &[]).await?,
        };
        if happened { Ok(Published::Done) } else { Err(error) }
    }
}

fn merged_files(
    tenant: &TenantId,
    lake: &Lake,
    inputs: Vec<Arc<FileHandle>>,
    plan: &Plan,
    rewrite: &Rewrite,
) -> anyhow::Result<Vec<FileEntry>> {
    let rows = |entries: &mut dyn Iterator<Item = &FileEntry>| entries.map(FileEntry::rows).sum::<u64>();
    let before = rows(&mut inputs.iter().map(|file| &file.entry));
    let events: BTreeSet<Arc<str>> = inputs.iter().flat_map(|file| &file.entry.groups).map(|group| group.event.clone()).collect();
    let schemas = inputs.iter().map(|file| file.schema()).collect::<Result<Vec<_>, _>>()?;
    let schema = union_schema(schemas.iter().map(AsRef::as_ref));
    let stored = StoredView::new(Arc::new(inputs), rewrite.redirects.clone(), rewrite.kept_from_us);
    let view = View::new(tenant.clone(), 0, Arc::new(stored), Vec::new(), Arc::default());
    let mut files = Unpublished::new(lake);
    for days in &plan.outputs {
        let times = match plan.outputs.len() {
            1 => (i64::MIN, i64::MAX),
            _ => (days.0.saturating_mul(DAY_US), days.1.saturating_add(1).saturating_mul(DAY_US)),
        };
        let mut writer = FileWriter::create(lake, file_name(tenant, *days), *days, schema.clone())?;
        for event in &events {
            Merge { view: &view, event, times }.write_to(&mut writer)?;
        }
        // A month without events needs no file.
        files.add(writer.finish()?);
    }
    let after = rows(&mut files.all().iter());
    let may_leave_out = rewrite.redirects.deletes() || rewrite.kept_from_us > i64::MIN;
    anyhow::ensure!(before == after || may_leave_out && after < before, "merging {before} rows gave {after}: nothing is replaced");
    Ok(files.take())
}

/// The rows of one event in a range of time.
struct Merge<'m> {
    view: &'m View,
    event: &'m Arc<str>,
    times: (i64, i64),
}

/// A row group that takes part.
struct Input {
    run: Run,
    /// What is special in its file, without whose it is: rows of those numbers come on their own.
    holes: Specials,
    /// Decoded for as long as the merge is among its persons.
    batch: Option<RecordBatch>,
}

impl Input {
    fn batch(&mut self) -> anyhow::Result<&RecordBatch> {
        if let Some(batch) = self.batch.take() {
            return Ok(self.batch.insert(batch));
        }
        let Run::File { file, group, .. } = &self.run else { anyhow::bail!("only files are merged") };
        Ok(self.batch.insert(file.group(*group)?))
    }
}

impl Merge<'_> {
    fn write_to(&self, writer: &mut FileWriter) -> anyhow::Result<()> {
        let runs = self.view.runs(Some(&[self.event.to_string()]), self.times);
        let (mut inputs, mut moved) = (Vec::with_capacity(runs.len()), Vec::new());
        for run in runs {
            let specials = self.view.specials(&run)?;
            let (least, most) = run.persons();
            let has_holes = !specials.within(u64::from(least), u64::from(most) + 1).is_empty();
            let mut input = Input { run, holes: Specials { numbers: specials.numbers.clone(), by_person: Vec::new() }, batch: None };
            if has_holes {
                moved.extend(self.moved(&mut input, specials)?);
            }
            input.batch = None;
            inputs.push(input);
        }
        let moved = merge_runs(self.event.clone(), &moved, None)?;
        self.go_up(&mut inputs, moved.as_ref(), writer)
    }

    /// Which rows of an input belong to these persons.
    fn choose(&self, input: &mut Input, specials: &Specials, persons: (u64, u64)) -> anyhow::Result<Option<Chosen>> {
        input.batch()?;
        let from_us = self.times.0.max(self.view.kept_from_us(self.event));
        let wanted = Wanted { persons, times: (from_us, self.times.1), only: None };
        let load = |column: &Column| -> Result<Option<ArrayRef>, _> {
            Ok(input.batch.as_ref().and_then(|batch| batch.column_by_name(&column.name()).cloned()))
        };
        Ok(choose(&input.run, input.run.rows(), &self.view.stored.redirects, specials, wanted, load)?)
    }

    /// The rows of merged numbers, under the persons whose they are now.
    fn moved(&self, input: &mut Input, specials: &Specials) -> anyhow::Result<Option<RecordBatch>> {
        let Some(moved) = self.choose(input, specials, EVERYBODY)?.and_then(|chosen| chosen.moved) else { return Ok(None) };
        let batch = take_rows(input.batch()?, &moved.rows)?;
        let person = batch.schema().index_of(&Column::Person.name())?;
        let (schema, mut columns, _) = batch.into_parts();
        *columns.get_mut(person).context("a run has no persons")? = Arc::new(moved.persons);
        Ok(Some(RecordBatch::try_new(schema, columns)?))
    }

    /// Writes the rows of all inputs in the order of persons.
    fn go_up(&self, inputs: &mut [Input], moved: Option<&MemoryRun>, writer: &mut FileWriter) -> anyhow::Result<()> {
        let spans = || inputs.iter().map(|input| input.run.persons()).chain(moved.map(|moved| moved.persons));
        let Some((least, most)) = spans().reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))) else { return Ok(()) };
        let rows = inputs.iter().map(|input| input.run.rows()).sum::<usize>() + moved.map_or(0, |moved| moved.batch.num_rows());
        let step = step(rows as u64, u64::from(most - least) + 1);
        let mut pending: Vec<RecordBatch> = Vec::new();
        let mut start = u64::from(least) / step * step;
        while start <= u64::from(most) {
            let end = start + step;
            for input in inputs.iter_mut() {
                let (first, last) = input.run.persons();
                if u64::from(first) >= end || u64::from(last) < start {
                    continue;
                }
                let holes = std::mem::take(&mut input.holes);
                let chosen = self.choose(input, &holes, (start, end));
                input.holes = holes;
                if let Some(chosen) = chosen? {
                    let batch = input.batch()?;
                    pending.push(match chosen.kept {
                        Rows::Slice(rows) => batch.slice(rows.start, rows.len()),
                        Rows::Picked(rows) => take_rows(batch, &rows)?,
                    });
                }
                if u64::from(last) < end {
                    input.batch = None;
                }
            }
            if let Some(moved) = moved {
                pending.extend(within(moved, start, end)?);
            }
            start = end;
            if start > u64::from(most) || pending.iter().map(RecordBatch::num_rows).sum::<usize>() >= GROUP_ROWS_MAX {
                if let Some(run) = merge_runs(self.event.clone(), &pending, None)? {
                    writer.write(&run)?;
                }
                pending.clear();
            }
        }
        Ok(())
    }
}

/// Over so many persons a merge goes at a time: whole chunks where that is not too many rows.
fn step(rows: u64, span: u64) -> u64 {
    let mut step = u64::from(PERSONS_PER_CHUNK);
    while step > 1 && rows.saturating_mul(step) / span > 2 * GROUP_ROWS_MAX as u64 {
        step /= 2;
    }
    step
}

fn within(run: &MemoryRun, start: u64, end: u64) -> anyhow::Result<Option<RecordBatch>> {
    let persons = super::run::SortKeys::of(&run.batch)?.person;
    let first = persons.partition_point(|person| u64::from(*person) < start);
    let end = persons.partition_point(|person| u64::from(*person) < end);
    Ok((end > first).then(|| run.batch.slice(first, end - first)))
}
