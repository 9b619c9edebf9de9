//! Segue's side: analytics in this process, asked over its gRPC service as the gateway asks it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use segue_analytics::index::Index;
use segue_analytics::{Config, Deps, start};
use segue_log::{Log, LogConfig};
use segue_model::module::ModuleSet;
use segue_model::{Module, SystemClock, TenantId};
use segue_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use segue_proto::events::v1::ResolvedEvent;
use segue_runtime::transport::{self, MESSAGE_BYTES_MAX, PeerChannel};
use segue_runtime::{Tasks, Tenant, TenantDirectory};

use super::data::Stream;
use super::load;

/// A running analytics with the stream in its files.
pub(crate) struct Engine {
    pub(crate) tenant: TenantId,
    pub(crate) index: Index,
    client: AnalyticsServiceClient<PeerChannel>,
    tasks: Tasks,
    log: Log,
}

impl Engine {
    /// Starts on what is in this folder.
    async fn start(folder: &Path) -> anyhow::Result<Self> {
        let tenant: TenantId = "bench".parse()?;
        for part in ["store", "lake"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let log = Log::open(LogConfig { partitions: 1, ..LogConfig::new(format!("embedded:{}", folder.display())) }).await?;
        let tasks = Tasks::new();
        let modules: ModuleSet = [Module::Ingest, Module::Identity, Module::Analytics].into_iter().collect();
        let deps = Deps {
            // Room for the columns of every question at once, as the peers have the machine's memory for theirs.
            config: Config { cache_bytes_max: 8 << 30, merge_interval_ms: 3_600_000, ..Config::default() },
            store_url: format!("sqlite:{}", folder.join("store").display()),
            lake_url: format!("file:{}", folder.join("lake").display()),
            log: log.clone(),
            clock: Arc::new(SystemClock),
            tenants: TenantDirectory::fixed(vec![Tenant::new(tenant.clone(), modules)]),
            tasks: tasks.clone(),
        };
        let started = start(deps).await?;
        started.index.load(&tenant).await?;
        let client = AnalyticsServiceClient::new(transport::local(started.routes)).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { tenant, index: started.index, client, tasks, log })
    }

    /// An engine that holds this stream: loaded and merged, unless it was before.
    pub(crate) async fn with(stream: &Stream) -> anyhow::Result<Self> {
        let files = stream.files();
        let day = |day: usize| {
            let path = files.get(day).context("no such day")?;
            load::events(path, format!("d{day}"))
        };
        Self::holding(&stream.beside("segue"), stream.size.events, files.len(), day).await
    }

    /// An engine on this folder that holds so many events, which are those of `days` days: loaded and merged, unless they were before.
    pub(crate) async fn holding<I>(
        folder: &Path,
        events: u64,
        days: usize,
        of_day: impl Fn(usize) -> anyhow::Result<I>,
    ) -> anyhow::Result<Self>
    where
        I: Iterator<Item = anyhow::Result<ResolvedEvent>> + Send + 'static,
    {
        let loaded = folder.join("loaded");
        if !loaded.exists() && folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        let engine = Self::start(folder).await?;
        if !loaded.exists() {
            eprintln!("loading {events} events into Segue");
            engine.load(days, of_day).await?;
            std::fs::write(&loaded, "")?;
        }
        // Answers are as of what was read of the log, which has nothing for us: its first look at it has to be over.
        while engine.index.snapshot(&engine.tenant)?.watermark_us() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let rows = engine.index.status(&engine.tenant).await?.rows;
        anyhow::ensure!(rows == events, "Segue has {rows} of {events} events; remove {}", folder.display());
        Ok(engine)
    }

    async fn load<I>(&self, days: usize, of_day: impl Fn(usize) -> anyhow::Result<I>) -> anyhow::Result<()>
    where
        I: Iterator<Item = anyhow::Result<ResolvedEvent>> + Send + 'static,
    {
        let threads = std::thread::available_parallelism()?.get();
        let imports = (0..days).map(|day| {
            let events = of_day(day);
            // No two days share a moment, so that numbers may repeat among them.
            async move { self.index.import(&self.tenant, 0, events?).await.with_context(|| format!("loading day {day}")) }
        });
        futures::stream::iter(imports).buffer_unordered(threads).try_for_each(|_| async { Ok(()) }).await?;
        eprintln!("merging its files");
        self.index.merge(&self.tenant).await?;
        Ok(())
    }

    /// The service.
    pub(crate) fn client(&self) -> AnalyticsServiceClient<PeerChannel> {
        self.client.clone()
    }

    /// A request of the tenant.
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        transport::for_tenant(&self.tenant, message)
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.tasks.stop(Duration::from_secs(60)).await?;
        self.log.close().await?;
        Ok(())
    }
}
