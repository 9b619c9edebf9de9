//! Pure: whether to send, to whom, when to try again, and what is said about it.

use std::sync::Arc;

use segue_proto::campaign::v1::{Purpose, SendReason, SendState, SendingPolicy};
use segue_proto::identity::v1::ConsentState;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::row::{Address, Claimed, stored_state};
use crate::channels::{OpenChannel, Outcome};
use crate::persons::Profile;
use crate::policies::{self, Cap, Case, Checked, Verdict, consent_channel};
use crate::scenarios::Standing;
use crate::templates::Loaded;

/// What a decision is made on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'k> {
    pub(super) policy: &'k SendingPolicy,
    pub(super) channel: Option<&'k Arc<OpenChannel>>,
    pub(super) template: Option<&'k Arc<Loaded>>,
    pub(super) person: Option<&'k Arc<Profile>>,
    /// When the person last unsubscribed from the channel by a link.
    pub(super) unsubscribed_us: Option<i64>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judged {
    Suppress {
        reason: SendReason,
        detail: String,
    },
    Wait {
        until_us: i64,
    },
    /// If the caps leave room.
    Send {
        caps: Vec<Cap>,
    },
}

fn suppress(checked: &mut Vec<Checked>, check: &'static str, reason: SendReason, detail: impl Into<String>) -> Judged {
    let detail = detail.into();
    checked.push(Checked { check, outcome: "suppressed", detail: detail.clone() });
    Judged::Suppress { reason, detail }
}

/// Decides on a send as of now. Everything that was looked at is told.
pub(super) fn judge(send: &Claimed, known: &Known<'_>, now_us: i64, checked: &mut Vec<Checked>) -> Judged {
    if now_us > send.expires_us {
        return suppress(checked, "attempt", SendReason::TooLate, "it could not be sent before it was of no use any more");
    }
    let Some(channel) = known.channel else {
        return suppress(checked, "channel", SendReason::MissingDefinition, format!("there is no channel `{}`", send.channel));
    };
    let Some(template) = known.template else {
        return suppress(checked, "template", SendReason::MissingDefinition, format!("there is no template `{}`", send.template));
    };
    if template.kind != channel.kind {
        let (what, by) = (template.kind.as_str_name(), channel.kind.as_str_name());
        let detail = format!("template `{}` is for {what}, channel `{}` is {by}", send.template, send.channel);
        return suppress(checked, "template", SendReason::MissingDefinition, detail);
    }
    let Some(person) = known.person else {
        return suppress(checked, "person", SendReason::PersonGone, "identity does not know the person any more");
    };
    match policies::decide(known.policy, &case(send, known, channel, person, now_us), now_us, checked) {
        Verdict::Send { caps } => Judged::Send { caps },
        // Looked at once more when it is too late, so that it is said.
        Verdict::WaitUntil { time_us } => Judged::Wait { until_us: time_us.min(send.expires_us.saturating_add(1)) },
        Verdict::Suppress { reason, detail } => Judged::Suppress { reason, detail },
    }
}

fn case<'k>(send: &Claimed, known: &Known<'_>, channel: &OpenChannel, person: &'k Profile, now_us: i64) -> Case<'k> {
    Case {
        kind: channel.kind,
        purpose: send.purpose(),
        person,
        time_zone: person.time_zone().or_else(|| send.time_zone.parse().ok()).unwrap_or(chrono_tz::UTC),
        held_out: send.held_out,
        unsubscribed: is_unsubscribed(known, person, now_us),
    }
}

/// When a rule of times begins, up to a moment, that keeps back what is decided to be sent now and is not given to its provider by then.
pub(super) fn quiet_from(send: &Claimed, known: &Known<'_>, now_us: i64, until_us: i64) -> Option<i64> {
    let (channel, person) = (known.channel?, known.person?);
    policies::quiet_from(known.policy, &case(send, known, channel, person, now_us), now_us, until_us)
}

/// What becomes of a send whose scenario does not go on; None: what would become of it anyway.
pub(super) fn of_scenario(send: &Claimed, standing: Standing, now_us: i64) -> Option<(Judged, Checked)> {
    if now_us > send.expires_us {
        return None;
    }
    match standing {
        // Looked at when the scenario is started again (see `standing`), or once it is too late, so that it is said.
        Standing::Paused => {
            let detail = format!("scenario `{}` is paused", send.scenario);
            let until_us = send.expires_us.saturating_add(1);
            Some((Judged::Wait { until_us }, Checked { check: "scenario", outcome: "waits", detail }))
        }
        Standing::Ended if send.state == stored_state(SendState::Planned) => {
            let detail = "the scenario ended before the message was sent".to_owned();
            let checked = Checked { check: "exit", outcome: "suppressed", detail: detail.clone() };
            Some((Judged::Suppress { reason: SendReason::Exited, detail }, checked))
        }
        // It is under way.
        Standing::Ended => None,
    }
}

