//! Conditions as text, and their check: analytics says what is wrong with a condition, here it is put at the path where the caller wrote it.

use std::time::Duration;

use roaring::RoaringBitmap;
use segue_model::{Code, FieldViolation, TenantId};
use segue_proto::analytics::v1::evaluation_item::Whom;
use segue_proto::analytics::v1::{EvaluateConditionsRequest, EvaluationItem};
use segue_proto::audience::v1::{FormatConditionRequest, FormatConditionResponse, ParseConditionRequest, ParseConditionResponse};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, ConditionList, PersonSet};
use segue_runtime::Tenant;

use crate::definitions::Definitions;
use crate::error::AudienceError;
use crate::peers::{PeerError, request};
use crate::service::Service;

/// How long analytics may take to read a condition.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
/// Where the condition stands in the request to analytics.
const CONDITION_THERE: &str = "items[0].condition";
const TIME_ZONE_THERE: &str = "items[0].time_zone";

impl Service {
    pub(crate) async fn parse_condition_of(
        &self,
        _tenant: &Tenant,
        _request: ParseConditionRequest,
    ) -> Result<ParseConditionResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }

    pub(crate) async fn format_condition_of(
        &self,
        _tenant: &Tenant,
        _request: FormatConditionRequest,
    ) -> Result<FormatConditionResponse, AudienceError> {
        Err(AudienceError::Stopping)
    }
}

impl Definitions {
    /// Has analytics check a condition against what it knows of events, properties and traits, without evaluating it. `condition` has
    /// segments and audiences in place; lists and kinds of identifiers are taken as they are. Faults are at paths that begin with `path`
    /// (those of the zone, at `time_zone` beside it).
    pub(crate) async fn check(&self, tenant: &TenantId, condition: &Condition, time_zone: &str, path: &str) -> Result<(), AudienceError> {
        let mut nobody = Vec::new();
        // Writing to memory does not fail.
        let _ = RoaringBitmap::new().serialize_into(&mut nobody);
        let item = EvaluationItem {
            condition: Some(without_references(condition, &nobody)),
            time_zone: time_zone.to_owned(),
            whom: Some(Whom::Persons(nobody)),
            ..EvaluationItem::default()
        };
        let message = EvaluateConditionsRequest { items: vec![item], ..EvaluateConditionsRequest::default() };
        match self.peers.analytics().evaluate_conditions(request(tenant, message, CHECK_TIMEOUT)).await {
            Ok(_) => Ok(()),
            Err(status) => Err(rebased(PeerError::analytics(status), path)),
        }
    }
}

/// The condition with a set of nobody in place of what this service and identity know: analytics takes any set.
fn without_references(condition: &Condition, nobody: &[u8]) -> Condition {
    let list = |list: &ConditionList| ConditionList {
        conditions: list.conditions.iter().map(|condition| without_references(condition, nobody)).collect(),
    };
    let node = condition.node.as_ref().map(|node| match node {
        Node::All(all) => Node::All(list(all)),
        Node::Any(any) => Node::Any(list(any)),
        Node::Not(inner) => Node::Not(Box::new(without_references(inner, nobody))),
        Node::MemberOf(_) | Node::HasIdentifier(_) => Node::Persons(PersonSet { numbers: nobody.to_vec(), label: String::new() }),
        Node::Behavior(_) | Node::Sequence(_) | Node::Attribute(_) | Node::Acquisition(_) | Node::RandomBucket(_) | Node::Persons(_) => {
            node.clone()
        }
    });
    Condition { node }
}

/// What analytics finds wrong with the condition, at the paths of whoever wrote it.
fn rebased(error: PeerError, path: &str) -> AudienceError {
    if error.code() != Code::InvalidArgument || error.violations().is_empty() {
        return AudienceError::Peer(error);
    }
    let zone = match path.rsplit_once('.') {
        Some((parent, _)) => format!("{parent}.time_zone"),
        None => "time_zone".to_owned(),
    };
    let place = |field: &str| match (field.strip_prefix(CONDITION_THERE), field.strip_prefix(TIME_ZONE_THERE)) {
        (Some(rest), _) => format!("{path}{rest}"),
        (None, Some(rest)) => format!("{zone}{rest}"),
        // Of the request as a whole, which only the condition can be at fault for.
        (None, None) => path.to_owned(),
    };
    let violations = error.violations().iter();
    AudienceError::Invalid(violations.map(|fault| FieldViolation::new(place(&fault.field), fault.description.clone())).collect())
}

#[cfg(test)]
mod tests {
    use segue_proto::query::v1::{HasIdentifier, Membership, membership};
    use tonic_types::{ErrorDetails, FieldViolation as Violation, StatusExt};

    use super::*;

    fn refused(fields: &[&str]) -> PeerError {
        let faults: Vec<Violation> = fields.iter().map(|field| Violation::new(*field, "is wrong")).collect();
        let mut details = ErrorDetails::new();
        details.set_bad_request(faults);
        PeerError::analytics(tonic::Status::with_error_details(tonic::Code::InvalidArgument, "the request is invalid", details))
    }

    fn fields(error: &AudienceError) -> Vec<&str> {
        match error {
            AudienceError::Invalid(faults) => faults.iter().map(|fault| fault.field.as_str()).collect(),
            other => panic!("not invalid: {other}"),
        }
    }

    #[test]
    fn what_analytics_finds_wrong_is_at_the_paths_of_the_caller() {
        let there = ["items[0].condition.all.conditions[1].behavior.on", "items[0].time_zone", "items"];
        let here = ["audience.condition.all.conditions[1].behavior.on", "audience.time_zone", "audience.condition"];
        assert_eq!(fields(&rebased(refused(&there), "audience.condition")), here);
        let here = ["condition.all.conditions[1].behavior.on", "time_zone", "condition"];
        assert_eq!(fields(&rebased(refused(&there), "condition")), here);
    }

    #[test]
    fn that_analytics_cannot_answer_is_no_fault_of_the_condition() {
        let error = rebased(PeerError::analytics(tonic::Status::unavailable("starting")), "condition");
        assert!(matches!(error, AudienceError::Peer(_)) && error.is_retryable(), "{error}");
    }

    #[test]
    fn analytics_is_asked_without_lists_and_identifiers() {
        let list = Node::MemberOf(Membership { of: Some(membership::Of::List("vip".to_owned())) });
        let kind = Node::HasIdentifier(HasIdentifier { kind: "email".to_owned() });
        let not = Node::Not(Box::new(Condition { node: Some(kind) }));
        let conditions = vec![Condition { node: Some(list) }, Condition { node: Some(not) }];
        let asked = without_references(&Condition { node: Some(Node::Any(ConditionList { conditions })) }, b"nobody");
        let nobody = Condition { node: Some(Node::Persons(PersonSet { numbers: b"nobody".to_vec(), label: String::new() })) };
        let conditions = vec![nobody.clone(), Condition { node: Some(Node::Not(Box::new(nobody))) }];
        assert_eq!(asked, Condition { node: Some(Node::Any(ConditionList { conditions })) });
    }
}
