//! The story by the command line and the real clock, in every shape of the program: who left something in the cart gets a mail, clicks,
//! unsubscribes by one click or buys; and the module switched off and on.

use anyhow::{Context, ensure};
use segue_proto::campaign::v1::ListScenariosRequest;
use segue_proto::events::v1::Event;
use segue_proto::ingest::v1::TrackRequest;
use segue_proto::tenancy::v1::Module;
use segue_tests::events::event;
use segue_tests::http;
use segue_tests::installation::{Installation, Shape, TenantKeys};
use segue_tests::mail::{Mail, SmtpServer};
use serde_json::{Value, json};
use tonic::Code;

use super::shop::{agreed, item};
use super::terminal::Terminal;
use crate::modules::eventually;
use crate::semantics::now_us;

/// Where links in mails lead; the test follows them to the gateway, wherever that listens.
const PUBLIC_URL: &str = "http://127.0.0.1:9";
const SETTINGS: [&str; 3] =
    ["campaign.send.allow_insecure=true", "campaign.send.allow_private_addresses=true", "campaign.public_url=http://127.0.0.1:9"];
/// Who leaves something in the cart while campaigns are on.
const USERS: usize = 6;
const CLICKS: usize = 0;
const UNSUBSCRIBES: usize = 1;
const BUYS: usize = 2;
/// Who does while they are off.
const LATE: usize = USERS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carts_become_mails_clicks_and_results_by_the_command_line_in_every_shape() {
    let Some(smtp) = SmtpServer::available().expect("where there is one") else {
        eprintln!("no SMTP server here: tests/run starts one");
        return;
    };
    for shape in Shape::available() {
        let story = async |installation| Story::open(installation, &smtp).await?.tell().await;
        if let Err(error) = crate::on(shape, &SETTINGS, story).await {
            panic!("as {shape:?}: {error:?}");
        }
    }
}

struct Story<'s> {
    installation: Installation,
    keys: TenantKeys,
    terminal: Terminal,
    smtp: &'s SmtpServer,
    /// Of this run: the server keeps the mails of others.
    domain: String,
}

impl<'s> Story<'s> {
    async fn open(installation: Installation, smtp: &'s SmtpServer) -> anyhow::Result<Self> {
        let keys = installation.tenant("shop").await?;
        installation.set_audiences("shop", true).await?;
        installation.set_module("shop", Module::Campaign, true).await?;
        let terminal = Terminal::of(&installation, &keys);
        let domain = format!("{}.example", segue_testkit::unique_name().replace('_', "-"));
        let story = Self { installation, keys, terminal, smtp, domain };
        eventually(Code::Ok, async || Ok(story.answer().await)).await?;
        Ok(story)
    }

    async fn tell(self) -> anyhow::Result<()> {
        self.define()?;
        for user in 0..USERS {
            self.leaves_something_in_the_cart(user).await?;
        }
        eventually(USERS, async || Ok(self.mails()?.len())).await.with_context(|| self.installation.log_tail(0))?;
        self.react().await?;
        self.switch_off_and_on().await
    }

    fn define(&self) -> anyhow::Result<()> {
        let segue = |words: &[&str], input: Value| self.terminal.segue_with(words, &input);
        let carts = "did df_add_to_cart within 7 days and never did df_purchase within 7 days";
        segue(&["audience", "create", "left_in_cart", "--where", carts], Value::Null)?;
        // At night too, or the outcome would depend on when the test runs.
        segue(&["policy", "set", "-"], json!({ "caps": [{ "count": 10, "days": 1, "kinds": ["CHANNEL_KIND_EMAIL"] }] }))?;
        let email = json!({ "url": self.smtp.url, "from": "Shop <news@shop.example>" });
        segue(&["channel", "create", "mail", "-"], json!({ "name": "mail", "email": email }))?;
        let html = "<p>Hello {{ person.traits.df_name }}: <a href=\"https://shop.example/cart\">your cart</a></p>";
        let locales = json!([{ "locale": "en", "parts": { "subject": "Your cart", "html": html } }]);
        let template = json!({ "name": "cart", "kind": "CHANNEL_KIND_EMAIL", "default_locale": "en", "locales": locales });
        segue(&["message", "create", "cart", "-"], template)?;
        segue(&["scenario", "create", "cart", "-"], scenario("missing"))?;
        let faults =
            segue(&["scenario", "validate", "cart"], Value::Null).map_or_else(|error| error.to_string(), |found| found.to_string());
        ensure!(faults.contains("definition.steps[2].message.template"), "{faults}");
        ensure!(segue(&["scenario", "start", "cart"], Value::Null).is_err(), "it has faults");
        // Its definition is read from standard input as well.
        segue(&["scenario", "update", "cart", "--definition", "-"], scenario("cart"))?;
        let started = segue(&["scenario", "start", "cart"], Value::Null)?;
        ensure!(started["state"] == "SCENARIO_STATE_RUNNING" && started["started_version"] == 2, "{started}");
        Ok(())
    }

