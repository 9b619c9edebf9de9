//! The shop file that comes with the design (31,106 events of 600 users), imported, gives exactly the expected numbers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use segue_tests::events::{by_event, counts};
use segue_tests::installation::Installation;

/// The folder beside the checkout. It is there in CI; on a user's machine it is not.
fn shared_data() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if folder.join("ecom.csv.gz").exists() {
        return Some(folder);
    }
    let in_ci = std::env::vars_os().any(|(name, value)| name == "CI" && value == "true");
    assert!(!in_ci, "{} is missing; in CI the check must not be left out", folder.display());
    eprintln!("left out: the shop file is not beside this checkout");
    None
}

#[tokio::test]
async fn the_shop_file_gives_exactly_the_expected_totals_and_a_second_import_changes_nothing() {
    if shared_data().is_some() {
        super::for_every_shape(shop_file).await;
    }
}

async fn shop_file(installation: Installation) -> anyhow::Result<()> {
    let data = shared_data().context("the data is there")?;
    let keys = installation.tenant("shop").await?;
    let expected: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(data.join("ecom.expected.json"))?)?;
    let mapping = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ecom.mapping.toml");
    for round in 1..=2 {
        let output = Command::new(super::program())
            .args(["import", "--indexed", "--output", "json", "--server", &installation.url(), "--key", &keys.secret, "--mapping"])
            .arg(&mapping)
            .arg(data.join("ecom.csv.gz"))
            .output()?;
        ensure!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        let import: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        ensure!(import["accepted"] == 31_106 && import["already_imported"] == (round == 2), "round {round}: {import}");

        let report = keys.gateway.analytics().query_events(by_event()).await?.into_inner();
        let counts = counts(&report);
        let events = expected["events"].as_object().context("expected events")?;
        ensure!(counts.len() == events.len(), "round {round}: {counts:?}");
        for (name, numbers) in events {
            // Standard names are canonical in reports; the file's `purchase` is one of their aliases.
            let canonical = segue_model::catalogue::canonical_event(name).unwrap_or(name);
            let wanted = (numbers["total"].as_u64().context("total")?, numbers["unique_profiles"].as_u64().context("profiles")?);
            ensure!(counts.get(canonical) == Some(&wanted), "round {round}: {name}: {:?} instead of {wanted:?}", counts.get(canonical));
        }
        let total = report.total.as_ref().context("a total")?;
        let figure = |at: usize| total.totals.get(at).and_then(|number| number.kind.clone());
        use segue_proto::analytics::v1::number::Kind;
        ensure!(figure(0) == Some(Kind::Count(31_106)) && figure(1) == Some(Kind::Count(600)), "round {round}: {total:?}");
    }
    super::figures::check(&keys, &expected).await
}
