//! What a sync sends next. Whatever is decided here is written down with it, so that a crash decides nothing twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use segue_log::Log;
use segue_model::{Clock, TenantId};
use segue_proto::identity::v1::Person;
use tokio::time::Instant;

use super::body::{self, Body, Data, PersonBody};
use super::changes::Changes;
use super::store::{self, BatchAtHand, Owner, Phase, Progress, Stored};
use crate::error::AudienceError;
use crate::live::{Live, Membership};
use crate::members;
use crate::peers::Peers;
use crate::persons;
use crate::transitions::place::{self, Place};
use crate::transitions::reader::Reader;

/// What deciding takes.
#[derive(Clone)]
pub(super) struct Decider {
    pub(super) db: segue_store::Db,
    pub(super) log: Log,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) live: Live,
    pub(super) peers: Peers,
    pub(super) owner: Owner,
    pub(super) batch_persons_max: usize,
}

/// What was found in the transitions.
enum Found {
    Changes {
        changes: Changes,
        place: Place,
        sequence: u64,
    },
    /// What follows is no longer kept.
    Lost,
}

impl Decider {
    /// Takes one step: freezes the members, decides a batch, or waits so long for something to send.
    pub(super) async fn step(&self, sync: &Stored, frozen: &mut Option<RoaringBitmap>, wait: Duration) -> Result<(), AudienceError> {
        match sync.phase {
            Phase::Begin => {
                let membership = self.live.membership(&sync.tenant, &sync.audience).await?;
                *frozen = None;
                self.freeze(sync, &membership).await
            }
            Phase::First => self.first(sync, frozen).await,
            Phase::Follow => match find(&self.log, sync, self.batch_persons_max, wait).await? {
                Found::Changes { changes, place, sequence } => self.follow(sync, &changes, place, sequence).await,
                Found::Lost => {
                    tracing::warn!(tenant = %sync.tenant, sync = sync.id, "a sync begins anew: what it is to send next is no longer kept");
                    self.owner.anew(&self.db, sync).await
                }
            },
        }
    }

    async fn freeze(&self, sync: &Stored, membership: &Membership) -> Result<(), AudienceError> {
        let members = members::members(membership);
        let mut bytes = Vec::with_capacity(members.serialized_size());
        members.serialize_into(&mut bytes).map_err(|_| AudienceError::Corrupt { what: "members" })?;
        self.owner.begin(&self.db, sync, &bytes, membership.sequence).await
    }

    /// The next members. There is at least one such batch: it says that the destination begins anew, also with nobody.
    async fn first(&self, sync: &Stored, frozen: &mut Option<RoaringBitmap>) -> Result<(), AudienceError> {
        let members = match frozen {
            Some(members) => members,
            None => {
                let bytes = store::members(&self.db, sync).await?;
                let read = RoaringBitmap::deserialize_from(bytes.as_slice());
                frozen.insert(read.map_err(|_| AudienceError::Corrupt { what: "members of a sync" })?)
            }
        };
        let (numbers, next_person) = next_members(members, sync.next_person, self.batch_persons_max);
        let persons = self.persons(&sync.tenant, &numbers).await?;
        let entered = body::entered(&numbers, persons, &sync.settings.identifier_kinds);
        let (phase, sequence) = if next_person.is_some() { (Phase::First, 0) } else { (Phase::Follow, sync.sequence) };
        let progress = Progress { phase, next_person: next_person.unwrap_or(0), sequence: sync.sequence, place: String::new() };
        self.decide(sync, Told { first: true, begins: sync.next_person == 0, entered, left: Vec::new() }, sequence, &progress).await
    }

    async fn follow(&self, sync: &Stored, changes: &Changes, place: Place, sequence: u64) -> Result<(), AudienceError> {
        let (entered, left) = (changes.entered(), changes.left());
        if entered.is_empty() && left.is_empty() {
            if sync.place != place.to_text() || !sync.problem.is_empty() {
                self.owner.pass(&self.db, sync, sequence, &place.to_text()).await?;
            }
            return Ok(());
        }
        let kinds = &sync.settings.identifier_kinds;
        let found = self.persons(&sync.tenant, &left).await?;
        let members = self.survivors_within(sync, &left, &found).await?;
        let left = body::left(&left, found, kinds, &members);
        let entered = body::entered(&entered, self.persons(&sync.tenant, &entered).await?, kinds);
        let progress = Progress { phase: Phase::Follow, next_person: 0, sequence, place: place.to_text() };
        self.decide(sync, Told { first: false, begins: false, entered, left }, sequence, &progress).await
    }

