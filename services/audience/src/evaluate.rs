//! Who of some persons meets conditions: EvaluatePersons, which the campaign service calls for many decisions at once.
//!
//! References are put in place as for previews, over one state of the definitions; analytics does the rest. The items of the request to
//! analytics stand in the order of the caller's, so its faults are at the caller's paths.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringBitmap;
use segue_model::{Code, FieldViolation, TenantId};
use segue_proto::analytics::v1::evaluation_item::Whom;
use segue_proto::analytics::v1::{EvaluateConditionsRequest, EvaluationItem};
use segue_proto::audience::v1::{EvaluatePersonsRequest, EvaluatePersonsResponse, PersonsItem};
use segue_proto::query::v1::Condition;
use segue_runtime::Tenant;
use segue_runtime::fields::refuse;
use segue_runtime::peers::{PeerError, request};

use crate::conditions::at_references;
use crate::definitions::{Expanded, SET_BYTES_MAX};
use crate::error::AudienceError;
use crate::service::Service;

const ITEMS_MAX: usize = 1_000;
/// Items whose lists and identifiers are looked up at once.
const AT_ONCE: usize = 8;
/// How long analytics may take besides what it waits.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An item that can be evaluated.
#[derive(Debug)]
struct Item {
    condition: Condition,
    time_zone: String,
    /// As sent, and read; `None`: everyone.
    persons: Option<(Vec<u8>, RoaringBitmap)>,
}

impl Service {
    pub(crate) async fn evaluate_persons_of(
        &self,
        tenant: &Tenant,
        request: EvaluatePersonsRequest,
    ) -> Result<EvaluatePersonsResponse, AudienceError> {
        let EvaluatePersonsRequest { items, at_least, wait_ms, as_of_us } = request;
        let items = read(items)?;
        let placed: Vec<(&Condition, String)> = items.iter().enumerate().map(|(at, item)| (&item.condition, path(at))).collect();
        let expanded = self.definitions.expand_all(&tenant.id, &placed).await?;
        let resolving: Vec<_> =
            items.iter().zip(&expanded).map(|(item, expanded)| self.evaluation_of(&tenant.id, item, expanded)).collect();
        let asked: Vec<EvaluationItem> = stream::iter(resolving).buffered(AT_ONCE).try_collect().await?;
        let count = asked.len();
        let message = EvaluateConditionsRequest { items: asked, at_least, wait_ms, as_of_us, removed_since_us: 0 };
        let timeout = TIMEOUT + Duration::from_millis(u64::from(wait_ms));
        let answer = self.peers.analytics().evaluate_conditions(self::request(&tenant.id, message, timeout)).await;
        let answer = answer.map_err(|status| at_items(PeerError::analytics(status), &items))?.into_inner();
        if answer.items.len() != count {
            return Err(AudienceError::Corrupt { what: "an answer of analytics" });
        }
        Ok(EvaluatePersonsResponse { met: answer.items.into_iter().map(|item| item.met).collect(), as_of_us: answer.as_of_us })
    }

    /// What analytics is asked about an item.
    async fn evaluation_of(&self, tenant: &TenantId, item: &Item, expanded: &Expanded) -> Result<EvaluationItem, AudienceError> {
        // Only what lists and identifiers say of these persons is needed.
        let within = item.persons.as_ref().map(|(_, persons)| persons);
        let condition = self.definitions.resolve(tenant, expanded, within).await?;
        let whom = match &item.persons {
            Some((bytes, _)) => Whom::Persons(bytes.clone()),
            None => Whom::Everyone(true),
        };
        let time_zone = item.time_zone.clone();
        Ok(EvaluationItem { condition: Some(condition), time_zone, whom: Some(whom), ..EvaluationItem::default() })
    }
}

fn path(at: usize) -> String {
    format!("items[{at}].condition")
}

