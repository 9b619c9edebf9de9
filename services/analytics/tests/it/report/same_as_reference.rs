//! On random events and random requests, the report says what the plain reference says.

use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use segue_proto::analytics::v1::{Attribution, AttributionModel};

use super::*;
use reference::expected;

const NAMES: [&str; 3] = ["df_purchase", "df_view_home", "other"];
/// Both sides of a change of summer time in all zones below.
const FROM: &str = "2026-10-18T00:00:00Z";

fn maybe<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.7, select(values))
}

fn any_item() -> impl Strategy<Value = Item> {
    let texts = (maybe(vec!["a", "b", "c"]), maybe(vec!["p", "q"]), maybe(vec!["", "red"]));
    let numbers = (prop::option::weighted(0.8, 0_i64..5), prop::option::weighted(0.8, 0_i64..4), maybe(vec![1_i64, 2]));
    (texts, numbers).prop_map(|((category, brand, color), (price, quantity, weight))| {
        let mut item = item(category.unwrap_or(""), None, quantity);
        item.price_e4 = price.map(|price| price * 2_500);
        item.brand = brand.unwrap_or("").to_owned();
        item.properties.extend(color.map(|color| ("color".to_owned(), value(text(color)))));
        item.properties.extend(weight.map(|weight| ("weight".to_owned(), value(Kind::IntValue(weight)))));
        item
    })
}

pub fn any_event() -> impl Strategy<Value = ResolvedEvent> {
    let ad =
        (prop::option::weighted(0.3, select(vec!["spring", "fall", ""])), prop::option::weighted(0.2, select(vec!["search", "social"])));
    let who = (1_u32..6, 0_u32..5, maybe(vec!["s", "t"]), maybe(vec!["acme", "beta"]));
    let texts = (maybe(vec!["web", "ios", ""]), maybe(vec!["pos", "app"]), maybe(vec!["", "abc", "bcd"]));
    let numbers =
        (maybe(vec![1_i64, 2, 3]), maybe(vec![-5_000_i64, 2_500, 10_000]), maybe(vec![-0.5, 0.0, 1.25]), maybe(vec![true, false]));
    let items = prop::collection::vec(any_item(), 0..4);
    // Half hours over five weeks.
    (select(&NAMES[..]), 0_i64..1_680, (who, ad), texts, numbers, items).prop_map(
        |(
            name,
            slot,
            ((person, device, session, account), (campaign, channel)),
            (platform, source, label),
            (size, amount, score, vip),
            items,
        )| {
            let mut event = with_items(event(name, FROM, person, device), items);
            event.time_us += slot * 1_800_000_000;
            event.session_id = session.unwrap_or("").to_owned();
            event.account_id = account.unwrap_or("").to_owned();
            event.source = source.unwrap_or("").to_owned();
            if let Some(platform) = platform {
                event = with_dimension(event, "platform", platform);
            }
            for (name, value) in [("ad_campaign", campaign), ("channel_group", channel)] {
                if let Some(value) = value {
                    event = with_dimension(event, name, value);
                }
            }
            let when = size.map(|size| Kind::TimestampValue(timestamp(us(FROM) + size)));
            for (name, kind) in [
                ("label", label.map(text)),
                ("size", size.map(Kind::IntValue)),
                ("amount", amount.map(Kind::DecimalE4Value)),
                ("score", score.map(Kind::DoubleValue)),
                ("vip", vip.map(Kind::BoolValue)),
                ("when", when),
            ] {
                if let Some(kind) = kind {
                    event = with_property(event, name, kind);
                }
            }
            event
        },
    )
}

/// An event long before every range that carries every property, so that all names are known.
pub fn knows_all() -> ResolvedEvent {
    let mut known = item("a", Some(1), Some(1));
    known.properties.insert("color".to_owned(), value(text("red")));
    known.properties.insert("weight".to_owned(), value(Kind::IntValue(1)));
    let event = with_items(event("other", "2020-01-01T00:00:00Z", 9, 9), vec![known]);
    let event = with_property(with_property(event, "label", text("x")), "size", Kind::IntValue(1));
    let event = with_property(with_property(event, "amount", Kind::DecimalE4Value(1)), "score", Kind::DoubleValue(0.5));
    with_property(with_property(event, "vip", Kind::BoolValue(true)), "when", Kind::TimestampValue(timestamp(0)))
}

