//! The acceptance cases, and the boundaries of windows and amounts.

use segue_runtime::status::ServiceError;

use super::*;

/// Known without having done anything that a condition here asks for.
fn other(person: u32) -> ResolvedEvent {
    event("df_view_home", "2026-01-01T00:00:00Z", person)
}

fn opened_in_three_months() -> Condition {
    did(Behavior { window: last(3, TimeUnit::Month), ..behavior("df_app_open") })
}

#[test]
fn s1_opened_in_three_months_and_never_signed_up() {
    let events = [
        event("df_app_open", "2026-11-01T00:00:00Z", 1),
        event("df_app_open", "2026-11-01T00:00:00Z", 2),
        // Long ago counts for "never".
        event("df_sign_up", "2020-01-01T00:00:00Z", 2),
        // Three months before now is 22 August 12:00, which is outside.
        event("df_app_open", "2026-08-22T12:00:00Z", 3),
        event("df_app_open", "2026-08-22T12:00:00.000001Z", 4),
        other(5),
    ];
    let s1 = all_of(vec![opened_in_three_months(), not(did(behavior("df_sign_up")))]);
    assert_eq!(who(&events, &s1), [1, 4]);
}

#[test]
fn s2_acquired_through_ads_in_the_last_month_and_not_signed_up() {
    let ad = |time, person| with_dimension(event("df_app_open", time, person), "channel_group", "display_ad");
    let events = [
        ad("2026-11-01T00:00:00Z", 1),
        ad("2026-11-01T00:00:00Z", 2),
        event("df_sign_up", "2026-11-02T00:00:00Z", 2),
        ad("2026-10-01T00:00:00Z", 3),
        with_dimension(event("df_app_open", "2026-11-01T00:00:00Z", 4), "channel_group", "organic"),
        other(5),
    ];
    let ads = is_in(of_dimension("channel_group"), &["search_ad", "display_ad"]);
    let s2 = all_of(vec![acquired(Touch::First, last(1, TimeUnit::Month), ads), not(did(behavior("df_sign_up")))]);
    assert_eq!(who(&events, &s2), [1]);
}

#[test]
fn s3_acquired_through_search_ads_and_bought_no_product_of_given_keywords() {
    let search = |person| with_dimension(event("df_app_open", "2026-11-01T00:00:00Z", person), "channel_group", "search_ad");
    let named = |person, name: &str| {
        let item = Item { name: name.to_owned(), ..item("baby", 10, 1) };
        with_items(event("df_purchase", "2026-11-02T00:00:00Z", person), vec![item])
    };
    let events = [search(1), search(2), named(2, "blue stroller"), search(3), named(3, "red car"), named(4, "red car")];
    let keywords = compare(of_item("item_name"), Operator::Contains, vec![text("stroller"), text("cradle")]);
    let bought = did(Behavior { on: Some(on_filtered("purchase", keywords)), ..Behavior::default() });
    let search = acquired(Touch::Last, last(1, TimeUnit::Month), is_in(of_dimension("channel_group"), &["search_ad"]));
    assert_eq!(who(&events, &all_of(vec![search, not(bought)])), [1, 3]);
}

#[test]
fn s4_opened_in_three_months_and_did_not_buy_in_that_time() {
    let events = [
        event("df_app_open", "2026-11-01T00:00:00Z", 1),
        event("df_purchase", "2026-03-01T00:00:00Z", 1),
        event("df_app_open", "2026-11-01T00:00:00Z", 2),
        event("df_purchase", "2026-11-01T00:00:00Z", 2),
        other(3),
    ];
    let bought = did(Behavior { window: last(3, TimeUnit::Month), ..behavior("df_purchase") });
    assert_eq!(who(&events, &all_of(vec![opened_in_three_months(), not(bought)])), [1]);
}

