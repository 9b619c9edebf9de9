//! Which message ids were seen: exact, per partition, at a cost that does not grow with their number.
//!
//! A mark is a 128-bit fingerprint of (tenant, source, message id). The marks of a group are one row, written in the
//! transaction that advances the position. Rows are moved into *segments*: sorted fingerprints, cut into chunks by their
//! leading bits, so that a look-up is one read by key and a binary search. Segments are merged in the background into
//! larger ones, as in a log-structured merge tree. In memory: the marks of rows, and one Bloom filter per segment. A hit
//! of a filter is held against the stored fingerprints, so a false alarm costs a read and never an event.
//!
//! # What counts as seen
//!
//! Events of one strongest identifier go to one partition, and so does an event that is sent again: marks are kept per
//! partition. That makes the decision a function of the partition's log alone, which is what lets a worker that died be
//! repeated exactly: it asks identity the same question again and writes the same batch again.
//!
//! For the same reason age is counted by the log: a mark belongs to the day on which its batch was appended, segments hold
//! marks of one day, and a group sees the days from `day of the group before it − days kept` on. When segments are merged or
//! removed makes no difference to any answer.

mod chunk;
mod filter;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use segue_store::{Db, StoreError, Tx};
use tokio::sync::oneshot;
use tokio_util::sync::DropGuard;
use xxhash_rust::xxh3::Xxh3;

use self::chunk::{chunk_bits_for, chunk_of, contains, cut, decode, encode};
use self::filter::Filter;
use self::merge::{Merged, Plan};
use super::config::MarksConfig;
use super::error::PipelineError;
use crate::store::{marks as sql, pipeline as positions};
use segue_runtime::tasks::Tasks;

/// One seen message.
pub type Fingerprint = u128;

const DAY_US: i64 = 86_400_000_000;
/// Larger segments are not merged further.
const SEGMENT_MARKS_MAX: i64 = 32 << 20;
/// Chunks that one statement removes.
const SWEEP_CHUNKS: i64 = 4_096;
/// Chunks that one look-up reads.
const FIND_CHUNKS: usize = 512;

/// The fingerprint of a message.
pub fn fingerprint(tenant: &str, source: &str, message_id: &str) -> Fingerprint {
    let mut hasher = Xxh3::new();
    for part in [tenant, source, message_id] {
        hasher.update(part.as_bytes());
        hasher.update(&[0xff]); // never part of UTF-8, so parts cannot run together
    }
    hasher.digest128()
}

/// The day of a time of the log.
pub fn day_of(time_us: i64) -> i64 {
    time_us.div_euclid(DAY_US)
}

/// Marks of rows that are not in a segment yet.
#[derive(Debug)]
struct Recent {
    day: i64,
    last_row: i64,
    marks: HashSet<Fingerprint>,
}

#[derive(Debug)]
struct Segment {
    row: sql::SegmentRow,
    filter: Option<Filter>,
}

/// Which writer this is: writes of an older epoch are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The partition.
    pub partition: i64,
    /// The epoch of its lease.
    pub epoch: i64,
}

/// The marks of one partition. One worker owns it.
#[derive(Debug)]
pub struct MarkIndex {
    db: Db,
    owner: Owner,
    config: MarksConfig,
    /// Bytes of filters allowed to this partition.
    filter_bytes_max: usize,
    /// Oldest first; the last one is added to.
    recent: Vec<Recent>,
    segments: Vec<Segment>,
    next_row: i64,
    next_segment: i64,
    day: i64,
    /// Segments whose chunks are to be removed, and the first chunk that is left.
    to_sweep: Vec<(sql::SegmentRow, i64)>,
    merging: Option<Merging>,
}

/// A merge that is under way. Dropped, it writes nothing more.
#[derive(Debug)]
struct Merging {
    told: oneshot::Receiver<Result<Merged, PipelineError>>,
    _stop: DropGuard,
}

