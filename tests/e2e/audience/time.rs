//! When persons enter and leave: by events, late events, and by time alone, to the microsecond.

use anyhow::{Context, ensure};
use segue_proto::audience::v1::WatchTransitionsRequest;
use segue_proto::events::v1::value::Kind;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{BehaviorAggregate, EventSequence, Operator, Span, TimeUnit, Touch};
use segue_tests::events::{dimension, event};
use segue_tests::installation::Installation;

use super::history::{adds_up, watch};
use super::tenant::{Tenant, audience, micros};
use crate::semantics::now_us;
use crate::semantics::words::{acquired, all, behavior, compared, condition, did, is, last, not, on, within};

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;
const DAY_US: i64 = 24 * HOUR_US;

pub async fn truth_changes(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "time", "UTC").await?;
    let week = |events| within(behavior(events), 7, TimeUnit::Day);
    tenant.create(audience("opened", did(week("open")))).await?;
    tenant
        .create(audience("opened-twice", compared(week("open"), BehaviorAggregate::Count, Operator::GreaterOrEqual, &[Kind::IntValue(2)])))
        .await?;
    tenant.create(audience("not-lately", all([did(behavior("known")), not(did(week("open")))]))).await?;
    tenant.create(audience("seconds", did(within(behavior("blink"), 10, TimeUnit::Second)))).await?;
    let steps = ["put", "buy"].map(on).to_vec();
    let within_hour = Some(Span { count: 1, unit: TimeUnit::Hour.into() });
    let kept = EventSequence { steps, within: within_hour, not_between: Some(on("drop")), window: None };
    tenant.create(audience("kept", condition(Node::Sequence(kept)))).await?;
    tenant
        .create(audience("by-search", acquired(Touch::Last, last(1, TimeUnit::Month), is(dimension("channel_group"), "search_ad"))))
        .await?;
    tenant.create(audience("never", all([did(behavior("known")), not(did(behavior("signed-up")))]))).await?;
    tenant.settled().await?;

    by_time(&tenant).await?;
    by_late_events(&tenant).await?;
    resumed(&tenant).await?;
    tenant.audited().await
}

