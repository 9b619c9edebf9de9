//! Taking identifiers away from whom they name.

use anyhow::Result;
use segue_identity::Config;
use segue_proto::identity::v1::get_person_request::Who;
use segue_proto::identity::v1::{LinkKind, UnlinkIdentifierRequest};
use segue_runtime::transport::for_tenant;
use segue_testkit::stores;
use tonic::{Code, Status};

use crate::harness::{Process, fields, identifier, log, persons, reason, shop};

async fn unlink(process: &Process, kind: &str, value: &str, person: u32, reason: &str) -> Result<(), Status> {
    let request = UnlinkIdentifierRequest { identifier: Some(identifier(kind, value)), person, reason: reason.to_owned() };
    process.client.clone().unlink_identifier(for_tenant(&shop(), request)).await.map(drop)
}

#[tokio::test]
async fn an_identifier_that_is_taken_away_names_nobody_until_an_event_brings_it_again() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A p:t e:m", "u:B"]).await?;
        unlink(&process, "p", "t", 1, "the provider does not know it").await?;
        assert_eq!(process.lookup(&["p:t", "e:m"]).await?, [0, 1]);
        let kinds = process.person(Who::Number(1)).await?.identifiers.into_iter().filter_map(|linked| linked.identifier).map(|id| id.kind);
        assert_eq!(kinds.collect::<Vec<_>>(), ["email", "user_id"]);
        let last = process.links().await?.pop().expect("a record");
        assert_eq!((last.kind(), last.person, last.other_person), (LinkKind::Detached, 1, 0));
        assert_eq!((last.identifier, last.reason.as_str()), (Some(identifier("p", "t")), "the provider does not know it"));
        assert_eq!(last.time.map(|time| time.seconds), Some(1));
        let status = unlink(&process, "p", "t", 0, "").await.expect_err("it names nobody");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "IDENTIFIER_NOT_FOUND"));

        // It goes to whoever brings it, here through the same process's memory and then through another's.
        assert_eq!(persons(&process.resolve("s", 2, &["u:B p:t @5", "p:t @6"]).await?), [2, 2]);
        unlink(&process, "p", "t", 0, "").await?;
        assert_eq!(process.links().await?.pop().map(|record| record.reason), Some("taken away on request".to_owned()));
        process.stop().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        assert_eq!(persons(&process.resolve("s", 3, &["p:t @7"]).await?), [3], "somebody new, so far");
        assert_eq!(persons(&process.resolve("s", 4, &["u:A p:t @8", "p:t @9"]).await?), [1, 1]);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_processes_agree_on_what_was_taken_away() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let one = Process::start(&store, &log, Config::default()).await?;
        let two = Process::start(&store, &log, Config::default()).await?;
        one.resolve("a", 1, &["u:A p:t"]).await?;
        assert_eq!(persons(&two.resolve("b", 1, &["p:t"]).await?), [1]);
        unlink(&one, "p", "t", 0, "").await?;
        assert_eq!(persons(&two.resolve("b", 2, &["p:t u:B"]).await?), [2]);
        assert_eq!(persons(&one.resolve("a", 2, &["p:t"]).await?), [2]);
        one.stop().await?;
        two.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_taken_away_makes_room_and_a_person_without_a_user_id_is_anonymous_again() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A e:1 e:2 e:3 e:4 e:5 e:6"]).await?;
        assert_eq!(process.lookup(&["e:5", "e:6"]).await?, [1, 0]);
        unlink(&process, "e", "1", 0, "").await?;
        process.resolve("s", 2, &["u:A e:6"]).await?;
        assert_eq!(process.lookup(&["e:1", "e:6"]).await?, [0, 1]);
        unlink(&process, "u", "A", 1, "").await?;
        assert_eq!(persons(&process.resolve("s", 3, &["u:B e:2", "u:A"]).await?), [1, 2], "the first login of whom e:2 names");
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn only_what_names_the_person_asked_for_is_taken_away() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A p:t", "u:B", "d:x", "u:A d:x"]).await?;
        assert_eq!(process.lookup(&["d:x"]).await?, [1]);
        for (value, person) in [("t", 2), ("t", 9), ("unknown", 0), ("null", 0), ("a\0b", 0)] {
            let status = unlink(&process, "p", value, person, "").await.expect_err("not that person's");
            assert_eq!(reason(&status), "IDENTIFIER_NOT_FOUND", "{value} {person}");
        }
        // Person 3 is part of person 1; either number means both.
        unlink(&process, "p", "t", 3, "").await?;
        unlink(&process, "d", "x", 1, "").await?;
        assert_eq!(process.lookup(&["p:t", "d:x", "u:A"]).await?, [0, 0, 1]);
        let missing = UnlinkIdentifierRequest { reason: "r".repeat(257), ..UnlinkIdentifierRequest::default() };
        let status = process.client.clone().unlink_identifier(for_tenant(&shop(), missing)).await.expect_err("what?");
        assert_eq!(fields(&status), ["identifier", "reason"]);
        assert_eq!(fields(&unlink(&process, "person_id", "x", 0, "").await.expect_err("no link")), ["identifier.kind"]);
        process.stop().await?;
    }
    Ok(())
}
