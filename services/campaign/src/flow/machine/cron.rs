//! Schedules: five fields (minute, hour, day of month, month, day of week).
//!
//! As everywhere, a day is meant if both the day of the month and the day of the week are; where neither begins with `*`, one of them is
//! enough.

use std::str::FromStr;

use chrono::{Datelike, Days, Months, NaiveDate, NaiveTime};
use chrono_tz::Tz;

use super::local::{moment_us, shown};

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// The calendar repeats after 400 years.
const DAYS_MAX: usize = 146_097;

/// When, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    /// Of a day, ascending.
    times: Vec<NaiveTime>,
    /// Bit n: day n of the month.
    days: u64,
    /// Bit n: month n.
    months: u64,
    /// Bit n: n days after Sunday.
    weekdays: u64,
    /// One of the day of the month and the day of the week is enough.
    either: bool,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CronError {
    /// Not five fields.
    #[error("five fields are needed, minute, hour, day of month, month and day of week; there are {0}")]
    Fields(usize),
    /// One of them is none.
    #[error("`{part}` is no {what}: write {least} to {most}, names of three letters, and `*`, `,`, `-` and `/`")]
    Field { what: &'static str, part: String, least: u32, most: u32 },
    /// For example on 30 February.
    #[error("there is no such day: it would never happen")]
    Never,
}

/// One of the five.
#[derive(Debug, Clone, Copy)]
struct Place {
    what: &'static str,
    least: u32,
    most: u32,
    /// Of `least` and those after it.
    names: &'static [&'static str],
}

const PLACES: [Place; 5] = [
    Place { what: "minute", least: 0, most: 59, names: &[] },
    Place { what: "hour", least: 0, most: 23, names: &[] },
    Place { what: "day of the month", least: 1, most: 31, names: &[] },
    Place { what: "month", least: 1, most: 12, names: &MONTHS },
    // 7 is Sunday too.
    Place { what: "day of the week", least: 0, most: 7, names: &WEEKDAYS },
];

impl Place {
    /// Bit n: the field means n.
    fn parse(&self, field: &str) -> Result<u64, CronError> {
        let mut meant = 0;
        for part in field.split(',') {
            let fault = || CronError::Field { what: self.what, part: part.chars().take(40).collect(), least: self.least, most: self.most };
            meant |= self.part(part).ok_or_else(fault)?;
        }
        Ok(meant)
    }

    fn part(&self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, number(step).filter(|step| (1..=self.most.max(1)).contains(step))?),
            None => (part, 1),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            Some((first, last)) => {
                let (first, last) = (self.value(first)?, self.value(last)?);
                // Friday to Sunday.
                let last = if self.most == 7 && last == 0 && first > 0 { 7 } else { last };
                (first, last)
            }
            None if part.contains('/') => (self.value(range)?, self.most),
            None => (self.value(range)?, self.value(range)?),
        };
        (first <= last).then(|| (first..=last).step_by(step as usize).fold(0, |meant, n| meant | 1 << n))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|at| at as u32 + self.least);
        named.or_else(|| number(text)).filter(|value| (self.least..=self.most).contains(value))
    }
}

fn number(text: &str) -> Option<u32> {
    ((1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn bits(meant: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |n| meant & (1 << n) != 0)
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else { return Err(CronError::Fields(fields.len())) };
        let [minutes, hours, days, months, on] = PLACES;
        let (minutes, hours) = (minutes.parse(minute)?, hours.parse(hour)?);
        let on = on.parse(weekday)?;
        let cron = Self {
            times: bits(hours).flat_map(|hour| bits(minutes).filter_map(move |minute| NaiveTime::from_hms_opt(hour, minute, 0))).collect(),
            days: days.parse(day)?,
            months: months.parse(month)?,
            weekdays: on & 0x7f | on >> 7,
            either: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        match NaiveDate::from_ymd_opt(2000, 1, 1).and_then(|start| cron.next_date(start)) {
            Some(_) => Ok(cron),
            None => Err(CronError::Never),
        }
    }
}

impl Cron {
    fn means(&self, date: NaiveDate) -> bool {
        let has = |bits: u64, n: u32| bits & (1 << n) != 0;
        let (day, weekday) = (has(self.days, date.day()), has(self.weekdays, date.weekday().num_days_from_sunday()));
        has(self.months, date.month()) && if self.either { day || weekday } else { day && weekday }
    }

    /// The first day that is meant, from this one on.
    fn next_date(&self, from: NaiveDate) -> Option<NaiveDate> {
        let mut date = from;
        for _ in 0..=DAYS_MAX {
            if self.means(date) {
                return Some(date);
            }
            date = if self.months & (1 << date.month()) == 0 {
                date.with_day(1)?.checked_add_months(Months::new(1))?
            } else {
                date.checked_add_days(Days::new(1))?
            };
        }
        None
    }

    /// The first moment after this one.
    pub(super) fn next_us(&self, after_us: i64, zone: Tz) -> Option<i64> {
        let mut date = self.next_date(shown(after_us, zone)?.date())?;
        for _ in 0..=DAYS_MAX {
            // Later times of a day are never earlier moments, even where the clock is moved.
            let is_over = |time: &NaiveTime| moment_us(date, *time, zone).is_some_and(|moment| moment <= after_us);
            let first = self.times.partition_point(is_over);
            if let Some(moment) = self.times.get(first).and_then(|time| moment_us(date, *time, zone)) {
                return Some(moment);
            }
            date = self.next_date(date.checked_add_days(Days::new(1))?)?;
        }
        None
    }
}
