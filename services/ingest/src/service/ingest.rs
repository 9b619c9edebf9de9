//! IngestService: Track, Collect and the pipeline's status; TrackStream is in `stream.rs`.

use std::sync::Arc;

use futures::stream::BoxStream;
use segue_model::Clock;
use segue_proto::ingest::v1::ingest_service_server::IngestService;
use segue_proto::ingest::v1::{
    CollectRequest, CollectResponse, EventOutcome, GetPipelineStatusRequest, GetPipelineStatusResponse, Outcome, TrackRequest,
    TrackResponse, TrackStreamRequest, TrackStreamResponse,
};
use segue_runtime::caller::{Caller, Role};
use segue_runtime::status::{reply, to_status};
use segue_store::Db;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::stream::TrackStream;
use crate::config::AcceptConfig;
use crate::pipeline::Pipeline;
use crate::{Accept, IngestError, Origin, collect, store};

/// The service.
pub(crate) struct IngestApi {
    accept: Accept,
    pipeline: Pipeline,
    db: Db,
    clock: Arc<dyn Clock>,
    config: AcceptConfig,
    draining: CancellationToken,
}

impl IngestApi {
    pub(crate) fn new(
        accept: Accept,
        pipeline: Pipeline,
        db: Db,
        clock: Arc<dyn Clock>,
        config: AcceptConfig,
        draining: CancellationToken,
    ) -> Self {
        Self { accept, pipeline, db, clock, config, draining }
    }

    fn origin(&self, caller: &Caller) -> Origin {
        Origin { source: caller.source.clone(), received_at_us: self.clock.now_us(), ..Origin::default() }
    }

    async fn track_batch(&self, request: Request<TrackRequest>) -> Result<TrackResponse, IngestError> {
        let caller = Caller::of(&request)?;
        let tenant = caller.tenant_with(Role::Writer)?;
        let outcomes = self.accept.accept(tenant, self.origin(&caller), request.into_inner().events).await?;
        let Counts { accepted, quarantined, rejected } = Counts::of(&outcomes);
        Ok(TrackResponse { outcomes, accepted, quarantined, rejected })
    }

    async fn collect_body(&self, request: Request<CollectRequest>) -> Result<CollectResponse, IngestError> {
        let caller = Caller::of(&request)?;
        let tenant = caller.tenant_with(Role::Writer)?;
        let request = request.into_inner();
        let origin = Origin { ip: request.ip, user_agent: request.user_agent, ..self.origin(&caller) };
        collect::collect(&self.accept, tenant, origin, &request.route, &request.body).await
    }

    async fn pipeline_status(&self, request: Request<GetPipelineStatusRequest>) -> Result<GetPipelineStatusResponse, IngestError> {
        let caller = Caller::of(&request)?;
        let tenant = caller.tenant_with(Role::Analyst)?;
        let mut status = self.pipeline.status(tenant).await?;
        status.quarantined = store::quarantine::count_ever(&self.db, tenant).await?;
        Ok(status)
    }
}

/// How many events had which outcome.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) accepted: u32,
    pub(crate) quarantined: u32,
    pub(crate) rejected: u32,
}

impl Counts {
    pub(crate) fn of(outcomes: &[EventOutcome]) -> Counts {
        let mut counts = Counts::default();
        for outcome in outcomes {
            match outcome.outcome() {
                Outcome::Accepted => counts.accepted += 1,
                Outcome::Quarantined => counts.quarantined += 1,
                Outcome::Rejected | Outcome::Unspecified => counts.rejected += 1,
            }
        }
        counts
    }
}

#[tonic::async_trait]
impl IngestService for IngestApi {
    async fn track(&self, request: Request<TrackRequest>) -> Result<Response<TrackResponse>, Status> {
        reply(self.track_batch(request).await)
    }

    type TrackStreamStream = BoxStream<'static, Result<TrackStreamResponse, Status>>;

    async fn track_stream(&self, request: Request<Streaming<TrackStreamRequest>>) -> Result<Response<Self::TrackStreamStream>, Status> {
        let caller = Caller::of(&request).map_err(|error| to_status(&error))?;
        let tenant = caller.tenant_with(Role::Writer).map_err(|error| to_status(&error))?.clone();
        let in_flight_max = self.config.stream_batches_in_flight_max as usize;
        let origin = self.origin(&caller);
        let stream = TrackStream::new(
            self.accept.clone(),
            tenant,
            origin,
            self.clock.clone(),
            in_flight_max,
            self.draining.clone(),
            request.into_inner(),
        );
        Ok(Response::new(stream.into_responses()))
    }

    async fn collect(&self, request: Request<CollectRequest>) -> Result<Response<CollectResponse>, Status> {
        reply(self.collect_body(request).await)
    }

    async fn get_pipeline_status(&self, request: Request<GetPipelineStatusRequest>) -> Result<Response<GetPipelineStatusResponse>, Status> {
        reply(self.pipeline_status(request).await)
    }
}