fn read(items: Vec<PersonsItem>) -> Result<Vec<Item>, AudienceError> {
    if items.len() > ITEMS_MAX {
        return Err(AudienceError::field("items", format!("at most {ITEMS_MAX}")));
    }
    let mut faults = Vec::new();
    let mut read = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        if item.condition.is_none() {
            faults.push(FieldViolation::new(path(at), "required: the condition to evaluate"));
        }
        let persons = match item.persons {
            None => None,
            Some(bytes) => match bitmap(&bytes) {
                Some(persons) => Some((bytes, persons)),
                None => {
                    let what = format!("must be a Roaring bitmap in its portable serialisation, of at most {SET_BYTES_MAX} bytes");
                    faults.push(FieldViolation::new(format!("items[{at}].persons"), what));
                    None
                }
            },
        };
        read.push(Item { condition: item.condition.unwrap_or_default(), time_zone: item.time_zone, persons });
    }
    refuse(faults)?;
    Ok(read)
}

fn bitmap(bytes: &[u8]) -> Option<RoaringBitmap> {
    let mut rest = bytes;
    let persons = RoaringBitmap::deserialize_from(&mut rest).ok()?;
    (rest.is_empty() && bytes.len() <= SET_BYTES_MAX).then_some(persons)
}

/// What analytics finds wrong, at what the caller wrote.
fn at_items(error: PeerError, items: &[Item]) -> AudienceError {
    if error.code() != Code::InvalidArgument || error.violations().is_empty() {
        return AudienceError::Peer(error);
    }
    let found = AudienceError::Invalid(error.violations().to_vec());
    // Only those items that something is wrong with are looked through.
    let faulty = |at: &usize| error.violations().iter().any(|fault| fault.field.starts_with(&path(*at)));
    (0..items.len()).filter(faulty).fold(found, |found, at| match items.get(at) {
        Some(item) => at_references(found, &item.condition, &path(at)),
        None => found,
    })
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation as Violation, StatusExt};

    use super::*;
    use crate::definitions::tests::{any, bucket, has, segment};
    use crate::lists::chunks;

    fn item(condition: Option<Condition>, persons: Option<Vec<u8>>) -> PersonsItem {
        PersonsItem { condition, time_zone: String::new(), persons }
    }

    fn fields(error: &AudienceError) -> Vec<&str> {
        match error {
            AudienceError::Invalid(faults) => faults.iter().map(|fault| fault.field.as_str()).collect(),
            other => panic!("not invalid: {other}"),
        }
    }

    #[test]
    fn items_are_read_and_all_that_is_wrong_with_them_is_told_at_once() {
        let persons: RoaringBitmap = [3, 70_000].into_iter().collect();
        let bytes = chunks::encode(&persons);
        let condition = || Some(bucket("a", 0, 5));
        let good = read(vec![item(condition(), None), item(condition(), Some(bytes.clone()))]).expect("valid");
        assert!(good[0].persons.is_none(), "everyone");
        assert_eq!(good[1].persons, Some((bytes.clone(), persons)));
        let longer = [bytes.as_slice(), b"x"].concat();
        let faulty = vec![item(None, Some(Vec::new())), item(condition(), None), item(condition(), Some(longer))];
        assert_eq!(fields(&read(faulty).expect_err("faulty")), ["items[0].condition", "items[0].persons", "items[2].persons"]);
        assert_eq!(fields(&read(vec![item(condition(), None); 1_001]).expect_err("too many")), ["items"]);
        assert!(read(Vec::new()).expect("nothing to do").is_empty());
    }

    #[test]
    fn what_analytics_finds_wrong_is_at_the_items_as_they_were_written() {
        let conditions = [bucket("a", 0, 5), any(vec![has("email"), segment("s")])];
        let items = read(conditions.map(|condition| item(Some(condition), None)).to_vec()).expect("valid");
        let there =
            ["items[0].condition.random_bucket", "items[1].condition.any.conditions[1].behavior.on", "items[1].time_zone", "wait_ms"];
        let mut details = ErrorDetails::new();
        details.set_bad_request(there.map(|field| Violation::new(field, "is wrong")).to_vec());
        let status = tonic::Status::with_error_details(tonic::Code::InvalidArgument, "invalid", details);
        let here = ["items[0].condition.random_bucket", "items[1].condition.any.conditions[1].member_of", "items[1].time_zone", "wait_ms"];
        assert_eq!(fields(&at_items(PeerError::analytics(status), &items)), here);
        let error = at_items(PeerError::analytics(tonic::Status::unavailable("not indexed yet")), &items);
        assert!(matches!(&error, AudienceError::Peer(_)) && error.is_retryable(), "{error}");
    }
}