    /// Of those into whom these persons were merged: who is a member.
    async fn survivors_within(&self, sync: &Stored, numbers: &[u32], found: &[Person]) -> Result<BTreeSet<u32>, AudienceError> {
        let merged = numbers.iter().zip(found).filter(|(number, person)| person.number != 0 && **number != person.number);
        let mut survivors: BTreeSet<u32> = merged.map(|(_, person)| person.number).collect();
        if !survivors.is_empty() {
            match self.live.membership(&sync.tenant, &sync.audience).await {
                Ok(membership) => {
                    survivors.retain(|number| membership.matched.contains(*number) && !membership.held_out.contains(*number));
                }
                // It is archived: nobody is.
                Err(AudienceError::NotFound { .. } | AudienceError::Archived { .. } | AudienceError::NotEvaluated { .. }) => {
                    survivors.clear()
                }
                Err(error) => return Err(error),
            }
        }
        Ok(survivors)
    }

    async fn persons(&self, tenant: &TenantId, numbers: &[u32]) -> Result<Vec<Person>, AudienceError> {
        let mut found = Vec::with_capacity(numbers.len());
        for part in numbers.chunks(persons::AT_ONCE) {
            found.extend(persons::get(&self.peers, tenant, part.to_vec()).await?);
        }
        Ok(found)
    }

    async fn decide(&self, sync: &Stored, told: Told, sequence: u64, progress: &Progress) -> Result<(), AudienceError> {
        let number = sync.batches + 1;
        let Told { first, begins, entered, left } = told;
        let data = Data { audience: &sync.audience, sync: &sync.id, batch: number, first, begins, entered, left };
        let payload = serde_json::to_vec(&Body::new(self.clock.now_us(), data)).map_err(|_| AudienceError::Corrupt { what: "batch" })?;
        self.owner.decide(&self.db, sync, &BatchAtHand { number, sequence, payload }, progress).await
    }
}

/// What a batch says.
struct Told {
    first: bool,
    begins: bool,
    entered: Vec<PersonBody>,
    left: Vec<PersonBody>,
}

/// So many members from a number on, and the first one behind them.
fn next_members(members: &RoaringBitmap, from: u32, most: usize) -> (Vec<u32>, Option<u32>) {
    let mut rest = members.iter();
    rest.advance_to(from);
    let numbers = rest.by_ref().take(most).collect();
    (numbers, rest.next())
}

