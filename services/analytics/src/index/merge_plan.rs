//! Which files to merge next. A pure rule over what the catalogue says.
//!
//! A file is one of three shapes, by the days that it covers: of one day, of one month, or wider (a flush of scattered days).
//! - Wide files are merged when there are enough of them, and come out as one file per month.
//! - Files of a day are merged when enough of them have about one size, so that each event is rewritten a few times only.
//! - Files of a day or month that has been over for a while are merged into one, where that is worth its rewriting.

use std::collections::BTreeMap;

use chrono::Datelike;

use super::files::FileEntry;
use super::run::Span;
use crate::config::Config;

/// Rows of all inputs of a merge that are decoded at a time: what it takes in memory, some hundred bytes each.
const DECODED_ROWS_MAX: u64 = 3_000_000;

/// A merge: indices of the files, and the days that each resulting file covers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) files: Vec<usize>,
    pub(crate) outputs: Vec<Span<i64>>,
}

/// The month of a day as (year, month); days beyond the calendar are months of their own.
fn month_of(day: i64) -> (i64, u32) {
    match day.checked_mul(86_400).and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0)) {
        Some(date) => (i64::from(date.year()), date.month()),
        None => (day, 0),
    }
}

/// The next merge, if one is worth it on `today`.
pub(crate) fn next_merge(files: &[&FileEntry], config: &Config, today: i64) -> Option<Plan> {
    wide(files, config).or_else(|| days(files, config, today)).or_else(|| months(files, config, today))
}

/// The smallest of these files that together stay within the limits.
fn within_limits(files: &[&FileEntry], mut chosen: Vec<usize>, config: &Config) -> Vec<usize> {
    chosen.sort_by_key(|at| files[*at].rows());
    let (mut rows, mut bytes, mut decoded) = (0, 0, 0);
    chosen
        .into_iter()
        .take_while(|at| {
            rows += files[*at].rows();
            bytes += files[*at].bytes;
            decoded += decoded_rows(files[*at]);
            rows <= config.merge_rows_max && bytes <= config.merge_bytes_max && decoded <= DECODED_ROWS_MAX
        })
        .collect()
}

/// Rows of a file that a merge has decoded at a time: a row group of one event.
fn decoded_rows(file: &FileEntry) -> u64 {
    file.groups.iter().map(|group| group.rows).max().unwrap_or(0)
}

fn wide(files: &[&FileEntry], config: &Config) -> Option<Plan> {
    let wide = (0..files.len()).filter(|at| month_of(files[*at].days.0) != month_of(files[*at].days.1)).collect();
    let chosen = within_limits(files, wide, config);
    if chosen.len() < config.merge_files_min {
        return None;
    }
    let first = chosen.iter().map(|at| files[*at].days.0).min()?;
    let last = chosen.iter().map(|at| files[*at].days.1).max()?;
    let mut outputs: Vec<Span<i64>> = Vec::new();
    let mut start = first;
    while start <= last {
        let month = month_of(start);
        let mut end = start;
        while end < last && month_of(end + 1) == month {
            end += 1;
        }
        outputs.push((start, end));
        start = end + 1;
    }
    Some(Plan { files: chosen, outputs })
}

fn days(files: &[&FileEntry], config: &Config, today: i64) -> Option<Plan> {
    let mut by_day: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (at, file) in files.iter().enumerate().filter(|(_, file)| file.days.0 == file.days.1) {
        by_day.entry(file.days.0).or_default().push(at);
    }
    for (day, of_day) in by_day {
        let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for at in &of_day {
            classes.entry(files[*at].rows().max(1).ilog2() / 3).or_default().push(*at);
        }
        let same_size =
            classes.into_values().map(|class| within_limits(files, class, config)).find(|class| class.len() >= config.merge_files_min);
        let over = || {
            let chosen = within_limits(files, of_day.clone(), config);
            (day < today - 1 && is_worth(files, &chosen, config)).then_some(chosen)
        };
        if let Some(chosen) = same_size.or_else(over) {
            return Some(Plan { files: chosen, outputs: vec![(day, day)] });
        }
    }
    None
}

