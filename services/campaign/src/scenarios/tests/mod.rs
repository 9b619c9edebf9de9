//! Scenarios on every store there is.

mod calling;

use anyhow::Result;
use futures::future::join_all;
use segue_model::TenantId;
use segue_proto::campaign::v1::{
    AudienceEntry, CallEntry, Entry, MessageStep, Scenario, ScenarioDefinition, ScenarioState, Step, WebhookStep, entry, step,
};
use segue_runtime::page;
use segue_store::{Db, on_writer};
use segue_testkit::{TempStore, stores};

use super::change::{self, Outcome, Start};
use super::content::Content;
use super::store::{self, State, Stored};
use super::{Used, changes, content_of, scenario_of, started, take_over, users_of};
use crate::error::{CampaignError, Kind};
use crate::store::{MIGRATIONS, NAMESPACE};

const SCENARIOS_MAX: u32 = 200;

async fn open(store: &TempStore) -> Result<(Db, TenantId)> {
    Ok((store.open(NAMESPACE, MIGRATIONS).await?, "shop".parse()?))
}

fn by(on: entry::On) -> ScenarioDefinition {
    ScenarioDefinition { entry: Some(Entry { on: Some(on), only_if: None }), ..ScenarioDefinition::default() }
}

fn by_call() -> ScenarioDefinition {
    by(entry::On::Call(CallEntry {}))
}

fn by_audience(audience: &str, on_leaving: bool) -> ScenarioDefinition {
    by(entry::On::Audience(AudienceEntry { audience: audience.to_owned(), on_leaving }))
}

fn message(channel: &str, template: &str) -> Step {
    let (channel, template) = (channel.to_owned(), template.to_owned());
    Step { kind: Some(step::Kind::Message(MessageStep { channel, template, ..MessageStep::default() })), ..Step::default() }
}

fn content(definition: ScenarioDefinition) -> Content {
    Content { name: "a name".to_owned(), description: String::new(), definition }
}

fn after<T>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Changed(after) => after,
        Outcome::Same(same) => panic!("nothing changed: {}", std::any::type_name_of_val(&same)),
    }
}

fn same<T>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Same(same) => same,
        Outcome::Changed(after) => panic!("something changed: {}", std::any::type_name_of_val(&after)),
    }
}

async fn create(db: &Db, tenant: &TenantId, id: &str, definition: ScenarioDefinition) -> Result<Stored> {
    Ok(after(change::create(db, tenant, SCENARIOS_MAX, id, content(definition), 1).await?))
}

async fn update(db: &Db, tenant: &TenantId, id: &str, definition: ScenarioDefinition) -> Result<Stored> {
    Ok(after(change::update(db, tenant, id, "", 2, |content| content.definition = definition).await?))
}

/// A scenario that runs, without asking others whether there is what it names.
pub(crate) async fn put_started(
    db: &Db,
    tenant: &TenantId,
    id: &str,
    definition: ScenarioDefinition,
    now_us: i64,
) -> Result<(), CampaignError> {
    change::create(db, tenant, SCENARIOS_MAX, id, content(definition), now_us).await?;
    change::start(db, tenant, starting(id), 1, now_us).await?;
    Ok(())
}

fn starting(id: &str) -> Start<'_> {
    Start { id, etag: "", present: false }
}

/// Starts the newest version.
async fn start(db: &Db, tenant: &TenantId, id: &str, now_us: i64) -> Result<Stored> {
    let version = store::get(db, tenant, id).await?.version;
    Ok(after(change::start(db, tenant, starting(id), version, now_us).await?.expect("nobody changed it meanwhile")))
}

async fn change_count(db: &Db, tenant: &TenantId) -> Result<i64> {
    Ok(changes(db).await?.into_iter().find(|(of, _)| of == tenant).map_or(0, |(_, count)| count))
}

/// Why something cannot be done now.
fn why<T: std::fmt::Debug>(outcome: Result<T, CampaignError>) -> String {
    match outcome {
        Err(CampaignError::NotNow { kind: Kind::Scenario, why, .. }) => why,
        other => panic!("not refused for its state: {other:?}"),
    }
}

