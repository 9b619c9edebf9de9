//! Campaigns: how fast persons go through a scenario, and how late its messages are. What was measured is kept in `README.md` here.

mod delay;
mod receiver;
mod shop;
mod through;

use clap::{Args, ValueEnum};

use crate::Figures;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Everybody through a scenario of five steps.
    Through,
    /// From an event to the webhook that it causes.
    Delay,
}

/// How the measurement runs.
#[derive(Debug, Args)]
pub(crate) struct CampaignArgs {
    /// Persons who go through the scenario, and among whom the load of the delay is.
    #[arg(long, default_value_t = 1_000_000)]
    persons: u32,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Through, Part::Delay])]
    parts: Vec<Part>,
    /// Seconds for which persons wait in the scenario.
    #[arg(long, default_value_t = 30)]
    wait: u32,
    /// Events per second while the delay is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [5_000_u64])]
    rates: Vec<u64>,
    /// Percentages of these events that cause a webhook.
    #[arg(long, value_delimiter = ',', default_values_t = [10_u32, 100])]
    causing: Vec<u32>,
    /// Seconds under each rate.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Measure on PostgreSQL and NATS (SEGUE_TEST_POSTGRES_URL, SEGUE_TEST_NATS_URL) instead of the embedded parts.
    #[arg(long)]
    servers: bool,
}

/// A line per part, rate and share.
pub(crate) async fn run(args: &CampaignArgs) -> anyhow::Result<Vec<Figures>> {
    let mut lines = Vec::new();
    if args.parts.contains(&Part::Through) {
        let shop = shop::Shop::open(args.servers).await?;
        lines.push(through::run(&shop, args.persons, args.wait).await?);
    }
    if args.parts.contains(&Part::Delay) {
        let shop = shop::Shop::open(args.servers).await?;
        lines.extend(delay::run(&shop, args).await?);
    }
    Ok(lines)
}
