//! Benchmarks that span services: `tests/bench NAME`. Each starts the program as users run it, loads it from this process, and
//! prints figures. What was measured is kept in `tests/benchmarks/README.md`.

mod ingest;
mod load;
mod process;

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
    /// One JSON object.
    Json,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Events per second from gRPC and HTTP to durable and to queryable, delay, memory.
    Ingest(ingest::IngestArgs),
}

fn main() -> anyhow::Result<()> {
    segue_runtime::install_tls_provider();
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let figures = runtime.block_on(async {
        match &cli.benchmark {
            Benchmark::Ingest(args) => ingest::run(args).await,
        }
    })?;
    match cli.output {
        Output::Json => println!("{figures}"),
        Output::Table => {
            for (name, value) in figures.as_object().into_iter().flatten() {
                println!("{name:<44} {value}");
            }
        }
    }
    Ok(())
}
