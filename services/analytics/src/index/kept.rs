//! For how long events are kept: shown until the day is over, and in files for a day more.

use std::collections::HashMap;

use parking_lot::Mutex;
use segue_model::TenantId;

use super::flush::{DAY_US, day_of};
use super::{Index, Shared};

/// Changes of one tenant's setting that are remembered.
const CHANGES_MAX: usize = 100;

/// For how many days each tenant has kept its events, since when, as far as this process has seen it.
#[derive(Debug, Default)]
pub(crate) struct DaysKept(Mutex<HashMap<TenantId, Vec<(i64, u32)>>>);

/// Where what is kept for so many days begins, as of this moment; 0 days are for ever.
fn begin_us(days: u32, now_us: i64) -> i64 {
    match days {
        0 => i64::MIN,
        days => (day_of(now_us) - i64::from(days)).saturating_mul(DAY_US),
    }
}

impl DaysKept {
    fn note(&self, tenant: &TenantId, now_us: i64, days: u32) {
        let mut all = self.0.lock();
        let known = match all.get_mut(tenant) {
            Some(known) => known,
            None => all.entry(tenant.clone()).or_default(),
        };
        if known.last().is_none_or(|(_, last)| *last != days) {
            known.push((now_us, days));
            if known.len() > CHANGES_MAX {
                known.remove(0);
            }
        }
    }

    /// The earliest begin between a moment and now.
    fn earliest(&self, tenant: &TenantId, since_us: i64) -> Option<i64> {
        let all = self.0.lock();
        let known = all.get(tenant)?;
        let first = known.partition_point(|(at, _)| *at <= since_us).saturating_sub(1);
        known.iter().skip(first).map(|(at, days)| begin_us(*days, since_us.max(*at))).min()
    }
}

impl Shared {
    /// Events of the tenant before this moment are no longer shown: whole UTC days, so that each is kept for at least as long as the
    /// tenant wants.
    pub(crate) fn kept_from_us(&self, tenant: &TenantId) -> i64 {
        let (days, now_us) = (self.directory.get(tenant).map_or(0, |tenant| tenant.event_retention_days), self.clock.now_us());
        self.days_kept.note(tenant, now_us, days);
        begin_us(days, now_us)
    }

    /// Events before this moment need not be in files: those that were shown until a day ago are, so that it can be said whose they were.
    pub(crate) fn stored_from_us(&self, tenant: &TenantId) -> i64 {
        match self.kept_from_us(tenant) {
            i64::MIN => i64::MIN,
            kept_from_us => kept_from_us.saturating_sub(DAY_US),
        }
    }
}

impl Index {
    /// The earliest event that was shown at this moment or has been shown since.
    pub(crate) fn kept_from_since(&self, tenant: &TenantId, since_us: i64) -> i64 {
        let now = self.shared.kept_from_us(tenant);
        self.shared.days_kept.earliest(tenant, since_us).map_or(now, |then| then.min(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_is_known_across_days_and_changes_of_the_setting() {
        let shop: TenantId = "shop".parse().expect("a tenant id");
        let day = |day: i64| day * DAY_US;
        let kept = DaysKept::default();
        assert_eq!(kept.earliest(&shop, day(5)), None);
        kept.note(&shop, day(100), 10);
        kept.note(&shop, day(101), 10);
        assert_eq!(
            [day(90), day(100) + 1, day(102)].map(|since| kept.earliest(&shop, since)),
            [Some(day(90)), Some(day(90)), Some(day(92))]
        );
        kept.note(&shop, day(110), 0);
        kept.note(&shop, day(111), 30);
        kept.note(&shop, day(112), 5);
        assert_eq!(
            [day(109), day(110), day(111), day(112)].map(|since| kept.earliest(&shop, since)),
            [Some(i64::MIN), Some(i64::MIN), Some(day(81)), Some(day(107)),]
        );
    }
}
