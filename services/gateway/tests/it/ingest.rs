//! A small ingest service behind a socket: it tells what reached it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::Stream;
use segue_proto::ingest::v1::ingest_service_server::{IngestService, IngestServiceServer};
use segue_proto::ingest::v1::{
    CollectRequest, CollectResponse, GetPipelineStatusRequest, GetPipelineStatusResponse, TrackRequest, TrackResponse, TrackStreamRequest,
    TrackStreamResponse,
};
use segue_runtime::Caller;
use tokio::sync::{Mutex, Notify, Semaphore};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

/// What a call brought along.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) caller: Caller,
    pub(crate) metadata: MetadataMap,
}

/// Shared with the test.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) collected: Mutex<Vec<(CollectRequest, Caller)>>,
    /// A call that never answers has begun.
    pub(crate) hanging: Notify,
    /// A call that never answers was dropped.
    pub(crate) dropped: Arc<Flag>,
    /// How many stream messages may be read.
    pub(crate) reads: Semaphore,
    pub(crate) messages_read: AtomicU64,
}

/// Set once, waited for.
#[derive(Debug, Default)]
pub(crate) struct Flag {
    set: AtomicBool,
    notify: Notify,
}

impl Flag {
    fn raise(&self) {
        self.set.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    pub(crate) async fn raised(&self) {
        loop {
            let notified = self.notify.notified();
            if self.set.load(Ordering::SeqCst) {
                return;
            }
            notified.await;
        }
    }
}

struct RaiseOnDrop(Arc<Flag>);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

#[derive(Debug, Clone)]
pub(crate) struct SmallIngest(pub(crate) Arc<Inner>);

impl SmallIngest {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            seen: Mutex::default(),
            collected: Mutex::default(),
            hanging: Notify::new(),
            dropped: Arc::default(),
            reads: Semaphore::new(Semaphore::MAX_PERMITS),
            messages_read: AtomicU64::new(0),
        }))
    }

    pub(crate) fn routes(&self) -> Routes {
        Routes::new(IngestServiceServer::new(self.clone()))
    }

    async fn note<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let caller = Caller::of(request).map_err(|error| Status::unauthenticated(error.to_string()))?;
        self.0.seen.lock().await.push(Seen { caller, metadata: request.metadata().clone() });
        Ok(())
    }
}

#[tonic::async_trait]
impl IngestService for SmallIngest {
    async fn track(&self, request: Request<TrackRequest>) -> Result<Response<TrackResponse>, Status> {
        self.note(&request).await?;
        let asked = request.metadata().get("x-test").cloned();
        match asked.as_ref().and_then(|value| value.to_str().ok()) {
            Some("hang") => {
                let _raise = RaiseOnDrop(self.0.dropped.clone());
                self.0.hanging.notify_one();
                std::future::pending::<()>().await;
            }
            Some("fail") => {
                let details = ErrorDetails::with_error_info("OWN_REASON", "segue", [("a".to_owned(), "b".to_owned())]);
                return Err(Status::with_error_details(Code::Aborted, "as asked: ü", details));
            }
            _ => {}
        }
        let accepted = u32::try_from(request.get_ref().events.len()).unwrap_or(u32::MAX);
        let mut response = Response::new(TrackResponse { accepted, ..TrackResponse::default() });
        if let Some(value) = asked {
            response.metadata_mut().insert("x-test-back", value);
        }
        Ok(response)
    }

    type TrackStreamStream = Pin<Box<dyn Stream<Item = Result<TrackStreamResponse, Status>> + Send>>;

    async fn track_stream(&self, request: Request<Streaming<TrackStreamRequest>>) -> Result<Response<Self::TrackStreamStream>, Status> {
        self.note(&request).await?;
        let inner = self.0.clone();
        let raise = RaiseOnDrop(inner.dropped.clone());
        let answers = futures::stream::try_unfold((request.into_inner(), inner, raise), |(mut requests, inner, raise)| async move {
            inner.reads.acquire().await.map_err(|_| Status::internal("closed"))?.forget();
            let Some(message) = requests.message().await? else { return Ok(None) };
            let accepted = inner.messages_read.fetch_add(1, Ordering::SeqCst) + 1;
            let answer = TrackStreamResponse { acknowledged_sequence: message.sequence, accepted, ..TrackStreamResponse::default() };
            Ok(Some((answer, (requests, inner, raise))))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn collect(&self, request: Request<CollectRequest>) -> Result<Response<CollectResponse>, Status> {
        let caller = Caller::of(&request).map_err(|error| Status::unauthenticated(error.to_string()))?;
        let message = request.into_inner();
        let asked = String::from_utf8_lossy(&message.body).into_owned();
        self.0.collected.lock().await.push((message, caller));
        if asked.contains("answer-unavailable") {
            return Err(Status::unavailable("away"));
        }
        if asked.contains("answer-exhausted") {
            let mut details = ErrorDetails::with_error_info("LOG_FULL", "segue", [("a".to_owned(), "b".to_owned())]);
            details.set_retry_info(Some(Duration::from_millis(2_300)));
            return Err(Status::with_error_details(Code::ResourceExhausted, "full", details));
        }
        if asked.contains("answer-unauthenticated") {
            return Err(Status::unauthenticated("between services"));
        }
        if asked.contains("answer-invalid") {
            return Err(Status::invalid_argument("no"));
        }
        let status = if asked.contains("answer-400") { 400 } else { 200 };
        Ok(Response::new(CollectResponse { status, body: r#"{"success":true}"#.into(), accepted: 1, ..CollectResponse::default() }))
    }

    async fn get_pipeline_status(&self, request: Request<GetPipelineStatusRequest>) -> Result<Response<GetPipelineStatusResponse>, Status> {
        self.note(&request).await?;
        Ok(Response::new(GetPipelineStatusResponse::default()))
    }
}
