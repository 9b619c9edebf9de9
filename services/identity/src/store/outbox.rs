//! The outbox: identity changes that are not on the log yet, one row per transaction and tenant that merged persons. A
//! transaction holds its tenant's lock, so rows of a tenant appear in the order of their sequence.

use segue_store::{Db, on_db, on_writer};

use super::counter;
use crate::error::IdentityError;

const LIST: &str = "SELECT tenant, sequence, payload, changes FROM outbox ORDER BY tenant, sequence LIMIT $1";
const REMOVE: &str = "DELETE FROM outbox WHERE tenant = $1 AND sequence <= $2";

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) tenant: String,
    /// Link sequence of the last change in the payload.
    pub(crate) sequence: u64,
    /// An encoded `IdentityChangeBatch`.
    pub(crate) payload: Vec<u8>,
    pub(crate) changes: u32,
}

/// The first rows, in order per tenant.
pub(crate) async fn list(db: &Db, rows_max: i64) -> Result<Vec<Pending>, IdentityError> {
    let rows: Vec<(String, i64, Vec<u8>, i64)> = on_db!(db, pool => sqlx::query_as(LIST).bind(rows_max).fetch_all(pool).await)?;
    rows.into_iter()
        .map(|(tenant, sequence, payload, changes)| {
            Ok(Pending { tenant, sequence: counter(sequence)?, payload, changes: super::number(changes)? })
        })
        .collect()
}

/// Forgets a tenant's rows up to `sequence`.
pub(crate) async fn remove(db: &Db, tenant: &str, sequence: u64) -> Result<(), IdentityError> {
    on_writer!(db, pool => sqlx::query(REMOVE).bind(tenant).bind(sequence as i64).execute(pool).await.map(drop))?;
    Ok(())
}
