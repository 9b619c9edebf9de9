//! A running analytics on real parts, its restarts, and the plain reference that it is compared with.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt32Type;
use arrow::util::display::array_value_to_string;
use prost::Message;
use segue_analytics::index::Index;
use segue_analytics::scan::{Column, PERSONS_PER_CHUNK, Scan, ScanError, ScanRequest, Snapshot, TRAITS, decode_value, encode_value};
use segue_analytics::{Config, Deps, Started, start};
use segue_log::{Log, NewBatch, Topic};
use segue_model::module::ModuleSet;
use segue_model::{Clock, Module, SystemClock, TenantId, dimension, partition};
use segue_proto::events::v1::{
    EventKind, IdentityChange, IdentityChangeBatch, PersonMerged, ResolvedBatch, ResolvedEvent, ResolvedGroup, Value,
    identity_change::Change,
};
use segue_runtime::{Tasks, Tenant, TenantDirectory};
use segue_testkit::{TempLog, TempStore};
use tempfile::TempDir;

const RESOLVED: Topic = Topic::new("resolved");
const IDENTITY: Topic = Topic::new("identity");

/// Everything that outlives a restart.
pub struct Rig {
    pub store: TempStore,
    pub log: TempLog,
    pub lake: TempDir,
    pub config: Config,
    pub tenants: TenantDirectory,
    pub clock: Arc<dyn Clock>,
}

/// One life of the process.
pub struct Life {
    pub started: Started,
    pub tasks: Tasks,
    pub log: Log,
}

pub fn tenant(name: &str) -> TenantId {
    name.parse().expect("a tenant id")
}

/// Nothing happens by itself, so that tests decide.
pub fn quiet() -> Config {
    Config {
        flush_age_ms_max: 3_600_000,
        merge_interval_ms: 3_600_000,
        checkpoint_interval_ms: 20,
        snapshot_age_ms_max: 0,
        merge_files_min: 2,
        sweep_age_ms_min: 0,
        ..Config::default()
    }
}

pub fn switched(tenants: &[(&str, bool)]) -> Vec<Tenant> {
    let modules = |on: bool| -> ModuleSet {
        let all = [Module::Ingest, Module::Identity, Module::Analytics];
        all.into_iter().filter(|module| on || *module != Module::Analytics).collect()
    };
    tenants.iter().map(|(name, on)| Tenant::new(tenant(name), modules(*on))).collect()
}

impl Rig {
    pub fn new(store: TempStore, log: TempLog, tenants: &[(&str, bool)]) -> Self {
        let lake = TempDir::with_prefix("segue-lake-").expect("a folder");
        let tenants = TenantDirectory::fixed(switched(tenants));
        Self { store, log, lake, config: quiet(), tenants, clock: Arc::new(SystemClock) }
    }

    pub fn embedded(tenants: &[(&str, bool)]) -> Self {
        Self::new(TempStore::sqlite(), TempLog::embedded(), tenants)
    }

    /// Every pair of backends that matters: all embedded, and all servers.
    pub fn each(tenants: &[(&str, bool)]) -> Vec<Self> {
        let pairs = segue_testkit::stores().into_iter().zip(segue_testkit::logs());
        pairs.map(|(store, log)| Self::new(store, log, tenants)).collect()
    }

    pub async fn start(&self) -> Life {
        let log = self.log.open().await.expect("the log opens");
        let tasks = Tasks::new();
        let deps = Deps {
            config: self.config.clone(),
            store_url: self.store.url().to_owned(),
            lake_url: format!("file:{}", self.lake.path().display()),
            log: log.clone(),
            clock: self.clock.clone(),
            tenants: self.tenants.clone(),
            tasks: tasks.clone(),
        };
        Life { started: start(deps).await.expect("analytics starts"), tasks, log }
    }

    /// Parquet files in the lake.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.lake.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }
}

/// Waits for a condition, and says what it waited for when it does not come.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}

impl Life {
    pub fn index(&self) -> &Index {
        &self.started.index
    }

    /// The process ends; the tail is lost, as in a crash.
    pub async fn crash(self) {
        self.tasks.stop(Duration::from_secs(20)).await.expect("tasks end");
        self.log.close().await.expect("the log closes");
    }

