//! Numbers of scenarios and their experiments, from the events that came back through ingest, as analytics counts them: so that every one of
//! them is the size of a set that can be listed.

mod ask;
mod experiment;
mod statistics;

use std::collections::BTreeMap;

use prost_types::Timestamp;
use segue_proto::analytics::v1::{Group, QueryEventsResponse};
use segue_proto::campaign::v1::{
    GetExperimentResultsRequest, GetExperimentResultsResponse, GetScenarioRequest, GetScenarioResultsRequest, GetScenarioResultsResponse,
    StepResult,
};
use segue_proto::query::v1::TimeRange;
use segue_runtime::Tenant;

use self::ask::{count_of, decimal_of, dimension, is, property, report, text_of, total, unique, value_sum};
use crate::error::CampaignError;
use crate::service::Service;
use crate::store::timestamp;

const DAY_US: i64 = 86_400_000_000;

impl Service {
    pub(crate) async fn get_scenario_results_of(
        &self,
        tenant: &Tenant,
        request: GetScenarioResultsRequest,
    ) -> Result<GetScenarioResultsResponse, CampaignError> {
        let scenario = self.get_scenario_of(tenant, GetScenarioRequest { id: request.scenario }).await?;
        let range = match request.range {
            Some(range) => range,
            None => self.since(scenario.created_at),
        };
        let of_scenario = is(dimension("message_campaign"), &scenario.id);
        let group_by = vec![property("df_message_step"), dimension("message_variant")];
        let asked = report(range, of_scenario.clone(), metrics(), group_by.clone());
        let counted = ask::query(&self.peers, &tenant.id, asked).await?;
        // A report has at most ten metrics.
        let conversions =
            vec![total("converted", "df_message_converted"), unique("converted_unique", "df_message_converted"), value_sum("value")];
        let asked = report(range, of_scenario.clone(), conversions, group_by.clone());
        let converted = ask::query(&self.peers, &tenant.id, asked).await?;
        let by_reason = [group_by, vec![property("df_message_reason")]].concat();
        let asked = report(range, of_scenario, vec![total("suppressed", "df_message_suppressed")], by_reason);
        let suppressed = ask::query(&self.peers, &tenant.id, asked).await?;
        let counts = crate::flow::counts(&self.db, &tenant.id, &scenario.id).await?;
        let watermark = counted.options.as_ref().and_then(|options| options.watermark);
        let (steps, total) = table(&counted, &converted, &suppressed);
        Ok(GetScenarioResultsResponse {
            steps,
            total: Some(total),
            entered: counts.entered,
            active: counts.active,
            ended: counts.ended.into_iter().collect(),
            watermark,
        })
    }

    pub(crate) async fn get_experiment_results_of(
        &self,
        tenant: &Tenant,
        request: GetExperimentResultsRequest,
    ) -> Result<GetExperimentResultsResponse, CampaignError> {
        let scenario = self.get_scenario_of(tenant, GetScenarioRequest { id: request.scenario.clone() }).await?;
        let range = self.since(scenario.created_at);
        let asked = experiment::Asked::parse(scenario, &request)?;
        experiment::results(&self.peers, &tenant.id, &asked, range).await
    }

    /// From a moment on; a day beyond now, since senders' clocks may be ahead.
    fn since(&self, start: Option<Timestamp>) -> TimeRange {
        TimeRange { start: Some(start.unwrap_or_default()), end: Some(timestamp(self.clock.now_us().saturating_add(DAY_US))) }
    }
}

/// In the order in which [`row`] reads them.
fn metrics() -> Vec<segue_proto::analytics::v1::Metric> {
    vec![
        total("sent", "df_message_sent"),
        total("delivered", "df_message_delivered"),
        total("opened", "df_message_opened"),
        unique("opened_unique", "df_message_opened"),
        total("clicked", "df_message_clicked"),
        unique("clicked_unique", "df_message_clicked"),
        total("unsubscribed", "df_message_unsubscribed"),
        total("failed", "df_message_failed"),
    ]
}

fn row(group: &Group) -> StepResult {
    StepResult {
        step: text_of(group, 0),
        variant: text_of(group, 1),
        sent: count_of(group, 0),
        delivered: count_of(group, 1),
        opened: count_of(group, 2),
        opened_unique: count_of(group, 3),
        clicked: count_of(group, 4),
        clicked_unique: count_of(group, 5),
        unsubscribed: count_of(group, 6),
        failed: count_of(group, 7),
        value: "0.0000".to_owned(),
        ..StepResult::default()
    }
}

fn add_conversions(row: &mut StepResult, group: &Group) {
    (row.converted, row.converted_unique, row.value) = (count_of(group, 0), count_of(group, 1), decimal_of(group, 2));
}

/// One row per step and variant, by step and variant; and all together.
fn table(
    counted: &QueryEventsResponse,
    converted: &QueryEventsResponse,
    suppressed: &QueryEventsResponse,
) -> (Vec<StepResult>, StepResult) {
    let mut rows: BTreeMap<(String, String), StepResult> = BTreeMap::new();
    let key = |group: &Group| (text_of(group, 0), text_of(group, 1));
    let empty = |group: &Group| {
        let (step, variant) = key(group);
        StepResult { step, variant, value: "0.0000".to_owned(), ..StepResult::default() }
    };
    for group in shown(counted) {
        // Other events of the scenario (experiments met) have groups as well, without any message.
        let found = row(group);
        if found != empty(group) {
            rows.insert(key(group), found);
        }
    }
    for group in shown(converted).filter(|group| count_of(group, 0) > 0) {
        add_conversions(rows.entry(key(group)).or_insert_with(|| empty(group)), group);
    }
    let mut total = counted.total.as_ref().map(row).unwrap_or_default();
    if let Some(group) = &converted.total {
        add_conversions(&mut total, group);
    }
    for group in shown(suppressed).filter(|group| count_of(group, 0) > 0) {
        let (reason, count) = (text_of(group, 2), count_of(group, 0));
        *rows.entry(key(group)).or_insert_with(|| empty(group)).suppressed.entry(reason.clone()).or_default() += count;
        *total.suppressed.entry(reason).or_default() += count;
    }
    (rows.into_values().collect(), total)
}

fn shown(answer: &QueryEventsResponse) -> impl Iterator<Item = &Group> {
    answer.groups.iter().filter(|group| !group.other)
}
