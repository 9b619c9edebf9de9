//! `segue.campaign.v1.ChannelService`: dispatch only.

use segue_proto::campaign::v1::channel_service_server::ChannelService;
use segue_proto::campaign::v1::{
    Channel, CreateChannelRequest, DeleteChannelRequest, DeleteChannelResponse, GetChannelRequest, GetSendingPolicyRequest,
    ListChannelsRequest, ListChannelsResponse, SendingPolicy, UpdateChannelRequest, UpdateSendingPolicyRequest,
};
use segue_runtime::caller::Role;
use segue_runtime::status::reply;
use tonic::{Request, Response, Status};

use super::Service;

#[tonic::async_trait]
impl ChannelService for Service {
    async fn create_channel(&self, request: Request<CreateChannelRequest>) -> Result<Response<Channel>, Status> {
        reply(match self.admit(&request, Role::Admin) {
            Ok(tenant) => self.create_channel_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_channel(&self, request: Request<GetChannelRequest>) -> Result<Response<Channel>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_channel_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn list_channels(&self, request: Request<ListChannelsRequest>) -> Result<Response<ListChannelsResponse>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.list_channels_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn update_channel(&self, request: Request<UpdateChannelRequest>) -> Result<Response<Channel>, Status> {
        reply(match self.admit(&request, Role::Admin) {
            Ok(tenant) => self.update_channel_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn delete_channel(&self, request: Request<DeleteChannelRequest>) -> Result<Response<DeleteChannelResponse>, Status> {
        reply(match self.admit(&request, Role::Admin) {
            Ok(tenant) => self.delete_channel_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn get_sending_policy(&self, request: Request<GetSendingPolicyRequest>) -> Result<Response<SendingPolicy>, Status> {
        reply(match self.admit(&request, Role::Analyst) {
            Ok(tenant) => self.get_sending_policy_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }

    async fn update_sending_policy(&self, request: Request<UpdateSendingPolicyRequest>) -> Result<Response<SendingPolicy>, Status> {
        reply(match self.admit(&request, Role::Admin) {
            Ok(tenant) => self.update_sending_policy_of(&tenant, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }
}
