//! `segue demo`: starts everything in one process, lets a simulated shop send events through the public API, waits until they
//! are in reports, and prints the whole loop as it goes: events, persons, a report, a funnel, an audience, a scenario and its result.

mod audience;
mod campaign;
mod funnel;
mod mailbox;
mod shop;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use segue_model::Clock;
use segue_proto::analytics::v1::{
    Aggregation, GetIndexStatusRequest, Grain, Metric, QueryEventsRequest, QueryEventsResponse, Unit, number,
};
use segue_proto::events::v1::Event;
use segue_proto::identity::v1::GetIdentityStatusRequest;
use segue_proto::ingest::v1::{GetPipelineStatusRequest, TrackStreamRequest};
use segue_proto::query::v1::TimeRange;
use segue_proto::tenancy::v1 as tenancy;
use segue_runtime::telemetry;
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::{Output, ProcessArgs, event_table, print_json, say, until_stopped};
use crate::client::Gateway;
use crate::process::Process;
use crate::settings::Settings;

const TENANT: &str = "demo";
const BATCH_EVENTS: usize = 500;
const DAYS: i64 = 14;
const DAY_US: i64 = 86_400_000_000;

/// How large the shop is, and what happens afterwards.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Events that the shop sends, about.
    #[arg(long, default_value_t = 50_000)]
    events: usize,
    /// Stop when done, instead of serving on.
    #[arg(long)]
    exit: bool,
    /// Where the gateway listens [default: 127.0.0.1:7171, or any free port with --exit].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

/// What went in.
#[derive(Debug, Default)]
struct Sent {
    events: u64,
    accepted: u64,
    quarantined: u64,
    rejected: u64,
}

/// Keys of the demonstration's tenant.
struct Keys {
    write: String,
    secret: String,
    /// May define channels.
    admin: String,
}

/// Runs the demonstration.
pub(crate) async fn run(process: &ProcessArgs, args: DemoArgs) -> anyhow::Result<()> {
    let listen = args.listen.clone().unwrap_or_else(|| if args.exit { "127.0.0.1:0" } else { "127.0.0.1:7171" }.to_owned());
    let mut settings = process.settings(&[("server.listen", listen)])?;
    if settings.services().len() != crate::settings::Service::ALL.len() {
        bail!("the demo runs all services in this process; leave server.services at all");
    }
    quieter(&mut settings);
    // The demonstration's mail server is on this machine, without TLS.
    settings.campaign.send.allow_insecure = true;
    settings.campaign.send.allow_private_addresses = true;
    let _telemetry = telemetry::init(&settings.telemetry, &ProcessArgs::environment())?;
    let clock = campaign::ShiftedClock::default();
    let running = Process::start(&settings, Arc::new(clock.clone())).await?;
    let address = running.edge.context("the gateway runs here")?;
    let told = tokio::select! {
        told = tell(process.output(), &args, &settings, address, &clock) => told,
        error = running.failed() => Err(error),
    };
    if args.exit || told.is_err() {
        running.stop().await?;
        return told;
    }
    until_stopped(running).await
}

/// The demonstration's own output is what should be read, unless somebody asked for logs.
fn quieter(settings: &mut Settings) {
    if settings.telemetry.log_filter == telemetry::TelemetryConfig::default().log_filter {
        settings.telemetry.log_filter = "warn".to_owned();
    }
}

