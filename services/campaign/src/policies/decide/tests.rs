//! Decisions: the cases that the law and the contract name, and a plain reference.

use chrono::{DateTime, Datelike, NaiveDate, TimeZone, Timelike, Utc};
use proptest::prelude::*;

use super::*;
use crate::policies::default;

fn us(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().expect("a time").timestamp_micros()
}

fn consented(channel: &str, purpose: &str, state: ConsentState) -> Consent {
    Consent {
        channel: channel.to_owned(),
        purpose: purpose.to_owned(),
        state: state.into(),
        time: Some(prost_types::Timestamp { seconds: 1_767_312_000, nanos: 0 }),
        source: "trait".to_owned(),
        proof: "df_push_ads_optin".to_owned(),
    }
}

fn person(consents: &[Consent]) -> Profile {
    Profile { number: 7, consents: consents.to_vec(), ..Profile::default() }
}

fn case(person: &Profile) -> Case<'_> {
    Case {
        kind: ChannelKind::Fcm,
        purpose: Purpose::Advertising,
        person,
        time_zone: chrono_tz::Asia::Seoul,
        held_out: false,
        unsubscribed: false,
    }
}

fn verdict(policy: &SendingPolicy, case: &Case<'_>, at: &str) -> Verdict {
    decide(policy, case, us(at), &mut Vec::new())
}

fn reason(verdict: &Verdict) -> Option<SendReason> {
    match verdict {
        Verdict::Suppress { reason, .. } => Some(*reason),
        Verdict::Send { .. } | Verdict::WaitUntil { .. } => None,
    }
}

// 22:00 and 08:00 in Seoul.
const EVENING: &str = "2026-11-22T13:00:00Z";
const MORNING: &str = "2026-11-22T23:00:00Z";
const NOON: &str = "2026-11-22T03:00:00Z";

#[test]
fn advertising_at_night_without_consent_for_the_night_waits_for_the_morning_or_is_dropped() {
    let awake = person(&[consented("push", "advertising", ConsentState::Granted)]);
    let mut checked = Vec::new();
    let mut policy = default();
    assert_eq!(decide(&policy, &case(&awake), us(EVENING), &mut checked), Verdict::WaitUntil { time_us: us(MORNING) });
    let told: Vec<(&str, &str, &str)> = checked.iter().map(|check| (check.check, check.outcome, check.detail.as_str())).collect();
    assert_eq!(
        told,
        [
            ("holdout", "passed", "nobody is held out globally, nor the person by the scenario"),
            ("consent", "passed", "advertising by push was granted 2026-01-02T00:00:00Z by trait (df_push_ads_optin)"),
            ("quiet_hours", "waits", "`night` waits until 2026-11-23T08:00:00+09:00"),
        ]
    );
    assert_eq!(verdict(&policy, &case(&awake), MORNING), Verdict::Send { caps: Vec::new() });
    let both =
        person(&[consented("push", "advertising", ConsentState::Granted), consented("push", "night_advertising", ConsentState::Granted)]);
    assert_eq!(verdict(&policy, &case(&both), EVENING), Verdict::Send { caps: Vec::new() });
    let by_mail =
        person(&[consented("push", "advertising", ConsentState::Granted), consented("email", "night_advertising", ConsentState::Granted)]);
    assert_eq!(verdict(&policy, &case(&by_mail), EVENING), Verdict::WaitUntil { time_us: us(MORNING) }, "consent is by channel");
    let order = Case { purpose: Purpose::Transactional, ..case(&awake) };
    assert_eq!(verdict(&policy, &order, EVENING), Verdict::Send { caps: Vec::new() });
    let feed = Case { kind: ChannelKind::InApp, ..case(&awake) };
    assert_eq!(verdict(&policy, &feed, EVENING), Verdict::Send { caps: Vec::new() }, "a feed wakes nobody");
    policy.times[0].drop = true;
    assert_eq!(reason(&verdict(&policy, &case(&awake), EVENING)), Some(SendReason::QuietHours));
    assert_eq!(verdict(&policy, &case(&awake), MORNING), Verdict::Send { caps: Vec::new() });
}

