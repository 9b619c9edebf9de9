//! Following a log for many tenants.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;
use segue_log::feed::{self, BarrierError, FollowError, Followed, Inboxes, Positions};
use segue_log::{LogConfig, StoredBatch, Topic};
use segue_model::{Clock, ManualClock, SystemClock, TenantId};
use segue_testkit::logs;
use tokio_util::sync::CancellationToken;

use crate::{EVENTS, NOW, OTHER, batch};

const HOUR_US: i64 = 3_600_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    Events,
    Other,
}

impl Followed for Stream {
    const EVERY: &'static [Stream] = &[Stream::Events, Stream::Other];

    fn topic(self) -> Topic {
        match self {
            Stream::Events => EVENTS,
            Stream::Other => OTHER,
        }
    }
}

/// Texts of `tenant text`, and whether something was lost.
#[derive(Debug, Default)]
struct Inbox {
    texts: Mutex<Vec<String>>,
    lost: Mutex<bool>,
}

impl feed::Inbox for Inbox {
    fn lose(&self) {
        *self.lost.lock() = true;
    }
}

type Feed = feed::Feed<Stream, Inbox>;

fn hand_out(batch: &StoredBatch, inboxes: &Inboxes<Inbox>) -> Result<(), std::str::Utf8Error> {
    if let Some((tenant, text)) = std::str::from_utf8(&batch.payload)?.split_once(' ')
        && let Some(inbox) = inboxes.of(tenant)
    {
        inbox.texts.lock().push(text.to_owned());
    }
    Ok(())
}

/// Follows everything until the token is cancelled.
fn follow(feed: &Arc<Feed>, stopping: &CancellationToken) -> tokio::task::JoinSet<anyhow::Result<()>> {
    let mut readers = tokio::task::JoinSet::new();
    for (stream, partition) in feed.partitions() {
        let (feed, stopping) = (feed.clone(), stopping.clone());
        readers.spawn(async move { Ok(feed.follow(stream, partition, hand_out, &stopping).await?) });
    }
    readers
}

