//! The process: which services run in it, how they find each other, and the operator's command line.

/// A third of the processor time of an event went into the system's allocator (`tests/bench ingest` under `perf`): messages are
/// many small texts that one thread makes and another drops.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod cli;
pub mod client;
mod demo;
pub mod json;
pub mod process;
pub mod settings;

pub use process::Process;
pub use settings::{Service, Settings};