/// An event leaves a window at exactly its time plus the window, and one from ahead comes in at exactly its time.
async fn by_time(tenant: &Tenant) -> anyhow::Result<()> {
    let start_us = now_us();
    // Each leaves its week within the test.
    let leaves_us = start_us + 10 * SECOND_US;
    let (first_us, second_us) = (leaves_us - 7 * DAY_US, leaves_us - 7 * DAY_US + 3 * SECOND_US + 1);
    let ahead_us = start_us + 8 * SECOND_US + 7;
    let who = |person| [("user_id", person)];
    tenant
        .send(&[
            event("open/1", "open", first_us, &who("once")),
            event("known/1", "known", start_us - 30 * DAY_US, &who("once")),
            event("open/2", "open", first_us, &who("twice")),
            event("open/3", "open", second_us, &who("twice")),
            event("open/4", "open", start_us - DAY_US, &who("stays")),
            event("open/5", "open", first_us - 60 * SECOND_US, &who("gone")),
            event("known/5", "known", start_us - 30 * DAY_US, &who("gone")),
            event("open/6", "open", ahead_us, &who("ahead")),
            event("known/6", "known", start_us - 30 * DAY_US, &who("ahead")),
            event("blink/7", "blink", start_us, &who("blinks")),
        ])
        .await?;
    tenant.settled().await?;
    let [once, twice, stays, gone, ahead, blinks] = numbers(tenant, ["once", "twice", "stays", "gone", "ahead", "blinks"]).await?;
    // The last of all moments.
    tenant.as_of(second_us + 7 * DAY_US).await?;
    tenant.settled().await?;
    let history = adds_up(tenant).await?;

    let left = |audience: &str, person: u32, at_us: i64| -> anyhow::Result<()> {
        let last = history.last(audience, person)?;
        ensure!(last.time.map(micros) == Some(at_us), "{audience}: {} µs off; {last:?}", last.time.map_or(0, micros) - at_us);
        Ok(())
    };
    for (audience, person, told) in [
        ("opened", once, "entered EVENT, left TIME"),
        ("opened", twice, "entered EVENT, left TIME"),
        ("opened-twice", twice, "entered EVENT, left TIME"),
        ("opened-twice", once, ""),
        ("opened", stays, "entered EVENT"),
        ("opened", gone, ""),
        ("opened", ahead, "entered TIME"),
        ("not-lately", once, "entered TIME"),
        ("not-lately", gone, "entered EVENT"),
        ("not-lately", ahead, "entered EVENT, left TIME"),
        ("seconds", blinks, "entered EVENT, left TIME"),
    ] {
        let found = history.told(audience, person);
        ensure!(found == told, "{audience}, {person}: {found:?} instead of {told:?}");
    }
    left("opened", once, first_us + 7 * DAY_US)?;
    left("opened-twice", twice, first_us + 7 * DAY_US)?;
    left("opened", twice, second_us + 7 * DAY_US)?;
    left("opened", ahead, ahead_us)?;
    left("not-lately", once, first_us + 7 * DAY_US)?;
    left("not-lately", ahead, ahead_us)?;
    left("seconds", blinks, start_us + 10 * SECOND_US)?;
    // What came in when it happened changed the truth between then and when that was seen.
    let entered = history.of_person("seconds", blinks)[0];
    let time_us = entered.time.map_or(0, micros);
    ensure!((start_us..=entered.evaluated_at.map_or(0, micros)).contains(&time_us), "{start_us}: {entered:?}");
    ensure!((entered.event_name.as_str(), entered.message_id.as_str()) == ("blink", "blink/7"), "{entered:?}");
    // What came in late changes it when it becomes known.
    let entered = history.of_person("opened", once)[0];
    ensure!(entered.time.map_or(0, micros) > start_us - HOUR_US, "{entered:?}");
    ensure!((entered.event_name.as_str(), entered.message_id.as_str()) == ("open", "open/1"), "{entered:?}");
    ensure!(tenant.members("opened").await? == ordered([stays, ahead]), "{:?}", tenant.members("opened").await?);
    ensure!(tenant.memberships(once).await? == ["never", "not-lately"], "{:?}", tenant.memberships(once).await?);
    Ok(())
}

