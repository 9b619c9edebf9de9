//! Asking identity who the events of a group belong to.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use segue_model::TenantId;
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::identity::v1::{PersonProfile, Resolution, ResolveBatchRequest, Subject};
use segue_runtime::transport::{MESSAGE_BYTES_MAX, PeerChannel, for_tenant};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_types::StatusExt;

use super::error::PipelineError;
use super::retry::Backoff;

/// Subjects of one call. More are asked for in several calls, each under a source of its own, so that each can be repeated.
const SUBJECTS_MAX: usize = 10_000;
/// Tenants of a group that are asked for at once.
const CALLS_AT_ONCE: usize = 4;

/// What identity said about the events of one tenant.
#[derive(Debug, Default)]
pub struct Answer {
    /// One per subject.
    pub resolutions: Vec<Resolution>,
    /// By person.
    pub profiles: BTreeMap<u32, PersonProfile>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Identity is switched off for this tenant.
    SwitchedOff(String),
    /// Anything else.
    Failed(PipelineError),
}

impl From<PipelineError> for NoAnswer {
    fn from(error: PipelineError) -> Self {
        NoAnswer::Failed(error)
    }
}

/// Asks identity. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    /// Identity.
    pub identity: PeerChannel,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Longest pause between attempts.
    pub pause_max: Duration,
}

impl Resolver {
    /// Resolves the subjects of each tenant, under `(source, sequence)`. Waits and repeats while identity is away.
    pub async fn resolve(
        &self,
        source: &str,
        sequence: u64,
        subjects: Vec<(String, Vec<Subject>)>,
        stop: &CancellationToken,
    ) -> Result<BTreeMap<String, Answer>, NoAnswer> {
        stream::iter(subjects)
            .map(|(tenant, subjects)| async move {
                let answer = self.resolve_tenant(&tenant, source, sequence, subjects, stop).await?;
                Ok::<_, NoAnswer>((tenant, answer))
            })
            .buffer_unordered(CALLS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn resolve_tenant(
        &self,
        tenant: &str,
        source: &str,
        sequence: u64,
        mut subjects: Vec<Subject>,
        stop: &CancellationToken,
    ) -> Result<Answer, NoAnswer> {
        let mut answer = Answer::default();
        let mut part = 0;
        while !subjects.is_empty() {
            let rest = subjects.split_off(subjects.len().min(SUBJECTS_MAX));
            let source = if part == 0 { source.to_owned() } else { format!("{source}.{part}") };
            let request = ResolveBatchRequest { source, sequence, subjects };
            self.call(tenant, request, &mut answer, stop).await?;
            subjects = rest;
            part += 1;
        }
        Ok(answer)
    }

    async fn call(
        &self,
        tenant: &str,
        request: ResolveBatchRequest,
        answer: &mut Answer,
        stop: &CancellationToken,
    ) -> Result<(), NoAnswer> {
        let Ok(id) = tenant.parse::<TenantId>() else {
            // Never accepted; its directory entry does not exist, so the worker skips it before it gets here.
            return Err(NoAnswer::SwitchedOff(tenant.to_owned()));
        };
        let mut client = IdentityServiceClient::new(self.identity.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let mut backoff = Backoff::new(self.pause_max);
        loop {
            let called = tokio::select! {
                called = tokio::time::timeout(self.timeout, client.resolve_batch(for_tenant(&id, request.clone()))) => called,
                () = stop.cancelled() => return Err(PipelineError::Stopping.into()),
            };
            let status = match called {
                Ok(Ok(response)) => {
                    let response = response.into_inner();
                    let (asked, got) = (request.subjects.len(), response.resolutions.len());
                    if asked != got {
                        return Err(PipelineError::WrongAnswer { tenant: tenant.to_owned(), asked, got }.into());
                    }
                    answer.resolutions.extend(response.resolutions);
                    answer.profiles.extend(response.profiles.into_iter().map(|profile| (profile.person, profile)));
                    return Ok(());
                }
                Ok(Err(status)) => status,
                Err(_) => tonic::Status::deadline_exceeded("no answer in time"),
            };
            match status.code() {
                Code::FailedPrecondition if reason(&status) == "MODULE_DISABLED" => {
                    return Err(NoAnswer::SwitchedOff(tenant.to_owned()));
                }
                Code::FailedPrecondition => {
                    return Err(PipelineError::Superseded {
                        producer: request.source,
                        sequence: request.sequence,
                        tenant: tenant.to_owned(),
                        message: status.message().to_owned(),
                    }
                    .into());
                }
                // Nothing may be skipped, so even what looks hopeless waits for somebody to mend it.
                Code::InvalidArgument | Code::Unimplemented | Code::DataLoss | Code::PermissionDenied | Code::Unauthenticated => {
                    tracing::error!(tenant, source = request.source, sequence = request.sequence, code = ?status.code(),
                        message = status.message(), "identity refuses a batch; events of this partition wait until it takes it");
                }
                _ => tracing::warn!(tenant, source = request.source, sequence = request.sequence, code = ?status.code(),
                    message = status.message(), "identity is not available; trying again"),
            }
            backoff.pause(stop).await?;
        }
    }
}

fn reason(status: &tonic::Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
