//! What every Segue process needs around its services: configuration, telemetry, supervised tasks, error mapping,
//! callers, fields and pages of requests, transports between services and what peers answer, the tenants' directory, requests to the outside, and the server itself.

pub mod caller;
pub mod config;
pub mod fields;
pub mod outgoing;
pub mod page;
pub mod peers;
pub mod server;
pub mod status;
pub mod tasks;
pub mod telemetry;
pub mod tenants;
pub mod trace;
pub mod transport;

pub use caller::{Caller, Role};
pub use tasks::Tasks;
pub use tenants::{Tenant, TenantDirectory};
pub use transport::PeerChannel;

/// Makes aws-lc the process's TLS provider. Two providers get linked, and rustls refuses to choose: call this first in every
/// `main` and test. Calling it again does nothing.
pub fn install_tls_provider() {
    // An error says that one is installed already, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
