//! Who may call what: the key, the tenant, the kind of key, the module's switch, the quota; in this order.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use http::{HeaderMap, header};
use segue_model::{Module, TenantId};
use segue_runtime::Caller;

use crate::calls::{Call, Destination};
use crate::directory::Directory;
use crate::error::AccessError;
use crate::keys::Keys;
use crate::limits::{Limits, TenantLimits};
use crate::record::{KeyRecord, TenantRecord};
use crate::secret::KeyKind;

/// With an operator key: the tenant to act on. A tenant's key may name its own and no other.
const ACT_AS_TENANT: &str = "x-segue-act-as-tenant";

/// How often a stream's right to go on is looked at again. With the memory of keys: revocation is felt within 5 s.
const RECHECK_PERIOD: Duration = Duration::from_millis(500);

/// Decides about calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) keys: Keys,
    pub(crate) directory: Directory,
    pub(crate) limits: Limits,
}

/// A call that was let through.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    /// None for operators that act on no tenant.
    pub(crate) limits: Option<TenantLimits>,
}

impl Admission {
    /// Decides about a gRPC call.
    pub(crate) async fn admit_call(&self, call: Call, headers: &HeaderMap) -> Result<Admitted, AccessError> {
        let key = self.keys.check(key_in_headers(headers).ok_or(AccessError::NoKey)?).await?;
        let tenant = self.tenant_of(&key, headers).await?;
        if key.kind == KeyKind::Write && !call.for_write_keys {
            return Err(AccessError::WriteKeyOnlyIngests);
        }
        self.admit(&key, tenant, call.destination)
    }

    /// Decides about a request of the HTTP API, for which every key is good that may write.
    pub(crate) async fn admit_ingestion(&self, key: &str, headers: &HeaderMap) -> Result<Admitted, AccessError> {
        let key = self.keys.check(key).await?;
        let tenant = self.tenant_of(&key, headers).await?;
        self.admit(&key, tenant, Destination::Module(Module::Ingest))
    }

    /// Ends when a call that was let through would not be any more: its key is revoked, or its module is switched off.
    /// For streams, which outlive many a decision.
    pub(crate) async fn until_withdrawn(self, call: Call, headers: HeaderMap) -> AccessError {
        loop {
            tokio::time::sleep(RECHECK_PERIOD).await;
            let Some(key) = key_in_headers(&headers) else { return AccessError::NoKey };
            let tenant = match self.keys.check(key).await {
                Ok(key) => self.tenant_of(&key, &headers).await,
                Err(AccessError::UnknownKey) => return AccessError::UnknownKey,
                // The store is away: what was allowed stays so until it says otherwise.
                Err(_) => continue,
            };
            if let (Ok(Some(tenant)), Destination::Module(module)) = (tenant, call.destination)
                && !tenant.is_on(module)
            {
                return AccessError::ModuleDisabled { module, tenant: tenant.id.clone() };
            }
        }
    }

    /// The tenant's quotas as of now; None once it is unknown.
    pub(crate) fn limits_now(&self, tenant: &TenantId) -> Option<TenantLimits> {
        self.directory.get(tenant).map(|tenant| self.limits.of(&tenant))
    }

    async fn tenant_of(&self, key: &KeyRecord, headers: &HeaderMap) -> Result<Option<Arc<TenantRecord>>, AccessError> {
        let store_down = |error| {
            tracing::warn!(error = segue_runtime::status::chain(&error), "a tenant cannot be looked up");
            AccessError::KeyStoreDown
        };
        if let Some(id) = &key.tenant {
            // Silence would let the client believe that it acted on the other one.
            if headers.get_all(ACT_AS_TENANT).iter().any(|named| named.as_bytes() != id.as_str().as_bytes()) {
                return Err(AccessError::OtherTenant { own: id.clone() });
            }
            let tenant = self.directory.get_or_refresh(id).await.map_err(store_down)?;
            return tenant.map(Some).ok_or_else(|| AccessError::TenantNotLoaded(id.clone()));
        }
        let Some(named) = headers.get(ACT_AS_TENANT) else { return Ok(None) };
        let named = named.to_str().unwrap_or_default();
        let unknown = || AccessError::NoSuchTenant(named.to_owned());
        let id: TenantId = named.parse().map_err(|_| unknown())?;
        self.directory.get_or_refresh(&id).await.map_err(store_down)?.map(Some).ok_or_else(unknown)
    }

    fn admit(&self, key: &KeyRecord, tenant: Option<Arc<TenantRecord>>, destination: Destination) -> Result<Admitted, AccessError> {
        if let Destination::Module(module) = destination {
            let tenant = tenant.as_ref().ok_or(AccessError::NoTenant)?;
            if !tenant.is_on(module) {
                return Err(AccessError::ModuleDisabled { module, tenant: tenant.id.clone() });
            }
        }
        let limits = tenant.as_ref().map(|tenant| self.limits.of(tenant));
        if let Some(limits) = &limits {
            limits.take_request().map_err(|retry_after| AccessError::TooManyRequests { retry_after })?;
        }
        Ok(Admitted { caller: key.caller(tenant.map(|tenant| tenant.id.clone())), limits })
    }
}

/// The key of a gRPC call: `authorization: Bearer <key>` or `x-api-key: <key>`.
pub(crate) fn key_in_headers(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| headers.get("x-api-key")?.to_str().ok().map(str::trim)).filter(|key| !key.is_empty())
}

/// `authorization: Bearer <key>`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    credentials(headers, "bearer")
}

/// The user of `authorization: Basic …`: the published SDKs put the write key there and leave the password empty.
pub(crate) fn basic_user(headers: &HeaderMap) -> Option<String> {
    let encoded = credentials(headers, "basic")?;
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    let decoded = String::from_utf8(engine.decode(encoded).ok()?).ok()?;
    let user = decoded.split(':').next().unwrap_or_default();
    (!user.is_empty()).then(|| user.to_owned())
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then_some(rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn keys_are_found_where_clients_put_them() {
        assert_eq!(key_in_headers(&with("authorization", "Bearer abc")), Some("abc"));
        assert_eq!(key_in_headers(&with("authorization", "bearer  abc ")), Some("abc"));
        assert_eq!(key_in_headers(&with("x-api-key", "abc")), Some("abc"));
        assert_eq!(key_in_headers(&with("authorization", "Basic YWJjOg==")), None);
        assert_eq!(key_in_headers(&with("authorization", "Bearer ")), None);
        assert_eq!(basic_user(&with("authorization", "Basic YWJjOg==")).as_deref(), Some("abc"));
        assert_eq!(basic_user(&with("authorization", "basic YWJjOg")).as_deref(), Some("abc"));
        assert_eq!(basic_user(&with("authorization", "Basic Og==")), None);
        assert_eq!(basic_user(&with("authorization", "Basic !!")), None);
    }
}
