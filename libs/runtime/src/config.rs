//! Configuration: defaults, then a TOML file, then the environment (`SEGUE__SECTION__KEY`), then flags; the later wins.
//!
//! Keys without a default do not exist: every key of a settings struct has one (an empty text where there is nothing to say),
//! so an unknown key can be told from a known one, and all faults are reported at once. A table whose name ends in `_of` is a map:
//! its keys are free, its values of one type. A secret can stand in a file: the environment variable `SEGUE__SECTION__KEY_FILE`
//! names it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use config::{Config, Environment, File, FileFormat};
use segue_model::FieldViolation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Value;

const PREFIX: &str = "SEGUE__";

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// One per faulty key.
    pub faults: Vec<FieldViolation>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s)", self.faults.len())?;
        for fault in &self.faults {
            write!(f, "\n  {}: {}", fault.field, fault.description)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    fn one(field: impl Into<String>, description: impl fmt::Display) -> Self {
        Self { faults: vec![FieldViolation::new(field, description.to_string())] }
    }
}

/// Settings that can check themselves.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// Faults that types cannot rule out, with the path of the key.
    fn faults(&self) -> Vec<FieldViolation>;
}

/// Reads settings. `environment` is the process's; `flags` are pairs of key path (`server.listen`) and value.
pub fn load<S: Settings>(file: Option<&Path>, environment: &HashMap<String, String>, flags: &[(String, String)]) -> Result<S, ConfigError> {
    let defaults = Value::try_from(S::default()).map_err(|error| ConfigError::one("defaults", error))?;
    let variables = with_secret_files(environment)?;
    let mut builder = Config::builder();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::one(path.display().to_string(), format!("cannot be read: {error}")))?;
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
    }
    builder = builder.add_source(Environment::default().separator("__").ignore_empty(false).source(Some(variables)));
    for (key, value) in flags {
        builder = builder.set_override(key, value.as_str()).map_err(|error| ConfigError::one(key, error))?;
    }
    let given: config::Value = builder
        .build()
        .and_then(|built| built.cache.clone().try_deserialize())
        .map_err(|error| ConfigError::one(file.map_or_else(String::new, |path| path.display().to_string()), error))?;
    let mut faults = Vec::new();
    let mut merged = defaults;
    overlay(&mut merged, given, "", &mut faults);
    if !faults.is_empty() {
        return Err(ConfigError { faults });
    }
    let settings: S = merged.try_into().map_err(|error: toml::de::Error| ConfigError::one("configuration", error.message()))?;
    let faults = settings.faults();
    if faults.is_empty() { Ok(settings) } else { Err(ConfigError { faults }) }
}

/// Variables of ours without the prefix, with `…_FILE` replaced by what the file holds.
fn with_secret_files(environment: &HashMap<String, String>) -> Result<HashMap<String, String>, ConfigError> {
    let mut variables = HashMap::new();
    for (name, value) in environment {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        match key.strip_suffix("_FILE") {
            Some(base) => {
                let text =
                    std::fs::read_to_string(value).map_err(|error| ConfigError::one(name, format!("{value} cannot be read: {error}")))?;
                variables.insert(base.to_owned(), text.trim_end_matches(['\r', '\n']).to_owned());
            }
            None => {
                variables.insert(key.to_owned(), value.clone());
            }
        }
    }
    Ok(variables)
}

/// Puts what was given over the defaults, converting to the default's type; collects what does not fit.
fn overlay(target: &mut Value, given: config::Value, path: &str, faults: &mut Vec<FieldViolation>) {
    if let Value::Table(table) = target {
        let free_keys_like = table.values().next().filter(|_| path.ends_with("_of")).cloned();
        match given.into_table() {
            Ok(entries) => {
                for (key, value) in entries {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    if let (Some(like), false) = (&free_keys_like, table.contains_key(&key)) {
                        table.insert(key.clone(), like.clone());
                    }
                    match table.get_mut(&key) {
                        Some(inner) => overlay(inner, value, &path, faults),
                        None => faults.push(FieldViolation::new(
                            path,
                            format!("unknown key; known here: {}", table.keys().cloned().collect::<Vec<_>>().join(", ")),
                        )),
                    }
                }
            }
            Err(_) => faults.push(FieldViolation::new(path, "a section was expected")),
        }
        return;
    }
    let converted = match target {
        Value::String(_) => given.into_string().map(Value::String),
        Value::Integer(_) => given.into_int().map(Value::Integer),
        Value::Float(_) => given.into_float().map(Value::Float),
        Value::Boolean(_) => given.into_bool().map(Value::Boolean),
        Value::Array(items) => list(given, items.first()).map(Value::Array),
        Value::Datetime(_) | Value::Table(_) => Err(config::ConfigError::Message("a value of this kind cannot be set".to_owned())),
    };
    match converted {
        Ok(value) => *target = value,
        Err(error) => faults.push(FieldViolation::new(path, error.to_string())),
    }
}