/// Events that arrive hours or days late change who is in, also where what they end lies in the past.
async fn by_late_events(tenant: &Tenant) -> anyhow::Result<()> {
    let start_us = now_us();
    let who = |person| [("user_id", person)];
    let touched = |id: &str, time_us: i64, channel: &str| {
        let mut touch = event(id, "touch", time_us, &[("user_id", "touched")]);
        touch.context.get_or_insert_default().dimensions.insert("channel_group".to_owned(), channel.to_owned());
        touch
    };
    tenant
        .send(&[
            event("late/known/1", "known", start_us - 30 * DAY_US, &who("signs-up")),
            event("late/put", "put", start_us - 5 * HOUR_US, &who("drops")),
            event("late/buy", "buy", start_us - 5 * HOUR_US + 600 * SECOND_US, &who("drops")),
            touched("late/search", start_us - 10 * DAY_US, "search_ad"),
            event("late/known/2", "known", start_us - 30 * DAY_US, &who("returns")),
            event("late/known/3", "known", start_us - 30 * DAY_US, &who("unmoved")),
        ])
        .await?;
    tenant.settled().await?;
    let [signs_up, drops, touched_person, returns, unmoved] =
        numbers(tenant, ["signs-up", "drops", "touched", "returns", "unmoved"]).await?;
    let mut before: Vec<String> = Vec::new();
    for person in [signs_up, drops, touched_person, returns, unmoved] {
        before.push(tenant.memberships(person).await?.join(" "));
    }
    ensure!(before == ["never not-lately", "kept", "by-search", "never not-lately", "never not-lately"], "{before:?}");

    // Opened a week ago but for some seconds: was away from that day until then.
    let leaves_us = now_us() + 9 * SECOND_US + 3;
    tenant
        .send(&[
            event("late/signed-up", "signed-up", start_us - 20 * DAY_US, &who("signs-up")),
            event("late/drop", "drop", start_us - 5 * HOUR_US + 300 * SECOND_US, &who("drops")),
            touched("late/organic", start_us - 5 * DAY_US, "organic"),
            event("late/open/1", "open", leaves_us - 7 * DAY_US, &who("returns")),
            // Its week was over before it came in: nothing changes.
            event("late/open/2", "open", start_us - 8 * DAY_US, &who("unmoved")),
        ])
        .await?;
    tenant.settled().await?;
    tenant.as_of(leaves_us).await?;
    tenant.settled().await?;
    let history = adds_up(tenant).await?;
    for (audience, person, told, message_id) in [
        ("never", signs_up, "entered EVENT, left EVENT", "late/signed-up"),
        ("kept", drops, "entered EVENT, left EVENT", "late/drop"),
        ("by-search", touched_person, "entered EVENT, left EVENT", "late/organic"),
        ("not-lately", returns, "entered EVENT, left EVENT, entered TIME", "late/open/1"),
        ("opened", returns, "entered EVENT, left TIME", ""),
        ("not-lately", unmoved, "entered EVENT", "late/known/3"),
        ("opened", unmoved, "", ""),
    ] {
        let found = history.told(audience, person);
        ensure!(found == told, "{audience}, {person}: {found:?} instead of {told:?}");
        let named = history.of_person(audience, person).into_iter().rfind(|transition| !transition.message_id.is_empty());
        let found = named.map_or("", |transition| transition.message_id.as_str());
        ensure!(message_id.is_empty() || found == message_id, "{audience}, {person}: {found} instead of {message_id}");
    }
    for audience in ["opened", "not-lately"] {
        let last = history.last(audience, returns)?;
        ensure!(last.time.map(micros) == Some(leaves_us), "{audience}: {last:?} instead of {leaves_us}");
    }
    // Known late, so changed late: not at the time of the event.
    let left = history.last("kept", drops)?;
    ensure!(left.time.map_or(0, micros) > start_us - HOUR_US, "{left:?}");
    ensure!(tenant.memberships(returns).await? == ["never", "not-lately"], "{:?}", tenant.memberships(returns).await?);
    Ok(())
}

/// A stream goes on behind a cursor, and behind a number; watched with a filter, it tells of these audiences alone.
async fn resumed(tenant: &Tenant) -> anyhow::Result<()> {
    let all = adds_up(tenant).await?.0;
    let last = all.last().context("somebody came")?.sequence;
    let middle = last / 2;
    let from_number = WatchTransitionsRequest { after_sequence: middle, ..Default::default() };
    let (found, cursor) = watch(tenant, from_number, last).await?;
    ensure!(found == all[middle as usize..], "behind {middle}: {found:?}");

    let person = [("user_id", "resumes")];
    tenant.send(&[event("resumed", "open", now_us() - SECOND_US, &person)]).await?;
    tenant.settled().await?;
    let (found, _) = watch(tenant, WatchTransitionsRequest { cursor, ..Default::default() }, last + 1).await?;
    let [entered] = found.as_slice() else { anyhow::bail!("{found:?}") };
    ensure!((entered.sequence, entered.message_id.as_str()) == (last + 1, "resumed"), "{entered:?}");

    let audiences = vec!["opened".to_owned(), "never".to_owned()];
    let filtered = WatchTransitionsRequest { audiences: audiences.clone(), from_beginning: true, ..Default::default() };
    let (found, _) = watch(tenant, filtered, last + 1).await?;
    let expected: Vec<_> = adds_up(tenant).await?.0.into_iter().filter(|transition| audiences.contains(&transition.audience)).collect();
    ensure!(found == expected, "{found:?}\ninstead of {expected:?}");
    Ok(())
}

async fn numbers<const N: usize>(tenant: &Tenant, users: [&str; N]) -> anyhow::Result<[u32; N]> {
    let mut numbers = [0; N];
    for (number, user) in numbers.iter_mut().zip(users) {
        *number = tenant.number("user_id", user).await?;
    }
    Ok(numbers)
}

fn ordered<const N: usize>(mut numbers: [u32; N]) -> [u32; N] {
    numbers.sort_unstable();
    numbers
}
