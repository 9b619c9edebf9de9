//! A case: what happens, what is asked, and which answer the semantics name.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use segue_proto::analytics::v1::report_cell::Cell;
use segue_proto::analytics::v1::select_persons_request::Who;
use segue_proto::analytics::v1::{
    CountPersonsRequest, FunnelCell, QueryEventsRequest, QueryEventsResponse, QueryFunnelRequest, QueryFunnelResponse, QueryPathRequest,
    QueryPathResponse, QueryRetentionRequest, QueryRetentionResponse, QuerySessionsRequest, QuerySessionsResponse, ReportCell,
    SelectPersonsRequest,
};
use segue_proto::identity::v1::{GetPersonRequest, get_person_request};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, PersonSet, TimeRange};
use segue_tests::events::{identifier, timestamp};
use segue_tests::installation::TenantKeys;

use super::story::Story;

/// A question, with how its answer is written in few words. Its ranges count from the start of the case; none: thirty days.
#[derive(Debug)]
pub enum Question {
    Events(QueryEventsRequest, fn(&QueryEventsResponse) -> String),
    Funnel(QueryFunnelRequest, fn(&QueryFunnelResponse) -> String),
    /// How many steps each person reached: of each step, the persons behind its count are listed.
    Depths(QueryFunnelRequest),
    Retention(QueryRetentionRequest, fn(&QueryRetentionResponse) -> String),
    Path(QueryPathRequest, fn(&QueryPathResponse) -> String),
    Sessions(QuerySessionsRequest, fn(&QuerySessionsResponse) -> String),
    /// Which persons of the case meet a condition as of this moment; an empty text: the watermark.
    Who(Condition, &'static str),
    /// The same in a time zone.
    WhoIn(Condition, &'static str),
    /// Which persons are in the set (not in it) of those who meet the condition, handed over as another service would.
    Set(Condition, bool),
}

/// A row of the table.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    /// What persons 1, 2, … do.
    persons: Vec<String>,
    /// When it begins, where that matters.
    start: Option<String>,
    /// Whether the tenant whose zone is Seoul is asked.
    pub in_seoul: bool,
    asked: Vec<(Question, String)>,
}

/// A case of persons 1, 2, … who do this.
pub fn case(name: &'static str, persons: &[&str]) -> Case {
    Case { name, persons: persons.iter().map(|stream| (*stream).to_owned()).collect(), start: None, in_seoul: false, asked: Vec::new() }
}

impl Case {
    /// Where it matters when the case begins.
    pub fn at(self, start: impl Into<String>) -> Self {
        Self { start: Some(start.into()), ..self }
    }

    /// Of the tenant whose zone is Seoul.
    pub fn in_seoul(self) -> Self {
        Self { in_seoul: true, ..self }
    }

    /// So many more persons who do this.
    pub fn and(mut self, times: usize, stream: &str) -> Self {
        self.persons.extend(std::iter::repeat_n(stream.to_owned(), times));
        self
    }

    /// What is asked, and the answer.
    pub fn asks(mut self, question: Question, expected: impl Into<String>) -> Self {
        self.asked.push((question, expected.into()));
        self
    }

    /// What happens, where nothing else is said from this moment on.
    pub fn story(&self, key: String, default_us: i64) -> anyhow::Result<Story> {
        let mut story = Story { key, start_us: default_us, persons: self.persons.clone() };
        if let Some(start) = &self.start {
            story.start_us = story.time_us(start)?;
        }
        Ok(story)
    }

    /// Asks everything. Gives one text for each answer that is not as expected.
    pub async fn check(&self, keys: &TenantKeys, story: &Story) -> anyhow::Result<Vec<String>> {
        let asker = Asker { keys, story, persons: self.persons(keys, story).await? };
        let mut wrong = Vec::new();
        for (question, expected) in &self.asked {
            let found = asker.ask(question).await.unwrap_or_else(|error| format!("refused: {error:#}"));
            if found != *expected {
                wrong.push(format!("{} ({}): expected {expected:?}, found {found:?}; asked {question:?}", self.name, story.key));
            }
        }
        Ok(wrong)
    }

    /// The persons of the case by their numbers, if an answer will name them.
    async fn persons(&self, keys: &TenantKeys, story: &Story) -> anyhow::Result<BTreeMap<u32, usize>> {
        let named = |question: &Question| match question {
            Question::Depths(_) | Question::Who(..) | Question::WhoIn(..) | Question::Set(..) => true,
            Question::Events(..) | Question::Funnel(..) | Question::Retention(..) | Question::Path(..) | Question::Sessions(..) => false,
        };
        if self.asked.iter().any(|(question, _)| named(question)) { persons_of(keys, story).await } else { Ok(BTreeMap::new()) }
    }
}

/// Which number belongs to person 1, 2, … of a story.
pub async fn persons_of(keys: &TenantKeys, story: &Story) -> anyhow::Result<BTreeMap<u32, usize>> {
    let mut persons = BTreeMap::new();
    for person in 1..=story.persons.len() {
        let who = Some(get_person_request::Who::Identifier(identifier("user_id", &story.user(person))));
        let found = keys.gateway.identity().get_person(GetPersonRequest { who }).await?.into_inner();
        persons.insert(found.number, person);
    }
    ensure!(persons.len() == story.persons.len(), "persons of {} were merged", story.key);
    Ok(persons)
}

struct Asker<'a> {
    keys: &'a TenantKeys,
    story: &'a Story,
    persons: BTreeMap<u32, usize>,
}

