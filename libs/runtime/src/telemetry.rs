//! Logs on stderr, and traces over OTLP when the standard `OTEL_EXPORTER_OTLP_ENDPOINT` is set.

use std::collections::HashMap;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use segue_model::FieldViolation;
use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Section `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// What is logged, in the syntax of `RUST_LOG`: `info`, `segue_ingest=debug,warn`, …
    pub log_filter: String,
    /// `text` or `json`.
    pub log_format: String,
    /// `service.name` of traces.
    pub service_name: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log_filter: "info".to_owned(), log_format: "text".to_owned(), service_name: "segue".to_owned() }
    }
}

impl TelemetryConfig {
    /// Faults of the section, with their keys.
    pub fn faults(&self) -> Vec<FieldViolation> {
        let mut faults = Vec::new();
        if let Err(error) = EnvFilter::try_new(&self.log_filter) {
            faults.push(FieldViolation::new("telemetry.log_filter", error.to_string()));
        }
        if !["text", "json"].contains(&self.log_format.as_str()) {
            faults.push(FieldViolation::new("telemetry.log_format", "text or json"));
        }
        faults
    }
}

/// Keeps telemetry running; what is buffered is sent when it is dropped.
#[derive(Debug, Default)]
pub struct TelemetryGuard(Option<SdkTracerProvider>);

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            // Nothing can be done about spans that cannot be sent at the end.
            let _ = provider.shutdown();
        }
    }
}

/// Starts logging and, if `OTEL_EXPORTER_OTLP_ENDPOINT` (or the variant for traces) is set, tracing. Call once, inside the
/// runtime. A second call keeps what the first one set up.
pub fn init(config: &TelemetryConfig, environment: &HashMap<String, String>) -> anyhow::Result<TelemetryGuard> {
    let filter = EnvFilter::try_new(&config.log_filter)?;
    let logs = fmt::layer().with_writer(std::io::stderr);
    let logs = if config.log_format == "json" { logs.json().boxed() } else { logs.boxed() };
    let exporting = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
        .iter()
        .any(|name| environment.get(*name).is_some_and(|value| !value.is_empty()));
    let provider = if exporting { Some(trace_provider(config)?) } else { None };
    let spans = EnvFilter::try_new(&config.log_filter)?;
    let traces = provider.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("segue")).with_filter(spans));
    // An error says that logging runs already, as in tests that start several processes' worth of services.
    let _ = tracing_subscriber::registry().with(logs.with_filter(filter)).with(traces).try_init();
    Ok(TelemetryGuard(provider))
}

/// The exporter reads the other `OTEL_*` variables itself.
fn trace_provider(config: &TelemetryConfig) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().build()?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(config.service_name.clone()).build())
        .build())
}
