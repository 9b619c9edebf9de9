//! The whole configuration of a process: one section per part, each with its defaults.

use std::path::PathBuf;

use segue_log::LogConfig;
use segue_model::FieldViolation;
use segue_runtime::telemetry::TelemetryConfig;
use segue_runtime::transport::ClusterToken;
use serde::{Deserialize, Serialize};

/// Everything that can be set. `deploy/segue.toml` is the commented example; a test holds it equal to these defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What runs here and where it listens.
    pub server: ServerSettings,
    /// Relational state.
    pub store: StoreSettings,
    /// The event log.
    pub log: LogSettings,
    /// Event files.
    pub lake: LakeSettings,
    /// Services in other processes.
    pub peers: PeerSettings,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// The ingest service.
    pub ingest: segue_ingest::Config,
    /// The identity service.
    pub identity: segue_identity::Config,
    /// The analytics service.
    pub analytics: segue_analytics::Config,
    /// The audience service.
    pub audience: segue_audience::Config,
    /// The campaign service.
    pub campaign: segue_campaign::Config,
    /// The gateway.
    pub gateway: segue_gateway::Config,
}

/// Section `[server]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Services of this process: `all`, or some of `gateway`, `ingest`, `identity`, `analytics`, `audience`, `campaign`.
    pub services: Vec<String>,
    /// Where the gateway listens for clients: gRPC, gRPC-Web and HTTP on one port.
    pub listen: String,
    /// Where services listen for their peers. Needed when not all services run in this process; empty: nowhere.
    pub internal_listen: String,
    /// Folder for everything that is kept on this machine.
    pub data_dir: String,
    /// How long open calls and background work may take to end after the first signal.
    pub drain_timeout_ms: u64,
    /// Most client connections at once.
    pub connections_max: u32,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            services: vec!["all".to_owned()],
            listen: "127.0.0.1:7171".to_owned(),
            internal_listen: String::new(),
            data_dir: "segue-data".to_owned(),
            drain_timeout_ms: 20_000,
            connections_max: 20_000,
        }
    }
}

/// Section `[store]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// `sqlite:<folder>` or `postgres://…`. Empty: SQLite in the data folder.
    pub url: String,
}

/// Section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `embedded:<folder>` or `nats://…`. Empty: embedded in the data folder.
    pub url: String,
    /// How many partitions each topic has; fixed when the log is made.
    pub partitions: u16,
    /// How long batches are kept at least for consumers that come later (a module switched on again).
    pub retention_age_hours: u64,
    /// Bytes per topic beyond which the oldest consumed batches go, and appends fail when there are none.
    pub retention_bytes: u64,
    /// Copies of each batch (NATS).
    pub replicas: u8,
    /// First part of every subject and stream name (NATS); lets several installations share a server.
    pub prefix: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            partitions: 4,
            retention_age_hours: 14 * 24,
            retention_bytes: 50 << 30,
            replicas: 1,
            prefix: "segue".to_owned(),
        }
    }
}

/// Section `[lake]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LakeSettings {
    /// `file:<folder>`. Empty: in the data folder.
    pub url: String,
}

/// Section `[peers]`: internal addresses of services that run elsewhere, like `http://identity:7172`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerSettings {
    /// The gateway's internal address.
    pub gateway: String,
    /// The ingest service.
    pub ingest: String,
    /// The identity service.
    pub identity: String,
    /// The analytics service.
    pub analytics: String,
    /// The audience service.
    pub audience: String,
    /// The campaign service.
    pub campaign: String,
    /// Secret that the processes of one installation share. Empty: internal listeners ask for none.
    pub cluster_token: String,
}

/// A service that a process can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// The edge, with tenants and keys.
    Gateway,
    /// Taking events in.
    Ingest,
    /// Persons.
    Identity,
    /// Reports.
    Analytics,
    /// Audiences.
    Audience,
    /// Scenarios and messages.
    Campaign,
}

