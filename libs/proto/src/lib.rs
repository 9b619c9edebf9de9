//! Generated messages, clients and servers of `proto/`, one module per package.
//!
//! The contract is in the `.proto` files and their comments; `proto/README.md` says how to add an RPC.

// The generator copies the comments of the contract; it has its own ideas about the rest.
#![allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]

/// Serialized `FileDescriptorSet` of everything here, for reflection and for reading requests written as JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/segue.binpb"));

macro_rules! package {
    ($($module:ident = $name:literal),* $(,)?) => {
        $(
            #[doc = concat!("Package `", $name, "`.")]
            pub mod $module {
                pub mod v1 {
                    tonic::include_proto!($name);
                }
            }
        )*
        // Generated code reaches across packages by `super::super::…`.
    };
}

package! {
    events = "segue.events.v1",
    query = "segue.query.v1",
    ingest = "segue.ingest.v1",
    identity = "segue.identity.v1",
    analytics = "segue.analytics.v1",
    audience = "segue.audience.v1",
    campaign = "segue.campaign.v1",
    tenancy = "segue.tenancy.v1",
}
