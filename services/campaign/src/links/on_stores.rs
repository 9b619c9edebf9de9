//! Requests to links, reports and the in-app feed, on every store, with a real identity service.

use std::collections::BTreeMap;

use segue_proto::campaign::v1::create_inbox_token_request::Who;
use segue_proto::campaign::v1::{CreateInboxTokenRequest, FollowRequest, FollowResponse, GetSendRequest, ListInboxRequest, Purpose, Send};
use segue_proto::events::v1::Identifier;
use segue_proto::identity::v1::{GetPersonRequest, MergePersonsRequest, get_person_request};
use segue_runtime::Tenant;
use segue_runtime::transport::for_tenant;
use segue_store::{Run, on_db, on_writer};
use segue_testkit::stores;
use serde_json::{Value, json};

use super::callback::tests::{SECRET, signed};
use super::{LinkSet, put_into_inbox, sweep_inbox};
use crate::channels::Message;
use crate::error::CampaignError;
use crate::outbox::world::{NOW_US, World, wait};
use crate::sends::{self, NewSend};

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;
const SENT: &str = "UPDATE send SET state = 3, kind = 1, due_us = NULL, addresses = $2 WHERE id = $1";

impl World {
    /// An e-mail that was sent to a person; its links.
    async fn sent(&self, person: u32) -> (String, LinkSet) {
        let (scenario, step, attempt_group) = ("cart".to_owned(), "mail".to_owned(), "1.1".to_owned());
        let id = sends::id(&scenario, &step, 1, &attempt_group);
        let send = NewSend {
            scenario,
            version: 1,
            step,
            run: 1,
            person,
            entry_key: String::new(),
            attempt_group,
            channel: "mail".to_owned(),
            template: "hello".to_owned(),
            purpose: Purpose::Advertising,
            variant: String::new(),
            held_out: false,
            time_zone: "Asia/Seoul".to_owned(),
            values: json!({}),
            planned_us: NOW_US,
            expires_us: NOW_US + DAY_US,
        };
        let mut tx = self.service.db.begin().await.expect("a transaction");
        sends::plan(&mut tx, &self.shop.id, &[send]).await.expect("planned");
        tx.commit().await.expect("committed");
        let addresses = r#"[{"kind":"email","value":"a@b.example","state":3}]"#;
        on_writer!(self.service.db, pool => sqlx::query(SENT).bind(&id).bind(addresses).run(pool).await).expect("sent");
        let links = self.service.links.of_send(&self.shop.id, &id, 0).await.expect("links").expect("an address is set");
        (id, links)
    }