#[test]
fn s5_a_million_spent_on_childcare_counts_the_childcare_items_alone() {
    let order = |time, person, items| with_items(event("df_purchase", time, person), items);
    let events = [
        order("2026-11-01T00:00:00Z", 1, vec![item("childcare", 999_999, 1), item("toys", 500_000, 3)]),
        order("2026-11-01T00:00:00Z", 2, vec![item("childcare", 500_000, 1)]),
        order("2026-11-02T00:00:00Z", 2, vec![item("toys", 1, 1), item("childcare", 250_000, 2)]),
        order("2026-11-01T00:00:00Z", 3, vec![item("toys", 2_000_000, 1)]),
        // Half of it left the window.
        order("2026-05-22T12:00:00Z", 4, vec![item("childcare", 500_000, 1)]),
        order("2026-06-01T00:00:00Z", 4, vec![item("childcare", 500_000, 1)]),
        // Without a quantity an item has no price × quantity.
        order("2026-11-01T00:00:00Z", 5, vec![Item { quantity: None, ..item("childcare", 1_000_000, 1) }]),
    ];
    let spent = |operator, amount: i64| {
        let bought = Behavior {
            items: Some(is_in(of_item("category1"), &["childcare"])),
            window: last(6, TimeUnit::Month),
            ..behavior("df_purchase")
        };
        did(aggregate(bought, BehaviorAggregate::Sum, operator, vec![Kind::IntValue(amount)]))
    };
    assert_eq!(who(&events, &spent(Operator::GreaterOrEqual, 1_000_000)), [2]);
    assert_eq!(who(&events, &spent(Operator::GreaterOrEqual, 999_999)), [1, 2]);
    assert_eq!(who(&events, &spent(Operator::Greater, 999_999)), [2]);
    // Of nothing, a sum is 0.
    assert_eq!(who(&events, &spent(Operator::In, 0)), [3, 5]);
    let without_items = Behavior { window: last(6, TimeUnit::Month), ..behavior("df_purchase") };
    let spent_at_all =
        aggregate(without_items, BehaviorAggregate::Sum, Operator::GreaterOrEqual, vec![Kind::DecimalE4Value(9_999_990_000)]);
    assert_eq!(who(&events, &did(spent_at_all)), [1, 2, 3]);
}

#[test]
fn s6_bought_something_else_can_be_said_in_each_of_its_meanings() {
    let came = |person| with_dimension(event("df_ad_response", "2026-11-01T00:00:00Z", person), "ad_campaign", "jewellery");
    let bought = |person, items| with_items(event("df_purchase", "2026-11-02T00:00:00Z", person), items);
    let events = [
        came(1),
        bought(1, vec![item("jewellery", 10, 1)]),
        came(2),
        bought(2, vec![item("jewellery", 10, 1), item("shoes", 10, 1)]),
        came(3),
        bought(3, vec![item("shoes", 10, 1)]),
        came(4),
        bought(4, vec![]),
        came(5),
        bought(6, vec![item("shoes", 10, 1)]),
    ];
    let who_bought = |operator, items| {
        let filter = compare_items(of_item("category1"), operator, vec![text("jewellery")], items);
        let bought = did(Behavior { on: Some(on_filtered("df_purchase", filter)), ..Behavior::default() });
        let came = acquired(Touch::Unspecified, None, is_in(of_dimension("ad_campaign"), &["jewellery"]));
        who(&events, &all_of(vec![came, bought]))
    };
    assert_eq!(who_bought(Operator::NotIn, ItemMatch::Any), [2, 3], "any item is something else");
    assert_eq!(who_bought(Operator::In, ItemMatch::None), [3, 4], "no item is jewellery");
    assert_eq!(who_bought(Operator::NotIn, ItemMatch::All), [3], "there are items, and all are something else");
}

#[test]
fn a_member_leaves_at_the_microsecond_at_which_the_event_leaves_the_window() {
    let events = [event("df_app_open", "2026-11-01T00:00:00Z", 1)];
    let opened = did(Behavior { window: last(7, TimeUnit::Day), ..behavior("df_app_open") });
    let (at, leaves) = (us("2026-11-01T00:00:00Z"), us("2026-11-08T00:00:00Z"));
    for (now, member) in [(at - 1, false), (at, true), (leaves - 1, true), (leaves, false)] {
        assert_eq!(who_at(&events, &opened, now) == [1], member, "at {now}");
        assert_eq!(who_at(&events, &not(opened.clone()), now) == [1], !member, "at {now}");
    }
}

