//! Deleting what a person did, and removing from files what is no longer shown.
//!
//! A deletion names the person's number and those of all who are part of it, as *origins*: rows that were first resolved to one of
//! them and were received up to the moment of the deletion are gone. Whatever is merged, undone or received later does not change
//! that: rows of another origin stay, and so does what comes in later, after a new consent.
//!
//! - From the answer on, reads leave the rows out; the store knows of the deletion before it is answered.
//! - Whatever is written to files is written without them: flushes and merges.
//! - Files that are not merged by themselves are rewritten by a purge, within [`Config::purge_interval_ms`](crate::Config).
//! - The record of a deletion goes when no file holds such a row and none can come any more: an event that was received before may
//!   be on its way for as long as the log keeps it.
//!
//! A purge does the same for events that the tenant keeps no longer, and for rows that lie under another person's number since
//! their merge was undone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt32Type};
use segue_model::TenantId;

use super::files::{FileEntry, FileHandle};
use super::flush::{DAY_US, day_of};
use super::merge_plan::Plan;
use super::redirects::{PersonChanges, Redirects, Settled};
use super::run::Rewrite;
use super::tail::TenantIndex;
use super::{IDENTITY, Index, Shared};
use crate::error::AnalyticsError;
use crate::scan::{Column, Run, ScanError, StoredView, TRAITS, View};
use crate::store::{Deletion, Publication, Published};

/// The record of a deletion stays for so long, longer than the log keeps events that are on their way.
const RECORD_KEPT_US: i64 = 30 * DAY_US;
/// How long a deletion waits for merges that are being read, and how often it looks.
const MERGES_WAIT_MAX: Duration = Duration::from_secs(10);
const MERGES_PAUSE: Duration = Duration::from_millis(20);
/// A file is rewritten when so many days of it are too old, or one in so many of its days. Until then reads leave them out.
const DAYS_TOO_OLD: i64 = 7;
const SHARE_TOO_OLD: i64 = 4;

impl Index {
    /// Deletes what was received of a person until now, and of all who are part of it; a merged number means its survivor. The same
    /// request again gives the same answer without a second effect; an empty `request_id` is never the same.
    pub async fn delete_person(&self, tenant: &TenantId, person: u32, request_id: &str) -> Result<Deletion, AnalyticsError> {
        let shared = &self.shared;
        shared.wait_for_merges().await?;
        // A tenant that is loaded meanwhile must not miss it, and no merge of persons may come in between.
        let _opening = shared.opening.lock().await;
        let loaded = shared.find(tenant);
        let parts = |changes: &PersonChanges| {
            let survivor = changes.survivor(person);
            (survivor, changes.parts_of(survivor))
        };
        let (survivor, origins) = match &loaded {
            Some(loaded) => loaded.with(|state| parts(&state.changes)),
            None => parts(&shared.catalogue.changes(tenant).await?),
        };
        let deletion = Deletion { asked: person, person: survivor, deleted_us: shared.clock.now_us() };
        let stored = shared.catalogue.delete(tenant, request_id, deletion, &origins).await;
        if let Some(loaded) = loaded {
            // What the store has holds, also where the end of this attempt or of an earlier one is not known here.
            let all = shared.catalogue.changes(tenant).await?.deleted;
            loaded.change(|changes| all.into_iter().for_each(|(origin, until_us)| changes.delete(origin, until_us)));
        }
        if let Some(before) = stored? {
            return Ok(before);
        }
        tracing::info!(%tenant, person = survivor, "what a person did is deleted");
        Ok(deletion)
    }

    /// Removes from a tenant's files what is no longer shown; how many files were rewritten or dropped.
    pub async fn purge(&self, tenant: &TenantId) -> anyhow::Result<usize> {
        match self.shared.find(tenant) {
            Some(tenant) => self.shared.purge(&tenant).await,
            None => Ok(0),
        }
    }
}

impl Shared {
    /// Waits until the merges that identity has published by now are known: what is part of a person by then is deleted with it.
    async fn wait_for_merges(&self) -> Result<(), AnalyticsError> {
        let mut unread = Vec::new();
        for number in 0..self.log.partitions() {
            unread.push((number, self.log.bounds(IDENTITY, number).await?.last));
        }
        let read = async {
            loop {
                let positions = self.catalogue.positions(IDENTITY.name()).await?;
                unread.retain(|(number, last)| positions.get(number).copied().unwrap_or(0) < *last);
                if unread.is_empty() {
                    return Ok(());
                }
                tokio::time::sleep(MERGES_PAUSE).await;
            }
        };
        tokio::time::timeout(MERGES_WAIT_MAX, read).await.unwrap_or(Err(AnalyticsError::MergesUnread))
    }

