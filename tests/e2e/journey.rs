//! From a published SDK's request to a report: events come in over HTTP and gRPC, become persons, and are counted.

use anyhow::ensure;
use segue_proto::events::v1::Identifier;
use segue_proto::identity::v1::{GetPersonRequest, get_person_request};
use segue_proto::ingest::v1::{Outcome, TrackRequest, TrackStreamRequest};
use segue_tests::events::{by_event, counts, event, identifier};
use segue_tests::http::post;
use segue_tests::installation::{Installation, TenantKeys};

const NOON_US: i64 = 1_767_268_800_000_000; // 2026-01-01T12:00:00Z
const SECOND_US: i64 = 1_000_000;

async fn person(keys: &TenantKeys, identifier: Identifier) -> anyhow::Result<u32> {
    let who = Some(get_person_request::Who::Identifier(identifier));
    Ok(keys.gateway.identity().get_person(GetPersonRequest { who }).await?.into_inner().number)
}

#[tokio::test]
async fn anonymous_history_and_login_over_http_and_grpc_make_one_person_in_the_report() {
    super::for_every_shape(one_person).await;
}

async fn one_person(installation: Installation) -> anyhow::Result<()> {
    let keys = installation.tenant("shop").await?;
    // Before the login, from a site.
    let body = r#"{"batch":[
        {"type":"page","messageId":"p1","anonymousId":"anon-1","name":"Home","timestamp":"2026-01-01T12:00:00Z","context":{"page":{"path":"/"}}},
        {"type":"track","messageId":"t1","anonymousId":"anon-1","event":"Product Viewed","properties":{"product_id":"p","price":10},"timestamp":"2026-01-01T12:00:01Z"},
        {"type":"identify","messageId":"i1","anonymousId":"anon-1","userId":"u1","traits":{"email":"u1@example.com"},"timestamp":"2026-01-01T12:00:02Z"}]}"#;
    let (status, answer) = post(&format!("{}/v1/batch", installation.url()), &keys.write, body).await?;
    ensure!(status == 200, "{status}: {answer}");
    // After it, from a backend, sent twice.
    let purchase = event("o1", "Order Completed", NOON_US + 3 * SECOND_US, &[("user_id", "u1")]);
    for _ in 0..2 {
        let answer = keys.gateway.ingest().track(TrackRequest { events: vec![purchase.clone()] }).await?.into_inner();
        ensure!(answer.accepted == 1 && answer.outcomes[0].outcome() == Outcome::Accepted, "{answer:?}");
    }
    keys.gateway.wait_until_indexed().await?;

    let report = keys.gateway.analytics().query_events(by_event()).await?.into_inner();
    let counts = counts(&report);
    let expected = [("df_purchase", (1, 1)), ("df_view_home", (1, 1)), ("df_view_product_details", (1, 1))];
    ensure!(counts == expected.map(|(name, count)| (name.to_owned(), count)).into(), "{counts:?}");
    let user = person(&keys, identifier("user_id", "u1")).await?;
    ensure!(user == person(&keys, identifier("anonymous_id", "anon-1")).await?, "the anonymous history belongs to the user");
    ensure!(user == person(&keys, identifier("email", "u1@example.com")).await?, "so does the address");
    Ok(())
}

#[tokio::test]
async fn a_stream_acknowledges_cumulatively_and_what_is_sent_again_counts_once() {
    super::for_every_shape(stream).await;
}

async fn stream(installation: Installation) -> anyhow::Result<()> {
    let keys = installation.tenant("shop").await?;
    for _ in 0..2 {
        let batches = (1..=20u64).map(|sequence| TrackStreamRequest {
            sequence,
            events: (0..50)
                .map(|n| {
                    let time_us = NOON_US + (sequence as i64 * 50 + n) * SECOND_US;
                    event(&format!("{sequence}-{n}"), "tick", time_us, &[("user_id", &format!("u{}", n % 10))])
                })
                .collect(),
        });
        let mut answers = keys.gateway.ingest().track_stream(tokio_stream::iter(batches)).await?.into_inner();
        let mut last = None;
        while let Some(answer) = answers.message().await? {
            ensure!(answer.failures.is_empty(), "{answer:?}");
            ensure!(last.as_ref().is_none_or(|(sequence, _)| *sequence <= answer.acknowledged_sequence), "acknowledgements never go back");
            last = Some((answer.acknowledged_sequence, answer.accepted));
        }
        ensure!(last == Some((20, 1_000)), "{last:?}");
    }
    keys.gateway.wait_until_indexed().await?;
    let counts = counts(&keys.gateway.analytics().query_events(by_event()).await?.into_inner());
    ensure!(counts == [("tick".to_owned(), (1_000, 10))].into(), "{counts:?}");
    Ok(())
}
