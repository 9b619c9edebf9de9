//! Everything that keeps a definition from being started: what is wrong with it by itself, and with what it names elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use segue_model::{Code, FieldViolation, TenantId};
use segue_proto::audience::v1::{FormatConditionRequest, GetAudienceRequest, GetListRequest};
use segue_proto::campaign::v1::ScenarioFault;
use segue_runtime::peers::{PeerError, request};
use segue_runtime::{Tenant, fields};
use tonic::Status;

use super::named::{Named, There, at, message_faults, missing_faults, named};
use super::store::Stored;
use crate::error::CampaignError;
use crate::flow::machine;
use crate::service::Service;

/// How long the audience service may take to look at one thing.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Questions to it at once.
const AT_ONCE: usize = 8;
/// Bytes of faults that a refusal carries: they travel as a header, and are told by ValidateScenario in full.
const REFUSAL_BYTES_MAX: usize = 4 << 10;

impl Service {
    /// Everything that keeps the newest version from being started; paths begin with `definition`. That another service cannot answer is no
    /// fault.
    pub(super) async fn faults(&self, tenant: &Tenant, stored: &Stored) -> Result<Vec<ScenarioFault>, CampaignError> {
        let definition = &stored.content.definition;
        let mut faults = match machine::compile(&stored.id, stored.version, definition, tenant.time_zone) {
            Ok(_) => Vec::new(),
            Err(faults) => faults,
        };
        let named = named(definition);
        let mut found = self.sending_faults(&tenant.id, &named).await?;
        let audiences = self.audiences_there(&tenant.id, named.audiences.keys().copied()).await?;
        found.extend(missing_faults("audience", &named.audiences, &audiences));
        let lists = self.lists_there(&tenant.id, named.lists.keys().copied()).await?;
        found.extend(missing_faults("list", &named.lists, &lists));
        found.extend(self.condition_faults(&tenant.id, &named).await?);
        add_new(&mut faults, found);
        Ok(faults)
    }

    async fn sending_faults(&self, tenant: &TenantId, named: &Named<'_>) -> Result<Vec<ScenarioFault>, CampaignError> {
        let (mut templates, mut channels) = (BTreeMap::new(), BTreeMap::new());
        for message in &named.messages {
            if fields::is_id(message.template) && !templates.contains_key(message.template) {
                let template = self.templates.find(tenant, message.template).await?;
                templates.insert(message.template, template.map(|template| template.kind));
            }
            if fields::is_id(message.channel) && !channels.contains_key(message.channel) {
                channels.insert(message.channel, self.channels.kind(tenant, message.channel).await?);
            }
        }
        Ok(message_faults(&named.messages, &templates, &channels))
    }

    async fn audiences_there<'n>(
        &self,
        tenant: &TenantId,
        ids: impl Iterator<Item = &'n str>,
    ) -> Result<BTreeMap<&'n str, There<()>>, CampaignError> {
        let asked: Vec<_> = ids
            .filter(|id| fields::is_id(id))
            .map(|id| {
                let (mut client, request) = (self.peers.audience(), request(tenant, GetAudienceRequest { id: id.to_owned() }, TIMEOUT));
                async move { Ok((id, there(client.get_audience(request).await.map(|answer| answer.into_inner().archived))?)) }
            })
            .collect();
        stream::iter(asked).buffered(AT_ONCE).try_collect().await
    }

    async fn lists_there<'n>(
        &self,
        tenant: &TenantId,
        ids: impl Iterator<Item = &'n str>,
    ) -> Result<BTreeMap<&'n str, There<()>>, CampaignError> {
        let asked: Vec<_> = ids
            .filter(|id| fields::is_id(id))
            .map(|id| {
                let (mut client, request) = (self.peers.audience(), request(tenant, GetListRequest { id: id.to_owned() }, TIMEOUT));
                async move { Ok((id, there(client.get_list(request).await.map(|answer| answer.into_inner().archived))?)) }
            })
            .collect();
        stream::iter(asked).buffered(AT_ONCE).try_collect().await
    }

    async fn condition_faults(&self, tenant: &TenantId, named: &Named<'_>) -> Result<Vec<ScenarioFault>, CampaignError> {
        let asked: Vec<_> = named
            .conditions
            .values()
            .map(|(condition, paths)| {
                let message = FormatConditionRequest { condition: Some((*condition).clone()) };
                let (mut client, request) = (self.peers.audience(), request(tenant, message, TIMEOUT));
                async move { wrong_condition(client.format_condition(request).await.map(|_| ()), paths) }
            })
            .collect();
        let faults: Vec<Vec<ScenarioFault>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        Ok(faults.into_iter().flatten().collect())
    }
}

/// Adds what was found elsewhere where the definition by itself is right: that a name is no name is not told as missing again.
fn add_new(faults: &mut Vec<ScenarioFault>, found: Vec<ScenarioFault>) {
    let told: BTreeSet<String> = faults.iter().map(|fault| fault.field.clone()).collect();
    faults.extend(found.into_iter().filter(|fault| !told.contains(&fault.field)));
}

/// What an answer that says whether something is archived says.
fn there(answer: Result<bool, Status>) -> Result<There<()>, CampaignError> {
    match answer {
        Ok(true) => Ok(There::Archived),
        Ok(false) => Ok(There::It(())),
        Err(status) => match PeerError::audience(status) {
            error if error.code() == Code::NotFound => Ok(There::Nothing),
            error => Err(error.into()),
        },
    }
}

