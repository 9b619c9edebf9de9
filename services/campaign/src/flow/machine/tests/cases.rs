//! Cases of the semantics: carts, exits, goals.

use segue_proto::campaign::v1::AudienceEntry;

use super::*;

/// Entered by `df_add_to_cart`, once per cart; waits a day, then reminds; buying the cart ends it.
fn carts() -> Compiled {
    let steps = vec![wait("day", Wait::Duration(span(1, TimeUnit::Day)), "remind"), message("remind", "")];
    let mut definition = by_event("df_add_to_cart", "cart", steps);
    definition.exits = vec![exit_on("df_purchase", "cart")];
    definition.goals = vec![goal("bought", "df_purchase", span(7, TimeUnit::Day))];
    definition.goals[0].entry_key_property = "cart".to_owned();
    compiled(&definition)
}

fn enter(scenario: &Compiled, event: &ResolvedEvent, id: u64) -> Run {
    let entry_key = enters(scenario, event).expect("it enters");
    let state = State { event: entered_by(event), ..State::default() };
    let mut run = Run { id, entry_key, state, ..run_at(event.time_us) };
    assert_eq!(go(scenario, &mut run, event.time_us), []);
    run
}

#[test]
fn buying_one_cart_ends_only_the_run_of_that_cart() {
    let scenario = carts();
    let put_into = |cart: &str, id: &str| event("df_add_to_cart", id, 1_000 * SECOND, &[("cart", text(cart))]);
    let mut runs = [enter(&scenario, &put_into("c1", "m1"), 1), enter(&scenario, &put_into("c2", "m2"), 2)];
    assert_eq!(runs.each_ref().map(|run| run.entry_key.as_str()), ["c1", "c2"]);
    let bought = event("df_purchase", "m3", 2_000 * SECOND, &[("cart", text("c1"))]);
    let effects = runs.each_mut().map(|run| meet(&scenario, run, &bought, 2_001 * SECOND));
    assert!(matches!(&effects[0][..], [Effect::Converted { goal, event, .. }] if goal == "bought" && event == "m3"), "{effects:?}");
    assert_eq!(effects[1], []);
    assert_eq!(runs[0].ended, Some((2_001 * SECOND, EndReason::ExitRule)));
    assert_eq!((runs[0].due_us, runs[0].state.waiting), (None, false));
    let due = 1_000 * SECOND + DAY;
    assert_eq!(runs[1].due_us, Some(due));
    let effects = runs.each_mut().map(|run| go(&scenario, run, due));
    assert_eq!(effects, [vec![], vec![Effect::Send { step: 1, visit: 2 }]]);
    assert_eq!(runs[1].ended, Some((due, EndReason::Completed)));
}

#[test]
fn an_event_without_its_cart_enters_nothing_and_ends_nothing() {
    let scenario = carts();
    for cart in [None, Some(text("")), Some(text("a\0b")), Some(text(&"c".repeat(256)))] {
        let mut put_in = event("df_add_to_cart", "m1", SECOND, &[]);
        put_in.properties.extend(cart.map(|cart| ("cart".to_owned(), cart)));
        assert_eq!(enters(&scenario, &put_in), None, "{:?}", put_in.properties);
    }
    let mut run = enter(&scenario, &event("abx:add_to_cart", "m1", SECOND, &[]).named("df_add_to_cart", "c1"), 1);
    assert_eq!(meet(&scenario, &mut run, &event("df_purchase", "m2", 2 * SECOND, &[]), 2 * SECOND), []);
    assert_eq!(run.ended, None);
}

trait Named {
    fn named(self, name: &str, cart: &str) -> Self;
}

impl Named for ResolvedEvent {
    fn named(mut self, name: &str, cart: &str) -> Self {
        name.clone_into(&mut self.name);
        self.properties.insert("cart".to_owned(), text(cart));
        self
    }
}

#[test]
fn a_cart_numbered_in_another_type_is_the_same_cart() {
    let scenario = carts();
    let numbered = |kind: ValueKind| Value { kind: Some(kind) };
    let mut run = enter(&scenario, &event("df_add_to_cart", "m1", SECOND, &[("cart", numbered(ValueKind::IntValue(5)))]), 1);
    assert_eq!(run.entry_key, "5");
    let bought = event("df_purchase", "m2", 2 * SECOND, &[("cart", numbered(ValueKind::DecimalE4Value(50_000)))]);
    meet(&scenario, &mut run, &bought, 2 * SECOND);
    assert!(run.ended.is_some());
}

#[test]
fn an_exit_comes_before_the_arm_of_a_wait_and_a_goal_before_the_exit() {
    let mut definition = by_event("a", "", vec![event_wait("w", &[("buy", "", "m")], seconds(60), ""), message("m", "")]);
    definition.exits = vec![exit_on("buy", "")];
    definition.goals = vec![goal("g", "buy", seconds(60))];
    let scenario = compiled(&definition);
    let mut run = run_at(0);
    go(&scenario, &mut run, 0);
    let effects = meet(&scenario, &mut run, &event("buy", "m2", SECOND, &[]), SECOND);
    assert!(matches!(&effects[..], [Effect::Converted { .. }]), "{effects:?}");
    assert_eq!(run.ended, Some((SECOND, EndReason::ExitRule)));
    assert_eq!(steps_of(&run), [""; 0]);
}

