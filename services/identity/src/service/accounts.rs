//! Reading accounts.

use segue_model::TenantId;
use segue_proto::identity::v1::{Account, GetAccountRequest};

use super::Identity;
use crate::error::IdentityError;
use crate::store::accounts;

impl Identity {
    pub(super) async fn account(&self, tenant: &TenantId, request: GetAccountRequest) -> Result<Account, IdentityError> {
        if request.account_id.is_empty() {
            return Err(IdentityError::field("account_id", "is missing; set the id that GROUP events give the account"));
        }
        let found = match self.identifiers.account(request.account_id) {
            Some(account) => accounts::find(&self.db, tenant, account).await?,
            None => None,
        };
        found.ok_or(IdentityError::AccountNotFound)
    }
}