fn any_comparison() -> impl Strategy<Value = Filter> {
    let texts = || {
        let fields = vec![
            dimension("platform"),
            dimension("event"),
            dimension("ad_campaign"),
            dimension("channel_group"),
            property("label"),
            item_property("category1"),
            item_property("color"),
        ];
        let operators = vec![
            Operator::In,
            Operator::NotIn,
            Operator::Contains,
            Operator::NotContains,
            Operator::StartsWith,
            Operator::EndsWith,
            Operator::Exists,
            Operator::NotExists,
        ];
        let values = subsequence(vec!["web", "", "a", "bc", "other", "red", "d", "spring", "social"], 1..3);
        (select(fields), select(operators), values.prop_map(|values| values.into_iter().map(text).collect::<Vec<_>>()))
    };
    let numbers = || {
        let fields = vec![property("size"), property("amount"), property("score"), item_property("price"), item_property("quantity")];
        let operators = vec![
            Operator::In,
            Operator::NotIn,
            Operator::Less,
            Operator::LessOrEqual,
            Operator::Greater,
            Operator::GreaterOrEqual,
            Operator::Between,
            Operator::Exists,
        ];
        let numbers = vec![Kind::DecimalE4Value(-5_000), Kind::IntValue(0), Kind::DoubleValue(0.25), Kind::IntValue(1), Kind::IntValue(2)];
        (select(fields), select(operators), subsequence(numbers, 2..3))
    };
    let items = select(vec![ItemMatch::Unspecified, ItemMatch::Any, ItemMatch::All, ItemMatch::None]);
    (prop_oneof![texts(), numbers()], items).prop_map(|((field, operator, mut values), items)| {
        match operator {
            Operator::Exists | Operator::NotExists => values.clear(),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => values.truncate(1),
            _ => {}
        }
        let is_item = matches!(field.field, Some(field::Field::ItemProperty(_)));
        compare_items(field, operator, values, if is_item { items } else { ItemMatch::Unspecified })
    })
}

pub fn any_filter() -> impl Strategy<Value = Filter> {
    any_comparison().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(all_of),
            prop::collection::vec(inner.clone(), 0..3).prop_map(any_of),
            inner.prop_map(not),
        ]
    })
}

fn any_metric() -> impl Strategy<Value = Metric> {
    let fields = vec![
        property("size"),
        property("amount"),
        property("score"),
        item_property("price"),
        item_property("quantity"),
        item_property("weight"),
    ];
    let others =
        vec![dimension("ad_campaign"), dimension("event"), property("vip"), property("when"), item_property("color"), property("label")];
    let of_number = {
        use Aggregation::{Average, Count, DistinctCount, Max, Min, Percentile, Sum};
        (select(vec![Count, DistinctCount, Sum, Average, Min, Max, Percentile]), select(fields), select(vec![0.0, 33.0, 50.0, 95.0, 100.0]))
            .prop_map(|(aggregation, field, percentile)| {
                let percentile = if aggregation == Percentile { percentile } else { 0.0 };
                Metric { percentile, ..of_field(aggregation, field) }
            })
    };
    let of_other = (select(vec![Aggregation::Count, Aggregation::DistinctCount]), select(others))
        .prop_map(|(aggregation, field)| of_field(aggregation, field));
    let of_time = select(vec![Aggregation::Min, Aggregation::Max]).prop_map(|aggregation| of_field(aggregation, property("when")));
    let of_units =
        select(vec![Unit::Unspecified, Unit::Device, Unit::Profile, Unit::Session, Unit::Account]).prop_map(|unit| unique(unit, &[]));
    let plain = select(vec![Aggregation::Total, Aggregation::Revenue]).prop_map(|aggregation| metric(aggregation, &[]));
    let what = prop_oneof![3 => plain, 3 => of_units, 3 => of_number, 1 => of_other, 1 => of_time];
    let events = subsequence(vec!["Order Completed", "df_purchase", "page_view", "other", "unknown"], 0..3);
    (what, events, prop::option::weighted(0.3, any_filter())).prop_map(|(metric, events, filter)| Metric {
        events: events.into_iter().map(str::to_owned).collect(),
        filter,
        ..metric
    })
}

fn any_attribution() -> impl Strategy<Value = Attribution> {
    use AttributionModel::{Event, FirstTouch, LastTouch, Linear, Position, TimeDecay, Unspecified};
    let lengths = || prop::option::weighted(0.7, select(vec![1_800_i64, 3_600, 86_400, 3 * 86_400, 20 * 86_400]));
    let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
    (select(vec![Unspecified, LastTouch, FirstTouch, Linear, Position, TimeDecay, Event]), lengths(), lengths()).prop_map(
        move |(model, look_back, half_life)| Attribution {
            model: model as i32,
            look_back: look_back.filter(|_| model != Event).map(seconds),
            half_life: half_life.filter(|_| model == TimeDecay).map(seconds),
        },
    )
}