impl MarkIndex {
    /// Loads the marks of a partition. `filter_bytes_max` is this partition's part of the memory.
    pub async fn load(
        db: Db,
        owner: Owner,
        config: MarksConfig,
        filter_bytes_max: usize,
        high_water_us: i64,
    ) -> Result<Self, PipelineError> {
        let mut index = Self {
            owner,
            config,
            filter_bytes_max,
            recent: Vec::new(),
            segments: Vec::new(),
            next_row: 1,
            next_segment: owner.partition << 30,
            day: day_of(high_water_us),
            to_sweep: Vec::new(),
            merging: None,
            db,
        };
        // A merge of before may still be writing; from here on it cannot end.
        let mut tx = index.db.begin().await?;
        positions::fence(&mut tx, owner).await?;
        let segments = sql::list_segments(&mut tx, owner.partition).await?;
        for row in segments.iter().filter(|row| row.state == sql::BUILDING) {
            sql::drop_segment(&mut tx, row.id).await?;
        }
        tx.commit().await?;
        for row in segments {
            index.next_segment = index.next_segment.max(row.id + 1);
            if row.state == sql::LIVE {
                index.segments.push(Segment { row, filter: None });
            } else {
                index.to_sweep.push((row, 0));
            }
        }
        for row in sql::list_rows(&index.db, owner.partition).await? {
            index.next_row = row.number + 1;
            index.add_recent(row.day, row.number, decode(&row.fingerprints));
        }
        index.load_filters().await?;
        Ok(index)
    }

    /// Loads filters of the newest segments, as far as the memory goes.
    async fn load_filters(&mut self) -> Result<(), PipelineError> {
        let mut newest: Vec<usize> = (0..self.segments.len()).collect();
        newest.sort_by_key(|at| std::cmp::Reverse((self.segments[*at].row.day, self.segments[*at].row.id)));
        let mut bytes = 0;
        for at in newest {
            let row = &self.segments[at].row;
            if row.day < self.first_day(self.day) || row.filter_version != filter::VERSION {
                continue;
            }
            let stored = sql::get_filter(&self.db, row.id).await?;
            bytes += stored.len();
            if bytes > self.filter_bytes_max {
                break;
            }
            self.segments[at].filter = Filter::from_bytes(&stored, row.marks);
        }
        Ok(())
    }

    fn first_day(&self, day: i64) -> i64 {
        day - i64::from(self.config.days)
    }

    fn add_recent(&mut self, day: i64, row: i64, marks: impl IntoIterator<Item = Fingerprint>) {
        let room = self.config.recent_max as usize;
        match self.recent.last_mut() {
            Some(last) if last.day == day && last.marks.len() < room => {
                last.last_row = row;
                last.marks.extend(marks);
            }
            _ => self.recent.push(Recent { day, last_row: row, marks: marks.into_iter().collect() }),
        }
    }

    /// Which of `asked` were seen, as of a group of day `day`.
    pub async fn seen(&self, asked: &[Fingerprint], day: i64) -> Result<Vec<bool>, PipelineError> {
        let first_day = self.first_day(day);
        let mut seen: Vec<bool> =
            asked.iter().map(|mark| self.recent.iter().any(|recent| recent.day >= first_day && recent.marks.contains(mark))).collect();
        for segment in self.segments.iter().filter(|segment| segment.row.day >= first_day) {
            let suspects: Vec<usize> = (0..asked.len())
                .filter(|at| !seen[*at] && segment.filter.as_ref().is_none_or(|filter| filter.may_contain(asked[*at])))
                .collect();
            if !suspects.is_empty() {
                self.verify(&segment.row, asked, &suspects, &mut seen).await?;
            }
        }
        Ok(seen)
    }

    /// Holds suspects against the stored fingerprints of a segment.
    async fn verify(
        &self,
        segment: &sql::SegmentRow,
        asked: &[Fingerprint],
        suspects: &[usize],
        seen: &mut [bool],
    ) -> Result<(), PipelineError> {
        let base = segment.id << sql::CHUNK_BITS_MAX;
        let mut wanted: Vec<(i64, usize)> =
            suspects.iter().map(|at| (base + chunk_of(asked[*at], segment.chunk_bits as u32) as i64, *at)).collect();
        wanted.sort_unstable();
        let mut ids: Vec<i64> = wanted.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        for ids in ids.chunks(FIND_CHUNKS) {
            for chunk in sql::find_chunks(&self.db, ids).await? {
                let from = wanted.partition_point(|(id, _)| *id < chunk.id);
                for (_, at) in wanted[from..].iter().take_while(|(id, _)| *id == chunk.id) {
                    seen[*at] = contains(&chunk.fingerprints, asked[*at]);
                }
            }
        }
        Ok(())
    }

