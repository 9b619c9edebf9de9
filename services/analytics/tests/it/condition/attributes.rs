//! What is known of a person: traits, as of a moment.

use super::*;
use segue_proto::events::v1::EventKind;
use segue_proto::query::v1::Attribute;

fn stated(time: &str, person: u32, traits: &[(&str, Kind)]) -> ResolvedEvent {
    let traits = traits.iter().map(|(name, kind)| ((*name).to_owned(), value(kind.clone()))).collect();
    ResolvedEvent { traits, kind: EventKind::Identify as i32, ..event("", time, person) }
}

fn attribute(name: &str, operator: Operator, values: Vec<Kind>) -> Attribute {
    let values = values.into_iter().map(value).collect();
    Attribute { r#trait: name.to_owned(), operator: operator as i32, values, as_of: None }
}

fn is(attribute: Attribute) -> Condition {
    condition(Node::Attribute(attribute))
}

#[test]
fn the_last_value_stated_of_a_person_holds() {
    let events = [
        stated("2026-11-01T00:00:00Z", 1, &[("df_membership", text("gold")), ("points", Kind::IntValue(10))]),
        stated("2026-11-03T00:00:00Z", 1, &[("points", Kind::IntValue(30))]),
        // Came in later, but is older.
        stated("2026-11-02T00:00:00Z", 1, &[("points", Kind::IntValue(20))]),
        stated("2026-11-01T00:00:00Z", 2, &[("df_membership", text("silver"))]),
        stated("2026-11-01T00:00:00Z", 2, &[("df_membership", text("gold"))]),
        // An event may state traits as well.
        ResolvedEvent { kind: EventKind::Track as i32, ..stated("2026-11-01T00:00:00Z", 3, &[("df_membership", text("silver"))]) },
        event("df_app_open", "2026-11-01T00:00:00Z", 4),
        stated("2026-11-01T00:00:00Z", 5, &[]),
    ];
    let asked = |name, operator, values| who(&events, &is(attribute(name, operator, values)));
    assert_eq!(asked("df_membership", Operator::In, vec![text("gold")]), [1, 2]);
    assert_eq!(asked("df_membership", Operator::NotIn, vec![text("gold")]), [3, 4, 5], "who has no value is not gold either");
    assert_eq!(asked("df_membership", Operator::Exists, vec![]), [1, 2, 3]);
    assert_eq!(asked("df_membership", Operator::NotExists, vec![]), [4, 5]);
    assert_eq!(asked("df_membership", Operator::EndsWith, vec![text("er")]), [3]);
    assert_eq!(asked("points", Operator::GreaterOrEqual, vec![Kind::IntValue(30)]), [1]);
    assert_eq!(asked("points", Operator::Between, vec![Kind::IntValue(10), Kind::IntValue(30)]), [] as [u32; 0]);
    // A standard trait that nobody has is known by its type.
    assert_eq!(asked("df_push_optin", Operator::NotIn, vec![Kind::BoolValue(true)]), [1, 2, 3, 4, 5]);
}

#[test]
fn a_value_is_looked_up_as_of_a_moment_and_never_after_now() {
    let events = [
        stated("2026-11-01T00:00:00Z", 1, &[("plan", text("free"))]),
        stated("2026-11-10T00:00:00Z", 1, &[("plan", text("pro"))]),
        stated("2026-11-25T00:00:00Z", 1, &[("plan", text("late"))]),
    ];
    let at = |time: &str, plan: &str| {
        let asked = Attribute { as_of: Some(timestamp(us(time))), ..attribute("plan", Operator::In, vec![text(plan)]) };
        who(&events, &is(asked)) == [1]
    };
    assert!(at("2026-11-01T00:00:00Z", "free") && at("2026-11-09T23:59:59.999999Z", "free"));
    assert!(at("2026-11-10T00:00:00Z", "pro"));
    assert!(at("2026-12-01T00:00:00Z", "pro"), "nothing is known of what comes after now");
    let before_all = Attribute { as_of: Some(timestamp(us("2026-10-01T00:00:00Z"))), ..attribute("plan", Operator::NotExists, vec![]) };
    assert_eq!(who(&events, &is(before_all)), [1]);
    assert_eq!(who(&events, &is(attribute("plan", Operator::In, vec![text("pro")]))), [1]);
    assert_eq!(who_at(&events, &is(attribute("plan", Operator::In, vec![text("late")])), us("2026-11-25T00:00:00Z")), [1]);
}

#[test]
fn a_trait_that_nobody_has_is_refused_with_a_hint() {
    let events = [stated("2026-11-01T00:00:00Z", 1, &[("favourite_colour", text("red"))])];
    let asked = is(attribute("favorite_colour", Operator::Exists, vec![]));
    let Err(QueryError::Invalid(faults)) = select_of(&snapshot(&events), &request(&asked)) else { panic!("not refused") };
    assert_eq!(faults[0].field, "condition.attribute.trait");
    assert!(faults[0].description.contains("did you mean `favourite_colour`?"), "{}", faults[0].description);
    let unset = is(attribute("favourite_colour", Operator::Unspecified, vec![]));
    let Err(QueryError::Invalid(faults)) = select_of(&snapshot(&events), &request(&unset)) else { panic!("not refused") };
    assert_eq!(faults[0].field, "condition.attribute.operator");
}
