//! The acceptance cases of the semantics, S1 to S6, as live audiences: each twice, made before the events come in and after, and each in two
//! time zones. What lies at the edge of a window of months leaves it within the test.

use anyhow::{Context, ensure};
use chrono::{DateTime, Months, TimeZone};
use chrono_tz::Tz;
use segue_proto::audience::v1::Audience;
use segue_proto::events::v1::value::Kind;
use segue_proto::query::v1::{Behavior, BehaviorAggregate, Condition, ItemMatch, Operator, TimeUnit, Touch};
use segue_tests::events::{dimension, timestamp};
use segue_tests::installation::Installation;

use super::history::{History, adds_up};
use super::tenant::{Tenant, audience, micros};
use crate::semantics::case::persons_of;
use crate::semantics::now_us;
use crate::semantics::story::Story;
use crate::semantics::words::{
    acquired, all, behavior, compare, compare_items, compared, did, is, item_property, last, not, on_filtered, text, within,
};

const SECOND_US: i64 = 1_000_000;
/// From the beginning to the moment at which what lies at the edge leaves.
const AHEAD_US: i64 = 25 * SECOND_US;

/// What a person of a case does, and what is told of it.
struct Person {
    /// A stream of the story; times count from the beginning of the test.
    does: String,
    /// Another stream, sent when everybody has been told of.
    then: &'static str,
    /// Whether the first stream makes it a member.
    enters: bool,
    /// What is told after that.
    told: &'static str,
}

/// An audience with its persons 1, 2, ….
struct Case {
    id: &'static str,
    condition: Condition,
    persons: Vec<Person>,
    /// Who is in at the end.
    members: &'static str,
}

fn person(does: impl Into<String>, enters: bool, told: &'static str) -> Person {
    Person { does: does.into(), then: "", enters, told }
}

/// A member from the beginning to the end.
fn in_it(does: impl Into<String>) -> Person {
    person(does, true, "")
}

/// Never a member.
fn out(does: impl Into<String>) -> Person {
    person(does, false, "")
}

impl Person {
    fn then(self, then: &'static str) -> Self {
        Self { then, ..self }
    }
}

/// Where windows end in a zone.
struct Edges {
    zone: Tz,
    start_us: i64,
}

impl Edges {
    fn leaves_us(&self) -> i64 {
        self.start_us + AHEAD_US
    }

    /// A window of about so many months, with the time of an event that leaves it at [`Edges::leaves_us`] and one that left it just before
    /// the beginning. Where the month so long ago has no such day or hour, the window is a year or a month.
    fn months(&self, about: u32) -> (u32, String, String) {
        let fitting = [about, 12, 1].into_iter().find_map(|months| Some((months, self.before(self.leaves_us(), months)?)));
        let (months, edge_us) = fitting.expect("one of three has the day");
        // At the very end of a month the day before may be missing there: four days are enough then.
        let gone_us = self.before(self.start_us - 60 * SECOND_US, months).unwrap_or(edge_us - 4 * 86_400 * SECOND_US);
        (months, timestamp(edge_us).to_string(), timestamp(gone_us).to_string())
    }

    /// The same time of the clock so many months before, if there is exactly one.
    fn before(&self, moment_us: i64, months: u32) -> Option<i64> {
        use chrono::Datelike;
        let local = DateTime::from_timestamp_micros(moment_us)?.with_timezone(&self.zone).naive_local();
        let then = local.checked_sub_months(Months::new(months)).filter(|then| then.day() == local.day())?;
        self.zone.from_local_datetime(&then).single().map(|then| then.timestamp_micros())
    }
}

fn opened(months: u32) -> Condition {
    did(within(behavior("df_app_open"), months, TimeUnit::Month))
}

fn never(events: &str) -> Condition {
    not(did(behavior(events)))
}

