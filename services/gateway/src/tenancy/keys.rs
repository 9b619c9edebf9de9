//! API keys. The text of a key exists in one answer only; the store has its hash.

use segue_model::FieldViolation;
use segue_proto::tenancy::v1 as proto;
use segue_runtime::caller::{Caller, Role};

use super::{Tenancy, page_size};
use crate::error::TenancyError;
use crate::record::KeyRecord;
use crate::secret::{self, KeyKind};

const DISPLAY_NAME_CHARACTERS_MAX: usize = 200;
const SOURCE_BYTES_MAX: usize = 64;

impl Tenancy {
    pub(super) async fn do_create_key(
        &self,
        caller: &Caller,
        request: proto::CreateKeyRequest,
    ) -> Result<proto::CreateKeyResponse, TenancyError> {
        caller.require(Role::Admin)?;
        let asked = request.key.ok_or_else(|| TenancyError::field("key", "is missing"))?;
        let (kind, role) = checked(&asked)?;
        let tenant = self.visible(caller, &asked.tenant).await?;
        let now_us = self.clock.now_us();
        let (text, id) = {
            let mut random = rand::rng();
            (secret::new_key(kind, &mut random), new_id(now_us, &mut random))
        };
        let key = KeyRecord {
            id,
            tenant: Some(tenant.id.clone()),
            kind,
            role,
            display_name: asked.display_name,
            source: asked.source,
            created_at_us: now_us,
            revoked_at_us: None,
        };
        let detail = serde_json::json!({ "key": key.name(), "kind": kind.name(), "role": role.name(), "source": key.source });
        let audit = self.audit(caller, Some(&tenant.id), "CreateKey", detail.to_string());
        // 74 random bits: taken ids do not happen.
        self.store.create_key(&key, &secret::hash(&text), &audit).await?;
        Ok(proto::CreateKeyResponse { key: Some(key.to_proto()), secret: text })
    }

    pub(super) async fn do_list_keys(
        &self,
        caller: &Caller,
        request: proto::ListKeysRequest,
    ) -> Result<proto::ListKeysResponse, TenancyError> {
        caller.require(Role::Admin)?;
        let operators = caller.role >= Role::Operator && caller.tenant.is_none() && request.tenant.is_empty();
        let tenant = if operators { None } else { Some(self.visible(caller, &request.tenant).await?) };
        let size = page_size(request.page_size)?;
        // One more than asked for tells whether there is another page.
        let limit = i64::try_from(size + 1).unwrap_or(i64::MAX);
        let mut keys = self.store.list_keys(tenant.as_deref().map(|tenant| &tenant.id), &request.page_token, limit).await?;
        let more = keys.len() > size;
        keys.truncate(size);
        let next_page_token = keys.last().filter(|_| more).map(|key| key.id.clone()).unwrap_or_default();
        Ok(proto::ListKeysResponse { keys: keys.iter().map(KeyRecord::to_proto).collect(), next_page_token })
    }

    pub(super) async fn do_revoke_key(&self, caller: &Caller, request: proto::RevokeKeyRequest) -> Result<proto::Key, TenancyError> {
        caller.require(Role::Admin)?;
        let id = request.name.strip_prefix("keys/").ok_or_else(|| TenancyError::field("name", "is not of the form keys/{id}"))?;
        let scope = if caller.role >= Role::Operator { None } else { Some(caller.tenant()?) };
        let audit = self.audit(caller, scope, "RevokeKey", serde_json::json!({ "key": request.name }).to_string());
        let (key, hash) = self.store.revoke_key(id, scope, &audit).await?;
        self.keys.revoked(hash).await;
        Ok(key.to_proto())
    }
}

/// Ids that sort by the time at which they were made.
pub(crate) fn new_id(now_us: i64, random: &mut impl rand::RngCore) -> String {
    let mut bytes = [0; 10];
    random.fill_bytes(&mut bytes);
    let now_ms = u64::try_from(now_us / 1_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(now_ms, &bytes).into_uuid().simple().to_string()
}

fn checked(asked: &proto::Key) -> Result<(KeyKind, Role), TenancyError> {
    let mut violations = Vec::new();
    let mut fault = |field: &str, description: &str| violations.push(FieldViolation::new(format!("key.{field}"), description));
    let kind_and_role = match (asked.kind(), asked.role()) {
        (proto::KeyKind::Write, proto::Role::Unspecified | proto::Role::Writer) => Some((KeyKind::Write, Role::Writer)),
        (proto::KeyKind::Write, _) => {
            fault("role", "write keys are public and can only have the role WRITER");
            None
        }
        (proto::KeyKind::Secret, proto::Role::Writer) => Some((KeyKind::Secret, Role::Writer)),
        (proto::KeyKind::Secret, proto::Role::Analyst) => Some((KeyKind::Secret, Role::Analyst)),
        (proto::KeyKind::Secret, proto::Role::Editor) => Some((KeyKind::Secret, Role::Editor)),
        (proto::KeyKind::Secret, proto::Role::Admin) => Some((KeyKind::Secret, Role::Admin)),
        (proto::KeyKind::Secret, proto::Role::Unspecified) => {
            fault("role", "is missing; use WRITER, ANALYST, EDITOR or ADMIN");
            None
        }
        (proto::KeyKind::Unspecified, _) => {
            fault("kind", "is missing; use WRITE or SECRET");
            None
        }
    };
    if asked.display_name.chars().count() > DISPLAY_NAME_CHARACTERS_MAX {
        fault("display_name", "is longer than 200 characters");
    }
    // It travels in a header.
    let plain = asked.source.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if asked.source.len() > SOURCE_BYTES_MAX || !plain {
        fault("source", "is at most 64 letters, digits, '-', '_' and '.'");
    }
    match kind_and_role {
        Some(both) if violations.is_empty() => Ok(both),
        _ => Err(TenancyError::Invalid(violations)),
    }
}