#[tokio::test]
async fn creating_the_same_again_answers_what_there_is_and_anything_else_is_refused() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        let created = create(&db, &shop, "s", by_call()).await?;
        assert_eq!((created.version, created.revision, created.state, created.started_version), (1, 1, State::Draft, 0));
        let again = same(change::create(&db, &shop, SCENARIOS_MAX, "s", content(by_call()), 9).await?);
        assert_eq!(scenario_of(again), scenario_of(created.clone()));
        let other = change::create(&db, &shop, SCENARIOS_MAX, "s", content(ScenarioDefinition::default()), 9).await;
        assert!(matches!(other, Err(CampaignError::AlreadyExists { .. })));
        assert_eq!(scenario_of(store::get(&db, &shop, "s").await?), scenario_of(created));
        for (tenant, id) in [("other", "s"), ("shop", "t"), ("shop", "s\0"), ("shop", ""), ("shop", "S")] {
            let error = store::get(&db, &tenant.parse()?, id).await.expect_err("there is none");
            assert!(matches!(error, CampaignError::NotFound { .. }), "{tenant}/{id:?}: {error}");
        }
        after(change::archive(&db, &shop, "s", "", 10).await?);
        let archived = change::create(&db, &shop, SCENARIOS_MAX, "s", content(by_call()), 11).await;
        assert!(matches!(archived, Err(CampaignError::AlreadyExists { .. })), "its id stays its own");
        assert_eq!(change_count(&db, &shop).await?, 0, "drafts are nothing to the worker");
    }
    Ok(())
}

#[tokio::test]
async fn a_tenant_has_no_more_scenarios_than_it_may() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        let create = async |id: &str| change::create(&db, &shop, 2, id, content(by_call()), 1).await;
        after(create("a").await?);
        after(create("b").await?);
        assert!(matches!(create("c").await, Err(CampaignError::TooMany { max: 2, .. })));
        same(create("a").await?);
        after(change::archive(&db, &shop, "a", "", 2).await?);
        after(create("c").await?);
        after(change::create(&db, &"other".parse()?, 2, "a", content(by_call()), 1).await?);
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_definition_is_a_version_and_a_changed_name_is_none() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        let first = create(&db, &shop, "s", by_call()).await?;
        let renamed = after(change::update(&db, &shop, "s", &first.etag(), 5, |content| content.name = "b".to_owned()).await?);
        assert_eq!((renamed.version, renamed.revision, renamed.updated_us), (1, 2, 5));
        let old = change::update(&db, &shop, "s", &first.etag(), 6, |content| content.name = "c".to_owned()).await;
        assert!(matches!(old, Err(CampaignError::EtagMismatch { .. })));
        let second = update(&db, &shop, "s", by_audience("a", false)).await?;
        assert_eq!((second.version, second.revision), (2, 3));
        let nothing = same(change::update(&db, &shop, "s", &second.etag(), 7, |content| content.name = "b".to_owned()).await?);
        assert_eq!(scenario_of(nothing), scenario_of(second));
        let missing = change::update(&db, &shop, "t", "", 7, |_| ()).await;
        assert!(matches!(missing, Err(CampaignError::NotFound { .. })));
        for at in 3..=70 {
            update(&db, &shop, "s", ScenarioDefinition { holdout: at, ..by_call() }).await?;
        }
        let versions = store::versions(&db, &shop, "s", u32::MAX, 50).await?;
        assert_eq!(versions.iter().map(|version| version.version).collect::<Vec<_>>(), (20..=70).rev().collect::<Vec<_>>());
        assert!(versions.iter().all(|version| version.definition.holdout == version.version));
        let oldest = store::versions(&db, &shop, "s", 3, 50).await?;
        let told: Vec<_> = oldest.iter().map(|version| (version.version, version.definition.clone(), version.created_us)).collect();
        assert_eq!(told, [(2, by_audience("a", false), 2), (1, by_call(), 1)]);
        assert_eq!(change_count(&db, &shop).await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_scenario_goes_through_its_life() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        create(&db, &shop, "s", by_call()).await?;
        assert_eq!(why(change::pause(&db, &shop, "s", "", 2).await), "was never started: there is nothing to pause");
        assert_eq!(why(change::end(&db, &shop, "s", "", 2).await), "was never started: archive it instead");
        assert!(started(&db, &shop).await?.is_empty());

        let running = start(&db, &shop, "s", 10).await?;
        assert_eq!((running.state, running.started_version, running.starts, running.started_us), (State::Running, 1, 1, 10));
        assert_eq!(change_count(&db, &shop).await?, 1);
        same(change::start(&db, &shop, starting("s"), 1, 11).await?.expect("no other version"));
        assert_eq!(why(change::archive(&db, &shop, "s", "", 11).await), "is running: end it first");

        let paused = after(change::pause(&db, &shop, "s", &running.etag(), 20).await?);
        same(change::pause(&db, &shop, "s", &running.etag(), 21).await?);
        assert_eq!(why(change::archive(&db, &shop, "s", "", 21).await), "is paused: end it first");
        let now = started(&db, &shop).await?;
        assert!(now.len() == 1 && now[0].paused && !now[0].ended);

        let old = change::end(&db, &shop, "s", &running.etag(), 22).await;
        assert!(matches!(old, Err(CampaignError::EtagMismatch { .. })));
        let again = start(&db, &shop, "s", 30).await?;
        assert_eq!((again.state, again.starts, again.started_us), (State::Running, 2, 30), "what happened in the pause lets nobody enter");
        let late = change::start(&db, &shop, Start { etag: &paused.etag(), ..starting("s") }, 1, 31).await?;
        same(late.expect("no other version"));

        let ended = after(change::end(&db, &shop, "s", "", 40).await?);
        same(change::end(&db, &shop, "s", &again.etag(), 41).await?);
        assert_eq!(why(change::pause(&db, &shop, "s", "", 41).await), "has ended: there is nothing to pause");
        assert!(why(change::start(&db, &shop, starting("s"), 1, 41).await).starts_with("has ended for good"));
        let changed = change::update(&db, &shop, "s", "", 41, |content| content.definition = by_audience("a", false)).await;
        assert!(why(changed).starts_with("has ended for good"));
        let renamed = after(change::update(&db, &shop, "s", &ended.etag(), 42, |content| content.name = "old".to_owned()).await?);
        assert_eq!(renamed.state, State::Ended);

        after(change::archive(&db, &shop, "s", "", 50).await?);
        same(change::archive(&db, &shop, "s", "", 51).await?);
        assert!(why(change::start(&db, &shop, starting("s"), 1, 51).await).starts_with("is archived for good"));
        assert_eq!(why(change::end(&db, &shop, "s", "", 51).await), "is archived, and has ended before");
        assert!(why(change::update(&db, &shop, "s", "", 51, |_| ()).await).starts_with("is archived, and stays as it is"));
        assert!(started(&db, &shop).await?.is_empty(), "it has no runs");
        let sql = "INSERT INTO flow_run (tenant, id, scenario, version, person, entry_key, entry, entered_us, held_out, slot, due_us,
            watch_until_us, end_reason, state) VALUES ('shop', 1, 's', 1, 1, '', 1, 1, FALSE, 0, 1, 1, '', '{}')";
        on_writer!(&db, pool => sqlx::query(sql).execute(pool).await.map(drop))?;
        let now = started(&db, &shop).await?;
        assert!(now.len() == 1 && now[0].ended && now[0].name == "old", "its runs may still have to be ended");
        assert_eq!(change_count(&db, &shop).await?, 6, "started, paused, started, ended, renamed, archived");
    }
    Ok(())
}

