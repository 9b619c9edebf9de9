//! Telling one batch to its destination.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use segue_model::TenantId;
use segue_proto::audience::v1::ChangeListMembersRequest;
use segue_proto::events::v1::{Context, Event, Identifier};
use segue_proto::identity::v1::{Consent, PersonConsent, SetConsentsRequest, person_consent};
use segue_proto::ingest::v1::{EventOutcome, Outcome, TrackRequest};
use segue_runtime::peers::{PeerError, request};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::SOURCE;
use super::store::{Destination, Row};
use crate::error::CampaignError;
use crate::peers::Peers;
use crate::persons::{self, Profile};

/// How long a peer may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of events in one call: ingest takes 8 MiB.
const CALL_BYTES_MAX: usize = 6 << 20;

/// The oldest rows of a tenant for a destination, with whom they are about.
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    persons: HashMap<u32, Arc<Profile>>,
}

impl Batch {
    pub(super) async fn of(peers: &Peers, tenant: &TenantId, rows: Vec<Row>) -> Result<Self, CampaignError> {
        let numbers: BTreeSet<u32> = rows.iter().map(|row| row.person).collect();
        let persons = persons::get(peers, tenant, &numbers).await?;
        Ok(Self { rows, persons })
    }

    /// The number of the last row.
    pub(super) fn last(&self) -> i64 {
        self.rows.last().map_or(i64::MAX, |row| row.id)
    }

    pub(super) fn ids(&self) -> Vec<i64> {
        self.rows.iter().map(|row| row.id).collect()
    }

    /// Tells it. What can never be taken is dropped and said in the log; any other failure is one of the whole.
    pub(super) async fn tell(&self, peers: &Peers, destination: Destination, tenant: &TenantId) -> Result<(), CampaignError> {
        let gone = self.rows.iter().filter(|row| !self.persons.contains_key(&row.person)).count();
        if gone > 0 {
            tracing::warn!(%tenant, gone, destination = destination.name(), "what was to be told of persons who are gone is dropped");
        }
        match destination {
            Destination::Ingest => self.track(peers, tenant).await,
            Destination::Audience => self.change_lists(peers, tenant).await,
            Destination::Identity => self.set_consents(peers, tenant).await,
        }
    }

    /// Rows of persons whom there still are.
    fn known(&self) -> impl Iterator<Item = (&Row, &Profile)> {
        self.rows.iter().filter_map(|row| Some((row, &**self.persons.get(&row.person)?)))
    }

    async fn track(&self, peers: &Peers, tenant: &TenantId) -> Result<(), CampaignError> {
        for events in calls(self.events(tenant), CALL_BYTES_MAX) {
            let sent = events.len();
            let answer = peers.ingest().track(request(tenant, TrackRequest { events }, TIMEOUT)).await;
            let outcomes = answer.map_err(PeerError::ingest)?.into_inner().outcomes;
            if outcomes.len() != sent {
                let status = Status::internal(format!("{} outcomes for {sent} events", outcomes.len()));
                return Err(PeerError::ingest(status).into());
            }
            warn_of_refused(tenant, &outcomes);
        }
        Ok(())
    }

    /// Events as ingest takes them.
    fn events(&self, tenant: &TenantId) -> Vec<Event> {
        let mut events = Vec::with_capacity(self.rows.len());
        for (row, person) in self.known() {
            let Ok(mut event) = Event::decode(&row.payload[..]) else {
                unreadable(tenant, row);
                continue;
            };
            event.identifiers = vec![Identifier { kind: "person_id".to_owned(), value: person.id.clone() }];
            event.context = Some(Context { source_type: "server".to_owned(), ..Context::default() });
            event.source = SOURCE.to_owned();
            events.push(event);
        }
        events
    }

    async fn change_lists(&self, peers: &Peers, tenant: &TenantId) -> Result<(), CampaignError> {
        for change in self.changes() {
            let list = change.list.clone();
            match peers.audience().change_list_members(request(tenant, change, TIMEOUT)).await {
                Ok(_) => {}
                Err(status) if is_final(&status) => {
                    tracing::warn!(%tenant, list, message = status.message(), "a change of a list is dropped, since it cannot be made");
                }
                Err(status) => return Err(PeerError::audience(status).into()),
            }
        }
        Ok(())
    }