fn months(files: &[&FileEntry], config: &Config, today: i64) -> Option<Plan> {
    let mut by_month: BTreeMap<(i64, u32), Vec<usize>> = BTreeMap::new();
    for (at, file) in files.iter().enumerate().filter(|(_, file)| month_of(file.days.0) == month_of(file.days.1)) {
        by_month.entry(month_of(file.days.0)).or_default().push(at);
    }
    let settled = month_of(today - i64::from(config.month_after_days));
    for (month, of_month) in by_month {
        let chosen = within_limits(files, of_month, config);
        if month < settled && is_worth(files, &chosen, config) {
            let first = chosen.iter().map(|at| files[*at].days.0).min()?;
            let last = chosen.iter().map(|at| files[*at].days.1).max()?;
            return Some(Plan { files: chosen, outputs: vec![(first, last)] });
        }
    }
    None
}

/// Many files, or the small ones together are a good part of the largest: late events do not rewrite a month each time.
fn is_worth(files: &[&FileEntry], chosen: &[usize], config: &Config) -> bool {
    let rows: u64 = chosen.iter().map(|at| files[*at].rows()).sum();
    let largest = chosen.iter().map(|at| files[*at].rows()).max().unwrap_or(0);
    chosen.len() >= config.merge_files_min || chosen.len() >= 2 && (rows - largest).saturating_mul(4) >= largest
}

#[cfg(test)]
mod tests {
    use super::super::files::Group;
    use super::*;

    /// 2026-11-22.
    const TODAY: i64 = 20_779;

    fn file(days: Span<i64>, rows: u64) -> FileEntry {
        let group = Group { event: "e".into(), rows, persons: (1, 1), ts: (0, 0) };
        FileEntry { name: String::new(), days, bytes: rows, footer_bytes: 0, footer_checksum: 0, groups: vec![group] }
    }

    fn plan(files: &[FileEntry], config: &Config) -> Option<Plan> {
        next_merge(&files.iter().collect::<Vec<_>>(), config, TODAY)
    }

    #[test]
    fn files_of_one_size_are_merged_and_the_large_one_of_the_day_is_left() {
        let config = Config { merge_files_min: 3, ..Config::default() };
        let mut files = vec![file((TODAY, TODAY), 1_000_000), file((TODAY, TODAY), 100), file((TODAY, TODAY), 110)];
        assert_eq!(plan(&files, &config), None);
        files.push(file((TODAY, TODAY), 120));
        assert_eq!(plan(&files, &config), Some(Plan { files: vec![1, 2, 3], outputs: vec![(TODAY, TODAY)] }));
    }

    #[test]
    fn old_days_become_months_within_the_limit() {
        let config = Config { merge_rows_max: 250, ..Config::default() };
        let old = TODAY - 60;
        let files = vec![file((old, old), 100), file((old + 1, old + 1), 100), file((old + 2, old + 2), 100)];
        assert_eq!(plan(&files, &config), Some(Plan { files: vec![0, 1], outputs: vec![(old, old + 1)] }));
        assert_eq!(plan(&[file((TODAY - 1, TODAY - 1), 9), file((TODAY, TODAY), 9)], &config), None);
    }

    #[test]
    fn a_late_event_does_not_rewrite_a_month() {
        let config = Config::default();
        let old = TODAY - 60;
        assert_eq!(plan(&[file((old, old + 20), 100_000), file((old, old), 1)], &config), None);
    }

    #[test]
    fn wide_files_are_cut_by_month() {
        let config = Config { merge_files_min: 2, ..Config::default() };
        // 2026-11-22 − 40 days = 2026-10-13.
        let files = vec![file((TODAY - 40, TODAY), 10), file((TODAY - 30, TODAY - 10), 10)];
        let outputs = vec![(TODAY - 40, TODAY - 22), (TODAY - 21, TODAY)];
        assert_eq!(plan(&files, &config), Some(Plan { files: vec![0, 1], outputs }));
    }
}
