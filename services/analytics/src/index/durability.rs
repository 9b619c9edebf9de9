//! Tests of what is left after a crash at the worst moment: no workers run, so that each step is taken by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use segue_log::{Log, NewBatch};
use segue_model::module::ModuleSet;
use segue_model::{Module, SystemClock, TenantId};
use segue_proto::events::v1::{
    IdentityChange, IdentityChangeBatch, PersonMerged, ResolvedBatch, ResolvedEvent, ResolvedGroup, identity_change::Change,
};
use segue_runtime::{Tenant, TenantDirectory};
use segue_testkit::{TempLog, TempStore};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::files::FileEntry;
use super::property::Properties;
use super::tail::{Attempt, TenantIndex, TenantState};
use super::{IDENTITY, Index, Lake, Mark, RESOLVED, Reading, Shared};
use crate::config::Config;
use crate::store::{Advance, Catalogue, Publication, Published};

/// What outlives a crash.
struct Place {
    catalogue: Catalogue,
    log: Log,
    lake: TempDir,
    tenants: TenantDirectory,
    _store: TempStore,
    _log: TempLog,
}

fn shop() -> TenantId {
    "shop".parse().expect("a tenant id")
}

fn switched(on: bool) -> Vec<Tenant> {
    let modules: ModuleSet = [Module::Ingest, Module::Analytics].into_iter().filter(|module| on || *module == Module::Ingest).collect();
    vec![Tenant::new(shop(), modules)]
}

fn event(number: u64) -> ResolvedEvent {
    ResolvedEvent { person: 1, name: "e".to_owned(), message_id: format!("m{number}"), ..ResolvedEvent::default() }
}

impl Place {
    async fn each() -> Vec<Self> {
        let mut places = Vec::new();
        for store in segue_testkit::stores() {
            let log = TempLog::embedded();
            places.push(Self {
                catalogue: Catalogue::open(store.url()).await.expect("the store opens"),
                log: log.open().await.expect("the log opens"),
                lake: TempDir::with_prefix("segue-lake-").expect("a folder"),
                tenants: TenantDirectory::fixed(switched(true)),
                _store: store,
                _log: log,
            });
        }
        places
    }

    /// A process as it starts, with what is durable.
    async fn start(&self) -> Arc<Shared> {
        let config = Config { partitions: vec![0], merge_files_min: 2, ..Config::default() };
        let lake = Lake::open(&format!("file:{}", self.lake.path().display())).expect("the lake opens");
        let (catalogue, log) = (self.catalogue.clone(), self.log.clone());
        let opened = Index::open(config, catalogue, lake, Arc::new(SystemClock), self.tenants.clone(), log).await;
        opened.expect("the index opens").0.shared
    }

    /// Puts batches of one event each on the log.
    async fn send(&self, count: u64) {
        for number in 0..count {
            let group = ResolvedGroup { tenant: shop().to_string(), events: vec![event(number)] };
            let payload = ResolvedBatch { groups: vec![group] }.encode_to_vec().into();
            self.log.append(RESOLVED, 0, NewBatch { payload, events: 1, ..NewBatch::default() }).await.expect("the log takes it");
        }
    }
}

/// Lets the live worker read until it has consumed so many batches.
async fn follow(shared: &Arc<Shared>, upto: u64) {
    let stopping = CancellationToken::new();
    let reached = async {
        while shared.partitions[&0].lock().consumed < upto {
            tokio::task::yield_now().await;
        }
        stopping.cancel();
    };
    let working = async { tokio::join!(shared.clone().follow_resolved(0, stopping.clone()), reached) };
    tokio::time::timeout(Duration::from_secs(30), working).await.expect("in time").0.expect("the worker ends");
}

async fn catch_up(shared: &Arc<Shared>) -> Arc<TenantIndex> {
    let tenant = shared.load(&shop()).await.expect("it loads");
    assert!(shared.catch_up_partition(&tenant, 0, (0.0, 1.0), &CancellationToken::new()).await.expect("it reads"));
    tenant
}

fn append(tenant: &TenantIndex, position: u64) {
    let event = event(position);
    tenant.append(0, position, false, 0, [(0, &event)].into_iter()).expect("open").expect("it fits");
}