#[tokio::test]
async fn a_newer_version_is_started_without_a_gap_where_the_entry_is_the_same() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        create(&db, &shop, "s", by_audience("a", false)).await?;
        start(&db, &shop, "s", 10).await?;
        let wider = ScenarioDefinition { holdout: 100, ..by_audience("a", false) };
        let updated = update(&db, &shop, "s", wider).await?;
        assert_eq!((updated.version, updated.started_version, updated.state), (2, 1, State::Running));
        assert_eq!(change_count(&db, &shop).await?, 1, "a version that was not started is nothing to the worker");
        let second = start(&db, &shop, "s", 20).await?;
        assert_eq!((second.started_version, second.starts, second.started_us), (2, 2, 10));
        update(&db, &shop, "s", by_audience("b", false)).await?;
        update(&db, &shop, "s", by_audience("c", false)).await?;
        let fourth = start(&db, &shop, "s", 30).await?;
        assert_eq!((fourth.started_version, fourth.starts, fourth.started_us), (4, 3, 30), "another entry counts from its start");
        let now = started(&db, &shop).await?.pop().expect("it was started");
        assert_eq!((now.version, now.starts, now.started_us), (4, 3, 30));
        assert_eq!(now.versions.keys().copied().collect::<Vec<_>>(), [1, 2, 4], "those that persons could enter");
        assert_eq!(now.versions.get(&2).map(|definition| definition.holdout), Some(100));
    }
    Ok(())
}

