//! Members, memberships and sizes.

use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_proto::audience::v1::{
    AudienceMembership, AudienceSize, GetMembershipsRequest, GetMembershipsResponse, ListMembersRequest, ListMembersResponse,
    ListSizesRequest, ListSizesResponse,
};
use segue_runtime::{Tenant, page};
use segue_store::{Db, on_db};

use crate::error::{AudienceError, Kind};
use crate::live::Membership;
use crate::persons;
use crate::service::Service;
use crate::store::{self, timestamp};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 10_000;

const HOUR_US: i64 = 3_600_000_000;
/// Hours that one answer lists.
const HOURS_MAX: i64 = 10_000;
/// Hours listed when no time is given.
const HOURS_DEFAULT: i64 = 30 * 24;
const LIST_HOURS: &str = "SELECT hour_us, size, held_out, entered, left_ FROM audience_hour
    WHERE tenant = $1 AND audience = $2 AND hour_us >= $3 AND hour_us < $4 ORDER BY hour_us LIMIT $5";
const EXISTS: &str = "SELECT id FROM definition WHERE tenant = $1 AND kind = 'audience' AND id = $2";

/// The members of an audience: who meets its condition and is not held out.
pub(crate) fn members(membership: &Membership) -> RoaringBitmap {
    &*membership.matched - &*membership.held_out
}

impl Service {
    pub(crate) async fn list_members_of(&self, tenant: &Tenant, request: ListMembersRequest) -> Result<ListMembersResponse, AudienceError> {
        let size = page::size(request.page_size, PAGE_DEFAULT, if request.details { persons::AT_ONCE } else { PAGE_MAX })?;
        let after = after(&request.page_token)?;
        let membership = self.live.membership(&tenant.id, &request.audience).await?;
        let listed = if request.held_out { RoaringBitmap::clone(&membership.held_out) } else { members(&membership) };
        let (numbers, next_page_token) = page_of(&listed, after, size);
        let details = match request.details {
            true => persons::get(&self.peers, &tenant.id, numbers.clone()).await?,
            false => Vec::new(),
        };
        let as_of = Some(timestamp(membership.as_of_us));
        Ok(ListMembersResponse { persons: numbers, details, next_page_token, size: listed.len(), as_of })
    }

    pub(crate) async fn get_memberships_of(
        &self,
        tenant: &Tenant,
        request: GetMembershipsRequest,
    ) -> Result<GetMembershipsResponse, AudienceError> {
        if request.person == 0 {
            return Err(AudienceError::field("person", "is missing; set the number of a person"));
        }
        let person = persons::survivor(&self.peers, &tenant.id, request.person).await?;
        let (mut memberships, mut as_of_us) = (Vec::new(), None);
        for kept in self.definitions.kept(&tenant.id).await? {
            let membership = match self.live.membership(&tenant.id, &kept.id).await {
                Ok(membership) => membership,
                // Nobody belongs to it yet.
                Err(AudienceError::NotEvaluated { .. }) => continue,
                Err(error) => return Err(error),
            };
            as_of_us = Some(as_of_us.map_or(membership.as_of_us, |least: i64| least.min(membership.as_of_us)));
            if membership.matched.contains(person) {
                memberships.push(AudienceMembership { audience: kept.id, held_out: membership.held_out.contains(person) });
            }
        }
        Ok(GetMembershipsResponse { memberships, as_of: as_of_us.map(timestamp) })
    }

    pub(crate) async fn list_sizes_of(&self, tenant: &Tenant, request: ListSizesRequest) -> Result<ListSizesResponse, AudienceError> {
        let end_us = match &request.end {
            Some(end) => micros("end", end)?,
            // The hour that is under way is in.
            None => self.clock.now_us() + 1,
        };
        let start_us = match &request.start {
            Some(start) => micros("start", start)?,
            None => end_us.saturating_sub(HOURS_DEFAULT * HOUR_US),
        };
        if end_us <= start_us {
            return Err(AudienceError::field("end", "must be after `start`"));
        }
        let sizes = list_sizes(&self.db, &tenant.id, &request.audience, start_us, end_us).await?;
        // Archived ones have sizes too, and new ones none yet: the rows do not say whether there is such an audience.
        if sizes.is_empty() && !exists(&self.db, &tenant.id, &request.audience).await? {
            return Err(AudienceError::not_found(Kind::Audience, request.audience));
        }
        Ok(ListSizesResponse { sizes })
    }
}

/// The person that a page begins behind.
fn after(token: &str) -> Result<u32, AudienceError> {
    if token.is_empty() {
        return Ok(0);
    }
    Ok(token.parse().map_err(|_| page::bad_token())?)
}

