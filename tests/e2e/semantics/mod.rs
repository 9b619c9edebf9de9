//! What the numbers mean: the cases of the semantics, through the public calls of every shape.
//!
//! One table per family, whose rows say what persons do, what is asked and what the answer is. Every case has persons of its own,
//! and a time of its own: a month that no other case uses, or events that only it names where it has to be about now. So everything
//! is sent at once and asked after one wait. To add a case: add a row.

pub(crate) mod case;
mod conditions;
mod funnels;
mod paths;
mod refusals;
mod reports;
mod retention;
mod sessions;
pub(crate) mod story;
pub(crate) mod words;

use std::time::SystemTime;

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt};
use segue_proto::analytics::v1::{CountPersonsRequest, GroupKey};
use segue_proto::events::v1::Event;
use segue_proto::events::v1::value::Kind;
use segue_proto::ingest::v1::TrackRequest;
use segue_proto::query::v1::{Condition, ConditionList, condition::Node};
use segue_tests::events::timestamp;
use segue_tests::installation::{Installation, TenantKeys};

use self::case::Case;
use self::story::{Story, offset_us};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// 2001-01-01: when the first case begins that does not say when.
const FIRST_US: i64 = 978_307_200_000_000;
/// From one case to the next.
const APART_US: i64 = 36 * DAY_US;
/// Events of one call.
const BATCH: usize = 4_000;

#[tokio::test]
async fn the_public_calls_answer_as_the_semantics_say() {
    super::for_every_shape(semantics).await;
}

async fn semantics(installation: Installation) -> anyhow::Result<()> {
    let tenant = installation.tenant("semantics").await?;
    let seoul = installation.tenant_in("seoul", "Asia/Seoul").await?;
    let keys = |case: &Case| if case.in_seoul { &seoul } else { &tenant };
    let families = [reports::cases(), funnels::cases(), retention::cases(), paths::cases(), sessions::cases(), conditions::cases()];
    let mut told = Vec::new();
    for (case, at) in families.into_iter().flatten().zip(0..) {
        let story = case.story(format!("c{at}"), FIRST_US + at * APART_US)?;
        told.push((case, story));
    }
    for in_seoul in [false, true] {
        let stories: Vec<&Story> = told.iter().filter(|(case, _)| case.in_seoul == in_seoul).map(|(_, story)| story).collect();
        send(if in_seoul { &seoul } else { &tenant }, &stories).await?;
    }
    refusals::send(&tenant, 3).await?;
    refusals::send(&seoul, 1).await?;
    tenant.gateway.wait_until_indexed().await?;
    seoul.gateway.wait_until_indexed().await?;

    let checks = told.iter().map(|(case, story)| case.check(keys(case), story));
    let wrong: Vec<Vec<String>> = futures::stream::iter(checks).buffer_unordered(4).try_collect().await?;
    let wrong = wrong.concat();
    ensure!(wrong.is_empty(), "{} answers are not as the semantics say:\n{}", wrong.len(), wrong.join("\n"));

    let persons: usize = told.iter().filter(|(case, _)| !case.in_seoul).map(|(_, story)| story.persons.len()).sum();
    let everybody = Condition { node: Some(Node::All(ConditionList::default())) };
    let request = CountPersonsRequest { condition: Some(everybody), ..Default::default() };
    let counted = tenant.gateway.analytics().count_persons(request).await?.into_inner();
    ensure!((counted.count, counted.persons_total) == (persons as u64 + 3, persons as u64 + 3), "{counted:?} instead of {persons} + 3");
    refusals::faulty_requests(&tenant).await?;
    refusals::another_tenants_token(&tenant, &seoul).await
}

async fn send(keys: &TenantKeys, stories: &[&Story]) -> anyhow::Result<()> {
    let mut events = Vec::new();
    for story in stories {
        events.extend(story.events()?);
    }
    send_events(keys, &events).await
}

/// Sends events, all of which are to be accepted.
pub(crate) async fn send_events(keys: &TenantKeys, events: &[Event]) -> anyhow::Result<()> {
    for batch in events.chunks(BATCH) {
        let answer = keys.gateway.ingest().track(TrackRequest { events: batch.to_vec() }).await?.into_inner();
        let refused = answer.outcomes.iter().find(|outcome| !outcome.reasons.is_empty());
        ensure!(answer.accepted as usize == batch.len(), "{} of {} accepted; {refused:?}", answer.accepted, batch.len());
    }
    Ok(())
}

pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// So long ago.
fn now_less(length: &str) -> String {
    timestamp(now_us() - offset_us(length).expect("a length of time")).to_string()
}

/// A zone in which it is between 12:00 and 13:00 now, and its midnight so many days ago.
fn noon(days: &str) -> (String, String) {
    let now_us = now_us();
    let ahead = 12 - now_us.rem_euclid(DAY_US) / HOUR_US;
    // These names say how far UTC is ahead of the zone.
    let zone = if ahead == 0 { "UTC".to_owned() } else { format!("Etc/GMT{:+}", -ahead) };
    let midnight_us = now_us.div_euclid(DAY_US) * DAY_US - ahead * HOUR_US;
    (zone, timestamp(midnight_us - offset_us(days).expect("a length of time")).to_string())
}

/// A group's values: a missing one is `∅`, the group of the rest is `…`.
fn group_key(key: Option<&GroupKey>) -> String {
    let Some(key) = key else { return "no key".to_owned() };
    if key.other {
        return "…".to_owned();
    }
    let values = key.values.iter().map(|value| match value.value.as_ref().and_then(|value| value.kind.as_ref()) {
        None => "∅".to_owned(),
        Some(Kind::StringValue(text)) => text.clone(),
        Some(Kind::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
    });
    values.collect::<Vec<_>>().join("|")
}
