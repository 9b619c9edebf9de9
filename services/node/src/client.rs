//! A connection to a gateway, with a key: what the command line and the demo talk through.

use anyhow::Context;
use segue_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use segue_proto::audience::v1::audience_service_client::AudienceServiceClient;
use segue_proto::campaign::v1::channel_service_client::ChannelServiceClient;
use segue_proto::campaign::v1::message_service_client::MessageServiceClient;
use segue_proto::campaign::v1::result_service_client::ResultServiceClient;
use segue_proto::campaign::v1::scenario_service_client::ScenarioServiceClient;
use segue_proto::campaign::v1::template_service_client::TemplateServiceClient;
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::ingest::v1::import_service_client::ImportServiceClient;
use segue_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use segue_proto::tenancy::v1::tenancy_service_client::TenancyServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Adds the key, and the tenant that an operator acts on, to every call.
#[derive(Debug, Clone)]
pub struct Credentials {
    authorization: MetadataValue<Ascii>,
    act_as: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        request.metadata_mut().insert("authorization", self.authorization.clone());
        if let Some(tenant) = &self.act_as {
            request.metadata_mut().insert("x-segue-act-as-tenant", tenant.clone());
        }
        Ok(request)
    }
}

/// The transport of every client here.
pub type Authorized = InterceptedService<Channel, Credentials>;

/// A gateway, called with a key.
#[derive(Debug, Clone)]
pub struct Gateway {
    channel: Channel,
    credentials: Credentials,
}

impl Gateway {
    /// Connects. `tenant` is for operator keys: the tenant to act on.
    pub async fn connect(url: &str, key: &str, tenant: Option<&str>) -> anyhow::Result<Self> {
        let mut endpoint =
            Endpoint::from_shared(url.to_owned()).with_context(|| format!("{url:?} is no address like http://127.0.0.1:7171"))?;
        if url.starts_with("https:") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_enabled_roots())?;
        }
        let channel = endpoint
            .tcp_nodelay(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .connect()
            .await
            .with_context(|| format!("no gateway answers at {url}; start one with `segue run`, or name it with --server"))?;
        let mut authorization: MetadataValue<Ascii> = format!("Bearer {key}").parse().context("a key has no such characters")?;
        authorization.set_sensitive(true);
        let act_as = tenant.map(str::parse).transpose().context("a tenant id has no such characters")?;
        Ok(Self { channel, credentials: Credentials { authorization, act_as } })
    }

    /// The same connection with another key.
    pub fn with_key(&self, key: &str) -> anyhow::Result<Self> {
        let mut authorization: MetadataValue<Ascii> = format!("Bearer {key}").parse().context("a key has no such characters")?;
        authorization.set_sensitive(true);
        Ok(Self { channel: self.channel.clone(), credentials: Credentials { authorization, act_as: None } })
    }

    /// A transport for any generated client.
    pub fn transport(&self) -> Authorized {
        InterceptedService::new(self.channel.clone(), self.credentials.clone())
    }

    /// Tenants, modules and keys.
    pub fn tenancy(&self) -> TenancyServiceClient<Authorized> {
        TenancyServiceClient::new(self.transport())
    }

    /// Sending events.
    pub fn ingest(&self) -> IngestServiceClient<Authorized> {
        IngestServiceClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Importing files.
    pub fn imports(&self) -> ImportServiceClient<Authorized> {
        ImportServiceClient::new(self.transport())
    }

    /// Persons.
    pub fn identity(&self) -> IdentityServiceClient<Authorized> {
        IdentityServiceClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Reports.
    pub fn analytics(&self) -> AnalyticsServiceClient<Authorized> {
        AnalyticsServiceClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Segments, audiences, lists and syncs.
    pub fn audience(&self) -> AudienceServiceClient<Authorized> {
        AudienceServiceClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Scenarios and runs.
    pub fn scenarios(&self) -> ScenarioServiceClient<Authorized> {
        ScenarioServiceClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Templates of messages.
    pub fn templates(&self) -> TemplateServiceClient<Authorized> {
        TemplateServiceClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Channels and the sending policy.
    pub fn channels(&self) -> ChannelServiceClient<Authorized> {
        ChannelServiceClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// The send ledger.
    pub fn messages(&self) -> MessageServiceClient<Authorized> {
        MessageServiceClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// What scenarios changed.
    pub fn results(&self) -> ResultServiceClient<Authorized> {
        ResultServiceClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Waits until everything that was accepted before the call shows in who is in which audience.
    pub async fn wait_until_in_audiences(&self) -> anyhow::Result<()> {
        use segue_proto::analytics::v1::GetIndexStatusRequest;
        use segue_proto::audience::v1::GetLiveStatusRequest;
        self.wait_until_indexed().await?;
        let micros = |time: Option<prost_types::Timestamp>| time.map_or(0, |time| time.seconds * 1_000_000 + i64::from(time.nanos / 1_000));
        let indexed_us = micros(self.analytics().get_index_status(GetIndexStatusRequest {}).await?.into_inner().watermark);
        let mut client = self.audience();
        while micros(client.get_live_status(GetLiveStatusRequest {}).await?.into_inner().as_of) < indexed_us {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until everything that was accepted before the call is in reports.
    pub async fn wait_until_indexed(&self) -> anyhow::Result<()> {
        use segue_proto::analytics::v1::GetIndexStatusRequest;
        use segue_proto::ingest::v1::GetPipelineStatusRequest;
        let (mut ingest, mut analytics) = (self.ingest(), self.analytics());
        let accepted = ingest.get_pipeline_status(GetPipelineStatusRequest {}).await?.into_inner().partitions;
        let mut resolved = Vec::new();
        let mut pause = std::time::Duration::from_millis(10);
        loop {
            if resolved.is_empty() {
                let now = ingest.get_pipeline_status(GetPipelineStatusRequest {}).await?.into_inner().partitions;
                let behind = |target: &&segue_proto::ingest::v1::PartitionStatus| {
                    now.iter()
                        .any(|partition| partition.partition == target.partition && partition.resolved_position < target.accepted_position)
                };
                if !accepted.iter().any(|target| behind(&target)) {
                    resolved = now;
                }
            }
            if !resolved.is_empty() {
                let indexed = analytics.get_index_status(GetIndexStatusRequest {}).await?.into_inner().partitions;
                let done = resolved.iter().all(|target| {
                    indexed
                        .iter()
                        .any(|partition| partition.partition == target.partition && partition.position >= target.resolved_topic_position)
                });
                if done {
                    return Ok(());
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(std::time::Duration::from_millis(200));
        }
    }
}
