//! A watch: the transitions of a tenant from some place on, a message at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use segue_log::Log;
use segue_model::{Module, TenantId};
use segue_proto::audience::v1::{Transition, WatchTransitionsRequest, WatchTransitionsResponse};
use segue_runtime::TenantDirectory;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::partition_of;
use super::place::{self, Place};
use super::reader::Reader;
use crate::TRANSITIONS;
use crate::error::AudienceError;

/// Transitions of one message.
const TRANSITIONS_MAX: usize = 1_000;
/// Audiences that one watch can name.
const AUDIENCES_MAX: usize = 1_000;
/// The longest silence.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Where a watch is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// With what comes from now on.
    Now,
    /// With the oldest that is kept.
    Oldest,
    /// Behind a transition.
    BehindSequence(u64),
    /// Where an earlier watch was.
    At(Place),
}

/// Reads where a request wants to begin.
pub(super) fn parse(request: &WatchTransitionsRequest) -> Result<Begin, AudienceError> {
    if request.audiences.len() > AUDIENCES_MAX {
        return Err(AudienceError::field("audiences", format!("names more than {AUDIENCES_MAX}: leave it empty to watch all")));
    }
    let given = [!request.cursor.is_empty(), request.after_sequence != 0, request.from_beginning];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(AudienceError::field("cursor", "only one of `cursor`, `after_sequence` and `from_beginning` can be given"));
    }
    if request.from_beginning {
        return Ok(Begin::Oldest);
    }
    if request.after_sequence != 0 {
        return Ok(Begin::BehindSequence(request.after_sequence));
    }
    if request.cursor.is_empty() {
        return Ok(Begin::Now);
    }
    let place = Place::from_text(&request.cursor);
    place.map(Begin::At).ok_or_else(|| AudienceError::field("cursor", "is not one that a response carried"))
}

/// Finds the place; CURSOR_TOO_OLD when what follows is no longer kept.
pub(super) async fn begin(log: &Log, tenant: &TenantId, begin: Begin) -> Result<Place, AudienceError> {
    match begin {
        Begin::Now => place::end(log, tenant).await,
        Begin::Oldest => place::oldest(log, tenant).await,
        Begin::BehindSequence(sequence) => place::behind_sequence(log, tenant, sequence).await,
        Begin::At(place) => {
            let bounds = log.bounds(TRANSITIONS, partition_of(tenant, log)).await?;
            // Beyond the end when the log was replaced by an older one.
            if place.position < bounds.first || place.position > bounds.last + 1 {
                return Err(AudienceError::CursorTooOld);
            }
            Ok(place)
        }
    }
}

/// See [`self`].
pub(super) struct Watch {
    reader: Reader,
    tenant: TenantId,
    /// Empty: all.
    audiences: BTreeSet<String>,
    tenants: TenantDirectory,
    tenants_changed: Receiver<u64>,
    draining: CancellationToken,
    silence_max: Duration,
}

impl Watch {
    pub(super) fn new(
        log: Log,
        tenant: &TenantId,
        audiences: Vec<String>,
        place: Place,
        tenants: TenantDirectory,
        draining: CancellationToken,
    ) -> Self {
        Self {
            reader: Reader::new(log, tenant, place),
            tenant: tenant.clone(),
            audiences: audiences.into_iter().collect(),
            tenants_changed: tenants.changes(),
            tenants,
            draining,
            silence_max: SILENCE_MAX,
        }
    }

    /// The next message: transitions as soon as there are any, or a sign of life. `None` when the process is about to end.
    pub(super) async fn next(&mut self) -> Result<Option<WatchTransitionsResponse>, AudienceError> {
        let silent_until = Instant::now() + self.silence_max;
        let (mut transitions, mut asked) = (Vec::new(), false);
        loop {
            if self.draining.is_cancelled() {
                return Ok(None);
            }
            self.tenants_changed.mark_unchanged();
            if !self.tenants.is_on(&self.tenant, Module::Audience) {
                return Err(AudienceError::ModuleDisabled { tenant: self.tenant.clone() });
            }
            self.unfold(&mut transitions)?;
            let left = silent_until.saturating_duration_since(Instant::now());
            if !transitions.is_empty() || (asked && left.is_zero()) {
                return Ok(Some(WatchTransitionsResponse { transitions, cursor: self.reader.place().to_text() }));
            }
            tokio::select! {
                () = self.draining.cancelled() => {}
                // Cannot fail: the directory lives in self.
                _ = self.tenants_changed.changed() => {}
                read = self.reader.read(left) => {
                    read?;
                    asked = true;
                }
            }
        }
    }

