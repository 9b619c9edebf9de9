//! The decision about one message: holdouts, consent, times, caps, in this order. Pure: the same policy, case and moment, the same verdict.

use chrono::{DateTime, SecondsFormat};
use chrono_tz::Tz;
use segue_model::bucket::Buckets;
use segue_proto::campaign::v1::{ChannelKind, FrequencyCap, Purpose, SendReason, SendingPolicy, TimeRule};
use segue_proto::identity::v1::{Consent, ConsentState};

use super::consent_channel;
use super::times::{Quiet, day};
use crate::persons::Profile;

/// Whose buckets the global holdout goes by.
const HOLDOUT_SALT: &str = "global_holdout";
/// Quiet times one after the other that are waited for at once; a message that meets more of them is looked at again in between.
const WAITS_MAX: usize = 100;

/// What a decision is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'c> {
    pub(crate) kind: ChannelKind,
    pub(crate) purpose: Purpose,
    pub(crate) person: &'c Profile,
    /// The person's, or the scenario's.
    pub(crate) time_zone: Tz,
    /// The scenario holds the run out.
    pub(crate) held_out: bool,
    /// The person unsubscribed by a link.
    pub(crate) unsubscribed: bool,
}

/// One check with its result, as `SendDecision` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) check: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) detail: String,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it, if these caps leave room: day numbers are those of the person's calendar (days since 1970-01-01).
    Send {
        caps: Vec<Cap>,
    },
    WaitUntil {
        time_us: i64,
    },
    Suppress {
        reason: SendReason,
        detail: String,
    },
}

/// At most `count` messages counted under `counter` on the days `first_day ..= day`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cap {
    /// Which messages count: the same for caps over the same kinds of channels.
    pub(crate) counter: String,
    pub(crate) count: u32,
    pub(crate) first_day: i64,
    pub(crate) day: i64,
}

/// What one check says: go on with the next, or not.
type Step = Result<String, (SendReason, String)>;