fn rows(tenant: &Arc<TenantIndex>) -> u64 {
    let files: u64 = tenant.files_and_rewrite(i64::MIN).0.iter().map(|file| file.entry.rows()).sum();
    files + tenant.tail_size().rows as u64
}

async fn rows_in_files(place: &Place) -> u64 {
    let stored = place.catalogue.load(&shop()).await.expect("stored");
    stored.files.iter().map(FileEntry::rows).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_caught_up_with_and_not_flushed_is_caught_up_with_again_after_a_crash() {
    for place in Place::each().await {
        place.tenants.replace(switched(false));
        place.send(10).await;
        let life = place.start().await;
        follow(&life, 10).await;
        life.checkpoint().await.expect("stored");
        place.tenants.replace(switched(true));
        assert_eq!(rows(&catch_up(&life).await), 10);
        life.checkpoint().await.expect("stored");

        // The tenant had joined the live worker; a second crash comes after it was off once more.
        let life = place.start().await;
        assert_eq!(rows(&catch_up(&life).await), 10, "after the first crash");
        place.tenants.replace(switched(false));
        place.send(5).await;
        follow(&life, 15).await;
        life.checkpoint().await.expect("stored");
        place.tenants.replace(switched(true));

        let life = place.start().await;
        let tenant = catch_up(&life).await;
        assert_eq!(rows(&tenant), 15, "after the second crash");
        life.flush(&tenant).await.expect("a flush");
        assert!(place.catalogue.skipped().await.expect("stored").is_empty(), "all is in files");
        life.checkpoint().await.expect("stored");

        let life = place.start().await;
        assert_eq!(rows(&life.load(&shop()).await.expect("it loads")), 15, "after the third crash");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_caught_up_with_before_its_mark_was_stored_is_not_lost_in_a_crash() {
    for place in Place::each().await {
        place.tenants.replace(switched(false));
        place.send(10).await;
        let life = place.start().await;
        follow(&life, 10).await;
        place.tenants.replace(switched(true));
        catch_up(&life).await;
        life.checkpoint().await.expect("stored");
        let life = place.start().await;
        follow(&life, 10).await;
        assert_eq!(rows(&catch_up(&life).await), 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_in_the_middle_of_catching_up_moves_the_mark_to_what_is_in_files() {
    for place in Place::each().await {
        place.tenants.replace(switched(false));
        place.send(10).await;
        let life = place.start().await;
        follow(&life, 10).await;
        life.checkpoint().await.expect("stored");
        place.tenants.replace(switched(true));
        let tenant = life.load(&shop()).await.expect("it loads");
        // What the catch-up task does for its first four batches.
        for position in 1..=4 {
            append(&tenant, position);
            life.partitions[&0].lock().skipped.insert(shop(), Mark { first: 1, stored: true, reading: Reading::Behind(position + 1) });
        }
        life.flush(&tenant).await.expect("a flush");
        assert_eq!(place.catalogue.skipped().await.expect("stored"), [(shop(), 0, 5)]);
        append(&tenant, 5);
        life.checkpoint().await.expect("stored");
        let life = place.start().await;
        assert_eq!(rows(&catch_up(&life).await), 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_whose_answer_was_lost_is_not_written_again() {
    for place in Place::each().await {
        let life = place.start().await;
        let tenant = life.load(&shop()).await.expect("it loads");
        append(&tenant, 1);
        // The transaction is through, and nobody was told.
        let capture = tenant.capture(i64::MIN).expect("a tail");
        let files = life.write_tail(&tenant, &capture).await.expect("files");
        assert_eq!(life.publish_tail(&tenant, &capture, &files).await.expect("published"), Published::Done);
        *tenant.flush.lock().await = Some(Attempt { capture, files: Some(files) });
        append(&tenant, 2);
        assert_eq!(rows(&tenant), 2);
        life.flush(&tenant).await.expect("a flush");
        assert_eq!((rows(&tenant), rows_in_files(&place).await), (2, 2));
        // A flush that was cut off before its transaction is done again.
        append(&tenant, 3);
        let capture = tenant.capture(i64::MIN).expect("a tail");
        *tenant.flush.lock().await = Some(Attempt { capture, files: None });
        append(&tenant, 4);
        life.flush(&tenant).await.expect("a flush");
        assert_eq!((rows(&tenant), rows_in_files(&place).await), (4, 4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_cannot_write_the_same_events_to_files() {
    for place in Place::each().await {
        let (one, other) = (place.start().await, place.start().await);
        for round in 0..2 {
            let (tenant, twin) = (one.load(&shop()).await.expect("it loads"), other.load(&shop()).await.expect("it loads"));
            append(&tenant, round + 1);
            append(&twin, round + 1);
            one.flush(&tenant).await.expect("a flush");
            let refused = other.flush(&twin).await.expect_err("they are in files already");
            assert!(format!("{refused:#}").contains("another process"), "{refused:#}");
            assert_eq!(rows_in_files(&place).await, round + 1);
        }
        let again = Publication { flushed: vec![Advance { partition: 0, before: 1, after: 2 }], ..Publication::default() };
        let refused = place.catalogue.publish(&shop(), 0, &again).await.expect("an answer");
        assert_eq!(refused, Published::Moved { partition: 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_was_let_go_loses_no_events() {
    for place in Place::each().await {
        let life = place.start().await;
        let tenant = life.load(&shop()).await.expect("it loads");
        append(&tenant, 1);
        drop(tenant.capture(i64::MIN).expect("a tail"));
        append(&tenant, 2);
        assert_eq!(tenant.pending(0), Some(1));
        life.flush(&tenant).await.expect("a flush");
        assert_eq!((rows(&tenant), rows_in_files(&place).await, tenant.pending(0)), (2, 2, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_files_are_merged_or_written_stays_in_memory_until_that_is_done() {
    for place in Place::each().await {
        let life = place.start().await;
        let tenant = life.load(&shop()).await.expect("it loads");
        append(&tenant, 1);
        life.flush(&tenant).await.expect("a flush");
        let merging = tenant.merging.lock().await;
        life.unload(&tenant).await.expect("asked");
        assert!(life.find(&shop()).is_some());
        drop(merging);
        let flushing = tenant.flush.lock().await;
        life.unload(&tenant).await.expect("asked");
        assert!(life.find(&shop()).is_some());
        drop(flushing);
        life.unload(&tenant).await.expect("asked");
        assert!(life.find(&shop()).is_none());
        // Whoever still holds it changes nothing any more.
        assert!(!life.merge_next(&tenant).await.expect("asked"));
        life.flush(&tenant).await.expect("nothing to do");
        assert_eq!(rows(&life.load(&shop()).await.expect("it loads")), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn persons_that_are_merged_while_a_tenant_loads_are_redirected_in_it() {
    for place in Place::each().await {
        let life = place.start().await;
        let merged = PersonMerged { from: 7, into: 9 };
        let change = IdentityChange { sequence: 1, change: Some(Change::Merged(merged)), ..IdentityChange::default() };
        let payload = IdentityChangeBatch { tenant: shop().to_string(), changes: vec![change] }.encode_to_vec().into();
        place.log.append(IDENTITY, 0, NewBatch { payload, events: 1, ..NewBatch::default() }).await.expect("the log takes it");
        // Loading by hand: what is stored is read, then the merge comes, then the tenant is there.
        let opening = life.opening.lock().await;
        let stored = place.catalogue.load(&shop()).await.expect("stored");
        let stopping = CancellationToken::new();
        // The merge does not come to be stored as long as the tenant loads. Were it so, this would give it the time.
        let stored_early = async {
            while place.catalogue.load(&shop()).await.expect("stored").changes.steps.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        let loading = async {
            let _ = tokio::time::timeout(Duration::from_millis(300), stored_early).await;
            let state = TenantState::of_stored(BTreeMap::new(), Vec::new(), stored.changes, Properties::load(Vec::new()));
            let tenant = Arc::new(TenantIndex::new(shop(), state, life.tail_bytes.clone()));
            life.tenants.write().insert(shop(), tenant.clone());
            drop(opening);
            while !tenant.with(|state| state.changes.steps.contains_key(&7)) {
                tokio::task::yield_now().await;
            }
            stopping.cancel();
        };
        let working = async { tokio::join!(life.clone().follow_identity(0, 0, stopping.clone()), loading) };
        let worked = tokio::time::timeout(Duration::from_secs(30), working).await;
        worked.expect("the merge reaches the tenant").0.expect("the worker ends");
    }
}
