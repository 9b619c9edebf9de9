//! `segue.campaign.v1.MessageService`: dispatch only.

use segue_proto::campaign::v1::message_service_server::MessageService;
use segue_proto::campaign::v1::{
    CreateInboxTokenRequest, CreateInboxTokenResponse, ExplainSendRequest, ExplainSendResponse, FollowRequest, FollowResponse,
    GetSendRequest, ListInboxRequest, ListInboxResponse, ListSendsRequest, ListSendsResponse, Send,
};
use segue_runtime::caller::Role;
use segue_runtime::status::reply;
use tonic::{Request, Response, Status};

use super::Service;

#[tonic::async_trait]
impl MessageService for Service {
    async fn list_sends(&self, request: Request<ListSendsRequest>) -> Result<Response<ListSendsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_sends_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_send(&self, request: Request<GetSendRequest>) -> Result<Response<Send>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_send_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn explain_send(&self, request: Request<ExplainSendRequest>) -> Result<Response<ExplainSendResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.explain_send_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn create_inbox_token(&self, request: Request<CreateInboxTokenRequest>) -> Result<Response<CreateInboxTokenResponse>, Status> {
        reply(match self.admit(&request, Role::Editor) {
            Ok(tenant) => self.create_inbox_token_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_inbox(&self, request: Request<ListInboxRequest>) -> Result<Response<ListInboxResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_inbox_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<FollowResponse>, Status> {
        reply(match self.admit(&request, Role::Service) {
            Ok(tenant) => self.follow_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }
}