/// Reads on until there is a batch's worth or nothing more; with nothing for the sync, until the wait is over.
async fn find(log: &Log, sync: &Stored, persons_max: usize, wait: Duration) -> Result<Found, AudienceError> {
    let until = Instant::now() + wait;
    let place = match Place::from_text(&sync.place) {
        Some(place) => Ok(place),
        None => place::behind_sequence(log, &sync.tenant, sync.sequence).await,
    };
    let mut reader = match place {
        Ok(place) => Reader::new(log.clone(), &sync.tenant, place),
        Err(AudienceError::CursorTooOld) => return Ok(Found::Lost),
        Err(error) => return Err(error),
    };
    let (mut changes, mut sequence, mut asked) = (Changes::default(), sync.sequence, false);
    loop {
        while changes.len() < persons_max
            && let Some((batch, offset)) = reader.batch()?
        {
            let offset = changes.gather(batch, offset, &sync.audience, persons_max);
            sequence = sequence.max((batch.first_sequence() + offset).saturating_sub(1));
            reader.advance(offset);
        }
        let left = until.saturating_duration_since(Instant::now());
        if changes.len() >= persons_max || (changes.len() == 0 && asked && left.is_zero()) {
            break;
        }
        // With something to send, only what is there already is taken along.
        match reader.read(if changes.len() == 0 { left } else { Duration::ZERO }).await {
            Ok(came) if !came && changes.len() > 0 => break,
            Ok(_) => asked = true,
            Err(AudienceError::CursorTooOld) if changes.len() == 0 => return Ok(Found::Lost),
            // What was found is sent; the next step sees that the rest is lost.
            Err(AudienceError::CursorTooOld) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Found::Changes { changes, place: reader.place(), sequence })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use segue_log::{NewBatch, ProducerSequence};
    use segue_proto::events::v1::{TransitionGroup, TransitionKind};

    use super::super::tests::stored;
    use super::*;
    use crate::TRANSITIONS;
    use crate::transitions::batch::Batch;
    use crate::transitions::batch::tests::{group, payload};
    use crate::transitions::partition_of;

    async fn append(log: &Log, tenant: &str, first: u64, groups: Vec<TransitionGroup>) {
        let payload = Bytes::from(payload(tenant, first, groups));
        let sequence = Batch::of(tenant, &payload).expect("readable").expect("its own").last_sequence();
        let producer = Some(ProducerSequence { producer: tenant.to_owned(), sequence });
        let batch = NewBatch { payload, producer, ..NewBatch::default() };
        let partition = partition_of(&stored("crm").tenant, log);
        log.append(TRANSITIONS, partition, batch).await.expect("the log takes it");
    }

    /// What is found from where the sync is, and the sync as it is then.
    async fn next(log: &Log, sync: &Stored, persons_max: usize) -> (Vec<u32>, Vec<u32>, Stored) {
        match find(log, sync, persons_max, Duration::ZERO).await.expect("reads") {
            Found::Changes { changes, place, sequence } => {
                (changes.entered(), changes.left(), Stored { place: place.to_text(), sequence, ..sync.clone() })
            }
            Found::Lost => panic!("nothing is lost"),
        }
    }

    #[test]
    fn members_are_told_in_parts_that_cover_all() {
        let members: RoaringBitmap = [1, 2, 70_000, u32::MAX].into_iter().collect();
        assert_eq!(next_members(&members, 0, 3), (vec![1, 2, 70_000], Some(u32::MAX)));
        assert_eq!(next_members(&members, u32::MAX, 3), (vec![u32::MAX], None));
        assert_eq!(next_members(&RoaringBitmap::new(), 0, 3), (vec![], None));
    }

    #[tokio::test]
    async fn differences_follow_the_frozen_members_batch_by_batch_and_others_are_passed() {
        let (entered, left) = (TransitionKind::Entered, TransitionKind::Left);
        for place in segue_testkit::logs() {
            let log = place.open().await.expect("opens");
            append(&log, "shop", 1, vec![group("buyers", entered, [1, 2, 3])]).await;
            append(&log, "cafe", 1, vec![group("buyers", entered, [9])]).await;
            append(&log, "shop", 4, vec![group("lapsed", entered, [7]), group("buyers", left, [1]), group("buyers", entered, [1, 4, 5])])
                .await;
            append(&log, "shop", 9, vec![group("buyers", left, [2, 4])]).await;
            append(&log, "shop", 11, vec![group("lapsed", left, [7])]).await;
            // The members were frozen as of transition 2: persons 1 and 2.
            let sync = Stored { sequence: 2, ..stored("crm") };
            let (came, went, after) = next(&log, &sync, 100).await;
            assert_eq!((came, went, after.sequence), (vec![3, 5], vec![2], 11));
            assert_eq!(next(&log, &after, 100).await, (vec![], vec![], after.clone()));
            // In parts of two persons: 3 and 1; 4 (which goes on to leave) and 5; 2.
            let (mut sync, mut told) = (sync, Vec::new());
            for _ in 0..3 {
                let (came, went, after) = next(&log, &sync, 2).await;
                told.push((came, went, after.sequence));
                sync = after;
            }
            assert_eq!(told, [(vec![3], vec![], 6), (vec![4, 5], vec![], 8), (vec![], vec![2, 4], 10)]);
            log.close().await.expect("closes");
        }
    }

    #[tokio::test]
    async fn a_sync_whose_place_is_no_longer_kept_is_told_so() {
        let place = segue_testkit::TempLog::embedded();
        let log = Log::open(segue_log::LogConfig { retention_age: Duration::from_secs(1), ..place.config() }).await.expect("opens");
        append(&log, "shop", 1, vec![group("buyers", TransitionKind::Entered, [1, 2, 3])]).await;
        let (_, _, known) = next(&log, &stored("crm"), 2).await;
        log.trim_now(i64::MAX / 4).await.expect("trims");
        for sync in [stored("crm"), known, Stored { sequence: 2, ..stored("crm") }] {
            assert!(matches!(find(&log, &sync, 2, Duration::ZERO).await, Ok(Found::Lost)), "{sync:?}");
        }
    }
}
