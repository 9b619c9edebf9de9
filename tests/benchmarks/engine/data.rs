//! The event stream of the benchmark: a made-up shop, the same bytes for the same options, as one Parquet file per day.
//!
//! Activity per person follows a power law, so that a few persons have thousands of events and most have a handful; what is
//! bought costs a log-normal price; platform, channel and country belong to the person, category, campaign and version of the
//! operating system to the event. No two events have one time, so that no answer depends on how ties are broken.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, UInt16Array, UInt32Array};
use arrow::datatypes::UInt16Type;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;

/// 2026-01-01, milliseconds.
pub(crate) const START_MS: i64 = 1_767_225_600_000;
pub(crate) const DAY_MS: i64 = 86_400_000;
pub(crate) const DAYS: u32 = 90;
/// Changes whenever the same options would give other events.
const VERSION: u32 = 1;

/// The events of a shop with their weights; the first ten are those that remain when ten are asked for.
pub(crate) const EVENTS: [(&str, f64); 20] = [
    ("df_app_open", 18.0),
    ("df_view_home", 30.0),
    ("df_view_product_details", 20.0),
    ("df_view_search_result", 6.0),
    ("df_view_list", 6.0),
    ("df_add_to_cart", 5.0),
    ("df_begin_checkout", 2.2),
    ("df_add_payment_info", 1.6),
    ("df_purchase", 1.5),
    ("df_login", 2.0),
    ("df_add_to_wishlist", 1.5),
    ("df_remove_cart", 1.0),
    ("df_refund", 0.1),
    ("df_sign_up", 0.8),
    ("df_logout", 1.0),
    ("df_message_opened", 1.0),
    ("df_ad_response", 2.0),
    ("df_share_product", 0.5),
    ("review", 0.3),
    ("coupon_issue", 0.5),
];
/// Those that carry a price and a quantity.
const PRICED: [&str; 5] = ["df_view_product_details", "df_add_to_cart", "df_begin_checkout", "df_purchase", "df_refund"];
/// Their share is the same however many names there are, so that questions about them read the same rows.
const FIXED: usize = 10;

const CHANNELS: [(&str, f64); 8] = [
    ("organic", 0.4),
    ("search_ad", 0.2),
    ("display", 0.1),
    ("social", 0.1),
    ("email", 0.05),
    ("push", 0.05),
    ("referral", 0.05),
    ("affiliate", 0.05),
];
pub(crate) const COUNTRIES: [(&str, f64); 10] = [
    ("KR", 0.6),
    ("US", 0.1),
    ("JP", 0.08),
    ("TW", 0.05),
    ("VN", 0.05),
    ("TH", 0.04),
    ("ID", 0.03),
    ("SG", 0.02),
    ("MY", 0.02),
    ("PH", 0.01),
];
pub(crate) const PLATFORMS: [&str; 3] = ["android", "ios", "web"];

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) events: u64,
    pub(crate) persons: u32,
    pub(crate) event_names: u32,
}

/// A stream on disk.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) folder: PathBuf,
    pub(crate) size: Size,
}

impl Stream {
    /// The stream of this size below `root`, generated unless it is there.
    pub(crate) fn get(root: &Path, size: Size) -> anyhow::Result<Self> {
        let folder = root.join(format!("{}-events-{}-persons-{}-names", size.events, size.persons, size.event_names)).join("events");
        let stream = Self { folder, size };
        let manifest = stream.folder.join("stream.json");
        let wanted = json!({ "version": VERSION, "events": size.events, "persons": size.persons, "event_names": size.event_names });
        let wanted = wanted.to_string();
        if std::fs::read_to_string(&manifest).is_ok_and(|text| text == wanted) {
            return Ok(stream);
        }
        eprintln!("generating {} events of {} persons in {}", size.events, size.persons, stream.folder.display());
        if stream.folder.exists() {
            std::fs::remove_dir_all(&stream.folder)?;
        }
        std::fs::create_dir_all(&stream.folder)?;
        stream.generate()?;
        std::fs::write(manifest, wanted)?;
        Ok(stream)
    }

