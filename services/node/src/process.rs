//! Builds a process from settings, top to bottom, a step per service: if it runs here, start and mount it; else dial it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use segue_log::Log;
use segue_model::Clock;
use segue_runtime::server::{self, RequireClusterToken, ServerLimits};
use segue_runtime::tasks::Tasks;
use segue_runtime::tenants::TenantDirectory;
use segue_runtime::transport::{self, Deferred, PeerChannel};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::settings::{Service, Settings};

/// A process with its services running.
#[derive(Debug)]
pub struct Process {
    /// Where clients reach the gateway, if it runs here.
    pub edge: Option<SocketAddr>,
    /// Where peers reach the services, if there is such a listener.
    pub internal: Option<SocketAddr>,
    tasks: Tasks,
    health: HealthReporter,
    health_names: Vec<&'static str>,
    listeners: CancellationToken,
    servers: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
    log: Option<Log>,
    drain_timeout: Duration,
}

/// Whom the campaign service calls.
struct CampaignPeers {
    ingest: PeerChannel,
    identity: PeerChannel,
    analytics: PeerChannel,
    audience: PeerChannel,
}

/// What the steps of starting share.
struct Parts<'a> {
    settings: &'a Settings,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    tenants: TenantDirectory,
    log: Option<Log>,
    internal: Routes,
    health_names: Vec<&'static str>,
}

impl Process {
    /// Starts everything that the settings name. Returns when the listeners are bound.
    pub async fn start(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let tasks = Tasks::new();
        let data_dir = settings.data_dir();
        std::fs::create_dir_all(&data_dir).with_context(|| format!("failed to make the data folder {}", data_dir.display()))?;

        // The gateway calls the others and they follow its tenants: a ring, closed by deferred channels.
        let (ingest, ingest_here) = peer(settings, Service::Ingest)?;
        let (identity, identity_here) = peer(settings, Service::Identity)?;
        let (analytics, analytics_here) = peer(settings, Service::Analytics)?;
        let (audience, audience_here) = peer(settings, Service::Audience)?;
        let (campaign, campaign_here) = peer(settings, Service::Campaign)?;

        let mut internal = Routes::default();
        let mut edge = None;
        let tenancy = if settings.runs(Service::Gateway) {
            let started = segue_gateway::start(segue_gateway::Deps {
                config: settings.gateway.clone(),
                store_url: settings.store_url(),
                clock: clock.clone(),
                peers: segue_gateway::Peers {
                    ingest: Some(ingest.clone()),
                    identity: Some(identity.clone()),
                    analytics: Some(analytics.clone()),
                    audience: Some(audience.clone()),
                    campaign: Some(campaign),
                },
                tasks: tasks.clone(),
            })
            .await
            .context("failed to start the gateway")?;
            if let Some(key) = &started.operator_key {
                write_operator_key(&data_dir, key).context("failed to keep the operator key")?;
            }
            edge = Some(started.edge);
            internal = started.internal_routes.clone();
            transport::local(started.internal_routes)
        } else {
            transport::remote(settings.peer_url(Service::Gateway), &settings.cluster_token())?
        };

        let log = if settings.services().iter().any(|service| *service != Service::Gateway) {
            Some(Log::open(settings.log_config()).await.context("failed to open the event log")?)
        } else {
            None
        };
        let tenants = TenantDirectory::watching(tenancy, &tasks);
        let mut parts = Parts { settings, clock, tasks, tenants, log, internal, health_names: Vec::new() };
        if let Some(here) = identity_here {
            parts.start_identity(&here).await.context("failed to start identity")?;
        }
        if let Some(here) = analytics_here {
            parts.start_analytics(&here).await.context("failed to start analytics")?;
        }
        if let Some(here) = audience_here {
            parts.start_audience(analytics.clone(), identity.clone(), &here).await.context("failed to start audience")?;
        }
        if let Some(here) = campaign_here {
            let peers = CampaignPeers { ingest, identity: identity.clone(), analytics, audience };
            parts.start_campaign(peers, &here).await.context("failed to start campaign")?;
        }
        if let Some(here) = ingest_here {
            parts.start_ingest(identity, &here).await.context("failed to start ingest")?;
        }
        parts.listen(edge).await
    }

    /// Waits for the first failure of a task; never returns while all goes well.
    pub async fn failed(&self) -> anyhow::Error {
        self.tasks.failed().await
    }

    /// Drains and ends: health says so, streams close, open calls finish, background work ends; each within the drain timeout.
    pub async fn stop(self) -> anyhow::Result<()> {
        for name in self.health_names.iter().copied().chain([""]) {
            self.health.set_service_status(name, ServingStatus::NotServing).await;
        }
        self.tasks.draining().cancel();
        self.listeners.cancel();
        for server in self.servers {
            server.await??;
        }
        let stopped = self.tasks.stop(self.drain_timeout).await;
        if let Some(log) = self.log {
            log.close().await?;
        }
        Ok(stopped?)
    }
}

/// The channel to a service, and, if it is to run in this process, how to say where.
fn peer(settings: &Settings, service: Service) -> anyhow::Result<(PeerChannel, Option<Deferred>)> {
    if settings.runs(service) {
        let (channel, here) = transport::deferred();
        return Ok((channel, Some(here)));
    }
    let url = settings.peer_url(service);
    // Settings are checked before: a missing address means that nobody here calls this peer.
    let url = if url.is_empty() { "http://unused.invalid" } else { url };
    let channel = transport::remote(url, &settings.cluster_token()).with_context(|| format!("failed to dial {}", service.name()))?;
    Ok((channel, None))
}

