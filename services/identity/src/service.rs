//! The RPCs of `segue.identity.v1.IdentityService`: dispatch only; `resolve`, `persons`, `select`, `accounts` and
//! `consents` do the work.

mod accounts;
mod consents;
mod persons;
mod resolve;
mod select;

use std::sync::Arc;

use segue_model::{Clock, Module, TenantId};
use segue_proto::identity::v1::identity_service_server::IdentityService;
use segue_proto::identity::v1::{
    Account, BatchGetPersonsRequest, BatchGetPersonsResponse, GetAccountRequest, GetIdentityStatusRequest, GetIdentityStatusResponse,
    GetPersonRequest, ListConsentsRequest, ListConsentsResponse, ListLinkRecordsRequest, ListLinkRecordsResponse, ListPersonsRequest,
    ListPersonsResponse, LookupIdentifiersRequest, LookupIdentifiersResponse, MergePersonsRequest, MergePersonsResponse, Person,
    ResolveBatchRequest, ResolveBatchResponse, SelectIdentifiedRequest, SelectIdentifiedResponse, SelectSurvivorsRequest,
    SelectSurvivorsResponse, SetConsentsRequest, SetConsentsResponse, UnlinkIdentifierRequest, UnlinkIdentifierResponse,
};
use segue_runtime::TenantDirectory;
use segue_runtime::caller::{Caller, Role};
use segue_runtime::status::reply;
use segue_store::Db;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use crate::Config;
use crate::error::IdentityError;
use crate::identifier::Identifiers;
use crate::writer::Job;

/// The service. Cheap to share.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) config: Config,
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tenants: TenantDirectory,
    pub(crate) identifiers: Identifiers,
    pub(crate) jobs: mpsc::Sender<Job>,
}

impl Identity {
    /// The tenant on whose behalf the caller may do this, if identity is switched on for it.
    fn admit<T>(&self, request: &Request<T>, least: Role) -> Result<TenantId, IdentityError> {
        let caller = Caller::of(request)?;
        caller.require(least)?;
        let tenant = caller.tenant()?.clone();
        match self.tenants.get(&tenant) {
            None => Err(IdentityError::TenantUnknown { tenant }),
            Some(_) if !self.tenants.is_on(&tenant, Module::Identity) => Err(IdentityError::ModuleDisabled { tenant }),
            Some(_) => Ok(tenant),
        }
    }

    /// Hands a job to the writer and waits for what comes of it.
    async fn submit<T>(&self, job: Job, outcome: oneshot::Receiver<Result<T, IdentityError>>) -> Result<T, IdentityError> {
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IdentityError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => IdentityError::Stopping,
        })?;
        outcome.await.unwrap_or(Err(IdentityError::Stopping))
    }
}

#[tonic::async_trait]
impl IdentityService for Identity {
    async fn resolve_batch(&self, request: Request<ResolveBatchRequest>) -> Result<Response<ResolveBatchResponse>, Status> {
        reply(match self.admit(&request, Role::Service) {
            Ok(tenant) => self.resolve(tenant, request.into_inner()).await,
            Err(IdentityError::ModuleDisabled { tenant }) => self.resolved_before(tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_person(&self, request: Request<GetPersonRequest>) -> Result<Response<Person>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.person(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_account(&self, request: Request<GetAccountRequest>) -> Result<Response<Account>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.account(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn batch_get_persons(&self, request: Request<BatchGetPersonsRequest>) -> Result<Response<BatchGetPersonsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.persons_of_numbers(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn lookup_identifiers(&self, request: Request<LookupIdentifiersRequest>) -> Result<Response<LookupIdentifiersResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.lookup(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn select_identified(&self, request: Request<SelectIdentifiedRequest>) -> Result<Response<SelectIdentifiedResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.identified(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn select_survivors(&self, request: Request<SelectSurvivorsRequest>) -> Result<Response<SelectSurvivorsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.survivors(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_persons(&self, request: Request<ListPersonsRequest>) -> Result<Response<ListPersonsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.persons(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_link_records(&self, request: Request<ListLinkRecordsRequest>) -> Result<Response<ListLinkRecordsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.link_records(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn merge_persons(&self, request: Request<MergePersonsRequest>) -> Result<Response<MergePersonsResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.merge(tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn set_consents(&self, request: Request<SetConsentsRequest>) -> Result<Response<SetConsentsResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.set_consents_of(tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_consents(&self, request: Request<ListConsentsRequest>) -> Result<Response<ListConsentsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.consents(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn unlink_identifier(&self, request: Request<UnlinkIdentifierRequest>) -> Result<Response<UnlinkIdentifierResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.unlink(tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_identity_status(&self, request: Request<GetIdentityStatusRequest>) -> Result<Response<GetIdentityStatusResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.status(&tenant).await,
            Err(error) => Err(error),
        })
    }
}