fn cases(edges: &Edges) -> Vec<Case> {
    vec![opened_without_sign_up(edges), came_by_ads(edges), came_by_search(edges), opened_without_buying(edges), spent_on_childcare(edges)]
        .into_iter()
        .chain(bought_else())
        .collect()
}

fn opened_without_sign_up(edges: &Edges) -> Case {
    let (months, edge, gone) = edges.months(3);
    Case {
        id: "s1",
        condition: all([opened(months), never("df_sign_up")]),
        persons: vec![
            in_it("df_app_open@-21d"),
            out("df_app_open@-21d df_sign_up@-1700d"),
            out(format!("df_app_open@{gone}")),
            person(format!("df_app_open@{edge}"), true, "left TIME"),
            out("df_view_home@-300d"),
            person("df_app_open@-21d", true, "left EVENT").then("df_sign_up@0"),
            // Opened again, so it is not the first event's leaving that counts.
            in_it(format!("df_app_open@{edge} df_app_open@-1d")),
        ],
        members: "1 7",
    }
}

fn came_by_ads(edges: &Edges) -> Case {
    let (months, edge, gone) = edges.months(1);
    let ads = is(dimension("channel_group"), "search_ad display_ad");
    let by_ads = acquired(Touch::First, last(months, TimeUnit::Month), ads);
    Case {
        id: "s2",
        condition: all([by_ads, never("df_sign_up")]),
        persons: vec![
            in_it("df_app_open@-21d{channel_group=display_ad}"),
            out("df_app_open@-21d{channel_group=display_ad} df_sign_up@-20d"),
            out(format!("df_app_open@{gone}{{channel_group=display_ad}}")),
            out("df_app_open@-21d{channel_group=organic}"),
            person(format!("df_app_open@{edge}{{channel_group=display_ad}}"), true, "left TIME"),
            // The first touch of the window is another one when the organic one has left it.
            person(
                format!("df_app_open@{edge}{{channel_group=organic}} df_app_open@-10d{{channel_group=search_ad}}"),
                false,
                "entered TIME",
            ),
            person("df_app_open@-21d{channel_group=search_ad}", true, "left EVENT").then("df_sign_up@0"),
        ],
        members: "1 6",
    }
}

fn came_by_search(edges: &Edges) -> Case {
    let (months, edge, _) = edges.months(1);
    let searched = acquired(Touch::Last, last(months, TimeUnit::Month), is(dimension("channel_group"), "search_ad"));
    let keywords = compare(item_property("item_name"), Operator::Contains, vec![text("stroller"), text("cradle")]);
    let bought = did(Behavior { on: Some(on_filtered("purchase", keywords)), ..Default::default() });
    Case {
        id: "s3",
        condition: all([searched, not(bought)]),
        persons: vec![
            in_it("df_app_open@-21d{channel_group=search_ad}"),
            out("df_app_open@-21d{channel_group=search_ad} df_purchase@-20d{items=baby/blue-stroller:10*1}"),
            in_it("df_app_open@-21d{channel_group=search_ad} df_purchase@-20d{items=baby/red-car:10*1}"),
            out("df_purchase@-20d{items=baby/red-car:10*1}"),
            out("df_app_open@-21d{channel_group=search_ad} df_app_open@-20d{channel_group=organic}"),
            person(format!("df_app_open@{edge}{{channel_group=search_ad}}"), true, "left TIME"),
            person("df_app_open@-21d{channel_group=search_ad}", true, "left EVENT").then("df_purchase@0{items=baby/cradle:10*1}"),
        ],
        members: "1 3",
    }
}

fn opened_without_buying(edges: &Edges) -> Case {
    let (months, edge, _) = edges.months(3);
    Case {
        id: "s4",
        condition: all([opened(months), not(did(within(behavior("df_purchase"), months, TimeUnit::Month)))]),
        persons: vec![
            in_it("df_app_open@-21d df_purchase@-400d"),
            out("df_app_open@-21d df_purchase@-21d"),
            out("df_view_home@-300d"),
            person(format!("df_app_open@-21d df_purchase@{edge}"), false, "entered TIME"),
            person(format!("df_app_open@{edge}"), true, "left TIME"),
            out(format!("df_app_open@{edge} df_purchase@{edge}")),
            person("df_app_open@-21d", true, "left EVENT").then("df_purchase@0"),
        ],
        members: "1 4",
    }
}