#[test]
fn unknown_consent_is_no_unless_the_policy_takes_it_for_a_yes() {
    let mut policy = default();
    let nobody_knows = person(&[]);
    assert_eq!(reason(&verdict(&policy, &case(&nobody_knows), NOON)), Some(SendReason::NoConsent));
    let sends = |policy: &SendingPolicy, case: Case<'_>| verdict(policy, &case, NOON) == Verdict::Send { caps: Vec::new() };
    assert!(sends(&policy, Case { purpose: Purpose::Transactional, ..case(&nobody_knows) }));
    assert!(sends(&policy, Case { kind: ChannelKind::Webhook, ..case(&nobody_knows) }));
    assert!(sends(&policy, Case { kind: ChannelKind::InApp, ..case(&nobody_knows) }));
    assert!(!sends(&policy, Case { purpose: Purpose::Unspecified, ..case(&nobody_knows) }), "an unset purpose is advertising");
    policy.unknown_consent_is_yes = true;
    assert!(sends(&policy, case(&nobody_knows)));
    let refused = person(&[consented("push", "advertising", ConsentState::Refused)]);
    assert_eq!(reason(&verdict(&policy, &case(&refused), NOON)), Some(SendReason::NoConsent));
    assert!(sends(&policy, Case { purpose: Purpose::Transactional, ..case(&refused) }));
    assert!(sends(&policy, Case { kind: ChannelKind::Email, ..case(&refused) }), "by push is not by e-mail");
}

#[test]
fn who_refused_a_channel_as_a_whole_gets_nothing_by_it() {
    let gone = person(&[
        consented("push", "all", ConsentState::Refused),
        consented("push", "advertising", ConsentState::Granted),
        consented("in_app", "all", ConsentState::Refused),
    ]);
    let policy = SendingPolicy { unknown_consent_is_yes: true, ..default() };
    for purpose in [Purpose::Advertising, Purpose::Transactional] {
        for (kind, suppressed) in [
            (ChannelKind::Fcm, true),
            (ChannelKind::Apns, true),
            (ChannelKind::InApp, true),
            (ChannelKind::Sms, false),
            (ChannelKind::Webhook, false),
        ] {
            let found = reason(&verdict(&policy, &Case { kind, purpose, ..case(&gone) }, NOON));
            assert_eq!(found, suppressed.then_some(SendReason::NoConsent), "{kind:?} {purpose:?}");
        }
    }
    let let_be = person(&[consented("push", "all", ConsentState::Granted)]);
    assert_eq!(reason(&verdict(&default(), &case(&let_be), NOON)), Some(SendReason::NoConsent), "a yes to all is none to advertising");
}

#[test]
fn an_unsubscribed_person_still_gets_what_was_ordered() {
    let asked = person(&[consented("push", "advertising", ConsentState::Granted)]);
    let left = Case { unsubscribed: true, ..case(&asked) };
    assert_eq!(reason(&verdict(&default(), &left, NOON)), Some(SendReason::Unsubscribed));
    let order = Case { purpose: Purpose::Transactional, ..left };
    assert_eq!(verdict(&default(), &order, NOON), Verdict::Send { caps: Vec::new() });
}

#[test]
fn holdouts_come_first_and_the_global_one_is_about_advertising() {
    let unknown = person(&[]);
    let mut policy = SendingPolicy { global_holdout: 10_000, ..default() };
    let ad = case(&unknown);
    let order = Case { purpose: Purpose::Transactional, ..ad };
    assert_eq!(reason(&verdict(&policy, &ad, EVENING)), Some(SendReason::HeldOut), "before consent");
    assert_eq!(verdict(&policy, &order, EVENING), Verdict::Send { caps: Vec::new() });
    assert_eq!(reason(&verdict(&policy, &Case { held_out: true, ..order }, EVENING)), Some(SendReason::HeldOut));
    let bucket = Buckets::new("global_holdout").bucket(7);
    policy.global_holdout = bucket;
    assert_eq!(reason(&verdict(&policy, &ad, NOON)), Some(SendReason::NoConsent), "buckets below it are held out");
    policy.global_holdout = bucket + 1;
    assert_eq!(reason(&verdict(&policy, &ad, NOON)), Some(SendReason::HeldOut));
}