async fn tell(
    output: Output,
    args: &DemoArgs,
    settings: &Settings,
    address: SocketAddr,
    clock: &campaign::ShiftedClock,
) -> anyhow::Result<()> {
    let now_us = clock.now_us();
    let url = format!("http://{address}");
    let keys = set_up(settings, &url).await?;
    let reader = Gateway::connect(&url, &keys.secret, None).await?;
    let before = duplicates(&reader).await?;
    audience::create(&reader).await.context("failed to make the audience")?;

    if output == Output::Table {
        say(format!("A shop sends about {} events of {DAYS} days to {url} …", args.events))?;
    }
    let started = Instant::now();
    let events = shop::Shop::new(args.events, now_us - DAYS * DAY_US, now_us).events();
    let sent = send(&Gateway::connect(&url, &keys.write, None).await?, events).await?;
    reader.wait_until_indexed().await?;
    let seconds = started.elapsed().as_secs_f64();

    let indexed = reader.analytics().get_index_status(GetIndexStatusRequest {}).await?.into_inner().rows;
    let persons = reader.identity().get_identity_status(GetIdentityStatusRequest {}).await?.into_inner().persons;
    let duplicates = duplicates(&reader).await? - before;
    let answer = reader.analytics().query_events(purchases_by_day(now_us)).await?.into_inner();
    let members = audience::look(&reader).await.context("failed to look at the audience")?;
    let range = purchases_by_day(now_us).range.unwrap_or_default();
    let funnel = funnel::counts(&funnel::ask(&reader, range).await?);
    if output == Output::Table {
        say(format!(
            "{} sent: {} accepted, {} quarantined; {duplicates} duplicates dropped; {indexed} in reports, of {persons} persons; {seconds:.1} s\n",
            sent.events, sent.accepted, sent.quarantined
        ))?;
        say(format!("Purchases by day:\n{}\n", event_table(&answer)))?;
        let steps: Vec<String> = funnel.iter().map(|(name, count)| format!("{count} {name}")).collect();
        say(format!("Funnel of persons, within 7 days: {}\n", steps.join(" → ")))?;
        say(members.text())?;
    }
    let admin = Gateway::connect(&url, &keys.admin, None).await?;
    let story = campaign::Story { gateway: &reader, admin: &admin, clock };
    let outcome =
        story.tell(|line| if output == Output::Table { say(line) } else { Ok(()) }).await.context("failed to run the scenario")?;
    match output {
        Output::Json => print_json(&json!({
            "events_sent": sent.events, "accepted": sent.accepted, "quarantined": sent.quarantined, "rejected": sent.rejected,
            "duplicates": duplicates, "indexed": indexed, "persons": persons, "seconds": seconds,
            "report": daily(&answer),
            "funnel": funnel.iter().map(|(name, count)| json!({"step": name, "persons": count})).collect::<Vec<_>>(),
            "scenario": outcome.json(),
            "audience": {"id": audience::ID, "members": members.members, "entered": members.entered, "left": members.left},
        })),
        Output::Table => {
            say(outcome.text())?;
            if args.exit { Ok(()) } else { say(what_next(&url, settings, &keys)) }
        }
    }
}

/// Makes the tenant (or finds the one of an earlier run) and two keys.
async fn set_up(settings: &Settings, url: &str) -> anyhow::Result<Keys> {
    let path = settings.data_dir().join("operator.key");
    let operator = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut client = Gateway::connect(url, operator.trim(), None).await?.tenancy();
    let tenant = tenancy::Tenant { id: TENANT.to_owned(), display_name: "Demonstration".to_owned(), ..Default::default() };
    match client.create_tenant(tenancy::CreateTenantRequest { tenant: Some(tenant) }).await {
        Ok(_) => {}
        Err(status) if status.code() == tonic::Code::AlreadyExists => {}
        Err(status) => return Err(status.into()),
    }
    let on = tenancy::EnableModuleRequest { tenant: TENANT.to_owned(), module: tenancy::Module::Campaign as i32, with_dependencies: true };
    client.enable_module(on).await?;
    let mut make = async |kind: tenancy::KeyKind, role: tenancy::Role, source: &str| {
        let key = tenancy::Key {
            tenant: TENANT.to_owned(),
            kind: kind as i32,
            role: role as i32,
            source: source.to_owned(),
            ..Default::default()
        };
        anyhow::Ok(client.create_key(tenancy::CreateKeyRequest { key: Some(key) }).await?.into_inner().secret)
    };
    Ok(Keys {
        write: make(tenancy::KeyKind::Write, tenancy::Role::Writer, "shop").await?,
        secret: make(tenancy::KeyKind::Secret, tenancy::Role::Editor, "shop-backend").await?,
        admin: make(tenancy::KeyKind::Secret, tenancy::Role::Admin, "shop-admin").await?,
    })
}

async fn duplicates(gateway: &Gateway) -> anyhow::Result<u64> {
    Ok(gateway.ingest().get_pipeline_status(GetPipelineStatusRequest {}).await?.into_inner().duplicates)
}