    /// Puts a message into the feed.
    async fn put(&self, person: u32, id: &str, at_us: i64) {
        let parts = [("title", "T\0"), ("body", id), ("url", "https://a.example"), ("data", r#"{"n":1.5,"l":[true,null,{}]}"#)];
        let parts: BTreeMap<String, String> = parts.into_iter().map(|(name, part)| (name.to_owned(), part.to_owned())).collect();
        let (idempotency_key, tenant) = (id.to_owned(), self.shop.id.clone());
        let message = Message { idempotency_key, tenant, person, address: String::new(), parts, unsubscribe_url: None };
        put_into_inbox(&self.service.db, &message, at_us, at_us + DAY_US).await.expect("put");
    }

    async fn follow(&self, method: &str, url: &str) -> FollowResponse {
        self.asked(&self.shop, method, url, &[], b"").await.expect("an answer")
    }

    async fn asked(
        &self,
        tenant: &Tenant,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<FollowResponse, CampaignError> {
        let path = url.strip_prefix("https://segue.example").unwrap_or(url).to_owned();
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = FollowRequest { method: method.to_owned(), path, body: body.to_vec(), headers };
        self.service.follow_of(tenant, request).await
    }

    async fn shown(&self, send: &str) -> Send {
        self.service.get_send_of(&self.shop, GetSendRequest { id: send.to_owned() }).await.expect("there is one")
    }

    async fn feed(&self, token: &str, method: &str, path: &str) -> (u32, Value) {
        let bearer = format!("Bearer {token}");
        let answer = self.asked(&self.shop, method, path, &[("authorization", &bearer)], b"").await.expect("an answer");
        (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
    }

    async fn run_sql(&self, sql: &'static str) {
        on_writer!(self.service.db, pool => sqlx::query(sql).run(pool).await).expect("changed");
    }

    async fn count(&self, sql: &'static str) -> i64 {
        on_db!(self.service.db, pool => sqlx::query_scalar(sql).fetch_one(pool).await).expect("counted")
    }
}

fn text(answer: &FollowResponse) -> String {
    String::from_utf8(answer.body.clone()).expect("text")
}

#[tokio::test]
async fn opens_and_clicks_are_counted_once_and_only_of_genuine_links() {
    for place in stores() {
        let world = World::new(place).await;
        let (send, links) = world.sent(1).await;
        let html = links.rewrite_html("<a href=\"https://a.example/?b=1&amp;c=2\">");
        let image = html.split("<img src=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an image");
        let link = links.wrap("https://a.example/?b=1&c=2");
        for method in ["HEAD", "GET", "GET"] {
            let answer = world.follow(method, &format!("{link}?utm_source=mail")).await;
            assert_eq!((answer.status, answer.headers["location"].as_str()), (302, "https://a.example/?b=1&c=2"));
            assert_eq!(answer.headers["cache-control"], "no-store");
            let shown = world.shown(&send).await;
            assert_eq!((shown.clicked_at.is_some(), shown.opened_at.is_some()), (method == "GET", false));
        }
        for method in ["HEAD", "GET"] {
            let answer = world.follow(method, image).await;
            assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "image/gif"));
            assert!(answer.body.starts_with(b"GIF89a") && answer.body.len() == 43, "{}", answer.body.len());
            assert_eq!(world.shown(&send).await.opened_at.is_some(), method == "GET");
        }
        assert_eq!(world.count("SELECT count(*) FROM outbox").await, 2, "each is told once");

        assert_eq!(world.follow("POST", &link).await.status, 405);
        let token = link.rsplit('/').next().expect("a token");
        for bad in ["", "shop", "shop.", "shop.AAAA", "rival.AAAA", "shop.\u{d64d}", &token[..token.len() - 1], &format!("{token}A")] {
            let answer = world.follow("GET", &format!("/l/{bad}")).await;
            assert_eq!((answer.status, answer.headers["content-type"].as_str()), (404, "text/html; charset=utf-8"), "{bad}");
        }
        let elsewhere = world.asked(&world.rival, "GET", &link, &[], b"").await.expect("an answer");
        assert_eq!(elsewhere.status, 404, "the caller's tenant is not the token's");
        assert_eq!(world.follow("GET", "/v1/callbacks/x").await.status, 405);
        assert_eq!(world.follow("GET", "/elsewhere").await.status, 404);
        world.stop().await;
    }
}

#[tokio::test]
async fn unsubscribing_asks_first_and_then_holds_here_and_in_identity() {
    for place in stores() {
        let world = World::new(place).await;
        let person = world.persons(&world.shop.id, &["a"]).await[0];
        let (send, links) = world.sent(person).await;
        let url = links.unsubscribe_url.as_str();
        for method in ["GET", "HEAD"] {
            let page = world.follow(method, url).await;
            assert!(page.status == 200 && text(&page).contains("<form method=\"post\">"), "{page:?}");
        }
        assert_eq!(world.count("SELECT count(*) FROM unsubscribed").await, 0, "looking at a link means nothing");
        // As RFC 8058 has it, and twice.
        for _ in 0..2 {
            let headers = [("content-type", "application/x-www-form-urlencoded")];
            let done = world.asked(&world.shop, "POST", url, &headers, b"List-Unsubscribe=One-Click").await.expect("an answer");
            assert!(done.status == 200 && !text(&done).contains("<form"), "{done:?}");
            assert_eq!(world.count("SELECT count(*) FROM unsubscribed").await, 1);
        }
        world.service.spawn_outbox(&world.tasks);
        let shop = &world.shop.id;
        let get = || GetPersonRequest { who: Some(get_person_request::Who::Number(person)) };
        wait("identity knows", async || {
            let person = world.identity.clone().get_person(for_tenant(shop, get())).await.expect("somebody").into_inner();
            person.consents.first().is_some_and(|consent| {
                (consent.channel.as_str(), consent.purpose.as_str()) == ("email", "advertising")
                    && (consent.source.as_str(), &consent.proof) == ("unsubscribe_link", &send)
            })
        })
        .await;
        let unknown = world.service.links.of_send(shop, &"0".repeat(32), 0).await.expect("links").expect("an address is set");
        assert_eq!(world.follow("POST", &unknown.unsubscribe_url).await.status, 404);
        world.stop().await;
    }
}

#[tokio::test]
async fn a_providers_report_is_taken_when_it_is_signed_and_whole() {
    for place in stores() {
        let world = World::new(place).await;
        let (send, _) = world.sent(1).await;
        let now_s = NOW_US / SECOND_US;
        let report = async |body: &str, headers| {
            let request = FollowRequest { method: "POST".to_owned(), path: String::new(), body: body.as_bytes().to_vec(), headers };
            let answer = world.service.take_reports(&world.shop, "mail", SECRET, &request).await.expect("an answer");
            (answer.status, serde_json::from_slice::<Value>(&answer.body).expect("JSON"))
        };
        let body = json!({ "events": [
            { "id": send, "type": "delivered", "time": "2025-05-28T09:59:00Z" },
            { "id": format!("{send}.0"), "type": "unsubscribed" },
            { "id": "a test \u{0}", "type": "opened" },
            { "id": "0".repeat(32), "type": "unsubscribed" },
        ] })
        .to_string();
        assert_eq!(report(&body, signed("m", now_s, b"another")).await.0, 401);
        assert_eq!(report(&body, signed("m", now_s - 301, body.as_bytes())).await.0, 401);
        // The provider of another channel knows nothing of it.
        let headers = signed("m", now_s, body.as_bytes());
        let request = FollowRequest { method: "POST".to_owned(), path: String::new(), body: body.clone().into(), headers };
        let answer = world.service.take_reports(&world.shop, "sms", SECRET, &request).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!((&answer["events"], &answer["new"]), (&json!(4), &json!(0)));
        assert_eq!(world.count("SELECT count(*) FROM outbox").await, 0);
        for new in [2, 0] {
            let (status, answer) = report(&body, signed("m", now_s, body.as_bytes())).await;
            assert_eq!((status, &answer["events"], &answer["new"]), (200, &json!(4), &json!(new)));
        }
        let delivered = crate::store::timestamp(NOW_US - 60 * SECOND_US);
        assert_eq!(world.shown(&send).await.delivered_at, Some(delivered));
        assert_eq!(world.count("SELECT count(*) FROM unsubscribed").await, 1);
        // It is of now unless it is older than clocks may differ; a report that comes late is of when it was.
        let since = "SELECT time_us FROM unsubscribed";
        assert_eq!(world.count(since).await, NOW_US);
        world.run_sql("UPDATE unsubscribed SET time_us = 0").await;
        let body = json!({ "events": [{ "id": send, "type": "unsubscribed", "time": "2025-05-28T09:00:00Z" }] }).to_string();
        assert_eq!(report(&body, signed("m", now_s, body.as_bytes())).await.0, 200);
        assert_eq!(world.count(since).await, NOW_US - 3_600 * SECOND_US);
        let (status, answer) = report("{}", signed("m", now_s, b"{}")).await;
        assert_eq!((status, &answer["code"]), (400, &json!("UNREADABLE")));
        // A channel that is not there any more, and a link that is none of a channel.
        let url = world.service.links.callback_url(&world.shop.id, "gone").await.expect("an address");
        assert!(url.starts_with("https://segue.example/v1/callbacks/shop."), "{url}");
        assert_eq!(world.follow("POST", &url).await.status, 404);
        world.stop().await;
    }
}

#[tokio::test]
async fn the_feed_shows_a_persons_messages_newest_first_and_notes_what_they_do() {
    for place in stores() {
        let world = World::new(place).await;
        let shop = world.shop.id.clone();
        let persons = world.persons(&shop, &["a", "b", "c"]).await;
        let (send, _) = world.sent(persons[0]).await;
        for (at, id) in ["m1", "m2", "m3"].iter().enumerate() {
            world.put(persons[0], id, NOW_US + at as i64).await;
        }
        world.put(persons[0], &send, NOW_US + 1).await;
        world.put(persons[0], &send, NOW_US + 9).await;
        world.put(persons[0], "old", NOW_US - DAY_US).await;
        world.put(persons[1], "merged", NOW_US - 1).await;
        world.put(persons[2], "another's", NOW_US).await;
        let merge =
            MergePersonsRequest { from: persons[1], into: persons[0], force: true, request_id: "r".to_owned(), ..Default::default() };
        let survivor = world.identity.clone().merge_persons(for_tenant(&shop, merge)).await.expect("merged").into_inner();
        let survivor = survivor.person.expect("a person").number;

        let who = Some(Who::Identifier(Identifier { kind: "user_id".to_owned(), value: "a".to_owned() }));
        let made = world.service.create_inbox_token_of(&world.shop, CreateInboxTokenRequest { who, valid_s: 60 }).await.expect("made");
        assert_eq!(made.expires_at, Some(crate::store::timestamp(NOW_US + 60 * SECOND_US)));
        let token = made.token.as_str();
        let (status, first) = world.feed(token, "GET", "/v1/inbox?page_size=3&x=y").await;
        let ids = |page: &Value| -> Vec<String> {
            page["messages"].as_array().expect("messages").iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
        };
        let mut middle = ["m2".to_owned(), send.clone()];
        middle.sort();
        let mut seen = ids(&first);
        let next = first["next_page_token"].as_str().expect("a token");
        let (_, second) = world.feed(token, "GET", &format!("/v1/inbox?page_size=3&page_token={next}")).await;
        seen.extend(ids(&second));
        seen[1..3].sort();
        assert_eq!(
            (status, seen),
            (200, vec!["m3".to_owned(), middle[0].clone(), middle[1].clone(), "m1".to_owned(), "merged".to_owned()])
        );
        assert_eq!((&first["unread"], &second["next_page_token"]), (&json!(5), &json!("")));
        let shown = &first["messages"][0];
        assert_eq!((&shown["title"], &shown["data"]["l"], &shown["read_at"]), (&json!("T"), &json!([true, null, {}]), &Value::Null));
        assert_eq!(shown["sent_at"], "2025-05-28T10:00:00.000Z");

        let click = format!("/v1/inbox/{send}/click");
        for (path, status) in [
            ("/v1/inbox/m1/read", 200),
            ("/v1/inbox/merged/dismiss", 200),
            (click.as_str(), 200),
            ("/v1/inbox/another's/read", 404),
            ("/v1/inbox/old/read", 404),
            ("/v1/inbox/m1/burn", 404),
            ("/v1/inbox/m1", 404),
            ("/v1/inbox", 405),
        ] {
            assert_eq!(world.feed(token, "POST", path).await.0, status, "{path}");
        }
        let noted = world.shown(&send).await;
        assert!(noted.opened_at.is_some() && noted.clicked_at.is_some());
        let list = async |person| world.service.list_inbox_of(&world.shop, ListInboxRequest { person, ..Default::default() }).await;
        let listed = list(persons[1]).await.expect("listed");
        assert_eq!((listed.unread, listed.messages.len()), (2, 4));
        let read: Vec<&str> = listed.messages.iter().filter(|one| one.read_at.is_some()).map(|one| one.id.as_str()).collect();
        assert!(read.len() == 2 && read.contains(&"m1") && read.contains(&send.as_str()), "{read:?}");
        assert_eq!(listed.messages[0].data.as_ref().expect("data").fields.len(), 2);
        assert_eq!(list(survivor).await.expect("listed"), listed);
        assert!(matches!(list(99).await, Err(CampaignError::NotFound { .. })) && matches!(list(0).await, Err(CampaignError::Invalid(_))));
        world.stop().await;
    }
}

#[tokio::test]
async fn tokens_of_the_feed_are_for_persons_whom_there_are() {
    for place in stores() {
        let world = World::new(place).await;
        let person = world.persons(&world.shop.id, &["a"]).await[0];
        let make = async |who, valid_s| world.service.create_inbox_token_of(&world.shop, CreateInboxTokenRequest { who, valid_s }).await;
        let made = make(Some(Who::Person(person)), 0).await.expect("made");
        assert_eq!(made.expires_at, Some(crate::store::timestamp(NOW_US + DAY_US)));
        assert_eq!(world.feed(&made.token, "GET", "/v1/inbox").await.0, 200);
        let stranger = Identifier { kind: "user_id".to_owned(), value: "z".to_owned() };
        for (who, valid_s) in [(Some(Who::Person(99)), 0), (Some(Who::Identifier(stranger)), 0)] {
            assert!(matches!(make(who, valid_s).await, Err(CampaignError::NotFound { .. })));
        }
        for (who, valid_s) in [(None, 0), (Some(Who::Person(person)), 59), (Some(Who::Person(person)), 2_592_001)] {
            assert!(matches!(make(who, valid_s).await, Err(CampaignError::Invalid(_))));
        }
        // Two processes that make the first token at once agree on the secret.
        let other = super::Links::new(world.service.config.clone(), world.service.db.clone());
        let rival = &world.rival.id;
        let (one, two) = tokio::join!(world.service.links.callback_url(rival, "c"), other.callback_url(rival, "c"));
        assert_eq!(one.expect("an address"), two.expect("an address"));
        world.stop().await;
    }
}

#[tokio::test]
async fn a_feed_is_not_shown_to_who_has_no_token_of_it_and_what_is_old_goes() {
    for place in stores() {
        let world = World::new(place).await;
        let person = world.persons(&world.shop.id, &["a"]).await[0];
        world.put(person, "old", NOW_US - DAY_US).await;
        world.put(person, "new", NOW_US).await;
        let request = CreateInboxTokenRequest { who: Some(Who::Person(person)), valid_s: 60 };
        let made = world.service.create_inbox_token_of(&world.shop, request).await.expect("made");
        let token = made.token.as_str();
        assert_eq!(world.feed(token, "GET", "/v1/inbox").await.1["unread"], 1);
        for path in ["/v1/inbox?page_size=x", "/v1/inbox?page_size=-1", "/v1/inbox?page_token=x", "/v1/inbox?page_token=1.%00"] {
            assert_eq!(world.feed(token, "GET", path).await.0, 400, "{path}");
        }
        for bad in ["", "shop.x", &format!("{token}x"), &world.service.links.callback_url(&world.shop.id, "c").await.expect("one")] {
            assert_eq!(world.feed(bad, "GET", "/v1/inbox").await.0, 401, "{bad}");
        }
        world.clock.set_us(NOW_US + 60 * SECOND_US);
        assert_eq!(world.feed(token, "GET", "/v1/inbox").await.0, 401, "it has expired");
        sweep_inbox(&world.service.db, NOW_US).await.expect("swept");
        assert_eq!(world.count("SELECT count(*) FROM inbox").await, 1, "what is too old is deleted");
        world.stop().await;
    }
}
