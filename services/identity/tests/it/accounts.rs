//! Accounts: traits and members from GROUP events, and the limits of what belongs to one person or account.

use anyhow::Result;
use segue_identity::Config;
use segue_model::TenantId;
use segue_proto::identity::v1::get_person_request::Who;
use segue_proto::identity::v1::{Account, GetAccountRequest, GetPersonRequest, MergePersonsRequest, Person, Subject, Trait};
use segue_runtime::transport::for_tenant;
use segue_testkit::stores;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Process, event, identifier, log, other, persons, shop, text};
use crate::scenarios::World;

async fn account_of(process: &Process, tenant: &TenantId, account: &str) -> Result<Account, Status> {
    let request = GetAccountRequest { account_id: account.to_owned() };
    Ok(process.client.clone().get_account(for_tenant(tenant, request)).await?.into_inner())
}

async fn account(process: &Process, account: &str) -> Result<Account, Status> {
    account_of(process, &shop(), account).await
}

async fn user_of(process: &Process, tenant: &TenantId, user: &str) -> Result<Person, Status> {
    let request = GetPersonRequest { who: Some(Who::Identifier(identifier("u", user))) };
    Ok(process.client.clone().get_person(for_tenant(tenant, request)).await?.into_inner())
}

async fn user(process: &Process, user: &str) -> Result<Person, Status> {
    user_of(process, &shop(), user).await
}

fn values(traits: &[Trait]) -> Vec<(String, String, i64)> {
    let show = |set: &Trait| {
        let value = set.value.clone().unwrap_or_default();
        let seconds = set.set_at.map_or(0, |time| time.seconds);
        (set.name.clone(), format!("{:?}", value.kind), seconds)
    };
    traits.iter().map(show).collect()
}

fn names(traits: &[Trait]) -> Vec<&str> {
    traits.iter().map(|set| set.name.as_str()).collect()
}

/// `name=value` as [`values`] shows it.
fn value(name: &str, value: &str, seconds: i64) -> (String, String, i64) {
    (name.to_owned(), format!("{:?}", text(value).kind), seconds)
}

fn seconds(time: Option<prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds)
}

