//! An installation of Segue made of real processes, on loopback, in temporary folders; everything ends when it is dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use segue_node::client::Gateway;
use segue_proto::tenancy::v1 as tenancy;
use tempfile::TempDir;

/// Token between the processes of an installation.
const CLUSTER_TOKEN: &str = "end-to-end";
/// How long a process may take to listen.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Which processes there are and what they stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One process with nothing beside it: SQLite, embedded log, files.
    Embedded,
    /// One process on PostgreSQL and NATS.
    OneProcess,
    /// Eight processes on PostgreSQL and NATS: two gateways, two ingests, identity, analytics, audience, campaign.
    EightProcesses,
}

impl Shape {
    /// The shapes that can be had here, by the rules of `segue_testkit`: without servers, the embedded one alone.
    pub fn available() -> Vec<Shape> {
        let servers = segue_testkit::TempStore::postgres().is_some() && segue_testkit::TempLog::nats().is_some();
        if servers { vec![Shape::Embedded, Shape::OneProcess, Shape::EightProcesses] } else { vec![Shape::Embedded] }
    }

    fn processes(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Shape::Embedded | Shape::OneProcess => &[("all", "all")],
            Shape::EightProcesses => &[
                ("gateway-1", "gateway"),
                ("gateway-2", "gateway"),
                ("identity", "identity"),
                ("analytics", "analytics"),
                ("audience", "audience"),
                ("campaign", "campaign"),
                ("ingest-1", "ingest"),
                ("ingest-2", "ingest"),
            ],
        }
    }
}

/// One process and how to start it again.
#[derive(Debug)]
struct Member {
    name: &'static str,
    services: &'static str,
    listen: u16,
    internal: u16,
    child: Option<Child>,
}

/// A running installation.
#[derive(Debug)]
pub struct Installation {
    shape: Shape,
    members: Vec<Member>,
    folder: TempDir,
    store_url: Option<String>,
    log_url: Option<String>,
    log_prefix: String,
    program: PathBuf,
    settings: Vec<String>,
    // Dropping them removes what is kept on the servers.
    _store: Option<segue_testkit::TempStore>,
    _log: Option<segue_testkit::TempLog>,
}

impl Installation {
    /// Starts an installation of this shape. `program` is the path of the binary; `settings` are `key=value` pairs for all.
    pub async fn start(shape: Shape, program: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        Self::start_on(shape, program, settings, |_| Ok(())).await
    }

