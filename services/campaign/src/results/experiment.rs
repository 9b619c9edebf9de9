//! One experiment: persons of each variant, how many of them reached the goal, and what that says.

use segue_model::TenantId;
use segue_proto::campaign::v1::{ExperimentStep, GetExperimentResultsRequest, GetExperimentResultsResponse, Scenario, VariantResult, step};
use segue_proto::query::v1::{Condition, TimeRange};

use super::ask::{self, all, both, decimal_of, did, dimension, is, property, report, value_sum};
use super::statistics::{self, Proportion};
use crate::error::CampaignError;
use crate::peers::Peers;

const CONFIDENCE_DEFAULT: f64 = 0.95;

/// Which experiment is asked for, by what it is judged.
#[derive(Debug)]
pub(super) struct Asked {
    scenario: String,
    step: String,
    goal: String,
    experiment: ExperimentStep,
    confidence: f64,
}

impl Asked {
    pub(super) fn parse(scenario: Scenario, request: &GetExperimentResultsRequest) -> Result<Self, CampaignError> {
        let confidence = if request.confidence == 0.0 { CONFIDENCE_DEFAULT } else { request.confidence };
        if !(0.5..=0.9999).contains(&confidence) {
            return Err(CampaignError::field("confidence", "between 0.5 and 0.9999; leave it out for 0.95"));
        }
        let definition = scenario.definition.unwrap_or_default();
        let found = definition.steps.into_iter().find(|step| step.id == request.step);
        let Some(step::Kind::Experiment(experiment)) = found.and_then(|step| step.kind) else {
            return Err(CampaignError::field("step", format!("is no experiment of the scenario `{}`", scenario.id)));
        };
        let named = [&request.goal, &experiment.goal].into_iter().find(|goal| !goal.is_empty()).cloned();
        let Some(goal) = named.or_else(|| definition.goals.first().map(|goal| goal.name.clone())) else {
            return Err(CampaignError::field("goal", "the scenario has no goals: add one to its definition"));
        };
        if !definition.goals.iter().any(|of| of.name == goal) {
            return Err(CampaignError::field("goal", format!("the scenario has no goal `{goal}`")));
        }
        Ok(Self { scenario: scenario.id, step: request.step.clone(), goal, experiment, confidence })
    }

    /// The variant that others are compared with.
    fn control(&self) -> usize {
        self.experiment.variants.iter().position(|variant| variant.control).unwrap_or_default()
    }

    fn exposed_to(&self, variant: &str) -> Condition {
        let label = format!("{}={variant}", self.step);
        did("df_experiment_exposed", all(vec![is(dimension("message_campaign"), &self.scenario), is(dimension("message_variant"), &label)]))
    }

    fn converted(&self) -> segue_proto::query::v1::Filter {
        all(vec![is(dimension("message_campaign"), &self.scenario), is(property("df_message_goal"), &self.goal)])
    }
}

/// What is known of a variant.
#[derive(Debug, Clone)]
struct Counted {
    name: String,
    weight: u64,
    of: Proportion,
    value: String,
}

pub(super) async fn results(
    peers: &Peers,
    tenant: &TenantId,
    asked: &Asked,
    range: TimeRange,
) -> Result<GetExperimentResultsResponse, CampaignError> {
    let mut counted = Vec::new();
    let mut watermark = None;
    for variant in &asked.experiment.variants {
        let exposed = asked.exposed_to(&variant.name);
        let persons = ask::count(peers, tenant, exposed.clone()).await?;
        let reached = ask::count(peers, tenant, both(exposed.clone(), did("df_message_converted", asked.converted()))).await?;
        let mut value = report(range, asked.converted(), vec![value_sum("value")], Vec::new());
        value.among = Some(exposed);
        let value = ask::query(peers, tenant, value).await?.total.map_or_else(|| "0.0000".to_owned(), |total| decimal_of(&total, 0));
        // The oldest of the answers: what all of them have.
        watermark = match (watermark, reached.watermark) {
            (Some(one), Some(other)) => Some(std::cmp::min_by_key(one, other, |time: &prost_types::Timestamp| (time.seconds, time.nanos))),
            (one, other) => one.or(other),
        };
        counted.push(Counted {
            name: variant.name.clone(),
            weight: variant.weight.into(),
            of: Proportion { successes: reached.count.min(persons.count), trials: persons.count },
            value,
        });
    }
    Ok(GetExperimentResultsResponse { watermark, ..say(&counted, asked.control(), asked.confidence) })
}

