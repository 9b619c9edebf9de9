//! Looking before acting ([`reach`], samples, overlaps), and understanding after ([`explain`]).

mod explain;
mod reach;

use std::sync::Arc;
use std::time::{Duration, Instant};

use roaring::RoaringBitmap;
use segue_model::bucket::{BUCKETS, Buckets};
use segue_model::{FieldViolation, TenantId};
use segue_proto::analytics::v1::select_persons_request::Who;
use segue_proto::analytics::v1::{CountPersonsRequest, CountPersonsResponse, SelectPersonsRequest, SelectPersonsResponse};
use segue_proto::audience::v1::preview_audience_request::What;
use segue_proto::audience::v1::{Overlap, PreviewAudienceRequest, PreviewAudienceResponse};
use segue_proto::identity::v1::Person;
use segue_proto::query::v1::{Condition, Membership as MembershipNode, condition, membership};
use segue_runtime::Tenant;
use segue_runtime::peers::{PeerError, request};

use crate::definitions::Expanded;
use crate::error::AudienceError;
use crate::members::members;
use crate::persons;
use crate::service::Service;

/// How long analytics may take.
const TIMEOUT: Duration = Duration::from_secs(60);
const SAMPLE_DEFAULT: usize = 10;
const SAMPLE_MAX: u32 = 100;
const OVERLAPS_MAX: usize = 20;
/// Stands for the audience's id where a condition is none yet.
const NO_AUDIENCE: &str = "preview";

/// What is previewed.
struct Subject {
    expanded: Arc<Expanded>,
    time_zone: String,
    holdout: u32,
    /// Whose buckets decide who is held out.
    audience: String,
}

