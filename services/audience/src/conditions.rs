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
use segue_runtime::peers::{PeerError, request};

use crate::definitions::Definitions;
use crate::error::AudienceError;
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
        request: ParseConditionRequest,
    ) -> Result<ParseConditionResponse, AudienceError> {
        let condition = segue_query::parse(&request.text).map_err(|error| AudienceError::field("text", error.summary()))?;
        let text = text_of(&condition, "text")?;
        Ok(ParseConditionResponse { condition: Some(condition), text })
    }

    pub(crate) async fn format_condition_of(
        &self,
        tenant: &Tenant,
        request: FormatConditionRequest,
    ) -> Result<FormatConditionResponse, AudienceError> {
        const PATH: &str = "condition";
        let condition = request.condition.ok_or_else(|| AudienceError::field(PATH, "required: the condition to check"))?;
        let expanded = self.definitions.expand(&tenant.id, &condition, PATH).await?;
        let checked = self.definitions.check(&tenant.id, &expanded.condition, "", PATH).await;
        checked.map_err(|error| at_references(error, &condition, PATH))?;
        Ok(FormatConditionResponse { text: text_of(&condition, PATH)?, nodes: expanded.nodes })
    }
}

/// The condition, which stands at `path`, as text.
pub(crate) fn text_of(condition: &Condition, path: &str) -> Result<String, AudienceError> {
    segue_query::format(condition).map_err(|error| {
        let below = error.path.strip_prefix("condition").unwrap_or_default();
        AudienceError::field(format!("{path}{below}"), error.fault.to_string())
    })
}

/// Faults of what was put in place of a segment or audience, at the reference to it: below that, the caller wrote nothing. `written` is the
/// condition as the caller wrote it at `path`.
pub(crate) fn at_references(error: AudienceError, written: &Condition, path: &str) -> AudienceError {
    let AudienceError::Invalid(faults) = error else { return error };
    let mut references = Vec::new();
    segue_query::walk_from(written, path, &mut |place, node| {
        if let Some(Node::MemberOf(_)) = node.node {
            references.push(place.to_owned());
        }
    });
    let mend = |fault: FieldViolation| {
        let below = references.iter().find_map(|reference| {
            // Another kind of node stands where the reference stood: `….conditions[1].all…` in place of `….conditions[1].member_of`.
            let place = reference.strip_suffix(".member_of")?;
            let below = fault.field.strip_prefix(place)?;
            (below.is_empty() || below.starts_with('.')).then_some((reference, below.trim_start_matches('.')))
        });
        match below {
            Some((reference, "")) => FieldViolation::new(reference.clone(), fault.description),
            Some((reference, below)) => {
                FieldViolation::new(reference.clone(), format!("in what it refers to, {below}: {}", fault.description))
            }
            None => fault,
        }
    };
    AudienceError::Invalid(faults.into_iter().map(mend).collect())
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

/// The condition as text; empty where there is none, which no condition that was taken is.
pub(crate) fn text(condition: &Condition) -> String {
    segue_query::format(condition).unwrap_or_default()
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
    fn what_is_wrong_below_a_reference_is_at_the_reference() {
        let segment = Node::MemberOf(Membership { of: Some(membership::Of::Segment("s".to_owned())) });
        let not = Node::Not(Box::new(Condition { node: Some(segment) }));
        let email = Node::HasIdentifier(HasIdentifier { kind: "email".to_owned() });
        let conditions = vec![Condition { node: Some(email) }, Condition { node: Some(not) }];
        let written = Condition { node: Some(Node::Any(ConditionList { conditions })) };
        let faults = [
            ("c.any.conditions[0].behavior.on", "a"),
            ("c.any.conditions[1].not.behavior.on.events[0]", "b"),
            ("c.any.conditions[1].not", "d"),
            ("c.any.conditions[1].nothing", "e"),
        ];
        let faults = faults.into_iter().map(|(field, description)| FieldViolation::new(field, description)).collect();
        let AudienceError::Invalid(mended) = at_references(AudienceError::Invalid(faults), &written, "c") else { panic!("still invalid") };
        let expected = [
            ("c.any.conditions[0].behavior.on", "a"),
            ("c.any.conditions[1].not.member_of", "in what it refers to, behavior.on.events[0]: b"),
            ("c.any.conditions[1].not.member_of", "d"),
            ("c.any.conditions[1].nothing", "e"),
        ];
        assert_eq!(mended, expected.map(|(field, description)| FieldViolation::new(field, description)));
    }

    #[test]
    fn a_condition_without_a_text_is_a_fault_at_its_path() {
        let error = text_of(&Condition { node: Some(Node::Not(Box::default())) }, "audience.condition").expect_err("no text");
        assert_eq!(fields(&error), ["audience.condition.not"]);
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
