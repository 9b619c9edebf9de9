//! The command line as somebody at a terminal uses it: the real program, called with a tenant's key.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use segue_tests::installation::{Installation, TenantKeys};
use serde_json::Value;

/// Who calls, and whom.
pub struct Terminal {
    url: String,
    key: String,
}

impl Terminal {
    pub fn of(installation: &Installation, keys: &TenantKeys) -> Self {
        Self { url: installation.url(), key: keys.secret.clone() }
    }

    /// `segue` with these words. Answers with what it printed as JSON, or null if it printed nothing.
    pub fn segue(&self, words: &[&str]) -> anyhow::Result<Value> {
        self.segue_with(words, &Value::Null)
    }

    /// The same; JSON on its standard input.
    pub fn segue_with(&self, words: &[&str], input: &Value) -> anyhow::Result<Value> {
        let mut child = Command::new(crate::program())
            .args(words)
            .args(["--output", "json", "--server", &self.url, "--key", &self.key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("it has an input")?.write_all(input.to_string().as_bytes())?;
        let done = child.wait_with_output()?;
        let text = String::from_utf8_lossy;
        ensure!(done.status.success(), "segue {}: {}\n{}", words.join(" "), text(&done.stderr), text(&done.stdout));
        if done.stdout.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&done.stdout).with_context(|| format!("segue {}", words.join(" ")))
    }
}
