//! Naming persons by their stable id.

use anyhow::Result;
use segue_identity::Config;
use segue_proto::events::v1::Identifier;
use segue_proto::identity::v1::get_person_request::Who;
use segue_proto::identity::v1::{GetIdentityStatusRequest, PersonConsent, SetConsentsRequest, person_consent};
use segue_runtime::transport::for_tenant;
use segue_testkit::stores;
use tonic::Code;

use crate::harness::{Process, event, identifier, log, other, persons, shop, text};

async fn id_of(process: &Process, person: u32) -> Result<String> {
    Ok(process.person(Who::Number(person)).await?.id)
}

#[tokio::test]
async fn an_event_with_a_stable_id_is_that_persons_whatever_else_it_names_and_links_nothing() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A", "u:B d:b"]).await?;
        let (a, links) = (id_of(&process, 1).await?, process.links().await?);
        let events = [
            format!("person_id:{a} @5"),
            format!("u:B e:new person_id:{a} plan=gold df_push_ads_optin=true df_membership=vip @6"),
            format!("d:b p:new person_id:{} logout @7", a.to_uppercase()),
            format!("person_id:{a} alias:B @8"),
            format!("person_id:{a} account:acme tier=1 @9"),
        ];
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let answer = process.resolve("s", 2, &events).await?;
        assert_eq!(persons(&answer), [1; 5]);
        assert!(answer.resolutions.iter().all(|resolution| !resolution.first));
        assert_eq!(answer.resolutions[2].device, 1, "which device it was is told all the same");
        assert_eq!(answer.profiles.len(), 1);
        assert_eq!(process.links().await?, links, "nothing is linked, moved or detached");
        assert_eq!(process.lookup(&["e:new", "p:new", "d:b", "u:B"]).await?, [0, 0, 2, 2]);

        let person = process.person(Who::Number(1)).await?;
        let traits: Vec<_> = person.traits.iter().map(|set| set.name.as_str()).collect();
        assert_eq!(traits, ["df_membership", "df_push_ads_optin", "plan"]);
        assert_eq!(person.traits[2].value, Some(text("gold")));
        assert_eq!((person.identifiers.len(), person.account_ids.as_slice()), (1, ["acme".to_owned()].as_slice()));
        assert_eq!((person.consents.len(), person.last_seen_at.map(|time| time.seconds)), (1, Some(0)), "to the configured precision");
        assert_eq!(process.person(Who::Number(2)).await?.traits, []);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stable_id_that_is_unknown_or_malformed_is_ignored() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A"]).await?;
        // Another tenant's person is nobody here.
        process.resolve_for(&other(), "s", 1, vec![event("u:X"), event("u:Y")]).await?;
        let a = id_of(&process, 1).await?;
        let request = segue_proto::identity::v1::GetPersonRequest { who: Some(Who::Number(1)) };
        let x = process.client.clone().get_person(for_tenant(&other(), request)).await?.into_inner().id;
        let off_by_one = format!("{}{}", &a[..35], if a.ends_with('0') { '1' } else { '0' });
        let ids = [x.as_str(), "7", "", "null", "00000000-0000-0000-0000-000000000000", off_by_one.as_str(), "a\0"];
        let named = |value: &str, with: &str| {
            let mut subject = event(with);
            subject.identifiers.insert(0, Identifier { kind: "person_id".to_owned(), value: value.to_owned() });
            subject
        };
        let alone = ids.iter().map(|id| named(id, "plan=gold")).collect();
        assert_eq!(persons(&process.resolve_for(&shop(), "s", 2, alone).await?), [0; 7]);
        let with_user = ids.iter().map(|id| named(id, "u:A e:m")).collect();
        assert_eq!(persons(&process.resolve_for(&shop(), "s", 3, with_user).await?), [1; 7]);
        assert_eq!(process.lookup(&["e:m"]).await?, [1], "other identifiers are linked as ever");
        // The first that is known decides.
        let mut both = named(&a, "u:B");
        both.identifiers.insert(0, identifier("person_id", &x));
        assert_eq!(persons(&process.resolve_for(&shop(), "s", 4, vec![both]).await?), [1]);
        assert_eq!(process.person(Who::Number(1)).await?.identifiers.len(), 2, "it is never an identifier of its own");
        let status = process.client.clone().get_identity_status(for_tenant(&shop(), GetIdentityStatusRequest {})).await?.into_inner();
        assert_eq!(status.persons, 1);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_stable_id_of_a_merged_person_means_the_survivor_everywhere() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        // The second is begun in the batch that names it: its id follows from its number.
        process.resolve("s", 1, &["u:A", "u:B"]).await?;
        let (a, b) = (id_of(&process, 1).await?, id_of(&process, 2).await?);
        assert_ne!(a, b);
        process.merge(2, 1).await?;
        assert_eq!(persons(&process.resolve("s", 2, &[&format!("person_id:{b} plan=x")]).await?), [1]);
        process.stop().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        assert_eq!(persons(&process.resolve("s", 3, &[&format!("person_id:{b} @1")]).await?), [1], "with nothing in memory");

        assert_eq!(process.person(Who::Identifier(identifier("person_id", &b))).await?.number, 1);
        let status = process.person(Who::Identifier(identifier("person_id", "b"))).await.expect_err("nobody");
        assert_eq!(status.code(), Code::NotFound);
        let found = process.lookup(&[&format!("person_id:{b}"), "u:A", "person_id:b", &format!("person_id:{a}")]).await?;
        assert_eq!(found, [1, 1, 0, 1]);
        let said = segue_proto::identity::v1::Consent {
            channel: "push".into(),
            purpose: "all".into(),
            state: segue_proto::identity::v1::ConsentState::Refused.into(),
            ..Default::default()
        };
        let consents = vec![PersonConsent { who: Some(person_consent::Who::Identifier(identifier("person_id", &b))), consent: Some(said) }];
        process.client.clone().set_consents(for_tenant(&shop(), SetConsentsRequest { consents })).await?;
        assert_eq!(process.person(Who::Number(1)).await?.consents.len(), 1);
        process.stop().await?;
    }
    Ok(())
}