async fn end(mut readers: tokio::task::JoinSet<anyhow::Result<()>>, stopping: CancellationToken) -> anyhow::Result<()> {
    stopping.cancel();
    while let Some(ended) = readers.join_next().await {
        ended??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_barrier_lets_pass_once_everything_is_in_the_inboxes_of_those_who_subscribed() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        log.append(EVENTS, 0, batch("shop before")).await?;
        let (shop, other): (TenantId, TenantId) = ("shop".parse()?, "other".parse()?);
        let clock = ManualClock::new(7);
        let stopping = CancellationToken::new();
        let feed = Feed::open_once_reachable(&log, &(Arc::new(clock.clone()) as Arc<dyn Clock>), &stopping).await?;
        let feed: Arc<Feed> = Arc::new(feed.context("nobody said stop")?);
        assert_eq!(feed.positions().get(&(Stream::Events, 0)), Some(&1), "it begins at the end");
        let readers = follow(&feed, &stopping);

        let (first, from) = feed.subscribe(&shop, Inbox::default());
        let (others, _) = feed.subscribe(&other, Inbox::default());
        assert_eq!(from, feed.positions());
        for n in 0..20_u16 {
            let topic = if n % 3 == 0 { OTHER } else { EVENTS };
            log.append(topic, n % temp.config().partitions, batch(format!("shop {n}"))).await?;
        }
        log.append(EVENTS, 1, batch("other x")).await?;
        log.append(EVENTS, 1, batch("nobody y")).await?;
        assert_eq!(feed.barrier(None).await?, 7);
        let mut texts: Vec<u16> = first.texts.lock().iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        texts.sort_unstable();
        assert_eq!(texts, (0..20).collect::<Vec<u16>>());
        assert_eq!(*others.texts.lock(), ["x"]);
        assert!(feed::has_reached(&feed.positions(), &feed.positions_at(i64::MAX).await?));

        // A barrier of a moment ago is not enough for who asks now.
        clock.set_us(9);
        log.append(EVENTS, 2, batch("shop after")).await?;
        assert_eq!(feed.barrier(Some(Instant::now())).await?, 9);
        assert_eq!(first.texts.lock().len(), 21);

        // Another inbox takes the place of the first; without any, nothing is handed out.
        let (second, _) = feed.subscribe(&shop, Inbox::default());
        feed.unsubscribe(&other);
        log.append(EVENTS, 2, batch("shop again")).await?;
        log.append(EVENTS, 2, batch("other again")).await?;
        feed.barrier(Some(Instant::now())).await?;
        assert_eq!((first.texts.lock().len(), second.texts.lock().as_slice()), (21, &["again".to_owned()][..]));
        assert_eq!(others.texts.lock().len(), 1);
        end(readers, stopping).await?;
        log.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn inboxes_are_told_of_what_was_removed_unread_and_what_is_held_is_not() -> anyhow::Result<()> {
    for temp in logs() {
        let log = segue_log::Log::open(LogConfig { retention_age: Duration::from_secs(3_600), ..temp.config() }).await?;
        let shop: TenantId = "shop".parse()?;
        let feed: Arc<Feed> = Arc::new(Feed::open(log.clone(), Arc::new(SystemClock)).await?);
        let (inbox, from) = feed.subscribe(&shop, Inbox::default());
        for partition in 0..2 {
            for n in 0..5 {
                log.append(EVENTS, partition, batch(format!("shop {partition}.{n}"))).await?;
            }
        }
        // Partition 1 is still needed from its third batch on, and 0 by nobody.
        let mut needed = from.clone();
        needed.insert((Stream::Events, 0), 5);
        needed.insert((Stream::Events, 1), 2);
        feed.hold("test", &needed).await?;
        log.trim_now(SystemClock.now_us() + 2 * HOUR_US).await?;
        let stopping = CancellationToken::new();
        let readers = follow(&feed, &stopping);
        log.append(EVENTS, 0, batch("shop new")).await?;
        feed.barrier(None).await?;
        assert!(*inbox.lost.lock());
        let mut texts = inbox.texts.lock().clone();
        texts.sort_unstable();
        assert_eq!(texts, ["1.2", "1.3", "1.4", "new"]);
        end(readers, stopping).await?;
        log.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_meets_a_batch_that_is_none_ends_and_says_which_and_barriers_do_not_wait_for_ever() -> anyhow::Result<()> {
    let temp = segue_testkit::TempLog::embedded();
    let log = temp.open().await?;
    let feed: Feed = Feed::open(log.clone(), Arc::new(ManualClock::default())).await?;
    log.append(EVENTS, 3, batch("shop fine")).await?;
    log.append(EVENTS, 3, batch(vec![0xff])).await?;
    let ended = feed.follow(Stream::Events, 3, hand_out, &CancellationToken::new()).await;
    let Err(error @ FollowError::Batch { position: 2, .. }) = ended else { panic!("{ended:?}") };
    assert_eq!(error.to_string(), "batch 2 of `events` partition 3 cannot be read: restore the log");
    assert_eq!(feed.positions().get(&(Stream::Events, 3)), Some(&1), "what cannot be read was not handed out");
    assert!(matches!(feed.barrier(None).await, Err(BarrierError::Behind)));
    let stopped = CancellationToken::new();
    stopped.cancel();
    let nothing = |_: &StoredBatch, _: &Inboxes<Inbox>| Ok::<(), Infallible>(());
    feed.follow(Stream::Events, 3, nothing, &stopped).await?;
    log.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_at_a_moment_lie_between_what_is_older_and_what_is_not() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        for n in 0..30 {
            log.append(EVENTS, 0, batch(format!("shop {n}"))).await?;
        }
        let feed: Feed = Feed::open(log.clone(), Arc::new(SystemClock)).await?;
        let batches = log.read(EVENTS, 0, 0, NOW).await?;
        let times = batches.iter().map(|batch| batch.appended_at_us);
        for time_us in times.flat_map(|at_us| [at_us, at_us + 1]).chain([0, i64::MAX]) {
            let older = batches.iter().filter(|batch| batch.appended_at_us < time_us).count() as u64;
            let found = feed.positions_at(time_us).await?;
            assert_eq!(found.get(&(Stream::Events, 0)), Some(&older), "{time_us}");
            assert_eq!(found.get(&(Stream::Other, 1)), Some(&0));
        }
        log.close().await?;
    }
    Ok(())
}

#[test]
fn positions_move_forward_are_held_back_and_are_read_as_they_were_written() {
    let (a, b, c) = ((Stream::Events, 0), (Stream::Events, 1), (Stream::Other, 0));
    let mut positions: Positions<Stream> = [(a, 5), (b, 7)].into();
    feed::advance(&mut positions, &[(a, 6), (b, 1), (c, 2)].into());
    assert_eq!(positions, [(a, 6), (b, 7), (c, 2)].into());
    assert!(feed::has_reached(&positions, &[(a, 6), (c, 1)].into()));
    assert!(!feed::has_reached(&[(a, 6)].into(), &positions));
    feed::hold_back(&mut positions, &[(b, 3), (c, 9)].into());
    assert_eq!(positions, [(a, 6), (b, 3), (c, 2)].into());
    let stored = feed::entries(&positions);
    assert_eq!(stored, [("events", 0, 6), ("events", 1, 3), ("other", 0, 2)]);
    let owned = |entries: &[(&str, u16, u64)]| entries.iter().map(|(topic, at, position)| ((*topic).to_owned(), *at, *position)).collect();
    assert_eq!(feed::of_entries::<Stream>(owned(&stored)), Some(positions));
    assert_eq!(feed::of_entries::<Stream>(owned(&[("gone", 0, 1)])), None);
}
