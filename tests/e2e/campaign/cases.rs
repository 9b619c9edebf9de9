//! The cases that `semantics.md` gives for campaigns, through the public calls, on a clock that is moved by hand.

use anyhow::ensure;
use segue_proto::campaign::v1::{
    Channel, ChannelKind, CreateChannelRequest, CreateTemplateRequest, Entry, EventEntry, ExitRule, GetScenarioResultsRequest,
    ListRunsRequest, ListSendsRequest, LocalizedParts, Purpose, Run, RunState, ScenarioDefinition, Send, SendReason, SendState,
    SendingPolicy, Template, TimeRule, UpdateSendingPolicyRequest, channel, entry, exit_rule,
};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{Event, Value};
use segue_proto::query::v1::TimeUnit;
use segue_tests::events::{identifier, text};

use super::providers::Providers;
use super::shop::{HOUR_US, SECOND_US, Shop, goal, message, on, step as step_of, wait};
use crate::truth::Stage;

/// From the morning, when the clock stands still, to ten at night, in Seoul.
const UNTIL_TEN_AT_NIGHT_US: i64 = 13 * HOUR_US;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cases_of_campaigns_hold() {
    let stage = Stage::start_with(|settings| {
        settings.campaign.send.allow_insecure = true;
        settings.campaign.send.allow_private_addresses = true;
    })
    .await
    .expect("the process starts");
    for case in ["carts", "addresses", "unknown", "night", "dropped"] {
        let done = async {
            let providers = Providers::start().await?;
            let shop = Shop::open(&stage, case).await?;
            define(&shop, &providers).await?;
            match case {
                "carts" => each_cart_is_a_run_of_its_own(&shop).await,
                "addresses" => every_device_and_the_latest_number_are_told_and_one_purchase_is_one(&shop, &providers).await,
                "unknown" => nobody_is_told_who_was_not_asked(&shop, &providers).await,
                "night" => what_comes_at_night_waits_for_the_morning(&shop, &providers).await,
                _ => what_comes_at_night_is_dropped_where_it_is_said_so(&shop, &providers).await,
            }
        };
        if let Err(error) = done.await {
            panic!("{case}: {error:?}");
        }
    }
    stage.process.stop().await.expect("the process stops");
}

async fn define(shop: &Shop<'_>, providers: &Providers) -> anyhow::Result<()> {
    let make = async |id: &str, settings: channel::Settings, kind: ChannelKind, part: &str| {
        let channel = Channel { id: id.to_owned(), name: id.to_owned(), settings: Some(settings), ..Channel::default() };
        shop.gateway.channels().create_channel(CreateChannelRequest { channel: Some(channel) }).await?;
        let template = Template {
            id: id.to_owned(),
            name: id.to_owned(),
            kind: kind.into(),
            locales: vec![LocalizedParts { locale: "en".to_owned(), parts: [(part.to_owned(), "Hello".to_owned())].into() }],
            default_locale: "en".to_owned(),
            ..Template::default()
        };
        shop.gateway.templates().create_template(CreateTemplateRequest { template: Some(template) }).await?;
        anyhow::Ok(())
    };
    make("push", channel::Settings::Fcm(providers.pushing()?), ChannelKind::Fcm, "title").await?;
    make("text", channel::Settings::Sms(providers.texting()), ChannelKind::Sms, "text").await
}

fn by_event(name: &str, entry_key: &str) -> Option<Entry> {
    let entry = EventEntry { on: Some(on(name)), entry_key_property: entry_key.to_owned() };
    Some(Entry { on: Some(entry::On::Event(entry)), only_if: None })
}

/// A push to whoever opens the app.
async fn start_pushing(shop: &Shop<'_>) -> anyhow::Result<()> {
    let steps = vec![step_of("tell", "", message("push", "push"))];
    shop.start("pushing", ScenarioDefinition { entry: by_event("df_app_open", ""), steps, ..ScenarioDefinition::default() }).await
}

