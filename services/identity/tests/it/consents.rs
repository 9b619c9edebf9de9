//! What persons agreed to or refused: by request and by trait, over merges, and its history.

use std::collections::BTreeSet;

use anyhow::Result;
use proptest::prelude::*;
use segue_identity::Config;
use segue_proto::identity::v1::get_person_request::Who;
use segue_proto::identity::v1::person_consent::Who as Whom;
use segue_proto::identity::v1::{
    BatchGetPersonsRequest, Consent, ConsentState, ListConsentsRequest, ListPersonsRequest, PersonConsent, SetConsentsRequest,
};
use segue_runtime::transport::for_tenant;
use segue_testkit::{TempStore, stores};
use tonic::{Code, Status};

use crate::harness::{Process, event, fields, identifier, log, other, persons, reason, shop};

/// `channel purpose yes|no seconds source`, without what goes without saying.
fn consent(line: &str) -> Consent {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [channel, purpose, state, time, source] = words[..] else { panic!("{line}") };
    let state = if state == "yes" { ConsentState::Granted } else { ConsentState::Refused };
    let seconds = time.parse().expect("a time");
    Consent {
        channel: channel.to_owned(),
        purpose: purpose.to_owned(),
        state: state.into(),
        time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        source: source.to_owned(),
        proof: String::new(),
    }
}

fn line(consent: &Consent) -> String {
    let state = match consent.state() {
        ConsentState::Granted => "yes",
        ConsentState::Refused => "no",
        ConsentState::Unspecified => "?",
    };
    let seconds = consent.time.map_or(-1, |time| time.seconds);
    format!("{} {} {state} {seconds} {}", consent.channel, consent.purpose, consent.source)
}

fn of_person(person: u32, line: &str) -> PersonConsent {
    PersonConsent { who: Some(Whom::Person(person)), consent: Some(consent(line)) }
}

fn of_identifier(kind: &str, value: &str, line: &str) -> PersonConsent {
    PersonConsent { who: Some(Whom::Identifier(identifier(kind, value))), consent: Some(consent(line)) }
}

async fn set(process: &Process, consents: Vec<PersonConsent>) -> Result<(), Status> {
    process.client.clone().set_consents(for_tenant(&shop(), SetConsentsRequest { consents })).await.map(drop)
}

async fn held(process: &Process, person: u32) -> Result<Vec<String>, Status> {
    Ok(process.person(Who::Number(person)).await?.consents.iter().map(line).collect())
}

/// The whole history, in pages.
async fn history(process: &Process, person: u32, page_size: i32) -> Result<Vec<Consent>, Status> {
    let (mut consents, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListConsentsRequest { person, page_size, page_token };
        let page = process.client.clone().list_consents(for_tenant(&shop(), request)).await?.into_inner();
        assert!(page_size == 0 || page.consents.len() <= page_size as usize);
        consents.extend(page.consents);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(consents);
        }
    }
}

fn lines(consents: &[Consent]) -> Vec<String> {
    consents.iter().map(line).collect()
}

