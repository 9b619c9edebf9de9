//! ClickHouse's and DuckDB's side: `peers.py` in a process of its own.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::data::Stream;
use super::questions::Answer;

/// Taken in, so that it is found wherever the benchmark was built.
const SCRIPT: &str = include_str!("../peers/peers.py");

/// One question to one peer in one layout of its table.
#[derive(Debug, Deserialize)]
pub(crate) struct Measured {
    pub(crate) question: String,
    pub(crate) layout: String,
    pub(crate) answer: Answer,
    seconds: Vec<f64>,
}

impl Measured {
    /// The best run.
    pub(crate) fn best_s(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// Asks a peer everything in `spec`, after loading the stream into it, unless that was done before.
pub(crate) fn ask(python: &Path, peer: &str, stream: &Stream, spec: &serde_json::Value) -> anyhow::Result<Vec<Measured>> {
    eprintln!("asking {peer}");
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .args([&stream.folder, &stream.beside(peer)])
        .args([peer, &spec.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} does not run; call this through tests/bench", python.display()))?;
    ensure!(output.status.success(), "{peer} broke off: {}", output.status);
    let lines = String::from_utf8(output.stdout)?;
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| format!("{peer} printed: {line}"))).collect()
}
