//! Plans that are sent elsewhere: as bytes, in parts, and in the stages and tasks of DataFusion Distributed.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::{SessionStateBuilder, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect, displayable, execute_stream_partitioned};
use datafusion_distributed::{DistributedExec, display_plan_ascii};
use datafusion_proto::bytes::{physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec};
use futures::TryStreamExt;
use segue_analytics::scan::Snapshot;
use segue_analytics::sql::{PlanCodec, SnapshotExec, plan, session};

use super::{batch_cells, generous, now, physical, snapshot};
use crate::cluster::{over_workers, replica};
use crate::events::events;

const QUERIES: [&str; 9] = [
    "SELECT event || '-' || platform AS both, replace(event, 'df', 'x'), count(*) FROM events GROUP BY both, event",
    "SELECT count(*), sum(value), count(DISTINCT person) FROM events WHERE ts >= '2026-11-01'",
    "SELECT event, platform, count(*), min(ts), max(p_paid) FROM events GROUP BY event, platform",
    "SELECT * FROM events WHERE event = 'df_purchase' AND person > 60000",
    "SELECT * FROM persons WHERE person IN (1, 5001, 100001)",
    "SELECT p.events, count(*) FROM events AS e JOIN persons AS p ON p.person = e.person GROUP BY p.events",
    "SELECT item['item_id'] AS item, sum(item['quantity']) FROM (SELECT unnest(items) AS item FROM events) GROUP BY item",
    "SELECT person, message_id, count(*) OVER (PARTITION BY person) FROM events",
    "SELECT count(*) FROM (SELECT person FROM events ORDER BY ts DESC, message_id LIMIT 37)",
];

fn sorted(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.sort();
    rows
}

async fn rows(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Vec<Vec<String>> {
    sorted(batch_cells(&collect(plan, context).await.expect("rows")))
}

fn leaves(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    let mut leaves = Vec::new();
    plan.apply(|node| {
        if node.is::<SnapshotExec>() {
            leaves.push(node.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("a walk");
    leaves
}

#[tokio::test]
async fn a_plan_that_went_through_bytes_gives_the_same_answer() {
    let shop = snapshot(&events(5, 600));
    let here = session(&shop, &generous(), now()).expect("a session");
    let there = SessionStateBuilder::new_from_existing(here.clone()).with_config(replica(&shop)).build();
    for text in QUERIES {
        let original = physical(&shop, text).await;
        let bytes = physical_plan_to_bytes_with_extension_codec(original.clone(), &PlanCodec).expect("bytes");
        let arrived = physical_plan_from_bytes_with_extension_codec(&bytes, &there.task_ctx(), &PlanCodec).expect("a plan");
        let shown = |plan: &Arc<dyn ExecutionPlan>| {
            leaves(plan).iter().map(|leaf| displayable(leaf.as_ref()).one_line().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(shown(&arrived), shown(&original));
        assert_eq!(rows(arrived, there.task_ctx()).await, rows(original, here.task_ctx()).await, "{text}");
    }
    let bytes = physical_plan_to_bytes_with_extension_codec(physical(&shop, "SELECT person FROM events").await, &PlanCodec).expect("bytes");
    let stranger = SessionStateBuilder::new_from_existing(here).with_config(replica(&snapshot_of("other"))).build();
    let refused = physical_plan_from_bytes_with_extension_codec(&bytes, &stranger.task_ctx(), &PlanCodec).expect_err("another tenant's");
    assert!(refused.to_string().contains("shop"), "{refused}");
}

fn snapshot_of(tenant: &str) -> Arc<Snapshot> {
    Arc::new(Snapshot::of_events(&crate::rig::tenant(tenant), 0, &[]).expect("a snapshot"))
}

#[tokio::test]
async fn parts_of_a_leaf_give_together_what_the_leaf_gives_and_no_person_twice() {
    let shop = snapshot(&events(6, 600));
    let state = session(&shop, &generous(), now()).expect("a session");
    for text in ["SELECT * FROM events", "SELECT person, ts FROM events WHERE person > 7000 AND event LIKE 'df%'", "SELECT * FROM persons"]
    {
        let whole = physical(&shop, text).await;
        let leaf = leaves(&whole).pop().expect("a leaf");
        let leaf_rows = rows(leaf.clone(), state.task_ctx()).await;
        let leaf: &SnapshotExec = leaf.downcast_ref().expect("ours");
        assert!(leaf.tasks_max() >= 3);
        let person = leaf.schema().index_of("person").expect("a column");
        for tasks in [1, 2, 8] {
            let split = leaf.split(tasks);
            assert_eq!(split.len(), tasks);
            let mut all = Vec::new();
            let mut seen = std::collections::BTreeMap::new();
            for (task, part) in split.into_iter().enumerate() {
                assert_eq!(part.output_partitioning().partition_count(), leaf.split(tasks)[0].output_partitioning().partition_count());
                for (number, stream) in execute_stream_partitioned(part, state.task_ctx()).expect("streams").into_iter().enumerate() {
                    let batches: Vec<_> = stream.try_collect().await.expect("batches");
                    for row in batch_cells(&batches) {
                        let place = *seen.entry(row[person].clone()).or_insert((task, number));
                        assert_eq!(place, (task, number), "a person is in one partition");
                        all.push(row);
                    }
                }
            }
            assert_eq!(sorted(all), leaf_rows, "{text} in {tasks} tasks");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_that_are_cut_into_stages_and_tasks_over_workers_give_the_same_answers() {
    let shop = snapshot(&events(7, 600));
    let alone = session(&shop, &generous(), now()).expect("a session");
    let together = over_workers(&alone, &[shop.clone(), shop.clone(), shop.clone()]);
    let mut distributed = 0;
    for text in QUERIES {
        let here = plan(&alone, &generous(), text).await.expect("a plan");
        let there = plan(&together, &generous(), text).await.expect("a plan");
        distributed += usize::from(there.is::<DistributedExec>());
        let shown = display_plan_ascii(there.as_ref(), false);
        let found = collect(there, together.task_ctx()).await.unwrap_or_else(|error| panic!("{text}: {error}:\n{shown}"));
        assert_eq!(sorted(batch_cells(&found)), rows(here, alone.task_ctx()).await, "{text}:\n{shown}");
    }
    assert!(distributed >= 5, "{distributed} plans were distributed");
}
