//! Why somebody is in an audience or not.

use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_model::bucket::Buckets;
use segue_proto::analytics::v1::ExplainConditionRequest;
use segue_proto::audience::v1::explain_membership_request::Who;
use segue_proto::audience::v1::{ExplainMembershipRequest, ExplainMembershipResponse};
use segue_proto::events::v1::Identifier;
use segue_proto::identity::v1::LookupIdentifiersRequest;
use segue_runtime::Tenant;
use segue_runtime::peers::{PeerError, request};

use super::TIMEOUT;
use crate::error::{AudienceError, Kind};
use crate::persons;
use crate::service::Service;

impl Service {
    pub(crate) async fn explain_membership_of(
        &self,
        tenant: &Tenant,
        request: ExplainMembershipRequest,
    ) -> Result<ExplainMembershipResponse, AudienceError> {
        let who = request.who.ok_or_else(|| AudienceError::field("who", "is missing; set `person` or `identifier`"))?;
        let (person, kept) = tokio::try_join!(self.survivor_of(&tenant.id, who), self.definitions.kept_one(&tenant.id, &request.audience))?;
        // Only what lists and identifiers say of this one person is needed.
        let within = RoaringBitmap::from_iter([person]);
        let condition = self.definitions.resolve(&tenant.id, &kept.expanded, Some(&within)).await?;
        let asked = ExplainConditionRequest {
            condition: Some(condition),
            person,
            as_of: request.as_of,
            time_zone: kept.time_zone.clone(),
            events_max: request.events_max,
        };
        let answer = self.peers.analytics().explain_condition(segue_runtime::peers::request(&tenant.id, asked, TIMEOUT)).await;
        let answer = answer.map_err(PeerError::analytics)?.into_inner();
        let met = answer.explanation.as_ref().is_some_and(|root| root.met);
        // Analytics may know of a merge before identity was asked.
        let holdout_bucket = Buckets::of_holdout(&kept.id).bucket(answer.person);
        let held_out = met && holdout_bucket < kept.holdout;
        Ok(ExplainMembershipResponse {
            person: answer.person,
            member: met && !held_out,
            held_out,
            holdout_bucket,
            explanation: answer.explanation,
            // What was put in place may be nested deeper than texts are; the nodes say it all the same.
            text: segue_query::format(&kept.expanded.condition).unwrap_or_default(),
            expanded: Some(kept.expanded.condition.clone()),
            as_of: answer.as_of,
        })
    }

    async fn survivor_of(&self, tenant: &TenantId, who: Who) -> Result<u32, AudienceError> {
        let identifier = match who {
            Who::Person(0) => return Err(AudienceError::field("person", "is missing; set the number of a person")),
            Who::Person(number) => return persons::survivor(&self.peers, tenant, number).await,
            Who::Identifier(text) => identifier(&text)?,
        };
        let named = format!("{}:{}", identifier.kind, identifier.value);
        let asked = LookupIdentifiersRequest { identifiers: vec![identifier] };
        let answer = self.peers.identity().lookup_identifiers(request(tenant, asked, persons::TIMEOUT)).await;
        match answer.map_err(PeerError::identity)?.into_inner().persons.first() {
            None | Some(0) => Err(AudienceError::not_found(Kind::Person, named)),
            Some(person) => Ok(*person),
        }
    }
}

/// Reads `kind:value`; the value may have colons of its own.
fn identifier(text: &str) -> Result<Identifier, AudienceError> {
    match text.split_once(':') {
        Some((kind, value)) if segue_model::identifier::is_kind(kind) && !value.is_empty() => {
            Ok(Identifier { kind: kind.to_owned(), value: value.to_owned() })
        }
        _ => Err(AudienceError::field("identifier", "must be a kind and a value, for example `user_id:abc123`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_a_kind_and_whatever_follows_its_colon() {
        let parsed = identifier("push_token:a:b").expect("valid");
        assert_eq!((parsed.kind.as_str(), parsed.value.as_str()), ("push_token", "a:b"));
        for text in ["", "abc123", "user_id:", ":x", "User:x"] {
            assert!(matches!(identifier(text), Err(AudienceError::Invalid(_))), "{text:?}");
        }
    }
}
