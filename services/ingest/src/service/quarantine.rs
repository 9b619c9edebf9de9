//! QuarantineService: the work is in [`crate::quarantine`].

use segue_proto::ingest::v1::quarantine_service_server::QuarantineService;
use segue_proto::ingest::v1::{
    CorrectionRule, CreateCorrectionRuleRequest, DeleteCorrectionRuleRequest, DeleteCorrectionRuleResponse, DiscardQuarantinedRequest,
    DiscardQuarantinedResponse, ListCorrectionRulesRequest, ListCorrectionRulesResponse, ListQuarantinedRequest, ListQuarantinedResponse,
    ReplayQuarantinedRequest, ReplayQuarantinedResponse, SummarizeQuarantineRequest, SummarizeQuarantineResponse,
};
use segue_runtime::caller::{Caller, Role};
use segue_runtime::status::reply;
use tonic::{Request, Response, Status};

use super::taxonomy::dispatch;
use crate::IngestError;
use crate::quarantine::Quarantine;

/// The service.
pub(crate) struct QuarantineApi {
    quarantine: Quarantine,
}

impl QuarantineApi {
    pub(crate) fn new(quarantine: Quarantine) -> Self {
        Self { quarantine }
    }
}

#[tonic::async_trait]
impl QuarantineService for QuarantineApi {
    async fn list_quarantined(&self, request: Request<ListQuarantinedRequest>) -> Result<Response<ListQuarantinedResponse>, Status> {
        dispatch!(Role::Analyst, request, tenant, message => self.quarantine.list(tenant, message))
    }

    async fn summarize_quarantine(
        &self,
        request: Request<SummarizeQuarantineRequest>,
    ) -> Result<Response<SummarizeQuarantineResponse>, Status> {
        dispatch!(Role::Analyst, request, tenant, _message => self.quarantine.summarize(tenant))
    }

    async fn create_correction_rule(&self, request: Request<CreateCorrectionRuleRequest>) -> Result<Response<CorrectionRule>, Status> {
        dispatch!(Role::Editor, request, tenant, message => self.quarantine.create_rule(tenant, message))
    }

    async fn list_correction_rules(
        &self,
        request: Request<ListCorrectionRulesRequest>,
    ) -> Result<Response<ListCorrectionRulesResponse>, Status> {
        dispatch!(Role::Analyst, request, tenant, message => self.quarantine.list_rules(tenant, message))
    }

    async fn delete_correction_rule(
        &self,
        request: Request<DeleteCorrectionRuleRequest>,
    ) -> Result<Response<DeleteCorrectionRuleResponse>, Status> {
        dispatch!(Role::Editor, request, tenant, message => self.quarantine.delete_rule(tenant, message))
    }

    async fn replay_quarantined(&self, request: Request<ReplayQuarantinedRequest>) -> Result<Response<ReplayQuarantinedResponse>, Status> {
        dispatch!(Role::Editor, request, tenant, message => self.quarantine.replay(tenant, message))
    }

    async fn discard_quarantined(
        &self,
        request: Request<DiscardQuarantinedRequest>,
    ) -> Result<Response<DiscardQuarantinedResponse>, Status> {
        dispatch!(Role::Editor, request, tenant, message => self.quarantine.discard(tenant, message))
    }
}
