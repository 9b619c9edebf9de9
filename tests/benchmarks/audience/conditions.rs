//! What is asked: the acceptance cases of audiences (S1 to S6), and as many different audiences of their kinds as are wanted.

use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::field::Field as Named;
use segue_proto::query::v1::{
    Acquisition, Behavior, BehaviorAggregate, Comparison, Condition, ConditionList, EventSelector, Field, Filter, ItemMatch, Operator,
    Span, TimeUnit, Touch, Window, filter, window,
};

use super::data::{BOUGHT, CATEGORIES, CHANNELS, OPENED, PROMOTION, SIGNED_UP, WORDS};

/// A condition by its name.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// In words.
    pub(crate) says: &'static str,
    pub(crate) condition: Condition,
}

/// The acceptance cases.
pub(crate) fn acceptance() -> Vec<Case> {
    let case = |name, says, condition| Case { name, says, condition };
    vec![
        case("S1", "opened the app in the last 3 months, never signed up", opened_without_sign_up(months(3))),
        case("S2", "came through an ad in the last month, has not signed up", acquired_without_sign_up(months(1))),
        case(
            "S3",
            "came through a search ad in the last month, bought nothing called stroller or cradle",
            searched_without_buying(months(1), &["stroller", "cradle"]),
        ),
        case("S4", "opened the app in the last 3 months, did not buy in them", opened_without_buying(months(3))),
        case("S5", "bought childcare products for 1,000,000 in the last 6 months", spent(&["childcare"], 1_000_000, months(6))),
        case(
            "S6",
            "came through the jewellery promotion in the last 6 months, bought an item that is no jewellery",
            acquired_and_bought(&[PROMOTION], months(6), bought_other("jewellery", months(6))),
        ),
        case(
            "S6_none",
            "the same, bought an order without any jewellery",
            acquired_and_bought(&[PROMOTION], months(6), bought_none_of("jewellery", months(6))),
        ),
    ]
}

fn months(count: u32) -> Span {
    Span { count, unit: TimeUnit::Month as i32 }
}

fn opened_without_sign_up(last: Span) -> Condition {
    all(vec![did(OPENED, Some(last)), never(SIGNED_UP, None)])
}

fn acquired_without_sign_up(last: Span) -> Condition {
    let ads: Vec<&str> = CHANNELS.iter().filter(|(_, _, is_ad, _)| *is_ad).map(|(name, ..)| *name).collect();
    all(vec![acquired(last, "channel_group", &ads), never(SIGNED_UP, None)])
}

fn searched_without_buying(last: Span, keywords: &[&str]) -> Condition {
    let named = compare(Named::ItemProperty("item_name".to_owned()), Operator::Contains, keywords, ItemMatch::Any);
    let bought = Behavior { on: Some(EventSelector { filter: Some(named), ..on(BOUGHT) }), ..Behavior::default() };
    all(vec![acquired(last, "channel_group", &["search_ad"]), not(behavior(bought))])
}

fn opened_without_buying(last: Span) -> Condition {
    all(vec![did(OPENED, Some(last)), never(BOUGHT, Some(last))])
}

fn spent(categories: &[&str], amount: i64, last: Span) -> Condition {
    behavior(Behavior {
        on: Some(on(BOUGHT)),
        items: Some(category(Operator::In, categories, ItemMatch::Any)),
        window: Some(within(last)),
        aggregate: BehaviorAggregate::Sum as i32,
        operator: Operator::GreaterOrEqual as i32,
        values: vec![Value { kind: Some(Kind::IntValue(amount)) }],
        ..Behavior::default()
    })
}

fn acquired_and_bought(campaigns: &[&str], last: Span, bought: Condition) -> Condition {
    all(vec![acquired(last, "ad_campaign", campaigns), bought])
}

/// An order with an item that is not of the category.
fn bought_other(name: &str, last: Span) -> Condition {
    let items = Some(category(Operator::NotIn, &[name], ItemMatch::Any));
    behavior(Behavior { on: Some(on(BOUGHT)), items, window: Some(within(last)), ..Behavior::default() })
}

/// An order without any item of the category.
fn bought_none_of(name: &str, last: Span) -> Condition {
    let filter = Some(category(Operator::In, &[name], ItemMatch::None));
    behavior(Behavior { on: Some(EventSelector { filter, ..on(BOUGHT) }), window: Some(within(last)), ..Behavior::default() })
}

/// So many different conditions: S1 to S6 in turn, each with windows, amounts, categories, campaigns and keywords of its own.
pub(crate) fn variants(count: usize) -> Vec<Condition> {
    (0..count).map(|number| variant(number % 6, number / 6)).collect()
}

fn variant(kind: usize, turn: usize) -> Condition {
    // Windows of 1 to 180 days, all different within a kind for as long as there are any.
    let last = Span { count: 1 + (turn * 37 % 180) as u32, unit: TimeUnit::Day as i32 };
    let name = |step: usize| CATEGORIES[(turn * 7 + step) % CATEGORIES.len()].0;
    let word = |step: usize| WORDS[(turn * 5 + step) % WORDS.len()];
    match kind {
        0 => opened_without_sign_up(last),
        1 => acquired_without_sign_up(last),
        2 => searched_without_buying(last, &[word(0), word(1)]),
        3 => opened_without_buying(last),
        4 => spent(&[name(0), name(3)], 100_000 * (1 + turn as i64 % 20), last),
        _ => acquired_and_bought(&[&format!("campaign_{:03}", 1 + turn % 199)], last, bought_other(name(0), last)),
    }
}

fn condition(node: Node) -> Condition {
    Condition { node: Some(node) }
}

fn all(conditions: Vec<Condition>) -> Condition {
    condition(Node::All(ConditionList { conditions }))
}

pub(crate) fn not(inner: Condition) -> Condition {
    condition(Node::Not(Box::new(inner)))
}

fn behavior(behavior: Behavior) -> Condition {
    condition(Node::Behavior(behavior))
}

fn on(event: &str) -> EventSelector {
    EventSelector { events: vec![event.to_owned()], ..EventSelector::default() }
}

fn within(last: Span) -> Window {
    Window { window: Some(window::Window::Last(last)) }
}

/// At least once.
pub(crate) fn did(event: &str, last: Option<Span>) -> Condition {
    behavior(Behavior { on: Some(on(event)), window: last.map(within), ..Behavior::default() })
}

fn never(event: &str, last: Option<Span>) -> Condition {
    not(did(event, last))
}

fn compare(field: Named, operator: Operator, texts: &[&str], item_match: ItemMatch) -> Filter {
    let values = texts.iter().map(|text| Value { kind: Some(Kind::StringValue((*text).to_owned())) }).collect();
    let comparison =
        Comparison { field: Some(Field { field: Some(field) }), operator: operator as i32, values, item_match: item_match as i32 };
    Filter { node: Some(filter::Node::Compare(comparison)) }
}

fn category(operator: Operator, names: &[&str], item_match: ItemMatch) -> Filter {
    compare(Named::ItemProperty("category1".to_owned()), operator, names, item_match)
}

fn acquired(last: Span, dimension: &str, values: &[&str]) -> Condition {
    let filter = compare(Named::Dimension(dimension.to_owned()), Operator::In, values, ItemMatch::Unspecified);
    condition(Node::Acquisition(Acquisition { touch: Touch::Last as i32, window: Some(within(last)), filter: Some(filter) }))
}
