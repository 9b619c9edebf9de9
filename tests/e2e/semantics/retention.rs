//! Retention.

use segue_proto::analytics::v1::{
    CohortEntry, Grain, QueryRetentionRequest, QueryRetentionResponse, RetentionAlignment, RetentionBracket, RetentionBreakdown,
    RetentionCell, RetentionGroup, RetentionMode,
};
use segue_tests::events::dimension;

use super::case::Question::Retention;
use super::case::{Case, case, joined};
use super::words::{is, on, on_filtered, span};
use super::{group_key, noon};

/// Who comes back to `open`, over so many days.
fn daily(days: usize) -> QueryRetentionRequest {
    QueryRetentionRequest { range: span("0", &format!("{days}d")), start: Some(on("open")), ..Default::default() }
}

/// Cells 0 and 1 of `visit` and `return`.
fn first_two(end: &str, grain: Grain, alignment: RetentionAlignment) -> QueryRetentionRequest {
    QueryRetentionRequest {
        range: span("0", end),
        start: Some(on("visit")),
        returning: Some(on("return")),
        grain: grain.into(),
        alignment: alignment.into(),
        cells: 2,
        ..Default::default()
    }
}

/// A cell that is not complete has a question mark before what is known of it.
fn cell(cell: &RetentionCell) -> String {
    match cell.returned {
        Some(returned) => returned.to_string(),
        None => format!("?{}", cell.provisional),
    }
}

fn of_group(group: &RetentionGroup) -> String {
    let cohorts = group.cohorts.iter().map(|cohort| joined(&cohort.cells.iter().map(cell).collect::<Vec<_>>()));
    cohorts.collect::<Vec<_>>().join(" | ")
}

fn cells(answer: &QueryRetentionResponse) -> String {
    answer.total.as_ref().map(of_group).unwrap_or_default()
}

fn first_cohort(answer: &QueryRetentionResponse) -> String {
    cells(answer).split(" | ").next().unwrap_or_default().to_owned()
}

fn sizes(answer: &QueryRetentionResponse) -> String {
    joined(&answer.total.iter().flat_map(|total| &total.cohorts).map(|cohort| cohort.size).collect::<Vec<_>>())
}

fn groups(answer: &QueryRetentionResponse) -> String {
    let shown = answer.groups.iter().map(|group| format!("{}: {}", group_key(group.key.as_ref()), of_group(group)));
    shown.collect::<Vec<_>>().join("; ")
}

fn averages(answer: &QueryRetentionResponse) -> String {
    let averages = answer.total.iter().flat_map(|total| &total.average);
    let shown = averages.map(|average| {
        let rate = average.rate.map_or_else(|| "none".to_owned(), |rate| rate.to_string());
        format!("{}/{} = {rate}", average.returned, average.size)
    });
    shown.collect::<Vec<_>>().join("; ")
}

pub fn cases() -> Vec<Case> {
    [cohorts(), alignments(), averages_and_groups()].into_iter().flatten().collect()
}

fn cohorts() -> Vec<Case> {
    let on_or_after = QueryRetentionRequest { mode: RetentionMode::OnOrAfter.into(), ..daily(6) };
    let brackets = [(0, 1), (1, 3), (3, 6), (6, 9)].map(|(start, end)| RetentionBracket { start, end });
    let bracket =
        |returns_min| QueryRetentionRequest { mode: RetentionMode::Bracket.into(), brackets: brackets.to_vec(), returns_min, ..daily(6) };
    let of_ios = || is(dimension("platform"), "ios");
    let entered =
        |entry: CohortEntry| QueryRetentionRequest { entry: entry.into(), start: Some(on_filtered("open", of_ios())), ..daily(4) };
    let twice_back = QueryRetentionRequest { start: Some(on("begin")), returning: Some(on("back")), returns_min: 2, ..daily(2) };
    let twice = QueryRetentionRequest { returns_min: 2, ..daily(7) };
    vec![
        case(
            "recurring cohorts by day",
            &["open@12h open@36h open@60h open@132h open@132h open@156h", "open@36h open@60h open@84h open@156h"],
        )
        .asks(Retention(daily(7), cells), "1 1 1 0 0 1 1 | 2 2 1 0 1 2 | 2 1 0 1 2 | 1 0 0 1 | 0 0 0 | 1 1 | 2")
        .asks(Retention(twice, cells), "1 0 0 0 0 1 0 | 2 0 0 0 1 0 | 2 0 0 1 0 | 1 0 0 0 | 0 0 0 | 1 0 | 2"),
        case(
            "on a day or after it",
            &["open@0 open@3d open@4d", "open@0 open@1d", "open@1d open@2d open@3d", "open@3d open@4d", "open@4d"],
        )
        .asks(Retention(on_or_after, cells), "2 2 1 1 1 0 | 2 1 1 0 0 | 1 1 0 0 | 3 2 0 | 3 0 | 0"),
        case("brackets sum their buckets", &["open@0 open@1d open@2d open@4d"])
            .asks(Retention(bracket(1), first_cohort), "0 1 1")
            .asks(Retention(bracket(2), first_cohort), "0 1 0")
            .asks(Retention(bracket(3), first_cohort), "0 0 0"),
        case("how many returns are needed is of returns alone", &["begin back@1d back@25h", "begin begin@1h back@1d"])
            .asks(Retention(twice_back, cells), "2 1 | 0"),
        case(
            "which start makes somebody a member",
            &[
                "open@0{platform=web} open@1d{platform=ios} open@3d{platform=ios}",
                // Long before the range, which is what makes it the first ever.
                "open@-20d{platform=ios} open@2d{platform=ios}",
                "open@2d{platform=ios} open@3d{platform=ios}",
            ],
        )
        .asks(Retention(entered(CohortEntry::Recurring), sizes), "0 1 2 2")
        .asks(Retention(entered(CohortEntry::FirstMatching), sizes), "0 1 2 0")
        .asks(Retention(entered(CohortEntry::FirstEver), sizes), "0 0 1 0"),
    ]
}

