//! Until when a wait lasts.

use chrono::{Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Timelike};
use chrono_tz::Tz;
use segue_proto::campaign::v1::wait_step::Wait;
use segue_proto::campaign::v1::{EventWait, LocalTime, TraitDate};
use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::query::v1::Span;

use super::local::{MINUTE_US, TimeOfDay, later_us, moment_us, needs_zone, shown};
use crate::persons::Profile;

/// What a wait comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// It takes until then.
    Moment(i64),
    /// It is over at once.
    Now,
    /// There is nothing to wait for.
    Otherwise,
    /// Whoever waits must be known first.
    Person,
}

/// Who begins a wait, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter<'w> {
    pub(super) person: Option<&'w Profile>,
    /// For whom no zone is known.
    pub(super) zone: Tz,
    pub(super) now_us: i64,
    /// When the run was done with this step before. What was waited for then has been: a loop does not meet it again, nor does a clock that
    /// was put back.
    pub(super) before_us: Option<i64>,
}

impl Waiter<'_> {
    fn zone_of(&self, person: &Profile) -> Tz {
        person.time_zone().unwrap_or(self.zone)
    }

    /// Until when this wait lasts that begins now.
    pub(super) fn until(&self, wait: &Wait) -> Until {
        match wait {
            Wait::Duration(span) => self.span(span),
            Wait::ForEvent(EventWait { timeout, .. }) => timeout.as_ref().map_or(Until::Now, |timeout| self.span(timeout)),
            Wait::UntilLocalTime(local) => match self.person {
                Some(person) => self.local_time(local, self.zone_of(person)),
                None => Until::Person,
            },
            Wait::UntilTraitDate(date) => match self.person {
                Some(person) => {
                    person.traits.get(&date.r#trait).map_or(Until::Otherwise, |value| self.trait_date(date, value, self.zone_of(person)))
                }
                None => Until::Person,
            },
        }
    }

    fn span(&self, span: &Span) -> Until {
        match self.person {
            None if needs_zone(span) => Until::Person,
            None => Until::Moment(later_us(self.now_us, span, self.zone)),
            Some(person) => Until::Moment(later_us(self.now_us, span, self.zone_of(person))),
        }
    }

    fn local_time(&self, local: &LocalTime, zone: Tz) -> Until {
        let (Some(time), Some(shown_now)) = (TimeOfDay::parse(&local.time).map(TimeOfDay::time), shown(self.now_us, zone)) else {
            return Until::Otherwise;
        };
        let is_meant = |date: NaiveDate| local.days_of_week.is_empty() || local.days_of_week.contains(&date.weekday().number_from_monday());
        let today = shown_now.date();
        let minute_us = self.now_us - self.now_us.rem_euclid(MINUTE_US);
        let shows_it = is_meant(today) && (shown_now.hour(), shown_now.minute()) == (time.hour(), time.minute());
        if shows_it && self.before_us.is_none_or(|before| before < minute_us) {
            return Until::Now;
        }
        // Two weeks hold every day of the week, also where a zone leaves one out.
        let moments = (0..=14).filter_map(|days| today.checked_add_days(Days::new(days))).filter(|date| is_meant(*date));
        for moment in moments.filter_map(|date| moment_us(date, time, zone)) {
            // In the minute that stands for one that was skipped.
            let is_now = moment >= minute_us && moment <= self.now_us;
            if (is_now || moment > self.now_us) && self.before_us.is_none_or(|before| before < moment) {
                return if is_now { Until::Now } else { Until::Moment(moment) };
            }
        }
        Until::Otherwise
    }

    fn trait_date(&self, date: &TraitDate, value: &Value, zone: Tz) -> Until {
        let Some((day, own_time)) = held_date(value, zone) else { return Until::Otherwise };
        let time = if date.time.is_empty() { Some(own_time) } else { TimeOfDay::parse(&date.time).map(TimeOfDay::time) };
        let (Some(time), Some(offset)) = (time, TimeDelta::try_days(date.offset_days.into())) else { return Until::Otherwise };
        let moment_of = |day: NaiveDate| moment_us(day.checked_add_signed(offset)?, time, zone);
        let moment = if date.every_year {
            let about = shown(self.now_us, zone).and_then(|now| now.date().checked_sub_signed(offset)).map(|now| now.year());
            let years = about.into_iter().flat_map(|year| year.saturating_sub(1)..=year.saturating_add(3));
            let mut moments = years.filter_map(|year| moment_of(in_year(day, year)?));
            moments.find(|moment| self.is_to_come(*moment))
        } else {
            moment_of(day).filter(|moment| self.is_to_come(*moment))
        };
        match moment {
            None => Until::Otherwise,
            Some(moment) if moment == self.now_us => Until::Now,
            Some(moment) => Until::Moment(moment),
        }
    }

    fn is_to_come(&self, moment: i64) -> bool {
        moment >= self.now_us && self.before_us.is_none_or(|before| before < moment)
    }
}

/// The date that a trait holds, with its time of day.
fn held_date(value: &Value, zone: Tz) -> Option<(NaiveDate, NaiveTime)> {
    match value.kind.as_ref()? {
        Kind::TimestampValue(time) => {
            let us = time.seconds.checked_mul(1_000_000)?.checked_add(i64::from(time.nanos / 1_000))?;
            let shown = shown(us, zone)?;
            Some((shown.date(), shown.time()))
        }
        Kind::StringValue(text) => {
            let is_date = text.len() == 10
                && text.bytes().enumerate().all(|(at, b)| if matches!(at, 4 | 7) { b == b'-' } else { b.is_ascii_digit() });
            let date = is_date.then(|| text.parse().ok())??;
            Some((date, NaiveTime::MIN))
        }
        Kind::IntValue(_) | Kind::DoubleValue(_) | Kind::BoolValue(_) | Kind::DecimalE4Value(_) | Kind::JsonValue(_) => None,
    }
}

/// The same day of another year; of 29 February, where there is none, the 28th.
fn in_year(day: NaiveDate, year: i32) -> Option<NaiveDate> {
    day.with_year(year).or_else(|| NaiveDate::from_ymd_opt(year, 2, 28))
}
