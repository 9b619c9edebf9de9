//! TaxonomyService: the work is in [`crate::taxonomy::definitions`].

use segue_proto::ingest::v1::taxonomy_service_server::TaxonomyService;
use segue_proto::ingest::v1::{
    CreateEventDefinitionRequest, CreatePropertyDefinitionRequest, EventDefinition, GetTaxonomyRequest, ListEventDefinitionsRequest,
    ListEventDefinitionsResponse, ListPropertyDefinitionsRequest, ListPropertyDefinitionsResponse, PropertyDefinition, Taxonomy,
    UpdateEventDefinitionRequest, UpdatePropertyDefinitionRequest, UpdateTaxonomyRequest,
};
use segue_runtime::caller::{Caller, Role};
use segue_runtime::status::reply;
use tonic::{Request, Response, Status};

use crate::IngestError;
use crate::taxonomy::Taxonomies;

/// The service.
pub(crate) struct TaxonomyApi {
    taxonomies: Taxonomies,
}

impl TaxonomyApi {
    pub(crate) fn new(taxonomies: Taxonomies) -> Self {
        Self { taxonomies }
    }
}

/// Dispatches: finds the tenant, checks the role, calls the work.
macro_rules! dispatch {
    ($role:expr, $request:expr, $tenant:ident, $message:ident => $work:expr) => {{
        let request = $request;
        let work = async {
            let caller = Caller::of(&request)?;
            let $tenant = caller.tenant_with($role)?;
            let $message = request.into_inner();
            $work.await
        };
        reply::<_, IngestError>(work.await)
    }};
}
pub(super) use dispatch;

#[tonic::async_trait]
impl TaxonomyService for TaxonomyApi {
    async fn get_taxonomy(&self, request: Request<GetTaxonomyRequest>) -> Result<Response<Taxonomy>, Status> {
        dispatch!(Role::Analyst, request, tenant, _message => self.taxonomies.get(tenant))
    }

    async fn update_taxonomy(&self, request: Request<UpdateTaxonomyRequest>) -> Result<Response<Taxonomy>, Status> {
        dispatch!(Role::Editor, request, tenant, message => self.taxonomies.update(tenant, message))
    }

    async fn create_event_definition(&self, request: Request<CreateEventDefinitionRequest>) -> Result<Response<EventDefinition>, Status> {
        dispatch!(Role::Editor, request, tenant, message => self.taxonomies.create_event(tenant, message))
    }

    async fn list_event_definitions(
        &self,
        request: Request<ListEventDefinitionsRequest>,
    ) -> Result<Response<ListEventDefinitionsResponse>, Status> {
        dispatch!(Role::Analyst, request, tenant, message => self.taxonomies.list_events(tenant, message))
    }

    async fn update_event_definition(&self, request: Request<UpdateEventDefinitionRequest>) -> Result<Response<EventDefinition>, Status> {
        dispatch!(Role::Editor, request, tenant, message => self.taxonomies.update_event(tenant, message))
    }

    async fn create_property_definition(
        &self,
        request: Request<CreatePropertyDefinitionRequest>,
    ) -> Result<Response<PropertyDefinition>, Status> {
        dispatch!(Role::Editor, request, tenant, message => self.taxonomies.create_property(tenant, message))
    }

    async fn list_property_definitions(
        &self,
        request: Request<ListPropertyDefinitionsRequest>,
    ) -> Result<Response<ListPropertyDefinitionsResponse>, Status> {
        dispatch!(Role::Analyst, request, tenant, message => self.taxonomies.list_properties(tenant, message))
    }

    async fn update_property_definition(
        &self,
        request: Request<UpdatePropertyDefinitionRequest>,
    ) -> Result<Response<PropertyDefinition>, Status> {
        dispatch!(Role::Editor, request, tenant, message => self.taxonomies.update_property(tenant, message))
    }
}