    /// Writes the marks of a group into the transaction of its position. After the commit, tell [`MarkIndex::remember`].
    pub async fn write(&self, tx: &mut Tx, day: i64, marks: &[Fingerprint]) -> Result<(), StoreError> {
        if marks.is_empty() {
            return Ok(());
        }
        let mut sorted = marks.to_vec();
        sorted.sort_unstable();
        sql::insert_row(tx, self.owner.partition, self.next_row, day, &encode(&sorted)).await
    }

    /// The marks are committed.
    pub fn remember(&mut self, day: i64, marks: Vec<Fingerprint>) {
        self.day = day;
        if !marks.is_empty() {
            self.add_recent(day, self.next_row, marks);
            self.next_row += 1;
        }
    }

    /// Moves full rows into segments, starts and ends merges, removes what has expired. Call it between groups. After an
    /// error the index must be loaded again, since what the store did is unknown.
    pub async fn maintain(&mut self, tasks: &Tasks) -> Result<(), PipelineError> {
        self.take_merged().await?;
        while self.recent.first().is_some_and(|first| first.day != self.day || first.marks.len() >= self.config.recent_max as usize) {
            self.flush_oldest().await?;
        }
        self.expire().await?;
        if self.merging.is_none() {
            self.sweep_some().await?;
            if let Some(plan) = self.choose_merge() {
                self.next_segment += 1; // the merge's own
                let stop = tasks.stopping().child_token();
                let told = merge::spawn(self.db.clone(), self.owner, plan, self.config.filter_bits_per_mark, stop.clone(), tasks);
                self.merging = Some(Merging { told, _stop: stop.drop_guard() });
            }
        }
        Ok(())
    }

    /// Ends the background merge: after the next fenced transaction it writes nothing more. For an index that is to be
    /// loaded again.
    pub fn give_up_merge(&mut self) {
        self.merging = None;
    }

    /// Whether [`MarkIndex::maintain`] has anything left to do.
    pub fn is_settled(&self) -> bool {
        self.merging.is_none() && self.to_sweep.is_empty() && self.choose_merge().is_none()
    }

    async fn flush_oldest(&mut self) -> Result<(), PipelineError> {
        let Some(oldest) = self.recent.first() else { return Ok(()) };
        let mut marks: Vec<Fingerprint> = oldest.marks.iter().copied().collect();
        marks.sort_unstable();
        let chunk_bits = chunk_bits_for(marks.len() as u64);
        let filter = Filter::of(marks.iter().copied(), marks.len() as i64, self.config.filter_bits_per_mark);
        let row = sql::SegmentRow {
            id: self.next_segment,
            // Of a day that is yet to come, after a clock was set right: it counts from today.
            day: oldest.day.min(self.day),
            level: 0,
            marks: marks.len() as i64,
            chunk_bits: i64::from(chunk_bits),
            state: sql::LIVE,
            filter_version: filter::VERSION,
        };
        let (bytes, cuts) = cut(&marks, row.id, chunk_bits);
        let mut tx = self.db.begin().await?;
        positions::fence(&mut tx, self.owner).await?;
        sql::clear_segment(&mut tx, row.id).await?;
        sql::insert_segment(&mut tx, self.owner.partition, &row, &filter.to_bytes()).await?;
        sql::insert_chunks(&mut tx, &bytes, &cuts).await?;
        sql::delete_rows(&mut tx, self.owner.partition, oldest.last_row).await?;
        tx.commit().await?;
        self.next_segment += 1;
        self.recent.remove(0);
        self.segments.push(Segment { row, filter: Some(filter) });
        self.keep_within_memory();
        Ok(())
    }

    /// Drops the filters of the oldest segments until the rest fits.
    fn keep_within_memory(&mut self) {
        let mut bytes: usize = self.segments.iter().filter_map(|segment| segment.filter.as_ref()).map(Filter::bytes).sum();
        let mut oldest: Vec<usize> = (0..self.segments.len()).collect();
        oldest.sort_by_key(|at| (self.segments[*at].row.day, self.segments[*at].row.id));
        for at in oldest {
            if bytes <= self.filter_bytes_max {
                break;
            }
            if let Some(filter) = self.segments[at].filter.take() {
                bytes -= filter.bytes();
            }
        }
    }

