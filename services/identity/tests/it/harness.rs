//! A running service over a temporary store and log, and a short notation for events.
//!
//! An event is a line of words: `kind:value` is an identifier, with the short kinds below; `logout`, `group`, `identify`,
//! `alias:value` and `account:value` (a GROUP about it) say what it is; `name=value` sets a trait, a boolean one if the value is `true` or `false`; `@n`
//! sets its time in seconds.

use std::time::Duration;

use segue_identity::{Config, Deps};
use segue_log::Log;
use segue_model::module::ModuleSet;
use segue_model::{ManualClock, Module, TenantId};
use segue_proto::events::v1::value::Kind as ValueKind;
use segue_proto::events::v1::{EventKind, Identifier, Value};
use segue_proto::identity::v1::get_person_request::Who;
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::identity::v1::{
    GetPersonRequest, LinkRecord, ListLinkRecordsRequest, LookupIdentifiersRequest, MergePersonsRequest, Person, ResolveBatchRequest,
    ResolveBatchResponse, Subject,
};
use segue_runtime::transport::{PeerChannel, for_tenant, local};
use segue_runtime::{Tasks, Tenant, TenantDirectory};
use segue_testkit::{TempLog, TempStore};
use std::sync::Arc;
use tonic::Status;
use tonic_types::StatusExt;

/// One process with identity in it.
pub(crate) struct Process {
    pub(crate) client: IdentityServiceClient<PeerChannel>,
    pub(crate) tenants: TenantDirectory,
    tasks: Tasks,
}

impl Process {
    pub(crate) async fn start(store: &TempStore, log: &Log, config: Config) -> anyhow::Result<Process> {
        let tenants = TenantDirectory::fixed([shop(), other()].map(|id| Tenant::new(id, switched_on())).to_vec());
        let tasks = Tasks::new();
        let deps = Deps {
            config,
            store_url: store.url().to_owned(),
            log: log.clone(),
            clock: Arc::new(ManualClock::new(1_000_000)),
            tenants: tenants.clone(),
            tasks: tasks.clone(),
        };
        let started = segue_identity::start(deps).await?;
        let client = IdentityServiceClient::new(local(started.routes)).max_decoding_message_size(64 << 20);
        Ok(Process { client, tenants, tasks })
    }

    /// Ends the process as a crash would, as far as its store can tell.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        Ok(self.tasks.stop(Duration::from_secs(10)).await?)
    }

    /// A person of `shop`.
    pub(crate) async fn person(&self, who: Who) -> Result<Person, Status> {
        Ok(self.client.clone().get_person(for_tenant(&shop(), GetPersonRequest { who: Some(who) })).await?.into_inner())
    }

    /// The whole link log of `shop`.
    pub(crate) async fn links(&self) -> Result<Vec<LinkRecord>, Status> {
        let request = ListLinkRecordsRequest { page_size: 1_000, ..ListLinkRecordsRequest::default() };
        Ok(self.client.clone().list_link_records(for_tenant(&shop(), request)).await?.into_inner().records)
    }

    /// Whom identifiers `kind:value` of `shop` name.
    pub(crate) async fn lookup(&self, identifiers: &[&str]) -> Result<Vec<u32>, Status> {
        let identifiers = identifiers.iter().map(|word| word.split_once(':').map(|(kind, value)| identifier(kind, value)));
        let request = LookupIdentifiersRequest { identifiers: identifiers.map(|id| id.expect("a colon")).collect() };
        Ok(self.client.clone().lookup_identifiers(for_tenant(&shop(), request)).await?.into_inner().persons)
    }

    /// Makes one person of `shop` part of another.
    pub(crate) async fn merge(&self, from: u32, into: u32) -> Result<(), Status> {
        let request = MergePersonsRequest { from, into, force: true, ..MergePersonsRequest::default() };
        self.client.clone().merge_persons(for_tenant(&shop(), request)).await.map(drop)
    }

    /// Resolves lines of events for the tenant `shop`.
    pub(crate) async fn resolve(&self, source: &str, sequence: u64, events: &[&str]) -> Result<ResolveBatchResponse, Status> {
        self.resolve_for(&shop(), source, sequence, events.iter().map(|line| event(line)).collect()).await
    }

    pub(crate) async fn resolve_for(
        &self,
        tenant: &TenantId,
        source: &str,
        sequence: u64,
        subjects: Vec<Subject>,
    ) -> Result<ResolveBatchResponse, Status> {
        let request = ResolveBatchRequest { source: source.to_owned(), sequence, subjects };
        Ok(self.client.clone().resolve_batch(for_tenant(tenant, request)).await?.into_inner())
    }
}

/// A folder or server for the log, opened.
pub(crate) async fn log() -> anyhow::Result<(TempLog, Log)> {
    let place = TempLog::embedded();
    let log = place.open().await?;
    Ok((place, log))
}

pub(crate) fn shop() -> TenantId {
    "shop".parse().expect("a tenant id")
}

pub(crate) fn other() -> TenantId {
    "other".parse().expect("a tenant id")
}

pub(crate) fn switched_on() -> ModuleSet {
    [Module::Ingest, Module::Identity].into_iter().collect()
}

/// The reason of a refusal.
pub(crate) fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// The paths of wrong fields.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    details.bad_request().map_or_else(Vec::new, |bad| bad.field_violations.iter().map(|fault| fault.field.clone()).collect())
}

/// Person numbers of an answer.
pub(crate) fn persons(answer: &ResolveBatchResponse) -> Vec<u32> {
    answer.resolutions.iter().map(|resolution| resolution.person).collect()
}

pub(crate) fn identifier(kind: &str, value: &str) -> Identifier {
    let kind = match kind {
        "u" => "user_id",
        "a" => "anonymous_id",
        "d" => "device_id",
        "p" => "push_token",
        "e" => "email",
        other => other,
    };
    Identifier { kind: kind.to_owned(), value: value.to_owned() }
}

pub(crate) fn text(value: &str) -> Value {
    Value { kind: Some(ValueKind::StringValue(value.to_owned())) }
}

/// One event from its line.
pub(crate) fn event(line: &str) -> Subject {
    let mut subject = Subject { kind: EventKind::Track as i32, ..Subject::default() };
    for word in line.split_whitespace() {
        if let Some(seconds) = word.strip_prefix('@') {
            subject.time_us = seconds.parse::<i64>().expect("a time") * 1_000_000;
        } else if let Some(previous) = word.strip_prefix("alias:") {
            subject.kind = EventKind::Alias as i32;
            subject.previous_id = previous.to_owned();
        } else if let Some(account) = word.strip_prefix("account:") {
            subject.kind = EventKind::Group as i32;
            subject.account_id = account.to_owned();
        } else if let Some((name, value)) = word.split_once('=') {
            let value = value.parse().map_or_else(|_| text(value), |bool| Value { kind: Some(ValueKind::BoolValue(bool)) });
            subject.traits.insert(name.to_owned(), value);
        } else if let Some((kind, value)) = word.split_once(':') {
            subject.identifiers.push(identifier(kind, value));
        } else {
            match word {
                "logout" => subject.logout = true,
                "group" => subject.kind = EventKind::Group as i32,
                "identify" => subject.kind = EventKind::Identify as i32,
                _ => panic!("{word} in {line}"),
            }
        }
    }
    subject
}
