//! `segue.campaign.v1.TemplateService`: dispatch only.

use segue_proto::campaign::v1::template_service_server::TemplateService;
use segue_proto::campaign::v1::{
    ArchiveTemplateRequest, CreateTemplateRequest, GetTemplateRequest, ListTemplatesRequest, ListTemplatesResponse, PreviewTemplateRequest,
    PreviewTemplateResponse, SendTestRequest, SendTestResponse, Template, UpdateTemplateRequest,
};
use segue_runtime::caller::Role;
use segue_runtime::status::reply;
use tonic::{Request, Response, Status};

use super::Service;

#[tonic::async_trait]
impl TemplateService for Service {
    async fn create_template(&self, request: Request<CreateTemplateRequest>) -> Result<Response<Template>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.create_template_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_template(&self, request: Request<GetTemplateRequest>) -> Result<Response<Template>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_template_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_templates(&self, request: Request<ListTemplatesRequest>) -> Result<Response<ListTemplatesResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_templates_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn update_template(&self, request: Request<UpdateTemplateRequest>) -> Result<Response<Template>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.update_template_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn archive_template(&self, request: Request<ArchiveTemplateRequest>) -> Result<Response<Template>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.archive_template_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn preview_template(&self, request: Request<PreviewTemplateRequest>) -> Result<Response<PreviewTemplateResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.preview_template_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn send_test(&self, request: Request<SendTestRequest>) -> Result<Response<SendTestResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.send_test_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }
}
