//! Reading the ledger.

use segue_proto::campaign::v1::{
    ExplainSendRequest, ExplainSendResponse, GetSendRequest, ListSendsRequest, ListSendsResponse, Send, SendState,
};
use segue_runtime::{Tenant, page};
use segue_store::on_db;

use super::row::{Stored, stored_columns};
use crate::error::{CampaignError, Kind};
use crate::service::Service;

/// Sends of a page.
const PAGE_SIZE: usize = 100;
const PAGE_SIZE_MAX: usize = 1_000;

const FIND: &str = concat!("SELECT ", stored_columns!(), " FROM send WHERE id = $2 AND tenant = $1");

// One statement per index: $2 time and $3 id of the last one shown, $4 scenario, $5 step, $6 person, $7 state, $8 limit.
macro_rules! list {
    ($first:literal) => {
        concat!(
            "SELECT ",
            stored_columns!(),
            " FROM send WHERE tenant = $1 AND ",
            $first,
            " AND (planned_us, id) < ($2, $3) AND ($4 = '' OR scenario = $4) AND ($5 = '' OR step = $5)
            AND (CAST($6 AS BIGINT) = 0 OR person = $6) AND (CAST($7 AS BIGINT) = 0 OR state = $7)
            ORDER BY planned_us DESC, id DESC LIMIT $8"
        )
    };
}
const LIST: &str = list!("true");
const LIST_OF_SCENARIO: &str = list!("scenario = $4");
const LIST_OF_PERSON: &str = list!("person = $6");

impl Service {
    pub(crate) async fn list_sends_of(&self, tenant: &Tenant, request: ListSendsRequest) -> Result<ListSendsResponse, CampaignError> {
        let size = page::size(request.page_size, PAGE_SIZE, PAGE_SIZE_MAX)?;
        if SendState::try_from(request.state).is_err() {
            return Err(CampaignError::field("state", "is not one of the contract: leave it out for all"));
        }
        let (before_us, before_id) = match request.page_token.as_str() {
            "" => (i64::MAX, String::new()),
            token => read_token(token).ok_or_else(page::bad_token)?,
        };
        let sql = match (request.person, request.scenario.as_str()) {
            (0, "") => LIST,
            (0, _) => LIST_OF_SCENARIO,
            _ => LIST_OF_PERSON,
        };
        // PostgreSQL refuses the NUL character, and nothing that is stored has it.
        if request.scenario.contains('\0') || request.step.contains('\0') {
            return Ok(ListSendsResponse::default());
        }
        let limit = i64::try_from(size.saturating_add(1)).unwrap_or(i64::MAX);
        let mut rows: Vec<Stored> = on_db!(self.db, pool => sqlx::query_as(sql).bind(tenant.id.as_str()).bind(before_us).bind(before_id)
            .bind(request.scenario).bind(request.step).bind(i64::from(request.person)).bind(i64::from(request.state)).bind(limit)
            .fetch_all(pool).await)?;
        let next_page_token = page::cut_to_fit(&mut rows, size, Stored::bytes, |row| format!("{}-{}", row.planned_us, row.id));
        let sends = rows.iter().map(Stored::show).collect::<Result<_, _>>()?;
        Ok(ListSendsResponse { sends, next_page_token })
    }

    pub(crate) async fn get_send_of(&self, tenant: &Tenant, request: GetSendRequest) -> Result<Send, CampaignError> {
        self.stored_send(tenant, &request.id).await?.show()
    }

    pub(crate) async fn explain_send_of(&self, tenant: &Tenant, request: ExplainSendRequest) -> Result<ExplainSendResponse, CampaignError> {
        let stored = self.stored_send(tenant, &request.id).await?;
        Ok(ExplainSendResponse { send: Some(stored.show()?), decisions: stored.explain()? })
    }

    async fn stored_send(&self, tenant: &Tenant, id: &str) -> Result<Stored, CampaignError> {
        let missing = || CampaignError::not_found(Kind::Send, id);
        if id.contains('\0') {
            return Err(missing());
        }
        let found: Option<Stored> =
            on_db!(self.db, pool => sqlx::query_as(FIND).bind(tenant.id.as_str()).bind(id).fetch_optional(pool).await)?;
        found.ok_or_else(missing)
    }
}

fn read_token(token: &str) -> Option<(i64, String)> {
    let (time_us, id) = token.rsplit_once('-')?;
    let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
    Some((time_us.parse().ok()?, is_id.then(|| id.to_owned())?))
}
