//! Benchmarks that span services: `tests/bench NAME`. `ingest` starts the program as users run it and loads it from this process;
//! `engine` asks analytics alone, `audience` asks both; `campaign` receives what scenarios send. What was measured is kept in
//! `tests/benchmarks/README.md` and in the `README.md` of the folders.
//! To add one: a module with its arguments, and a line in each of the two matches.

mod audience;
mod campaign;
mod engine;
mod ingest;
mod load;
mod process;
mod sender;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(name = "tests/bench")]
struct Cli {
    #[command(subcommand)]
    benchmark: Benchmark,
    /// How figures are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Events per second from gRPC and HTTP to durable and to queryable, delay, memory.
    Ingest(ingest::IngestArgs),
    /// Seconds per behavioural question, beside ClickHouse and DuckDB on the same events.
    Engine(engine::EngineArgs),
    /// The same funnel over more events, more steps and more event names.
    EngineGrowth(engine::growth::GrowthArgs),
    /// How long reports take while events come in.
    EngineLive(engine::live::LiveArgs),
    /// Evaluation of audiences, delay of their transitions, cost of keeping them live.
    Audience(audience::AudienceArgs),
    /// Steps of scenarios per second, memory, delay from an event to the webhook that it causes.
    Campaign(campaign::CampaignArgs),
}

fn main() -> anyhow::Result<()> {
    segue_runtime::install_tls_provider();
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lines = runtime.block_on(async {
        match &cli.benchmark {
            Benchmark::Ingest(args) => ingest::run(args).await.map(|figures| vec![figures]),
            Benchmark::Engine(args) => engine::run(args).await,
            Benchmark::EngineGrowth(args) => engine::growth::run(args).await,
            Benchmark::EngineLive(args) => engine::live::run(args).await,
            Benchmark::Audience(args) => audience::run(args).await,
            Benchmark::Campaign(args) => campaign::run(args).await,
        }
    })?;
    match cli.output {
        Output::Json => lines.iter().for_each(|line| println!("{}", json(line))),
        Output::Table => print_table(&lines),
    }
    Ok(())
}

/// Names and values, in the order in which they are to be read.
type Figures = Vec<(&'static str, serde_json::Value)>;

fn json(figures: &Figures) -> String {
    let members: Vec<String> = figures.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// One line of figures: a line per figure. Several: a column per figure.
fn print_table(lines: &[Figures]) {
    if let [figures] = lines {
        for (name, value) in figures {
            println!("{name:<44} {value}");
        }
        return;
    }
    let cell = |text: &str| format!("{text:<18}");
    let is_like = |one: &Figures, other: &Figures| one.iter().map(|(name, _)| name).eq(other.iter().map(|(name, _)| name));
    for alike in lines.chunk_by(is_like) {
        let names = alike.iter().take(1).flatten().map(|(name, _)| cell(name));
        println!("{}", names.collect::<String>().trim_end());
        for figures in alike {
            let values = figures.iter().map(|(_, value)| value.as_str().map_or_else(|| cell(&value.to_string()), cell));
            println!("{}", values.collect::<String>().trim_end());
        }
    }
}