impl Parts<'_> {
    fn log(&self) -> anyhow::Result<Log> {
        self.log.clone().context("the log is open when a service needs it")
    }

    fn mount(&mut self, routes: Routes, names: Vec<&'static str>, here: &Deferred) {
        here.resolve(transport::local(routes.clone()));
        let merged = std::mem::take(&mut self.internal).into_axum_router().reset_fallback();
        self.internal = Routes::from(merged.merge(routes.into_axum_router()));
        self.health_names.extend(names);
    }

    async fn start_identity(&mut self, here: &Deferred) -> anyhow::Result<()> {
        let started = segue_identity::start(segue_identity::Deps {
            config: self.settings.identity.clone(),
            store_url: self.settings.store_url(),
            log: self.log()?,
            clock: self.clock.clone(),
            tenants: self.tenants.clone(),
            tasks: self.tasks.clone(),
        })
        .await?;
        self.mount(started.routes, started.service_names, here);
        Ok(())
    }

    async fn start_analytics(&mut self, here: &Deferred) -> anyhow::Result<()> {
        let started = segue_analytics::start(segue_analytics::Deps {
            config: self.settings.analytics.clone(),
            store_url: self.settings.store_url(),
            lake_url: self.settings.lake_url(),
            log: self.log()?,
            clock: self.clock.clone(),
            tenants: self.tenants.clone(),
            tasks: self.tasks.clone(),
        })
        .await?;
        self.mount(started.routes, started.service_names, here);
        Ok(())
    }

    async fn start_audience(&mut self, analytics: PeerChannel, identity: PeerChannel, here: &Deferred) -> anyhow::Result<()> {
        let started = segue_audience::start(segue_audience::Deps {
            config: self.settings.audience.clone(),
            store_url: self.settings.store_url(),
            log: self.log()?,
            clock: self.clock.clone(),
            tenants: self.tenants.clone(),
            tasks: self.tasks.clone(),
            analytics,
            identity,
        })
        .await?;
        self.mount(started.routes, started.service_names, here);
        Ok(())
    }

    async fn start_campaign(&mut self, peers: CampaignPeers, here: &Deferred) -> anyhow::Result<()> {
        let started = segue_campaign::start(segue_campaign::Deps {
            config: self.settings.campaign.clone(),
            store_url: self.settings.store_url(),
            log: self.log()?,
            clock: self.clock.clone(),
            tenants: self.tenants.clone(),
            tasks: self.tasks.clone(),
            ingest: peers.ingest,
            identity: peers.identity,
            analytics: peers.analytics,
            audience: peers.audience,
        })
        .await?;
        self.mount(started.routes, started.service_names, here);
        Ok(())
    }

    async fn start_ingest(&mut self, identity: PeerChannel, here: &Deferred) -> anyhow::Result<()> {
        let started = segue_ingest::start(segue_ingest::Deps {
            config: self.settings.ingest.clone(),
            store_url: self.settings.store_url(),
            log: self.log()?,
            clock: self.clock.clone(),
            tenants: self.tenants.clone(),
            tasks: self.tasks.clone(),
            data_dir: self.settings.data_dir().join("ingest"),
            identity,
        })
        .await?;
        self.mount(started.routes, started.service_names, here);
        Ok(())
    }

    async fn listen(self, edge: Option<Router>) -> anyhow::Result<Process> {
        let settings = self.settings;
        let (health, health_service) = tonic_health::server::health_reporter();
        for name in &self.health_names {
            health.set_service_status(*name, ServingStatus::Serving).await;
        }
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(segue_proto::DESCRIPTORS)
            .build_v1()
            .context("failed to build reflection")?;
        let limits = ServerLimits {
            drain_timeout: Duration::from_millis(settings.server.drain_timeout_ms),
            connections_max: settings.server.connections_max as usize,
            ..ServerLimits::default()
        };
        let listeners = CancellationToken::new();
        let mut servers = Vec::new();
        let (mut edge_address, mut internal_address) = (None, None);
        let open = Routes::default().add_service(health_service.clone()).add_service(reflection).into_axum_router().reset_fallback();
        if let Some(edge) = edge {
            let listener = bind(&settings.server.listen).await?;
            edge_address = Some(listener.local_addr()?);
            servers.push(spawn_server(listener, edge.merge(open), limits, &listeners));
        }
        if !settings.server.internal_listen.is_empty() {
            let listener = bind(&settings.server.internal_listen).await?;
            internal_address = Some(listener.local_addr()?);
            let routes = self.internal.add_service(health_service).into_axum_router().layer(RequireClusterToken(settings.cluster_token()));
            servers.push(spawn_server(listener, routes, limits.internal(), &listeners));
        }
        Ok(Process {
            edge: edge_address,
            internal: internal_address,
            tasks: self.tasks,
            health,
            health_names: self.health_names,
            listeners,
            servers,
            log: self.log,
            drain_timeout: limits.drain_timeout,
        })
    }
}

async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}; is another process using it?"))
}

fn spawn_server(
    listener: TcpListener,
    router: Router,
    limits: ServerLimits,
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<anyhow::Result<()>> {
    #[allow(clippy::disallowed_methods, reason = "Process::stop waits for it before the supervised tasks are told to end")]
    tokio::spawn(server::serve(listener, router, limits, stop.clone()))
}

/// Writes the key so that only the owner can read it.
fn write_operator_key(data_dir: &Path, key: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = data_dir.join("operator.key");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    writeln!(file, "{key}")?;
    file.sync_all()?;
    Ok(())
}