    /// See [`Index::purge`].
    pub(crate) async fn purge(&self, tenant: &Arc<TenantIndex>) -> anyhow::Result<usize> {
        let kept_from_us = self.stored_from_us(&tenant.id);
        let (files, rewrite, changes, is_settled) = {
            // Whoever writes files from here on knows what we know.
            let _merging = tenant.merging.lock().await;
            let flush = tenant.flush.lock().await;
            if tenant.with(|state| state.closed) {
                return Ok(0);
            }
            let (files, rewrite) = tenant.files_and_rewrite(kept_from_us);
            (files, rewrite, tenant.with(|state| state.changes.clone()), flush.is_none())
        };
        if changes.deleted.is_empty() && changes.undone.is_empty() && kept_from_us == i64::MIN {
            return Ok(0);
        }
        let (old, dirty) = tokio::task::spawn_blocking({
            let (id, rewrite) = (tenant.id.clone(), rewrite.clone());
            move || to_purge(&id, files, &rewrite)
        })
        .await??;
        self.drop_files(tenant, &old).await?;
        for file in &dirty {
            let _merging = tenant.merging.lock().await;
            // A merge may have been quicker.
            let is_current = tenant.with(|state| !state.closed && state.files.iter().any(|current| Arc::ptr_eq(current, file)));
            if is_current {
                let plan = Plan { files: vec![0], outputs: vec![file.entry.days] };
                self.rewrite_files(tenant, vec![file.clone()], plan, rewrite.clone()).await?;
            }
        }
        // Files of a tenant that was unloaded meanwhile were left as they are.
        let _merging = tenant.merging.lock().await;
        if is_settled && !tenant.with(|state| state.closed) {
            self.forget(tenant, &changes).await?;
        }
        Ok(old.len() + dirty.len())
    }

    /// Drops files as a whole.
    async fn drop_files(&self, tenant: &TenantIndex, files: &[Arc<FileHandle>]) -> anyhow::Result<()> {
        let _merging = tenant.merging.lock().await;
        let current: Vec<Arc<FileHandle>> = tenant.with(|state| {
            if state.closed {
                return Vec::new(); // the files are another's by now
            }
            let is_current = |file: &&Arc<FileHandle>| state.files.iter().any(|current| Arc::ptr_eq(current, file));
            files.iter().filter(is_current).cloned().collect()
        });
        if current.is_empty() {
            return Ok(());
        }
        let replaced = current.iter().map(|file| file.entry.name.clone()).collect();
        let publication = Publication { replaced, ..Publication::default() };
        let published = self.replace_in_catalogue(tenant, &publication).await?;
        anyhow::ensure!(published == Published::Done, "another process has merged files of tenant {}; restart to see them", tenant.id);
        tracing::info!(tenant = %tenant.id, files = current.len(), "dropped files of events that are kept no longer");
        tenant.replace_files(&current, Vec::new());
        Ok(())
    }

    /// Forgets changes that no row is concerned by any more.
    async fn forget(&self, tenant: &TenantIndex, changes: &PersonChanges) -> anyhow::Result<()> {
        let before_us = self.clock.now_us().saturating_sub(RECORD_KEPT_US);
        let deleted = changes.deleted.iter().filter(|(_, until_us)| **until_us < before_us);
        let settled = Settled {
            deleted: deleted.map(|(origin, until_us)| (*origin, *until_us)).collect(),
            undone: changes.undone.iter().map(|(merge, link)| (*merge, *link)).collect(),
        };
        if settled != Settled::default() {
            let _opening = self.opening.lock().await;
            self.catalogue.forget(&tenant.id, &settled, before_us).await?;
            tenant.change(|changes| changes.forget(&settled));
        }
        Ok(())
    }
}

