//! What a policy may say. All faults are told at once.

use chrono_tz::Tz;
use segue_model::FieldViolation;
use segue_model::bucket::BUCKETS;
use segue_proto::campaign::v1::{ChannelKind, FrequencyCap, Purpose, SendingPolicy, TimeRule};
use segue_runtime::fields;

use super::times::parse_time;
use crate::error::CampaignError;

const RULES_MAX: usize = 20;
const RULE_NAME_CHARS_MAX: usize = 63;
const CONSENT_PURPOSE_BYTES_MAX: usize = 64;
const CAP_COUNT_MAX: u32 = 1_000;
const CAP_DAYS_MAX: u32 = 31;

/// Refuses a policy that cannot be gone by.
pub(super) fn policy(policy: &SendingPolicy) -> Result<(), CampaignError> {
    let mut faults = Vec::new();
    let mut fault = |field: String, description: String| faults.push(FieldViolation::new(field, description));
    if policy.global_holdout > BUCKETS {
        fault("policy.global_holdout".to_owned(), format!("0 to {BUCKETS} hundredths of a percent"));
    }
    if policy.caps.len() > RULES_MAX {
        fault("policy.caps".to_owned(), format!("at most {RULES_MAX}"));
    } else {
        for (at, rule) in policy.caps.iter().enumerate() {
            cap(&format!("policy.caps[{at}]"), rule, &mut fault);
        }
    }
    if policy.times.len() > RULES_MAX {
        fault("policy.times".to_owned(), format!("at most {RULES_MAX}"));
    } else {
        for (at, rule) in policy.times.iter().enumerate() {
            time(&format!("policy.times[{at}]"), rule, &mut fault);
        }
    }
    Ok(fields::refuse(faults)?)
}

fn cap(path: &str, cap: &FrequencyCap, fault: &mut impl FnMut(String, String)) {
    if !(1..=CAP_COUNT_MAX).contains(&cap.count) {
        fault(format!("{path}.count"), format!("1 to {CAP_COUNT_MAX}"));
    }
    if !(1..=CAP_DAYS_MAX).contains(&cap.days) {
        fault(format!("{path}.days"), format!("1 to {CAP_DAYS_MAX} days"));
    }
    kinds(path, &cap.kinds, fault);
}

fn time(path: &str, rule: &TimeRule, fault: &mut impl FnMut(String, String)) {
    let name = &rule.name;
    if name.trim().is_empty() || name.chars().count() > RULE_NAME_CHARS_MAX || name.chars().any(char::is_control) {
        fault(format!("{path}.name"), format!("1 to {RULE_NAME_CHARS_MAX} characters, without control characters"));
    }
    let clock = "a time of the clock like 08:00, from 00:00 to 23:59";
    let (from, to) = (parse_time(&rule.from), parse_time(&rule.to));
    if from.is_none() {
        fault(format!("{path}.from"), clock.to_owned());
    }
    if to.is_none() {
        fault(format!("{path}.to"), clock.to_owned());
    }
    if from.is_some() && from == to {
        fault(format!("{path}.to"), "is the same as `from`, so that no time is left: pause the channel instead".to_owned());
    }
    kinds(path, &rule.kinds, fault);
    if Purpose::try_from(rule.purpose).is_err() {
        fault(format!("{path}.purpose"), "ADVERTISING or TRANSACTIONAL, or unset for both".to_owned());
    }
    let named = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_');
    if rule.unless_consent.len() > CONSENT_PURPOSE_BYTES_MAX || !rule.unless_consent.bytes().all(named) {
        let description = format!("a purpose of consents: up to {CONSENT_PURPOSE_BYTES_MAX} characters of a-z, 0-9 and '_', or empty");
        fault(format!("{path}.unless_consent"), description);
    }
    if !rule.time_zone.is_empty() && rule.time_zone.parse::<Tz>().is_err() {
        fault(format!("{path}.time_zone"), "not a zone of the IANA database, such as Asia/Seoul".to_owned());
    }
}

fn kinds(path: &str, kinds: &[i32], fault: &mut impl FnMut(String, String)) {
    for (at, kind) in kinds.iter().enumerate() {
        let field = || format!("{path}.kinds[{at}]");
        match ChannelKind::try_from(*kind) {
            Ok(ChannelKind::Unspecified) | Err(_) => fault(field(), "not a kind of channels".to_owned()),
            Ok(_) if kinds.iter().take(at).any(|other| other == kind) => fault(field(), "named twice".to_owned()),
            Ok(_) => {}
        }
    }
}
