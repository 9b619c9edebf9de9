//! Persons as identity knows them, asked for on behalf of a tenant.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use segue_model::TenantId;
use segue_proto::events::v1::Value;
use segue_proto::events::v1::value::Kind;
use segue_proto::identity::v1::{BatchGetPersonsRequest, Consent, ConsentState, Person};
use segue_runtime::peers::{PeerError, request};

use crate::error::CampaignError;
use crate::peers::Peers;

/// Persons that identity gives at once.
const AT_ONCE: usize = 1_000;
/// How long identity may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What is known of a person now.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Profile {
    /// The surviving number.
    pub(crate) number: u32,
    /// Stable id; what events name the person by (identifier kind `person_id`).
    pub(crate) id: String,
    /// Numbers that were merged into it.
    pub(crate) merged: Vec<u32>,
    pub(crate) traits: BTreeMap<String, Value>,
    /// (linked at, kind, value), the latest first.
    pub(crate) identifiers: Vec<(i64, String, String)>,
    pub(crate) consents: Vec<Consent>,
}

impl Profile {
    fn of(person: Person) -> Self {
        let mut identifiers: Vec<(i64, String, String)> = person
            .identifiers
            .into_iter()
            .filter_map(|linked| {
                let at_us =
                    linked.linked_at.map_or(0, |at| at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos / 1_000)));
                linked.identifier.map(|identifier| (at_us, identifier.kind, identifier.value))
            })
            .collect();
        identifiers.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            number: person.number,
            id: person.id,
            merged: person.merged_numbers,
            traits: person.traits.into_iter().filter_map(|held| Some((held.name, held.value?))).collect(),
            identifiers,
            consents: person.consents,
        }
    }

    /// Every identifier of a kind, the one linked last first.
    pub(crate) fn all_of<'p>(&'p self, kind: &'p str) -> impl Iterator<Item = &'p str> {
        self.identifiers.iter().filter(move |(_, held, _)| held == kind).map(|(_, _, value)| value.as_str())
    }

    /// A trait that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.traits.get(name)?.kind.as_ref()? {
            Kind::StringValue(text) => Some(text),
            _ => None,
        }
    }

    /// The zone of the person's clock (trait `df_time_zone`), if one is known.
    pub(crate) fn time_zone(&self) -> Option<chrono_tz::Tz> {
        self.text("df_time_zone")?.parse().ok()
    }

    /// A BCP 47 tag (trait `df_locale`), if one is known.
    pub(crate) fn locale(&self) -> Option<&str> {
        self.text("df_locale")
    }

    /// What the person said about a channel and purpose.
    pub(crate) fn consent(&self, channel: &str, purpose: &str) -> Option<&Consent> {
        self.consents
            .iter()
            .find(|consent| consent.channel == channel && consent.purpose == purpose && consent.state() != ConsentState::Unspecified)
    }
}

/// These persons by the number asked for (one that was merged answers with the survivor); who never was is left out.
pub(crate) async fn get(peers: &Peers, tenant: &TenantId, numbers: &BTreeSet<u32>) -> Result<HashMap<u32, Arc<Profile>>, CampaignError> {
    let numbers: Vec<u32> = numbers.iter().copied().collect();
    let mut profiles = HashMap::with_capacity(numbers.len());
    for some in numbers.chunks(AT_ONCE) {
        let request = request(tenant, BatchGetPersonsRequest { numbers: some.to_vec() }, TIMEOUT);
        let answer = peers.identity().batch_get_persons(request).await.map_err(PeerError::identity)?.into_inner();
        if answer.persons.len() != some.len() {
            return Err(PeerError::identity(tonic::Status::internal(format!(
                "{} persons for {} numbers",
                answer.persons.len(),
                some.len()
            )))
            .into());
        }
        for (number, person) in some.iter().zip(answer.persons) {
            if person.number != 0 {
                profiles.insert(*number, Arc::new(Profile::of(person)));
            }
        }
    }
    Ok(profiles)
}