    async fn leaves_something_in_the_cart(&self, user: usize) -> anyhow::Result<()> {
        let mut in_cart = did(user, "df_add_to_cart");
        in_cart.items.push(item("Chair", 50, 1));
        self.send(vec![agreed(did(user, "df_sign_up"), &format!("User {user}"), &self.address(user)), in_cart]).await
    }

    /// Somebody clicks, somebody unsubscribes, somebody buys; then all are nudged.
    async fn react(&self) -> anyhow::Result<()> {
        let (link, _) = self.links(CLICKS)?;
        let (status, _) = http::get(&link).await?;
        ensure!(status == 302, "the link answers {status}");
        let (_, unsubscribe) = self.links(UNSUBSCRIBES)?;
        let (status, answer) = http::post(&unsubscribe, "none", "List-Unsubscribe=One-Click").await?;
        ensure!(status == 200, "unsubscribing answers {status}: {answer}");
        let who = format!("user_id:{}", self.user(UNSUBSCRIBES));
        let refused = async || {
            let consents = self.terminal.segue(&["consent", "list", &who])?;
            Ok(consents["consents"][0]["state"] == "CONSENT_STATE_REFUSED")
        };
        eventually(true, refused).await?;
        let mut bought = did(BUYS, "df_purchase");
        bought.items.push(item("Chair", 50, 2));
        self.send(vec![bought]).await?;
        eventually(USERS - 1, async || Ok(self.active_runs()?)).await?;

        self.send((0..USERS).map(|user| did(user, "nudge")).collect()).await?;
        eventually(0, async || Ok(self.active_runs()?)).await?;
        eventually(USERS + USERS - 2, async || Ok(self.mails()?.len())).await?;
        for user in 0..USERS {
            let wanted = if matches!(user, UNSUBSCRIBES | BUYS) { 1 } else { 2 };
            ensure!(self.smtp.to(&self.address(user))?.len() == wanted, "user {user}: {:?}", self.smtp.to(&self.address(user))?);
        }
        self.explained()?;
        eventually(json!([USERS * 2 - 2, 1, 1, "100.0000"]), async || self.results()).await
    }

    /// Why whoever unsubscribed was not sent a second mail.
    fn explained(&self) -> anyhow::Result<()> {
        let sends = self.terminal.segue(&["send", "list", "--scenario", "cart", "--state", "suppressed"])?;
        let sends = sends["sends"].as_array().context("a list")?;
        ensure!(sends.len() == 1, "{sends:?}");
        let id = sends[0]["id"].as_str().context("an id")?;
        let why = self.terminal.segue(&["send", "explain", id])?;
        ensure!(why["send"]["reason"] == "SEND_REASON_NO_CONSENT" && why.to_string().contains("unsubscribe_link"), "{why}");
        let last = why["decisions"].as_array().and_then(|decisions| decisions.last()).context("decisions")?;
        ensure!(last["check"] == "consent" && last["outcome"] == "suppressed", "{why}");
        Ok(())
    }

    /// Sent, clicked, converted, and what that is worth.
    fn results(&self) -> anyhow::Result<Value> {
        let total = self.terminal.segue(&["scenario", "results", "cart"])?["total"].clone();
        Ok(json!([total["sent"], total["clicked"], total["converted"], total["value"]]))
    }