#[tokio::test]
async fn a_group_event_sets_traits_of_its_account_and_makes_its_person_a_member() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        let events = [
            "u:A account:acme plan=free seats=5 @10",
            "identify u:A plan=private @11",
            "u:B account:acme plan=pro @30",
            "u:A account:acme plan=late @20",
            "u:A account:home @25",
            "account:acme city=Seoul @5",
            "u:C",
        ];
        let answer = process.resolve("s", 1, &events).await?;
        assert_eq!(persons(&answer), [1, 1, 2, 1, 1, 0, 3]);
        let acme = account(&process, "acme").await?;
        assert_eq!((acme.account_id.as_str(), acme.persons), ("acme", 2));
        assert_eq!(values(&acme.traits), [value("city", "Seoul", 5), value("plan", "pro", 30), value("seats", "5", 10)]);
        assert_eq!((seconds(acme.first_seen_at), seconds(acme.last_seen_at)), (5, 30));
        let person = user(&process, "A").await?;
        assert_eq!(person.account_ids, ["home", "acme"], "the one seen last first");
        assert_eq!(values(&person.traits), [value("plan", "private", 11)], "an account's traits are not the person's");
        assert_eq!(user(&process, "C").await?.account_ids, Vec::<String>::new());

        // Of equal times the later wins, in one batch or in two; the same batch again changes nothing.
        process.resolve("s", 2, &["account:acme plan=x @30", "account:acme plan=y @30"]).await?;
        let events = ["account:acme plan=z @30", "u:A account:acme @40", "u:A account:home @40"];
        let answer = process.resolve("s", 3, &events).await?;
        process.resolve("another", 1, &["account:acme plan=last @30"]).await?;
        assert_eq!(process.resolve("s", 3, &events).await?, answer);
        process.stop().await?;

        let process = Process::start(&store, &log, Config::default()).await?;
        assert_eq!(process.resolve("s", 3, &events).await?, answer, "after a restart");
        let acme = account(&process, "acme").await?;
        assert_eq!(values(&acme.traits)[1], value("plan", "last", 30));
        assert_eq!((acme.persons, seconds(acme.first_seen_at), seconds(acme.last_seen_at)), (2, 5, 40));
        assert_eq!(user(&process, "A").await?.account_ids, ["acme", "home"], "seen at the same time: by id");
        let status = account_of(&process, &other(), "acme").await.expect_err("another tenant's");
        assert_eq!(status.code(), Code::NotFound);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_names_no_account_is_ignored_and_the_event_still_counts() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        let group = |account: &str| Subject { account_id: account.to_owned(), ..event("group u:A plan=x @1") };
        let track = Subject { account_id: "acme".into(), ..event("u:A plan=mine @1") };
        let ids = ["", " ", "null", "0000", "a\0b", &"long".repeat(300)];
        let subjects = ids.iter().map(|id| group(id)).chain([track]).collect::<Vec<_>>();
        assert_eq!(persons(&process.resolve_for(&shop(), "s", 1, subjects).await?), [1; 7]);
        let person = user(&process, "A").await?;
        assert_eq!((person.account_ids.len(), values(&person.traits)), (0, vec![value("plan", "mine", 1)]));
        for id in ids.iter().skip(1).copied().chain(["acme"]) {
            let status = account(&process, id).await.expect_err("no account");
            let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
            assert_eq!((status.code(), reason.as_deref()), (Code::NotFound, Some("ACCOUNT_NOT_FOUND")), "{id:?}");
        }
        let status = account(&process, "").await.expect_err("no id");
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.bad_request().map(|bad| bad.field_violations[0].field.clone()).as_deref(), Some("account_id"));
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_merge_keeps_the_memberships_of_both() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        // In one transaction, over two, and on request.
        process.resolve("s", 1, &["u:A account:one @1", "d:x account:two @2", "d:x account:one @3", "u:A d:x @4"]).await?;
        let person = user(&process, "A").await?;
        assert_eq!((person.account_ids, person.merged_numbers), (vec!["one".to_owned(), "two".to_owned()], vec![2]));
        assert_eq!((account(&process, "one").await?.persons, account(&process, "two").await?.persons), (1, 1));

        process.resolve("s", 2, &["d:y account:three @5", "d:y account:one @6"]).await?;
        assert_eq!(account(&process, "one").await?.persons, 2);
        process.resolve("s", 3, &["u:A d:y @7", "d:y account:four @8"]).await?;
        assert_eq!(user(&process, "A").await?.account_ids, ["four", "one", "three", "two"]);
        assert_eq!(account(&process, "one").await?.persons, 1);

        process.resolve("s", 4, &["u:B account:five @9", "u:B account:two @9"]).await?;
        let merge = MergePersonsRequest { from: 1, into: 4, force: true, ..MergePersonsRequest::default() };
        let merged = process.client.clone().merge_persons(for_tenant(&shop(), merge)).await?.into_inner().person;
        let accounts = merged.map(|person| person.account_ids).unwrap_or_default();
        assert_eq!(accounts, ["five", "two", "four", "one", "three"], "the survivor of a chain has those of all");
        assert_eq!(account(&process, "two").await?.persons, 1);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_person_belongs_to_at_most_a_hundred_accounts_those_that_came_first() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        let groups = |range: std::ops::Range<usize>| range.map(|n| event(&format!("u:A account:g{n} plan={n} @{n}"))).collect::<Vec<_>>();
        process.resolve_for(&shop(), "s", 1, groups(0..60)).await?;
        process.resolve_for(&shop(), "s", 2, groups(50..130)).await?;
        let person = user(&process, "A").await?;
        assert_eq!((person.account_ids.len(), person.account_ids[0].as_str()), (100, "g99"));
        let ignored = account(&process, "g100").await?;
        assert_eq!((ignored.persons, values(&ignored.traits)), (0, vec![value("plan", "100", 100)]), "the account itself is kept");
        // What is known goes on being noted, and others have their own room.
        process.resolve("s", 3, &["u:A account:g7 @900", "u:A account:g120 @901", "u:B account:g120 @902"]).await?;
        assert_eq!(user(&process, "A").await?.account_ids[0], "g7");
        assert_eq!(user(&process, "B").await?.account_ids, ["g120"]);
        // A person that becomes part of the full one keeps its own.
        process.resolve("s", 4, &["d:x account:h @1000", "u:A d:x"]).await?;
        let person = user(&process, "A").await?;
        assert_eq!((person.account_ids.len(), person.account_ids[0].as_str()), (101, "h"));
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_person_and_an_account_have_at_most_two_hundred_traits_those_that_came_first() -> Result<()> {
    for (who, is_account) in [("identify u:A", false), ("account:acme", true)] {
        for store in stores() {
            let (_place, log) = log().await?;
            let process = Process::start(&store, &log, Config::default()).await?;
            let set = |range: std::ops::Range<usize>| range.map(|n| event(&format!("{who} t{n:03}={n} @{n}"))).collect::<Vec<_>>();
            let traits = async || -> Result<Vec<Trait>, Status> {
                Ok(if is_account { account(&process, "acme").await?.traits } else { user(&process, "A").await?.traits })
            };
            process.resolve_for(&shop(), "s", 1, set(0..150)).await?;
            process.resolve_for(&shop(), "s", 2, set(140..250)).await?;
            let all = (0..200).map(|n| format!("t{n:03}")).collect::<Vec<_>>();
            assert_eq!(names(&traits().await?), all);
            // Known ones go on changing; new ones stay out, however late, except for those that reports group by.
            let event = format!("{who} t000=new t240=new df_gender=f @9000");
            let answer = process.resolve("s", 3, &[event.as_str()]).await?;
            let traits = traits().await?;
            assert_eq!(values(&traits).iter().find(|(name, ..)| name == "t000"), Some(&value("t000", "new", 9000)));
            assert_eq!(traits.len(), if is_account { 200 } else { 201 });
            assert_eq!(names(&traits).contains(&"df_gender"), !is_account);
            assert_eq!(answer.profiles.len(), usize::from(!is_account));
            process.stop().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_a_limit_leaves_out_does_not_depend_on_how_events_are_batched() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        let mut events: Vec<Subject> = (0..199).map(|n| event(&format!("identify u:A t{n:03}=1 @1"))).collect();
        events.extend((0..99).map(|n| event(&format!("u:A account:g{n:02} @1"))));
        // One place is left. `x` comes first, though its last value is set after `y`; and a merge comes in between.
        for line in [
            "identify u:A x=1 @5",
            "u:A account:x @5",
            "identify u:A y=1 @6",
            "u:A account:y @6",
            "identify d:1 z=1 @6",
            "d:1 account:z @6",
            "u:A d:1 @6",
            "identify u:A x=2 w=1 @7",
            "u:A account:x @7",
            "u:A account:w @7",
        ] {
            events.push(event(line));
        }
        process.resolve_for(&shop(), "s", 1, events.clone()).await?;
        for (sequence, event) in events.into_iter().enumerate() {
            process.resolve_for(&other(), "s", sequence as u64 + 1, vec![event]).await?;
        }
        let (together, apart) = (user_of(&process, &shop(), "A").await?, user_of(&process, &other(), "A").await?);
        assert_eq!((&together.traits, &together.account_ids), (&apart.traits, &apart.account_ids));
        assert_eq!((together.traits.len(), together.account_ids.len()), (201, 101));
        assert_eq!(names(&together.traits)[199..], ["x", "z"]);
        assert_eq!(together.account_ids[..2], ["x", "z"]);
        process.stop().await?;
    }
    Ok(())
}

#[test]
fn events_without_an_account_note_nothing_about_accounts() {
    let mut world = World::new();
    for line in ["u:A d:x", "identify u:A plan=x", "group u:A plan=x", "u:B alias:x", "d:x logout"] {
        world.resolve(event(line));
    }
    assert!(world.effects.accounts.is_empty() && world.effects.account_traits.is_empty() && world.effects.memberships.is_empty());
}
