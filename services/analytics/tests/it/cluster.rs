//! Replicas in one process: each decodes plans from bytes into sessions of its own, and DataFusion Distributed spreads plans over them.

use std::sync::{Arc, OnceLock};

use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::prelude::SessionConfig;
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedExt, DistributedLeafExec,
    ExecuteTaskRequest, GetWorkerInfoRequest, GetWorkerInfoResponse, MaybeEncoded, ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse,
    SessionStateBuilderExt, SetPlanRequest, Worker, WorkerChannel, WorkerQueryContext, WorkerResolver, WorkerToCoordinatorMsg,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use segue_analytics::leaves::QuestionExec;
use segue_analytics::scan::{ScanError, Snapshot};
use segue_analytics::sql::{PlanCodec, SnapshotExec, Snapshots, worker_session};
use tonic::codegen::http::HeaderMap;
use url::Url;

/// What a replica has.
fn snapshots(shared: &Arc<Snapshot>) -> Snapshots {
    let shared = shared.clone();
    Snapshots::new(move |tenant| match tenant == shared.tenant() {
        true => Ok(shared.clone()),
        false => Err(ScanError::NotLoaded { tenant: tenant.to_string() }),
    })
}

/// A session of a replica that has this snapshot.
pub fn replica(shared: &Arc<Snapshot>) -> SessionConfig {
    SessionConfig::new().with_extension(Arc::new(snapshots(shared)))
}

struct Workers(Vec<Url>);

impl WorkerResolver for Workers {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.0.clone())
    }
}

fn desired_tasks(event: DesiredTaskCountEvent<'_>) -> Option<Result<DesiredTaskCountEventResponse>> {
    let snapshot = event.plan.downcast_ref().map(SnapshotExec::tasks_max);
    let tasks_max = snapshot.or_else(|| event.plan.downcast_ref().map(QuestionExec::tasks_max))?;
    Some(Ok(DesiredTaskCountEventResponse::desired(tasks_max)))
}

fn split_leaf(event: ScaleUpLeafNodeEvent<'_>) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let snapshot = event.plan.downcast_ref().map(|leaf: &SnapshotExec| leaf.split(event.task_count));
    let split = snapshot.or_else(|| event.plan.downcast_ref().map(|leaf: &QuestionExec| leaf.split(event.task_count)))?;
    let split = DistributedLeafExec::try_new(event.plan.clone(), split);
    Some(split.map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf))))
}

/// Workers by address. Each has sessions of its own; plans come as bytes, rows without a network between.
#[derive(Clone, Default)]
struct Replicas(Arc<OnceLock<Vec<(Url, Worker)>>>);

struct Replica(Worker);

#[tonic::async_trait]
impl ChannelResolver for Replicas {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>, DataFusionError> {
        let found = self.0.get().and_then(|replicas| replicas.iter().find(|(address, _)| address == url));
        let (_, worker) = found.ok_or_else(|| DataFusionError::Execution(format!("no worker at {url}")))?;
        Ok(Box::new(Replica(worker.clone())))
    }
}

#[tonic::async_trait]
impl WorkerChannel for Replica {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        mut request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        _: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        request.plan = MaybeEncoded::Encoded(request.plan.encode(context)?);
        self.0.coordinator_channel(headers, request, messages.map(Ok).boxed()).await
    }

    async fn execute_task(
        &mut self,
        _: HeaderMap,
        request: ExecuteTaskRequest,
        _: ExecutionPlanMetricsSet,
        _: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch>>>> {
        let (streams, _) = self.0.execute_task(request).await?;
        Ok(streams.into_iter().map(|stream| stream.boxed()).collect())
    }

    async fn get_worker_info(&mut self, _: GetWorkerInfoRequest) -> Result<GetWorkerInfoResponse> {
        Ok(GetWorkerInfoResponse { version: self.0.version().to_owned() })
    }
}

/// A worker as a replica would mount it.
fn worker(shared: &Arc<Snapshot>, replicas: &Replicas) -> Worker {
    let (shared, replicas) = (shared.clone(), replicas.clone());
    Worker::from_session_builder(move |context: WorkerQueryContext| {
        let builder = worker_session(context.builder, snapshots(&shared));
        let builder = builder.with_distributed_user_codec(PlanCodec).with_distributed_channel_resolver(replicas.clone());
        std::future::ready(Ok(builder.build()))
    })
}

/// This session over one worker per snapshot.
pub fn over_workers(alone: &SessionState, snapshots: &[Arc<Snapshot>]) -> SessionState {
    let url = |number: usize| Url::parse(&format!("http://replica-{number}:1")).expect("a URL");
    let urls: Vec<Url> = (0..snapshots.len()).map(url).collect();
    let replicas = Replicas::default();
    let workers = urls.iter().zip(snapshots).map(|(url, snapshot)| (url.clone(), worker(snapshot, &replicas))).collect();
    assert!(replicas.0.set(workers).is_ok());
    SessionStateBuilder::new_from_existing(alone.clone())
        .with_distributed_worker_resolver(Workers(urls))
        .with_distributed_channel_resolver(replicas)
        .with_distributed_planner()
        .with_distributed_user_codec(PlanCodec)
        .with_distributed_desired_task_count_handler(desired_tasks)
        .with_distributed_scale_up_leaf_node_handler(split_leaf)
        .build()
}
