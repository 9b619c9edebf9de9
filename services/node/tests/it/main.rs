//! The example configuration is what the program really does by default, and explains every key.

use std::collections::HashMap;
use std::path::Path;

use segue_node::Settings;
use segue_runtime::config;

fn example() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/segue.toml")
}

#[test]
fn the_example_configuration_is_equal_to_the_defaults_and_complete() {
    let settings: Settings = config::load(Some(&example()), &HashMap::new(), &[]).expect("valid");
    assert_eq!(settings, Settings::default());
    let text = std::fs::read_to_string(example()).expect("the example can be read");
    let given: toml::Value = toml::from_str(&text).expect("TOML");
    let defaults = toml::Value::try_from(Settings::default()).expect("TOML");
    assert_eq!(given, defaults, "every key stands in the example");
}

#[test]
fn every_key_of_the_example_is_explained() {
    let text = std::fs::read_to_string(example()).expect("the example can be read");
    let mut explained = false;
    for line in text.lines() {
        match line.trim() {
            comment if comment.starts_with('#') => explained = true,
            key if key.contains(" = ") => {
                assert!(std::mem::take(&mut explained), "no comment above {key}");
            }
            _ => {}
        }
    }
}