#[test]
fn absolute_windows_are_half_open_and_end_with_now() {
    let events = [
        event("a", "2026-11-01T00:00:00Z", 1),
        event("a", "2026-10-31T23:59:59.999999Z", 2),
        event("a", "2026-11-10T00:00:00Z", 3),
        event("a", "2026-11-09T23:59:59.999999Z", 4),
    ];
    let in_november = did(Behavior { window: between("2026-11-01T00:00:00Z", "2026-11-10T00:00:00Z"), ..behavior("a") });
    assert_eq!(who(&events, &in_november), [1, 4]);
    assert_eq!(who_at(&events, &in_november, us("2026-11-05T00:00:00Z")), [1]);
}

#[test]
fn what_lies_after_now_does_not_exist() {
    let events = [event("a", NOW, 1), event("a", "2026-11-22T12:00:00.000001Z", 2)];
    assert_eq!(who(&events, &did(behavior("a"))), [1]);
    // Both are known all the same.
    assert_eq!(who(&events, &not(did(behavior("a")))), [2]);
    let far = Behavior { window: between("2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z"), ..behavior("a") };
    assert_eq!(who(&events, &did(far)), [1]);
}

#[test]
fn never_did_ranges_over_all_known_persons() {
    let events = [event("a", "2026-11-01T00:00:00Z", 1), other(2), event("a", "2026-11-01T00:00:00Z", 70_000), other(4_000_000_000)];
    let times = |operator, count| did(aggregate(behavior("a"), BehaviorAggregate::Count, operator, vec![Kind::IntValue(count)]));
    assert_eq!(who(&events, &times(Operator::Less, 1)), [2, 4_000_000_000]);
    assert_eq!(who(&events, &times(Operator::In, 0)), [2, 4_000_000_000]);
    assert_eq!(who(&events, &not(did(behavior("a")))), [2, 4_000_000_000]);
    assert_eq!(who(&events, &all_of(vec![])), [1, 2, 70_000, 4_000_000_000]);
    assert_eq!(who(&events, &any_of(vec![])), [] as [u32; 0]);
    // An event that nobody has ever sent.
    assert_eq!(who(&events, &not(did(behavior("unheard")))), [1, 2, 70_000, 4_000_000_000]);
}

#[test]
fn aggregates_are_compared_exactly() {
    let bought = |time, person, price: i64| with_items(event("df_purchase", time, person), vec![item("shoes", price, 1)]);
    let events = [
        bought("2026-11-01T22:00:00Z", 1, 10),
        bought("2026-11-01T23:30:00Z", 1, 20),
        bought("2026-11-05T10:00:00Z", 1, 5),
        bought("2026-11-03T10:00:00Z", 2, 30),
        other(3),
    ];
    use BehaviorAggregate::{Count, DistinctDays, FirstTime, LastTime, Max, Min, Sum};
    for (of, operator, values, persons) in [
        (Count, Operator::GreaterOrEqual, vec![Kind::IntValue(3)], vec![1]),
        (Count, Operator::Between, vec![Kind::IntValue(1), Kind::IntValue(3)], vec![2]),
        (Count, Operator::NotIn, vec![Kind::IntValue(0), Kind::IntValue(3)], vec![2]),
        (Sum, Operator::In, vec![Kind::IntValue(35)], vec![1]),
        (Sum, Operator::Less, vec![Kind::DecimalE4Value(350_000)], vec![2, 3]),
        (Min, Operator::LessOrEqual, vec![Kind::IntValue(5)], vec![1]),
        (Max, Operator::Greater, vec![Kind::DoubleValue(19.5)], vec![1, 2]),
        // Nothing has no smallest value: only a negative comparison is true of it.
        (Min, Operator::Less, vec![Kind::IntValue(1_000)], vec![1, 2]),
        (Min, Operator::NotIn, vec![Kind::IntValue(5)], vec![2, 3]),
        (Max, Operator::NotExists, vec![], vec![3]),
        (DistinctDays, Operator::In, vec![Kind::IntValue(2)], vec![1]),
        (FirstTime, Operator::Less, vec![Kind::TimestampValue(timestamp(us("2026-11-02T00:00:00Z")))], vec![1]),
        (LastTime, Operator::Less, vec![Kind::TimestampValue(timestamp(us("2026-11-05T10:00:00Z")))], vec![2]),
        (LastTime, Operator::LessOrEqual, vec![Kind::TimestampValue(timestamp(us("2026-11-05T10:00:00Z")))], vec![1, 2]),
        (LastTime, Operator::Exists, vec![], vec![1, 2]),
    ] {
        let asked = did(aggregate(behavior("df_purchase"), of, operator, values.clone()));
        assert_eq!(who(&events, &asked), persons, "{of:?} {operator:?} {values:?}");
    }
}