fn spent_on_childcare(edges: &Edges) -> Case {
    let (months, edge, gone) = edges.months(6);
    let childcare = Behavior { items: Some(is(item_property("category1"), "childcare")), ..behavior("df_purchase") };
    let spent = within(childcare, months, TimeUnit::Month);
    Case {
        id: "s5",
        condition: compared(spent, BehaviorAggregate::Sum, Operator::GreaterOrEqual, &[Kind::IntValue(1_000_000)]),
        persons: vec![
            out("df_purchase@-21d{items=childcare:999999*1;toys:500000*3}"),
            in_it("df_purchase@-21d{items=childcare:500000*1} df_purchase@-20d{items=toys:1*1;childcare:250000*2}"),
            out("df_purchase@-21d{items=toys:2000000*1}"),
            out(format!("df_purchase@{gone}{{items=childcare:500000*1}} df_purchase@-1d{{items=childcare:500000*1}}")),
            person(format!("df_purchase@{edge}{{items=childcare:1*1}} df_purchase@-1d{{items=childcare:999999*1}}"), true, "left TIME"),
            out("df_purchase@-21d{items=childcare:1000000*}"),
            person("df_purchase@-21d{items=childcare:999999*1}", false, "entered EVENT").then("df_purchase@0{items=childcare:1*1}"),
        ],
        members: "2 7",
    }
}

/// ANY item that is no jewellery differs from NONE that is; of all items to be something else, there must be some.
fn bought_else() -> [Case; 3] {
    let case = |id, operator, items, members: &'static str| {
        let filter = compare_items(item_property("category1"), operator, vec![text("jewellery")], items);
        let bought = did(Behavior { on: Some(on_filtered("df_purchase", filter)), ..Default::default() });
        let is_in = |person: &str| members.split(' ').any(|member| member == person);
        let came = "df_ad_response@-21d{ad_campaign=jewellery}";
        Case {
            id,
            condition: all([acquired(Touch::Unspecified, None, is(dimension("ad_campaign"), "jewellery")), bought]),
            persons: vec![
                person(format!("{came} df_purchase@-20d{{items=jewellery:10*1}}"), is_in("1"), ""),
                person(format!("{came} df_purchase@-20d{{items=jewellery:10*1;shoes:10*1}}"), is_in("2"), ""),
                person(format!("{came} df_purchase@-20d{{items=shoes:10*1}}"), is_in("3"), ""),
                person(format!("{came} df_purchase@-20d"), is_in("4"), ""),
                person(came, is_in("5"), ""),
                person("df_purchase@-20d{items=shoes:10*1}", is_in("6"), ""),
            ],
            members,
        }
    };
    [
        case("s6-any", Operator::NotIn, ItemMatch::Any, "2 3"),
        case("s6-none", Operator::In, ItemMatch::None, "3 4"),
        case("s6-all", Operator::NotIn, ItemMatch::All, "3"),
    ]
}

/// A case as it is told in a zone.
struct Told {
    case: Case,
    story: Story,
    then: Story,
    /// Empty: the tenant's.
    time_zone: &'static str,
    suffix: &'static str,
}

impl Told {
    fn audience(&self, made: &str) -> Audience {
        let id = format!("{}-{}-{made}", self.case.id, self.suffix);
        Audience { time_zone: self.time_zone.to_owned(), ..audience(&id, self.case.condition.clone()) }
    }

