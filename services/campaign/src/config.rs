//! The section `campaign` of the configuration.

use segue_model::FieldViolation;
use segue_runtime::outgoing::Rules;
use serde::{Deserialize, Serialize};

/// Limits per tenant, how scenarios run, and how messages are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Scenarios of one tenant that are not archived.
    pub scenarios_max: u32,
    /// Templates of one tenant that are not archived.
    pub templates_max: u32,
    /// Channels of one tenant.
    pub channels_max: u32,
    /// Where clients reach the gateway, for links in messages, for example `https://segue.shop.example`. Empty: messages carry no links.
    pub public_url: String,
    /// How scenarios run.
    pub flow: FlowConfig,
    /// How messages are sent.
    pub send: SendConfig,
    /// What templates may use up.
    pub template: TemplateConfig,
}

/// Section `[campaign.flow]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowConfig {
    /// Least time from the beginning of one round of a tenant to the next: what comes in meanwhile is dealt with together.
    pub round_ms_min: u64,
    /// Events and transitions of a tenant that one round deals with at most.
    pub round_inputs_max: usize,
    /// Runs that one round moves on at most.
    pub round_runs_max: usize,
    /// Rounds at once, over all tenants; others wait their turn.
    pub rounds_max: usize,
    /// Steps that a run does at most without waiting.
    pub steps_at_once_max: u32,
    /// How long the claim of a process on a tenant lasts; renewed at a third of it.
    pub lease_ms: u64,
    /// How long runs that have ended are kept after their last goal's window.
    pub keep_ended_days: u32,
}

/// Section `[campaign.send]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SendConfig {
    /// Messages of this process that are given to providers at once.
    pub concurrency_max: usize,
    /// Messages that a worker takes up at once.
    pub claim_max: usize,
    /// How long a worker's hold on a message lasts; longer than a provider may take.
    pub lease_ms: u64,
    /// How long a request to a provider may take.
    pub timeout_ms: u64,
    /// Longest pause between two attempts.
    pub retry_pause_ms_max: u64,
    /// Bytes of a provider's answer that are read at most.
    pub answer_bytes_max: usize,
    /// Whether providers and webhooks may be `http://…` and `smtp://…` without TLS.
    pub allow_insecure: bool,
    /// Whether they may have addresses of private networks, of this machine, or of the link.
    pub allow_private_addresses: bool,
}

/// Section `[campaign.template]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemplateConfig {
    /// Instructions of one part.
    pub fuel_max: u64,
    /// Bytes that one part may become.
    pub output_bytes_max: usize,
    /// Bytes of all parts of one template.
    pub source_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scenarios_max: 1_000,
            templates_max: 5_000,
            channels_max: 100,
            public_url: String::new(),
            flow: FlowConfig::default(),
            send: SendConfig::default(),
            template: TemplateConfig::default(),
        }
    }
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            round_ms_min: 50,
            round_inputs_max: 20_000,
            round_runs_max: 20_000,
            rounds_max: 2,
            steps_at_once_max: 100,
            lease_ms: 15_000,
            keep_ended_days: 30,
        }
    }
}

impl Default for SendConfig {
    fn default() -> Self {
        Self {
            concurrency_max: 256,
            claim_max: 500,
            lease_ms: 60_000,
            timeout_ms: 15_000,
            retry_pause_ms_max: 600_000,
            answer_bytes_max: 64 << 10,
            allow_insecure: false,
            allow_private_addresses: false,
        }
    }
}

impl Default for TemplateConfig {
    fn default() -> Self {
        Self { fuel_max: 100_000, output_bytes_max: 1 << 20, source_bytes_max: 512 << 10 }
    }
}

impl SendConfig {
    /// What providers and webhooks may be.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            allow_insecure: self.allow_insecure,
            allow_private: self.allow_private_addresses,
            insecure_setting: "campaign.send.allow_insecure",
            private_setting: "campaign.send.allow_private_addresses",
        }
    }
}

impl Config {
    /// All faults, with the path of each field inside the section.
    pub fn validate(&self) -> Vec<FieldViolation> {
        let mut faults = Vec::new();
        if !self.public_url.is_empty() && !url::Url::parse(&self.public_url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            faults.push(FieldViolation::new("public_url", "must be an address like https://segue.shop.example, or empty"));
        }
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                faults.push(FieldViolation::new(field, format!("must be between {least} and {most}")));
            }
        };
        within("scenarios_max", self.scenarios_max.into(), 1, 100_000);
        within("templates_max", self.templates_max.into(), 1, 100_000);
        within("channels_max", self.channels_max.into(), 1, 10_000);
        let flow = &self.flow;
        within("flow.round_ms_min", flow.round_ms_min, 1, 60_000);
        within("flow.round_inputs_max", flow.round_inputs_max as u64, 1, 1_000_000);
        within("flow.round_runs_max", flow.round_runs_max as u64, 1, 1_000_000);
        within("flow.rounds_max", flow.rounds_max as u64, 1, 1_000);
        within("flow.steps_at_once_max", flow.steps_at_once_max.into(), 1, 10_000);
        within("flow.lease_ms", flow.lease_ms, 1_000, 600_000);
        within("flow.keep_ended_days", flow.keep_ended_days.into(), 0, 3_650);
        let send = &self.send;
        within("send.concurrency_max", send.concurrency_max as u64, 1, 100_000);
        within("send.claim_max", send.claim_max as u64, 1, 100_000);
        within("send.timeout_ms", send.timeout_ms, 100, 300_000);
        within("send.lease_ms", send.lease_ms, send.timeout_ms.saturating_add(1), 3_600_000);
        within("send.retry_pause_ms_max", send.retry_pause_ms_max, 100, 86_400_000);
        within("send.answer_bytes_max", send.answer_bytes_max as u64, 1_024, 16 << 20);
        let template = &self.template;
        within("template.fuel_max", template.fuel_max, 1_000, 100_000_000);
        within("template.output_bytes_max", template.output_bytes_max as u64, 1_024, 64 << 20);
        within("template.source_bytes_max", template.source_bytes_max as u64, 1_024, 16 << 20);
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_all_faults_are_reported_at_once() {
        assert!(Config::default().validate().is_empty());
        let config = Config {
            public_url: "shop".to_owned(),
            flow: FlowConfig { rounds_max: 0, ..FlowConfig::default() },
            send: SendConfig { lease_ms: 10, ..SendConfig::default() },
            ..Config::default()
        };
        let fields: Vec<String> = config.validate().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["public_url", "flow.rounds_max", "send.lease_ms"]);
    }
}