#[test]
fn days_are_those_of_the_zone_that_is_asked_for() {
    // 23:30 and 00:30 UTC: one day in Seoul, two in UTC.
    let events = [event("a", "2026-11-01T23:30:00Z", 1), event("a", "2026-11-02T00:30:00Z", 1)];
    let two_days = did(aggregate(behavior("a"), BehaviorAggregate::DistinctDays, Operator::GreaterOrEqual, vec![Kind::IntValue(2)]));
    let in_zone = |zone: &str| {
        let request = SelectPersonsRequest { time_zone: zone.to_owned(), ..request(&two_days) };
        select_of(&snapshot(&events), &request).expect("an answer").count
    };
    assert_eq!((in_zone("Asia/Seoul"), in_zone("UTC"), in_zone("")), (0, 1, 1));
}

#[test]
fn values_are_those_of_the_first_and_last_event_that_has_one() {
    let plan = |time, person, plan: &str| with_property(event("changed", time, person), "plan", text(plan));
    let events = [
        plan("2026-11-01T00:00:00Z", 1, "free"),
        plan("2026-11-02T00:00:00Z", 1, "pro"),
        event("changed", "2026-11-03T00:00:00Z", 1),
        plan("2026-11-02T00:00:00Z", 2, "pro"),
        plan("2026-11-02T00:00:00Z", 2, "free"),
        event("changed", "2026-11-03T00:00:00Z", 3),
    ];
    let asked = |of, operator, values| {
        let behavior = Behavior { field: Some(of_property("plan")), ..behavior("changed") };
        who(&events, &did(aggregate(behavior, of, operator, values)))
    };
    use BehaviorAggregate::{DistinctCount, FirstValue, LastValue};
    assert_eq!(asked(FirstValue, Operator::In, vec![text("free")]), [1]);
    // At one time, the order of the log decides.
    assert_eq!(asked(LastValue, Operator::In, vec![text("free")]), [2]);
    assert_eq!(asked(LastValue, Operator::StartsWith, vec![text("p")]), [1]);
    assert_eq!(asked(LastValue, Operator::NotIn, vec![text("pro")]), [2, 3]);
    assert_eq!(asked(LastValue, Operator::Unspecified, vec![]), [1, 2]);
    assert_eq!(asked(LastValue, Operator::NotExists, vec![]), [3]);
    assert_eq!(asked(DistinctCount, Operator::GreaterOrEqual, vec![Kind::IntValue(2)]), [1, 2]);
    assert_eq!(asked(DistinctCount, Operator::In, vec![Kind::IntValue(0)]), [3]);
}

