//! Which gRPC calls exist for the outside, where they go and how they are metered. Built from the contract: what is not in
//! it, or is marked internal here, does not exist for clients.
//!
//! To offer a new package: add its module in [`destination`]. To hide a new internal RPC: add it to [`INTERNAL`].

use std::collections::HashMap;

use prost::Message;
use prost_types::FileDescriptorSet;
use segue_model::Module;

/// RPCs between services, which the outside must not reach.
const INTERNAL: [&str; 6] = [
    "/segue.analytics.v1.AnalyticsService/EvaluateConditions",
    "/segue.audience.v1.AudienceService/EvaluatePersons",
    "/segue.campaign.v1.MessageService/Follow",
    "/segue.ingest.v1.IngestService/Collect",
    "/segue.identity.v1.IdentityService/ResolveBatch",
    "/segue.tenancy.v1.TenancyService/WatchTenants",
];

/// All that a write key may call over gRPC.
const FOR_WRITE_KEYS: [&str; 2] = ["/segue.ingest.v1.IngestService/Track", "/segue.ingest.v1.IngestService/TrackStream"];

/// Calls whose request bytes count as ingestion.
const METERED: [&str; 3] =
    ["/segue.ingest.v1.IngestService/Track", "/segue.ingest.v1.IngestService/TrackStream", "/segue.ingest.v1.ImportService/CreateImport"];

/// Who answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The service of this module, if it is on for the tenant.
    Module(Module),
    /// This process.
    Tenancy,
}

/// How the bytes of a request count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metering {
    /// Not.
    None,
    /// Over quota: refused. The bytes are charged as they pass.
    Refuse,
    /// Over quota: the stream is slowed down.
    Delay,
}

/// One RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) destination: Destination,
    pub(crate) for_write_keys: bool,
    pub(crate) metering: Metering,
    /// Streams in either direction bring their own deadlines.
    pub(crate) is_stream: bool,
    /// The client sends a stream.
    pub(crate) sends_stream: bool,
}

/// All RPCs by path.
#[derive(Debug)]
pub(crate) struct Calls(HashMap<String, Call>);

impl Calls {
    /// Reads the contract.
    pub(crate) fn from_contract(descriptors: &[u8]) -> Result<Self, prost::DecodeError> {
        let files = FileDescriptorSet::decode(descriptors)?;
        let mut calls = HashMap::new();
        for file in &files.file {
            let Some(destination) = destination(file.package()) else { continue };
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    if INTERNAL.contains(&path.as_str()) {
                        continue;
                    }
                    let metering = match (METERED.contains(&path.as_str()), method.client_streaming()) {
                        (false, _) => Metering::None,
                        (true, false) => Metering::Refuse,
                        (true, true) => Metering::Delay,
                    };
                    let for_write_keys = FOR_WRITE_KEYS.contains(&path.as_str());
                    let is_stream = method.client_streaming() || method.server_streaming();
                    calls.insert(path, Call { destination, for_write_keys, metering, is_stream, sends_stream: method.client_streaming() });
                }
            }
        }
        Ok(Self(calls))
    }

    /// The call with this path.
    pub(crate) fn find(&self, path: &str) -> Option<Call> {
        self.0.get(path).copied()
    }
}

fn destination(package: &str) -> Option<Destination> {
    match package {
        "segue.ingest.v1" => Some(Destination::Module(Module::Ingest)),
        "segue.identity.v1" => Some(Destination::Module(Module::Identity)),
        "segue.analytics.v1" => Some(Destination::Module(Module::Analytics)),
        "segue.audience.v1" => Some(Destination::Module(Module::Audience)),
        "segue.campaign.v1" => Some(Destination::Module(Module::Campaign)),
        "segue.tenancy.v1" => Some(Destination::Tenancy),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_path_is_in_the_contract_and_internal_ones_are_not_offered() {
        let calls = Calls::from_contract(segue_proto::DESCRIPTORS).expect("the contract is readable");
        for path in FOR_WRITE_KEYS.iter().chain(&METERED) {
            assert!(calls.find(path).is_some(), "{path}");
        }
        let files = FileDescriptorSet::decode(segue_proto::DESCRIPTORS).expect("readable");
        let exists = |path: &str| {
            files.file.iter().any(|file| {
                file.service.iter().any(|service| {
                    service.method.iter().any(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name()) == path)
                })
            })
        };
        for path in INTERNAL {
            assert!(exists(path), "{path} is not in the contract any more");
            assert_eq!(calls.find(path), None, "{path}");
        }
        assert_eq!(calls.find("/segue.ingest.v1.IngestService/Nothing"), None);
    }

    #[test]
    fn an_rpc_whose_comment_says_internal_is_hidden() {
        // The comments of the contract are its only other mark; keep the two in step.
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/segue");
        let mut marked = Vec::new();
        for package in std::fs::read_dir(folder).expect("the contracts are there") {
            let package = package.expect("an entry").path();
            for file in std::fs::read_dir(package.join("v1")).expect("version 1") {
                let text = std::fs::read_to_string(file.expect("an entry").path()).expect("text");
                let mut internal = false;
                for line in text.lines().map(str::trim) {
                    match line.strip_prefix("rpc ") {
                        Some(rpc) if internal => marked.push(rpc.split('(').next().unwrap_or_default().to_owned()),
                        _ => {}
                    }
                    internal = line.starts_with("//") && (internal || line.starts_with("// Internal"));
                }
            }
        }
        marked.sort_unstable();
        let mut hidden: Vec<_> = INTERNAL.iter().map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()).collect();
        hidden.sort_unstable();
        assert_eq!(marked, hidden);
    }

    #[test]
    fn streams_are_slowed_down_and_single_calls_refused() {
        let calls = Calls::from_contract(segue_proto::DESCRIPTORS).expect("the contract is readable");
        let metering = |path: &str| calls.find(path).expect("offered").metering;
        assert_eq!(metering("/segue.ingest.v1.IngestService/Track"), Metering::Refuse);
        assert_eq!(metering("/segue.ingest.v1.IngestService/TrackStream"), Metering::Delay);
        assert_eq!(metering("/segue.ingest.v1.ImportService/CreateImport"), Metering::Delay);
        assert_eq!(metering("/segue.identity.v1.IdentityService/GetPerson"), Metering::None);
        assert_eq!(metering("/segue.identity.v1.IdentityService/GetAccount"), Metering::None);
    }
}
