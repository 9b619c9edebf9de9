//! Imports: every format, faulty rows and files, the same file twice, stops and restarts.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use segue_ingest::import::mapping_from_toml;
use segue_ingest::{Config, Deps, start};
use segue_log::Log;
use segue_model::{ManualClock, Module, TenantId};
use segue_proto::events::v1::value::Kind;
use segue_proto::ingest::v1::create_import_request::Part;
use segue_proto::ingest::v1::import_service_client::ImportServiceClient;
use segue_proto::ingest::v1::{
    CancelImportRequest, CreateImportRequest, DimensionColumn, GetImportRequest, IdentifierColumn, Import, ImportStart, ImportState,
    ListImportsRequest, Mapping, Outcome, PropertyColumn, PropertyType, ReasonCode, TraitColumn, WaitImportRequest,
};
use segue_runtime::caller::Role;
use segue_runtime::tasks::Tasks;
use segue_runtime::tenants::{Tenant, TenantDirectory};
use segue_runtime::transport::{PeerChannel, deferred, local};
use tonic::{Code, Status};

use crate::harness::*;

mod uploads;

/// What outlives a process.
struct World {
    backends: Backends,
    log: Log,
    tenant: TenantId,
    tenants: TenantDirectory,
    data: tempfile::TempDir,
}

struct Process {
    imports: ImportServiceClient<PeerChannel>,
    tasks: Tasks,
    tenant: TenantId,
}

impl World {
    async fn new(backends: Backends) -> World {
        let log = backends.log.open().await.expect("the log opens");
        let tenant = new_tenant();
        let tenants = TenantDirectory::fixed(vec![Tenant::new(tenant.clone(), [Module::Ingest].into_iter().collect())]);
        World { backends, log, tenant, tenants, data: tempfile::tempdir().expect("a folder") }
    }

    /// Files of imports and uploads.
    fn spooled(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.data.path().join("imports")).expect("the folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| name != "node").collect()
    }

    /// Waits until files are there, or none.
    async fn until_spooled(&self, some: bool) {
        let wait = async {
            while self.spooled().is_empty() == some {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("files: {:?}", self.spooled()));
    }

    async fn start(&self) -> Process {
        self.start_with(Config::default()).await
    }

    async fn start_with(&self, config: Config) -> Process {
        let tasks = Tasks::new();
        let (identity, _never) = deferred();
        let started = start(Deps {
            config,
            store_url: self.backends.store.url().to_owned(),
            log: self.log.clone(),
            clock: Arc::new(ManualClock::new(NOW_US)),
            tenants: self.tenants.clone(),
            tasks: tasks.clone(),
            data_dir: self.data.path().to_owned(),
            identity,
        })
        .await
        .expect("ingest starts");
        Process { imports: ImportServiceClient::new(local(started.routes)), tasks, tenant: self.tenant.clone() }
    }

    /// Accepted events, by message id.
    async fn accepted(&self) -> HashMap<String, segue_proto::events::v1::AcceptedEvent> {
        let mut events = HashMap::new();
        for partition in 0..self.log.partitions() {
            let limits = segue_log::ReadLimits { wait: Duration::ZERO, batches_max: 10_000, bytes_max: 256 << 20 };
            for batch in self.log.read(segue_ingest::ACCEPTED, partition, 0, limits).await.expect("read") {
                let batch: segue_proto::events::v1::AcceptedBatch = prost::Message::decode(batch.payload).expect("a batch");
                for accepted in batch.groups.into_iter().filter(|group| group.tenant == self.tenant.as_str()).flat_map(|group| group.events)
                {
                    events.insert(accepted.event.as_ref().expect("an event").message_id.clone(), accepted);
                }
            }
        }
        events
    }
}

impl Process {
    async fn create(&mut self, mapping: Mapping, name: &str, content: &[u8]) -> Result<Import, Status> {
        self.create_announced(mapping, name, content, content.len() as u64).await
    }

    async fn create_announced(&mut self, mapping: Mapping, name: &str, content: &[u8], size_bytes: u64) -> Result<Import, Status> {
        let start = ImportStart { mapping: Some(mapping), file_name: name.to_owned(), size_bytes };
        let mut parts = vec![CreateImportRequest { part: Some(Part::Start(start)) }];
        parts.extend(content.chunks(100_000).map(|chunk| CreateImportRequest { part: Some(Part::Chunk(chunk.to_vec())) }));
        let request = request_as(Role::Editor, &self.tenant, futures::stream::iter(parts));
        Ok(self.imports.create_import(request).await?.into_inner())
    }

