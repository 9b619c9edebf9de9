//! The import rule of the workspace, held against the manifests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LIBRARIES: [&str; 8] =
    ["segue-model", "segue-engine", "segue-proto", "segue-query", "segue-runtime", "segue-store", "segue-log", "segue-testkit"];

/// Crate → crates of ours that it is built with.
fn edges() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut manifests: Vec<PathBuf> = vec![root.join("tests/Cargo.toml")];
    for folder in ["libs", "services"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("the folder can be read") {
            manifests.push(entry.expect("an entry").path().join("Cargo.toml"));
        }
    }
    let mut edges = BTreeMap::new();
    for path in manifests {
        let manifest: toml::Table = std::fs::read_to_string(&path).expect("a manifest").parse().expect("TOML");
        let ours = |table: &str| -> Vec<String> {
            let names = manifest
                .get(table)
                .and_then(toml::Value::as_table)
                .map(|table| table.keys().cloned().collect::<Vec<_>>())
                .unwrap_or_default();
            names.into_iter().filter(|name| name.starts_with("segue-")).collect()
        };
        let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
        assert!(!ours("dependencies").contains(&"segue-testkit".to_owned()) || name == "segue-tests", "{name}: testkit is for tests only");
        edges.insert(name, [ours("dependencies"), ours("build-dependencies")].concat());
    }
    edges
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    for (name, imports) in edges() {
        let allowed: &[&str] = match name.as_str() {
            "segue-model" => &[],
            "segue-runtime" => &["segue-model", "segue-proto"],
            // Its text stands for conditions as the contract has them.
            "segue-query" => &["segue-model", "segue-proto"],
            "segue-testkit" => &["segue-model", "segue-store", "segue-log", "segue-proto"],
            // Benchmarks measure analytics and its log in their own process.
            "segue-tests" => {
                &["segue-node", "segue-proto", "segue-testkit", "segue-model", "segue-runtime", "segue-analytics", "segue-log"]
            }
            "segue-node" => continue,
            // The rules of the per-person engine; what evaluates conditions is analytics alone.
            "segue-analytics" => &["segue-model", "segue-engine", "segue-proto", "segue-runtime", "segue-store", "segue-log"],
            // Conditions as text, and filters on one event as it comes in.
            "segue-audience" | "segue-campaign" => {
                &["segue-model", "segue-proto", "segue-query", "segue-runtime", "segue-store", "segue-log"]
            }
            library if LIBRARIES.contains(&library) => &["segue-model"],
            _service => &["segue-model", "segue-proto", "segue-runtime", "segue-store", "segue-log"],
        };
        for import in imports {
            assert!(
                allowed.contains(&import.as_str()),
                "{name} must not import {import}; services reach each other through generated clients"
            );
        }
    }
}
