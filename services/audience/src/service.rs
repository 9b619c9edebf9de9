//! The RPCs of `segue.audience.v1.AudienceService`: dispatch only. The work of a family of RPCs is in its own module, as functions of
//! [`Service`] that take the tenant and the request.

use std::sync::Arc;

use segue_log::Log;
use segue_model::{Clock, Module};
use segue_proto::audience::v1::audience_service_server::AudienceService;
use segue_proto::audience::v1::{
    ArchiveAudienceRequest, ArchiveListRequest, ArchiveSegmentRequest, Audience, ChangeListMembersRequest, ChangeListMembersResponse,
    CreateAudienceRequest, CreateListRequest, CreateSegmentRequest, CreateSyncRequest, DeleteSyncRequest, DeleteSyncResponse,
    EvaluateAudienceRequest, EvaluateAudienceResponse, EvaluatePersonsRequest, EvaluatePersonsResponse, ExplainMembershipRequest,
    ExplainMembershipResponse, ExportMembersRequest, ExportMembersResponse, FillTemplateRequest, FillTemplateResponse,
    FormatConditionRequest, FormatConditionResponse, GetAudienceRequest, GetListRequest, GetLiveStatusRequest, GetLiveStatusResponse,
    GetMembershipsRequest, GetMembershipsResponse, GetSegmentRequest, GetSyncRequest, ImportListMembersRequest, ImportListMembersResponse,
    List, ListAudiencesRequest, ListAudiencesResponse, ListListsRequest, ListListsResponse, ListMembersRequest, ListMembersResponse,
    ListSegmentsRequest, ListSegmentsResponse, ListSizesRequest, ListSizesResponse, ListSyncsRequest, ListSyncsResponse,
    ListTemplatesRequest, ListTemplatesResponse, ListVersionsRequest, ListVersionsResponse, ParseConditionRequest, ParseConditionResponse,
    PreviewAudienceRequest, PreviewAudienceResponse, RestoreDefinitionRequest, RestoreDefinitionResponse, Segment, Sync,
    UpdateAudienceRequest, UpdateSegmentRequest, UpdateSyncRequest, WatchTransitionsRequest, WatchTransitionsResponse,
};
use segue_runtime::caller::{Caller, Role};
use segue_runtime::status::{reply, to_status};
use segue_runtime::{Tenant, TenantDirectory};
use segue_store::Db;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::definitions::Definitions;
use crate::error::AudienceError;
use crate::live::Live;
use crate::peers::Peers;

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) config: Arc<Config>,
    pub(crate) db: Db,
    pub(crate) log: Log,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tenants: TenantDirectory,
    pub(crate) peers: Peers,
    pub(crate) definitions: Definitions,
    pub(crate) live: Live,
    /// Streams end when it is cancelled.
    pub(crate) draining: CancellationToken,
}

impl Service {
    /// The tenant on whose behalf the caller may do this, if the module is on for it.
    fn admit<T>(&self, request: &Request<T>, least: Role) -> Result<Arc<Tenant>, AudienceError> {
        let caller = Caller::of(request)?;
        let id = caller.tenant_with(least)?;
        match self.tenants.get(id) {
            None => Err(AudienceError::TenantUnknown { tenant: id.clone() }),
            Some(tenant) if !tenant.modules.contains(Module::Audience) => Err(AudienceError::ModuleDisabled { tenant: id.clone() }),
            Some(tenant) => Ok(tenant),
        }
    }
}