#[test]
fn values_of_items_are_those_of_the_items_that_pass() {
    let bought = |time, person, items| with_items(event("df_purchase", time, person), items);
    let branded = |brand: &str, category: &str, price| Item { brand: brand.to_owned(), ..item(category, price, 1) };
    let events = [
        bought("2026-11-01T00:00:00Z", 1, vec![branded("x", "shoes", 10), branded("y", "toys", 1), branded("z", "shoes", 30)]),
        bought("2026-11-02T00:00:00Z", 1, vec![branded("q", "toys", 2)]),
        bought("2026-11-02T00:00:00Z", 2, vec![branded("x", "shoes", 7), branded("x", "shoes", 9)]),
        bought("2026-11-02T00:00:00Z", 3, vec![branded("x", "toys", 7)]),
    ];
    let asked = |field: Option<&str>, of, operator, values| {
        let items = Some(is_in(of_item("category1"), &["shoes"]));
        let behavior = Behavior { items, field: field.map(of_item), ..behavior("df_purchase") };
        who(&events, &did(aggregate(behavior, of, operator, values)))
    };
    use BehaviorAggregate::{Count, DistinctCount, FirstValue, LastValue, Max, Min, Sum};
    assert_eq!(asked(None, Count, Operator::In, vec![Kind::IntValue(1)]), [1, 2], "events with such an item");
    assert_eq!(asked(Some("price"), Min, Operator::In, vec![Kind::IntValue(10)]), [1]);
    assert_eq!(asked(Some("price"), Max, Operator::In, vec![Kind::IntValue(9)]), [2]);
    // Without a field, an event's price × quantity over the items that pass.
    assert_eq!(asked(None, Max, Operator::In, vec![Kind::IntValue(40), Kind::IntValue(16)]), [1, 2]);
    assert_eq!(asked(Some("price"), Sum, Operator::In, vec![Kind::IntValue(16)]), [2]);
    assert_eq!(asked(Some("quantity"), Sum, Operator::In, vec![Kind::IntValue(2)]), [1, 2]);
    assert_eq!(asked(Some("brand"), FirstValue, Operator::In, vec![text("x")]), [1, 2]);
    assert_eq!(asked(Some("brand"), LastValue, Operator::In, vec![text("z")]), [1]);
    assert_eq!(asked(Some("brand"), DistinctCount, Operator::In, vec![Kind::IntValue(2)]), [1]);
}

#[test]
fn the_first_and_the_last_touch_are_events_that_carry_where_a_person_came_from() {
    let touch = |name, time, person, campaign: &str| with_dimension(event(name, time, person), "utm_campaign", campaign);
    let events = [
        touch("df_app_open", "2026-11-01T00:00:00Z", 1, "spring"),
        touch("df_view_home", "2026-11-02T00:00:00Z", 1, "autumn"),
        // No touch: it says nothing of where the person came from.
        with_dimension(event("df_app_open", "2026-11-03T00:00:00Z", 1), "platform", "ios"),
        with_dimension(event("df_app_open", "2026-11-02T00:00:00Z", 2), "ad_partner", "acme"),
        with_dimension(event("df_app_open", "2026-11-02T00:00:00Z", 3), "platform", "ios"),
    ];
    let asked = |touch, campaign: &str| acquired(touch, None, is_in(of_dimension("utm_campaign"), &[campaign]));
    assert_eq!(who(&events, &asked(Touch::First, "spring")), [1]);
    assert_eq!(who(&events, &asked(Touch::Last, "spring")), [] as [u32; 0]);
    assert_eq!(who(&events, &asked(Touch::Last, "autumn")), [1]);
    let no_campaign = compare(of_dimension("utm_campaign"), Operator::NotExists, vec![]);
    assert_eq!(who(&events, &acquired(Touch::Last, None, no_campaign)), [2], "who was never touched did not come that way");
    let recently =
        acquired(Touch::First, between("2026-11-02T00:00:00Z", "2026-11-09T00:00:00Z"), is_in(of_dimension("utm_campaign"), &["autumn"]));
    assert_eq!(who(&events, &recently), [1], "the first touch in the window");
}

#[test]
fn random_buckets_part_persons_and_stay() {
    let events: Vec<ResolvedEvent> = (1..=2_000).map(other).collect();
    let bucket =
        |salt: &str, from, to| who(&events, &condition(Node::RandomBucket(query::RandomBucket { salt: salt.to_owned(), from, to })));
    let (low, high) = (bucket("a", 0, 3_000), bucket("a", 3_000, 10_000));
    assert_eq!(low.len() + high.len(), 2_000);
    assert!(low.len().abs_diff(600) < 100, "{}", low.len());
    assert_eq!(low, bucket("a", 0, 3_000));
    assert_ne!(low, bucket("b", 0, 3_000));
    assert_eq!(bucket("a", 0, 10_000).len(), 2_000);
}