/// Unsubscribing holds until the person grants advertising on the channel later: what a clock elsewhere dates to the future is not later.
fn is_unsubscribed(known: &Known<'_>, person: &Profile, now_us: i64) -> bool {
    let (Some(unsubscribed_us), Some(channel)) = (known.unsubscribed_us, known.channel.and_then(|channel| consent_channel(channel.kind)))
    else {
        return false;
    };
    let granted_us = person
        .consent(channel, "advertising")
        .filter(|consent| consent.state() == ConsentState::Granted)
        .and_then(|consent| consent.time)
        .map(|at| at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos / 1_000)));
    granted_us.is_none_or(|granted_us| granted_us <= unsubscribed_us || granted_us > now_us)
}

/// Where a message goes: the first time what the person has now, afterwards the same addresses (their numbers are in the keys by which
/// providers know the message), as far as they are the person's still. Empty: there is none.
pub(super) fn addresses(channel: &OpenChannel, person: &Profile, before: Vec<Address>) -> Vec<Address> {
    let sending = SendState::Sending.into();
    let Some(kind) = channel.address_kind else {
        let one = Address { state: sending, ..Address::default() };
        return if before.is_empty() { vec![one] } else { before };
    };
    if before.is_empty() {
        let most = if channel.to_all { usize::MAX } else { 1 };
        let address = |value: &str| Address { kind: kind.to_owned(), value: value.to_owned(), state: sending, ..Address::default() };
        // No address has the NUL character, and PostgreSQL cannot store it.
        return person.all_of(kind).filter(|value| !value.contains('\0')).take(most).map(address).collect();
    }
    let kept = |mut address: Address| {
        if address.state == sending && !person.all_of(kind).any(|held| held == address.value) {
            address.state = SendState::Suppressed.into();
            address.error = "is not the person's any more".to_owned();
        }
        address
    };
    before.into_iter().map(kept).collect()
}

/// What became of the address after a provider's answer; true: it is to be tried again.
pub(super) fn settle(address: &mut Address, outcome: &Outcome) -> bool {
    let (state, error, again) = match outcome {
        Outcome::Sent { provider_message_id } => {
            address.provider_message_id = super::row::clean(provider_message_id);
            (SendState::Sent, "", false)
        }
        Outcome::Retry { error, .. } => (SendState::Sending, error.as_str(), true),
        Outcome::Refused { error } | Outcome::Unregistered { error } => (SendState::Failed, error.as_str(), false),
    };
    address.state = state.into();
    address.error = super::row::clean(error);
    again
}

/// How long to wait after so many attempts: twice as long each time, spread so that those that failed together do not come back together
/// (by the id, so always the same), and as long as the provider asks for.
pub(super) fn pause_us(id: &str, attempts: i64, asked_us: i64, most_us: i64) -> i64 {
    const FIRST_US: i64 = 1_000_000;
    let doubled = FIRST_US.saturating_mul(1 << attempts.clamp(1, 30).saturating_sub(1)).min(most_us);
    let spread = xxh3_64_with_seed(id.as_bytes(), attempts as u64) % 1_000;
    let pause = doubled / 2 + (doubled / 2).saturating_mul(spread as i64) / 1_000;
    pause.max(asked_us).min(most_us).max(1)
}

/// Whether consent and the like are those of advertising.
pub(super) fn is_advertising(send: &Claimed) -> bool {
    send.purpose() == Purpose::Advertising
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_honour_what_the_provider_asks() {
        for attempts in 1..60 {
            let pause = pause_us("a", attempts, 0, 600_000_000);
            let full = (1_000_000_i64 << (attempts - 1).min(29)).min(600_000_000);
            assert!((full / 2..=full).contains(&pause), "{attempts}: {pause}");
            assert_eq!(pause, pause_us("a", attempts, 0, 600_000_000));
        }
        assert_eq!(pause_us("a", 1, 30_000_000, 600_000_000), 30_000_000);
        assert_eq!(pause_us("a", 1, 900_000_000, 600_000_000), 600_000_000);
        assert_ne!(pause_us("a", 3, 0, 600_000_000), pause_us("b", 3, 0, 600_000_000));
    }
}