impl Service {
    /// All that exist.
    pub const ALL: [Service; 6] =
        [Service::Gateway, Service::Ingest, Service::Identity, Service::Analytics, Service::Audience, Service::Campaign];

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Service::Gateway => "gateway",
            Service::Ingest => "ingest",
            Service::Identity => "identity",
            Service::Analytics => "analytics",
            Service::Audience => "audience",
            Service::Campaign => "campaign",
        }
    }
}

impl Settings {
    /// The services that run in this process.
    pub fn services(&self) -> Vec<Service> {
        let named = |service: &Service| self.server.services.iter().any(|name| name == "all" || name == service.name());
        Service::ALL.into_iter().filter(named).collect()
    }

    /// Whether `service` runs in this process.
    pub fn runs(&self, service: Service) -> bool {
        self.services().contains(&service)
    }

    /// Address of a service elsewhere.
    pub fn peer_url(&self, service: Service) -> &str {
        match service {
            Service::Gateway => &self.peers.gateway,
            Service::Ingest => &self.peers.ingest,
            Service::Identity => &self.peers.identity,
            Service::Analytics => &self.peers.analytics,
            Service::Audience => &self.peers.audience,
            Service::Campaign => &self.peers.campaign,
        }
    }

    /// The secret between processes.
    pub fn cluster_token(&self) -> ClusterToken {
        ClusterToken::new(self.peers.cluster_token.clone())
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        PathBuf::from(&self.server.data_dir)
    }

    /// URL of relational state, with the default filled in.
    pub fn store_url(&self) -> String {
        self.url_or(&self.store.url, "sqlite", "store")
    }

    /// URL of event files, with the default filled in.
    pub fn lake_url(&self) -> String {
        self.url_or(&self.lake.url, "file", "lake")
    }

    /// What the log is opened with.
    pub fn log_config(&self) -> LogConfig {
        LogConfig {
            partitions: self.log.partitions,
            retention_age: std::time::Duration::from_secs(self.log.retention_age_hours * 3_600),
            retention_bytes: self.log.retention_bytes,
            replicas: self.log.replicas,
            prefix: self.log.prefix.clone(),
            ..LogConfig::new(self.url_or(&self.log.url, "embedded", "log"))
        }
    }

    fn url_or(&self, url: &str, scheme: &str, folder: &str) -> String {
        if url.is_empty() { format!("{scheme}:{}", self.data_dir().join(folder).display()) } else { url.to_owned() }
    }

    fn server_faults(&self, faults: &mut Vec<FieldViolation>) {
        for name in &self.server.services {
            if name != "all" && !Service::ALL.iter().any(|service| service.name() == name) {
                faults.push(FieldViolation::new(
                    "server.services",
                    format!("{name:?} is no service; there are all, gateway, ingest, identity, analytics, audience and campaign"),
                ));
            }
        }
        if self.services().is_empty() {
            faults.push(FieldViolation::new("server.services", "at least one"));
        }
        for (key, address, optional) in
            [("server.listen", &self.server.listen, false), ("server.internal_listen", &self.server.internal_listen, true)]
        {
            if !(optional && address.is_empty()) && address.parse::<std::net::SocketAddr>().is_err() {
                faults.push(FieldViolation::new(key, format!("{address:?} is not an address and port like 127.0.0.1:7171")));
            }
        }
        if self.server.data_dir.is_empty() {
            faults.push(FieldViolation::new("server.data_dir", "a folder"));
        }
        if self.server.connections_max == 0 {
            faults.push(FieldViolation::new("server.connections_max", "at least 1"));
        }
    }