/// Somebody opens the app on a device.
fn opens(shop: &Shop<'_>, user: &str, device: &str, agreed: bool) -> Event {
    let mut opened = shop.did(user, "df_app_open", &[]);
    opened.message_id = format!("{}-{device}", opened.message_id);
    opened.identifiers.extend([identifier("device_id", device), identifier("push_token", &format!("token-{device}"))]);
    if agreed {
        for name in ["df_push_ads_optin", "df_sms_ads_optin"] {
            opened.traits.insert(name.to_owned(), Value { kind: Some(Kind::BoolValue(true)) });
        }
    }
    opened
}

async fn sends(shop: &Shop<'_>) -> anyhow::Result<Vec<Send>> {
    let request = ListSendsRequest { page_size: 1_000, ..ListSendsRequest::default() };
    Ok(shop.gateway.messages().list_sends(request).await?.into_inner().sends)
}

async fn runs(shop: &Shop<'_>, scenario: &str) -> anyhow::Result<Vec<Run>> {
    let request = ListRunsRequest { scenario: scenario.to_owned(), page_size: 1_000, ..ListRunsRequest::default() };
    Ok(shop.gateway.scenarios().list_runs(request).await?.into_inner().runs)
}

/// Cart c1 and c2 of one person: two runs; buying c1 ends only the first.
async fn each_cart_is_a_run_of_its_own(shop: &Shop<'_>) -> anyhow::Result<()> {
    let bought = ExitRule { on: Some(exit_rule::On::Event(on("df_purchase"))), entry_key_property: "cart".to_owned() };
    let definition = ScenarioDefinition {
        entry: by_event("df_add_to_cart", "cart"),
        steps: vec![step_of("hour", "", wait(1, TimeUnit::Hour))],
        exits: vec![bought],
        ..ScenarioDefinition::default()
    };
    shop.start("carts", definition).await?;
    for cart in ["c1", "c2", "c1"] {
        shop.pass(SECOND_US);
        shop.send(vec![shop.did("u", "df_add_to_cart", &[("cart", text(cart))])]).await?;
    }
    shop.settle().await?;
    let keys = |runs: &[Run]| -> Vec<String> {
        let mut keys: Vec<_> = runs.iter().map(|run| format!("{} {:?} {}", run.entry_key, run.state(), run.end_reason)).collect();
        keys.sort();
        keys
    };
    let active = |key: &str| format!("{key} {:?} ", RunState::Active);
    ensure!(keys(&runs(shop, "carts").await?) == [active("c1"), active("c2")], "{:?}", runs(shop, "carts").await?);
    shop.pass(SECOND_US);
    shop.send(vec![shop.did("u", "df_purchase", &[("cart", text("c1"))])]).await?;
    shop.settle().await?;
    let wanted = [format!("c1 {:?} EXIT_RULE", RunState::Ended), active("c2")];
    ensure!(keys(&runs(shop, "carts").await?) == wanted, "{:?}", runs(shop, "carts").await?);
    Ok(())
}

/// Two devices and two phone numbers: a push to both devices, a text message to the latest number, one conversion.
async fn every_device_and_the_latest_number_are_told_and_one_purchase_is_one(shop: &Shop<'_>, providers: &Providers) -> anyhow::Result<()> {
    let definition = ScenarioDefinition {
        entry: by_event("df_view_home", ""),
        steps: vec![step_of("push", "text", message("push", "push")), step_of("text", "", message("text", "text"))],
        goals: vec![goal("buy", "df_purchase")],
        ..ScenarioDefinition::default()
    };
    shop.start("both", definition).await?;
    for (device, phone) in [("d1", "+821011112222"), ("d2", "+821033334444")] {
        shop.pass(SECOND_US);
        let mut opened = opens(shop, "u", device, true);
        opened.identifiers.push(identifier("phone", phone));
        shop.send(vec![opened]).await?;
    }
    shop.pass(SECOND_US);
    shop.send(vec![shop.did("u", "df_view_home", &[])]).await?;
    shop.settle().await?;
    let told = |to: &str| (to.to_owned(), "Hello".to_owned());
    ensure!(providers.pushes() == [told("token-d1"), told("token-d2")], "{:?}", providers.pushes());
    ensure!(providers.texts() == [told("+821033334444")], "{:?}", providers.texts());
    shop.pass(SECOND_US);
    shop.send(vec![shop.did("u", "df_purchase", &[])]).await?;
    shop.settle().await?;
    let request = GetScenarioResultsRequest { scenario: "both".to_owned(), range: None };
    let total = shop.gateway.results().get_scenario_results(request).await?.into_inner().total.unwrap_or_default();
    ensure!((total.sent, total.converted) == (2, 1), "{total:?}");
    Ok(())
}

