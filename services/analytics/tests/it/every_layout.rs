//! The same events in every layout that the index knows. No answer may depend on it.
//!
//! To hold a question against it: an `on_the_index` test that calls [`in_every_layout`] and compares with its plain reference.

use std::collections::HashMap;

use arrow::array::AsArray;
use arrow::datatypes::{UInt32Type, UInt64Type};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use segue_analytics::scan::{Column, ScanRequest};
use segue_model::TenantId;
use segue_proto::events::v1::ResolvedEvent;

use crate::rig::{ALL_TIMES, Life, Rig, eventually};

/// A value, the same in every run.
pub fn draw<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).expect("a value").current()
}

/// Person numbers as they should be read after these merges.
fn redirect(events: &mut [ResolvedEvent], merges: &[(u32, u32)]) {
    for event in events {
        event.person = merges.iter().find(|(from, _)| *from == event.person).map_or(event.person, |(_, into)| *into);
    }
}

/// (message id, person, sequence) of all rows.
async fn stored(life: &Life, tenant: &TenantId) -> Vec<(String, u32, u64)> {
    let snapshot = life.snapshot(tenant);
    let read = tokio::task::spawn_blocking(move || {
        let columns = vec![Column::MessageId, Column::Person, Column::Sequence];
        let request = ScanRequest { events: None, range_us: ALL_TIMES, columns, persons: None };
        let mut rows = Vec::new();
        for batch in snapshot.scan(request) {
            let batch = batch.expect("a batch").batch;
            let ids = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).expect("texts");
            let (ids, persons) = (ids.as_string::<i32>(), batch.column(1).as_primitive::<UInt32Type>());
            let sequences = batch.column(2).as_primitive::<UInt64Type>();
            rows.extend((0..batch.num_rows()).map(|row| (ids.value(row).to_owned(), persons.value(row), sequences.value(row))));
        }
        rows
    });
    read.await.expect("no panic")
}

/// Calls `compare` with the events so far, in the order of their sequences (which decides between equal times), while they lie
/// - in the tail, in a fresh file, in files and the tail together, in merged files,
/// - with persons merged: read through redirects, after a crash, and rewritten by merging.
///
/// `merges` are (from, into).
pub async fn in_every_layout(
    rig: &Rig,
    tenant: &TenantId,
    mut events: Vec<ResolvedEvent>,
    merges: &[(u32, u32)],
    compare: impl AsyncFn(&Life, Vec<ResolvedEvent>, &'static str),
) {
    for (number, event) in events.iter_mut().enumerate() {
        event.message_id = number.to_string();
    }
    let life = rig.start().await;
    let compare_with = async |life: &Life, events: &[ResolvedEvent], layout| {
        eventually("the log was looked at", || async { life.snapshot(tenant).watermark_us() > 0 }).await;
        let order: HashMap<String, u64> = stored(life, tenant).await.into_iter().map(|(id, _, sequence)| (id, sequence)).collect();
        assert_eq!(order.len(), events.len(), "{layout}");
        let mut events = events.to_vec();
        events.sort_by_key(|event| order[&event.message_id]);
        compare(life, events, layout).await;
    };
    let send = async |part: &[ResolvedEvent]| {
        let part: Vec<_> = part.iter().map(|event| (tenant.clone(), event.clone())).collect();
        life.send(&part, 20).await;
        life.settled(tenant).await;
    };
    let (third, two_thirds) = (events.len() / 3, events.len() * 2 / 3);
    send(&events[..third]).await;
    compare_with(&life, &events[..third], "tail").await;
    life.index().flush(tenant).await.expect("a flush");
    compare_with(&life, &events[..third], "file").await;
    send(&events[third..two_thirds]).await;
    life.index().flush(tenant).await.expect("a flush");
    send(&events[two_thirds..]).await;
    compare_with(&life, &events, "files and tail").await;
    life.index().merge(tenant).await.expect("a merge");
    compare_with(&life, &events, "merged files and tail").await;

    life.merge_persons(tenant, 1, merges).await;
    redirect(&mut events, merges);
    eventually("merged persons are one", || async {
        stored(&life, tenant).await.iter().all(|(_, person, _)| merges.iter().all(|(from, _)| from != person))
    })
    .await;
    compare_with(&life, &events, "redirected persons").await;
    life.crash().await;

    let life = rig.start().await;
    life.index().load(tenant).await.expect("the tenant");
    life.settled(tenant).await;
    compare_with(&life, &events, "after a crash").await;
    life.index().flush(tenant).await.expect("a flush");
    life.index().merge(tenant).await.expect("a merge");
    compare_with(&life, &events, "rewritten persons").await;
    life.crash().await;
}
