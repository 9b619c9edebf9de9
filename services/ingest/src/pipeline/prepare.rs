//! The first half of a group's work: reading its batches, dropping duplicates, correcting times and names, enriching.

use std::collections::{BTreeMap, HashSet};

use prost::Message;
use segue_log::StoredBatch;
use segue_model::TenantId;
use segue_proto::events::v1::{AcceptedBatch, AcceptedEvent, Event, EventKind};
use segue_proto::identity::v1::Subject;

use super::enrich::{Dimensions, Enricher};
use super::error::PipelineError;
use super::marks::{Fingerprint, MarkIndex, fingerprint};
use crate::accept::skew::corrected_time_us;
use crate::accept::time::micros;
use crate::taxonomy::{Snapshot, Taxonomies};

/// The event that logs a person out of a device.
const LOGOUT: &str = "df_logout";

/// Events of one tenant in a group, in order.
#[derive(Debug, Default)]
pub struct TenantEvents {
    /// What is to be resolved.
    pub events: Vec<Prepared>,
    /// What identity needs to know of each.
    pub subjects: Vec<Subject>,
    /// How many were seen before.
    pub duplicates: u64,
}

/// An event that waits for its person.
#[derive(Debug)]
pub struct Prepared {
    /// What is left of the event: identifiers, and the traits of an account, are with the subject.
    pub event: Event,
    /// Properties that the taxonomy does not know.
    pub unregistered: Vec<String>,
    /// Corrected time.
    pub time_us: i64,
    /// When it was received.
    pub received_at_us: i64,
    /// As the sender stated it.
    pub original_time_us: i64,
    /// As the sender stated it; 0 when missing.
    pub sent_at_us: i64,
    /// Canonical name.
    pub name: String,
    /// What the event itself says.
    pub dimensions: Dimensions,
    /// Skew was not to be corrected; for setting the event aside again.
    pub time_is_final: bool,
}

/// A group, ready to be resolved.
#[derive(Debug, Default)]
pub struct Group {
    /// By tenant.
    pub tenants: BTreeMap<String, TenantEvents>,
    /// Marks of all that is new.
    pub marks: Vec<Fingerprint>,
}

/// The events of some tenants in a group, as they lie on the log.
pub type Decoded = Vec<(String, Vec<AcceptedEvent>)>;

/// Reads batches; keeps the tenants that `wanted` says.
pub fn decode(partition: u16, batches: &[StoredBatch], mut wanted: impl FnMut(&str) -> bool) -> Result<Decoded, PipelineError> {
    let mut decoded = Vec::new();
    for batch in batches {
        let accepted = AcceptedBatch::decode(batch.payload.clone()).map_err(|source| PipelineError::Undecodable {
            partition,
            position: batch.position,
            source,
        })?;
        for group in accepted.groups {
            if wanted(&group.tenant) {
                decoded.push((group.tenant, group.events));
            }
        }
    }
    Ok(decoded)
}

/// What preparing needs.
pub struct Preparer<'a> {
    /// Seen messages.
    pub marks: &'a MarkIndex,
    /// Names.
    pub taxonomies: &'a Taxonomies,
    /// Dimensions.
    pub enricher: &'a Enricher,
}

impl Preparer<'_> {
    /// Prepares a group of the log's day `day`.
    pub async fn prepare(&self, decoded: Decoded, day: i64) -> Result<Group, PipelineError> {
        let mut asked: Vec<Fingerprint> = Vec::with_capacity(decoded.iter().map(|(_, events)| events.len()).sum());
        for (tenant, events) in &decoded {
            let none = Event::default();
            asked.extend(events.iter().map(|accepted| mark_of(tenant, accepted.event.as_ref().unwrap_or(&none))));
        }
        let seen = self.marks.seen(&asked, day).await?;
        let mut in_group: HashSet<Fingerprint> = HashSet::with_capacity(asked.len());
        let mut group = Group::default();
        let mut at = 0;
        for (tenant, events) in decoded {
            let snapshot = self.snapshot(&tenant).await?;
            let of_tenant = group.tenants.entry(tenant).or_default();
            for accepted in events {
                let (mark, was_seen) = (asked[at], seen[at]);
                at += 1;
                // Without an id (accepting assigns one) nothing can be said about duplicates.
                let has_id = accepted.event.as_ref().is_some_and(|event| !event.message_id.is_empty());
                if has_id {
                    if was_seen || !in_group.insert(mark) {
                        of_tenant.duplicates += 1;
                        continue;
                    }
                    group.marks.push(mark);
                }
                let (prepared, subject) = self.prepare_event(accepted, snapshot.as_deref());
                of_tenant.events.push(prepared);
                of_tenant.subjects.push(subject);
            }
            // Decoding and parsing is work; let others of this thread go on.
            tokio::task::yield_now().await;
        }
        Ok(group)
    }

    async fn snapshot(&self, tenant: &str) -> Result<Option<std::sync::Arc<Snapshot>>, PipelineError> {
        // The log holds only what was accepted for a tenant; a name that is none has no taxonomy.
        let Ok(id) = tenant.parse::<TenantId>() else { return Ok(None) };
        match self.taxonomies.snapshot(&id).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(error) => Err(PipelineError::Part { what: "the taxonomy", tenant: tenant.to_owned(), source: Box::new(error) }),
        }
    }

    fn prepare_event(&self, accepted: AcceptedEvent, snapshot: Option<&Snapshot>) -> (Prepared, Subject) {
        let AcceptedEvent { event, received_at_us, unregistered, time_is_final } = accepted;
        let mut event = event.unwrap_or_default();
        let original_time_us = event.time.as_ref().and_then(micros);
        let sent_at_us = event.sent_at.as_ref().and_then(micros);
        let stated_us = original_time_us.unwrap_or(received_at_us);
        let time_us = if time_is_final { stated_us } else { corrected_time_us(stated_us, sent_at_us, received_at_us) };
        let name = match snapshot {
            Some(snapshot) => snapshot.canonical_event(&event.name).to_owned(),
            None => event.name.clone(),
        };
        let account_id = account_of(&event);
        let dimensions = self.enricher.dimensions_of(&mut event);
        // Traits of a person go to identity and on with the event; those of an account are identity's alone.
        let traits = match event.kind() {
            EventKind::Group => std::mem::take(&mut event.traits),
            _ => event.traits.clone(),
        };
        let subject = Subject {
            identifiers: std::mem::take(&mut event.identifiers),
            time_us,
            kind: event.kind,
            traits,
            previous_id: std::mem::take(&mut event.previous_id),
            logout: name == LOGOUT,
            account_id,
        };
        let prepared = Prepared {
            event,
            unregistered,
            time_us,
            received_at_us,
            original_time_us: original_time_us.unwrap_or(0),
            sent_at_us: sent_at_us.unwrap_or(0),
            name,
            dimensions,
            time_is_final,
        };
        (prepared, subject)
    }
}

/// The account that a GROUP event is about; of other events identity does not ask it.
fn account_of(event: &Event) -> String {
    match &event.context {
        Some(context) if event.kind() == EventKind::Group => context.account_id.clone(),
        Some(_) | None => String::new(),
    }
}

/// The fingerprint of an event of a tenant.
pub fn mark_of(tenant: &str, event: &Event) -> Fingerprint {
    fingerprint(tenant, &event.source, &event.message_id)
}