/// What the counts say.
fn say(counted: &[Counted], control: usize, confidence: f64) -> GetExperimentResultsResponse {
    let Some(base) = counted.get(control) else { return GetExperimentResultsResponse::default() };
    let best = statistics::probabilities_best(&counted.iter().map(|variant| variant.of).collect::<Vec<_>>());
    let variants = counted.iter().enumerate().map(|(at, variant)| {
        let (rate_low, rate_high) = statistics::wilson(variant.of, confidence);
        let own = VariantResult {
            variant: variant.name.clone(),
            persons: variant.of.trials,
            converted: variant.of.successes,
            rate: variant.of.rate(),
            value: variant.value.clone(),
            rate_low,
            rate_high,
            probability_best: best.get(at).copied().unwrap_or_default(),
            p_value: 1.0,
            sequential_p_value: 1.0,
            ..VariantResult::default()
        };
        if at == control { own } else { compared(own, variant.of, base.of, confidence) }
    });
    let assigned: Vec<u64> = counted.iter().map(|variant| variant.of.trials).collect();
    let weights: Vec<u64> = counted.iter().map(|variant| variant.weight).collect();
    let (sample_ratio_p_value, sample_ratio_mismatch) = statistics::sample_ratio(&assigned, &weights);
    let minimum = statistics::minimum_sample(base.of.rate(), confidence);
    GetExperimentResultsResponse {
        variants: variants.collect(),
        sample_ratio_p_value,
        sample_ratio_mismatch,
        minimum_sample: minimum.unwrap_or_default(),
        minimum_sample_reached: minimum.is_some_and(|least| assigned.iter().all(|persons| *persons >= least)),
        control: base.name.clone(),
        watermark: None,
    }
}

/// A variant beside the control. Lifts are relative to the control's rate; without one they are 0.
fn compared(own: VariantResult, of: Proportion, base: Proportion, confidence: f64) -> VariantResult {
    let (low, high) = statistics::difference(of, base, confidence);
    let (sequential_p_value, (sequential_low, sequential_high)) = statistics::sequential(of, base, confidence);
    let relative = |difference: f64| if base.rate() > 0.0 { difference / base.rate() } else { 0.0 };
    VariantResult {
        lift: relative(of.rate() - base.rate()),
        lift_low: relative(low),
        lift_high: relative(high),
        p_value: statistics::p_value(of, base),
        sequential_p_value,
        sequential_low,
        sequential_high,
        ..own
    }
}

#[cfg(test)]
mod tests {
    use segue_proto::campaign::v1::{Goal, ScenarioDefinition, Step, Variant};

    use super::*;

    fn counted(name: &str, successes: u64, trials: u64) -> Counted {
        Counted { name: name.to_owned(), weight: 1, of: Proportion { successes, trials }, value: "0.0000".to_owned() }
    }

    #[test]
    fn variants_are_compared_with_the_control_and_the_control_with_nothing() {
        let said = say(&[counted("a", 200, 1_000), counted("b", 250, 1_000)], 0, 0.95);
        assert_eq!((said.control.as_str(), said.minimum_sample, said.minimum_sample_reached), ("a", 6_510, false));
        let (a, b) = (&said.variants[0], &said.variants[1]);
        assert_eq!((a.lift, a.p_value), (0.0, 1.0));
        assert!((b.lift - 0.25).abs() < 1e-12 && b.lift_low > 0.0 && b.lift_high > b.lift && b.p_value < 0.01, "{b:?}");
        assert!((a.probability_best + b.probability_best - 1.0).abs() < 1e-9);
        let none = say(&[counted("a", 0, 0), counted("b", 0, 0)], 0, 0.95);
        assert!(none.variants.iter().all(|variant| variant.lift == 0.0 && variant.p_value == 1.0), "{none:?}");
        assert!(!none.sample_ratio_mismatch && !none.minimum_sample_reached);
    }

    #[test]
    fn an_experiment_is_judged_by_the_goal_asked_for_then_its_own_then_the_first() {
        let variants = vec![Variant { name: "a".to_owned(), weight: 1, ..Variant::default() }];
        let experiment = |goal: &str| Step {
            id: "test".to_owned(),
            kind: Some(step::Kind::Experiment(ExperimentStep { variants: variants.clone(), goal: goal.to_owned() })),
            ..Step::default()
        };
        let goals = ["buy", "open"].map(|name| Goal { name: name.to_owned(), ..Goal::default() }).to_vec();
        let judged = |own: &str, asked: &str| {
            let definition = ScenarioDefinition { steps: vec![experiment(own)], goals: goals.clone(), ..ScenarioDefinition::default() };
            let scenario = Scenario { id: "s".to_owned(), definition: Some(definition), ..Scenario::default() };
            let request = GetExperimentResultsRequest { step: "test".to_owned(), goal: asked.to_owned(), ..Default::default() };
            Asked::parse(scenario, &request).map(|asked| asked.goal).map_err(|error| error.to_string())
        };
        assert_eq!(judged("", ""), Ok("buy".to_owned()));
        assert_eq!(judged("open", ""), Ok("open".to_owned()));
        assert_eq!(judged("open", "buy"), Ok("buy".to_owned()));
        assert!(judged("", "nothing").is_err());
    }
}