    /// Puts events on the log as ingest does: by partition, several tenants in one batch.
    pub async fn send(&self, events: &[(TenantId, ResolvedEvent)], per_batch: usize) {
        let mut batches: BTreeMap<u16, Vec<ResolvedBatch>> = BTreeMap::new();
        for (tenant, event) in events {
            let of_partition = batches.entry(partition::of_person(tenant.as_str(), event.person, self.log.partitions())).or_default();
            let is_full = |batch: &ResolvedBatch| batch.groups.iter().map(|group| group.events.len()).sum::<usize>() >= per_batch;
            if of_partition.last().is_none_or(is_full) {
                of_partition.push(ResolvedBatch::default());
            }
            let Some(batch) = of_partition.last_mut() else { continue };
            match batch.groups.last_mut().filter(|group| group.tenant == tenant.as_str()) {
                Some(group) => group.events.push(event.clone()),
                None => batch.groups.push(ResolvedGroup { tenant: tenant.to_string(), events: vec![event.clone()] }),
            }
        }
        for (number, batches) in batches {
            for batch in batches {
                let events = batch.groups.iter().map(|group| group.events.len() as u32).sum();
                let new = NewBatch { payload: batch.encode_to_vec().into(), events, ..NewBatch::default() };
                self.log.append(RESOLVED, number, new).await.expect("the log takes it");
            }
        }
    }

    /// Puts merges of persons on the log as identity does.
    pub async fn merge_persons(&self, tenant: &TenantId, first_link: u64, merges: &[(u32, u32)]) {
        let changes: Vec<Change> = merges.iter().map(|(from, into)| Change::Merged(PersonMerged { from: *from, into: *into })).collect();
        self.change_persons(tenant, first_link, changes).await;
    }

    /// Puts changes of who is whom on the log as identity does.
    pub async fn change_persons(&self, tenant: &TenantId, first_link: u64, changes: Vec<Change>) {
        let changes: Vec<IdentityChange> =
            (first_link..).zip(changes).map(|(sequence, change)| IdentityChange { sequence, time_us: 0, change: Some(change) }).collect();
        let events = changes.len() as u32;
        let payload = IdentityChangeBatch { tenant: tenant.to_string(), changes }.encode_to_vec().into();
        let partition = 1 % self.log.partitions();
        self.log.append(IDENTITY, partition, NewBatch { payload, events, ..NewBatch::default() }).await.expect("the log takes it");
    }

    /// Waits until everything on the log is queryable.
    pub async fn settled(&self, tenant: &TenantId) {
        eventually("all of the log is indexed", || async {
            match self.index().status(tenant).await {
                Ok(status) => {
                    status.catch_up_progress.is_none()
                        && status.partitions.iter().all(|partition| partition.position >= partition.log_position)
                }
                Err(_) => false,
            }
        })
        .await;
    }

    pub fn snapshot(&self, tenant: &TenantId) -> Arc<Snapshot> {
        self.index().snapshot(tenant).expect("the tenant is loaded")
    }

    /// All events of a tenant.
    pub async fn rows(&self, tenant: &TenantId) -> Vec<Row> {
        let snapshot = self.snapshot(tenant);
        tokio::task::spawn_blocking(move || rows(&snapshot, None, ALL_TIMES, None).expect("rows")).await.expect("no panic")
    }

    /// All events of a tenant, and what they state of persons.
    pub async fn rows_with_traits(&self, tenant: &TenantId) -> Vec<Row> {
        let snapshot = self.snapshot(tenant);
        tokio::task::spawn_blocking(move || all_rows(&snapshot).expect("rows")).await.expect("no panic")
    }
}

pub const ALL_TIMES: (i64, i64) = (i64::MIN, i64::MAX);

/// One event, as text by column; missing values are left out.
pub type Row = BTreeMap<String, String>;

fn columns(snapshot: &Snapshot) -> Vec<Column> {
    let mut columns = vec![
        Column::Person,
        Column::Origin,
        Column::Device,
        Column::Ts,
        Column::ReceivedAt,
        Column::Kind,
        Column::MessageId,
        Column::SessionId,
        Column::AccountId,
        Column::OriginalName,
        Column::Source,
        Column::Value,
        Column::SkippedItems,
        Column::ItemsList,
        Column::Unregistered,
        Column::Sequence,
    ];
    columns.extend(dimension::DIMENSIONS.iter().take(8).map(|dimension| Column::Dimension(dimension.code)));
    let names: std::collections::BTreeSet<&str> = snapshot.properties().iter().map(|property| property.name.as_str()).collect();
    columns.extend(names.into_iter().map(|name| Column::Property(name.to_owned())));
    columns.extend(snapshot.traits().iter().map(|known| Column::Trait(known.name.clone())));
    columns
}