    /// One change per list: of several about the same person the last counts.
    fn changes(&self) -> Vec<ChangeListMembersRequest> {
        let mut lists: BTreeMap<&str, BTreeMap<u32, bool>> = BTreeMap::new();
        for (row, person) in self.known() {
            lists.entry(&row.list).or_default().insert(person.number, row.remove);
        }
        let of = |persons: &BTreeMap<u32, bool>, removed: bool| {
            persons.iter().filter(|(_, remove)| **remove == removed).map(|(person, _)| *person).collect()
        };
        lists
            .into_iter()
            .map(|(list, persons)| ChangeListMembersRequest {
                list: list.to_owned(),
                add: of(&persons, false),
                remove: of(&persons, true),
                ..ChangeListMembersRequest::default()
            })
            .collect()
    }

    async fn set_consents(&self, peers: &Peers, tenant: &TenantId) -> Result<(), CampaignError> {
        let consents = self.consents(tenant);
        if consents.is_empty() {
            return Ok(());
        }
        let set = async |consents: Vec<PersonConsent>| {
            let sent = request(tenant, SetConsentsRequest { consents }, TIMEOUT);
            peers.identity().set_consents(sent).await
        };
        match set(consents.clone()).await {
            Ok(_) => return Ok(()),
            Err(status) if is_final(&status) => {}
            Err(status) => return Err(PeerError::identity(status).into()),
        }
        // One that cannot be recorded keeps the others from being recorded with it.
        for consent in consents {
            match set(vec![consent]).await {
                Ok(_) => {}
                Err(status) if is_final(&status) => {
                    tracing::error!(%tenant, message = status.message(), "a consent is dropped, since identity does not take it");
                }
                Err(status) => return Err(PeerError::identity(status).into()),
            }
        }
        Ok(())
    }

    fn consents(&self, tenant: &TenantId) -> Vec<PersonConsent> {
        let mut consents = Vec::with_capacity(self.rows.len());
        for (row, person) in self.known() {
            match Consent::decode(&row.payload[..]) {
                Ok(consent) => {
                    let who = Some(person_consent::Who::Person(person.number));
                    consents.push(PersonConsent { who, consent: Some(consent) });
                }
                Err(_) => unreadable(tenant, row),
            }
        }
        consents
    }
}

/// Blocking what comes after it would help nobody.
fn unreadable(tenant: &TenantId, row: &Row) {
    tracing::error!(%tenant, row = row.id, "something to be told cannot be read and is dropped; restore the store from a backup");
}

/// Whether the same would be refused again.
fn is_final(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument | Code::NotFound | Code::OutOfRange => true,
        // Modules are switched on again.
        Code::FailedPrecondition => status.get_details_error_info().is_none_or(|info| info.reason != "MODULE_DISABLED"),
        _ => false,
    }
}

/// Ingest has kept what it quarantined; with a strict taxonomy that happens to our events too, until they are registered there.
fn warn_of_refused(tenant: &TenantId, outcomes: &[EventOutcome]) {
    for (outcome, what) in [(Outcome::Quarantined, "quarantined"), (Outcome::Rejected, "rejected, and lost")] {
        let mut refused = outcomes.iter().filter(|one| one.outcome() == outcome);
        let Some(first) = refused.next() else { continue };
        let (events, reason) = (1 + refused.count(), first.reasons.first());
        let reason = reason.map(|reason| format!("{}: {}", reason.field, reason.message)).unwrap_or_default();
        tracing::warn!(%tenant, events, message_id = first.message_id, reason, "events about messages were {what}");
    }
}

