//! Conditions: who meets them, at the start of the case where no other moment is named.

use segue_proto::events::v1::value::Kind;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Attribute, Behavior, BehaviorAggregate, Condition, EventSequence, ItemMatch, Operator, RandomBucket, Span, TimeUnit, Touch,
};
use segue_tests::events::dimension;

use super::case::Question::{Set, Who, WhoIn};
use super::case::{Case, case};
use super::words::{
    absolute, acquired, all, any, behavior, compare, compare_items, compared, condition, did, is, item_property, last, not, on,
    on_filtered, property, text, time, value, within,
};

/// When the cases begin. Streams tell what was before.
const NOW: &str = "2024-11-22T12:00:00Z";

fn plan(operator: Operator, values: &[&str], as_of: Option<&str>) -> Condition {
    let values = values.iter().map(|one| value(text(one))).collect();
    let as_of = as_of.map(time);
    condition(Node::Attribute(Attribute { r#trait: "plan".to_owned(), operator: operator.into(), values, as_of }))
}

fn points(operator: Operator, number: i64) -> Condition {
    let values = vec![value(Kind::IntValue(number))];
    condition(Node::Attribute(Attribute { r#trait: "points".to_owned(), operator: operator.into(), values, as_of: None }))
}

fn bucket(from: u32, to: u32) -> Condition {
    condition(Node::RandomBucket(RandomBucket { salt: "semantics".to_owned(), from, to }))
}

/// Of this name, at the start of the case.
fn asked(name: &'static str, persons: &[&str], condition: Condition, expected: &str) -> Case {
    case(name, persons).at(NOW).asks(Who(condition, "0"), expected)
}

pub fn cases() -> Vec<Case> {
    [acceptance(), acceptance_of_items(), windows(), aggregates(), aggregates_of_fields(), sequences(), persons()]
        .into_iter()
        .flatten()
        .collect()
}

fn acceptance() -> Vec<Case> {
    let opened = || did(within(behavior("df_app_open"), 3, TimeUnit::Month));
    let never = |events| not(did(behavior(events)));
    let ads = is(dimension("channel_group"), "search_ad display_ad");
    let keywords = compare(item_property("item_name"), Operator::Contains, vec![text("stroller"), text("cradle")]);
    let bought = did(Behavior { on: Some(on_filtered("purchase", keywords)), ..Default::default() });
    let searched = acquired(Touch::Last, last(1, TimeUnit::Month), is(dimension("channel_group"), "search_ad"));
    vec![
        asked(
            "S1 opened in three months and never signed up",
            &[
                "df_app_open@-21d",
                "df_app_open@-21d df_sign_up@-1700d",
                // Three months before now is outside, a microsecond later inside.
                "df_app_open@2024-08-22T12:00:00Z",
                "df_app_open@2024-08-22T12:00:00.000001Z",
                "df_view_home@-300d",
            ],
            all([opened(), never("df_sign_up")]),
            "1 4",
        ),
        asked(
            "S2 acquired through ads in the last month and not signed up",
            &[
                "df_app_open@-21d{channel_group=display_ad}",
                "df_app_open@-21d{channel_group=display_ad} df_sign_up@-20d",
                "df_app_open@-52d{channel_group=display_ad}",
                "df_app_open@-21d{channel_group=organic}",
                "df_view_home@-300d",
            ],
            all([acquired(Touch::First, last(1, TimeUnit::Month), ads), never("df_sign_up")]),
            "1",
        ),
        asked(
            "S3 acquired through search ads and bought nothing of given keywords",
            &[
                "df_app_open@-21d{channel_group=search_ad}",
                "df_app_open@-21d{channel_group=search_ad} df_purchase@-20d{items=baby/blue-stroller:10*1}",
                "df_app_open@-21d{channel_group=search_ad} df_purchase@-20d{items=baby/red-car:10*1}",
                "df_purchase@-20d{items=baby/red-car:10*1}",
            ],
            all([searched, not(bought)]),
            "1 3",
        ),
        asked(
            "S4 opened in three months and did not buy in that time",
            &["df_app_open@-21d df_purchase@-260d", "df_app_open@-21d df_purchase@-21d", "df_view_home@-300d"],
            all([opened(), not(did(within(behavior("df_purchase"), 3, TimeUnit::Month)))]),
            "1",
        ),
    ]
}

fn acceptance_of_items() -> Vec<Case> {
    let childcare = Behavior { items: Some(is(item_property("category1"), "childcare")), ..behavior("df_purchase") };
    let spent = |operator, amount| {
        compared(within(childcare.clone(), 6, TimeUnit::Month), BehaviorAggregate::Sum, operator, &[Kind::IntValue(amount)])
    };
    let else_bought = |operator, items| {
        let filter = compare_items(item_property("category1"), operator, vec![text("jewellery")], items);
        let bought = did(Behavior { on: Some(on_filtered("df_purchase", filter)), ..Default::default() });
        all([acquired(Touch::Unspecified, None, is(dimension("ad_campaign"), "jewellery")), bought])
    };
    vec![
        case(
            "S5 a million spent on childcare in six months",
            &[
                "df_purchase@-21d{items=childcare:999999*1;toys:500000*3}",
                "df_purchase@-21d{items=childcare:500000*1} df_purchase@-20d{items=toys:1*1;childcare:250000*2}",
                "df_purchase@-21d{items=toys:2000000*1}",
                // Half of it has left the window.
                "df_purchase@2024-05-22T12:00:00Z{items=childcare:500000*1} df_purchase@2024-06-01T00:00:00Z{items=childcare:500000*1}",
                "df_purchase@-21d{items=childcare:1000000*}",
            ],
        )
        .at(NOW)
        .asks(Who(spent(Operator::GreaterOrEqual, 1_000_000), "0"), "2")
        .asks(Who(spent(Operator::GreaterOrEqual, 999_999), "0"), "1 2")
        .asks(Who(spent(Operator::In, 0), "0"), "3 5"),
        case(
            "S6 bought something else, or no jewellery",
            &[
                "df_ad_response@-21d{ad_campaign=jewellery} df_purchase@-20d{items=jewellery:10*1}",
                "df_ad_response@-21d{ad_campaign=jewellery} df_purchase@-20d{items=jewellery:10*1;shoes:10*1}",
                "df_ad_response@-21d{ad_campaign=jewellery} df_purchase@-20d{items=shoes:10*1}",
                "df_ad_response@-21d{ad_campaign=jewellery} df_purchase@-20d",
                "df_ad_response@-21d{ad_campaign=jewellery}",
                "df_purchase@-20d{items=shoes:10*1}",
            ],
        )
        .at(NOW)
        .asks(Who(else_bought(Operator::NotIn, ItemMatch::Any), "0"), "2 3")
        .asks(Who(else_bought(Operator::In, ItemMatch::None), "0"), "3 4")
        .asks(Who(else_bought(Operator::NotIn, ItemMatch::All), "0"), "3"),
    ]
}

fn windows() -> Vec<Case> {
    let opened = || did(within(behavior("df_app_open"), 7, TimeUnit::Day));
    let november = Behavior { window: absolute("2024-11-01T00:00:00Z", "2024-11-10T00:00:00Z"), ..behavior("seen") };
    vec![
        case("a member leaves by itself when the event leaves the window", &["df_app_open@0"])
            .at(NOW)
            .asks(Who(opened(), "-1us"), "")
            .asks(Who(opened(), "0"), "1")
            .asks(Who(opened(), "6d23h59m59s999999us"), "1")
            .asks(Who(opened(), "7d"), "")
            .asks(Who(not(opened()), "6d23h59m59s999999us"), "")
            .asks(Who(not(opened()), "7d"), "1"),
        case(
            "an absolute window is half-open and ends with now",
            &[
                "seen@2024-11-01T00:00:00Z",
                "seen@2024-10-31T23:59:59.999999Z",
                "seen@2024-11-10T00:00:00Z",
                "seen@2024-11-09T23:59:59.999999Z",
            ],
        )
        .at(NOW)
        .asks(Who(did(november.clone()), "0"), "1 4")
        .asks(Who(did(november), "2024-11-05T00:00:00Z"), "1"),
        case("never ranges over all known persons", &["thing@-21d", "other@-200d", "thing@1d"])
            .at(NOW)
            .asks(Who(did(behavior("thing")), "0"), "1")
            .asks(Who(not(did(behavior("thing"))), "0"), "2 3")
            .asks(Who(not(did(behavior("unheard-of"))), "0"), "1 2 3")
            .asks(Who(compared(behavior("thing"), BehaviorAggregate::Count, Operator::Less, &[Kind::IntValue(1)]), "0"), "2 3")
            .asks(Who(all([]), "0"), "1 2 3")
            .asks(Who(any([]), "0"), "")
            .asks(Who(any([did(behavior("thing")), did(behavior("other"))]), "0"), "1 2"),
    ]
}

fn aggregates() -> Vec<Case> {
    use BehaviorAggregate::{Count, DistinctDays, FirstTime, LastTime, Max, Min, Sum};
    let of_goods = |aggregate, operator, values: &[Kind]| Who(compared(behavior("df_purchase"), aggregate, operator, values), "0");
    let moment = |text| Kind::TimestampValue(time(text));
    let int = Kind::IntValue;
    let days = || compared(behavior("night"), DistinctDays, Operator::GreaterOrEqual, &[int(2)]);
    vec![
        case(
            "aggregates are compared exactly",
            &[
                "df_purchase@2024-11-01T22:00:00Z{items=shoes:10*1} df_purchase@2024-11-01T23:30:00Z{items=shoes:20*1} \
                 df_purchase@2024-11-05T10:00:00Z{items=shoes:5*1}",
                "df_purchase@2024-11-03T10:00:00Z{items=shoes:30*1}",
                "df_view_home@-300d",
            ],
        )
        .at(NOW)
        .asks(of_goods(Count, Operator::GreaterOrEqual, &[int(3)]), "1")
        .asks(of_goods(Count, Operator::Between, &[int(1), int(3)]), "2")
        .asks(of_goods(Sum, Operator::In, &[int(35)]), "1")
        .asks(of_goods(Sum, Operator::Less, &[Kind::DecimalE4Value(350_000)]), "2 3")
        .asks(of_goods(Min, Operator::LessOrEqual, &[int(5)]), "1")
        .asks(of_goods(Max, Operator::Greater, &[Kind::DoubleValue(19.5)]), "1 2")
        .asks(of_goods(Max, Operator::NotExists, &[]), "3")
        .asks(of_goods(DistinctDays, Operator::In, &[int(2)]), "1")
        .asks(of_goods(FirstTime, Operator::Less, &[moment("2024-11-02T00:00:00Z")]), "1")
        .asks(of_goods(LastTime, Operator::Less, &[moment("2024-11-05T10:00:00Z")]), "2")
        .asks(of_goods(LastTime, Operator::LessOrEqual, &[moment("2024-11-05T10:00:00Z")]), "1 2"),
        case("days are those of the zone that is asked for", &["night@2024-11-01T23:30:00Z night@2024-11-02T00:30:00Z"])
            .asks(WhoIn(days(), "UTC"), "1")
            .asks(WhoIn(days(), "Asia/Seoul"), ""),
    ]
}

fn aggregates_of_fields() -> Vec<Case> {
    use BehaviorAggregate::{Count, DistinctCount, FirstValue, LastValue, Max, Min, Sum};
    let of_plan = |aggregate, operator, values: &[Kind]| {
        Who(compared(Behavior { field: Some(property("plan")), ..behavior("changed") }, aggregate, operator, values), "0")
    };
    let of_size = |aggregate, operator, number| {
        let paid = Behavior { field: Some(property("size")), ..behavior("paid") };
        Who(compared(paid, aggregate, operator, &[Kind::IntValue(number)]), "0")
    };
    let of_shoes = |field: Option<&str>, aggregate, number| {
        let items = Some(is(item_property("category1"), "shoes"));
        let bought = Behavior { items, field: field.map(item_property), ..behavior("df_purchase") };
        Who(compared(bought, aggregate, Operator::In, &[Kind::IntValue(number)]), "0")
    };
    vec![
        case("sums, least and greatest of a property", &["paid@-2d{size=2} paid@-1d{size=3} paid@-1d", "paid@-1d{size=9}", "paid@-1d"])
            .at(NOW)
            .asks(of_size(Sum, Operator::In, 5), "1")
            .asks(of_size(Sum, Operator::In, 0), "3")
            .asks(of_size(Min, Operator::Less, 3), "1")
            .asks(of_size(Max, Operator::GreaterOrEqual, 3), "1 2"),
        case(
            "first and last values, at one time by the order of the log",
            &["changed@-3d{plan=free} changed@-2d{plan=pro} changed@-1d", "changed@-2d{plan=pro} changed@-2d{plan=free}", "changed@-1d"],
        )
        .at(NOW)
        .asks(of_plan(FirstValue, Operator::In, &[text("free")]), "1")
        .asks(of_plan(LastValue, Operator::In, &[text("free")]), "2")
        .asks(of_plan(LastValue, Operator::StartsWith, &[text("p")]), "1")
        .asks(of_plan(LastValue, Operator::NotExists, &[]), "3")
        .asks(of_plan(DistinctCount, Operator::GreaterOrEqual, &[Kind::IntValue(2)]), "1 2"),
        case(
            "aggregates of items take the items that match",
            &[
                "df_purchase@-3d{items=shoes:10*1;toys:1*1;shoes:30*1} df_purchase@-2d{items=toys:2*1}",
                "df_purchase@-2d{items=shoes:7*1;shoes:9*1}",
                "df_purchase@-2d{items=toys:7*1}",
            ],
        )
        .at(NOW)
        .asks(of_shoes(None, Count, 1), "1 2")
        .asks(of_shoes(Some("price"), Min, 10), "1")
        .asks(of_shoes(Some("price"), Max, 9), "2")
        .asks(of_shoes(None, Sum, 40), "1")
        .asks(of_shoes(None, Sum, 16), "2"),
    ]
}

fn sequences() -> Vec<Case> {
    let sequence = |steps: &str, count, unit: TimeUnit| EventSequence {
        steps: steps.split_whitespace().map(on).collect(),
        within: Some(Span { count, unit: unit.into() }),
        ..Default::default()
    };
    let in_order = |sequence| condition(Node::Sequence(sequence));
    let bought = sequence("look buy", 1, TimeUnit::Day);
    let recently = EventSequence { window: last(21, TimeUnit::Day), ..bought.clone() };
    let kept = EventSequence { not_between: Some(on("remove")), ..sequence("put buy", 1, TimeUnit::Hour) };
    vec![
        case(
            "one then the other within a day, inclusive",
            &["look@-21d buy@-20d", "look@-21d buy@-19d23h59m59s999999us", "buy@-21d look@-20d23h", "buy@-21d look@-21d"],
        )
        .at(NOW)
        .asks(Who(in_order(bought.clone()), "0"), "1 4")
        .asks(Who(not(in_order(bought)), "0"), "2 3")
        .asks(Who(in_order(recently.clone()), "0"), "")
        .asks(Who(in_order(recently), "-1us"), "1 4"),
        asked(
            "not with another between",
            &[
                "put@-3d remove@-2d23h59m buy@-2d23h58m",
                "put@-3d remove@-2d23h59m put@-2d23h58m buy@-2d23h57m",
                "put@-3d buy@-2d23h58m remove@-2d23h58m",
            ],
            in_order(kept),
            "2 3",
        ),
    ]
}

fn persons() -> Vec<Case> {
    let campaign = |touch, name: &str| acquired(touch, None, is(dimension("utm_campaign"), name));
    let none = acquired(Touch::Last, None, compare(dimension("utm_campaign"), Operator::NotExists, vec![]));
    vec![
        case(
            "attributes now and as of a moment",
            &[
                "identify@2024-11-01T00:00:00Z{plan=free} identify@2024-11-10T00:00:00Z{plan=pro} identify@2024-11-25T00:00:00Z{plan=late}",
                "df_view_home@-30d",
                "df_view_home@-30d identify@-1d{plan=free}",
            ],
        )
        .at(NOW)
        .asks(Who(plan(Operator::In, &["free"], None), "0"), "3")
        .asks(Who(plan(Operator::In, &["pro"], None), "0"), "1")
        .asks(Who(plan(Operator::NotIn, &["pro"], None), "0"), "2 3")
        .asks(Who(plan(Operator::NotExists, &[], None), "0"), "2")
        .asks(Who(plan(Operator::In, &["free"], Some("2024-11-09T23:59:59.999999Z")), "0"), "1")
        .asks(Who(plan(Operator::In, &["pro"], Some("2024-11-10T00:00:00Z")), "0"), "1")
        .asks(Who(plan(Operator::In, &["pro"], Some("2024-12-01T00:00:00Z")), "0"), "1")
        .asks(Who(plan(Operator::In, &["late"], None), "2024-11-25T00:00:00Z"), "1"),
        case(
            "attributes are compared by their type",
            &["identify@-3d{points=10} identify@-1d{points=30} identify@-2d{points=20}", "identify@-1d{points=9}"],
        )
        .at(NOW)
        .asks(Who(points(Operator::GreaterOrEqual, 30), "0"), "1")
        .asks(Who(points(Operator::Less, 10), "0"), "2"),
        case(
            "the first and the last touch",
            &[
                "df_app_open@-21d{utm_campaign=spring} df_view_home@-20d{utm_campaign=autumn} df_app_open@-19d{platform=ios}",
                "df_app_open@-20d{ad_partner=acme,ad_keyword=ring}",
                "df_app_open@-20d{platform=ios}",
            ],
        )
        .at(NOW)
        .asks(Who(campaign(Touch::First, "spring"), "0"), "1")
        .asks(Who(campaign(Touch::Last, "spring"), "0"), "")
        .asks(Who(campaign(Touch::Last, "autumn"), "0"), "1")
        .asks(Who(none, "0"), "2")
        .asks(Who(acquired(Touch::Last, None, is(dimension("ad_partner"), "acme other")), "0"), "2")
        .asks(Who(acquired(Touch::First, None, is(dimension("ad_keyword"), "ring")), "0"), "2"),
        case("buckets part persons", &["df_view_home"; 12])
            .asks(Who(bucket(0, 10_000), ""), "1 2 3 4 5 6 7 8 9 10 11 12")
            .asks(Who(any([bucket(0, 3_000), bucket(3_000, 10_000)]), ""), "1 2 3 4 5 6 7 8 9 10 11 12")
            .asks(Who(all([bucket(0, 3_000), bucket(3_000, 10_000)]), ""), ""),
        case("membership of a set that another service knows", &["joined", "joined", "left"])
            .asks(Set(did(behavior("joined")), true), "1 2")
            .asks(Set(did(behavior("joined")), false), "3"),
    ]
}