    async fn expire(&mut self) -> Result<(), PipelineError> {
        let first_day = self.first_day(self.day);
        self.bring_back().await?;
        if self.merging.is_some() || !self.segments.iter().any(|segment| segment.row.day < first_day) {
            return Ok(());
        }
        let (expired, kept): (Vec<Segment>, Vec<Segment>) =
            std::mem::take(&mut self.segments).into_iter().partition(|segment| segment.row.day < first_day);
        self.segments = kept;
        let mut tx = self.db.begin().await?;
        positions::fence(&mut tx, self.owner).await?;
        for segment in &expired {
            sql::drop_segment(&mut tx, segment.row.id).await?;
        }
        tx.commit().await?;
        self.to_sweep.extend(expired.into_iter().map(|segment| (segment.row, 0)));
        Ok(())
    }

    /// Segments of days that are yet to come, made before a clock was set right, count from today; else they would stay
    /// until those days are over.
    async fn bring_back(&mut self) -> Result<(), PipelineError> {
        if self.merging.is_some() || !self.segments.iter().any(|segment| segment.row.day > self.day) {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        positions::fence(&mut tx, self.owner).await?;
        sql::limit_day(&mut tx, self.owner.partition, self.day).await?;
        tx.commit().await?;
        for segment in &mut self.segments {
            segment.row.day = segment.row.day.min(self.day);
        }
        Ok(())
    }

    /// Removes some chunks of segments that are out of use, so that no call takes long.
    async fn sweep_some(&mut self) -> Result<(), PipelineError> {
        let Some((row, first)) = self.to_sweep.last_mut() else { return Ok(()) };
        let chunks = 1i64 << row.chunk_bits;
        let end = (*first + SWEEP_CHUNKS).min(chunks);
        sql::delete_chunks(&self.db, row.id, *first, end).await?;
        *first = end;
        if end == chunks {
            sql::delete_segment(&self.db, row.id).await?;
            self.to_sweep.pop();
        }
        Ok(())
    }

    /// Segments to merge next: those of a day that is over into one, else as many of one size as the fan-in says.
    fn choose_merge(&self) -> Option<Plan> {
        let mut days: Vec<i64> = self.segments.iter().map(|segment| segment.row.day).collect();
        days.sort_unstable();
        days.dedup();
        for day in days {
            let of_day = || self.segments.iter().filter(move |s| s.row.day == day && s.row.marks < SEGMENT_MARKS_MAX);
            let top = of_day().map(|s| s.row.level).max().unwrap_or(0);
            let candidates = (0..=top).map(|level| of_day().filter(|s| s.row.level == level).map(|s| s.row.clone()).collect::<Vec<_>>());
            let full = candidates.into_iter().find(|same| same.len() >= self.config.merge_fan_in as usize);
            let inputs = match full {
                Some(same) => same,
                None if day < self.day && of_day().count() > 1 => of_day().map(|s| s.row.clone()).collect(),
                None => continue,
            };
            // Two of nearly the largest size still make one that the limits of chunks and filters allow.
            if inputs.iter().map(|row| row.marks).sum::<i64>() <= 4 * SEGMENT_MARKS_MAX {
                return Some(Plan { id: self.next_segment, day, level: top.min(60) + 1, inputs });
            }
        }
        None
    }

    async fn take_merged(&mut self) -> Result<(), PipelineError> {
        let Some(merging) = &mut self.merging else { return Ok(()) };
        let merged = match merging.told.try_recv() {
            Ok(merged) => merged?,
            Err(oneshot::error::TryRecvError::Empty) => return Ok(()),
            // The process is stopping.
            Err(oneshot::error::TryRecvError::Closed) => return Err(PipelineError::Stopping),
        };
        self.merging = None;
        let (inputs, kept): (Vec<Segment>, Vec<Segment>) =
            std::mem::take(&mut self.segments).into_iter().partition(|segment| merged.inputs.contains(&segment.row.id));
        self.segments = kept;
        self.to_sweep.extend(inputs.into_iter().map(|segment| (segment.row, 0)));
        self.segments.push(Segment { row: merged.row, filter: Some(merged.filter) });
        self.keep_within_memory();
        Ok(())
    }

    /// Marks in rows and segments.
    pub fn len(&self) -> u64 {
        let recent: usize = self.recent.iter().map(|recent| recent.marks.len()).sum();
        recent as u64 + self.segments.iter().map(|segment| segment.row.marks as u64).sum::<u64>()
    }

    /// Whether there are no marks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of filters in memory, and segments.
    pub fn filters(&self) -> (usize, usize) {
        (self.segments.iter().filter_map(|segment| segment.filter.as_ref()).map(Filter::bytes).sum(), self.segments.len())
    }
}