/// Cuts events into calls of so many bytes, of at least one event.
fn calls(events: Vec<Event>, bytes_max: usize) -> Vec<Vec<Event>> {
    let mut calls: Vec<Vec<Event>> = Vec::new();
    let mut left = 0;
    for event in events {
        // With its tag and length.
        let bytes = event.encoded_len() + 8;
        match calls.last_mut() {
            Some(call) if bytes <= left => {
                left -= bytes;
                call.push(event);
            }
            _ => {
                left = bytes_max.saturating_sub(bytes);
                calls.push(vec![event]);
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use segue_proto::events::v1::EventKind;
    use segue_proto::identity::v1::ConsentState;
    use tonic_types::ErrorDetails;

    use super::super::Told;
    use super::*;

    fn batch(told: &[Told]) -> Batch {
        let rows = told.iter().zip(1..).map(|(told, id)| {
            let row = told.row();
            Row { id, person: row.1, list: row.2.to_owned(), remove: row.3, payload: hex::decode(row.4).expect("hexadecimal") }
        });
        // 1 was merged into 2; 9 is gone.
        let person = |number: u32| Arc::new(Profile { number, id: format!("id-{number}"), ..Profile::default() });
        Batch { rows: rows.collect(), persons: [(1, person(2)), (2, person(2)), (3, person(3))].into() }
    }

    fn shop() -> TenantId {
        "shop".parse().expect("an id")
    }

    #[test]
    fn events_name_the_surviving_person_and_those_of_persons_who_are_gone_are_left_out() {
        let event = |person| Told::Event {
            message_id: format!("m{person}"),
            name: "df_message_sent",
            time_us: 5,
            person,
            properties: Vec::new(),
            items: Vec::new(),
        };
        let value = segue_proto::events::v1::Value::default();
        let named = Told::Trait { message_id: "t".to_owned(), time_us: 6, person: 3, name: "tier".to_owned(), value };
        let events = batch(&[event(1), event(9), event(3), named]).events(&shop());
        let told: Vec<_> =
            events.iter().map(|event| (event.message_id.as_str(), event.identifiers[0].value.as_str(), event.kind())).collect();
        assert_eq!(told, [("m1", "id-2", EventKind::Track), ("m3", "id-3", EventKind::Track), ("t", "id-3", EventKind::Identify)]);
        for event in &events {
            assert_eq!((event.source.as_str(), event.identifiers[0].kind.as_str()), (SOURCE, "person_id"));
            assert_eq!(event.context.as_ref().expect("a context").source_type, "server");
        }
        assert!(events[2].traits.contains_key("tier"));
    }

    #[test]
    fn of_changes_of_a_list_about_the_same_person_the_last_counts() {
        let list = |person, list: &str, remove| Told::List { person, list: list.to_owned(), remove };
        let told =
            [list(1, "a", false), list(3, "a", false), list(2, "a", true), list(3, "b", true), list(3, "b", false), list(9, "c", false)];
        let changes = batch(&told).changes();
        let seen: Vec<_> = changes.iter().map(|change| (change.list.as_str(), &change.add[..], &change.remove[..])).collect();
        assert_eq!(seen, [("a", &[3][..], &[2][..]), ("b", &[3][..], &[][..])]);
    }

    #[test]
    fn a_consent_is_a_refusal_of_advertising_by_the_survivor() {
        let told = Told::Consent { person: 1, channel: "push", time_us: 7, source: "unsubscribe_link", proof: "s1".to_owned() };
        let consents = batch(&[told]).consents(&shop());
        assert_eq!(consents.len(), 1);
        assert_eq!(consents[0].who, Some(person_consent::Who::Person(2)));
        let consent = consents[0].consent.as_ref().expect("a consent");
        assert_eq!((consent.channel.as_str(), consent.purpose.as_str(), consent.state()), ("push", "advertising", ConsentState::Refused));
        assert_eq!((consent.source.as_str(), consent.proof.as_str()), ("unsubscribe_link", "s1"));
    }

    #[test]
    fn calls_hold_as_many_events_as_fit_and_at_least_one() {
        let event = |bytes: usize| Event { name: "x".repeat(bytes), ..Event::default() };
        let cut = |sizes: &[usize]| -> Vec<usize> {
            calls(sizes.iter().map(|bytes| event(*bytes)).collect(), 1_000).iter().map(Vec::len).collect()
        };
        assert_eq!(cut(&[]), Vec::<usize>::new());
        assert_eq!(cut(&[400, 400, 400, 2_000, 1, 1]), [2, 1, 1, 2]);
    }

    #[test]
    fn a_module_that_is_off_is_waited_for_and_what_is_not_there_is_not() {
        let with = |code, reason: &str| {
            Status::with_error_details(code, "no", ErrorDetails::with_error_info(reason, "segue", HashMap::<String, String>::new()))
        };
        assert!(is_final(&with(Code::NotFound, "NOT_FOUND")) && is_final(&with(Code::FailedPrecondition, "ARCHIVED")));
        assert!(!is_final(&with(Code::FailedPrecondition, "MODULE_DISABLED")) && !is_final(&Status::unavailable("away")));
    }
}
