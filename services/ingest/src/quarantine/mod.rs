//! Events that were set aside: looking at them, correcting and replaying them, discarding them.
//!
//! Replaying is append-then-remove: a crash in between leaves an entry whose event is on the log already; replaying it again
//! appends it under the same message id, which counts once. To add a correction: an action in the proto, its arm in
//! [`correction`].

pub mod correction;
mod replay;

use std::sync::Arc;

use prost::Message;
use segue_model::{Clock, TenantId};
use segue_proto::ingest::v1::{
    CorrectionRule, CreateCorrectionRuleRequest, DeleteCorrectionRuleRequest, DeleteCorrectionRuleResponse, DiscardQuarantinedRequest,
    DiscardQuarantinedResponse, ListCorrectionRulesRequest, ListCorrectionRulesResponse, ListQuarantinedRequest, ListQuarantinedResponse,
    QuarantineCount, QuarantineSelection, QuarantinedEvent, ReasonCode, SummarizeQuarantineResponse,
};
use segue_runtime::page;
use segue_store::Db;

use crate::accept::time::timestamp;
use crate::config::QuarantineConfig;
use crate::store::quarantine::{self as store, Entry, Order, Selection};
use crate::taxonomy::Taxonomies;
use crate::{Accept, IngestError};

const NAMES_MAX: usize = 1_000;
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1_000;
/// A page ends early beyond this, since clients take 4 MiB unless told otherwise.
const PAGE_BYTES_MAX: usize = 3 << 20;
/// Entries that are replayed or discarded at once.
const STEP: usize = 500;

/// The quarantine of all tenants. Cheap to clone.
#[derive(Clone)]
pub struct Quarantine {
    config: QuarantineConfig,
    db: Db,
    clock: Arc<dyn Clock>,
    taxonomies: Taxonomies,
    accept: Accept,
}

impl Quarantine {
    /// Over ingest's store; replays go through `accept`.
    pub fn new(config: QuarantineConfig, db: Db, clock: Arc<dyn Clock>, taxonomies: Taxonomies, accept: Accept) -> Quarantine {
        Quarantine { config, db, clock, taxonomies, accept }
    }

