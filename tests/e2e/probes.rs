//! What orchestrators and tools ask for without a key: health and reflection.

use anyhow::{Context, ensure};
use segue_tests::installation::Installation;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test]
async fn health_and_reflection_answer_without_a_key() {
    super::for_every_shape(probes).await;
}

async fn probes(installation: Installation) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(installation.url())?.connect().await?;
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await?.into_inner();
    ensure!(health.status() == ServingStatus::Serving, "{health:?}");

    let ask = ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
    let mut answers = ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::iter([ask])).await?.into_inner();
    let answer = answers.message().await?.context("an answer")?;
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else { anyhow::bail!("{answer:?}") };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for wanted in [
        "segue.ingest.v1.IngestService",
        "segue.analytics.v1.AnalyticsService",
        "segue.audience.v1.AudienceService",
        "segue.tenancy.v1.TenancyService",
    ] {
        ensure!(names.contains(&wanted), "{wanted} is missing in {names:?}");
    }

    let (status, body) = segue_tests::http::get(&format!("{}/readyz", installation.url())).await?;
    ensure!(status == 200, "{status}: {body}");
    Ok(())
}
