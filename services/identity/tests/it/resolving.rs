//! ResolveBatch through the service: one answer per batch, whatever happens between.

use std::collections::BTreeSet;

use anyhow::Result;
use proptest::prelude::*;
use segue_identity::Config;
use segue_proto::identity::v1::{GetAccountRequest, GetPersonRequest, ResolveBatchResponse, get_person_request::Who};
use segue_runtime::transport::for_tenant;
use segue_testkit::{TempStore, stores};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Process, event, identifier, log, other, persons, shop, text};
use crate::reference::{Reference, line};

#[tokio::test]
async fn the_same_batch_again_gives_the_same_answer_and_no_second_effect() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        let events = ["d:x", "u:A", "identify u:A df_membership=gold @5", "u:A d:x"];
        let answer = process.resolve("ingest.accepted.0", 7, &events).await?;
        assert_eq!(persons(&answer), [1, 2, 2, 2]);
        // Later effects of another source do not reach into the answer.
        process.resolve("ingest.accepted.1", 1, &["identify u:A df_membership=silver @9", "u:B"]).await?;
        assert_eq!(process.resolve("ingest.accepted.0", 7, &events).await?, answer);
        process.stop().await?;

        let process = Process::start(&store, &log, Config::default()).await?;
        assert_eq!(process.resolve("ingest.accepted.0", 7, &events).await?, answer, "after a restart");
        let next = process.resolve("ingest.accepted.0", 8, &["d:x", "u:C"]).await?;
        assert_eq!(persons(&next), [2, 4], "numbers go on without gaps");
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_lower_sequence_is_refused_as_stale() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 7, &["u:A"]).await?;
        let status = process.resolve("s", 6, &["u:B"]).await.expect_err("stale");
        assert_eq!(status.code(), Code::FailedPrecondition);
        let info = status.get_error_details().error_info().cloned().expect("error info");
        assert_eq!((info.reason.as_str(), info.metadata.get("last").map(String::as_str)), ("STALE_SEQUENCE", Some("7")));
        assert_eq!(persons(&process.resolve("other source", 6, &["u:B"]).await?), [2]);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_repeated_through_another_process_gets_its_answer_and_a_lower_one_is_stale() -> Result<()> {
    // Batches with effects change the tenant's version, which tells the other process; those without do not.
    for effects in [true, false] {
        let line = |user: u32| if effects { format!("u:{user}") } else { "u:1".to_owned() };
        for store in stores() {
            let (_place, log) = log().await?;
            let first = Process::start(&store, &log, Config::default()).await?;
            let second = Process::start(&store, &log, Config::default()).await?;
            first.resolve("warm", 1, &[&line(1)]).await?;

            // The second remembers to have answered 9 last. The answer to 10 gets lost, and the source asks elsewhere.
            second.resolve("s", 9, &[&line(1)]).await?;
            let answer = first.resolve("s", 10, &[&line(2)]).await?;
            assert_eq!(second.resolve("s", 10, &[&line(2)]).await?, answer, "effects: {effects}");

            // The same while another source asks too, which perhaps shares the transaction.
            second.resolve("t", 1, &[&line(1)]).await?;
            let answer = first.resolve("t", 2, &[&line(3)]).await?;
            let (repeated, known) = (line(3), line(1));
            let (repeated, known) = ([repeated.as_str()], [known.as_str()]);
            let (again, other) = futures::join!(second.resolve("t", 2, &repeated), second.resolve("other", 1, &known));
            assert_eq!(again?, answer, "effects: {effects}");
            assert_eq!(persons(&other?), [1], "effects: {effects}");

            second.resolve("u", 1, &[&line(1)]).await?;
            first.resolve("u", 2, &[&line(4)]).await?;
            first.resolve("u", 3, &[&line(5)]).await?;
            let status = second.resolve("u", 2, &[&line(4)]).await.expect_err("stale");
            let info = status.get_error_details().error_info().cloned().expect("error info");
            assert_eq!((info.reason.as_str(), info.metadata.get("last").map(String::as_str)), ("STALE_SEQUENCE", Some("3")));
            assert_eq!(persons(&second.resolve("u", 4, &["u:new"]).await?), [if effects { 6 } else { 2 }], "numbers go on without gaps");
            first.stop().await?;
            second.stop().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn tenants_do_not_see_each_other() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A", "u:B d:x"]).await?;
        let answer = process.resolve_for(&other(), "s", 1, vec![event("u:B d:x")]).await?;
        assert_eq!((persons(&answer), answer.resolutions[0].device), (vec![1], 1));
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn profiles_of_the_persons_of_a_batch_come_with_its_answer() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["identify u:A df_gender=f plan=x @5", "identify d:x df_birth=1990 df_gender=m @6", "u:B"]).await?;
        process.stop().await?;
        // A new process has to load them.
        let process = Process::start(&store, &log, Config::default()).await?;
        let answer = process.resolve("s", 2, &["d:x", "u:A d:x", "u:B", "u:A"]).await?;
        let profiles: Vec<(u32, Vec<&str>)> = answer
            .profiles
            .iter()
            .map(|profile| {
                let mut names: Vec<&str> = profile.traits.keys().map(String::as_str).collect();
                names.sort_unstable();
                (profile.person, names)
            })
            .collect();
        // Number 2 is part of 1 since the second event; whoever was told 2 is told the same traits.
        assert_eq!(profiles, [(2, vec!["df_birth", "df_gender"]), (1, vec!["df_birth", "df_gender"])]);
        assert_eq!(answer.profiles[1].traits["df_gender"], text("m"), "the later value wins");
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn concurrent_callers_get_dense_numbers_and_one_person_per_user() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        // Two processes over one store: what replicas do. SQLite is used by one process, so there it is the same one twice.
        let first = Process::start(&store, &log, Config::default()).await?;
        let second = Process::start(&store, &log, Config::default()).await?;
        let calls = (0..24u64).map(|call| {
            let process = if call % 2 == 0 { &first } else { &second };
            async move {
                let lines: Vec<String> = (0..20).map(|n| format!("u:U{} d:D{n}", (call + n) % 30)).collect();
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                process.resolve(&format!("s{call}"), 1, &lines).await
            }
        });
        let answers: Vec<ResolveBatchResponse> = futures::future::try_join_all(calls).await?;
        let mut person_of = std::collections::BTreeMap::new();
        for (call, answer) in answers.iter().enumerate() {
            for (n, person) in persons(answer).into_iter().enumerate() {
                assert_eq!(*person_of.entry((call + n) % 30).or_insert(person), person);
            }
        }
        let mut numbers: Vec<u32> = person_of.into_values().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=30).collect::<Vec<u32>>());
        first.stop().await?;
        second.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_small_cache_changes_nothing_but_speed() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let config = Config { cache_bytes_max: 1 << 20, ..Config::default() };
        let process = Process::start(&store, &log, config).await?;
        for round in 0..2u64 {
            for batch in 0..6u64 {
                let subjects = (0..2_000).map(|n| event(&format!("u:{0} d:{0}", batch * 2_000 + n + 1))).collect();
                let answer = process.resolve_for(&shop(), "s", round * 100 + batch + 1, subjects).await?;
                let expected: Vec<u32> = (1..=2_000).map(|n| (batch * 2_000 + n) as u32).collect();
                assert_eq!(persons(&answer), expected);
            }
        }
        process.stop().await?;
    }
    Ok(())
}