#[tokio::test]
async fn present_members_enter_when_asked_for_and_once_per_start() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        let present = |id| Start { id, etag: "", present: true };
        for (id, definition) in [("call", by_call()), ("leaving", by_audience("a", true))] {
            create(&db, &shop, id, definition).await?;
            let error = change::start(&db, &shop, present(id), 1, 10).await.expect_err("it has no members to enter");
            assert!(matches!(&error, CampaignError::Invalid(faults) if faults[0].field == "enter_present_members"), "{error}");
        }
        create(&db, &shop, "s", by_audience("a", false)).await?;
        let first = after(change::start(&db, &shop, present("s"), 1, 10).await?.expect("no other version"));
        assert!(first.enters_present && first.starts == 1);
        same(change::start(&db, &shop, present("s"), 1, 11).await?.expect("no other version"));
        same(change::start(&db, &shop, starting("s"), 1, 11).await?.expect("no other version"));
        after(change::pause(&db, &shop, "s", "", 20).await?);
        let second = start(&db, &shop, "s", 30).await?;
        assert!(!second.enters_present && second.starts == 2);
        let third = after(change::start(&db, &shop, present("s"), 1, 40).await?.expect("no other version"));
        assert_eq!((third.enters_present, third.starts, third.started_us), (true, 3, 30), "it ran all the time");
        let now = started(&db, &shop).await?;
        assert!(now.iter().any(|scenario| scenario.id == "s" && scenario.enter_present_members && scenario.starts == 3));
    }
    Ok(())
}

#[tokio::test]
async fn of_concurrent_starts_one_happens_and_a_version_that_was_not_looked_at_is_not_started() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        let created = create(&db, &shop, "s", by_call()).await?;
        let etag = created.etag();
        let all = join_all((0..8).map(|at| change::start(&db, &shop, Start { etag: &etag, ..starting("s") }, 1, 10 + at))).await;
        let mut changed = 0;
        for outcome in all {
            match outcome?.expect("no other version") {
                Outcome::Changed(_) => changed += 1,
                Outcome::Same(stored) => assert_eq!((stored.state, stored.starts), (State::Running, 1)),
            }
        }
        assert_eq!((changed, change_count(&db, &shop).await?), (1, 1));
        update(&db, &shop, "s", by_audience("a", false)).await?;
        assert!(change::start(&db, &shop, starting("s"), 1, 30).await?.is_none(), "version 2 was not looked at");
        assert_eq!(store::get(&db, &shop, "s").await?.started_version, 1);
    }
    Ok(())
}

#[tokio::test]
async fn of_concurrent_changes_with_the_same_etag_one_happens() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        let etag = create(&db, &shop, "s", by_call()).await?.etag();
        let rename = |at: i64| change::update(&db, &shop, "s", &etag, at, move |content| content.name = format!("name {at}"));
        let all = join_all((2..10).map(rename)).await;
        let (done, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert_eq!(done.len(), 1);
        assert!(refused.into_iter().all(|outcome| matches!(outcome, Err(CampaignError::EtagMismatch { .. }))));
        let creates = join_all((0..8).map(|_| change::create(&db, &shop, SCENARIOS_MAX, "t", content(by_call()), 1))).await;
        let changed = creates.into_iter().filter(|outcome| matches!(outcome, Ok(Outcome::Changed(_)))).count();
        assert_eq!(changed, 1);
    }
    Ok(())
}

#[tokio::test]
async fn pages_go_through_all_scenarios_and_end_where_they_are_full() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        for at in 0..70 {
            create(&db, &shop, &format!("s{at:02}"), by_call()).await?;
        }
        after(change::archive(&db, &shop, "s01", "", 2).await?);
        let walk = async |with_archived: bool, size: usize| -> Result<(Vec<String>, usize)> {
            let (mut ids, mut token, mut pages) = (Vec::new(), String::new(), 0);
            loop {
                let mut found = store::page(&db, &shop, &token, with_archived, size).await?;
                token = page::cut_to_fit(&mut found, size, Stored::bytes, |stored| stored.id.clone());
                ids.extend(found.into_iter().map(|stored| stored.id));
                pages += 1;
                if token.is_empty() {
                    return Ok((ids, pages));
                }
            }
        };
        let all: Vec<String> = (0..70).map(|at| format!("s{at:02}")).collect();
        let without: Vec<String> = all.iter().filter(|id| *id != "s01").cloned().collect();
        assert_eq!(walk(true, 50).await?, (all.clone(), 2));
        assert_eq!(walk(false, 23).await?, (without, 3));
        assert_eq!(walk(true, 1_000).await?, (all, 1));
        // 40 definitions of nearly 256 KiB do not fit into one page.
        let large = ScenarioDefinition { steps: vec![Step { next: "x".repeat(250 << 10), ..Step::default() }], ..by_call() };
        for at in 0..40 {
            create(&db, &shop, &format!("x{at:02}"), large.clone()).await?;
        }
        let (ids, pages) = walk(true, 1_000).await?;
        assert_eq!((ids.len(), pages), (110, 2));
    }
    Ok(())
}