    /// While it is off nothing is sent and calls say so; when it is on again, what came meanwhile is dealt with.
    async fn switch_off_and_on(&self) -> anyhow::Result<()> {
        let before = self.mails()?.len();
        self.installation.set_module("shop", Module::Campaign, false).await?;
        eventually(Code::FailedPrecondition, async || Ok(self.answer().await)).await?;
        self.leaves_something_in_the_cart(LATE).await?;
        let members = async || {
            let members = self.terminal.segue(&["audience", "members", "left_in_cart", "--details"])?;
            Ok(members.to_string().contains(&self.user(LATE)))
        };
        eventually(true, members).await?;
        ensure!(self.mails()?.len() == before, "a mail was sent while campaigns were off");
        self.installation.set_module("shop", Module::Campaign, true).await?;
        eventually(1, async || Ok(self.smtp.to(&self.address(LATE))?.len())).await?;
        ensure!(self.mails()?.len() == before + 1, "one mail was to be sent");
        Ok(())
    }

    async fn send(&self, events: Vec<Event>) -> anyhow::Result<()> {
        let count = events.len();
        let answer = self.keys.gateway.ingest().track(TrackRequest { events }).await?.into_inner();
        ensure!(answer.accepted as usize == count, "{answer:?}");
        Ok(())
    }

    /// How the service answers.
    async fn answer(&self) -> Code {
        let answer = self.keys.gateway.scenarios().list_scenarios(ListScenariosRequest::default()).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    fn active_runs(&self) -> anyhow::Result<usize> {
        let status = self.terminal.segue(&["scenario", "status", "--wait", "1000"])?;
        Ok(status["active_runs"].as_u64().with_context(|| status.to_string())? as usize)
    }

    fn user(&self, user: usize) -> String {
        format!("user-{user}")
    }

    fn address(&self, user: usize) -> String {
        format!("u{user}@{}", self.domain)
    }

    /// Different mails to this run's addresses.
    fn mails(&self) -> anyhow::Result<Vec<Mail>> {
        self.smtp.at(&self.domain)
    }

    /// Where the mail's link and its one-click unsubscription are at the gateway.
    fn links(&self, user: usize) -> anyhow::Result<(String, String)> {
        let mail = self.smtp.to(&self.address(user))?.into_iter().next().context("a mail")?;
        ensure!(mail.headers["list-unsubscribe-post"] == "List-Unsubscribe=One-Click", "{mail:?}");
        let html = mail.html.as_deref().context("a page")?;
        let here = |text: &str, before: &str, after: char| {
            let link = text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).map(|(link, _)| link);
            let path = link.and_then(|link| link.strip_prefix(PUBLIC_URL)).with_context(|| format!("no link in {text}"))?;
            anyhow::Ok(format!("{}{path}", self.installation.url()))
        };
        Ok((here(html, "<a href=\"", '"')?, here(&mail.headers["list-unsubscribe"], "<", '>')?))
    }
}

fn did(user: usize, name: &str) -> Event {
    event(&format!("{user}-{name}"), name, now_us(), &[("user_id", &format!("user-{user}"))])
}

/// A mail after a second, and another one to whoever is nudged and has not bought; half are called so, half otherwise.
fn scenario(template: &str) -> Value {
    let message = |template: &str| json!({ "channel": "mail", "template": template });
    let variant = |name: &str| json!({ "name": name, "weight": 1, "next": "first" });
    let nudge = json!([{ "on": { "events": ["nudge"] }, "next": "again" }]);
    json!({
        "entry": { "audience": { "audience": "left_in_cart" } },
        "steps": [
            { "id": "second", "next": "try", "wait": { "duration": { "count": 1, "unit": "TIME_UNIT_SECOND" } } },
            { "id": "try", "experiment": { "variants": [variant("one"), variant("other")] } },
            { "id": "first", "next": "nudged", "message": message(template) },
            { "id": "nudged", "wait": { "for_event": { "arms": nudge, "timeout": { "count": 1, "unit": "TIME_UNIT_HOUR" } } } },
            { "id": "again", "message": message("cart") },
        ],
        "exits": [{ "event": { "events": ["df_purchase"] } }],
        "goals": [{ "name": "buy", "on": { "events": ["df_purchase"] }, "window": { "count": 7, "unit": "TIME_UNIT_DAY" } }],
    })
}