/// Sends everything on one stream, as fast as it is taken.
async fn send(gateway: &Gateway, events: Vec<Event>) -> anyhow::Result<Sent> {
    let mut sent = Sent { events: events.len() as u64, ..Sent::default() };
    let batches: Vec<Vec<Event>> = events.chunks(BATCH_EVENTS).map(<[Event]>::to_vec).collect();
    let last = batches.len() as u64;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let sending = async move {
        for (sequence, events) in (1..).zip(batches) {
            if sender.send(TrackStreamRequest { sequence, events }).await.is_err() {
                return;
            }
        }
    };
    let mut client = gateway.ingest();
    let receiving = async {
        let mut answers = client.track_stream(ReceiverStream::new(receiver)).await?.into_inner();
        let mut acknowledged = 0;
        while let Some(answer) = answers.message().await? {
            acknowledged = answer.acknowledged_sequence;
            (sent.accepted, sent.quarantined, sent.rejected) = (answer.accepted, answer.quarantined, answer.rejected);
        }
        if acknowledged < last {
            bail!("the stream ended at batch {acknowledged} of {last}");
        }
        Ok(())
    };
    let ((), received) = tokio::join!(sending, receiving);
    received?;
    Ok(sent)
}

fn purchases_by_day(now_us: i64) -> QueryEventsRequest {
    let day = |at_us: i64| Some(prost_types::Timestamp { seconds: at_us.div_euclid(DAY_US) * (DAY_US / 1_000_000), nanos: 0 });
    let metric = |name: &str, aggregation: Aggregation| Metric {
        name: name.to_owned(),
        events: vec!["df_purchase".to_owned()],
        aggregation: aggregation as i32,
        unit: if aggregation == Aggregation::Unique { Unit::Profile as i32 } else { 0 },
        ..Default::default()
    };
    QueryEventsRequest {
        range: Some(TimeRange { start: day(now_us - (DAYS - 1) * DAY_US), end: day(now_us + DAY_US) }),
        grain: Grain::Day as i32,
        metrics: vec![
            metric("purchases", Aggregation::Total),
            metric("buyers", Aggregation::Unique),
            metric("revenue", Aggregation::Revenue),
        ],
        ..Default::default()
    }
}

/// The daily report as plain rows.
fn daily(answer: &QueryEventsResponse) -> serde_json::Value {
    let number = |number: Option<&segue_proto::analytics::v1::Number>| match number.and_then(|number| number.kind.as_ref()) {
        Some(number::Kind::Count(count)) => json!(count),
        Some(number::Kind::Decimal(decimal)) => json!(decimal),
        _ => serde_json::Value::Null,
    };
    let periods = answer.groups.first().map_or(&[][..], |group| &group.periods);
    periods
        .iter()
        .map(|period| {
            let date = period.start.and_then(|start| chrono::DateTime::from_timestamp(start.seconds, 0)).map(|start| start.format("%Y-%m-%d").to_string());
            json!({"date": date, "purchases": number(period.values.first()), "buyers": number(period.values.get(1)), "revenue": number(period.values.get(2))})
        })
        .collect()
}

fn what_next(url: &str, settings: &Settings, keys: &Keys) -> String {
    let audience = audience::ID;
    let (write, secret, data_dir) = (&keys.write, &keys.secret, settings.data_dir().display().to_string());
    format!(
        r#"
It goes on serving; stop it with Ctrl-C. The data is in {data_dir}. Things to try in another terminal:

  Send an event of your own:
    curl {url}/v1/track -u {write}: -d '{{"userId":"you","event":"Order Completed","properties":{{"order_id":"1","products":[{{"product_id":"p1","price":12.5,"quantity":2}}]}}}}'

  … or with an SDK that you already have: any Segment or RudderStack client, write key {write}, host {url}

  Ask for a report over gRPC, purchases by platform:
    echo '{{"range":{{"start":"2020-01-01T00:00:00Z","end":"2100-01-01T00:00:00Z"}},"metrics":[{{"events":["df_purchase"]}}],"groupBy":[{{"dimension":"platform"}}]}}' \
      | cargo run --release -- report events - --server {url} --key {secret}

  Watch who enters and leaves the audience, from its beginning:
    cargo run --release -- audience watch {audience} --from-beginning --server {url} --key {secret}

  Import a file:
    cargo run --release -- import FILE.csv --mapping MAPPING.toml --server {url} --key {secret}
"#
    )
}