    /// One file per day, in the order of days.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        (0..DAYS).map(|day| self.folder.join(format!("day_{day:03}.parquet"))).collect()
    }

    /// Where a peer or our engine keeps what it made of the stream.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.with_file_name(name)
    }

    /// All that is kept of it.
    pub(crate) fn root(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    fn generate(&self) -> anyhow::Result<()> {
        let population = Population::new(self.size.persons);
        let names = Weighted::new(&event_names(self.size.event_names));
        let rows = |day: u32| self.size.events / u64::from(DAYS) + u64::from(u64::from(day) < self.size.events % u64::from(DAYS));
        let next = AtomicU32::new(0);
        let threads = std::thread::available_parallelism()?.get();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| -> anyhow::Result<()> {
                        loop {
                            let day = next.fetch_add(1, Ordering::Relaxed);
                            let files = self.files();
                            let Some(path) = files.get(day as usize) else { return Ok(()) };
                            write(path, &day_of(day, rows(day), &population, &names)?)?;
                        }
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a generator broke off"))?)
        })
    }
}

/// The first `count` names with weights that add up to the same: the ten that questions name keep theirs, the rest is shared.
fn event_names(count: u32) -> Vec<(String, f64)> {
    if count as usize == EVENTS.len() {
        return EVENTS.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
    }
    let others = (count as usize).saturating_sub(FIXED);
    let rest: f64 = EVENTS[FIXED..].iter().map(|(_, weight)| weight).sum();
    let fixed = EVENTS[..FIXED].iter().map(|(name, weight)| ((*name).to_owned(), *weight));
    fixed.chain((0..others).map(|number| (format!("custom_{number:04}"), rest / others as f64))).collect()
}

/// Random numbers that are the same everywhere and in every version (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0xA076_1D64_78BD_642F));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// Zeta-distributed with exponent `a` > 1, at most `most` (Devroye, Non-Uniform Random Variate Generation, X.6.1).
    fn zeta(&mut self, a: f64, most: f64) -> f64 {
        let power = 2_f64.powf(a - 1.0);
        loop {
            let (u, v) = (1.0 - self.unit(), self.unit());
            let x = u.powf(-1.0 / (a - 1.0)).floor();
            let t = (1.0 + 1.0 / x).powf(a - 1.0);
            if v * x * (t - 1.0) / (power - 1.0) <= t / power {
                return x.min(most);
            }
        }
    }

    /// Normally distributed (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// A choice among texts by weight.
pub(crate) struct Weighted {
    texts: Arc<StringArray>,
    cumulated: Vec<f64>,
}

impl Weighted {
    pub(crate) fn new<T: AsRef<str>>(choices: &[(T, f64)]) -> Self {
        let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
        let cumulated = choices.iter().scan(0.0, |sum, (_, weight)| {
            *sum += weight / total;
            Some(*sum)
        });
        Self { cumulated: cumulated.collect(), texts: Arc::new(choices.iter().map(|(text, _)| Some(text.as_ref())).collect()) }
    }

    pub(crate) fn choose(&self, random: &mut Random) -> usize {
        let at = random.unit();
        self.cumulated.partition_point(|sum| *sum <= at).min(self.cumulated.len() - 1)
    }
}

/// Who there is, and what does not change about them.
pub(crate) struct Population {
    /// Cumulated activity.
    cumulated: Vec<f64>,
    /// Whose activity that is: numbers say nothing of how active somebody is.
    numbers: Vec<u32>,
    /// By number: platform, channel, country.
    facts: Vec<[u16; 3]>,
}

