//! The story that campaigns are for: carts are abandoned, an hour passes, half of the persons get one mail and half another, some buy, leave
//! at once, and the report shows what the mails changed.

use std::collections::BTreeMap;

use anyhow::ensure;
use segue_proto::campaign::v1::{
    GetExperimentResultsRequest, GetScenarioResultsRequest, ListRunsRequest, ListSendsRequest, RunState, ScenarioDefinition, Send,
    SendState,
};
use segue_proto::query::v1::TimeUnit;
use segue_tests::mail::SmtpServer;

use super::shop::{HOUR_US, SECOND_US, Shop, entered, exit_on, experiment, goal, item, message, signed_up, step as step_of, wait};
use crate::truth::Stage;

/// Persons who abandon their cart.
const PERSONS: usize = 24;

fn user(at: usize) -> String {
    format!("user-{at}")
}

fn address(at: usize) -> String {
    format!("u{at}@{}", domain())
}

/// Of this run: the server keeps the mails of others.
fn domain() -> &'static str {
    static DOMAIN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    DOMAIN.get_or_init(|| format!("{}.example", segue_testkit::unique_name().replace('_', "-")))
}

fn scenario() -> ScenarioDefinition {
    ScenarioDefinition {
        entry: entered("left_in_cart"),
        steps: vec![
            step_of("hour", "offer", wait(1, TimeUnit::Hour)),
            step_of("offer", "", experiment(&[("plain", "plain_mail"), ("coupon", "coupon_mail")])),
            step_of("plain_mail", "days", message("mail", "cart_plain")),
            step_of("coupon_mail", "days", message("mail", "cart_coupon")),
            step_of("days", "again", wait(2, TimeUnit::Day)),
            step_of("again", "", message("mail", "cart_plain")),
        ],
        exits: vec![exit_on("df_purchase")],
        goals: vec![goal("buy", "df_purchase")],
        ..ScenarioDefinition::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_cart_becomes_a_mail_a_purchase_and_a_result() {
    let Some(smtp) = SmtpServer::available().expect("where there is one") else {
        eprintln!("no SMTP server here: tests/run starts one");
        return;
    };
    let stage = Stage::start_with(|settings| {
        settings.campaign.send.allow_insecure = true;
        settings.campaign.send.allow_private_addresses = true;
        settings.campaign.public_url = "http://127.0.0.1:9".to_owned();
    })
    .await
    .expect("the process starts");
    if let Err(error) = story(&stage, &smtp).await {
        panic!("{error:?}");
    }
    stage.process.stop().await.expect("the process stops");
}

async fn story(stage: &Stage, smtp: &SmtpServer) -> anyhow::Result<()> {
    // In the morning: at night advertising would wait.
    stage.clock.advance_us(3 * HOUR_US);
    let shop = Shop::open(stage, "shop").await?;
    shop.audience("left_in_cart", "did df_add_to_cart within 7 days and never did df_purchase within 7 days").await?;
    shop.mail_channel("mail", &smtp.url).await?;
    let greeting = "Hello {{ person.traits.df_name }}, your cart waits.";
    shop.mail_template("cart_plain", &[("subject", greeting), ("text", greeting)]).await?;
    let coupon = "<p>Hello {{ person.traits.df_name }}, <a href=\"https://shop.example/cart\">10 % off</a> ({{ experiment.offer }})</p>";
    shop.mail_template("cart_coupon", &[("subject", greeting), ("html", coupon)]).await?;
    shop.start("cart", scenario()).await?;

    let everybody: Vec<usize> = (0..PERSONS).collect();
    shop.send(everybody.iter().map(|at| signed_up(&shop, &user(*at), &format!("Name <{at}>"), &address(*at))).collect()).await?;
    shop.pass(SECOND_US);
    let into_cart = |at: &usize| {
        let mut event = shop.did(&user(*at), "df_add_to_cart", &[]);
        event.items.push(item("Chair", 50, 1));
        event
    };
    shop.send(everybody.iter().map(into_cart).collect()).await?;
    shop.settle().await?;
    ensure!(runs(&shop, RunState::Active).await? == PERSONS, "everybody is in the scenario");
    ensure!(smtp.at(domain())?.is_empty(), "an hour has not passed");

    // Two buy before the hour is over, and leave at once.
    shop.pass(HOUR_US - 2 * SECOND_US);
    shop.send(vec![bought(&shop, 0), bought(&shop, 1)]).await?;
    shop.settle().await?;
    ensure!(runs(&shop, RunState::Active).await? == PERSONS - 2, "who bought has left");
    ensure!(smtp.at(domain())?.is_empty(), "an hour has not passed");

    shop.pass(3 * SECOND_US);
    shop.settle().await?;
    let mails = smtp.at(domain())?;
    ensure!(mails.len() == PERSONS - 2, "{} mails; {:?}", mails.len(), sends(&shop).await?.first());
    for at in 2..PERSONS {
        let of = smtp.to(&address(at))?;
        ensure!(of.len() == 1, "{at}: {of:?}");
        let mail = &of[0];
        ensure!(mail.headers["subject"] == format!("Hello Name <{at}>, your cart waits."), "{mail:?}");
        ensure!(mail.headers["list-unsubscribe-post"] == "List-Unsubscribe=One-Click", "{mail:?}");
        if let Some(html) = &mail.html {
            ensure!(html.contains(&format!("Hello Name &lt;{at}&gt;")) && html.contains("(coupon)"), "{html}");
            ensure!(html.contains("http://127.0.0.1:9/l/") && !html.contains("https://shop.example/cart\""), "links are signed: {html}");
        }
    }
    let with_coupon: Vec<usize> = (2..PERSONS).filter(|at| smtp.to(&address(*at)).is_ok_and(|of| of[0].html.is_some())).collect();
    ensure!((3..=PERSONS - 5).contains(&with_coupon.len()), "{} have a coupon", with_coupon.len());

    // Whoever has a coupon buys, but for one; of the others one does. Nobody who bought hears of it again.
    let others: Vec<usize> = (2..PERSONS).filter(|at| !with_coupon.contains(at)).collect();
    let buyers: Vec<usize> = with_coupon[1..].iter().chain(&others[..1]).copied().collect();
    shop.pass(HOUR_US);
    shop.send(buyers.iter().map(|at| bought(&shop, *at)).collect()).await?;
    shop.settle().await?;
    ensure!(runs(&shop, RunState::Active).await? == PERSONS - 2 - buyers.len(), "who bought has left");
    shop.pass(48 * HOUR_US);
    shop.settle().await?;
    ensure!(smtp.at(domain())?.len() == (PERSONS - 2) * 2 - buyers.len(), "the second mail goes to who has not bought");
    ensure!(buyers.iter().all(|at| smtp.to(&address(*at)).is_ok_and(|of| of.len() == 1)), "buyers got one");
    ensure!(runs(&shop, RunState::Active).await? == 0, "all runs are over");
    results(&shop, &with_coupon, &others, &buyers).await
}

fn bought(shop: &Shop<'_>, at: usize) -> segue_proto::events::v1::Event {
    let mut event = shop.did(&user(at), "df_purchase", &[]);
    event.items.push(item("Chair", 50, 2));
    event
}

async fn runs(shop: &Shop<'_>, state: RunState) -> anyhow::Result<usize> {
    let request = ListRunsRequest { scenario: "cart".to_owned(), page_size: 1_000, ..ListRunsRequest::default() };
    let runs = shop.gateway.scenarios().list_runs(request).await?.into_inner().runs;
    Ok(runs.iter().filter(|run| run.state() == state).count())
}

async fn sends(shop: &Shop<'_>) -> anyhow::Result<Vec<Send>> {
    let request = ListSendsRequest { scenario: "cart".to_owned(), page_size: 1_000, ..ListSendsRequest::default() };
    Ok(shop.gateway.messages().list_sends(request).await?.into_inner().sends)
}

async fn results(shop: &Shop<'_>, with_coupon: &[usize], others: &[usize], buyers: &[usize]) -> anyhow::Result<()> {
    let mut client = shop.gateway.results();
    let request = GetScenarioResultsRequest { scenario: "cart".to_owned(), range: None };
    let results = client.get_scenario_results(request).await?.into_inner();
    let total = results.total.clone().unwrap_or_default();
    let sent = ((PERSONS - 2) * 2 - buyers.len()) as u64;
    ensure!((results.entered, results.active, total.sent) == (PERSONS as u64, 0, sent), "{results:?}");
    // Two bought without a mail: they converted as well, each once.
    ensure!(total.converted == buyers.len() as u64 + 2 && total.converted_unique == total.converted, "{results:?}");
    ensure!(total.value == format!("{}.0000", total.converted * 100), "{results:?}");
    let ended: BTreeMap<String, u64> = results.ended.into_iter().collect();
    ensure!(ended.get("EXIT_RULE") == Some(&(buyers.len() as u64 + 2)), "{ended:?}");
    ensure!(ended.get("COMPLETED") == Some(&((PERSONS - 2 - buyers.len()) as u64)), "{ended:?}");

    let request =
        GetExperimentResultsRequest { scenario: "cart".to_owned(), step: "offer".to_owned(), ..GetExperimentResultsRequest::default() };
    let experiment = client.get_experiment_results(request).await?.into_inner();
    let found: Vec<(&str, u64, u64, &str)> = experiment
        .variants
        .iter()
        .map(|variant| (variant.variant.as_str(), variant.persons, variant.converted, variant.value.as_str()))
        .collect();
    let coupon_value = format!("{}.0000", (with_coupon.len() - 1) * 100);
    let wanted = [
        ("plain", others.len() as u64, 1, "100.0000"),
        ("coupon", with_coupon.len() as u64, with_coupon.len() as u64 - 1, coupon_value.as_str()),
    ];
    ensure!(found == wanted, "{found:?} rather than {wanted:?}");
    let coupon = &experiment.variants[1];
    ensure!(coupon.lift > 0.0 && coupon.p_value < 0.05 && coupon.probability_best > 0.95, "{coupon:?}");
    ensure!(!experiment.sample_ratio_mismatch && experiment.control == "plain", "{experiment:?}");

    let sends = sends(shop).await?;
    ensure!(sends.len() as u64 == sent && sends.iter().all(|send| send.state() == SendState::Sent), "{} sends", sends.len());
    Ok(())
}
