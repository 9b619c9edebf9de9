//! The vocabulary of Segue: ids, time, money, dimensions, modules, error codes. No I/O, no gRPC.

pub mod bucket;
pub mod calendar;
pub mod catalogue;
pub mod clock;
pub mod decimal;
pub mod dimension;
pub mod error;
pub mod id;
pub mod identifier;
pub mod link_token;
pub mod module;
pub mod partition;

pub use clock::{Clock, ManualClock, SystemClock};
pub use decimal::Decimal4;
pub use error::{Code, FieldViolation};
pub use id::TenantId;
pub use module::Module;