/// A list: an array, or one text with commas (from the environment or a flag). Items are of the type of the default's; where the
/// default is empty, whole numbers are numbers.
fn list(given: config::Value, like: Option<&Value>) -> Result<Vec<Value>, config::ConfigError> {
    let items = match given.clone().into_array() {
        Ok(items) => items.into_iter().map(config::Value::into_string).collect::<Result<Vec<_>, _>>()?,
        Err(_) => given.into_string()?.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect(),
    };
    let numbers = || items.iter().map(|item| item.parse().map(Value::Integer)).collect::<Result<Vec<_>, _>>();
    match (like, numbers()) {
        (None, Ok(numbers)) | (Some(Value::Integer(_)), Ok(numbers)) => Ok(numbers),
        _ => Ok(items.into_iter().map(Value::String).collect()),
    }
}

/// The effective settings as TOML, with secrets hidden: keys that end in `token`, `key`, `password` or `secret`, and the
/// password in a URL.
pub fn shown<S: Serialize>(settings: &S) -> Result<String, ConfigError> {
    let mut value = Value::try_from(settings).map_err(|error| ConfigError::one("configuration", error))?;
    hide_secrets(&mut value, "");
    toml::to_string_pretty(&value).map_err(|error| ConfigError::one("configuration", error))
}

fn hide_secrets(value: &mut Value, key: &str) {
    match value {
        Value::Table(table) => table.iter_mut().for_each(|(key, inner)| hide_secrets(inner, key)),
        Value::String(text) if !text.is_empty() => {
            if ["token", "key", "password", "secret"].iter().any(|ending| key.ends_with(ending)) {
                *text = "(hidden)".to_owned();
            } else if let Some((scheme, rest)) = text.split_once("://")
                && let Some((user, host)) = rest.rsplit_once('@')
                && let Some((user, _)) = user.split_once(':')
            {
                *text = format!("{scheme}://{user}:(hidden)@{host}");
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        server: Server,
    }

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Server {
        listen: String,
        drain_timeout_ms: u64,
        services: Vec<String>,
        partitions: Vec<u16>,
        limits_of: BTreeMap<String, u32>,
        cluster_token: String,
        store_url: String,
    }

    impl Default for Server {
        fn default() -> Self {
            Self {
                listen: "127.0.0.1:7171".into(),
                drain_timeout_ms: 10,
                services: vec!["all".into()],
                partitions: Vec::new(),
                limits_of: BTreeMap::from([("user_id".to_owned(), 1)]),
                cluster_token: String::new(),
                store_url: String::new(),
            }
        }
    }

    impl Settings for Example {
        fn faults(&self) -> Vec<FieldViolation> {
            if self.server.drain_timeout_ms == 0 { vec![FieldViolation::new("server.drain_timeout_ms", "at least 1")] } else { Vec::new() }
        }
    }

    fn env(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn file_environment_and_flags_win_in_this_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("segue.toml");
        std::fs::write(&file, "[server]\nlisten = \"from-file\"\ndrain_timeout_ms = 1\n").expect("written");
        let secret = folder.path().join("token");
        std::fs::write(&secret, "s3cret\n").expect("written");
        let secret = secret.display().to_string();
        let environment = env(&[
            ("SEGUE__SERVER__DRAIN_TIMEOUT_MS", "2"),
            ("SEGUE__SERVER__SERVICES", "a, b"),
            ("SEGUE__SERVER__CLUSTER_TOKEN_FILE", &secret),
            ("OTHER", "x"),
        ]);
        let flags = [("server.listen".to_owned(), "from-flag".to_owned())];
        let settings: Example = load(Some(&file), &environment, &flags).expect("valid");
        assert_eq!(
            settings.server,
            Server {
                listen: "from-flag".into(),
                drain_timeout_ms: 2,
                services: vec!["a".into(), "b".into()],
                cluster_token: "s3cret".into(),
                ..Server::default()
            }
        );
    }

    #[test]
    fn lists_come_as_arrays_or_with_commas_and_maps_take_new_keys() {
        let environment =
            env(&[("SEGUE__SERVER__PARTITIONS", "1,2"), ("SEGUE__SERVER__SERVICES", "1,2"), ("SEGUE__SERVER__LIMITS_OF__EMAIL", "3")]);
        let server = load::<Example>(None, &environment, &[]).expect("valid").server;
        assert_eq!((server.partitions, server.services), (vec![1, 2], vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(server.limits_of, BTreeMap::from([("email".to_owned(), 3), ("user_id".to_owned(), 1)]));
    }

    #[test]
    fn all_faults_are_reported_at_once_with_their_keys() {
        let environment = env(&[("SEGUE__SERVER__DRAIN_TIMEOUT_MS", "soon"), ("SEGUE__SERVER__LISTN", "x"), ("SEGUE__SEVER__LISTEN", "x")]);
        let error = load::<Example>(None, &environment, &[]).expect_err("three faults");
        let mut fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["server.drain_timeout_ms", "server.listn", "sever"]);
        let error = load::<Example>(None, &env(&[("SEGUE__SERVER__DRAIN_TIMEOUT_MS", "0")]), &[]).expect_err("out of range");
        assert_eq!(error.faults[0].field, "server.drain_timeout_ms");
    }

    #[test]
    fn secrets_do_not_show() {
        let settings = Example {
            server: Server { cluster_token: "s3cret".into(), store_url: "postgres://segue:pw@db/x".into(), ..Server::default() },
        };
        let text = shown(&settings).expect("text");
        assert!(!text.contains("s3cret") && !text.contains(":pw@") && text.contains("postgres://segue:(hidden)@db/x"), "{text}");
    }
}
