//! What operators and analysts type.

use std::io::Write;
use std::process::Command;

use anyhow::{Context, ensure};
use segue_tests::events::event;
use segue_tests::installation::Installation;
use serde_json::Value;

use super::tenant::Tenant;
use crate::semantics::now_us;

const DAY_US: i64 = 86_400_000_000;

/// A command line with the tenant's key.
struct Typed<'a> {
    installation: &'a Installation,
    tenant: &'a Tenant,
}

impl Typed<'_> {
    fn run(&self, words: &[&str]) -> anyhow::Result<std::process::Output> {
        let server = ["--server", &self.installation.url(), "--key", &self.tenant.keys.secret].map(str::to_owned);
        Command::new(crate::program()).args(words).args(server).output().context("the program runs")
    }

    /// What it prints when all goes well.
    fn text(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self.run(words)?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn json(&self, words: &[&str]) -> anyhow::Result<Value> {
        let text = self.text(&[words, &["--output", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("{words:?} printed {text}"))
    }
}

pub async fn spoken(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "typed", "").await?;
    let typed = Typed { installation: &installation, tenant: &tenant };
    let now_us = now_us();
    let user = |user| [("user_id", user)];
    tenant
        .send(&[
            event("1", "df_app_open", now_us - DAY_US, &[("user_id", "u1"), ("email", "1@example.com")]),
            event("2", "df_app_open", now_us - DAY_US, &user("u2")),
            event("3", "df_app_open", now_us - DAY_US, &user("u3")),
            event("4", "df_sign_up", now_us - DAY_US, &user("u3")),
        ])
        .await?;
    tenant.settled().await?;
    definitions(&typed)?;
    tenant.settled().await?;
    members(&typed).await?;
    lists(&typed)?;
    refusals(&typed)
}

fn definitions(typed: &Typed) -> anyhow::Result<()> {
    let lapsed = "did df_app_open within 90 days and never did df_sign_up";
    let shown = typed.text(&["condition", "parse", lapsed])?;
    let condition: Value = serde_json::from_str(&shown)?;
    ensure!(condition["all"]["conditions"].as_array().is_some_and(|both| both.len() == 2), "{condition}");
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(shown.as_bytes())?;
    let path = file.path().to_str().context("a path")?;
    let formatted = typed.text(&["condition", "format", path])?;
    ensure!(formatted.contains("df_app_open") && formatted.contains("df_sign_up"), "{formatted}");

    let made = typed.json(&["segment", "create", "lapsed", "--where", lapsed, "--name", "Lapsed"])?;
    ensure!(made["id"] == "lapsed" && made["version"] == 1, "{made}");
    ensure!(typed.text(&["segment", "list"])?.contains("Lapsed"), "it is listed");
    let made = typed.json(&["audience", "create", "lapsed", "--where", lapsed])?;
    ensure!(made["name"] == "lapsed" && made["holdout"] == 0, "{made}");
    typed.text(&["audience", "create", "openers", "--where", "did df_app_open within 7 days", "--time-zone", "Asia/Seoul"])?;
    let changed = typed.json(&["audience", "update", "openers", "--name", "Opened lately"])?;
    ensure!(changed["name"] == "Opened lately" && changed["version"] == 1 && changed["time_zone"] == "Asia/Seoul", "{changed}");
    let versions = typed.json(&["audience", "show", "openers", "--versions"])?;
    ensure!(versions["versions"].as_array().is_some_and(|versions| versions.len() == 1), "{versions}");

    let templates = typed.json(&["template", "list"])?;
    let first = templates["templates"][0]["id"].as_str().context("a template")?.to_owned();
    ensure!(!typed.text(&["template", "fill", &first])?.trim().is_empty(), "{first}");
    Ok(())
}

async fn members(typed: &Typed<'_>) -> anyhow::Result<()> {
    let (one, two) = (typed.tenant.number("user_id", "u1").await?, typed.tenant.number("user_id", "u2").await?);
    let mut expected = [one, two];
    expected.sort_unstable();
    let lines = typed.text(&["audience", "members", "lapsed"])?;
    ensure!(lines == format!("{}\n{}\n", expected[0], expected[1]), "{lines}");
    ensure!(typed.text(&["audience", "members", "lapsed", "--details"])?.contains("email:1@example.com"), "with details");
    let preview = typed.json(&["audience", "preview", "--where", "did df_app_open within 7 days", "--overlap", "lapsed"])?;
    ensure!(preview["size"] == 3 && preview["overlaps"][0]["common"] == 2, "{preview}");
    ensure!(typed.text(&["audience", "preview", "--segment", "lapsed"])?.starts_with("2 of 3 known persons"), "of the segment");
    let explained = typed.text(&["audience", "explain", "lapsed", "user_id:u3"])?;
    ensure!(explained.contains("is no member") && explained.contains("df_sign_up"), "{explained}");

    // All that was told, line by line, and on from the middle.
    let status = typed.json(&["audience", "status"])?;
    let count = status["sequence"].as_u64().context("a number")?;
    ensure!(count == 5, "{status}");
    let watched = typed.text(&["audience", "watch", "--from-beginning", "--limit", "5", "--output", "json"])?;
    let told: Vec<Value> = watched.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(told.iter().map(|one| one["sequence"].as_u64()).eq((1..=5).map(Some)), "{watched}");
    let cursor = told.iter().rev().find_map(|one| one["cursor"].as_str()).context("a cursor")?;
    typed.tenant.send(&[event("5", "df_app_open", now_us() - 1_000_000, &[("user_id", "u5")])]).await?;
    let further = typed.text(&["audience", "watch", "openers", "--cursor", cursor, "--limit", "1"])?;
    ensure!(further.contains("entered openers: df_app_open 5"), "{further}");

    let sizes = typed.json(&["audience", "sizes", "lapsed"])?;
    ensure!(sizes["sizes"].as_array().is_some_and(|sizes| !sizes.is_empty()), "{sizes}");
    typed.tenant.settled().await?;
    let evaluated = typed.json(&["audience", "evaluate", "lapsed"])?;
    ensure!(evaluated["size"] == 3 && evaluated["repaired"] == 0, "{evaluated}");
    let csv = typed.text(&["audience", "export", "lapsed", "--column", "user_id,email"])?;
    ensure!(csv.starts_with("person,id,user_id,email") && csv.lines().count() == 4, "{csv}");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("members.parquet");
    let path = file.to_str().context("a path")?;
    typed.text(&["audience", "export", "lapsed", "--format", "parquet", "--file", path])?;
    ensure!(std::fs::read(&file)?.starts_with(b"PAR1"), "a Parquet file");
    Ok(())
}

fn lists(typed: &Typed) -> anyhow::Result<()> {
    typed.text(&["list", "create", "vip", "--name", "Very important"])?;
    let changed = typed.json(&["list", "add", "vip", "user_id:u2", "user_id:nobody"])?;
    ensure!(changed["added"] == 1 && changed["unknown"] == 1, "{changed}");
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(b"E-Mail\n1@example.com\nnobody@example.com\n")?;
    let path = file.path().to_str().context("a path")?;
    let imported = typed.json(&["list", "import", "vip", path, "--column", "E-Mail=email"])?;
    ensure!(imported["matched"] == 1 && imported["list"]["size"] == 2, "{imported}");
    let removed = typed.json(&["list", "remove", "vip", "user_id:u2"])?;
    ensure!(removed["removed"] == 1, "{removed}");
    ensure!(typed.text(&["list", "list"])?.contains("Very important"), "it is listed");
    let archived = typed.json(&["list", "archive", "vip"])?;
    ensure!(archived["archived"] == true, "{archived}");
    let archived = typed.json(&["audience", "archive", "openers"])?;
    ensure!(archived["archived"] == true, "{archived}");
    Ok(())
}

/// What is refused says where and what to do, and the exit code says that it failed.
fn refusals(typed: &Typed) -> anyhow::Result<()> {
    for (words, hint) in [
        (&["audience", "create", "x", "--where", "did did"][..], ""),
        (&["audience", "create", "x"], "--where"),
        (&["audience", "show", "nothing"], "nothing"),
        (&["audience", "update", "lapsed"], "--where"),
        (&["list", "add", "vip", "somebody"], "user_id:abc123"),
    ] {
        let output = typed.run(words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1) && said.starts_with("segue: ") && said.contains(hint), "{words:?}: {said}");
    }
    Ok(())
}