#[tonic::async_trait]
impl AudienceService for Service {
    async fn create_segment(&self, request: Request<CreateSegmentRequest>) -> Result<Response<Segment>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.create_segment_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_segment(&self, request: Request<GetSegmentRequest>) -> Result<Response<Segment>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_segment_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_segments(&self, request: Request<ListSegmentsRequest>) -> Result<Response<ListSegmentsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_segments_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn update_segment(&self, request: Request<UpdateSegmentRequest>) -> Result<Response<Segment>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.update_segment_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn archive_segment(&self, request: Request<ArchiveSegmentRequest>) -> Result<Response<Segment>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.archive_segment_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn create_audience(&self, request: Request<CreateAudienceRequest>) -> Result<Response<Audience>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.create_audience_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_audience(&self, request: Request<GetAudienceRequest>) -> Result<Response<Audience>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_audience_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_audiences(&self, request: Request<ListAudiencesRequest>) -> Result<Response<ListAudiencesResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_audiences_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn update_audience(&self, request: Request<UpdateAudienceRequest>) -> Result<Response<Audience>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.update_audience_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn archive_audience(&self, request: Request<ArchiveAudienceRequest>) -> Result<Response<Audience>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.archive_audience_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn restore_definition(&self, request: Request<RestoreDefinitionRequest>) -> Result<Response<RestoreDefinitionResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.restore_definition_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_versions(&self, request: Request<ListVersionsRequest>) -> Result<Response<ListVersionsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_versions_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_templates(&self, request: Request<ListTemplatesRequest>) -> Result<Response<ListTemplatesResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_templates_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn fill_template(&self, request: Request<FillTemplateRequest>) -> Result<Response<FillTemplateResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.fill_template_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn parse_condition(&self, request: Request<ParseConditionRequest>) -> Result<Response<ParseConditionResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.parse_condition_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn format_condition(&self, request: Request<FormatConditionRequest>) -> Result<Response<FormatConditionResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.format_condition_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn create_list(&self, request: Request<CreateListRequest>) -> Result<Response<List>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.create_list_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_list(&self, request: Request<GetListRequest>) -> Result<Response<List>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_list_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_lists(&self, request: Request<ListListsRequest>) -> Result<Response<ListListsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_lists_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn archive_list(&self, request: Request<ArchiveListRequest>) -> Result<Response<List>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.archive_list_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn change_list_members(&self, request: Request<ChangeListMembersRequest>) -> Result<Response<ChangeListMembersResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.change_list_members_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn import_list_members(
        &self,
        request: Request<Streaming<ImportListMembersRequest>>,
    ) -> Result<Response<ImportListMembersResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.import_list_members_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn preview_audience(&self, request: Request<PreviewAudienceRequest>) -> Result<Response<PreviewAudienceResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.preview_audience_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn explain_membership(&self, request: Request<ExplainMembershipRequest>) -> Result<Response<ExplainMembershipResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.explain_membership_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn evaluate_persons(&self, request: Request<EvaluatePersonsRequest>) -> Result<Response<EvaluatePersonsResponse>, Status> {
        reply(match self.admit(&request, Role::Service) {
            Ok(tenant) => self.evaluate_persons_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_members(&self, request: Request<ListMembersRequest>) -> Result<Response<ListMembersResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_members_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_memberships(&self, request: Request<GetMembershipsRequest>) -> Result<Response<GetMembershipsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_memberships_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    type WatchTransitionsStream = futures::stream::BoxStream<'static, Result<WatchTransitionsResponse, Status>>;

    async fn watch_transitions(&self, request: Request<WatchTransitionsRequest>) -> Result<Response<Self::WatchTransitionsStream>, Status> {
        let tenant = self.admit(&request, Role::Analyst).map_err(|error| to_status(&error))?;
        reply(self.watch_transitions_of(&tenant, request.into_inner()).await)
    }

    async fn list_sizes(&self, request: Request<ListSizesRequest>) -> Result<Response<ListSizesResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_sizes_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_live_status(&self, request: Request<GetLiveStatusRequest>) -> Result<Response<GetLiveStatusResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_live_status_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn evaluate_audience(&self, request: Request<EvaluateAudienceRequest>) -> Result<Response<EvaluateAudienceResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.evaluate_audience_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    type ExportMembersStream = futures::stream::BoxStream<'static, Result<ExportMembersResponse, Status>>;

    async fn export_members(&self, request: Request<ExportMembersRequest>) -> Result<Response<Self::ExportMembersStream>, Status> {
        let tenant = self.admit(&request, Role::Analyst).map_err(|error| to_status(&error))?;
        reply(self.export_members_of(&tenant, request.into_inner()).await)
    }

    async fn create_sync(&self, request: Request<CreateSyncRequest>) -> Result<Response<Sync>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.create_sync_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_sync(&self, request: Request<GetSyncRequest>) -> Result<Response<Sync>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_sync_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_syncs(&self, request: Request<ListSyncsRequest>) -> Result<Response<ListSyncsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_syncs_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn update_sync(&self, request: Request<UpdateSyncRequest>) -> Result<Response<Sync>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.update_sync_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn delete_sync(&self, request: Request<DeleteSyncRequest>) -> Result<Response<DeleteSyncResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.delete_sync_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }
}
