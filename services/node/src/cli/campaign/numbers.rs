//! What a scenario changed: its numbers, and what its experiments say.

use clap::Args;
use segue_proto::campaign::v1::result_service_client::ResultServiceClient;
use segue_proto::campaign::v1::{
    GetExperimentResultsRequest, GetExperimentResultsResponse, GetScenarioResultsRequest, GetScenarioResultsResponse, StepResult,
};

use crate::cli::report::values::{as_of, show_share};
use crate::cli::{Output, print_json, say, table};
use crate::client::Authorized;
use crate::json;

type Client = ResultServiceClient<Authorized>;

#[derive(Debug, Args)]
pub(super) struct ExperimentArgs {
    /// Id of the scenario.
    scenario: String,
    /// Id of the experiment step.
    step: String,
    /// Name of a goal [default: the experiment's].
    #[arg(long, default_value = "")]
    goal: String,
    /// How sure intervals are.
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
}

pub(super) async fn results(output: Output, client: &mut Client, scenario: String) -> anyhow::Result<()> {
    let answer = client.get_scenario_results(GetScenarioResultsRequest { scenario, range: None }).await?.into_inner();
    if output == Output::Json {
        return print_json(&json::write("segue.campaign.v1.GetScenarioResultsResponse", &answer)?);
    }
    say(step_table(&answer))?;
    let mut ended: Vec<String> = answer.ended.iter().map(|(reason, count)| format!("{} {count}", reason.to_lowercase())).collect();
    ended.sort_unstable();
    say(format!("{} entered, {} are under way; ended: {}", answer.entered, answer.active, ended.join(", ")))?;
    eprintln!("{}", as_of(answer.watermark.as_ref()));
    Ok(())
}

pub(super) async fn experiment(output: Output, client: &mut Client, args: ExperimentArgs) -> anyhow::Result<()> {
    let ExperimentArgs { scenario, step, goal, confidence } = args;
    let answer = client.get_experiment_results(GetExperimentResultsRequest { scenario, step, goal, confidence }).await?.into_inner();
    if output == Output::Json {
        return print_json(&json::write("segue.campaign.v1.GetExperimentResultsResponse", &answer)?);
    }
    say(variant_table(&answer))?;
    if answer.sample_ratio_mismatch {
        let p_value = answer.sample_ratio_p_value;
        say(format!("persons are not distributed as the weights say (p = {p_value:.2e}): do not trust these numbers"))?;
    }
    if !answer.minimum_sample_reached {
        say(format!("too early: {} persons per variant are needed to see a lift of 10 %", answer.minimum_sample))?;
    }
    eprintln!("{}", as_of(answer.watermark.as_ref()));
    Ok(())
}

fn step_table(answer: &GetScenarioResultsResponse) -> comfy_table::Table {
    let mut shown =
        table(&["step", "variant", "sent", "delivered", "opened", "clicked", "unsubscribed", "failed", "suppressed", "converted", "value"]);
    let total = answer.total.iter().map(|total| ("all", total));
    for (step, result) in answer.steps.iter().map(|result| (result.step.as_str(), result)).chain(total) {
        shown.add_row(step_row(step, result));
    }
    shown
}

fn step_row(step: &str, result: &StepResult) -> [String; 11] {
    let mut suppressed: Vec<String> =
        result.suppressed.iter().map(|(reason, count)| format!("{} {count}", reason.to_lowercase())).collect();
    suppressed.sort_unstable();
    // Persons in brackets.
    let with_persons = |count: u64, persons: u64| format!("{count} ({persons})");
    [
        step.to_owned(),
        result.variant.clone(),
        result.sent.to_string(),
        result.delivered.to_string(),
        with_persons(result.opened, result.opened_unique),
        with_persons(result.clicked, result.clicked_unique),
        result.unsubscribed.to_string(),
        result.failed.to_string(),
        suppressed.join("\n"),
        with_persons(result.converted, result.converted_unique),
        result.value.clone(),
    ]
}

fn variant_table(answer: &GetExperimentResultsResponse) -> comfy_table::Table {
    let mut shown =
        table(&["variant", "persons", "converted", "rate", "interval", "lift", "interval", "p", "always-valid p", "best", "value"]);
    let interval = |low: f64, high: f64| format!("{} … {}", show_share(Some(low)), show_share(Some(high)));
    for variant in &answer.variants {
        let is_control = variant.variant == answer.control;
        // The control is not compared with itself.
        let compared = |text: String| if is_control { String::new() } else { text };
        shown.add_row([
            if is_control { format!("{} (control)", variant.variant) } else { variant.variant.clone() },
            variant.persons.to_string(),
            variant.converted.to_string(),
            show_share(Some(variant.rate)),
            interval(variant.rate_low, variant.rate_high),
            compared(show_share(Some(variant.lift))),
            compared(interval(variant.lift_low, variant.lift_high)),
            compared(format!("{:.4}", variant.p_value)),
            compared(format!("{:.4}", variant.sequential_p_value)),
            show_share(Some(variant.probability_best)),
            variant.value.clone(),
        ]);
    }
    shown
}
