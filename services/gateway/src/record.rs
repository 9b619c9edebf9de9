//! Tenants and keys as the gateway keeps them, and their form in the contract.

use prost_types::Timestamp;
use segue_model::module::ModuleSet;
use segue_model::{Module, TenantId};
use segue_proto::tenancy::v1 as proto;
use segue_runtime::caller::{Caller, Role};
use segue_runtime::tenants::module_to_proto;

use crate::secret::KeyKind;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantRecord {
    pub(crate) id: TenantId,
    pub(crate) display_name: String,
    pub(crate) time_zone: String,
    pub(crate) currency: String,
    pub(crate) modules: ModuleSet,
    /// 0: the default.
    pub(crate) requests_per_second: u32,
    /// 0: the default.
    pub(crate) ingest_bytes_per_second: u64,
    /// 0: forever.
    pub(crate) event_retention_days: u32,
    pub(crate) created_at_us: i64,
    /// Number of its last change, over all tenants. Its etag.
    pub(crate) version: i64,
}

impl TenantRecord {
    pub(crate) fn to_proto(&self) -> proto::Tenant {
        proto::Tenant {
            id: self.id.to_string(),
            display_name: self.display_name.clone(),
            time_zone: self.time_zone.clone(),
            currency: self.currency.clone(),
            modules: self.modules.iter().map(|module| module_to_proto(module).into()).collect(),
            limits: Some(proto::Limits {
                requests_per_second: self.requests_per_second,
                ingest_bytes_per_second: self.ingest_bytes_per_second,
            }),
            created_at: Some(timestamp(self.created_at_us)),
            etag: self.etag(),
            event_retention_days: self.event_retention_days,
        }
    }

    pub(crate) fn etag(&self) -> String {
        self.version.to_string()
    }

    pub(crate) fn is_on(&self, module: Module) -> bool {
        self.modules.contains(module)
    }
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub(crate) id: String,
    /// None for operators.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) kind: KeyKind,
    pub(crate) role: Role,
    pub(crate) display_name: String,
    pub(crate) source: String,
    pub(crate) created_at_us: i64,
    pub(crate) revoked_at_us: Option<i64>,
}

impl KeyRecord {
    /// Resource name.
    pub(crate) fn name(&self) -> String {
        format!("keys/{}", self.id)
    }

    /// Who calls with this key, on behalf of `tenant`.
    pub(crate) fn caller(&self, tenant: Option<TenantId>) -> Caller {
        Caller { tenant, role: self.role, key: self.name(), source: self.source.clone() }
    }

    pub(crate) fn to_proto(&self) -> proto::Key {
        proto::Key {
            name: self.name(),
            tenant: self.tenant.as_ref().map(TenantId::to_string).unwrap_or_default(),
            kind: match self.kind {
                KeyKind::Write => proto::KeyKind::Write,
                // Operator keys are those that belong to no tenant.
                KeyKind::Secret | KeyKind::Operator => proto::KeyKind::Secret,
            }
            .into(),
            role: match self.role {
                Role::Writer => proto::Role::Writer,
                Role::Analyst => proto::Role::Analyst,
                Role::Editor => proto::Role::Editor,
                Role::Admin => proto::Role::Admin,
                Role::Operator | Role::Service => proto::Role::Unspecified,
            }
            .into(),
            display_name: self.display_name.clone(),
            source: self.source.clone(),
            created_at: Some(timestamp(self.created_at_us)),
            revoked_at: self.revoked_at_us.map(timestamp),
        }
    }
}

fn timestamp(us: i64) -> Timestamp {
    Timestamp {
        seconds: us.div_euclid(1_000_000),
        // Below 10⁹ by construction.
        nanos: i32::try_from(us.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    }
}