impl Asker<'_> {
    async fn ask(&self, question: &Question) -> anyhow::Result<String> {
        let mut client = self.keys.gateway.analytics();
        Ok(match question {
            Question::Events(request, show) => {
                let mut request = QueryEventsRequest { range: self.range(request.range), ..request.clone() };
                if let Some(start) = &mut request.compare_start {
                    *start = self.moved(*start);
                }
                show(&client.query_events(request).await?.into_inner())
            }
            Question::Funnel(request, show) => {
                let request = QueryFunnelRequest { range: self.range(request.range), ..request.clone() };
                show(&client.query_funnel(request).await?.into_inner())
            }
            Question::Depths(request) => {
                let request = QueryFunnelRequest { range: self.range(request.range), ..request.clone() };
                self.depths(&client.query_funnel(request).await?.into_inner()).await?
            }
            Question::Retention(request, show) => {
                let request = QueryRetentionRequest { range: self.range(request.range), ..request.clone() };
                show(&client.query_retention(request).await?.into_inner())
            }
            Question::Path(request, show) => {
                let request = QueryPathRequest { range: self.range(request.range), ..request.clone() };
                show(&client.query_path(request).await?.into_inner())
            }
            Question::Sessions(request, show) => {
                let request = QuerySessionsRequest { range: self.range(request.range), ..request.clone() };
                show(&client.query_sessions(request).await?.into_inner())
            }
            Question::Who(condition, as_of) => self.who(condition, as_of, "").await?,
            Question::WhoIn(condition, zone) => self.who(condition, "", zone).await?,
            Question::Set(condition, inside) => {
                let set = self.set(condition).await?;
                let members = Condition { node: Some(Node::Persons(PersonSet { numbers: set, label: "audience members".to_owned() })) };
                let others = Condition { node: Some(Node::Not(Box::new(members.clone()))) };
                self.who(if *inside { &members } else { &others }, "", "").await?
            }
        })
    }

    fn moved(&self, offset: prost_types::Timestamp) -> prost_types::Timestamp {
        let start = timestamp(self.story.start_us);
        let mut moved = prost_types::Timestamp { seconds: start.seconds + offset.seconds, nanos: start.nanos + offset.nanos };
        moved.normalize();
        moved
    }

    fn range(&self, range: Option<TimeRange>) -> Option<TimeRange> {
        let range = range.or_else(|| super::words::span("0", "30d"))?;
        Some(TimeRange { start: range.start.map(|start| self.moved(start)), end: range.end.map(|end| self.moved(end)) })
    }

    /// The persons of the case among these; there are no others where `alone`.
    fn own(&self, numbers: &[u32], alone: bool) -> anyhow::Result<Vec<usize>> {
        let mut own: Vec<usize> = numbers.iter().filter_map(|number| self.persons.get(number).copied()).collect();
        ensure!(!alone || own.len() == numbers.len(), "persons of another case: {numbers:?}");
        own.sort_unstable();
        Ok(own)
    }

    async fn depths(&self, answer: &QueryFunnelResponse) -> anyhow::Result<String> {
        let mut depths = vec![0; self.persons.len()];
        let total = answer.total.as_ref().context("a total")?;
        for (result, step) in total.steps.iter().zip(1..) {
            let cell = Cell::Funnel(FunnelCell { step, ..Default::default() });
            let cell = ReportCell { persons_token: answer.persons_token.clone(), cell: Some(cell) };
            let request = SelectPersonsRequest { who: Some(Who::Report(cell)), page_size: 10_000, ..Default::default() };
            let listed = self.keys.gateway.analytics().select_persons(request).await?.into_inner();
            ensure!(listed.count == result.count, "step {step} counts {}, but {} are listed", result.count, listed.count);
            for person in self.own(&listed.persons, true)? {
                depths[person - 1] += 1;
            }
        }
        Ok(joined(&depths))
    }

    /// Persons of other cases may meet the condition too; how many there are in all is the same by both calls.
    async fn who(&self, condition: &Condition, as_of: &str, zone: &str) -> anyhow::Result<String> {
        let as_of = if as_of.is_empty() { None } else { Some(timestamp(self.story.time_us(as_of)?)) };
        let select = SelectPersonsRequest {
            who: Some(Who::Condition(condition.clone())),
            as_of,
            time_zone: zone.to_owned(),
            page_size: 10_000,
            ..Default::default()
        };
        let selected = self.keys.gateway.analytics().select_persons(select).await?.into_inner();
        let count = CountPersonsRequest { condition: Some(condition.clone()), as_of, time_zone: zone.to_owned(), ..Default::default() };
        let counted = self.keys.gateway.analytics().count_persons(count).await?.into_inner();
        ensure!(selected.count == counted.count, "{} are selected and {} counted", selected.count, counted.count);
        ensure!(selected.count == selected.persons.len() as u64, "{} of {} on the page", selected.persons.len(), selected.count);
        Ok(joined(&self.own(&selected.persons, false)?))
    }

    async fn set(&self, condition: &Condition) -> anyhow::Result<Vec<u8>> {
        let request = SelectPersonsRequest { who: Some(Who::Condition(condition.clone())), bitmap: true, ..Default::default() };
        Ok(self.keys.gateway.analytics().select_persons(request).await?.into_inner().bitmap)
    }
}

/// Numbers with spaces between.
pub fn joined(numbers: &[impl ToString]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
