//! What providers report: the adapter contract of channel.proto, signed as Standard Webhooks say
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::collections::HashMap;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use segue_proto::campaign::v1::{FollowRequest, FollowResponse};
use segue_runtime::Tenant;
use serde::Deserialize;
use serde_json::json;

use super::follow::{answer_json, fault};
use super::token::{Place, Token};
use crate::error::CampaignError;
use crate::sends::{Report, ReportKind};
use crate::service::Service;

/// How far the time of a message may be from ours.
const TOLERANCE_S: i64 = 300;
const SECRET_PREFIX: &str = "whsec_";
const DETAIL_CHARS_MAX: usize = 500;
/// 2000-01-01: nothing was sent before.
const EARLIEST_US: i64 = 946_684_800_000_000;
/// Consents say so when a provider reported it.
const BY_CALLBACK: &str = "callback";

#[derive(Deserialize)]
struct Body {
    events: Vec<Reported>,
}

#[derive(Deserialize)]
struct Reported {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    /// Absent: now.
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

impl Service {
    /// Takes a provider's report. Safe to repeat as a whole.
    pub(super) async fn follow_callback(
        &self,
        tenant: &Tenant,
        token: &str,
        request: &FollowRequest,
    ) -> Result<FollowResponse, CampaignError> {
        let unknown = || fault(404, "NO_SUCH_CHANNEL", "there is no such channel: read its `callback_url` again");
        if request.method != "POST" {
            return Ok(fault(405, "METHOD_NOT_ALLOWED", "use POST"));
        }
        let Some(Token::Callback { channel }) = self.links.read(&tenant.id, token).await? else { return Ok(unknown()) };
        let Some(secret) = self.channels.signing_secret(&tenant.id, &channel).await? else { return Ok(unknown()) };
        self.take_reports(tenant, &channel, &secret, request).await
    }

    /// Takes reports about messages of a channel that are signed with its secret.
    pub(super) async fn take_reports(
        &self,
        tenant: &Tenant,
        channel: &str,
        secret: &str,
        request: &FollowRequest,
    ) -> Result<FollowResponse, CampaignError> {
        let now_us = self.clock.now_us();
        if let Err(why) = check(secret, &request.headers, &request.body, now_us.div_euclid(1_000_000)) {
            return Ok(fault(401, "BAD_SIGNATURE", why));
        }
        let reports = match parse(&request.body, now_us) {
            Ok(reports) => reports,
            Err(why) => return Ok(fault(400, "UNREADABLE", &why)),
        };
        let (events, mut new) = (reports.len(), 0_u64);
        for mut report in reports {
            // What has no id of ours was not sent by us: a test of the adapter, perhaps.
            if Place::new(&report.send, report.address).is_none() {
                continue;
            }
            if report.kind == ReportKind::Unsubscribed {
                // Clocks differ by a little: whoever says no just now says it after whatever was said before.
                if now_us.saturating_sub(report.time_us) <= TOLERANCE_S * 1_000_000 {
                    report.time_us = now_us;
                }
                let is_new = self.unsubscribe(tenant, &report, Some(channel), BY_CALLBACK).await?;
                new += u64::from(is_new.unwrap_or(false));
            } else {
                new += u64::from(self.report_by(&tenant.id, channel, &report).await?);
            }
        }
        if new > 0 {
            self.bells.outbox.notify_one();
        }
        Ok(answer_json(200, &json!({ "success": true, "events": events, "new": new })))
    }
}

/// Whether the holder of the secret sent this lately; else why not.
fn check(secret: &str, headers: &HashMap<String, String>, body: &[u8], now_s: i64) -> Result<(), &'static str> {
    let header = |name: &str| headers.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let id = header("webhook-id").ok_or("there is no header webhook-id")?;
    let timestamp = header("webhook-timestamp").ok_or("there is no header webhook-timestamp")?;
    let signatures = header("webhook-signature").ok_or("there is no header webhook-signature")?;
    let sent_s: i64 = timestamp.parse().map_err(|_| "webhook-timestamp is not a number of seconds since 1970")?;
    if now_s.abs_diff(sent_s) > TOLERANCE_S.unsigned_abs() {
        return Err("webhook-timestamp is more than five minutes from now: check the sender's clock");
    }
    let key = secret.strip_prefix(SECRET_PREFIX).and_then(|secret| STANDARD.decode(secret).ok());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.ok_or("the channel's secret cannot be used: make the channel anew")?);
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let genuine = signatures.split_ascii_whitespace().filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
    // Verified in constant time.
    let mut genuine = genuine.filter(|signature| hmac::verify(&key, &signed, signature).is_ok());
    genuine.next().map(drop).ok_or("no signature is that of the channel's secret over `<id>.<timestamp>.<body>`")
}

/// All events of a body; else what is wrong with it.
fn parse(body: &[u8], now_us: i64) -> Result<Vec<Report>, String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| format!("the body is not as the contract has it: {error}"))?;
    body.events.into_iter().enumerate().map(|(at, event)| event.report(at, now_us)).collect()
}