#[tokio::test]
async fn the_later_consent_holds_of_equal_times_the_refusal_and_the_same_again_changes_nothing() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A e:m"]).await?;
        let both = vec![of_person(1, "push advertising yes 10 api"), of_identifier("e", "m", "email all no 10 import")];
        set(&process, both.clone()).await?;
        assert_eq!(held(&process, 1).await?, ["email all no 10 import", "push advertising yes 10 api"]);
        set(&process, both).await?;
        set(&process, vec![of_person(1, "push advertising no 9 api")]).await?;
        assert_eq!(held(&process, 1).await?[1], "push advertising yes 10 api", "an earlier one that arrives late");
        set(&process, vec![of_person(1, "push advertising no 10 unsubscribe_link"), of_person(1, "push advertising yes 10 zzz")]).await?;
        assert_eq!(held(&process, 1).await?[1], "push advertising no 10 unsubscribe_link");
        set(&process, vec![of_person(1, "push advertising yes 11 api")]).await?;
        // Long since overtaken, and known.
        set(&process, vec![of_person(1, "push advertising yes 10 api")]).await?;
        let said = lines(&history(&process, 1, 2).await?);
        assert_eq!((said.len(), said[0].as_str(), said[5].as_str()), (6, "push advertising yes 11 api", "push advertising no 9 api"));
        assert_eq!(said, lines(&history(&process, 1, 0).await?));
        let distinct: BTreeSet<&String> = said.iter().collect();
        assert_eq!(distinct.len(), 6);

        process.stop().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        let shown = process.person(Who::Identifier(identifier("e", "m"))).await?.consents;
        assert_eq!(lines(&shown), ["email all no 10 import", "push advertising yes 11 api"]);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_consent_without_a_time_is_of_now_and_keeps_its_proof() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A"]).await?;
        let said = Consent { time: None, proof: "form 3 \"ü\" 💌".to_owned(), ..consent("in_app our_news yes 0 api") };
        set(&process, vec![PersonConsent { who: Some(Whom::Person(1)), consent: Some(said.clone()) }]).await?;
        let expected = Consent { time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }), ..said };
        assert_eq!(process.person(Who::Number(1)).await?.consents, std::slice::from_ref(&expected));
        assert_eq!(history(&process, 1, 0).await?, [expected]);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_dated_to_the_future_does_not_outlast_what_is_said_after_it() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A"]).await?;
        set(&process, vec![of_person(1, "email advertising yes 250000000000 form")]).await?;
        let refused = Consent { time: None, ..consent("email advertising no 0 unsubscribe_link") };
        set(&process, vec![PersonConsent { who: Some(Whom::Person(1)), consent: Some(refused) }]).await?;
        let held = process.person(Who::Number(1)).await?.consents;
        assert_eq!((held.len(), held[0].state()), (1, ConsentState::Refused));
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_person_has_so_many_custom_consents_and_every_common_one() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A"]).await?;
        let person = 1;
        let most = segue_identity::consent::TOPICS_MAX;
        let custom = |range: std::ops::Range<usize>| range.map(|at| of_person(person, &format!("pager{at} all yes 5 api"))).collect();
        set(&process, custom(0..most - 1)).await?;
        set(&process, custom(most - 2..most + 50)).await?;
        set(&process, custom(most + 50..most + 60)).await?;
        assert_eq!(held(&process, person).await?.len(), most);
        set(&process, vec![of_person(person, "email advertising no 6 api"), of_person(person, "pager0 all no 6 api")]).await?;
        let held = held(&process, person).await?;
        assert!(held.contains(&"email advertising no 6 api".to_owned()) && held.contains(&"pager0 all no 6 api".to_owned()));
        assert_eq!(held.len(), most + 1);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn boolean_traits_of_persons_set_consents_and_nothing_else_does() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        let events = [
            "identify u:A df_push_optin=true df_push_ads_optin=true df_push_night_ads_optin=false @5",
            "u:A df_sms_ads_optin=maybe df_gender=f push_optin=true @5",
            "u:A account:acme df_email_optin=true @5",
        ];
        process.resolve("s", 1, &events).await?;
        let expected = ["push advertising yes 5 trait", "push all yes 5 trait", "push night_advertising no 5 trait"];
        assert_eq!(held(&process, 1).await?, expected);
        let proofs: Vec<String> = process.person(Who::Number(1)).await?.consents.into_iter().map(|consent| consent.proof).collect();
        assert_eq!(proofs, ["df_push_ads_optin", "df_push_optin", "df_push_night_ads_optin"]);

        // The trait goes on saying the same: the first and the last are kept; what a request said since holds against an older trait.
        process
            .resolve("s", 2, &["u:A df_push_ads_optin=true @6", "u:A df_push_ads_optin=true @8", "u:A df_push_ads_optin=true @7"])
            .await?;
        assert_eq!(held(&process, 1).await?[0], "push advertising yes 8 trait");
        set(&process, vec![of_person(1, "push advertising no 9 unsubscribe_link")]).await?;
        process.resolve("s", 3, &["u:A df_push_ads_optin=true @9"]).await?;
        assert_eq!(held(&process, 1).await?[0], "push advertising no 9 unsubscribe_link");
        process.resolve("s", 4, &["u:A df_push_ads_optin=true @10"]).await?;
        let said: Vec<String> = lines(&history(&process, 1, 1).await?).into_iter().filter(|line| line.contains(" advertising ")).collect();
        let times: Vec<&str> = said.iter().filter_map(|line| line.split(' ').nth(3)).collect();
        assert_eq!(times, ["10", "9", "9", "8", "5"], "{said:?}");
        // A batch that is asked for again says nothing again.
        process.resolve("s", 4, &["u:A df_push_ads_optin=true @10"]).await?;
        assert_eq!(history(&process, 1, 0).await?.len(), 7);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn merged_persons_have_their_consents_together() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A", "u:B p:t", "u:C"]).await?;
        let said = vec![
            of_person(1, "email advertising yes 10 api"),
            of_identifier("p", "t", "email advertising no 10 api"),
            of_person(2, "sms advertising yes 3 api"),
            of_person(3, "email advertising yes 20 api"),
        ];
        set(&process, said).await?;
        process.merge(1, 2).await?;
        assert_eq!(held(&process, 1).await?, ["email advertising no 10 api", "sms advertising yes 3 api"]);
        assert_eq!(history(&process, 1, 2).await?, history(&process, 2, 0).await?);
        // Of a number that was merged: it goes where the number goes.
        set(&process, vec![of_person(1, "push all no 1 api")]).await?;
        process.merge(2, 3).await?;
        assert_eq!(held(&process, 1).await?, ["email advertising yes 20 api", "push all no 1 api", "sms advertising yes 3 api"]);
        assert_eq!(history(&process, 3, 2).await?.len(), 5);

        let request = BatchGetPersonsRequest { numbers: vec![1, 9, 3] };
        let batch = process.client.clone().batch_get_persons(for_tenant(&shop(), request)).await?.into_inner().persons;
        assert_eq!(batch.iter().map(|person| person.consents.len()).collect::<Vec<_>>(), [3, 0, 3]);
        let page = process.client.clone().list_persons(for_tenant(&shop(), ListPersonsRequest::default())).await?.into_inner().persons;
        assert_eq!(page.iter().map(|person| lines(&person.consents)).collect::<Vec<_>>(), [held(&process, 3).await?]);
        let status =
            process.client.clone().list_consents(for_tenant(&other(), ListConsentsRequest { person: 1, ..Default::default() })).await;
        assert_eq!(status.expect_err("another tenant's").code(), Code::NotFound);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_wrong_anywhere_records_nothing() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A"]).await?;
        let good = of_person(1, "email all yes 10 api");
        let nobody = [
            of_person(2, "email all yes 10 api"),
            of_person(0, "email all yes 10 api"),
            of_identifier("u", "Z", "email all yes 10 api"),
            of_identifier("u", "null", "email all yes 10 api"),
            of_identifier("", "", "email all yes 10 api"),
            of_identifier("person_id", "7", "email all yes 10 api"),
        ];
        for missing in nobody {
            let status = set(&process, vec![good.clone(), missing.clone()]).await.expect_err("nobody");
            assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "PERSON_NOT_FOUND"), "{missing:?}");
            assert!(status.message().contains("consents[1]"), "{status}");
        }
        let of = |consent: Consent| PersonConsent { who: Some(Whom::Person(1)), consent: Some(consent) };
        let base = consent("email all yes 10 api");
        let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        let faulty = vec![
            good.clone(),
            PersonConsent { who: None, consent: Some(base.clone()) },
            of(Consent { channel: "E-Mail".to_owned(), purpose: String::new(), ..base.clone() }),
            of(Consent { state: 0, source: "s".repeat(65), proof: "p\0".to_owned(), ..base.clone() }),
            of(Consent { time: time(i64::MAX, 0), ..base.clone() }),
            of(Consent { time: time(1, -1), ..base.clone() }),
        ];
        let status = set(&process, faulty).await.expect_err("faulty");
        let expected = [
            "consents[1]",
            "consents[2].consent.channel",
            "consents[2].consent.purpose",
            "consents[3].consent.state",
            "consents[3].consent.source",
            "consents[3].consent.proof",
            "consents[4].consent.time",
            "consents[5].consent.time",
        ];
        assert_eq!(fields(&status), expected);
        for consents in [Vec::new(), vec![good.clone(); 1_001]] {
            assert_eq!(fields(&set(&process, consents).await.expect_err("0 or too many")), ["consents"]);
        }
        assert!(held(&process, 1).await?.is_empty());
        let of_nobody = history(&process, 2, 0).await.expect_err("nobody");
        assert_eq!(reason(&of_nobody), "PERSON_NOT_FOUND");
        for page_token in ["x", "1.2", "1.2.3.4", "1.x.3"] {
            let request = ListConsentsRequest { person: 1, page_size: 0, page_token: page_token.to_owned() };
            let status = process.client.clone().list_consents(for_tenant(&shop(), request)).await.expect_err("no token of ours");
            assert_eq!(fields(&status), ["page_token"], "{page_token}");
        }
        set(&process, vec![good; 1_000]).await?;
        assert_eq!(history(&process, 1, 0).await?.len(), 1, "the same a thousand times is one");
        process.stop().await?;
    }
    Ok(())
}