    fn peer_faults(&self, faults: &mut Vec<FieldViolation>) {
        let here = self.services();
        if here.len() == Service::ALL.len() {
            return;
        }
        if self.server.internal_listen.is_empty() {
            faults.push(FieldViolation::new(
                "server.internal_listen",
                "needed, since some services run elsewhere and peers must reach this one",
            ));
        }
        for (user, needs) in [
            (Service::Gateway, &[Service::Ingest, Service::Identity, Service::Analytics, Service::Audience, Service::Campaign][..]),
            (Service::Ingest, &[Service::Gateway, Service::Identity]),
            (Service::Identity, &[Service::Gateway]),
            (Service::Analytics, &[Service::Gateway]),
            (Service::Audience, &[Service::Gateway, Service::Identity, Service::Analytics]),
            (Service::Campaign, &[Service::Gateway, Service::Ingest, Service::Identity, Service::Analytics, Service::Audience]),
        ] {
            for peer in needs {
                let key = format!("peers.{}", peer.name());
                if here.contains(&user)
                    && !here.contains(peer)
                    && self.peer_url(*peer).is_empty()
                    && !faults.iter().any(|fault| fault.field == key)
                {
                    faults.push(FieldViolation::new(
                        key,
                        format!("needed: {} runs here and calls {}, which does not", user.name(), peer.name()),
                    ));
                }
            }
        }
        let open_to_others = self.server.internal_listen.parse::<std::net::SocketAddr>().is_ok_and(|address| !address.ip().is_loopback());
        if open_to_others && self.peers.cluster_token.is_empty() {
            faults.push(FieldViolation::new(
                "peers.cluster_token",
                "needed: whoever reaches server.internal_listen could act as any tenant without it",
            ));
        }
        if !self.peers.cluster_token.bytes().all(|b| b.is_ascii_graphic()) {
            faults
                .push(FieldViolation::new("peers.cluster_token", "letters, digits and signs of ASCII only, since it travels in a header"));
        }
        let uses_log = here.iter().any(|service| *service != Service::Gateway);
        if uses_log && (self.log.url.is_empty() || self.log.url.starts_with("embedded:")) {
            faults.push(FieldViolation::new("log.url", "the embedded log belongs to one process; several need nats://…"));
        }
    }
}

impl segue_runtime::config::Settings for Settings {
    fn faults(&self) -> Vec<FieldViolation> {
        let mut faults = Vec::new();
        self.server_faults(&mut faults);
        self.peer_faults(&mut faults);
        if self.log.partitions == 0 {
            faults.push(FieldViolation::new("log.partitions", "at least 1"));
        }
        faults.extend(self.telemetry.faults());
        for (section, inner) in [
            ("ingest", self.ingest.validate()),
            ("identity", self.identity.validate()),
            ("analytics", self.analytics.validate()),
            ("audience", self.audience.validate()),
            ("campaign", self.campaign.validate()),
            ("gateway", self.gateway.validate()),
        ] {
            faults.extend(inner.into_iter().map(|fault| FieldViolation::new(format!("{section}.{}", fault.field), fault.description)));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_runtime::config::Settings as _;

    #[test]
    fn defaults_are_valid_and_run_everything() {
        assert_eq!(Settings::default().faults(), []);
        assert_eq!(Settings::default().services(), Service::ALL);
    }

    #[test]
    fn an_internal_listener_that_others_reach_needs_a_token() {
        let server = ServerSettings {
            services: vec!["gateway".to_owned()],
            internal_listen: "0.0.0.0:7172".to_owned(),
            ..ServerSettings::default()
        };
        let faults = Settings { server, ..Settings::default() }.faults();
        assert!(faults.iter().any(|fault| fault.field == "peers.cluster_token"), "{faults:?}");
    }

    #[test]
    fn a_process_with_some_services_says_which_peers_it_needs() {
        let server = ServerSettings { services: vec!["ingest".to_owned()], ..ServerSettings::default() };
        let faults = Settings { server: server.clone(), ..Settings::default() }.faults();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["server.internal_listen", "peers.gateway", "peers.identity", "log.url"]);
        let server = ServerSettings { services: vec!["audience".to_owned()], internal_listen: "127.0.0.1:7172".to_owned(), ..server };
        let faults = Settings { server, ..Settings::default() }.faults();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["peers.gateway", "peers.identity", "peers.analytics", "log.url"]);
    }
}
