//! Measures ResolveBatch alone: events per second with persons that are all new, all known and cached, and known but to be
//! loaded, on a temporary SQLite file or on `--postgres URL`. `cargo run -p segue-identity --example resolve_speed`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use segue_identity::{Config, Deps};
use segue_log::{Log, LogConfig};
use segue_model::{ManualClock, Module, TenantId};
use segue_proto::events::v1::{EventKind, Identifier};
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::identity::v1::{ResolveBatchRequest, Subject};
use segue_runtime::transport::{PeerChannel, for_tenant, local};
use segue_runtime::{Tasks, Tenant, TenantDirectory};

const PERSONS: usize = 100_000;
const BATCH: usize = 1_000;

fn subject(person: usize, time_us: i64) -> Subject {
    let identifier = |kind: &str, value: String| Identifier { kind: kind.to_owned(), value };
    let identifiers = vec![identifier("user_id", format!("user-{person}")), identifier("device_id", format!("6f9619ff-8b86-{person:012}"))];
    Subject { identifiers, time_us, kind: EventKind::Track as i32, ..Subject::default() }
}

/// Batches over persons in a scattered order, from `callers` sources at once; returns the events per second.
async fn measure(
    client: &IdentityServiceClient<PeerChannel>,
    tenant: &TenantId,
    callers: usize,
    first: u64,
    time_us: i64,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let per_caller = PERSONS / BATCH / callers;
    let calls = (0..callers).map(|caller| async move {
        for batch in 0..per_caller {
            let offset = (caller * per_caller + batch) * BATCH;
            // 7919 is prime to the number of persons, so each comes once.
            let subjects = (offset..offset + BATCH).map(|n| subject(n * 7919 % PERSONS, time_us)).collect();
            let request = ResolveBatchRequest { source: format!("s{caller}"), sequence: first + batch as u64, subjects };
            client.clone().resolve_batch(for_tenant(tenant, request)).await?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(calls).await?;
    Ok((per_caller * callers * BATCH) as f64 / began.elapsed().as_secs_f64())
}

async fn start(store_url: &str, log: &Log) -> anyhow::Result<(IdentityServiceClient<PeerChannel>, TenantId, Tasks)> {
    let tenant: TenantId = "shop".parse()?;
    let tasks = Tasks::new();
    let modules = [Module::Ingest, Module::Identity].into_iter().collect();
    let started = segue_identity::start(Deps {
        config: Config::default(),
        store_url: store_url.to_owned(),
        log: log.clone(),
        clock: Arc::new(ManualClock::new(0)),
        tenants: TenantDirectory::fixed(vec![Tenant::new(tenant.clone(), modules)]),
        tasks: tasks.clone(),
    })
    .await?;
    Ok((IdentityServiceClient::new(local(started.routes)).max_decoding_message_size(64 << 20), tenant, tasks))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store_url = match std::env::args().skip_while(|arg| arg != "--postgres").nth(1) {
        Some(url) => format!("{url}?schema_prefix=bench_{}_", std::process::id()),
        None => format!("sqlite:{}", folder.path().display()),
    };
    let log = Log::open(LogConfig::new(format!("embedded:{}", folder.path().join("log").display()))).await?;
    for callers in [1, 4] {
        let url = if store_url.starts_with("sqlite") { format!("{store_url}/{callers}") } else { format!("{store_url}&x={callers}") };
        let url = url.replace("&x=4", "4").replace("&x=1", "1");
        let (client, tenant, tasks) = start(&url, &log).await?;
        let new = measure(&client, &tenant, callers, 1, 1_000_000).await?;
        let known = measure(&client, &tenant, callers, 1_001, 2_000_000).await?;
        let seen = measure(&client, &tenant, callers, 2_001, 5_000_000_000).await?;
        tasks.stop(Duration::from_secs(10)).await?;
        let (client, tenant, tasks) = start(&url, &log).await?;
        let loaded = measure(&client, &tenant, callers, 3_001, 5_000_000_000).await?;
        tasks.stop(Duration::from_secs(10)).await?;
        println!(
            "{callers} callers: new {new:.0}/s, known {known:.0}/s, known and last-seen written {seen:.0}/s, known but not cached {loaded:.0}/s"
        );
    }
    Ok(())
}