impl Population {
    pub(crate) fn new(persons: u32) -> Self {
        let mut random = Random::of(7);
        let activity: Vec<f64> = (0..persons).map(|_| random.zeta(1.3, 300.0)).collect();
        let total: f64 = activity.iter().sum();
        let cumulated = activity.iter().scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        });
        let mut numbers: Vec<u32> = (0..persons).collect();
        for at in (1..persons as usize).rev() {
            numbers.swap(at, random.below(at as u64 + 1) as usize);
        }
        let (channels, countries) = (Weighted::new(&CHANNELS), Weighted::new(&COUNTRIES));
        let mut facts =
            || [random.below(PLATFORMS.len() as u64) as u16, channels.choose(&mut random) as u16, countries.choose(&mut random) as u16];
        Self { facts: (0..persons).map(|_| facts()).collect(), cumulated: cumulated.collect(), numbers }
    }

    /// Platform, channel and country of somebody.
    pub(crate) fn fact(&self, number: u32) -> [u16; 3] {
        self.facts[number as usize]
    }

    /// Somebody, the more active the likelier.
    pub(crate) fn choose(&self, random: &mut Random) -> u32 {
        let at = random.unit();
        self.numbers[self.cumulated.partition_point(|sum| *sum <= at).min(self.numbers.len() - 1)]
    }
}

fn texts(codes: Vec<u16>, texts: &Arc<StringArray>) -> anyhow::Result<ArrayRef> {
    Ok(Arc::new(DictionaryArray::<UInt16Type>::try_new(UInt16Array::from(codes), texts.clone())?))
}

/// The events of a day in the order of their times.
fn day_of(day: u32, rows: u64, population: &Population, names: &Weighted) -> anyhow::Result<RecordBatch> {
    let mut random = Random::of(1_000 + u64::from(day));
    let spare = (DAY_MS as u64).checked_sub(rows).context("a day has fewer milliseconds than events")?;
    // Sorted draws, each moved by its rank: distinct times.
    let mut times: Vec<i64> = (0..rows).map(|_| random.below(spare + 1) as i64).collect();
    times.sort_unstable();
    let midnight = START_MS + i64::from(day) * DAY_MS;
    let times: Vec<i64> = (midnight..).zip(times).map(|(start, time)| start + time).collect();

    let is_priced: Vec<bool> = names.texts.iter().map(|name| name.is_some_and(|name| PRICED.contains(&name))).collect();
    let rows = rows as usize;
    let mut person = Vec::with_capacity(rows);
    let mut codes: [Vec<u16>; 7] = std::array::from_fn(|_| Vec::with_capacity(rows));
    let (mut price, mut quantity) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for _ in 0..rows {
        let number = population.choose(&mut random);
        let event = names.choose(&mut random);
        let [platform, channel, country] = population.fact(number);
        let (category, campaign, version) = (random.below(100) as u16, random.below(200) as u16, random.below(20) as u16);
        for (column, code) in codes.iter_mut().zip([event as u16, platform, channel, country, category, campaign, version]) {
            column.push(code);
        }
        person.push(number);
        let paid = if is_priced[event] { (10.0 + random.normal()).exp().round() } else { 0.0 };
        price.push(paid);
        quantity.push(if paid > 0.0 { 1 + random.below(3) as i32 } else { 0 });
    }

    let numbered = |prefix: &str, count: usize| Arc::new((0..count).map(|number| Some(format!("{prefix}_{number:03}"))).collect());
    let of = |choices: &[(&'static str, f64)]| Arc::new(choices.iter().map(|(text, _)| Some(*text)).collect());
    let versions = Arc::new((0..20).map(|number| Some(format!("{}.{}", 12 + number / 4, number % 4))).collect());
    let platforms = Arc::new(PLATFORMS.iter().map(|text| Some(*text)).collect());
    let dictionaries =
        [names.texts.clone(), platforms, of(&CHANNELS), of(&COUNTRIES), numbered("category", 100), numbered("campaign", 200), versions];
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("person", Arc::new(UInt32Array::from(person))), ("ts", Arc::new(Int64Array::from(times)))];
    let text_names = ["event", "platform", "channel", "country", "category", "campaign", "os_version"];
    for ((name, codes), dictionary) in text_names.into_iter().zip(codes).zip(&dictionaries) {
        columns.push((name, texts(codes, dictionary)?));
    }
    columns.push(("price", Arc::new(Float64Array::from(price))));
    columns.push(("quantity", Arc::new(Int32Array::from(quantity))));
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn write(path: &Path, batch: &RecordBatch) -> anyhow::Result<()> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), Some(properties))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(())
}