#[test]
fn caps_count_calendar_days_of_the_persons_zone() {
    let asked = person(&[consented("push", "advertising", ConsentState::Granted)]);
    let cap = |count, days, kinds: &[ChannelKind]| FrequencyCap { count, days, kinds: kinds.iter().map(|kind| (*kind).into()).collect() };
    let caps = vec![
        cap(3, 7, &[]),
        cap(1, 1, &[ChannelKind::Apns, ChannelKind::Fcm]),
        cap(2, 1, &[ChannelKind::Email]),
        cap(9, 31, &[ChannelKind::Fcm, ChannelKind::Apns]),
    ];
    let policy = SendingPolicy { caps, ..SendingPolicy::default() };
    let caps_of = |zone: Tz, at: &str, kind: ChannelKind| match verdict(&policy, &Case { time_zone: zone, kind, ..case(&asked) }, at) {
        Verdict::Send { caps } => caps.into_iter().map(|cap| (cap.counter, cap.count, cap.first_day, cap.day)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let day = |year, month, day| {
        NaiveDate::from_ymd_opt(year, month, day).map(|date| i64::from(date.num_days_from_ce()) - 719_163).expect("a date")
    };
    let today = day(2026, 11, 23);
    let expected = vec![
        ("email,fcm,apns,sms,kakao,in_app".to_owned(), 3, today - 6, today),
        ("fcm,apns".to_owned(), 1, today, today),
        ("fcm,apns".to_owned(), 9, today - 30, today),
    ];
    // Midnight in Seoul is at 15:00 UTC.
    assert_eq!(caps_of(chrono_tz::Asia::Seoul, "2026-11-22T15:00:00Z", ChannelKind::Fcm), expected);
    let before = caps_of(chrono_tz::Asia::Seoul, "2026-11-22T14:59:59.999999Z", ChannelKind::Fcm);
    assert_eq!(before.iter().map(|cap| cap.3).collect::<Vec<_>>(), [today - 1; 3]);
    assert_eq!(caps_of(chrono_tz::Pacific::Kiritimati, "2026-11-22T10:00:00Z", ChannelKind::Apns), expected);
    assert_eq!(caps_of(chrono_tz::America::Los_Angeles, "2026-11-24T07:59:59Z", ChannelKind::Fcm), expected);
    assert!(caps_of(chrono_tz::UTC, NOON, ChannelKind::Webhook).is_empty());
    let of_webhooks = FrequencyCap { count: 1, days: 1, kinds: vec![ChannelKind::Webhook.into()] };
    let webhooks = SendingPolicy { caps: vec![of_webhooks, policy.caps[0].clone()], ..SendingPolicy::default() };
    let hook = Case { kind: ChannelKind::Webhook, purpose: Purpose::Transactional, ..case(&asked) };
    let Verdict::Send { caps } = verdict(&webhooks, &hook, NOON) else { panic!("nothing keeps it back") };
    assert_eq!(caps.iter().map(|cap| cap.counter.as_str()).collect::<Vec<_>>(), ["webhook"], "who names webhooks means them");
    let order = Case { purpose: Purpose::Transactional, ..case(&asked) };
    assert_eq!(verdict(&policy, &order, NOON), Verdict::Send { caps: Vec::new() }, "what was ordered is not capped");
}

#[test]
fn after_one_quiet_time_the_next_is_looked_at() {
    let asked = person(&[consented("push", "advertising", ConsentState::Granted)]);
    let rule = |name: &str, from: &str, to: &str, drop: bool| TimeRule {
        name: name.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        drop,
        ..TimeRule::default()
    };
    let mut policy = SendingPolicy {
        times: vec![rule("early", "08:00", "10:00", false), rule("night", "21:00", "08:00", false)],
        ..SendingPolicy::default()
    };
    let mut checked = Vec::new();
    let at_ten = Verdict::WaitUntil { time_us: us("2026-11-23T01:00:00Z") };
    assert_eq!(decide(&policy, &case(&asked), us(EVENING), &mut checked), at_ten);
    assert_eq!(checked.last().map(|check| check.detail.as_str()), Some("`night`, then `early` waits until 2026-11-23T10:00:00+09:00"));
    policy.times[0].drop = true;
    assert_eq!(
        verdict(&policy, &case(&asked), EVENING),
        Verdict::WaitUntil { time_us: us(MORNING) },
        "whether it is dropped is decided then"
    );
    assert_eq!(reason(&verdict(&policy, &case(&asked), MORNING)), Some(SendReason::QuietHours));
    policy.times = vec![rule("day", "08:00", "20:00", false), rule("night", "20:00", "08:00", false)];
    assert!(matches!(verdict(&policy, &case(&asked), NOON), Verdict::WaitUntil { time_us } if time_us > us(NOON)), "it ends");
}

/// The same by plain steps of a minute.
fn reference(policy: &SendingPolicy, case: &Case<'_>, now_us: i64) -> Verdict {
    let suppress = |reason| Verdict::Suppress { reason, detail: String::new() };
    let ads = case.purpose != Purpose::Transactional;
    if case.held_out || (ads && Buckets::new("global_holdout").bucket(case.person.number) < policy.global_holdout) {
        return suppress(SendReason::HeldOut);
    }
    let state = |purpose: &str| {
        let channel = consent_channel(case.kind)?;
        case.person.consents.iter().find(|consent| consent.channel == channel && consent.purpose == purpose).map(Consent::state)
    };
    if case.kind != ChannelKind::Webhook {
        if case.unsubscribed && ads {
            return suppress(SendReason::Unsubscribed);
        }
        let unknown_is_yes = policy.unknown_consent_is_yes || case.kind == ChannelKind::InApp;
        let advertised = match state("advertising") {
            Some(ConsentState::Granted) => true,
            Some(ConsentState::Refused) => false,
            _ => unknown_is_yes,
        };
        if state("all") == Some(ConsentState::Refused) || (ads && !advertised) {
            return suppress(SendReason::NoConsent);
        }
    }
    let holds = |rule: &TimeRule, at_us: i64| {
        let zone: Tz = if rule.time_zone.is_empty() { case.time_zone } else { rule.time_zone.parse().expect("a zone") };
        let local = zone.from_utc_datetime(&DateTime::from_timestamp_micros(at_us).expect("a time").naive_utc());
        let clock = format!("{:02}:{:02}", local.hour(), local.minute());
        let quiet = match rule.from < rule.to {
            true => rule.from <= clock && clock < rule.to,
            false => rule.from <= clock || clock < rule.to,
        };
        let kind = match rule.kinds.is_empty() {
            true => ![ChannelKind::Webhook, ChannelKind::InApp].contains(&case.kind),
            false => rule.kinds.contains(&(case.kind as i32)),
        };
        let purpose = rule.purpose == 0 || (rule.purpose == Purpose::Advertising as i32) == ads;
        let granted = !rule.unless_consent.is_empty() && state(&rule.unless_consent) == Some(ConsentState::Granted);
        quiet && kind && purpose && !granted
    };
    let mut at_us = now_us;
    while let Some(rule) = policy.times.iter().find(|rule| holds(rule, at_us)) {
        if rule.drop && at_us == now_us {
            return suppress(SendReason::QuietHours);
        }
        if rule.drop {
            break;
        }
        while holds(rule, at_us) {
            at_us = at_us - at_us.rem_euclid(60_000_000) + 60_000_000;
        }
        if at_us > now_us + 4 * 86_400_000_000 {
            return Verdict::WaitUntil { time_us: i64::MAX };
        }
    }
    if at_us > now_us {
        return Verdict::WaitUntil { time_us: at_us };
    }
    let local = case.time_zone.from_utc_datetime(&DateTime::from_timestamp_micros(now_us).expect("a time").naive_utc());
    let day = i64::from(local.num_days_from_ce()) - 719_163;
    let every = "email,fcm,apns,sms,kakao,in_app";
    let mut caps = Vec::new();
    for cap in policy.caps.iter().filter(|_| ads || case.kind == ChannelKind::Webhook) {
        let mut kinds: Vec<ChannelKind> = cap.kinds().collect();
        kinds.sort_by_key(|kind| *kind as i32);
        let capped = if kinds.is_empty() { case.kind != ChannelKind::Webhook } else { kinds.contains(&case.kind) };
        let names = kinds.iter().map(|kind| kind.as_str_name()["CHANNEL_KIND_".len()..].to_lowercase()).collect::<Vec<_>>().join(",");
        let counter = if kinds.is_empty() { every.to_owned() } else { names };
        if capped {
            caps.push(Cap { counter, count: cap.count, first_day: day - i64::from(cap.days) + 1, day });
        }
    }
    Verdict::Send { caps }
}

fn any_kind() -> impl Strategy<Value = ChannelKind> {
    (1..=7).prop_map(|kind| ChannelKind::try_from(kind).expect("a kind"))
}

fn any_kinds() -> impl Strategy<Value = Vec<i32>> {
    proptest::sample::subsequence((1..=7).collect::<Vec<i32>>(), 0..=3)
}

fn any_rule() -> impl Strategy<Value = TimeRule> {
    let clock = || (0..48u32).prop_map(|half| format!("{:02}:{:02}", half / 2, half % 2 * 30));
    let zone = proptest::sample::select(vec!["", "", "Asia/Seoul", "Europe/Berlin"]);
    let unless = proptest::sample::select(vec!["", "", "night_advertising", "advertising"]);
    (clock(), clock(), any_kinds(), 0..=2i32, unless, zone, prop::bool::weighted(0.2))
        .prop_filter("no empty rule", |(from, to, ..)| from != to)
        .prop_map(|(from, to, kinds, purpose, unless, zone, drop)| TimeRule {
            name: "r".to_owned(),
            from,
            to,
            kinds,
            purpose,
            unless_consent: unless.to_owned(),
            time_zone: zone.to_owned(),
            drop,
        })
}

fn any_policy() -> impl Strategy<Value = SendingPolicy> {
    let cap = (1..5u32, 1..=31u32, any_kinds()).prop_map(|(count, days, kinds)| FrequencyCap { count, days, kinds });
    let holdout = prop_oneof![Just(0u32), Just(5_000), 0..=10_000u32];
    (holdout, any::<bool>(), prop::collection::vec(cap, 0..3), prop::collection::vec(any_rule(), 0..4)).prop_map(
        |(global_holdout, unknown_consent_is_yes, caps, times)| SendingPolicy {
            global_holdout,
            unknown_consent_is_yes,
            caps,
            times,
            ..SendingPolicy::default()
        },
    )
}

fn any_person() -> impl Strategy<Value = Profile> {
    let consent = |channel: &'static str, purpose: &'static str, weight: f64| {
        prop::option::weighted(weight, prop::bool::weighted(0.8)).prop_map(move |granted| {
            granted.map(|granted| consented(channel, purpose, if granted { ConsentState::Granted } else { ConsentState::Refused }))
        })
    };
    let consents = ["push", "email", "sms", "kakao", "in_app"]
        .into_iter()
        .flat_map(|channel| {
            [consent(channel, "all", 0.2), consent(channel, "advertising", 0.8), consent(channel, "night_advertising", 0.4)]
        })
        .collect::<Vec<_>>();
    (1..1_000u32, consents).prop_map(|(number, consents)| Profile {
        number,
        consents: consents.into_iter().flatten().collect(),
        ..Profile::default()
    })
}

/// Around the days on which clocks are moved in Berlin and Los Angeles, and others.
fn any_moment() -> impl Strategy<Value = i64> {
    let day =
        proptest::sample::select(vec!["2026-03-08T00:00:00Z", "2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z", "2026-11-01T00:00:00Z"]);
    let within = prop_oneof![(0..2_880i64).prop_map(|minute| minute * 60_000_000), 0..172_800_000_000i64];
    (day, within).prop_map(|(day, within)| us(day) + within)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn decisions_are_those_of_a_plain_reference(
        policy in any_policy(),
        person in any_person(),
        kind in any_kind(),
        purpose in 0..=2i32,
        zone in proptest::sample::select(vec![
            chrono_tz::UTC, chrono_tz::Asia::Seoul, chrono_tz::Europe::Berlin, chrono_tz::America::Los_Angeles,
            chrono_tz::Australia::Lord_Howe,
        ]),
        held_out in prop::bool::weighted(0.05),
        unsubscribed in prop::bool::weighted(0.05),
        now_us in any_moment(),
    ) {
        let purpose = Purpose::try_from(purpose).expect("a purpose");
        let case = Case { kind, purpose, person: &person, time_zone: zone, held_out, unsubscribed };
        let mut checked = Vec::new();
        let found = decide(&policy, &case, now_us, &mut checked);
        prop_assert!(!checked.is_empty());
        prop_assert_eq!(&found, &decide(&policy, &case, now_us, &mut Vec::new()));
        match (found, reference(&policy, &case, now_us)) {
            (Verdict::Suppress { reason, detail }, Verdict::Suppress { reason: expected, .. }) => {
                prop_assert_eq!(reason, expected);
                prop_assert_eq!(checked.last().map(|check| (check.outcome, check.detail.as_str())), Some(("suppressed", detail.as_str())));
            }
            // Rules without a gap: it waits on and on.
            (Verdict::WaitUntil { time_us }, Verdict::WaitUntil { time_us: i64::MAX }) => prop_assert!(time_us > now_us),
            (found, expected) => prop_assert_eq!(found, expected),
        }
    }
}
