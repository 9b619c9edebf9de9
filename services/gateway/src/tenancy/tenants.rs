//! Tenants and their modules.

use segue_model::module::ModuleSet;
use segue_model::{FieldViolation, Module, TenantId};
use segue_proto::tenancy::v1 as proto;
use segue_runtime::caller::{Caller, Role};
use segue_runtime::tenants::module_from_proto;

use super::{Tenancy, page_size};
use crate::config::INGEST_BYTES_PER_SECOND_MAX;
use crate::error::TenancyError;
use crate::record::TenantRecord;

const DISPLAY_NAME_CHARACTERS_MAX: usize = 200;
/// A hundred years: more is a slip of the hand.
const EVENT_RETENTION_DAYS_MAX: u32 = 36_500;
/// Fields that an update may name.
const CHANGEABLE: &str = "display_name, time_zone, currency, limits, event_retention_days";
/// On for a tenant that is made without saying which.
const DEFAULT_MODULES: [Module; 3] = [Module::Ingest, Module::Identity, Module::Analytics];

impl Tenancy {
    pub(super) async fn do_create_tenant(
        &self,
        caller: &Caller,
        request: proto::CreateTenantRequest,
    ) -> Result<proto::Tenant, TenancyError> {
        caller.require(Role::Operator)?;
        let asked = request.tenant.ok_or_else(|| TenancyError::field("tenant", "is missing"))?;
        let tenant = new_tenant(&asked, self.clock.now_us())?;
        let detail = serde_json::json!({
            "modules": names(tenant.modules), "time_zone": tenant.time_zone, "currency": tenant.currency,
            "event_retention_days": tenant.event_retention_days,
        });
        let audit = self.audit(caller, Some(&tenant.id), "CreateTenant", detail.to_string());
        self.store.create_tenant(&tenant, &audit).await?;
        self.changed(&tenant.id).await
    }

    pub(super) async fn do_get_tenant(&self, caller: &Caller, request: proto::GetTenantRequest) -> Result<proto::Tenant, TenancyError> {
        Ok(self.visible(caller, &request.id).await?.to_proto())
    }

    pub(super) async fn do_list_tenants(
        &self,
        caller: &Caller,
        request: proto::ListTenantsRequest,
    ) -> Result<proto::ListTenantsResponse, TenancyError> {
        caller.require(Role::Operator)?;
        let size = page_size(request.page_size)?;
        let mut page = self.directory.page(&request.page_token, size + 1);
        let more = page.len() > size;
        page.truncate(size);
        let next_page_token = page.last().filter(|_| more).map(|tenant| tenant.id.to_string()).unwrap_or_default();
        Ok(proto::ListTenantsResponse { tenants: page.iter().map(|tenant| tenant.to_proto()).collect(), next_page_token })
    }

    pub(super) async fn do_update_tenant(
        &self,
        caller: &Caller,
        request: proto::UpdateTenantRequest,
    ) -> Result<proto::Tenant, TenancyError> {
        caller.require(Role::Operator)?;
        let asked = request.tenant.ok_or_else(|| TenancyError::field("tenant", "is missing"))?;
        let id = parse_id(&asked.id)?;
        let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let detail = serde_json::json!({
            "fields": paths, "display_name": asked.display_name, "time_zone": asked.time_zone, "currency": asked.currency,
            "limits": asked.limits.map(|limits| [u64::from(limits.requests_per_second), limits.ingest_bytes_per_second]),
            "event_retention_days": asked.event_retention_days,
        });
        let audit = self.audit(caller, Some(&id), "UpdateTenant", detail.to_string());
        self.store.change_tenant(&id, &audit, |before| updated(before, &asked, &paths)).await?;
        self.changed(&id).await
    }

    pub(super) async fn do_enable_module(
        &self,
        caller: &Caller,
        request: proto::EnableModuleRequest,
    ) -> Result<proto::Tenant, TenancyError> {
        caller.require(Role::Operator)?;
        let (id, module) = (parse_name(&request.tenant)?, parse_module(request.module)?);
        let detail = serde_json::json!({ "module": module.name(), "with_dependencies": request.with_dependencies });
        let audit = self.audit(caller, Some(&id), "EnableModule", detail.to_string());
        let switch = |before: &TenantRecord| {
            Ok(TenantRecord { modules: before.modules.enable(module, request.with_dependencies)?, ..before.clone() })
        };
        self.store.change_tenant(&id, &audit, switch).await?;
        self.changed(&id).await
    }

    pub(super) async fn do_disable_module(
        &self,
        caller: &Caller,
        request: proto::DisableModuleRequest,
    ) -> Result<proto::Tenant, TenancyError> {
        caller.require(Role::Operator)?;
        let (id, module) = (parse_name(&request.tenant)?, parse_module(request.module)?);
        let detail = serde_json::json!({ "module": module.name(), "cascade": request.cascade });
        let audit = self.audit(caller, Some(&id), "DisableModule", detail.to_string());
        let switch =
            |before: &TenantRecord| Ok(TenantRecord { modules: before.modules.disable(module, request.cascade)?, ..before.clone() });
        self.store.change_tenant(&id, &audit, switch).await?;
        self.changed(&id).await
    }
}

