//! The mails that the real SMTP server of a test run has taken (`tests/scripts/smtp_sink.py`, started by `tests/run`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use serde::Deserialize;

/// A mail as Python's `email` reads it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Mail {
    /// Envelope sender.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The plain part.
    pub text: Option<String>,
    /// The HTML part.
    pub html: Option<String>,
}

/// A server that takes every mail.
#[derive(Debug, Clone)]
pub struct SmtpServer {
    /// `smtp://127.0.0.1:port`.
    pub url: String,
    folder: PathBuf,
}

impl SmtpServer {
    /// The one of this run. By the rules of `segue_testkit`, its absence is an error where backends are required.
    pub fn available() -> anyhow::Result<Option<Self>> {
        #[allow(clippy::disallowed_methods, reason = "tests are told by tests/run where the servers are")]
        let variable = |name: &str| std::env::var(name).ok();
        match (variable("SEGUE_TEST_SMTP_URL"), variable("SEGUE_TEST_SMTP_FOLDER")) {
            (Some(url), Some(folder)) => Ok(Some(Self { url, folder: folder.into() })),
            _ if variable("SEGUE_TEST_BACKENDS").as_deref() == Some("required") => {
                anyhow::bail!("no SMTP server: run this through tests/run")
            }
            _ => Ok(None),
        }
    }

    /// What came for one address so far, in the order in which it came.
    pub fn to(&self, address: &str) -> anyhow::Result<Vec<Mail>> {
        Ok(self.all()?.into_iter().filter(|mail| mail.to.iter().any(|to| to == address)).collect())
    }

    /// What came for addresses of a domain so far, in the order in which it came.
    pub fn at(&self, domain: &str) -> anyhow::Result<Vec<Mail>> {
        let of = |to: &String| to.rsplit_once('@').is_some_and(|(_, of)| of == domain);
        Ok(self.all()?.into_iter().filter(|mail| mail.to.iter().any(of)).collect())
    }

    fn all(&self) -> anyhow::Result<Vec<Mail>> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths.iter().map(|path| serde_json::from_slice(&std::fs::read(path)?).with_context(|| path.display().to_string())).collect()
    }
}