/// Holdouts, consent and times, in this order; every check that was made is told.
pub(crate) fn decide(policy: &SendingPolicy, case: &Case<'_>, now_us: i64, checked: &mut Vec<Checked>) -> Verdict {
    for (check, step) in [("holdout", holdout as fn(&SendingPolicy, &Case<'_>) -> Step), ("consent", consent)] {
        match step(policy, case) {
            Ok(detail) => checked.push(Checked { check, outcome: "passed", detail }),
            Err((reason, detail)) => {
                checked.push(Checked { check, outcome: "suppressed", detail: detail.clone() });
                return Verdict::Suppress { reason, detail };
            }
        }
    }
    match times(policy, case, now_us) {
        Times::Free => checked.push(Checked { check: "quiet_hours", outcome: "passed", detail: "no rule applies now".to_owned() }),
        Times::Wait { until_us, detail } => {
            checked.push(Checked { check: "quiet_hours", outcome: "waits", detail });
            return Verdict::WaitUntil { time_us: until_us };
        }
        Times::Drop { detail } => {
            checked.push(Checked { check: "quiet_hours", outcome: "suppressed", detail: detail.clone() });
            return Verdict::Suppress { reason: SendReason::QuietHours, detail };
        }
    }
    Verdict::Send { caps: caps(policy, case, now_us) }
}

impl Case<'_> {
    fn is_advertising(&self) -> bool {
        match self.purpose {
            Purpose::Unspecified | Purpose::Advertising => true,
            Purpose::Transactional => false,
        }
    }
}

fn holdout(policy: &SendingPolicy, case: &Case<'_>) -> Step {
    if case.held_out {
        return Err((SendReason::HeldOut, "the scenario holds the person out".to_owned()));
    }
    if policy.global_holdout == 0 {
        return Ok("nobody is held out globally, nor the person by the scenario".to_owned());
    }
    if !case.is_advertising() {
        return Ok("the global holdout is about advertising alone".to_owned());
    }
    let bucket = Buckets::new(HOLDOUT_SALT).bucket(case.person.number);
    let below = policy.global_holdout;
    if bucket < below {
        return Err((SendReason::HeldOut, format!("the person's bucket {bucket} of the global holdout is below {below}")));
    }
    Ok(format!("the person's bucket {bucket} of the global holdout is not below {below}"))
}

/// Unsubscribing by a link is about advertising, like the links; who wants nothing at all refuses the purpose `all`.
fn consent(policy: &SendingPolicy, case: &Case<'_>) -> Step {
    let Some(channel) = consent_channel(case.kind) else { return Ok("webhooks need no consent".to_owned()) };
    if case.unsubscribed && case.is_advertising() {
        return Err((SendReason::Unsubscribed, format!("unsubscribed from {channel} by a link of a message")));
    }
    let said = |purpose: &str| case.person.consent(channel, purpose).map(|consent| (consent.state(), told(consent)));
    if let Some((ConsentState::Refused, told)) = said("all") {
        return Err((SendReason::NoConsent, told));
    }
    if !case.is_advertising() {
        return Ok(format!("transactional messages need no consent, and {channel} as a whole was not refused"));
    }
    match said("advertising") {
        Some((ConsentState::Granted, told)) => Ok(told),
        Some((ConsentState::Refused, told)) => Err((SendReason::NoConsent, told)),
        Some((ConsentState::Unspecified, _)) | None => {
            let unknown = format!("whether advertising by {channel} is wanted is not known");
            if case.kind == ChannelKind::InApp {
                Ok(format!("{unknown}, and in-app messages need no consent"))
            } else if policy.unknown_consent_is_yes {
                Ok(format!("{unknown}, which the policy takes for a yes"))
            } else {
                Err((SendReason::NoConsent, unknown))
            }
        }
    }
}

/// `advertising by push was granted 2026-01-02T00:00:00Z by trait (df_push_ads_optin)`
fn told(consent: &Consent) -> String {
    let Consent { channel, purpose, source, proof, time, .. } = consent;
    let state = match consent.state() {
        ConsentState::Granted => "was granted",
        ConsentState::Refused => "was refused",
        ConsentState::Unspecified => "is unknown",
    };
    let what = if purpose == "all" { format!("everything by {channel}") } else { format!("{purpose} by {channel}") };
    let mut told = format!("{what} {state}");
    let at = time.and_then(|time| DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?));
    if let Some(at) = at {
        told.push_str(&format!(" {}", at.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
    }
    if !source.is_empty() {
        told.push_str(&format!(" by {source}"));
    }
    if !proof.is_empty() {
        told.push_str(&format!(" ({proof})"));
    }
    told
}

enum Times {
    Free,
    Wait { until_us: i64, detail: String },
    Drop { detail: String },
}

/// The first moment after one at which no rule of times keeps a message back, up to another, at which one does.
pub(crate) fn quiet_from(policy: &SendingPolicy, case: &Case<'_>, now_us: i64, until_us: i64) -> Option<i64> {
    let rules = policy.times.iter().filter(|rule| concerns(rule, case));
    rules.filter_map(|rule| Quiet::of(rule, case.time_zone)?.begin_us(now_us, until_us)).min()
}

/// Waits for one quiet time after the other. At one that drops it stops waiting: what holds then is decided then.
fn times(policy: &SendingPolicy, case: &Case<'_>, now_us: i64) -> Times {
    let rules: Vec<(&TimeRule, Quiet)> =
        policy.times.iter().filter(|rule| concerns(rule, case)).filter_map(|rule| Some((rule, Quiet::of(rule, case.time_zone)?))).collect();
    let mut time_us = now_us;
    let mut waited_for: Vec<&str> = Vec::new();
    for _ in 0..WAITS_MAX {
        let Some((rule, quiet)) = rules.iter().find(|(_, quiet)| quiet.holds(time_us)) else { break };
        if rule.drop && time_us == now_us {
            return Times::Drop { detail: format!("`{}` drops from {} to {} ({})", rule.name, rule.from, rule.to, quiet.zone) };
        }
        if rule.drop {
            break;
        }
        time_us = quiet.end_us(time_us);
        if !waited_for.contains(&rule.name.as_str()) {
            waited_for.push(&rule.name);
        }
    }
    if time_us == now_us {
        return Times::Free;
    }
    let until = DateTime::from_timestamp_micros(time_us).map(|at| at.with_timezone(&case.time_zone).to_rfc3339());
    let detail = format!("`{}` waits until {}", waited_for.join("`, then `"), until.unwrap_or_default());
    Times::Wait { until_us: time_us, detail }
}

/// Whether a rule is about messages like this one to persons like this one.
fn concerns(rule: &TimeRule, case: &Case<'_>) -> bool {
    let kind = if rule.kinds.is_empty() {
        !matches!(case.kind, ChannelKind::Webhook | ChannelKind::InApp)
    } else {
        rule.kinds.contains(&case.kind.into())
    };
    let purpose = match rule.purpose() {
        Purpose::Unspecified => true,
        Purpose::Advertising => case.is_advertising(),
        Purpose::Transactional => !case.is_advertising(),
    };
    let excepted = !rule.unless_consent.is_empty()
        && consent_channel(case.kind)
            .and_then(|channel| case.person.consent(channel, &rule.unless_consent))
            .is_some_and(|consent| consent.state() == ConsentState::Granted);
    kind && purpose && !excepted
}

fn caps(policy: &SendingPolicy, case: &Case<'_>, now_us: i64) -> Vec<Cap> {
    // Webhooks have no purpose; caps that name them mean them.
    if !case.is_advertising() && case.kind != ChannelKind::Webhook {
        return Vec::new();
    }
    let Some(day) = day(now_us, case.time_zone) else { return Vec::new() };
    let mut caps = Vec::new();
    for cap in &policy.caps {
        let kinds = capped(cap);
        if kinds.contains(&case.kind) {
            let counter = kinds.iter().map(|kind| name(*kind)).collect::<Vec<_>>().join(",");
            let first_day = day - i64::from(cap.days.max(1)) + 1;
            caps.push(Cap { counter, count: cap.count, first_day, day });
        }
    }
    caps
}

/// Which kinds count and are capped, in the order of their numbers.
fn capped(cap: &FrequencyCap) -> Vec<ChannelKind> {
    let mut kinds: Vec<ChannelKind> = cap.kinds().collect();
    if kinds.is_empty() {
        kinds = vec![ChannelKind::Email, ChannelKind::Fcm, ChannelKind::Apns, ChannelKind::Sms, ChannelKind::Kakao, ChannelKind::InApp];
    }
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn name(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Email => "email",
        ChannelKind::Webhook => "webhook",
        ChannelKind::Fcm => "fcm",
        ChannelKind::Apns => "apns",
        ChannelKind::Sms => "sms",
        ChannelKind::Kakao => "kakao",
        ChannelKind::InApp => "in_app",
        ChannelKind::Unspecified => "",
    }
}

#[cfg(test)]
mod tests;
