//! What a sync is asked to be, checked; and what it is, told.

use segue_model::{FieldViolation, identifier};
use segue_proto::audience::v1::{Sync, SyncState};
use segue_runtime::fields;
use segue_runtime::outgoing::check_url;

use super::store::Stored;
use crate::config::SyncConfig;
use crate::error::AudienceError;
use crate::store::timestamp;

const URL_BYTES_MAX: usize = 2_048;
const KINDS_MAX: usize = 20;
const KIND_DEFAULT: &str = "user_id";

/// A sync to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewSync {
    pub(super) id: String,
    pub(super) audience: String,
    pub(super) settings: Settings,
}

/// What can be changed of a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) url: String,
    pub(super) identifier_kinds: Vec<String>,
    pub(super) paused: bool,
}

/// Reads a sync to be created.
pub(super) fn parse_new(sync: Option<Sync>, config: &SyncConfig) -> Result<NewSync, AudienceError> {
    let sync = sync.ok_or_else(|| AudienceError::field("sync", "is missing"))?;
    let mut faults = Vec::new();
    fields::check_id(&mut faults, "sync.id", &sync.id);
    if sync.audience.is_empty() {
        faults.push(FieldViolation::new("sync.audience", "is missing; set the id of an audience"));
    }
    let paused = sync.state() == SyncState::Paused;
    let settings = settings(sync.url, sync.identifier_kinds, paused, config, &mut faults);
    fields::refuse(faults)?;
    Ok(NewSync { id: sync.id, audience: sync.audience, settings })
}

/// The settings of a sync with those of a request in place of its own, where the request has any.
pub(super) fn parse_change(sync: &Sync, before: &Settings, config: &SyncConfig) -> Result<Settings, AudienceError> {
    let url = if sync.url.is_empty() { before.url.clone() } else { sync.url.clone() };
    let kinds = if sync.identifier_kinds.is_empty() { before.identifier_kinds.clone() } else { sync.identifier_kinds.clone() };
    let paused = match sync.state() {
        SyncState::Unspecified => before.paused,
        SyncState::Active => false,
        SyncState::Paused => true,
    };
    let mut faults = Vec::new();
    let settings = settings(url, kinds, paused, config, &mut faults);
    fields::refuse(faults)?;
    Ok(settings)
}

fn settings(url: String, kinds: Vec<String>, paused: bool, config: &SyncConfig, faults: &mut Vec<FieldViolation>) -> Settings {
    if url.len() > URL_BYTES_MAX {
        faults.push(FieldViolation::new("sync.url", format!("must be at most {URL_BYTES_MAX} bytes")));
    } else if let Err(problem) = check_url(&url, &config.rules()) {
        faults.push(FieldViolation::new("sync.url", problem));
    }
    if kinds.len() > KINDS_MAX {
        faults.push(FieldViolation::new("sync.identifier_kinds", format!("must be at most {KINDS_MAX}")));
    }
    for (at, kind) in kinds.iter().enumerate() {
        if !identifier::is_kind(kind) {
            faults.push(FieldViolation::new(format!("sync.identifier_kinds[{at}]"), "must be 1 to 64 characters of a-z, 0-9 and '_'"));
        } else if kinds.iter().take(at).any(|earlier| earlier == kind) {
            faults.push(FieldViolation::new(format!("sync.identifier_kinds[{at}]"), "is there already"));
        }
    }
    let identifier_kinds = if kinds.is_empty() { vec![KIND_DEFAULT.to_owned()] } else { kinds };
    Settings { url, identifier_kinds, paused }
}

/// A sync as the API tells it, without its secret.
pub(super) fn to_proto(stored: Stored) -> Sync {
    Sync {
        etag: etag(&stored),
        id: stored.id,
        audience: stored.audience,
        url: stored.settings.url,
        secret: String::new(),
        identifier_kinds: stored.settings.identifier_kinds,
        state: if stored.settings.paused { SyncState::Paused } else { SyncState::Active }.into(),
        delivered_sequence: stored.delivered_sequence,
        delivered_at: (stored.delivered_us != 0).then(|| timestamp(stored.delivered_us)),
        failures: stored.failures,
        problem: stored.problem,
        created_at: Some(timestamp(stored.created_us)),
    }
}

/// Of the settings of a sync; one that is created anew under its id has others.
pub(super) fn etag(stored: &Stored) -> String {
    fields::etag("sync", &stored.id, stored.revision, stored.created_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sync(id: &str, url: &str) -> Sync {
        Sync { id: id.to_owned(), audience: "buyers".to_owned(), url: url.to_owned(), ..Sync::default() }
    }

    fn fields(result: Result<impl std::fmt::Debug, AudienceError>) -> Vec<String> {
        match result {
            Err(AudienceError::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
            other => panic!("expected faults: {other:?}"),
        }
    }

    #[test]
    fn a_sync_takes_defaults_and_every_fault_is_named() {
        let config = SyncConfig::default();
        let parsed = parse_new(Some(sync("crm", "https://crm.example/hook?a=1")), &config).expect("valid");
        assert_eq!((parsed.settings.identifier_kinds.as_slice(), parsed.settings.paused), (&["user_id".to_owned()][..], false));
        let kinds = ["email", "E", "email"].map(str::to_owned).to_vec();
        let faulty = Sync { identifier_kinds: kinds, audience: String::new(), ..sync("1", "http://crm.example") };
        let expected = ["sync.id", "sync.audience", "sync.url", "sync.identifier_kinds[1]", "sync.identifier_kinds[2]"];
        assert_eq!(fields(parse_new(Some(faulty), &config)), expected);
        assert_eq!(fields(parse_new(None, &config)), ["sync"]);
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let config = SyncConfig::default();
        let before = Settings { url: "https://a.example/".to_owned(), identifier_kinds: vec!["email".to_owned()], paused: true };
        assert_eq!(parse_change(&Sync::default(), &before, &config).expect("valid"), before);
        let change = Sync { state: SyncState::Active.into(), ..sync("crm", "https://b.example/") };
        let after = parse_change(&change, &before, &config).expect("valid");
        assert_eq!(after, Settings { url: "https://b.example/".to_owned(), paused: false, ..before.clone() });
        assert_eq!(fields(parse_change(&sync("crm", "http://b.example/"), &before, &config)), ["sync.url"]);
    }
}