#[test]
fn goals_are_reached_once_within_their_window_even_after_the_end() {
    let mut definition = by_call(vec![message("m", "")]);
    definition.goals = vec![goal("first", "buy", seconds(60)), goal("other", "view", seconds(60))];
    let scenario = compiled(&definition);
    for (time, reached) in [(0, 0), (1, 1), (60 * SECOND, 1), (60 * SECOND + 1, 0)] {
        let mut run = run_at(0);
        go(&scenario, &mut run, 0);
        assert_eq!(run.ended, Some((0, EndReason::Completed)));
        let buy = event("buy", "m2", time, &[]);
        assert_eq!(meet(&scenario, &mut run, &buy, 90 * SECOND).len(), reached, "{time}");
        assert_eq!(meet(&scenario, &mut run, &buy, 90 * SECOND).len(), 0, "{time}");
        assert_eq!(run.state.converted.len(), reached);
        assert_eq!(run.ended, Some((0, EndReason::Completed)));
    }
    assert_eq!(goals_until_us(&scenario, 5), 60 * SECOND + 5);
}

#[test]
fn what_happened_before_entering_and_the_entering_event_itself_do_nothing() {
    let mut definition = by_event("a", "", vec![event_wait("w", &[("a", "", "")], seconds(60), "")]);
    definition.exits = vec![exit_on("d", "")];
    let scenario = compiled(&definition);
    let entering = event("a", "m1", 10 * SECOND, &[]);
    let mut run = enter(&scenario, &entering, 1);
    for (name, id, time) in [("a", "m1", 10), ("a", "m0", 9), ("d", "m9", 9)] {
        assert_eq!(meet(&scenario, &mut run, &event(name, id, time * SECOND, &[]), 11 * SECOND), []);
        assert_eq!((run.ended, run.state.visits), (None, 0), "{name} {id}");
    }
    meet(&scenario, &mut run, &event("a", "m2", 10 * SECOND, &[]), 11 * SECOND);
    assert_eq!(visited(&run), [("w".to_owned(), "arm 1".to_owned())]);
}

#[test]
fn a_goal_is_worth_its_property_or_its_items() {
    let number = |kind: ValueKind| Value { kind: Some(kind) };
    let items = vec![item(Some(10_000_000), Some(2)), item(Some(5_000_000), Some(1)), item(Some(7), None), item(None, Some(3))];
    for (property, value, worth) in [
        ("", None, 25_000_000),
        ("amount", Some(number(ValueKind::DecimalE4Value(125_000))), 125_000),
        ("amount", Some(number(ValueKind::IntValue(12))), 120_000),
        ("amount", Some(number(ValueKind::DoubleValue(12.5))), 125_000),
        ("amount", Some(number(ValueKind::DoubleValue(0.123_46))), 1_235),
        ("amount", Some(number(ValueKind::DoubleValue(f64::NAN))), 0),
        ("amount", Some(number(ValueKind::IntValue(i64::MAX))), i64::MAX),
        ("amount", Some(text("12")), 0),
        ("amount", None, 0),
    ] {
        let mut definition = by_call(vec![message("m", "")]);
        definition.goals = vec![Goal { value_property: property.to_owned(), ..goal("g", "buy", seconds(60)) }];
        let scenario = compiled(&definition);
        let mut buy = event("buy", "m2", SECOND, &[]);
        buy.items.clone_from(&items);
        buy.properties.extend(value.map(|value| ("amount".to_owned(), value)));
        let mut run = run_at(0);
        let effects = meet(&scenario, &mut run, &buy, SECOND);
        let expected =
            Effect::Converted { goal: "g".to_owned(), event: "m2".to_owned(), time_us: SECOND, value_e4: worth, items: items.clone() };
        assert_eq!(effects, [expected], "{:?}", buy.properties);
    }
    let huge = vec![item(Some(i64::MAX), Some(i64::MAX)); 3];
    let mut definition = by_call(vec![message("m", "")]);
    definition.goals = vec![goal("g", "buy", seconds(60))];
    let buy = ResolvedEvent { items: huge, ..event("buy", "m2", SECOND, &[]) };
    let effects = meet(&compiled(&definition), &mut run_at(0), &buy, SECOND);
    assert!(matches!(effects[..], [Effect::Converted { value_e4: i64::MAX, .. }]));
}

#[test]
fn entering_or_leaving_an_audience_ends_a_run() {
    for (on_leaving, entered, ends) in [(true, false, true), (true, true, false), (false, true, true), (false, false, false)] {
        let mut definition = by_call(vec![wait("w", Wait::Duration(seconds(60)), "")]);
        let audience = AudienceEntry { audience: "lapsed".to_owned(), on_leaving };
        definition.exits = vec![ExitRule { on: Some(exit_rule::On::Audience(audience)), entry_key_property: String::new() }];
        let scenario = compiled(&definition);
        let mut run = run_at(0);
        go(&scenario, &mut run, 0);
        for (audience, ends) in [("other", false), ("lapsed", ends)] {
            put(&scenario, &mut run, Input::Audience { audience, entered }, &Facts::default(), SECOND);
            assert_eq!(run.ended, ends.then_some((SECOND, EndReason::ExitRule)));
        }
    }
}

#[test]
fn nothing_but_goals_happens_after_the_end() {
    let scenario = compiled(&by_call(vec![wait("w", Wait::Duration(seconds(60)), "m"), message("m", "")]));
    let mut run = run_at(0);
    go(&scenario, &mut run, 0);
    put(&scenario, &mut run, Input::End(EndReason::ExitCall), &Facts::default(), SECOND);
    let ended = run.clone();
    assert_eq!(run.ended, Some((SECOND, EndReason::ExitCall)));
    for input in [Input::Go, Input::End(EndReason::Merged), Input::Audience { audience: "lapsed", entered: true }] {
        let (next, effects) = put(&scenario, &mut run, input, &Facts::default(), 100 * SECOND);
        assert_eq!((next, effects, &run), (Next::Rest, vec![], &ended));
    }
}