impl Service {
    pub(crate) async fn preview_audience_of(
        &self,
        tenant: &Tenant,
        request: PreviewAudienceRequest,
    ) -> Result<PreviewAudienceResponse, AudienceError> {
        check(&request)?;
        let started = Instant::now();
        let sample_size = if request.sample_size == 0 { SAMPLE_DEFAULT } else { request.sample_size as usize };
        let overlap_with = request.overlap_with.clone();
        let subject = self.subject(&tenant.id, request).await?;
        let condition = self.definitions.resolve(&tenant.id, &subject.expanded, None).await?;
        let selected = self.select(&tenant.id, condition.clone(), &subject.time_zone).await?;
        let as_of = selected.as_of;
        let matched = bitmap(&selected.bitmap)?;
        let held_out = held_out(&matched, &subject.audience, subject.holdout);
        let members = &matched - &held_out;
        let (counts, sample, reach, overlaps) = tokio::try_join!(
            self.count(&tenant.id, condition, &subject.time_zone, as_of),
            self.sample(&tenant.id, spread(&members, sample_size)),
            reach::reach(&self.peers, &tenant.id, &members, as_of),
            self.overlaps(&tenant.id, &members, overlap_with),
        )?;
        Ok(PreviewAudienceResponse {
            size: members.len(),
            held_out: held_out.len(),
            persons_total: counts.persons_total,
            sample,
            reach,
            overlaps,
            node_counts: counts.node_counts,
            expanded: Some(subject.expanded.condition.clone()),
            as_of,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    async fn subject(&self, tenant: &TenantId, request: PreviewAudienceRequest) -> Result<Subject, AudienceError> {
        match request.what {
            None => Err(AudienceError::field("what", "is missing; set `condition`, `audience` or `segment`")),
            Some(What::Condition(condition)) => {
                let expanded = Arc::new(self.definitions.expand(tenant, &condition, "condition").await?);
                Ok(Subject { expanded, time_zone: request.time_zone, holdout: request.holdout, audience: NO_AUDIENCE.to_owned() })
            }
            Some(What::Audience(id)) => {
                let kept = self.definitions.kept_one(tenant, &id).await?;
                Ok(Subject { expanded: kept.expanded, time_zone: kept.time_zone, holdout: kept.holdout, audience: kept.id })
            }
            Some(What::Segment(id)) => {
                let node = MembershipNode { of: Some(membership::Of::Segment(id)) };
                let condition = Condition { node: Some(condition::Node::MemberOf(node)) };
                let expanded = Arc::new(self.definitions.expand(tenant, &condition, "segment").await?);
                Ok(Subject { expanded, time_zone: String::new(), holdout: 0, audience: NO_AUDIENCE.to_owned() })
            }
        }
    }

    /// Who meets the condition; as of when is for analytics to say.
    async fn select(&self, tenant: &TenantId, condition: Condition, time_zone: &str) -> Result<SelectPersonsResponse, AudienceError> {
        let who = Some(Who::Condition(condition));
        let asked = SelectPersonsRequest { who, time_zone: time_zone.to_owned(), bitmap: true, ..SelectPersonsRequest::default() };
        let answer = self.peers.analytics().select_persons(request(tenant, asked, TIMEOUT)).await;
        Ok(answer.map_err(PeerError::analytics)?.into_inner())
    }

    async fn count(
        &self,
        tenant: &TenantId,
        condition: Condition,
        time_zone: &str,
        as_of: Option<prost_types::Timestamp>,
    ) -> Result<CountPersonsResponse, AudienceError> {
        let condition = Some(condition);
        let asked = CountPersonsRequest { condition, as_of, time_zone: time_zone.to_owned(), within: Vec::new() };
        let answer = self.peers.analytics().count_persons(request(tenant, asked, TIMEOUT)).await;
        Ok(answer.map_err(PeerError::analytics)?.into_inner())
    }

    async fn sample(&self, tenant: &TenantId, numbers: Vec<u32>) -> Result<Vec<Person>, AudienceError> {
        let mut found = persons::get(&self.peers, tenant, numbers).await?;
        // Numbers that analytics knows and identity does not are none to show.
        found.retain(|person| person.number != 0);
        found.dedup_by_key(|person| person.number);
        Ok(found)
    }

    async fn overlaps(&self, tenant: &TenantId, own: &RoaringBitmap, audiences: Vec<String>) -> Result<Vec<Overlap>, AudienceError> {
        let mut overlaps = Vec::with_capacity(audiences.len());
        for audience in audiences {
            let others = members(&self.live.membership(tenant, &audience).await?);
            overlaps.push(Overlap { audience, size: others.len(), common: own.intersection_len(&others) });
        }
        Ok(overlaps)
    }
}

fn check(request: &PreviewAudienceRequest) -> Result<(), AudienceError> {
    let mut faults = Vec::new();
    let mut fault = |field: &str, text: String| faults.push(FieldViolation::new(field, text));
    if request.sample_size > SAMPLE_MAX {
        fault("sample_size", format!("must be at most {SAMPLE_MAX}"));
    }
    if request.overlap_with.len() > OVERLAPS_MAX {
        fault("overlap_with", format!("must name at most {OVERLAPS_MAX} audiences"));
    }
    if request.holdout > BUCKETS {
        fault("holdout", format!("must be at most {BUCKETS}: hundredths of a percent"));
    }
    if !matches!(request.what, Some(What::Condition(_))) {
        let text = "goes with `condition` only: a segment has none, an audience its own";
        if request.holdout != 0 {
            fault("holdout", text.to_owned());
        }
        if !request.time_zone.is_empty() {
            fault("time_zone", text.to_owned());
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(AudienceError::Invalid(faults)) }
}

/// A set as a peer sends it.
fn bitmap(bytes: &[u8]) -> Result<RoaringBitmap, AudienceError> {
    if bytes.is_empty() {
        return Ok(RoaringBitmap::new());
    }
    RoaringBitmap::deserialize_from(bytes)
        .map_err(|error| PeerError::analytics(tonic::Status::internal(format!("a set of persons that cannot be read: {error}"))).into())
}

/// Who of those that meet the condition is held out.
fn held_out(matched: &RoaringBitmap, audience: &str, holdout: u32) -> RoaringBitmap {
    if holdout == 0 {
        return RoaringBitmap::new();
    }
    let mut buckets = Buckets::of_holdout(audience);
    matched.iter().filter(|person| buckets.bucket(*person) < holdout).collect()
}

/// So many of the members, spread over them evenly.
fn spread(members: &RoaringBitmap, count: usize) -> Vec<u32> {
    let (all, count) = (members.len(), members.len().min(count as u64));
    // The n-th of the middle of each of `count` stretches of equal length.
    (0..count).filter_map(|at| u32::try_from((2 * at + 1) * all / (2 * count)).ok().and_then(|nth| members.select(nth))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_with_a_condition_only_is_refused_elsewhere_and_limits_hold() {
        let of = |what| PreviewAudienceRequest { what: Some(what), ..PreviewAudienceRequest::default() };
        assert!(check(&PreviewAudienceRequest { holdout: 500, ..of(What::Condition(Condition::default())) }).is_ok());
        assert!(check(&of(What::Segment("s".to_owned()))).is_ok());
        let faulty = PreviewAudienceRequest {
            holdout: 10_001,
            time_zone: "Asia/Seoul".to_owned(),
            sample_size: 101,
            overlap_with: vec!["a".to_owned(); 21],
            ..of(What::Audience("a".to_owned()))
        };
        let Err(AudienceError::Invalid(faults)) = check(&faulty) else { panic!("it is faulty") };
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["sample_size", "overlap_with", "holdout", "holdout", "time_zone"]);
    }

    #[test]
    fn a_sample_is_spread_over_the_members_and_the_same_for_the_same_members() {
        let members: RoaringBitmap = (1..=100).map(|number| number * 10).collect();
        assert_eq!(spread(&members, 4), [130, 380, 630, 880]);
        assert_eq!(spread(&members, 1), [510]);
        assert_eq!(spread(&members, 100), members.iter().collect::<Vec<u32>>());
        assert_eq!(spread(&members, 500), members.iter().collect::<Vec<u32>>());
        assert_eq!(spread(&RoaringBitmap::new(), 10), [0_u32; 0]);
    }

    #[test]
    fn the_share_held_out_is_that_of_the_audiences_buckets() {
        let matched: RoaringBitmap = (1..=10_000).collect();
        let tenth = held_out(&matched, "buyers", 1_000);
        assert!((900..=1_100).contains(&tenth.len()), "{}", tenth.len());
        assert!(tenth.is_subset(&held_out(&matched, "buyers", 2_000)), "a larger share holds out the same and more");
        assert_ne!(tenth, held_out(&matched, "lapsed", 1_000));
        assert!(held_out(&matched, "buyers", 0).is_empty());
        assert_eq!(held_out(&matched, "buyers", BUCKETS), matched);
        // Person 1 has the bucket 1,725 of `buyers`.
        assert_eq!([1_725, 1_726].map(|holdout| held_out(&matched, "buyers", holdout).contains(1)), [false, true]);
    }
}