impl Reported {
    fn report(self, at: usize, now_us: i64) -> Result<Report, String> {
        let kind = match self.kind.as_str() {
            "delivered" => ReportKind::Delivered,
            "failed" => ReportKind::Failed,
            "opened" => ReportKind::Opened,
            "clicked" => ReportKind::Clicked,
            "unsubscribed" => ReportKind::Unsubscribed,
            _ => return Err(format!("events[{at}].type is none of delivered, failed, opened, clicked, unsubscribed")),
        };
        let time_us = match &self.time {
            None => now_us,
            Some(time) => {
                let time = DateTime::parse_from_rfc3339(time).map_err(|_| format!("events[{at}].time is not a time as of RFC 3339"))?;
                // Clocks differ by a little, and nothing can have happened later than now.
                time.timestamp_micros().min(now_us)
            }
        };
        if time_us < EARLIEST_US {
            return Err(format!("events[{at}].time is before the year 2000"));
        }
        let (send, address) = split_key(&self.id);
        let detail = self.reason.unwrap_or_default().chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect();
        Ok(Report { send: send.to_owned(), address, kind, time_us, detail })
    }
}

/// The send of an idempotency key, and which of its addresses: `<send>`, or `<send>.<n>` where there are several.
pub(super) fn split_key(key: &str) -> (&str, usize) {
    match key.rsplit_once('.').map(|(send, address)| (send, address.parse())) {
        Some((send, Ok(address))) => (send, address),
        Some((_, Err(_))) | None => (key, 0),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::links) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// Headers of a message that is signed with [`SECRET`].
    pub(in crate::links) fn signed(id: &str, timestamp_s: i64, body: &[u8]) -> HashMap<String, String> {
        let key = STANDARD.decode(&SECRET[SECRET_PREFIX.len()..]).expect("base64");
        let message = [format!("{id}.{timestamp_s}.").as_bytes(), body].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message);
        let headers = [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp_s.to_string()),
            ("webhook-signature", format!("v2,x v1,{} v1,{}", STANDARD.encode("another"), STANDARD.encode(tag))),
        ];
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn the_example_of_the_specifications_libraries_is_genuine_for_five_minutes() {
        let body = br#"{"test": 2432232314}"#;
        let mut headers: HashMap<String, String> = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        for now_s in [1_614_265_330, 1_614_265_030, 1_614_265_630] {
            assert_eq!(check(SECRET, &headers, body, now_s), Ok(()));
        }
        for now_s in [1_614_265_029, 1_614_265_631, 0, i64::MAX] {
            assert!(check(SECRET, &headers, body, now_s).is_err());
        }
        assert!(check(SECRET, &headers, b"{}", 1_614_265_330).is_err());
        assert!(check("whsec_c2VjcmV0", &headers, body, 1_614_265_330).is_err());
        assert!(check("secret", &headers, body, 1_614_265_330).is_err());
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let taken = headers.remove(name).expect("a header");
            assert!(check(SECRET, &headers, body, 1_614_265_330).expect_err("not without").contains(name));
            headers.insert(name.to_owned(), taken);
        }
        assert_eq!(check(SECRET, &signed("m", 5, b"x"), b"x", 5), Ok(()));
    }

    #[test]
    fn a_report_is_taken_as_a_whole_or_its_first_fault_is_named() {
        const NOW_US: i64 = 1_748_426_400_000_000;
        let body = br#"{"more": 1, "events": [
            {"id": "abc.2", "type": "failed", "time": "2025-05-28T09:00:00.5Z", "reason": "no \u0000such number", "more": {}},
            {"id": "abc", "type": "delivered"}, {"id": "a.b", "type": "clicked", "time": "2099-01-01T00:00:00+09:00"}]}"#;
        let reports = parse(body, NOW_US).expect("readable");
        let seen: Vec<_> = reports.iter().map(|report| (report.send.as_str(), report.address, report.kind, report.time_us)).collect();
        let first_us = 1_748_422_800_500_000;
        assert_eq!(
            seen,
            [("abc", 2, ReportKind::Failed, first_us), ("abc", 0, ReportKind::Delivered, NOW_US), ("a.b", 0, ReportKind::Clicked, NOW_US)]
        );
        assert_eq!(reports[0].detail, "no such number");
        for (body, fault) in [
            ("", "the body"),
            ("[]", "the body"),
            (r#"{"events": [{"type": "delivered"}]}"#, "id"),
            (r#"{"events": [{"id": "a", "type": "seen"}]}"#, "events[0].type"),
            (r#"{"events": [{"id": "a", "type": "opened"}, {"id": "a", "type": "opened", "time": "now"}]}"#, "events[1].time"),
            (r#"{"events": [{"id": "a", "type": "opened", "time": "1999-12-31T23:59:59Z"}]}"#, "events[0].time"),
        ] {
            let told = parse(body.as_bytes(), NOW_US).expect_err("faulty");
            assert!(told.contains(fault), "{told}");
        }
    }
}
