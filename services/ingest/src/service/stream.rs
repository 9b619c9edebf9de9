//! TrackStream: batches in, cumulative acknowledgements out.
//!
//! Nothing runs beside the response stream: it is the response that is polled, and it reads the next batch only while fewer
//! than `in_flight_max` are unacknowledged. A client that does not read its acknowledgements is therefore not read from.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered};
use futures::{FutureExt, StreamExt};
use segue_model::{Clock, TenantId};
use segue_proto::ingest::v1::{Outcome, StreamOutcome, TrackStreamRequest, TrackStreamResponse};
use segue_runtime::status::to_status;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::ingest::Counts;
use crate::accept::Origin;
use crate::{Accept, IngestError};

/// A batch that is durable, with the outcomes of its events.
struct Durable {
    sequence: u64,
    outcomes: Vec<segue_proto::ingest::v1::EventOutcome>,
}

/// One stream.
pub(super) struct TrackStream {
    accept: Accept,
    tenant: TenantId,
    origin: Origin,
    clock: Arc<dyn Clock>,
    in_flight_max: usize,
    draining: CancellationToken,
    incoming: Streaming<TrackStreamRequest>,
    in_flight: FuturesOrdered<BoxFuture<'static, Result<Durable, IngestError>>>,
    /// Last sequence read.
    sequence: u64,
    /// Totals so far.
    totals: TrackStreamResponse,
    /// Nothing more is read.
    ended: bool,
    /// What ends the stream, after what was read before is acknowledged.
    failure: Option<Status>,
}

impl TrackStream {
    pub(super) fn new(
        accept: Accept,
        tenant: TenantId,
        origin: Origin,
        clock: Arc<dyn Clock>,
        in_flight_max: usize,
        draining: CancellationToken,
        incoming: Streaming<TrackStreamRequest>,
    ) -> Self {
        Self {
            accept,
            tenant,
            origin,
            clock,
            in_flight_max,
            draining,
            incoming,
            in_flight: FuturesOrdered::new(),
            sequence: 0,
            totals: TrackStreamResponse::default(),
            ended: false,
            failure: None,
        }
    }

    pub(super) fn into_responses(self) -> BoxStream<'static, Result<TrackStreamResponse, Status>> {
        futures::stream::unfold(self, |mut stream| async move {
            let response = stream.next().await?;
            Some((response, stream))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<TrackStreamResponse, Status>> {
        loop {
            let may_read = !self.ended && self.in_flight.len() < self.in_flight_max;
            if self.ended && self.in_flight.is_empty() {
                return self.failure.take().map(Err);
            }
            tokio::select! {
                biased;
                () = self.draining.cancelled(), if !self.ended => self.ended = true,
                Some(batch) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    if let Some(response) = self.acknowledge(batch) {
                        return Some(Ok(response));
                    }
                }
                message = self.incoming.message(), if may_read => self.read(message).await,
            }
        }
    }

    async fn read(&mut self, message: Result<Option<TrackStreamRequest>, Status>) {
        match message {
            Ok(Some(request)) => {
                if let Err(error) = self.admit(request).await {
                    self.end_with(&error);
                }
            }
            Ok(None) => self.ended = true,
            Err(status) => {
                self.ended = true;
                self.failure.get_or_insert(status);
            }
        }
    }

    async fn admit(&mut self, request: TrackStreamRequest) -> Result<(), IngestError> {
        let TrackStreamRequest { sequence, events } = request;
        if sequence <= self.sequence {
            let description = format!("is {sequence} after {}: number the batches of a stream 1, 2, 3, …", self.sequence);
            return Err(IngestError::invalid("sequence", description));
        }
        self.sequence = sequence;
        let origin = Origin { received_at_us: self.clock.now_us(), ..self.origin.clone() };
        let admitted = self.accept.admit_waiting(&self.tenant, origin, events).await?;
        self.in_flight.push_back(async move { Ok(Durable { sequence, outcomes: admitted.durable().await? }) }.boxed());
        Ok(())
    }

    /// One response for this batch and all after it that are durable by now.
    fn acknowledge(&mut self, first: Result<Durable, IngestError>) -> Option<TrackStreamResponse> {
        let mut failures = Vec::new();
        let mut acknowledged = false;
        let mut next = Some(first);
        while let Some(batch) = next {
            match batch {
                Ok(durable) => {
                    self.count(durable, &mut failures);
                    acknowledged = true;
                }
                Err(error) => {
                    // What follows may be durable, but an acknowledgement covers everything before it.
                    self.in_flight = FuturesOrdered::new();
                    self.end_with(&error);
                    break;
                }
            }
            next = self.in_flight.next().now_or_never().flatten();
        }
        acknowledged.then(|| TrackStreamResponse { failures, ..self.totals.clone() })
    }

    fn count(&mut self, durable: Durable, failures: &mut Vec<StreamOutcome>) {
        let counts = Counts::of(&durable.outcomes);
        self.totals.acknowledged_sequence = durable.sequence;
        self.totals.accepted += u64::from(counts.accepted);
        self.totals.quarantined += u64::from(counts.quarantined);
        self.totals.rejected += u64::from(counts.rejected);
        for (index, outcome) in (0u32..).zip(durable.outcomes) {
            if outcome.outcome() != Outcome::Accepted {
                failures.push(StreamOutcome { sequence: durable.sequence, index, outcome: Some(outcome) });
            }
        }
    }

    fn end_with(&mut self, error: &IngestError) {
        self.ended = true;
        self.failure.get_or_insert_with(|| to_status(error));
    }
}