    pub(crate) async fn list(&self, tenant: &TenantId, request: ListQuarantinedRequest) -> Result<ListQuarantinedResponse, IngestError> {
        let size = page::size(request.page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let selection = read_selection(request.selection)?;
        let (received_at_us, id) = match request.page_token.split_once(':') {
            Some((received_at_us, id)) => (received_at_us.parse().map_err(|_| page::bad_token())?, id),
            None if request.page_token.is_empty() => (i64::MAX, ""),
            None => return Err(page::bad_token().into()),
        };
        let mut entries = store::list(&self.db, tenant, &selection, Order::NewestFirst, (received_at_us, id), size + 1).await?;
        let mut bytes = 0;
        let fitting = entries.iter().take_while(|entry| {
            bytes += entry.event.encoded_len() + 512;
            bytes <= PAGE_BYTES_MAX
        });
        let size = size.min(fitting.count().max(1));
        let next_page_token = page::cut(&mut entries, size, |entry| format!("{}:{}", entry.received_at_us, entry.id));
        Ok(ListQuarantinedResponse { events: entries.into_iter().map(to_proto).collect(), next_page_token })
    }

    pub(crate) async fn summarize(&self, tenant: &TenantId) -> Result<SummarizeQuarantineResponse, IngestError> {
        let (counts, total) = store::summarize(&self.db, tenant).await?;
        let counts = counts.into_iter().map(|row| QuarantineCount {
            event_name: row.event_name,
            reason: i32::try_from(row.code).unwrap_or_default(),
            field: row.field,
            count: row.entries.unsigned_abs(),
        });
        Ok(SummarizeQuarantineResponse { counts: counts.collect(), total })
    }

    pub(crate) async fn create_rule(&self, tenant: &TenantId, request: CreateCorrectionRuleRequest) -> Result<CorrectionRule, IngestError> {
        let rule = request.correction_rule.ok_or_else(|| IngestError::invalid("correction_rule", "is missing"))?;
        let rule = CorrectionRule { name: String::new(), ..rule };
        let faults = correction::validate(&rule);
        if !faults.is_empty() {
            return Err(IngestError::Invalid(faults));
        }
        let id = store::insert_rule(&self.db, tenant, &rule, self.config.rules_max).await?;
        Ok(CorrectionRule { name: format!("correctionRules/{id}"), ..rule })
    }

    pub(crate) async fn list_rules(
        &self,
        tenant: &TenantId,
        request: ListCorrectionRulesRequest,
    ) -> Result<ListCorrectionRulesResponse, IngestError> {
        let size = page::size(request.page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let after = if request.page_token.is_empty() { 0 } else { request.page_token.parse().map_err(|_| page::bad_token())? };
        let mut rules = store::list_rules(&self.db, tenant, after, size + 1).await?;
        let next_page_token = page::cut(&mut rules, size, |(position, _)| position.to_string());
        Ok(ListCorrectionRulesResponse { correction_rules: rules.into_iter().map(|(_, rule)| rule).collect(), next_page_token })
    }

    pub(crate) async fn delete_rule(
        &self,
        tenant: &TenantId,
        request: DeleteCorrectionRuleRequest,
    ) -> Result<DeleteCorrectionRuleResponse, IngestError> {
        let id = request.name.strip_prefix("correctionRules/").ok_or_else(|| IngestError::invalid("name", "write correctionRules/{id}"))?;
        if !id.contains('\0') && store::delete_rule(&self.db, tenant, id).await? {
            return Ok(DeleteCorrectionRuleResponse {});
        }
        Err(IngestError::NotFound { resource: request.name })
    }

    pub(crate) async fn discard(
        &self,
        tenant: &TenantId,
        request: DiscardQuarantinedRequest,
    ) -> Result<DiscardQuarantinedResponse, IngestError> {
        let selection = read_selection(request.selection)?;
        let mut discarded = 0;
        let mut walk = Walk::until(self.clock.now_us());
        while let Some(entries) = walk.next(&self.db, tenant, &selection).await? {
            let keys: Vec<_> = entries.into_iter().map(|entry| (entry.id, entry.revision)).collect();
            discarded += store::delete(&self.db, tenant, &keys).await?;
        }
        Ok(DiscardQuarantinedResponse { discarded })
    }
}

/// Goes through a selection, oldest first, up to what was there when the call came in.
struct Walk {
    until_us: i64,
    after: (i64, String),
    done: bool,
}

impl Walk {
    fn until(now_us: i64) -> Walk {
        Walk { until_us: now_us, after: (i64::MIN, String::new()), done: false }
    }

    async fn next(&mut self, db: &Db, tenant: &TenantId, selection: &Selection) -> Result<Option<Vec<Entry>>, IngestError> {
        if self.done {
            return Ok(None);
        }
        let mut entries = store::list(db, tenant, selection, Order::OldestFirst, (self.after.0, &self.after.1), STEP).await?;
        self.done = entries.len() < STEP;
        let before = entries.len();
        entries.retain(|entry| entry.received_at_us <= self.until_us);
        self.done |= entries.len() < before;
        let Some(last) = entries.last() else { return Ok(None) };
        self.after = (last.received_at_us, last.id.clone());
        Ok(Some(entries))
    }
}

fn read_selection(selection: Option<QuarantineSelection>) -> Result<Selection, IngestError> {
    let selection = selection.unwrap_or_default();
    if selection.names.len() > NAMES_MAX {
        return Err(IngestError::invalid("selection.names", format!("use at most {NAMES_MAX}")));
    }
    if ReasonCode::try_from(selection.reason).is_err() {
        return Err(IngestError::invalid("selection.reason", "there is no such reason"));
    }
    let mut ids = Vec::with_capacity(selection.names.len());
    for (at, name) in selection.names.iter().enumerate() {
        match name.strip_prefix("quarantine/") {
            Some(id) if !id.contains('\0') => ids.push(id.to_owned()),
            Some(_) | None => return Err(IngestError::invalid(format!("selection.names[{at}]"), "write quarantine/{id}")),
        }
    }
    Ok(Selection { event_name: selection.event_name, code: selection.reason.into(), ids })
}

fn to_proto(entry: Entry) -> QuarantinedEvent {
    QuarantinedEvent {
        name: format!("quarantine/{}", entry.id),
        event: Some(entry.event),
        reasons: entry.reasons,
        received_at: Some(timestamp(entry.received_at_us)),
    }
}
