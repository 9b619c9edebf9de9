//! Everybody through a scenario of five steps: an experiment, a wait for an event with a time-out, a random split, a webhook, the end.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use segue_proto::campaign::v1::{
    EndStep, EventArm, EventWait, ExperimentStep, SplitArm, SplitStep, Step, Variant, WaitStep, step, wait_step,
};
use segue_proto::query::v1::{Span, TimeUnit};
use serde_json::json;

use super::shop::{Shop, on, step_of, tell};
use crate::Figures;
use crate::load::cart_templates;

/// How long nothing may move until the measurement is given up.
const STALLED: Duration = Duration::from_secs(120);
/// Calls under way at once.
const CONCURRENCY: usize = 8;
const STEPS: u64 = 5;

pub(crate) async fn run(shop: &Shop, persons: u32, wait_s: u32) -> anyhow::Result<Figures> {
    let batches = cart_templates(persons, 1_000, 100);
    shop.start("through", "cart", steps(wait_s)).await?;
    let (before, cpu, started) = (shop.status(10_000).await?, shop.cpu_seconds()?, Instant::now());
    shop.load.once(&batches, CONCURRENCY).await?;
    let sent_s = started.elapsed().as_secs_f64();
    eprintln!("{persons} persons have entered after {sent_s:.1} s");

    let wanted = before.steps_done + u64::from(persons) * STEPS;
    let (mut reached, mut moved, mut steps_s) = (0, Instant::now(), None);
    loop {
        let status = shop.status(0).await?;
        let messages = shop.receiver.arrived.lock().messages();
        if status.steps_done == wanted && steps_s.is_none() {
            steps_s = Some(started.elapsed().as_secs_f64());
        }
        if steps_s.is_some() && messages == u64::from(persons) {
            break;
        }
        if status.steps_done + messages != reached {
            (reached, moved) = (status.steps_done + messages, Instant::now());
        }
        ensure!(moved.elapsed() < STALLED, "{messages} messages, {status:?}\n{}", shop.log_tail());
        eprintln!("{:5.0} s: {} steps, {messages} messages", started.elapsed().as_secs_f64(), status.steps_done - before.steps_done);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let steps_s = steps_s.context("steps were not counted")?;
    let told_s = started.elapsed().as_secs_f64();
    let status = shop.status(30_000).await?;
    ensure!(status.steps_done == wanted, "{} steps were done, {wanted} were to be", status.steps_done);
    ensure!(status.active_runs == 0, "{} runs go on", status.active_runs);
    let (rss, peak) = shop.memory()?;
    let steps = (u64::from(persons) * STEPS) as f64;
    let cpu_us = (shop.cpu_seconds()? - cpu) * 1e6;
    Ok(vec![
        ("figure", json!("through")),
        ("shape", json!(format!("{:?}", shop.shape))),
        ("persons", json!(persons)),
        ("events_per_s", json!((f64::from(persons) / sent_s).round())),
        ("steps_per_s", json!((steps / steps_s).round())),
        ("steps_per_s_but_the_wait", json!((steps / (steps_s - f64::from(wait_s)).max(1.0)).round())),
        ("messages_per_s", json!((f64::from(persons) / (told_s - f64::from(wait_s)).max(1.0)).round())),
        ("steps_and_messages_per_s", json!((steps / told_s).round())),
        ("cpu_us_per_step", json!((cpu_us / steps * 10.0).round() / 10.0)),
        ("repeated", json!(shop.receiver.arrived.lock().repeated)),
        ("rss_bytes", json!(rss)),
        ("rss_peak_bytes", json!(peak)),
    ])
}

fn steps(wait_s: u32) -> Vec<Step> {
    let variant = |name: &str, control| Variant { name: name.to_owned(), weight: 1, next: "wait".to_owned(), control };
    let experiment = ExperimentStep { variants: vec![variant("a", true), variant("b", false)], goal: String::new() };
    let bought = EventArm { on: Some(on("bought")), entry_key_property: String::new(), next: "split".to_owned() };
    let timeout = Some(Span { count: wait_s, unit: TimeUnit::Second.into() });
    let wait = WaitStep { wait: Some(wait_step::Wait::ForEvent(EventWait { arms: vec![bought], timeout })) };
    let arm = || SplitArm { weight: 1, next: "tell".to_owned() };
    vec![
        step_of("try", "", step::Kind::Experiment(experiment)),
        step_of("wait", "split", step::Kind::Wait(wait)),
        step_of("split", "", step::Kind::Split(SplitStep { arms: vec![arm(), arm()] })),
        tell("end"),
        step_of("end", "", step::Kind::End(EndStep {})),
    ]
}