/// Files all of whose rows are too old, and files to be rewritten.
#[allow(clippy::type_complexity, reason = "the pair is taken apart at the only call")]
fn to_purge(
    tenant: &TenantId,
    files: Arc<Vec<Arc<FileHandle>>>,
    rewrite: &Rewrite,
) -> Result<(Vec<Arc<FileHandle>>, Vec<Arc<FileHandle>>), ScanError> {
    let stored = StoredView::new(files.clone(), rewrite.redirects.clone(), rewrite.kept_from_us);
    let view = View::new(tenant.clone(), 0, Arc::new(stored), Vec::new(), Arc::default());
    let (mut old, mut dirty) = (Vec::new(), Vec::new());
    for (place, file) in files.iter().enumerate() {
        if !file.entry.groups.is_empty()
            && file.entry.groups.iter().all(|group| group.event.as_ref() != TRAITS && group.ts.1 < rewrite.kept_from_us)
        {
            old.push(file.clone());
        } else if is_old(&file.entry, rewrite.kept_from_us) || is_dirty(&view, file, place)? {
            dirty.push(file.clone());
        }
    }
    Ok((old, dirty))
}

/// Whether so many days of a file are too old that it is worth rewriting.
fn is_old(file: &FileEntry, kept_from_us: i64) -> bool {
    let events = || file.groups.iter().filter(|group| group.event.as_ref() != TRAITS);
    let (Some(first), Some(last)) = (events().map(|group| group.ts.0).min(), events().map(|group| group.ts.1).max()) else { return false };
    let (first, last, bound) = (day_of(first), day_of(last), day_of(kept_from_us));
    let too_old = bound - first;
    too_old > 0 && (too_old >= DAYS_TOO_OLD || too_old * SHARE_TOO_OLD > last - first)
}

/// Whether a file holds rows that are deleted, or that lie under the number of somebody whose they are not.
fn is_dirty(view: &View, file: &Arc<FileHandle>, place: usize) -> Result<bool, ScanError> {
    let redirects = &view.stored.redirects;
    for group in 0..file.entry.groups.len() {
        let run = Run::File { file: file.clone(), group, place };
        let (least, most) = run.persons();
        let specials = view.specials(&run)?.within(u64::from(least), u64::from(most) + 1);
        let mixed: Vec<u32> = specials.iter().copied().filter(|number| redirects.is_mixed(*number)).collect();
        if !mixed.is_empty() && has_dirty_rows(&run, &mixed, redirects)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_dirty_rows(run: &Run, mixed: &[u32], redirects: &Redirects) -> Result<bool, ScanError> {
    let person = run.columns(&[Column::Person.name().into()])?.pop().flatten();
    let Some(person) = person.as_ref().and_then(|column| column.as_primitive_opt::<UInt32Type>()) else { return Ok(false) };
    let persons = person.values();
    let rows: BTreeSet<usize> = mixed
        .iter()
        .flat_map(|number| persons.partition_point(|person| person < number)..persons.partition_point(|person| person <= number))
        .collect();
    if rows.is_empty() {
        return Ok(false);
    }
    let columns = run.columns(&[Column::Origin.name().into(), Column::ReceivedAt.name().into()])?;
    let origins = columns.first().and_then(Option::as_ref).and_then(|column| column.as_primitive_opt::<UInt32Type>());
    let received = columns.get(1).and_then(Option::as_ref).and_then(|column| column.as_primitive_opt::<Int64Type>());
    let (Some(origins), Some(received)) = (origins, received) else { return Ok(false) };
    let is_dirty = |row: usize| {
        let origin = origins.value(row);
        redirects.is_deleted(origin, received.value(row)) || redirects.survivor(origin) != redirects.survivor(persons[row])
    };
    Ok(rows.into_iter().any(is_dirty))
}

#[cfg(test)]
mod tests {
    use super::super::files::Group;
    use super::*;

    #[test]
    fn a_file_is_rewritten_when_a_week_or_a_quarter_of_it_is_too_old() {
        let file = |first: i64, last: i64| {
            let group = |event: &str, ts| Group { event: event.into(), rows: 1, persons: (1, 1), ts };
            let groups = vec![group(TRAITS, (0, 0)), group("e", (first * DAY_US, last * DAY_US))];
            FileEntry { name: String::new(), days: (0, last), bytes: 0, footer_bytes: 0, footer_checksum: 0, groups }
        };
        let bound = 100 * DAY_US;
        assert!(!is_old(&file(100, 130), bound));
        assert!(!is_old(&file(95, 125), bound));
        assert!(is_old(&file(93, 400), bound));
        assert!(is_old(&file(99, 102), bound));
        assert!(is_old(&file(50, 60), bound), "traits keep such a file, without its events");
        assert!(!is_old(&file(0, 5), i64::MIN));
    }
}