    /// The same; `prepare` puts into the data folder of the first process what is to be there when it starts.
    pub async fn start_on(
        shape: Shape,
        program: &Path,
        settings: &[&str],
        prepare: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let (store, log) = match shape {
            Shape::Embedded => (None, None),
            Shape::OneProcess | Shape::EightProcesses => (segue_testkit::TempStore::postgres(), segue_testkit::TempLog::nats()),
        };
        let mut installation = Self {
            shape,
            members: Vec::new(),
            folder: tempfile::tempdir()?,
            store_url: store.as_ref().map(|store| store.url().to_owned()),
            log_url: log.as_ref().map(|log| log.config().url.clone()),
            log_prefix: segue_testkit::unique_name(),
            program: program.to_owned(),
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            _store: store,
            _log: log,
        };
        for (name, services) in shape.processes() {
            installation.members.push(Member {
                name,
                services,
                listen: segue_testkit::free_port(),
                internal: segue_testkit::free_port(),
                child: None,
            });
        }
        prepare(&installation.data_dir())?;
        for at in 0..installation.members.len() {
            installation.spawn(at)?;
        }
        installation.ready().await?;
        Ok(installation)
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How many processes there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never: an installation has a process.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where clients call; with two gateways, the first.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.members[0].listen)
    }

    /// The address and port of [`Installation::url`].
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.members[0].listen)
    }

    /// Addresses of all gateways.
    pub fn gateways(&self) -> Vec<String> {
        let gateways = self.members.iter().filter(|member| matches!(member.services, "all" | "gateway"));
        gateways.map(|member| format!("http://127.0.0.1:{}", member.listen)).collect()
    }

    /// Which processes run a service.
    pub fn running(&self, service: &str) -> Vec<usize> {
        let runs = |member: &Member| member.services == "all" || member.services == service;
        self.members.iter().enumerate().filter(|(_, member)| runs(member)).map(|(at, _)| at).collect()
    }

    /// The data folder of the first process, which has the operator key.
    pub fn data_dir(&self) -> PathBuf {
        self.member_dir(0)
    }

    /// Process ids, in the order of the processes.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| member.child.as_ref().map(Child::id)).collect()
    }

    fn member_dir(&self, at: usize) -> PathBuf {
        self.folder.path().join(self.members[at].name)
    }

    fn spawn(&mut self, at: usize) -> anyhow::Result<()> {
        let data_dir = self.member_dir(at);
        std::fs::create_dir_all(&data_dir)?;
        let log_file = std::fs::OpenOptions::new().create(true).append(true).open(data_dir.join("stderr.log"))?;
        let member = &self.members[at];
        let mut command = Command::new(&self.program);
        command
            .arg("run")
            .arg("--data-dir")
            .arg(&data_dir)
            .args(["--services", member.services])
            .args(["--listen", &format!("127.0.0.1:{}", member.listen)]);
        let mut set = |key: &str, value: &str| {
            command.arg("--set").arg(format!("{key}={value}"));
        };
        set("log.partitions", "4");
        if let (Some(store), Some(log)) = (&self.store_url, &self.log_url) {
            set("store.url", store);
            set("log.url", log);
            set("log.prefix", &self.log_prefix);
            set("lake.url", &format!("file:{}", self.folder.path().join("lake").display()));
        }
        if self.shape == Shape::EightProcesses {
            set("server.internal_listen", &format!("127.0.0.1:{}", member.internal));
            set("peers.cluster_token", CLUSTER_TOKEN);
            for service in ["gateway", "ingest", "identity", "analytics", "audience", "campaign"] {
                if let Some(peer) = self.members.iter().find(|other| other.services == service) {
                    set(&format!("peers.{service}"), &format!("http://127.0.0.1:{}", peer.internal));
                }
            }
        }
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        self.members[at].child = Some(child);
        Ok(())
    }

    /// Waits until every gateway says that it and its peers are ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        for at in 0..self.members.len() {
            let port =
                if matches!(self.members[at].services, "all" | "gateway") { self.members[at].listen } else { self.members[at].internal };
            loop {
                if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    break;
                }
                let ended = match &mut self.members[at].child {
                    Some(child) => child.try_wait()?.map(|status| status.to_string()),
                    None => Some("it was stopped".to_owned()),
                };
                if ended.is_some() || Instant::now() > deadline {
                    bail!(
                        "{} does not listen ({}); its log ends with:\n{}",
                        self.members[at].name,
                        ended.unwrap_or_else(|| "still starting".to_owned()),
                        self.log_tail(at)
                    );
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// The last lines that a process logged.
    pub fn log_tail(&self, at: usize) -> String {
        let text = std::fs::read_to_string(self.member_dir(at).join("stderr.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Kills a process as a power cut would (SIGKILL), and starts it again.
    pub fn kill_and_restart(&mut self, at: usize) -> anyhow::Result<()> {
        self.kill(at)?;
        self.spawn(at)
    }

    /// Kills a process (SIGKILL) and leaves it dead.
    pub fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        if let Some(mut child) = self.members[at].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks a process to end (SIGTERM), waits, and answers with how it ended.
    pub async fn terminate(&mut self, at: usize, limit: Duration) -> anyhow::Result<std::process::ExitStatus> {
        let mut child = self.members[at].child.take().context("it does not run")?;
        let signalled = Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        anyhow::ensure!(signalled.success(), "kill failed");
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                child.kill()?;
                bail!("it did not end within {limit:?}; its log ends with:\n{}", self.log_tail(at));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts a process that was ended.
    pub async fn start_again(&mut self, at: usize) -> anyhow::Result<()> {
        self.spawn(at)?;
        self.ready().await
    }

    /// The operator's connection.
    pub async fn operator(&self) -> anyhow::Result<Gateway> {
        let mut key = None;
        for at in 0..self.members.len() {
            key = key.or_else(|| std::fs::read_to_string(self.member_dir(at).join("operator.key")).ok());
        }
        Gateway::connect(&self.url(), key.context("no process wrote the operator key")?.trim(), None).await
    }

    /// Switches audiences on or off for a tenant.
    pub async fn set_audiences(&self, tenant: &str, on: bool) -> anyhow::Result<()> {
        self.set_module(tenant, tenancy::Module::Audience, on).await
    }

    /// Switches a module on or off for a tenant.
    pub async fn set_module(&self, tenant: &str, module: tenancy::Module, on: bool) -> anyhow::Result<()> {
        let (mut client, tenant, module) = (self.operator().await?.tenancy(), tenant.to_owned(), module as i32);
        if on {
            client.enable_module(tenancy::EnableModuleRequest { tenant, module, with_dependencies: false }).await?;
        } else {
            client.disable_module(tenancy::DisableModuleRequest { tenant, module, cascade: false }).await?;
        }
        Ok(())
    }

    /// Makes a tenant with an administrator's key and a write key.
    pub async fn tenant(&self, id: &str) -> anyhow::Result<TenantKeys> {
        self.tenant_in(id, "").await
    }

    /// The same, whose reports are in a time zone.
    pub async fn tenant_in(&self, id: &str, time_zone: &str) -> anyhow::Result<TenantKeys> {
        self.tenant_with(id, time_zone, &[]).await
    }

    /// The same, with these modules on rather than the usual ones.
    pub async fn tenant_with(&self, id: &str, time_zone: &str, modules: &[tenancy::Module]) -> anyhow::Result<TenantKeys> {
        let mut client = self.operator().await?.tenancy();
        let modules = modules.iter().map(|module| *module as i32).collect();
        let tenant = tenancy::Tenant { id: id.to_owned(), time_zone: time_zone.to_owned(), modules, ..Default::default() };
        client.create_tenant(tenancy::CreateTenantRequest { tenant: Some(tenant) }).await?;
        let mut make = async |kind: tenancy::KeyKind, role: tenancy::Role| {
            let key = tenancy::Key {
                tenant: id.to_owned(),
                kind: kind as i32,
                role: role as i32,
                source: "test".to_owned(),
                ..Default::default()
            };
            anyhow::Ok(client.create_key(tenancy::CreateKeyRequest { key: Some(key) }).await?.into_inner().secret)
        };
        let write = make(tenancy::KeyKind::Write, tenancy::Role::Writer).await?;
        let secret = make(tenancy::KeyKind::Secret, tenancy::Role::Admin).await?;
        let gateway = Gateway::connect(&self.url(), &secret, None).await?;
        Ok(TenantKeys { id: id.to_owned(), write, secret, gateway })
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(child) = &mut member.child {
                // It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// A tenant with its keys, and a connection with the secret one.
#[derive(Debug, Clone)]
pub struct TenantKeys {
    /// Its id.
    pub id: String,
    /// Public key.
    pub write: String,
    /// Secret key with the role ADMIN.
    pub secret: String,
    /// Connection with the secret key.
    pub gateway: Gateway,
}