/// The persons behind `after`, and the token of the next page, empty at the end.
fn page_of(listed: &RoaringBitmap, after: u32, size: usize) -> (Vec<u32>, String) {
    let Some(first) = after.checked_add(1) else { return (Vec::new(), String::new()) };
    let mut rest = listed.iter();
    rest.advance_to(first);
    let mut numbers: Vec<u32> = rest.take(size + 1).collect();
    let token = page::cut(&mut numbers, size, u32::to_string);
    (numbers, token)
}

async fn exists(db: &Db, tenant: &TenantId, audience: &str) -> Result<bool, AudienceError> {
    let found: Option<String> =
        on_db!(db, pool => sqlx::query_scalar(EXISTS).bind(tenant.as_str()).bind(audience).fetch_optional(pool).await)?;
    Ok(found.is_some())
}

async fn list_sizes(db: &Db, tenant: &TenantId, audience: &str, start_us: i64, end_us: i64) -> Result<Vec<AudienceSize>, AudienceError> {
    // The hour in which the time begins belongs to it.
    let start_us = start_us.div_euclid(HOUR_US).saturating_mul(HOUR_US);
    let rows: Vec<(i64, i64, i64, i64, i64)> = on_db!(db, pool => sqlx::query_as(LIST_HOURS)
        .bind(tenant.as_str()).bind(audience).bind(start_us).bind(end_us).bind(HOURS_MAX).fetch_all(pool).await)?;
    rows.into_iter()
        .map(|(hour_us, size, held_out, entered, left)| {
            Ok(AudienceSize {
                hour: Some(timestamp(hour_us)),
                size: store::counter(size)?,
                held_out: store::counter(held_out)?,
                entered: store::counter(entered)?,
                left: store::counter(left)?,
            })
        })
        .collect()
}

fn micros(field: &str, time: &prost_types::Timestamp) -> Result<i64, AudienceError> {
    let whole = time.seconds.checked_mul(1_000_000).filter(|_| (0..1_000_000_000).contains(&time.nanos));
    let us = whole.and_then(|us| us.checked_add(i64::from(time.nanos / 1_000)));
    us.ok_or_else(|| AudienceError::field(field, "is not a valid timestamp"))
}

#[cfg(test)]
mod tests {
    use segue_store::on_writer;

    use super::*;

    const INSERT_HOUR: &str = "INSERT INTO audience_hour (tenant, audience, hour_us, size, held_out, entered, left_)
        VALUES ('shop', 'buyers', $1, $2, 1, 2, 3)";

    #[test]
    fn pages_cover_the_set_once_in_ascending_order_and_the_last_one_says_so() {
        let listed: RoaringBitmap = [1, 5, 70_000, 70_001, u32::MAX].into_iter().collect();
        for size in 1..=6 {
            let (mut found, mut token) = (Vec::new(), String::new());
            loop {
                let (numbers, next) = page_of(&listed, after(&token).expect("a token of ours"), size);
                found.extend(numbers);
                token = next;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(found, listed.iter().collect::<Vec<u32>>(), "{size}");
        }
        assert!(after("x").is_err() && after("-1").is_err());
    }

    #[test]
    fn members_are_those_who_meet_the_condition_and_are_not_held_out() {
        let bitmap = |numbers: &[u32]| std::sync::Arc::new(numbers.iter().copied().collect::<RoaringBitmap>());
        let membership = Membership { matched: bitmap(&[1, 2, 3]), held_out: bitmap(&[2]), as_of_us: 0, sequence: 0 };
        assert_eq!(members(&membership).iter().collect::<Vec<u32>>(), [1, 3]);
    }

    #[tokio::test]
    async fn sizes_are_listed_from_the_hour_in_which_the_time_begins() {
        for place in segue_testkit::stores() {
            let db = place.open(store::NAMESPACE, store::MIGRATIONS).await.expect("opens");
            for hour in [10, 11, 13] {
                let inserted =
                    on_writer!(db, pool => sqlx::query(INSERT_HOUR).bind(hour * HOUR_US).bind(hour).execute(pool).await.map(drop));
                inserted.expect("the hour is new");
            }
            let shop: TenantId = "shop".parse().expect("an id");
            let sizes = |start_us, end_us| list_sizes(&db, &shop, "buyers", start_us, end_us);
            let found: Vec<u64> = sizes(11 * HOUR_US + 5, 14 * HOUR_US).await.expect("lists").iter().map(|hour| hour.size).collect();
            assert_eq!(found, [11, 13]);
            let before = sizes(0, 11 * HOUR_US).await.expect("lists");
            let hour = Some(timestamp(10 * HOUR_US));
            assert_eq!(before, [AudienceSize { hour, size: 10, held_out: 1, entered: 2, left: 3 }]);
            assert!(!exists(&db, &shop, "buyers").await.expect("reads"));
        }
    }
}