/// The faults of a condition that stands at these paths.
fn wrong_condition(answer: Result<(), Status>, paths: &[String]) -> Result<Vec<ScenarioFault>, CampaignError> {
    let Err(status) = answer else { return Ok(Vec::new()) };
    let message = status.message().to_owned();
    let error = PeerError::audience(status);
    match error.code() {
        Code::InvalidArgument | Code::NotFound => {}
        _ => return Err(error.into()),
    }
    let mut faults = Vec::new();
    for path in paths {
        let violations = error.violations().iter();
        faults.extend(violations.map(|fault| ScenarioFault { field: at(path, &fault.field), message: fault.description.clone() }));
        if error.violations().is_empty() {
            faults.push(ScenarioFault { field: path.clone(), message: message.clone() });
        }
    }
    Ok(faults)
}

/// The refusal to start what has these faults.
pub(super) fn refusal(faults: Vec<ScenarioFault>) -> CampaignError {
    let count = faults.len();
    let mut left = REFUSAL_BYTES_MAX;
    let mut violations = Vec::new();
    for ScenarioFault { field, message } in faults {
        let bytes = field.len() + message.len();
        if bytes > left && !violations.is_empty() {
            let fault = format!("and {} more faults: ValidateScenario tells all of them", count - violations.len());
            violations.push(FieldViolation::new("scenario.definition", fault));
            break;
        }
        left = left.saturating_sub(bytes);
        violations.push(FieldViolation::new(format!("scenario.{field}"), message));
    }
    CampaignError::Invalid(violations)
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation as Violation, StatusExt};

    use super::*;

    fn fault(field: &str, message: &str) -> ScenarioFault {
        ScenarioFault { field: field.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn what_is_not_found_or_archived_is_a_fault_and_what_does_not_answer_is_an_error() {
        assert_eq!(there(Ok(true)).ok(), Some(There::Archived));
        assert_eq!(there(Ok(false)).ok(), Some(There::It(())));
        assert_eq!(there(Err(Status::not_found("there is no audience `a`"))).ok(), Some(There::Nothing));
        for status in [Status::unavailable("starting"), Status::failed_precondition("audiences are switched off")] {
            let error = there(Err(status)).expect_err("no answer");
            assert!(matches!(error, CampaignError::Peer(_)), "{error}");
        }
    }

    #[test]
    fn violations_of_a_condition_are_told_at_every_path_where_it_stands() {
        let paths = ["definition.entry.only_if".to_owned(), "definition.steps[3].branch.arms[0].condition".to_owned()];
        let mut details = ErrorDetails::new();
        details.set_bad_request(vec![Violation::new("condition.not.behavior.on", "is wrong"), Violation::new("condition", "is odd")]);
        let status = Status::with_error_details(tonic::Code::InvalidArgument, "the request is invalid", details);
        let expected = vec![
            fault("definition.entry.only_if.not.behavior.on", "is wrong"),
            fault("definition.entry.only_if", "is odd"),
            fault("definition.steps[3].branch.arms[0].condition.not.behavior.on", "is wrong"),
            fault("definition.steps[3].branch.arms[0].condition", "is odd"),
        ];
        assert_eq!(wrong_condition(Err(status), &paths).ok(), Some(expected));
        assert_eq!(wrong_condition(Ok(()), &paths).ok(), Some(Vec::new()));
        let bare = wrong_condition(Err(Status::not_found("there is no segment `s`")), &paths[..1]);
        assert_eq!(bare.ok(), Some(vec![fault("definition.entry.only_if", "there is no segment `s`")]));
        let error = wrong_condition(Err(Status::unavailable("starting")), &paths).expect_err("no answer");
        assert!(error.is_retryable(), "{error}");
    }

    #[test]
    fn what_is_no_name_is_not_told_as_missing_too() {
        let mut faults = vec![fault("definition.steps[0].message.channel", "name a channel by its id")];
        let found = ["definition.steps[0].message.channel", "definition.steps[0].message.template", "definition.steps[0].message.template"];
        add_new(&mut faults, found.map(|field| fault(field, "there is none")).to_vec());
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, [found[0], found[1], found[1]]);
        assert_eq!(faults[0].message, "name a channel by its id");
    }

    #[test]
    fn a_refusal_names_the_faults_below_the_scenario_and_stays_small() {
        let CampaignError::Invalid(few) = refusal(vec![fault("definition.steps", "1 to 100"), fault("definition", "odd")]) else {
            panic!("another error")
        };
        let told: Vec<_> = few.iter().map(|fault| (fault.field.as_str(), fault.description.as_str())).collect();
        assert_eq!(told, [("scenario.definition.steps", "1 to 100"), ("scenario.definition", "odd")]);
        let many = (0..1_000).map(|at| fault(&format!("definition.steps[{at}]"), "cannot be reached")).collect();
        let CampaignError::Invalid(many) = refusal(many) else { panic!("another error") };
        let last = many.last().expect("a fault");
        assert_eq!(last.description, format!("and {} more faults: ValidateScenario tells all of them", 1_001 - many.len()));
        let bytes: usize = many.iter().map(|fault| fault.field.len() + fault.description.len()).sum();
        assert!(bytes < 2 * REFUSAL_BYTES_MAX, "{bytes}");
    }
}