#[test]
fn pages_and_bitmaps_hold_the_same_persons() {
    let events: Vec<ResolvedEvent> = (1..=250).map(other).collect();
    let snapshot = snapshot(&events);
    let everybody = request(&all_of(vec![]));
    let mut paged = Vec::new();
    let mut asked = SelectPersonsRequest { page_size: 0, ..everybody.clone() };
    loop {
        let page = select_of(&snapshot, &asked).expect("a page");
        assert_eq!(page.count, 250);
        assert!(page.persons.len() <= 100);
        paged.extend(page.persons);
        if page.next_page_token.is_empty() {
            break;
        }
        asked.page_token = page.next_page_token;
    }
    assert_eq!(paged, (1..=250).collect::<Vec<u32>>());
    let whole = select_of(&snapshot, &SelectPersonsRequest { bitmap: true, ..everybody.clone() }).expect("a bitmap");
    assert!(whole.persons.is_empty() && whole.next_page_token.is_empty());
    let bitmap = roaring::RoaringBitmap::deserialize_from(whole.bitmap.as_slice()).expect("a bitmap");
    assert_eq!(bitmap.iter().collect::<Vec<u32>>(), paged);
    assert_eq!(whole.as_of, Some(timestamp(us(NOW))));
    assert_eq!(whole.watermark, Some(timestamp(us(NOW))));

    let mut some = Vec::new();
    roaring::RoaringBitmap::from_iter([3, 7, 9_999]).serialize_into(&mut some).expect("bytes");
    let within = select_of(&snapshot, &SelectPersonsRequest { within: some.clone(), ..everybody }).expect("an answer");
    assert_eq!(within.persons, [3, 7], "who is not known is not there");
    let set = query::PersonSet { numbers: some, label: "audience x".to_owned() };
    assert_eq!(who(&events, &condition(Node::Persons(set))), [3, 7]);
}

#[test]
fn counts_are_given_per_node_in_the_order_of_the_tree() {
    let mut events: Vec<ResolvedEvent> = (1..=10).map(other).collect();
    events.extend((1..=4).map(|person| event("a", "2026-11-01T00:00:00Z", person)));
    events.extend((3..=8).map(|person| event("b", "2026-11-01T00:00:00Z", person)));
    // The operands are not in the order in which they are evaluated.
    let acquired = acquired(Touch::Last, None, is_in(of_dimension("utm_source"), &["x"]));
    let condition = all_of(vec![not(any_of(vec![acquired, did(behavior("a"))])), did(behavior("b")), all_of(vec![])]);
    let counted = count_of(&snapshot(&events), &CountPersonsRequest { condition: Some(condition), ..CountPersonsRequest::default() });
    let counted = counted.expect("counts");
    assert_eq!((counted.count, counted.persons_total), (4, 10));
    assert_eq!(counted.node_counts, [4, 6, 4, 0, 4, 6, 10]);
}

#[test]
fn sums_of_floating_point_numbers_are_rounded_once_as_in_reports() {
    let tenth = |at| with_property(event("play", &format!("2026-11-22T10:00:{at:02}Z"), 1), "score", Kind::DoubleValue(0.1));
    let events: Vec<ResolvedEvent> = (0..10).map(tenth).collect();
    let score = Behavior { field: Some(of_property("score")), ..behavior("play") };
    let at_least = |sum| did(aggregate(score.clone(), BehaviorAggregate::Sum, Operator::GreaterOrEqual, vec![Kind::DoubleValue(sum)]));
    assert_eq!(who(&events, &at_least(1.0)), [1]);
    assert_eq!(who(&events, &at_least(1.000_000_1)), Vec::<u32>::new());
}

#[test]
fn before_anything_of_the_log_was_read_nobody_is_said_to_have_done_or_not_done_something() {
    let early = Snapshot::of_events(&"shop".parse().expect("a tenant id"), 0, &[event("buy", NOW, 1)]).expect("a snapshot");
    for asked in [did(behavior("buy")), not(did(behavior("buy")))] {
        assert_eq!(select_of(&early, &request(&asked)).expect_err("too early").code(), segue_model::Code::Unavailable);
        let request =
            CountPersonsRequest { condition: Some(asked.clone()), as_of: Some(timestamp(us(NOW))), ..CountPersonsRequest::default() };
        assert_eq!(count_of(&early, &request).expect("as of a moment that is named").persons_total, 1);
    }
}
