//! Hostile and broken input: each gets a precise answer, and nothing else is touched.

use std::io::Write;

use anyhow::ensure;
use segue_proto::ingest::v1::{
    CorrectionAction, CorrectionRule, CreateCorrectionRuleRequest, ListQuarantinedRequest, Outcome, QuarantineSelection, ReasonCode,
    ReplayQuarantinedRequest, TrackRequest, correction_action,
};
use segue_tests::events::{by_event, counts, event};
use segue_tests::http::post;
use segue_tests::installation::Installation;

const NOON_US: i64 = 1_767_268_800_000_000;

#[tokio::test]
async fn bad_input_gets_a_reason_and_leaves_everything_else_untouched() {
    super::for_every_shape(bad_input).await;
}

async fn bad_input(installation: Installation) -> anyhow::Result<()> {
    let keys = installation.tenant("shop").await?;
    let url = |route: &str| format!("{}/v1/{route}", installation.url());
    let who = &[("user_id", "u1")];

    // In a batch: the good ones count, the bad ones are set aside with a reason each.
    let future_us = 4_000_000_000_000_000;
    let events = vec![
        event("good-1", "tick", NOON_US, who),
        event("old", "tick", 0, who),
        event("future", "tick", future_us, who),
        event("nobody", "tick", NOON_US, &[("user_id", "null")]),
        event("nameless", "", NOON_US, who),
        event("good-2", "tick", NOON_US, who),
    ];
    let answer = keys.gateway.ingest().track(TrackRequest { events }).await?.into_inner();
    let outcomes: Vec<_> =
        answer.outcomes.iter().map(|outcome| (outcome.outcome(), outcome.reasons.first().map(|reason| reason.code()))).collect();
    ensure!(
        outcomes
            == [
                (Outcome::Accepted, None),
                (Outcome::Quarantined, Some(ReasonCode::TimeOutOfRange)),
                (Outcome::Quarantined, Some(ReasonCode::TimeOutOfRange)),
                (Outcome::Quarantined, Some(ReasonCode::MissingIdentifier)),
                (Outcome::Quarantined, Some(ReasonCode::MissingField)),
                (Outcome::Accepted, None),
            ],
        "{outcomes:?}"
    );

    // 10 MB of nesting, a truncated batch, invalid UTF-8, a gzip bomb: refused as a whole, with a reason.
    let mut bomb = Vec::new();
    for _ in 0..64 {
        bomb.extend(gzip(&[b' '; 1 << 20]));
    }
    let hostile: [(&str, Vec<u8>); 4] = [
        ("nesting", vec![b'['; 10 << 20]),
        ("truncated", br#"{"batch":[{"type":"track","#.to_vec()),
        ("invalid UTF-8", b"{\"event\":\"\xff\xfe\"}".to_vec()),
        ("bomb", bomb),
    ];
    for (name, body) in hostile {
        let (status, answer) = post(&url("batch"), &keys.write, body).await?;
        ensure!(status.is_client_error() && answer.len() > 2, "{name}: {status} {answer}");
    }
    // Unknown fields are kept, not refused.
    let (status, answer) = post(
        &url("track"),
        &keys.write,
        r#"{"userId":"u1","event":"tick","messageId":"odd","timestamp":"2026-01-01T12:00:00Z","surprise":{"a":[1]}}"#,
    )
    .await?;
    ensure!(status == 200, "{status}: {answer}");

    keys.gateway.wait_until_indexed().await?;
    let counted = counts(&keys.gateway.analytics().query_events(by_event()).await?.into_inner());
    ensure!(counted == [("tick".to_owned(), (3, 1))].into(), "{counted:?}");

    // What was set aside can be corrected and replayed under its id.
    let quarantined = |code: ReasonCode| ListQuarantinedRequest {
        selection: Some(QuarantineSelection { reason: code as i32, ..Default::default() }),
        ..Default::default()
    };
    let mut quarantine = segue_proto::ingest::v1::quarantine_service_client::QuarantineServiceClient::new(keys.gateway.transport());
    let listed = quarantine.list_quarantined(quarantined(ReasonCode::MissingField)).await?.into_inner().events;
    ensure!(listed.len() == 1 && listed[0].event.as_ref().is_some_and(|event| event.message_id == "nameless"), "{listed:?}");
    let rename = CorrectionAction { action: Some(correction_action::Action::RenameEvent("tock".to_owned())) };
    let received = CorrectionAction { action: Some(correction_action::Action::UseReceivedTime(true)) };
    let rule = CorrectionRule { actions: vec![rename, received], ..Default::default() };
    quarantine.create_correction_rule(CreateCorrectionRuleRequest { correction_rule: Some(rule) }).await?;
    let replayed =
        quarantine.replay_quarantined(ReplayQuarantinedRequest { selection: Some(QuarantineSelection::default()) }).await?.into_inner();
    ensure!((replayed.accepted, replayed.still_quarantined) == (3, 1), "{replayed:?}");
    keys.gateway.wait_until_indexed().await?;
    let counted = counts(&keys.gateway.analytics().query_events(by_event()).await?.into_inner());
    ensure!(counted == [("tick".to_owned(), (3, 1)), ("tock".to_owned(), (3, 1))].into(), "{counted:?}");
    Ok(())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