pub fn any_request() -> impl Strategy<Value = QueryEventsRequest> {
    let fields = vec![
        dimension("platform"),
        dimension("event"),
        dimension("source"),
        dimension("ad_campaign"),
        dimension("channel_group"),
        property("size"),
        property("amount"),
        property("score"),
        property("vip"),
        property("when"),
        property("label"),
        item_property("category1"),
        item_property("color"),
        item_property("quantity"),
    ];
    let zones = vec!["", "Asia/Seoul", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"];
    let frame = (0_i64..900, 1_i64..900, 0_i32..5, select(zones), prop::option::weighted(0.4, 0_i64..900));
    let metrics = prop::collection::vec(any_metric(), 1..4);
    let group_by = subsequence(fields, 0..4);
    let attribution = prop::option::weighted(0.8, any_attribution());
    (frame, metrics, group_by, prop::option::weighted(0.5, any_filter()), 0_u32..5, attribution).prop_map(
        |((first, length, grain, zone, compare), mut metrics, group_by, filter, top, attribution)| {
            // Sums of shares of floating-point numbers may differ in their last digits, and so may the order of groups by them.
            let is_shared = attribution.is_some_and(|attribution: Attribution| {
                use AttributionModel::{Linear, Position, TimeDecay};
                matches!(attribution.model(), Linear | Position | TimeDecay)
            });
            let is_inexact = |metric: &Metric| matches!(metric.aggregation(), Aggregation::Sum | Aggregation::Average);
            if is_shared && metrics.first().is_some_and(is_inexact) {
                metrics.insert(0, metric(Aggregation::Total, &[]));
            }
            let at = |slot: i64| Some(timestamp(us(FROM) + slot * 1_800_000_000));
            QueryEventsRequest {
                range: Some(TimeRange { start: at(first), end: at(first + length) }),
                grain,
                time_zone: zone.to_owned(),
                metrics,
                filter,
                group_by,
                top,
                attribution,
                compare_start: compare.and_then(at),
                ..QueryEventsRequest::default()
            }
        },
    )
}

/// Floating-point numbers may differ in their last digits, since rows come in another order.
fn close(a: &Number, b: &Number) -> bool {
    match (a.kind.as_ref(), b.kind.as_ref()) {
        (Some(NumberKind::Double(a)), Some(NumberKind::Double(b))) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
        (a, b) => a == b,
    }
}

fn same(found: &Group, wanted: &Group) -> bool {
    let numbers = |found: &[Number], wanted: &[Number]| found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| close(a, b));
    found.values == wanted.values
        && found.other == wanted.other
        && numbers(&found.totals, &wanted.totals)
        && found.periods.len() == wanted.periods.len()
        && found.periods.iter().zip(&wanted.periods).all(|(a, b)| a.start == b.start && numbers(&a.values, &b.values))
}

/// Compares an answer with the reference's over `events`.
pub fn check(found: &QueryEventsResponse, events: &[ResolvedEvent], request: &QueryEventsRequest) -> Result<(), TestCaseError> {
    let zone: Tz = if request.time_zone.is_empty() { Tz::UTC } else { request.time_zone.parse().expect("a zone") };
    let wanted = expected(events, request, zone);
    prop_assert_eq!(found.groups_total, wanted.groups_total);
    for (found, wanted) in [(&found.groups, &wanted.groups), (&found.comparison, &wanted.comparison)] {
        prop_assert_eq!(summary(found).len(), summary(wanted).len(), "found {:?}, wanted {:?}", summary(found), summary(wanted));
        for (found, wanted) in found.iter().zip(wanted) {
            prop_assert!(same(found, wanted), "found {:#?}, wanted {:#?}", found, wanted);
        }
    }
    let total = found.total.as_ref().expect("a total");
    prop_assert!(same(total, &wanted.total), "total: found {:#?}, wanted {:#?}", total, wanted.total);
    prop_assert_eq!((found.skipped_items, found.without_unit), (wanted.skipped_items, wanted.without_unit));
    Ok(())
}

/// How many bands persons are cut into changes nothing.
pub fn limits(band_rows: u64) -> QueryLimits {
    let limits = QueryLimits::default();
    QueryLimits { threads: 3, report: ReportLimits { band_rows, ..limits.report }, ..limits }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reports_equal_the_plain_reference(
        mut events in prop::collection::vec(any_event(), 0..60),
        request in any_request(),
        place in any::<Index>(),
        band_rows in select(vec![1_u64, 20, 1 << 20]),
    ) {
        let at = place.index(events.len() + 1);
        events.insert(at, knows_all());
        let found = query_snapshot(&snapshot(&events), limits(band_rows), &request).expect("a report");
        check(&found, &events, &request)?;
    }
}