    async fn wait(&mut self, name: &str) -> Import {
        let request = request_as(Role::Editor, &self.tenant, WaitImportRequest { name: name.to_owned() });
        self.imports.wait_import(request).await.expect("an import").into_inner()
    }

    async fn import(&mut self, mapping: Mapping, name: &str, content: &[u8]) -> Import {
        let created = self.create(mapping, name, content).await.expect("created");
        self.wait(&created.name).await
    }

    async fn get(&mut self, name: &str) -> Import {
        let request = request_as(Role::Editor, &self.tenant, GetImportRequest { name: name.to_owned() });
        self.imports.get_import(request).await.expect("an import").into_inner()
    }

    async fn stop(self) {
        self.tasks.stop(Duration::from_secs(60)).await.expect("it stops");
    }
}

/// The reason of an error.
fn reason(status: &Status) -> String {
    tonic_types::StatusExt::get_details_error_info(status).expect("a reason").reason
}

fn mapping() -> Mapping {
    Mapping {
        event_column: "event".into(),
        time_column: "at".into(),
        identifiers: vec![IdentifierColumn { column: "who".into(), kind: "user_id".into() }],
        properties: vec![PropertyColumn { column: "n".into(), property: "count".into(), r#type: PropertyType::Int.into() }],
        dimensions: vec![DimensionColumn { column: "platform".into(), dimension: "platform".into() }],
        traits: vec![TraitColumn { column: "tier".into(), ..TraitColumn::default() }],
        ..Mapping::default()
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("written");
    encoder.finish().expect("finished")
}

fn csv(rows: usize) -> String {
    let mut text = "who,event,at,n,platform,tier\n".to_owned();
    for row in 0..rows {
        text += &format!("u{},Looked,2026-11-{:02}T10:00:00Z,{row},web,gold\n", row % 50, row % 20 + 1);
    }
    text
}

fn counts(import: &Import) -> (ImportState, u64, u64, u64, u64) {
    (import.state(), import.rows, import.accepted, import.quarantined, import.rejected)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_plain_and_compressed_leads_to_the_same_events() {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
    let micros = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time").timestamp_millis();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("who", Arc::new(StringArray::from(vec!["u1", "u2"]))),
        ("event", Arc::new(StringArray::from(vec!["Looked", "Order Completed"]))),
        (
            "at",
            Arc::new(
                TimestampMillisecondArray::from(vec![micros("2026-11-01T10:00:00Z"), micros("2026-11-02T10:00:00Z")]).with_timezone("UTC"),
            ),
        ),
        ("n", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("platform", Arc::new(StringArray::from(vec!["web", "ios"]))),
        ("tier", Arc::new(StringArray::from(vec![None, Some("gold")]))),
        ("unused", Arc::new(StringArray::from(vec!["x", "y"]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let mut parquet = Vec::new();
    let properties = parquet::file::properties::WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut parquet, batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let csv = "\u{feff}event,who,n,at,platform,tier\r\nLooked,u1,1,2026-11-01T10:00:00Z,web,\r\n\"Order Completed\",u2,,2026-11-02T10:00:00Z,ios,gold\r\n";
    let ndjson = "{\"event\":\"Looked\",\"who\":\"u1\",\"n\":1,\"at\":\"2026-11-01T10:00:00Z\",\"platform\":\"web\",\"tier\":null}\n\n\
        {\"event\":\"Order Completed\",\"who\":\"u2\",\"at\":\"2026-11-02T10:00:00Z\",\"platform\":\"ios\",\"tier\":\"gold\"}";
    let plain: [(&str, Vec<u8>); 3] = [("a.csv", csv.into()), ("a.ndjson", ndjson.into()), ("a.parquet", parquet)];
    for (name, content) in
        plain.iter().flat_map(|(name, content)| [(name.to_string(), content.clone()), (format!("{name}.gz"), gzip(content))])
    {
        let world = World::new(backends().remove(0)).await;
        let mut process = world.start().await;
        let import = process.import(mapping(), &name, &content).await;
        assert_eq!(counts(&import), (ImportState::Succeeded, 2, 2, 0, 0), "{name}: {import:?}");
        let mut events: Vec<_> = world.accepted().await.into_values().collect();
        events.sort_by_key(|accepted| accepted.event.as_ref().expect("an event").time.map(|time| time.seconds));
        let first = events[0].event.as_ref().expect("an event");
        assert_eq!((first.name.as_str(), first.source.as_str(), first.identifiers[0].value.as_str()), ("Looked", "import", "u1"), "{name}");
        assert_eq!(first.properties["count"].kind, Some(Kind::IntValue(1)), "{name}");
        assert!(first.traits.is_empty() && events[0].time_is_final, "{name}");
        let context = first.context.as_ref().expect("a context");
        assert_eq!((context.platform.as_str(), context.source_type.as_str()), ("web", "file"), "{name}");
        let second = events[1].event.as_ref().expect("an event");
        assert!(second.properties.is_empty(), "{name}: an empty cell is a missing value");
        assert_eq!(second.traits["tier"].kind, Some(Kind::StringValue("gold".into())), "{name}");
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_file_with_the_same_mapping_is_imported_once() {
    for backends in backends() {
        let world = World::new(backends).await;
        let mut process = world.start().await;
        let content = csv(2_500);
        let first = process.import(mapping(), "a.csv", content.as_bytes()).await;
        assert_eq!(counts(&first), (ImportState::Succeeded, 2_500, 2_500, 0, 0), "{first:?}");
        assert_eq!(first.bytes_read, content.len() as u64);
        // Compressed it is still the same content.
        let again = process.create(mapping(), "b.csv.gz", &gzip(content.as_bytes())).await.expect("answered");
        assert!(again.already_imported && again.name == first.name, "{again:?}");
        let other = Mapping { source: "other".into(), ..mapping() };
        let other = process.import(other, "a.csv", content.as_bytes()).await;
        assert!(!other.already_imported && other.state() == ImportState::Succeeded);
        assert_eq!(world.accepted().await.len(), 5_000);
        let list = process.imports.list_imports(request_as(Role::Editor, &world.tenant, ListImportsRequest::default())).await;
        assert_eq!(list.expect("a list").into_inner().imports.len(), 2);
        let left = std::fs::read_dir(world.data.path().join("imports")).expect("the folder").count();
        assert_eq!(left, 1, "only the node's name stays");
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty_rows_are_told_and_the_others_are_imported() {
    let world = World::new(backends().remove(0)).await;
    let mut process = world.start().await;
    let huge = "x".repeat(10 << 20);
    let content = [
        b"who,event,at,n,platform,tier\n".as_slice(),
        b"u1,Looked,2026-11-01T10:00:00Z,1,web,\n",
        b"u1,Looked,yesterday,1,web,\n",
        b"u1,Looked,2026-11-01T10:00:00Z,many,web,\n",
        b",Looked,2026-11-01T10:00:00Z,1,web,\n",
        b"u1,Looked\n",
        b"u1,\xff\xfe,2026-11-01T10:00:00Z,1,web,\n",
        format!("u1,Looked,2026-11-01T10:00:00Z,1,\"{huge}\",\n").as_bytes(),
        b"u1,\"a \"\"quoted\"\"\nname\",2026-11-01T10:00:00Z,1,web,\n",
        b"u2,Looked,2026-11-01T10:00:00Z,2,web,",
    ]
    .concat();
    let import = process.import(mapping(), "a.csv", &content).await;
    assert_eq!(counts(&import), (ImportState::Succeeded, 9, 2, 4, 3), "{import:?}");
    let faults: Vec<_> = import.faults.iter().map(|fault| (fault.row, fault.outcome(), fault.reasons[0].code())).collect();
    let expected = [
        (2, Outcome::Quarantined, ReasonCode::Unreadable),
        (3, Outcome::Quarantined, ReasonCode::TypeMismatch),
        (4, Outcome::Quarantined, ReasonCode::MissingIdentifier),
        (5, Outcome::Rejected, ReasonCode::Unreadable),
        (6, Outcome::Rejected, ReasonCode::Unreadable),
        (7, Outcome::Rejected, ReasonCode::TooLarge),
        (8, Outcome::Quarantined, ReasonCode::InvalidValue),
    ];
    assert_eq!(faults, expected);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_that_does_not_fit_names_the_column_and_those_that_exist() {
    let world = World::new(backends().remove(0)).await;
    let mut process = world.start().await;
    let mut wrong = mapping();
    wrong.time_column = "when".into();
    for (name, content) in
        [("a.csv", csv(3)), ("a.ndjson", "{\"who\":1,\"event\":2,\"at\":3,\"n\":4,\"platform\":5,\"tier\":6}".to_owned())]
    {
        let status = process.create(wrong.clone(), name, content.as_bytes()).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = tonic_types::StatusExt::get_details_bad_request(&status).expect("violations");
        let violation = &details.field_violations[0];
        assert_eq!(violation.field, "mapping.time_column");
        assert!(violation.description.contains("`when`") && violation.description.contains("platform"), "{}", violation.description);
    }
    for broken in [Mapping { time_zone: "Mars".into(), ..mapping() }, Mapping { identifiers: vec![], ..mapping() }] {
        assert_eq!(process.create(broken, "a.csv", csv(1).as_bytes()).await.expect_err("refused").code(), Code::InvalidArgument);
    }
    let status = process.create(mapping(), "a.parquet", b"PAR1 but not really").await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    let left = std::fs::read_dir(world.data.path().join("imports")).expect("the folder").count();
    assert_eq!(left, 1, "refused files are removed");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_cut_off_fails_at_its_row_and_keeps_those_before() {
    let world = World::new(backends().remove(0)).await;
    let mut process = world.start().await;
    let mut content = gzip(csv(20_000).as_bytes());
    content.truncate(content.len() / 2);
    let import = process.import(mapping(), "a.csv.gz", &content).await;
    assert_eq!(import.state(), ImportState::Failed, "{import:?}");
    assert!(import.rows > 1_000 && import.accepted == import.rows, "{import:?}");
    assert!(import.error.contains(&format!("after row {}", import.rows)) && import.error.contains("cut off"), "{}", import.error);
    assert_eq!(world.accepted().await.len() as u64, import.accepted);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_beyond_the_limit_is_refused_while_it_is_read() {
    let world = World::new(backends().remove(0)).await;
    let mut config = Config::default();
    config.import.content_bytes_max = 1 << 20;
    let mut process = world.start_with(config).await;
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let status = process.create(mapping(), "a.csv.gz", &bomb).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_goes_on_after_a_restart_and_every_row_counts_once() {
    for backends in backends() {
        let world = World::new(backends).await;
        let mut config = Config::default();
        config.import.batch_rows = 50;
        let mut process = world.start_with(config.clone()).await;
        let created = process.create(mapping(), "a.csv", csv(20_000).as_bytes()).await.expect("created");
        let mut rows = 0;
        for _ in 0..3 {
            let begun = rows;
            while rows == begun && process.get(&created.name).await.state() == ImportState::Running {
                rows = process.get(&created.name).await.rows;
                tokio::task::yield_now().await;
            }
            process.stop().await;
            process = world.start_with(config.clone()).await;
        }
        let done = process.wait(&created.name).await;
        assert_eq!(counts(&done), (ImportState::Succeeded, 20_000, 20_000, 0, 0), "{done:?}");
        assert_eq!(world.accepted().await.len(), 20_000, "ids repeat, so a batch that came twice is the same events");
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_module_is_off_an_import_waits_and_can_be_cancelled() {
    let world = World::new(backends().remove(0)).await;
    let mut process = world.start().await;
    world.tenants.replace(vec![Tenant::new(world.tenant.clone(), Default::default())]);
    let created = process.create(mapping(), "a.csv", csv(3_000).as_bytes()).await.expect("created");
    let waiting = process.create(Mapping { source: "b".into(), ..mapping() }, "a.csv", csv(3_000).as_bytes()).await.expect("created");
    let request = request_as(Role::Editor, &world.tenant, CancelImportRequest { name: created.name.clone() });
    let cancelled = process.imports.cancel_import(request).await.expect("cancelled").into_inner();
    assert_eq!((cancelled.state(), cancelled.rows), (ImportState::Cancelled, 0));
    world.tenants.replace(vec![Tenant::new(world.tenant.clone(), [Module::Ingest].into_iter().collect())]);
    assert_eq!(process.wait(&waiting.name).await.state(), ImportState::Succeeded);
    assert_eq!(process.get(&created.name).await.state(), ImportState::Cancelled);
    // Somebody changed their mind: a cancelled import does not stand in the way.
    let again = process.import(mapping(), "a.csv", csv(3_000).as_bytes()).await;
    assert_eq!((again.state(), again.already_imported), (ImportState::Succeeded, false));
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_file_is_imported_whole() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/ecom.csv.gz");
    let Ok(content) = std::fs::read(path) else { return };
    let mapping = mapping_from_toml(include_str!("../../../../tests/data/ecom.mapping.toml")).expect("a mapping");
    let world = World::new(backends().remove(0)).await;
    let mut process = world.start().await;
    let import = process.import(mapping, "ecom.csv.gz", &content).await;
    assert_eq!(counts(&import), (ImportState::Succeeded, 31_106, 31_106, 0, 0), "{import:?}");
    assert_eq!(world.accepted().await.len(), 31_106);
    process.stop().await;
}