/// Something that happens to the users A, B, C and D, who are persons 1 to 4.
#[derive(Debug, Clone)]
enum Step {
    /// Person, whether named by identifier, and what.
    Set(Vec<(u32, bool, String)>),
    /// User, trait, value, time.
    Traits(Vec<(u32, &'static str, bool, i64)>),
    Merge(u32, u32),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let statement = (0..2usize, 0..2usize, any::<bool>(), 0..5i64, 0..2usize).prop_map(|(channel, purpose, yes, time, source)| {
        let (channel, purpose) = (["push", "email"][channel], ["all", "advertising"][purpose]);
        format!("{channel} {purpose} {} {time} {}", if yes { "yes" } else { "no" }, ["api", "import"][source])
    });
    let name = prop_oneof![Just("df_push_optin"), Just("df_push_ads_optin"), Just("df_email_ads_optin")];
    let step = prop_oneof![
        6 => prop::collection::vec((1..5u32, any::<bool>(), statement), 1..4).prop_map(Step::Set),
        6 => prop::collection::vec((1..5u32, name, any::<bool>(), 0..5i64), 1..5).prop_map(Step::Traits),
        2 => (1..5u32, 1..5u32).prop_filter("two", |(from, into)| from != into).prop_map(|(from, into)| Step::Merge(from, into)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..14)
}

fn user(person: u32) -> &'static str {
    ["", "A", "B", "C", "D"][person as usize]
}

/// Every statement with the number that it is of, and who is whose part.
struct Plain {
    said: Vec<(u32, String)>,
    into: [u32; 5],
}

impl Plain {
    fn root(&self, person: u32) -> u32 {
        if self.into[person as usize] == person { person } else { self.root(self.into[person as usize]) }
    }

    fn of(&self, person: u32) -> impl Iterator<Item = &String> {
        self.said.iter().filter(move |(of, _)| self.root(*of) == self.root(person)).map(|(_, said)| said)
    }

    /// Channel, purpose, state and time of what holds: of equal ones, which source is told is not said.
    fn held(&self, person: u32) -> Vec<String> {
        let mut best: std::collections::BTreeMap<(String, String), (i64, bool)> = Default::default();
        for said in self.of(person) {
            let words: Vec<&str> = said.split(' ').collect();
            let rank = (words[3].parse().expect("a time"), words[2] == "no");
            let known = best.entry((words[0].to_owned(), words[1].to_owned())).or_insert(rank);
            *known = rank.max(*known);
        }
        let state = |no: bool| if no { "no" } else { "yes" };
        best.into_iter().map(|((channel, purpose), (time, no))| format!("{channel} {purpose} {} {time}", state(no))).collect()
    }
}

async fn follow(store: &TempStore, steps: &[Step]) -> Result<()> {
    let (_place, log) = log().await?;
    let mut process = Process::start(store, &log, Config::default()).await?;
    let answer = process.resolve("s", 1, &["u:A", "u:B", "u:C", "u:D"]).await?;
    assert_eq!(persons(&answer), [1, 2, 3, 4]);
    let mut plain = Plain { said: Vec::new(), into: [0, 1, 2, 3, 4] };
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Set(said) => {
                let consents = said.iter().map(|(person, by_identifier, line)| match by_identifier {
                    true => of_identifier("u", user(*person), line),
                    false => of_person(*person, line),
                });
                let consents: Vec<PersonConsent> = consents.collect();
                set(&process, consents.clone()).await?;
                plain.said.extend(said.iter().map(|(person, _, line)| (*person, line.clone())));
                let before = history(&process, said[0].0, 0).await?;
                set(&process, consents).await?;
                assert_eq!(history(&process, said[0].0, 0).await?, before, "the same again");
            }
            Step::Traits(traits) => {
                let events = traits.iter().map(|(person, name, yes, time)| event(&format!("u:{} {name}={yes} @{time}", user(*person))));
                process.resolve_for(&shop(), "s", at as u64 + 2, events.collect()).await?;
                let said = traits.iter().map(|(person, name, yes, time)| {
                    let rest = name.trim_start_matches("df_").trim_end_matches("_optin");
                    let (channel, purpose) = rest.split_once('_').map_or((rest, "all"), |(channel, _)| (channel, "advertising"));
                    (plain.root(*person), format!("{channel} {purpose} {} {time} trait", if *yes { "yes" } else { "no" }))
                });
                let said: Vec<(u32, String)> = said.collect();
                plain.said.extend(said);
            }
            Step::Merge(from, into) => {
                process.merge(*from, *into).await?;
                let (from, into) = (plain.root(*from), plain.root(*into));
                plain.into[from as usize] = into;
            }
            Step::Restart => {
                process.stop().await?;
                process = Process::start(store, &log, Config::default()).await?;
            }
        }
        for person in 1..5 {
            let shown = held(&process, person).await?;
            let shown: Vec<&str> = shown.iter().filter_map(|line| line.rsplit_once(' ').map(|(line, _)| line)).collect();
            assert_eq!(shown, plain.held(person), "person {person} after {step:?}");
        }
    }
    for person in 1..5 {
        let told = history(&process, person, 3).await?;
        assert!(told.is_sorted_by_key(|consent| -consent.time.map_or(0, |time| time.seconds)));
        let told: BTreeSet<String> = told.iter().map(line).collect();
        let said: BTreeSet<String> = plain.of(person).cloned().collect();
        assert!(told.is_subset(&said) && held(&process, person).await?.iter().all(|line| told.contains(line)));
        assert!(said.difference(&told).all(|line| line.ends_with(" trait")), "only repetitions are forgotten");
    }
    process.stop().await?;
    log.close().await?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn consents_hold_as_the_plain_reading_of_their_rule_says(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        for store in stores() {
            runtime.block_on(follow(&store, &steps)).unwrap();
        }
    }
}