#[tokio::test]
async fn templates_and_channels_are_used_by_what_persons_can_be_in() -> Result<()> {
    for store in stores() {
        let (db, shop) = open(&store).await?;
        let webhook = WebhookStep { channel: "hook".to_owned(), template: "call".to_owned(), ..WebhookStep::default() };
        let webhook = Step { kind: Some(step::Kind::Webhook(webhook)), ..Step::default() };
        let with = |steps: Vec<Step>| ScenarioDefinition { steps, ..by_call() };
        create(&db, &shop, "a", with(vec![message("mail", "hello"), message("mail", "hello"), message("", "x\0")])).await?;
        create(&db, &shop, "b", with(vec![message("mail", "bye"), webhook])).await?;
        let users = async |what: Used<'_>| users_of(&db, &shop, what).await;
        assert!(users(Used::Channel("mail")).await?.is_empty(), "drafts use nothing");
        start(&db, &shop, "a", 10).await?;
        start(&db, &shop, "b", 10).await?;
        assert_eq!(users(Used::Channel("mail")).await?, ["scenario a", "scenario b"]);
        assert_eq!(users(Used::Template("hello")).await?, ["scenario a"]);
        assert_eq!(users(Used::Channel("hook")).await?, ["scenario b"]);
        assert_eq!(users(Used::Template("call")).await?, ["scenario b"]);
        assert!(users(Used::Template("mail")).await?.is_empty() && users(Used::Template("x\0")).await?.is_empty());
        assert!(users_of(&db, &"other".parse()?, Used::Channel("mail")).await?.is_empty());
        update(&db, &shop, "a", with(vec![message("sms", "hello")])).await?;
        assert!(users(Used::Channel("sms")).await?.is_empty(), "that version was not started");
        start(&db, &shop, "a", 20).await?;
        after(change::pause(&db, &shop, "a", "", 30).await?);
        assert_eq!(users(Used::Channel("sms")).await?, ["scenario a"]);
        assert_eq!(users(Used::Channel("mail")).await?, ["scenario a", "scenario b"], "runs may still be on the older version");
        after(change::end(&db, &shop, "a", "", 40).await?);
        assert_eq!(users(Used::Channel("mail")).await?, ["scenario b"]);
    }
    Ok(())
}

#[test]
fn a_change_of_everything_needs_a_definition_and_a_change_of_the_name_does_not() {
    let scenario = Scenario { name: "new".to_owned(), ..Scenario::default() };
    let error = content_of(scenario.clone(), &["name", "description", "definition"]).expect_err("it would lose the definition");
    assert!(matches!(&error, CampaignError::Invalid(faults) if faults[0].field == "scenario.definition"), "{error}");
    let wanted = content_of(scenario, &["name"]).expect("the name alone");
    let mut stored = Content { description: "stays".to_owned(), ..content(by_call()) };
    take_over(&mut stored, wanted, &["name"]);
    assert_eq!((stored.name.as_str(), stored.description.as_str(), &stored.definition), ("new", "stays", &by_call()));
}

#[test]
fn states_are_stored_and_told_by_their_names() {
    for (state, told) in [
        (State::Draft, ScenarioState::Draft),
        (State::Running, ScenarioState::Running),
        (State::Paused, ScenarioState::Paused),
        (State::Ended, ScenarioState::Ended),
        (State::Archived, ScenarioState::Archived),
    ] {
        assert_eq!(State::of(state.name()).ok(), Some(state));
        assert_eq!(state.to_proto(), told);
    }
    assert!(State::of("started").is_err());
}
