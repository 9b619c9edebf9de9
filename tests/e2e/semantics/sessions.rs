//! Sessions: cut as for paths, counted where they start.

use segue_proto::analytics::v1::{Grain, QuerySessionsRequest, QuerySessionsResponse, SessionFigures, SessionGroup};
use segue_tests::events::dimension;

use super::case::Question::Sessions;
use super::case::{Case, case};
use super::words::{length, on, span};
use super::{group_key, now_less};

fn month() -> QuerySessionsRequest {
    QuerySessionsRequest::default()
}

fn within(start: &str, end: &str) -> QuerySessionsRequest {
    QuerySessionsRequest { range: span(start, end), ..month() }
}

fn figures(answer: &QuerySessionsResponse) -> SessionFigures {
    answer.total.as_ref().and_then(|total| total.total).unwrap_or_default()
}

/// `2 of 1, 3 events, 1 bounce`: sessions of persons.
fn counts(answer: &QuerySessionsResponse) -> String {
    of_figures(&figures(answer))
}

fn of_figures(found: &SessionFigures) -> String {
    format!("{} of {}, {} events, {} bounced", found.sessions, found.persons, found.events, found.bounces)
}

/// Bounce rate; mean and median duration; events per session; sessions per person.
fn rates(answer: &QuerySessionsResponse) -> String {
    let found = figures(answer);
    let rates =
        [found.bounce_rate, found.duration_mean_seconds, found.duration_median_seconds, found.events_mean, found.sessions_per_person];
    rates.map(|rate| rate.map_or_else(|| "none".to_owned(), |rate| rate.to_string())).join(" ")
}

fn open(answer: &QuerySessionsResponse) -> String {
    figures(answer).still_open.to_string()
}

/// Sessions per group and period.
fn groups(answer: &QuerySessionsResponse) -> String {
    let shown = |group: &SessionGroup| {
        let periods = group.periods.iter().map(|period| period.figures.unwrap_or_default().sessions.to_string());
        let total = of_figures(&group.total.unwrap_or_default());
        format!("{}: {total} [{}]", group_key(group.key.as_ref()), periods.collect::<Vec<_>>().join(" "))
    };
    answer.groups.iter().map(shown).collect::<Vec<_>>().join("; ")
}

pub fn cases() -> Vec<Case> {
    let by_platform =
        QuerySessionsRequest { group_by: vec![dimension("platform")], top: 2, grain: Grain::Hour.into(), ..within("0", "5h") };
    let quarters = "v@-1h v@-45m v@-30m v@-15m v@0 v@15m v@30m v@45m v@1h v@2h";
    vec![
        case("a pause as long as the gap is inside, a longer one ends the session", &["v@0 v@30m", "v@0 v@30m1us"])
            .asks(Sessions(month(), counts), "3 of 2, 4 events, 2 bounced")
            .asks(Sessions(QuerySessionsRequest { gap: length("29m"), ..month() }, counts), "4 of 2, 4 events, 4 bounced")
            .asks(Sessions(QuerySessionsRequest { gap: length("31m"), ..month() }, counts), "2 of 2, 4 events, 0 bounced"),
        case("figures are over the sessions", &["v@0 v@10 v@40 v@2h", "v@0 v@0", "v@1h v@1h20s"])
            .asks(Sessions(month(), counts), "4 of 3, 8 events, 1 bounced")
            .asks(Sessions(month(), rates), "0.25 15 10 2 1.3333333333333333"),
        case("a session belongs to where it starts", &[quarters])
            .asks(Sessions(within("-1h", "-59m"), counts), "1 of 1, 9 events, 0 bounced")
            .asks(Sessions(within("-59m", "2h"), counts), "0 of 0, 0 events, 0 bounced")
            .asks(Sessions(within("-59m", "2h1s"), counts), "1 of 1, 1 events, 1 bounced")
            .asks(Sessions(within("-2h", "3h"), counts), "2 of 1, 10 events, 1 bounced"),
        case("only the selected events make up sessions", &["v@0 ping@25m v@50m"])
            .asks(Sessions(month(), counts), "1 of 1, 3 events, 0 bounced")
            .asks(Sessions(QuerySessionsRequest { on: Some(on("v")), ..month() }, counts), "2 of 1, 2 events, 2 bounced"),
        case(
            "groups are by the first event, and the rest counts persons once",
            &[
                "v@0{platform=web} v@1{platform=ios} v@2h{platform=ios} v@4h{platform=tv}",
                "v@0{platform=web} v@2h v@2h1s{platform=web}",
                "v@0{platform=tv}",
            ],
        )
        .asks(
            Sessions(by_platform, groups),
            "tv: 2 of 2, 2 events, 2 bounced [1 0 0 0 1]; web: 2 of 2, 3 events, 1 bounced [2 0 0 0 0]; \
             …: 2 of 2, 3 events, 1 bounced [0 0 2 0 0]",
        ),
        case("a session may go on at the watermark", &["browse@50m", "browse@0 browse@10m", "browse@0 browse@29m browse@58m"])
            .at(now_less("1h"))
            .asks(Sessions(QuerySessionsRequest { on: Some(on("browse")), ..within("0", "1h") }, counts), "3 of 3, 6 events, 1 bounced")
            .asks(Sessions(QuerySessionsRequest { on: Some(on("browse")), ..within("0", "1h") }, open), "2"),
    ]
}