    /// Takes transitions from what was read, up to a message's worth.
    fn unfold(&mut self, into: &mut Vec<Transition>) -> Result<(), AudienceError> {
        let wanted = |audience: &str| self.audiences.is_empty() || self.audiences.contains(audience);
        while into.len() < TRANSITIONS_MAX
            && let Some((batch, offset)) = self.reader.batch()?
        {
            let offset = batch.unfold(offset, TRANSITIONS_MAX, wanted, into);
            self.reader.advance(offset);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use segue_log::{NewBatch, ProducerSequence};
    use segue_model::module::ModuleSet;
    use segue_proto::events::v1::{TransitionGroup, TransitionKind};
    use segue_runtime::Tenant;

    use super::super::batch::Batch;
    use super::super::batch::tests::{group, payload};
    use super::*;

    /// A log, and tenants on it.
    struct World {
        log: Log,
        tenants: TenantDirectory,
        draining: CancellationToken,
    }

    fn tenant(id: &str) -> TenantId {
        id.parse().expect("an id")
    }

    fn modules(on: bool) -> ModuleSet {
        if on { [Module::Audience].into_iter().collect() } else { std::iter::empty().collect() }
    }

    impl World {
        fn new(log: Log) -> Self {
            let tenants = TenantDirectory::fixed(vec![Tenant::new(tenant("shop"), modules(true))]);
            World { log, tenants, draining: CancellationToken::new() }
        }

        /// Appends a batch of a tenant to the partition of `shop`, whoever's it would be.
        async fn append(&self, id: &str, first: u64, groups: Vec<TransitionGroup>) {
            let payload = Bytes::from(payload(id, first, groups));
            let count = Batch::of(id, &payload).expect("readable").expect("its own").len();
            let producer = Some(ProducerSequence { producer: id.to_owned(), sequence: first + count - 1 });
            let batch = NewBatch { payload, events: 1, producer, traceparent: None };
            let appended = self.log.append(TRANSITIONS, partition_of(&tenant("shop"), &self.log), batch).await.expect("the log takes it");
            assert!(!appended.duplicate);
        }

        async fn begin(&self, request: &WatchTransitionsRequest) -> Result<Place, AudienceError> {
            begin(&self.log, &tenant("shop"), parse(request)?).await
        }

        /// A watch that gives a sign of life as soon as there is nothing.
        async fn watch(&self, request: WatchTransitionsRequest) -> Watch {
            let place = self.begin(&request).await.expect("there is such a place");
            let shop = tenant("shop");
            let watch = Watch::new(self.log.clone(), &shop, request.audiences, place, self.tenants.clone(), self.draining.clone());
            Watch { silence_max: Duration::ZERO, ..watch }
        }

        /// Sequences of all that is there, read on with each message's cursor as if by a new watch each time.
        async fn all(&self, request: WatchTransitionsRequest) -> Vec<u64> {
            let (mut request, mut found) = (request, Vec::new());
            loop {
                let mut watch = self.watch(request.clone()).await;
                let message = watch.next().await.expect("no failure").expect("not draining");
                if message.transitions.is_empty() {
                    return found;
                }
                assert!(message.transitions.len() <= TRANSITIONS_MAX);
                found.extend(message.transitions.iter().map(|one| one.sequence));
                request = WatchTransitionsRequest { audiences: request.audiences, cursor: message.cursor, ..Default::default() };
            }
        }
    }

    fn from_beginning(audiences: &[&str]) -> WatchTransitionsRequest {
        let audiences = audiences.iter().map(|id| (*id).to_owned()).collect();
        WatchTransitionsRequest { audiences, from_beginning: true, ..Default::default() }
    }

    fn behind(after_sequence: u64) -> WatchTransitionsRequest {
        WatchTransitionsRequest { after_sequence, ..Default::default() }
    }

    #[test]
    fn where_to_begin_is_said_in_one_way_only() {
        assert_eq!(parse(&WatchTransitionsRequest::default()).expect("valid"), Begin::Now);
        assert_eq!(parse(&from_beginning(&[])).expect("valid"), Begin::Oldest);
        assert_eq!(parse(&behind(3)).expect("valid"), Begin::BehindSequence(3));
        for request in [
            WatchTransitionsRequest { from_beginning: true, ..behind(3) },
            WatchTransitionsRequest { cursor: "t1-1-0-0".to_owned(), ..behind(3) },
            WatchTransitionsRequest { cursor: "yesterday".to_owned(), ..Default::default() },
        ] {
            assert!(matches!(parse(&request), Err(AudienceError::Invalid(_))), "{request:?}");
        }
    }

    #[tokio::test]
    async fn a_watch_reads_its_tenant_and_audiences_in_order_and_goes_on_at_any_cursor() {
        for place in segue_testkit::logs() {
            let world = World::new(place.open().await.expect("opens"));
            world.append("shop", 1, vec![group("a", TransitionKind::Entered, 1..=1_500), group("b", TransitionKind::Entered, [5])]).await;
            world.append("cafe", 1, vec![group("a", TransitionKind::Entered, [1])]).await;
            world.append("shop", 1_502, vec![group("b", TransitionKind::Left, 5..=6), group("a", TransitionKind::Left, [9])]).await;
            assert_eq!(world.all(from_beginning(&[])).await, (1..=1_504).collect::<Vec<u64>>());
            assert_eq!(world.all(from_beginning(&["b"])).await, [1_501, 1_502, 1_503]);
            assert_eq!(world.all(from_beginning(&["c"])).await, [0_u64; 0]);
            for after in [1, 999, 1_500, 1_501, 1_503] {
                assert_eq!(world.all(behind(after)).await, (after + 1..=1_504).collect::<Vec<u64>>(), "{after}");
            }
            assert_eq!(world.all(WatchTransitionsRequest::default()).await, [0_u64; 0]);
            world.log.close().await.expect("closes");
        }
    }

    #[tokio::test]
    async fn a_number_that_is_not_on_the_log_yet_is_waited_past_also_across_cursors() {
        let place = segue_testkit::TempLog::embedded();
        let world = World::new(place.open().await.expect("opens"));
        let mut watch = world.watch(behind(3)).await;
        let alive = watch.next().await.expect("no failure").expect("not draining");
        assert!(alive.transitions.is_empty());
        world.append("cafe", 1, vec![group("a", TransitionKind::Entered, [1])]).await;
        world.append("shop", 1, vec![group("a", TransitionKind::Entered, [1, 2])]).await;
        world.append("shop", 3, vec![group("a", TransitionKind::Entered, [3, 4, 5])]).await;
        world.append("shop", 6, vec![group("a", TransitionKind::Entered, [6])]).await;
        let resumed = WatchTransitionsRequest { cursor: alive.cursor, ..Default::default() };
        assert_eq!(world.all(resumed).await, [4, 5, 6]);
    }

    #[tokio::test]
    async fn places_are_found_among_many_batches_of_many_tenants() {
        for place in segue_testkit::logs() {
            let world = World::new(place.open().await.expect("opens"));
            // Batches of three; one of `shop` after every 70 of others, so that looks fall into long stretches of others' batches.
            for shop in 0..6_u64 {
                for other in 0..70 {
                    world.append("cafe", 1 + shop * 70 + other, vec![group("a", TransitionKind::Entered, [1])]).await;
                }
                world.append("shop", 1 + shop * 3, vec![group("a", TransitionKind::Entered, 1..=3)]).await;
            }
            for after in 1..=18 {
                let place = world.begin(&behind(after)).await.expect("it is kept");
                let expected = match after {
                    18 => Place { position: 427, offset: 0, after },
                    _ => Place { position: (after / 3 + 1) * 71, offset: after % 3, after },
                };
                assert_eq!(place, expected, "{after}");
            }
            world.log.close().await.expect("closes");
        }
    }

    #[tokio::test]
    async fn what_is_no_longer_kept_is_told_and_never_skipped() {
        let place = segue_testkit::TempLog::embedded();
        let log = Log::open(segue_log::LogConfig { retention_age: Duration::from_secs(1), ..place.config() }).await.expect("opens");
        let world = World::new(log);
        let partition = partition_of(&tenant("shop"), &world.log);
        let cursor = Place::behind(0, 0).to_text();
        let old = WatchTransitionsRequest { cursor: cursor.clone(), ..Default::default() };
        assert!(world.begin(&old).await.is_ok(), "nothing was there, nothing is missing");
        world.append("shop", 1, vec![group("a", TransitionKind::Entered, 1..=5)]).await;
        let mut watch = world.watch(old.clone()).await;
        world.log.trim_now(i64::MAX / 4).await.expect("trims");
        assert_eq!(world.log.bounds(TRANSITIONS, partition).await.expect("is there").first, 2);
        assert!(matches!(world.begin(&old).await, Err(AudienceError::CursorTooOld)));
        assert!(matches!(world.begin(&behind(4)).await, Err(AudienceError::CursorTooOld)));
        assert!(world.begin(&behind(5)).await.is_ok(), "nothing after it is missing");
        world.append("shop", 6, vec![group("a", TransitionKind::Entered, 6..=7)]).await;
        assert!(matches!(world.begin(&behind(4)).await, Err(AudienceError::CursorTooOld)));
        assert_eq!(world.all(behind(5)).await, [6, 7]);
        assert_eq!(world.all(from_beginning(&[])).await, [6, 7]);
        watch.silence_max = SILENCE_MAX;
        assert!(matches!(watch.next().await, Err(AudienceError::CursorTooOld)), "a reader that was overtaken is told");
        let beyond = WatchTransitionsRequest { cursor: Place::behind(9, 0).to_text(), ..Default::default() };
        assert!(matches!(world.begin(&beyond).await, Err(AudienceError::CursorTooOld)));
    }

    #[tokio::test]
    async fn a_waiting_watch_ends_when_the_process_drains_or_the_module_goes_off() {
        let place = segue_testkit::TempLog::embedded();
        let world = World::new(place.open().await.expect("opens"));
        let mut watch = world.watch(WatchTransitionsRequest::default()).await;
        watch.silence_max = Duration::from_secs(3_600);
        let off = async {
            tokio::task::yield_now().await;
            world.tenants.replace(vec![Tenant::new(tenant("shop"), modules(false))]);
        };
        let (ended, ()) = tokio::join!(watch.next(), off);
        assert!(matches!(ended, Err(AudienceError::ModuleDisabled { .. })));
        world.tenants.replace(vec![Tenant::new(tenant("shop"), modules(true))]);
        let drained = async {
            tokio::task::yield_now().await;
            world.draining.cancel();
        };
        let (ended, ()) = tokio::join!(watch.next(), drained);
        assert!(matches!(ended, Ok(None)));
    }
}