fn alignments() -> Vec<Case> {
    use RetentionAlignment::{Calendar, Rolling};
    let both = |name, start: &str, stream: &str, end: &str, grain: Grain| {
        case(name, &[stream])
            .at(start)
            .asks(Retention(first_two(end, grain, Calendar), first_cohort), "1 1")
            .asks(Retention(first_two(end, grain, Rolling), first_cohort), "1 0")
    };
    let in_seoul = || QueryRetentionRequest { time_zone: "Asia/Seoul".to_owned(), ..first_two("48h", Grain::Day, Calendar) };
    vec![
        both("a visit at 23:45 and a return at 00:01", "2016-11-02T23:45:00Z", "visit return@16m", "24h15m", Grain::Day)
            // In Seoul both are on one day.
            .asks(Retention(in_seoul(), first_cohort), "1 0"),
        both("Monday 20:00 and Tuesday 06:00", "2016-11-07T20:00:00Z", "visit return@10h", "28h", Grain::Day),
        both("Friday and Monday", "2016-11-11T10:00:00Z", "visit return@3d", "10d", Grain::Week),
        both("25 February and 3 March", "2017-02-25T10:00:00Z", "visit return@6d", "34d14h", Grain::Month),
        both("the end of an hour", "2016-12-02T23:45:00Z", "visit return@16m", "1h15m", Grain::Hour),
        case("the days are those of the tenant's zone", &["visit return@16m", "visit@-9h return@-8h44m"])
            .at("2016-11-02T23:45:00Z")
            .in_seoul()
            .asks(
                Retention(QueryRetentionRequest { range: span("-9h45m", "39h15m"), ..first_two("0", Grain::Day, Calendar) }, cells),
                "1 1 | 1 0 | 0",
            ),
    ]
}

fn averages_and_groups() -> Vec<Case> {
    // Days of a zone in which it is about noon, so that no day ends while the test runs. Today is the fourth.
    let (zone, start) = noon("3d");
    let average = QueryRetentionRequest { start: Some(on("plays")), time_zone: zone, entry: CohortEntry::FirstMatching.into(), ..daily(4) };
    let by = |entry: CohortEntry, top| QueryRetentionRequest {
        entry: entry.into(),
        breakdown: Some(RetentionBreakdown { field: Some(dimension("platform")), top }),
        ..daily(3)
    };
    vec![
        case("the average is pooled over complete cells", &[])
            .and(500, "plays@0 plays@1d")
            .and(500, "plays@0")
            .and(400, "plays@1d plays@2d")
            .and(100, "plays@1d")
            .and(600, "plays@2d")
            .and(100, "plays@2d plays@3d")
            .at(start)
            .asks(Retention(average.clone(), cells), "1000 500 0 ?0 | 500 400 ?0 | 700 ?100 | ?0")
            .asks(Retention(average, averages), "2200/2200 = 1; 900/1500 = 0.6; 0/1000 = 0; 0/0 = none"),
        case(
            "a breakdown has the value at cohort entry",
            &[
                "open@0{platform=ios} open@1d{platform=web}",
                "open@0{platform=web} open@1d{platform=web}",
                "open@0{platform=web}",
                "open@1d",
                "open@0{platform=android} open@2d{platform=android}",
            ],
        )
        .asks(
            Retention(by(CohortEntry::FirstMatching, 0), groups),
            "web: 2 1 0 | 0 0 | 0; android: 1 0 1 | 0 0 | 0; ios: 1 1 0 | 0 0 | 0; ∅: 0 0 0 | 1 0 | 0",
        )
        .asks(Retention(by(CohortEntry::FirstMatching, 2), groups), "web: 2 1 0 | 0 0 | 0; android: 1 0 1 | 0 0 | 0; …: 1 1 0 | 1 0 | 0"),
    ]
}