/// Everything in a snapshot.
pub fn all_rows(snapshot: &Snapshot) -> Result<Vec<Row>, ScanError> {
    let mut all = rows(snapshot, None, ALL_TIMES, None)?;
    all.extend(rows(snapshot, Some(vec![TRAITS.to_owned()]), ALL_TIMES, None)?);
    all.sort();
    Ok(all)
}

/// The events alone.
pub fn events_of(rows: &[Row]) -> Vec<Row> {
    rows.iter().filter(|row| row["event"] != TRAITS).cloned().collect()
}

/// Reads a snapshot as rows, checking what a scan promises of each batch. Sorted, without the sequence.
pub fn rows(
    snapshot: &Snapshot,
    events: Option<Vec<String>>,
    range_us: (i64, i64),
    persons: Option<Range<u32>>,
) -> Result<Vec<Row>, ScanError> {
    let columns = columns(snapshot);
    let scan = snapshot.scan(ScanRequest { events, range_us, columns: columns.clone(), persons });
    let mut rows = rows_of(scan, &columns)?;
    rows.sort();
    Ok(rows)
}

/// The same rows as [`rows`], read chunk by chunk and by two threads at once.
pub fn rows_by_chunks(snapshot: &Snapshot, range_us: (i64, i64)) -> Result<Vec<Row>, ScanError> {
    let columns = columns(snapshot);
    let pass = snapshot.pass(ScanRequest { events: None, range_us, columns: columns.clone(), persons: None });
    let chunks: Vec<u32> = (0..=snapshot.persons_max() / PERSONS_PER_CHUNK).map(|chunk| chunk * PERSONS_PER_CHUNK).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let read = || -> Result<Vec<Row>, ScanError> {
        let mut rows = Vec::new();
        while let Some(start) = chunks.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            rows.extend(rows_of(pass.scan(*start..start.saturating_add(PERSONS_PER_CHUNK)), &columns)?);
        }
        Ok(rows)
    };
    let mut rows = std::thread::scope(|scope| {
        let other = scope.spawn(read);
        let mut rows = read()?;
        rows.extend(other.join().expect("no panic")?);
        Ok::<_, ScanError>(rows)
    })?;
    assert_eq!(pass.bytes(), 0, "nothing is held behind the last chunk");
    // A reader that looks at times itself sees the same, and whatever else there is.
    let slices = snapshot.pass(ScanRequest { events: None, range_us, columns: columns.clone(), persons: None }).whole_slices();
    let in_range = |row: &Row| (range_us.0..range_us.1).contains(&row["ts"].parse::<i64>().expect("a number"));
    let mut sliced: Vec<Row> = rows_of(slices.scan(0..u32::MAX), &columns)?.into_iter().filter(in_range).collect();
    rows.sort();
    sliced.sort();
    assert_eq!(rows, sliced);
    Ok(rows)
}

fn rows_of(mut scan: Scan, columns: &[Column]) -> Result<Vec<Row>, ScanError> {
    let mut rows = Vec::new();
    for batch in scan.by_ref() {
        let batch = batch?;
        assert!(batch.batch.num_rows() > 0);
        let mut last = None;
        for row in 0..batch.batch.num_rows() {
            let mut found = Row::from([("event".to_owned(), batch.event.to_string())]);
            let mut order: HashMap<&Column, u128> = HashMap::new();
            for (column, array) in columns.iter().zip(batch.batch.columns()) {
                if array.is_null(row) {
                    continue;
                }
                match column {
                    Column::ItemsList => {
                        let items = array.as_list::<i32>().value(row);
                        let items = items.as_struct();
                        for at in 0..items.len() {
                            for (field, values) in items.fields().iter().zip(items.columns()).filter(|(_, values)| values.is_valid(at)) {
                                found.insert(format!("item{at}.{}", field.name()), text(values, at));
                            }
                        }
                    }
                    Column::Unregistered => {
                        let map = array.as_map().value(row);
                        let (names, values) = (map.column(0).as_string::<i32>(), map.column(1).as_string::<i32>());
                        for at in 0..map.len() {
                            found.insert(format!("u.{}", names.value(at)), values.value(at).to_owned());
                        }
                    }
                    Column::Sequence | Column::Person | Column::Ts => {
                        let number: i128 = text(array, row).parse().expect("a number");
                        order.insert(column, (number - i128::from(i64::MIN)) as u128);
                        if *column != Column::Sequence {
                            found.insert(column.name(), number.to_string());
                        }
                    }
                    _ => {
                        found.insert(column.name(), text(array, row));
                    }
                }
            }
            let key = [Column::Person, Column::Ts, Column::Sequence].map(|column| order[&column]);
            assert!(last <= Some(key), "a batch is sorted by person, time and sequence");
            last = Some(key);
            rows.push(found);
        }
    }
    assert_eq!(scan.stats().rows, rows.len() as u64);
    Ok(rows)
}