/// Consent unknown, advertising: not sent, reason recorded.
async fn nobody_is_told_who_was_not_asked(shop: &Shop<'_>, providers: &Providers) -> anyhow::Result<()> {
    start_pushing(shop).await?;
    shop.send(vec![opens(shop, "u", "d1", false)]).await?;
    shop.settle().await?;
    ensure!(providers.pushes().is_empty(), "{:?}", providers.pushes());
    let sends = sends(shop).await?;
    let [send] = sends.as_slice() else { anyhow::bail!("{sends:?}") };
    ensure!((send.state(), send.reason()) == (SendState::Suppressed, SendReason::NoConsent), "{send:?}");
    Ok(())
}

/// An advertising push at 22:00 with consent, without night consent: at 08:00.
async fn what_comes_at_night_waits_for_the_morning(shop: &Shop<'_>, providers: &Providers) -> anyhow::Result<()> {
    start_pushing(shop).await?;
    shop.pass(UNTIL_TEN_AT_NIGHT_US);
    let mut at_night_too = opens(shop, "owl", "d2", true);
    at_night_too.traits.insert("df_push_night_ads_optin".to_owned(), Value { kind: Some(Kind::BoolValue(true)) });
    shop.send(vec![opens(shop, "u", "d1", true), at_night_too]).await?;
    shop.settle().await?;
    let told = |to: &str| (to.to_owned(), "Hello".to_owned());
    ensure!(providers.pushes() == [told("token-d2")], "{:?}", providers.pushes());
    // Two minutes to eight, but for the seconds that other cases took. What becomes due within a minute is counted as waiting already.
    shop.pass(10 * HOUR_US - 120 * SECOND_US);
    shop.settle().await?;
    ensure!(providers.pushes() == [told("token-d2")], "{:?}", providers.pushes());
    shop.pass(121 * SECOND_US);
    shop.settle().await?;
    ensure!(providers.pushes() == [told("token-d1"), told("token-d2")], "{:?}", providers.pushes());
    Ok(())
}

/// The same where the policy says that it is dropped.
async fn what_comes_at_night_is_dropped_where_it_is_said_so(shop: &Shop<'_>, providers: &Providers) -> anyhow::Result<()> {
    let night = TimeRule {
        name: "night".to_owned(),
        from: "21:00".to_owned(),
        to: "08:00".to_owned(),
        purpose: Purpose::Advertising.into(),
        unless_consent: "night_advertising".to_owned(),
        time_zone: "Asia/Seoul".to_owned(),
        drop: true,
        ..TimeRule::default()
    };
    let policy = SendingPolicy { times: vec![night], ..SendingPolicy::default() };
    shop.gateway.channels().update_sending_policy(UpdateSendingPolicyRequest { policy: Some(policy) }).await?;
    start_pushing(shop).await?;
    // It is a morning again.
    shop.pass(UNTIL_TEN_AT_NIGHT_US + HOUR_US);
    shop.send(vec![opens(shop, "u", "d1", true)]).await?;
    shop.settle().await?;
    ensure!(providers.pushes().is_empty(), "{:?}", providers.pushes());
    let sends = sends(shop).await?;
    let [send] = sends.as_slice() else { anyhow::bail!("{sends:?}") };
    ensure!((send.state(), send.reason()) == (SendState::Suppressed, SendReason::QuietHours), "{send:?}");
    Ok(())
}