fn names(modules: ModuleSet) -> Vec<&'static str> {
    modules.iter().map(Module::name).collect()
}

fn new_tenant(asked: &proto::Tenant, now_us: i64) -> Result<TenantRecord, TenancyError> {
    let modules: ModuleSet = if asked.modules.is_empty() {
        DEFAULT_MODULES.into_iter().collect()
    } else {
        asked.modules.iter().map(|module| parse_module(*module)).collect::<Result<_, _>>()?
    };
    // The same rule as for switching on: each needs the one before it.
    for module in modules.iter() {
        modules.enable(module, false)?;
    }
    let limits = asked.limits.unwrap_or_default();
    let tenant = TenantRecord {
        id: parse_id(&asked.id)?,
        display_name: asked.display_name.clone(),
        time_zone: if asked.time_zone.is_empty() { "UTC".to_owned() } else { asked.time_zone.clone() },
        currency: if asked.currency.is_empty() { "USD".to_owned() } else { asked.currency.clone() },
        modules,
        requests_per_second: limits.requests_per_second,
        ingest_bytes_per_second: limits.ingest_bytes_per_second,
        event_retention_days: asked.event_retention_days,
        created_at_us: now_us,
        version: 0,
    };
    checked(tenant)
}

fn updated(before: &TenantRecord, asked: &proto::Tenant, paths: &[String]) -> Result<TenantRecord, TenancyError> {
    if !asked.etag.is_empty() && asked.etag != before.etag() {
        return Err(TenancyError::Stale);
    }
    let limits = asked.limits.unwrap_or_default();
    let mut after = before.clone();
    if paths.is_empty() {
        return Err(TenancyError::field("update_mask", format!("is missing; name the fields to change: {CHANGEABLE}")));
    }
    for path in paths {
        match path.as_str() {
            "display_name" => after.display_name.clone_from(&asked.display_name),
            "time_zone" => after.time_zone.clone_from(&asked.time_zone),
            "currency" => after.currency.clone_from(&asked.currency),
            "limits" => {
                after.requests_per_second = limits.requests_per_second;
                after.ingest_bytes_per_second = limits.ingest_bytes_per_second;
            }
            "limits.requests_per_second" => after.requests_per_second = limits.requests_per_second,
            "event_retention_days" => after.event_retention_days = asked.event_retention_days,
            "limits.ingest_bytes_per_second" => after.ingest_bytes_per_second = limits.ingest_bytes_per_second,
            other => {
                let problem = format!("{other:?} cannot be changed here; these can: {CHANGEABLE}");
                return Err(TenancyError::field("update_mask", problem));
            }
        }
    }
    checked(after)
}

fn checked(tenant: TenantRecord) -> Result<TenantRecord, TenancyError> {
    let mut violations = Vec::new();
    let mut fault = |field: &str, description: String| violations.push(FieldViolation::new(format!("tenant.{field}"), description));
    if tenant.display_name.chars().count() > DISPLAY_NAME_CHARACTERS_MAX {
        fault("display_name", format!("is longer than {DISPLAY_NAME_CHARACTERS_MAX} characters"));
    }
    if tenant.time_zone.parse::<chrono_tz::Tz>().is_err() {
        fault("time_zone", format!("{:?} is not an IANA zone, for example Europe/Berlin", tenant.time_zone));
    }
    if tenant.currency.len() != 3 || !tenant.currency.bytes().all(|b| b.is_ascii_uppercase()) {
        fault("currency", format!("{:?} is not an ISO 4217 code, for example EUR", tenant.currency));
    }
    if tenant.ingest_bytes_per_second > INGEST_BYTES_PER_SECOND_MAX {
        fault("limits.ingest_bytes_per_second", format!("is above {INGEST_BYTES_PER_SECOND_MAX}; 0 stands for the default"));
    }
    if tenant.event_retention_days > EVENT_RETENTION_DAYS_MAX {
        fault("event_retention_days", format!("is above {EVENT_RETENTION_DAYS_MAX}; 0 keeps events forever"));
    }
    if violations.is_empty() { Ok(tenant) } else { Err(TenancyError::Invalid(violations)) }
}

/// The id in a tenant message.
fn parse_id(id: &str) -> Result<TenantId, TenancyError> {
    id.parse().map_err(|error: segue_model::id::InvalidTenantId| TenancyError::field("tenant.id", error.to_string()))
}

/// The id in a field `tenant`.
fn parse_name(id: &str) -> Result<TenantId, TenancyError> {
    id.parse().map_err(|error: segue_model::id::InvalidTenantId| TenancyError::field("tenant", error.to_string()))
}

fn parse_module(module: i32) -> Result<Module, TenancyError> {
    proto::Module::try_from(module)
        .ok()
        .and_then(module_from_proto)
        .ok_or_else(|| TenancyError::field("module", "is none; there are INGEST, IDENTITY, ANALYTICS, AUDIENCE and CAMPAIGN"))
}