fn text(array: &dyn Array, row: usize) -> String {
    match array.as_dictionary_opt::<UInt32Type>() {
        Some(dictionary) => {
            let key = dictionary.key(row).expect("a key");
            dictionary.values().as_string::<i32>().value(key).to_owned()
        }
        None => array_value_to_string(array, row).expect("text"),
    }
}

/// What reading these events should give, with persons redirected.
pub fn expected<'a>(events: impl Iterator<Item = &'a ResolvedEvent>, survivor: impl Fn(u32) -> u32) -> Vec<Row> {
    let mut rows = Vec::new();
    for event in events {
        let no_happening = matches!(event.kind(), EventKind::Identify | EventKind::Group | EventKind::Alias);
        if !no_happening {
            rows.push(expected_row(event, survivor(event.person)));
        }
        if no_happening || !event.traits.is_empty() {
            let mut row = fixed(event, TRAITS, survivor(event.person));
            row.insert("skipped_items".to_owned(), "0".to_owned());
            row.extend(event.traits.iter().map(|(name, value)| (format!("t.{name}"), plain(value))));
            rows.push(row);
        }
    }
    rows.sort();
    rows
}

/// What every row has.
fn fixed(event: &ResolvedEvent, name: &str, person: u32) -> Row {
    let mut row = Row::new();
    let mut put = |name: &str, text: String| row.insert(name.to_owned(), text);
    put("event", name.to_owned());
    put("person", person.to_string());
    put("origin", event.person.to_string());
    put("device", event.device.to_string());
    put("ts", event.time_us.to_string());
    put("received_at", event.received_at_us.to_string());
    put("kind", event.kind.max(1).to_string());
    put("message_id", event.message_id.clone());
    row
}

fn expected_row(event: &ResolvedEvent, person: u32) -> Row {
    let mut row = fixed(event, &event.name, person);
    let mut put = |name: &str, text: String| row.insert(name.to_owned(), text);
    for (name, text) in [
        ("session_id", &event.session_id),
        ("account_id", &event.account_id),
        ("original_name", &event.original_name),
        ("source", &event.source),
    ] {
        if !text.is_empty() {
            put(name, text.clone());
        }
    }
    for dimension in &event.dimensions {
        put(&format!("d.{}", dimension::by_code(dimension.code).expect("known").name), dimension.value.clone());
    }
    for (name, value) in event.properties.iter().chain(&event.unregistered) {
        put(&format!("p.{name}"), plain(value));
    }
    for (name, value) in &event.unregistered {
        let mut json = String::new();
        encode_value(value, &mut json);
        assert_eq!(decode_value(&json).as_ref(), Some(value));
        put(&format!("u.{name}"), json);
    }
    let mut value: Option<i128> = None;
    let mut skipped = 0;
    for (at, item) in event.items.iter().enumerate() {
        match (item.price_e4, item.quantity) {
            (Some(price), Some(quantity)) => value = Some(value.unwrap_or(0) + i128::from(price) * i128::from(quantity)),
            _ => skipped += 1,
        }
        let decimal = |e4: i64| segue_model::decimal::format_e4(i128::from(e4));
        let fields = [
            ("item_id", Some(item.item_id.clone())),
            ("category1", item.categories.first().cloned()),
            ("category2", item.categories.get(1).cloned()),
            ("price", item.price_e4.map(decimal)),
            ("quantity", item.quantity.map(|quantity| quantity.to_string())),
        ];
        for (name, text) in fields {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                put(&format!("item{at}.{name}"), text);
            }
        }
    }
    put("skipped_items", skipped.to_string());
    if let Some(value) = value {
        put("value", segue_model::decimal::format_e4(value));
    }
    row
}

/// As Arrow writes it.
fn plain(value: &Value) -> String {
    use segue_proto::events::v1::value::Kind;
    match value.kind.as_ref().expect("set") {
        Kind::StringValue(text) | Kind::JsonValue(text) => text.clone(),
        Kind::IntValue(number) => number.to_string(),
        Kind::DoubleValue(number) => number.to_string(),
        Kind::BoolValue(truth) => truth.to_string(),
        Kind::DecimalE4Value(e4) => segue_model::decimal::format_e4(i128::from(*e4)),
        Kind::TimestampValue(_) => unreachable!("the events of these tests carry no times as properties"),
    }
}
