//! Membership in memory: what readers see, and how changes are put into it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;
use segue_model::bucket::Buckets;

use super::changes::{Changes, GroupKey};

/// Who is held out of an audience: those whose bucket is below a number.
#[derive(Debug, Clone)]
pub(crate) struct Holdout {
    below: u32,
    salt: String,
}

impl Holdout {
    pub(crate) fn new(audience: &str, below: u32) -> Self {
        Self { below, salt: format!("holdout:{audience}") }
    }

    pub(crate) fn below(&self) -> u32 {
        self.below
    }

    /// Those of the persons who are held out.
    pub(crate) fn of(&self, persons: &RoaringBitmap) -> RoaringBitmap {
        if self.below == 0 {
            return RoaringBitmap::new();
        }
        let mut buckets = Buckets::new(&self.salt);
        persons.iter().filter(|person| buckets.bucket(*person) < self.below).collect()
    }
}

/// Who is in one audience.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    /// Members and those held out.
    pub(crate) matched: Arc<RoaringBitmap>,
    pub(crate) holdout: Holdout,
    pub(crate) held_out: u64,
    pub(crate) version: u32,
    pub(crate) evaluated_us: i64,
}

impl Members {
    pub(crate) fn new(matched: RoaringBitmap, holdout: Holdout, version: u32, evaluated_us: i64) -> Self {
        let held_out = holdout.of(&matched).len();
        Self { matched: Arc::new(matched), holdout, held_out, version, evaluated_us }
    }

    pub(crate) fn size(&self) -> u64 {
        self.matched.len() - self.held_out
    }
}

/// What is known of a tenant's membership.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// True as of this moment.
    pub(crate) as_of_us: i64,
    /// Transitions up to this one are in it.
    pub(crate) sequence: u64,
    /// By audience.
    pub(crate) members: BTreeMap<String, Members>,
    pub(crate) status: Status,
}

/// Counters of a tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    pub(crate) rounds: u64,
    pub(crate) persons_evaluated: u64,
    pub(crate) round_seconds: f64,
    pub(crate) timer_bytes: u64,
    pub(crate) audits: u64,
    pub(crate) repaired: u64,
    pub(crate) problem: String,
}

/// Chunks of 65,536 persons that differ from what is stored, by audience.
pub(crate) type Dirty = BTreeMap<String, BTreeSet<u16>>;

impl View {
    /// Puts the persons of a group in or out.
    pub(crate) fn apply(&mut self, key: &GroupKey, persons: &RoaringBitmap, dirty: &mut Dirty) {
        let Some(members) = self.members.get_mut(&key.audience) else { return };
        let matched = Arc::make_mut(&mut members.matched);
        let before = matched.len();
        if key.entered {
            *matched |= persons
        } else {
            *matched -= persons
        }
        let moved = matched.len().abs_diff(before);
        match (key.held_out, key.entered) {
            (true, true) => members.held_out += moved,
            (true, false) => members.held_out = members.held_out.saturating_sub(moved),
            (false, _) => {}
        }
        let chunks = dirty.entry(key.audience.clone()).or_default();
        let mut from = 0_u32;
        while let Some(person) = persons.range(from..).next() {
            chunks.insert((person >> 16) as u16);
            match (person | 0xFFFF).checked_add(1) {
                Some(next) => from = next,
                None => break,
            }
        }
    }

    pub(crate) fn apply_all(&mut self, changes: &Changes, dirty: &mut Dirty) {
        for (key, persons) in changes.groups() {
            self.apply(key, persons, dirty);
        }
    }

    /// Bytes of all memberships.
    pub(crate) fn bytes(&self) -> u64 {
        self.members.values().map(|members| members.matched.serialized_size() as u64).sum()
    }
}

/// The persons of one chunk; none if there are none.
pub(crate) fn chunk_of(persons: &RoaringBitmap, chunk: u16) -> Option<RoaringBitmap> {
    let start = u32::from(chunk) << 16;
    let mut found = RoaringBitmap::new();
    found.insert_range(start..=start | 0xFFFF);
    found &= persons;
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(entered: bool, held_out: bool) -> GroupKey {
        GroupKey {
            time_us: 0,
            entered,
            audience: "a".to_owned(),
            held_out,
            version: 1,
            reason: 1,
            event_name: String::new(),
            message_id: String::new(),
        }
    }

    #[test]
    fn sizes_follow_changes_and_changed_chunks_are_known() {
        let holdout = Holdout::new("a", 5_000);
        let all: RoaringBitmap = (1..=1_000).chain(200_000..200_500).collect();
        let held = holdout.of(&all);
        assert!((600..900).contains(&held.len()));
        let mut view = View::default();
        view.members.insert("a".to_owned(), Members::new(RoaringBitmap::new(), holdout, 1, 0));
        let mut dirty = Dirty::new();
        view.apply(&key(true, false), &(&all - &held), &mut dirty);
        view.apply(&key(true, true), &held, &mut dirty);
        assert_eq!(dirty["a"], BTreeSet::from([0, 3]));
        let members = &view.members["a"];
        assert_eq!((members.size(), members.held_out), (1_500 - held.len(), held.len()));
        assert_eq!(chunk_of(&members.matched, 3), Some((200_000..200_500).collect()));
        assert_eq!(chunk_of(&members.matched, 1), None);
        view.apply(&key(false, true), &held, &mut dirty);
        assert_eq!((view.members["a"].size(), view.members["a"].held_out), (1_500 - held.len(), 0));
        view.apply(&key(true, false), &RoaringBitmap::from([u32::MAX]), &mut dirty);
        assert!(dirty["a"].contains(&u16::MAX));
    }
}