    /// Gives what is not as it should be.
    async fn check(&self, tenant: &Tenant, history: &History, leaves_us: i64) -> anyhow::Result<Vec<String>> {
        let mut wrong = Vec::new();
        let numbers = persons_of(&tenant.keys, &self.story).await?;
        for made in ["before", "after"] {
            let id = self.audience(made).id;
            let members = tenant.who(&id, &self.story).await?;
            if members != self.case.members {
                wrong.push(format!("{id}: {members:?} are in, instead of {:?}", self.case.members));
            }
            for (number, at) in &numbers {
                let person = self.case.persons.get(at - 1).context("a person of the case")?;
                let first = if made == "before" { "entered EVENT" } else { "entered DEFINITION" };
                let parts = [if person.enters { first } else { "" }, person.told];
                let expected = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
                let found = history.told(&id, *number);
                if found != expected {
                    wrong.push(format!("{id}: of person {at} is told {found:?}, instead of {expected:?}"));
                    continue;
                }
                for transition in history.of_person(&id, *number) {
                    let time_us = transition.time.map_or(0, micros);
                    let by_time = expected.ends_with("TIME") && Some(transition) == history.of_person(&id, *number).pop();
                    if by_time && time_us != leaves_us {
                        wrong.push(format!("{id}: person {at} is {} µs off", time_us - leaves_us));
                    }
                    // Nothing is told for a time before it was known.
                    if time_us < self.story.start_us - SECOND_US {
                        wrong.push(format!("{id}: {transition:?} is before the beginning"));
                    }
                }
                if !person.then.is_empty() {
                    let named = &history.last(&id, *number)?.message_id;
                    let sent = format!("then/{}/{at}/0", self.then.key);
                    if *named != sent {
                        wrong.push(format!("{id}: {named:?} is named for person {at}, instead of {sent:?}"));
                    }
                }
            }
        }
        Ok(wrong)
    }
}

pub async fn cases_hold(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "acceptance", "Asia/Seoul").await?;
    let start_us = now_us();
    let mut told = Vec::new();
    for (zone, time_zone, suffix) in [(chrono_tz::Asia::Seoul, "", "seoul"), (chrono_tz::America::New_York, "America/New_York", "york")] {
        for case in cases(&Edges { zone, start_us }) {
            let key = format!("{}/{suffix}", case.id);
            let story = Story { key: key.clone(), start_us, persons: case.persons.iter().map(|person| person.does.clone()).collect() };
            let persons = case.persons.iter().map(|person| person.then.to_owned()).collect();
            let then = Story { key, start_us, persons };
            told.push(Told { case, story, then, time_zone, suffix });
        }
    }
    for case in &told {
        tenant.create(case.audience("before")).await?;
    }
    tenant.settled().await?;
    tenant.tell(&told.iter().map(|case| &case.story).collect::<Vec<_>>()).await?;
    tenant.settled().await?;
    for case in &told {
        tenant.create(case.audience("after")).await?;
    }
    tenant.settled().await?;
    ensure!(now_us() < start_us + AHEAD_US, "it took too long: what should leave within the test has left before");
    tenant.send(&told.iter().map(then_events).collect::<anyhow::Result<Vec<_>>>()?.concat()).await?;
    tenant.settled().await?;
    tenant.as_of(start_us + AHEAD_US).await?;
    tenant.settled().await?;

    let history = adds_up(&tenant).await?;
    let mut wrong = Vec::new();
    for case in &told {
        wrong.extend(case.check(&tenant, &history, start_us + AHEAD_US).await?);
    }
    ensure!(wrong.is_empty(), "{} things are not as the semantics say:\n{}", wrong.len(), wrong.join("\n"));
    tenant.audited().await
}

/// The second streams, sent by the users of the first.
fn then_events(case: &Told) -> anyhow::Result<Vec<segue_proto::events::v1::Event>> {
    let mut events = case.then.events()?;
    for event in &mut events {
        event.message_id = format!("then/{}", event.message_id);
    }
    Ok(events)
}
