//! Paths.

use segue_proto::analytics::v1::{NodeRule, PathCounting, PathNode, QueryPathRequest, QueryPathResponse, node_rule::Then};
use segue_tests::events::dimension;

use super::case::Question::Path;
use super::case::{Case, case};
use super::words::{length, on, property};

/// Nodes are events.
fn by_event() -> QueryPathRequest {
    QueryPathRequest::default()
}

/// Nodes are pages.
fn by_page() -> QueryPathRequest {
    QueryPathRequest { node: Some(dimension("page_path")), ..by_event() }
}

fn anchored(start: &str, end: &str, nodes_max: u32) -> QueryPathRequest {
    QueryPathRequest { start: start.to_owned(), end: end.to_owned(), nodes_max, ..by_page() }
}

fn rule(pattern: &str, then: Option<Then>) -> NodeRule {
    NodeRule { pattern: pattern.to_owned(), then }
}

fn called(name: &str) -> Option<Then> {
    Some(Then::Name(name.to_owned()))
}

/// `1:/a→/b (2, 60 s); …`: edges with their value and mean time.
fn edges(answer: &QueryPathResponse) -> String {
    let shown = answer.edges.iter().map(|edge| {
        let time = edge.mean_seconds.map(|seconds| format!(", {seconds} s")).unwrap_or_default();
        format!("{}:{}→{} ({}{time})", edge.step, edge.from, edge.to, edge.value)
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// `2: 1:/a 2; 2:/b 1, /c 1`: entrants, and the columns.
fn columns(answer: &QueryPathResponse) -> String {
    let steps = answer.steps.iter().map(|step| {
        let nodes: Vec<String> = step.nodes.iter().map(|PathNode { name, value }| format!("{name} {value}")).collect();
        format!("{}:{}", step.step, nodes.join(", "))
    });
    format!("{}: {}", answer.entrants, steps.collect::<Vec<_>>().join("; "))
}

pub fn cases() -> Vec<Case> {
    [sessions_and_anchors(), nodes(), columns_and_counting()].into_iter().flatten().collect()
}

fn sessions_and_anchors() -> Vec<Case> {
    let both = "1:/2→/3 (1, 60 s); 2:/3→... (1, 60 s); 3:...→/5 (1, 60 s); 4:/5→/about (1, 60 s)";
    let visits = "/1@0 /s@1m /2@2m /s@3m /e@4m /3@5m /e@6m";
    vec![
        case("edges are indexed by step", &["/1@0 /2@1m /3@3m /4@6m"])
            .asks(Path(QueryPathRequest { nodes_max: 4, ..by_page() }, edges), "1:/1→/2 (1, 60 s); 2:/2→/3 (1, 120 s); 3:/3→/4 (1, 180 s)")
            .asks(Path(QueryPathRequest { nodes_max: 4, ..by_page() }, columns), "1: 1:/1 1; 2:/2 1; 3:/3 1; 4:/4 1"),
        case("a path of both anchors keeps its ends", &["/1@0 /2@1m /3@2m /4@3m /5@4m /about@5m"])
            .asks(Path(anchored("/2", "/about", 4), edges), both),
        case("the start cuts to its first visit and after, the end to its first visit and before", &[visits])
            .asks(Path(anchored("/s", "", 0), edges), "1:/s→/2 (1, 60 s); 2:/2→/s (1, 60 s); 3:/s→/e (1, 60 s); 4:/e→/3 (1, 60 s)")
            .asks(Path(anchored("", "/e", 3), edges), "1:/2→/s (1, 60 s); 2:/s→/e (1, 60 s)")
            .asks(Path(anchored("/none", "", 3), edges), ""),
        case("a gap of exactly 30 minutes", &["/a@0 /b@30m"]).asks(Path(by_page(), edges), "1:/a→/b (1, 1800 s); 2:/b→$exit (1)"),
        case("a gap of 30 minutes and a second", &["/a@0 /b@30m1s"]).asks(Path(by_page(), edges), "1:/a→$exit (1); 1:/b→$exit (1)"),
        case("the gap can be set", &["/a@0 /b@1m /c@3m"]).asks(
            Path(QueryPathRequest { session_gap: length("1m"), ..by_page() }, edges),
            "1:/a→/b (1, 60 s); 1:/c→$exit (1); 2:/b→$exit (1)",
        ),
    ]
}

fn nodes() -> Vec<Case> {
    let tidy = QueryPathRequest {
        strip_query: true,
        strip_trailing_slash: true,
        rules: vec![
            rule("/health*", Some(Then::Hide(true))),
            rule("/", called("home")),
            rule("/product/*", None),
            rule("/product/1", called("never")),
        ],
        ..by_page()
    };
    let screens = QueryPathRequest { node: Some(dimension("screen_name")), ..by_event() };
    let plans = QueryPathRequest { node: Some(property("plan")), ..by_event() };
    let renamed = QueryPathRequest { rules: vec![rule("a*", called("any-a")), rule("noise", Some(Then::Hide(true)))], ..by_event() };
    let three = |keep_repeats| QueryPathRequest { keep_repeats, nodes_max: 3, ..by_page() };
    vec![
        case(
            "pages become nodes by the first rule",
            &["/?utm_source=x@0 /product/1?color=red@1m /product/2/@2m /health@3m /cart/@4m /cart#top@5m"],
        )
        .asks(Path(tidy, edges), "1:home→/product/* (1, 120 s); 2:/product/*→/cart (1, 180 s); 3:/cart→$exit (1)"),
        case("events are hidden after sessions are cut", &["/a@0 df_login@25m /b@50m"])
            .asks(Path(by_page(), edges), "1:/a→/b (1, 3000 s); 2:/b→$exit (1)")
            .asks(Path(QueryPathRequest { on: Some(on("df_view_page")), ..by_page() }, edges), "1:/a→$exit (1); 1:/b→$exit (1)"),
        case("names of events are nodes, renamed and hidden by rules", &["a1@0 a2@1m b@2m noise@3m"])
            .asks(Path(renamed, edges), "1:any-a→b (1, 60 s); 2:b→$exit (1)"),
        case("screens are nodes", &["x@0{screen_name=Home} y@1m{screen_name=Cart}"])
            .asks(Path(screens, edges), "1:Home→Cart (1, 60 s); 2:Cart→$exit (1)"),
        case("values of a property are nodes", &["x@0{plan=free} y@1m z@2m{plan=pro}"])
            .asks(Path(plans, edges), "1:free→pro (1, 120 s); 2:pro→$exit (1)"),
        case("equal neighbours are one, with the last time", &["/a@0 /b@1m /b@2m /b@3m /c@4m"])
            .asks(Path(three(false), edges), "1:/a→/b (1, 180 s); 2:/b→/c (1, 60 s)")
            .asks(Path(three(true), edges), "1:/a→/b (1, 60 s); 2:/b→/b (1, 60 s)"),
        case("events of one moment are in the order of the log", &["c@0 a@0 b@0"])
            .asks(Path(QueryPathRequest { nodes_max: 3, ..by_event() }, edges), "1:c→a (1, 0 s); 2:a→b (1, 0 s)"),
    ]
}

fn columns_and_counting() -> Vec<Case> {
    let first = QueryPathRequest { top: 1, nodes_max: 2, ..by_event() };
    let two_days = "/1@0 /2@1m /3@2m /1@1d /2@1d1m /3@1d2m";
    let days = |counting: PathCounting| QueryPathRequest { nodes_max: 3, counting: counting.into(), ..by_page() };
    let persons = QueryPathRequest { counting: PathCounting::Persons.into(), ..first.clone() };
    vec![
        case("what is not shown and what ends add up", &[])
            .and(5, "a@0 b@1m")
            .and(3, "a@0 c@1m")
            .and(2, "a@0")
            .asks(Path(first.clone(), edges), "1:a→b (5, 60 s); 1:a→$other (3, 60 s); 1:a→$exit (2)")
            .asks(Path(first, columns), "10: 1:a 10; 2:b 5, $other 3"),
        case("two sessions of one person", &[two_days])
            .asks(Path(days(PathCounting::Sessions), edges), "1:/1→/2 (2, 60 s); 2:/2→/3 (2, 60 s)")
            .asks(Path(days(PathCounting::Persons), edges), "1:/1→/2 (1, 60 s); 2:/2→/3 (1, 60 s)")
            .asks(Path(days(PathCounting::Persons), columns), "1: 1:/1 1; 2:/2 1; 3:/3 1"),
        case("persons are distinct in every number", &["a@0 b@1m a@1d c@1d1m a@2d d@2d1m", "a@0 b@1m a@1d b@1d1m"])
            .asks(Path(persons.clone(), edges), "1:a→b (2, 60 s); 1:a→$other (1, 60 s)")
            .asks(Path(persons, columns), "2: 1:a 2; 2:b 2, $other 1"),
    ]
}