/// Random batches, with repeated calls and restarts between, against the plain reading of the rules.
async fn follow(store: &TempStore, batches: &[(Vec<String>, bool, bool)]) -> Result<()> {
    let (_place, log) = log().await?;
    let mut process = Process::start(store, &log, Config::default()).await?;
    let mut reference = Reference::default();
    for (sequence, (lines, again, restart)) in batches.iter().enumerate() {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = process.resolve("s", sequence as u64 + 1, &lines).await?;
        for (line, resolution) in lines.iter().zip(&answer.resolutions) {
            let mut event = event(line);
            event.identifiers.retain(|id| id.value != "null");
            if event.previous_id == "0" {
                event.kind = 0;
            }
            assert_eq!((resolution.person, resolution.device), reference.resolve(&event), "{line}");
        }
        if *restart {
            process.stop().await?;
            process = Process::start(store, &log, Config::default()).await?;
        }
        if *again || *restart {
            assert_eq!(process.resolve("s", sequence as u64 + 1, &lines).await?, answer);
        }
    }
    for (kind, value) in [("u", "A"), ("u", "B"), ("d", "1"), ("d", "2"), ("a", "1"), ("e", "1")] {
        let identifier = identifier(kind, value);
        let owner = reference.owner(&(identifier.kind.clone(), identifier.value.clone())) as u32;
        let request = GetPersonRequest { who: Some(Who::Identifier(identifier)) };
        match process.client.get_person(for_tenant(&shop(), request)).await {
            Ok(person) => {
                let person = person.into_inner();
                assert_eq!(person.number, owner);
                let plan = person.traits.iter().find(|set| set.name == "plan").and_then(|set| set.value.clone());
                assert_eq!(plan.map(|value| format!("{value:?}")), reference.trait_of(owner as usize, "plan"));
                assert_eq!(person.account_ids.into_iter().collect::<BTreeSet<_>>(), reference.accounts_of(owner as usize));
            }
            Err(status) => assert_eq!((status.code(), owner), (Code::NotFound, 0)),
        }
    }
    for account in ["g0", "g1", "g2"] {
        let request = GetAccountRequest { account_id: account.to_owned() };
        let (persons, plan) = match process.client.get_account(for_tenant(&shop(), request)).await {
            Ok(found) => {
                let found = found.into_inner();
                let plan = found.traits.iter().find(|set| set.name == "plan").and_then(|set| set.value.clone());
                (found.persons, plan.map(|value| format!("{value:?}")))
            }
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound);
                (0, None)
            }
        };
        assert_eq!(persons, reference.members_of(account).len() as u64, "{account}");
        assert_eq!(plan, reference.trait_of_account(account, "plan"), "{account}");
    }
    process.stop().await?;
    log.close().await?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn random_streams_with_retries_and_restarts_resolve_as_the_rules_say(
        batches in prop::collection::vec((prop::collection::vec(line(), 0..12), any::<bool>(), prop::bool::weighted(0.2)), 1..12)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        for store in stores() {
            runtime.block_on(follow(&store, &batches)).unwrap();
        }
    }
}
