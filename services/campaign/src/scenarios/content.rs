//! What somebody wrote in a scenario: what it may hold even as a draft, and the form in which it is kept.
//!
//! A draft may be incomplete; what makes it impossible to start is told by validation. What is checked here keeps definitions small, and
//! texts such that they can be shown and compared.

use chrono_tz::Tz;
use prost::Message;
use segue_model::FieldViolation;
use segue_model::catalogue::canonical_event;
use segue_proto::campaign::v1::{ScenarioDefinition, entry, exit_rule, step, wait_step};
use segue_proto::events::v1::value;
use segue_proto::query::v1::{Comparison, EventSelector, Filter, Operator, field, filter};
use segue_runtime::fields;

/// Of a definition, encoded.
const DEFINITION_BYTES_MAX: usize = 256 << 10;
const STEPS_MAX: usize = 100;
const EXITS_MAX: usize = 20;
const GOALS_MAX: usize = 10;
/// Of a wait, branch, split or experiment.
const ARMS_MAX: usize = 10;
/// Of an event selector.
const EVENTS_MAX: usize = 100;
const EVENT_CHARS_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 63;
/// Hundredths of a percent.
const HOLDOUT_MAX: u32 = 10_000;

/// What somebody wrote.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) definition: ScenarioDefinition,
}

impl Content {
    /// Whether the other one is another version. Compared as stored: numbers that are not equal to themselves are the same text.
    pub(super) fn is_other_version(&self, other: &Content) -> bool {
        self.definition.encode_to_vec() != other.definition.encode_to_vec()
    }

    /// Whether the other one says the same.
    pub(super) fn is_same(&self, other: &Content) -> bool {
        self.name == other.name && self.description == other.description && !self.is_other_version(other)
    }
}

/// Checks the named fields of a scenario by themselves.
pub(super) fn check(faults: &mut Vec<FieldViolation>, content: &Content, checked: &[&str]) {
    for field in checked {
        match *field {
            "name" => fields::check_name(faults, "scenario.name", &content.name),
            "description" => fields::check_description(faults, "scenario.description", &content.description),
            "definition" => check_definition(faults, &content.definition),
            _ => {}
        }
    }
}

fn check_definition(faults: &mut Vec<FieldViolation>, definition: &ScenarioDefinition) {
    const PATH: &str = "scenario.definition";
    if definition.encoded_len() > DEFINITION_BYTES_MAX {
        let most = DEFINITION_BYTES_MAX >> 10;
        faults.push(FieldViolation::new(PATH, format!("takes more than {most} KiB: put conditions into segments, texts into templates")));
        return;
    }
    let mut at_most = |field: String, count: usize, most: usize| {
        if count > most {
            faults.push(FieldViolation::new(field, format!("at most {most}")));
        }
    };
    at_most(format!("{PATH}.steps"), definition.steps.len(), STEPS_MAX);
    at_most(format!("{PATH}.exits"), definition.exits.len(), EXITS_MAX);
    at_most(format!("{PATH}.goals"), definition.goals.len(), GOALS_MAX);
    for (at, step) in definition.steps.iter().enumerate() {
        let path = format!("{PATH}.steps[{at}]");
        match &step.kind {
            Some(step::Kind::Wait(wait)) => {
                if let Some(wait_step::Wait::ForEvent(wait)) = &wait.wait {
                    at_most(format!("{path}.wait.for_event.arms"), wait.arms.len(), ARMS_MAX);
                }
            }
            Some(step::Kind::Branch(branch)) => at_most(format!("{path}.branch.arms"), branch.arms.len(), ARMS_MAX),
            Some(step::Kind::Split(split)) => at_most(format!("{path}.split.arms"), split.arms.len(), ARMS_MAX),
            Some(step::Kind::Experiment(experiment)) => {
                at_most(format!("{path}.experiment.variants"), experiment.variants.len(), ARMS_MAX);
            }
            Some(
                step::Kind::Message(_) | step::Kind::UpdateTrait(_) | step::Kind::Webhook(_) | step::Kind::List(_) | step::Kind::End(_),
            )
            | None => {}
        }
    }
    check_names(faults, PATH, definition);
    // Paths are written only for what is wrong, and reading the definition needs no copy of it.
    for_each_selector(definition, PATH, &mut |path, selector| check_selector(faults, path, selector));
    if definition.holdout > HOLDOUT_MAX {
        faults.push(FieldViolation::new(format!("{PATH}.holdout"), format!("at most {HOLDOUT_MAX}, which is everybody")));
    }
    if !definition.time_zone.is_empty() && definition.time_zone.parse::<Tz>().is_err() {
        let fault = "is not a zone of the IANA database: use one like `Asia/Seoul`, or leave it empty for the tenant's";
        faults.push(FieldViolation::new(format!("{PATH}.time_zone"), fault));
    }
}

/// Ids and names that were chosen. Empty ones are not chosen yet.
fn check_names(faults: &mut Vec<FieldViolation>, path: &str, definition: &ScenarioDefinition) {
    let mut check = |field: String, name: &str| {
        let fits = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
            faults.push(FieldViolation::new(field, format!("1 to {NAME_BYTES_MAX} characters of a-z, 0-9, '_' and '-'")));
        }
    };
    for (at, step) in definition.steps.iter().enumerate() {
        check(format!("{path}.steps[{at}].id"), &step.id);
        if let Some(step::Kind::Experiment(experiment)) = &step.kind {
            for (variant_at, variant) in experiment.variants.iter().enumerate() {
                check(format!("{path}.steps[{at}].experiment.variants[{variant_at}].name"), &variant.name);
            }
        }
    }
    for (at, goal) in definition.goals.iter().enumerate() {
        check(format!("{path}.goals[{at}].name"), &goal.name);
    }
}

fn check_selector(faults: &mut Vec<FieldViolation>, path: &str, selector: &EventSelector) {
    if selector.events.len() > EVENTS_MAX {
        faults.push(FieldViolation::new(format!("{path}.events"), format!("at most {EVENTS_MAX} names; none means all events")));
        return;
    }
    for (at, name) in selector.events.iter().enumerate() {
        if name.is_empty() || name.chars().count() > EVENT_CHARS_MAX {
            let fault = format!("1 to {EVENT_CHARS_MAX} characters; for all events, give no names");
            faults.push(FieldViolation::new(format!("{path}.events[{at}]"), fault));
        }
    }
}

/// Every selector of events that scenarios match themselves, with its path. Those inside conditions are analytics' business.
fn for_each_selector(definition: &ScenarioDefinition, path: &str, visit: &mut impl FnMut(&str, &EventSelector)) {
    if let Some(entry::On::Event(event)) = definition.entry.as_ref().and_then(|entry| entry.on.as_ref())
        && let Some(on) = &event.on
    {
        visit(&format!("{path}.entry.event.on"), on);
    }
    for (at, step) in definition.steps.iter().enumerate() {
        let Some(step::Kind::Wait(wait)) = &step.kind else { continue };
        let Some(wait_step::Wait::ForEvent(wait)) = &wait.wait else { continue };
        for (arm_at, arm) in wait.arms.iter().enumerate() {
            if let Some(on) = &arm.on {
                visit(&format!("{path}.steps[{at}].wait.for_event.arms[{arm_at}].on"), on);
            }
        }
    }
    for (at, exit) in definition.exits.iter().enumerate() {
        if let Some(exit_rule::On::Event(on)) = &exit.on {
            visit(&format!("{path}.exits[{at}].event"), on);
        }
    }
    for (at, goal) in definition.goals.iter().enumerate() {
        if let Some(on) = &goal.on {
            visit(&format!("{path}.goals[{at}].on"), on);
        }
    }
}

/// Puts canonical names of events in place of their aliases, each once: events are stored under the canonical names, and nobody who
/// compares them later needs to know the aliases.
pub(super) fn normalise(definition: &mut ScenarioDefinition) {
    if let Some(entry::On::Event(event)) = definition.entry.as_mut().and_then(|entry| entry.on.as_mut()) {
        event.on.as_mut().map(normalise_selector);
    }
    for step in &mut definition.steps {
        let Some(step::Kind::Wait(wait)) = &mut step.kind else { continue };
        let Some(wait_step::Wait::ForEvent(wait)) = &mut wait.wait else { continue };
        for arm in &mut wait.arms {
            arm.on.as_mut().map(normalise_selector);
        }
    }
    for exit in &mut definition.exits {
        if let Some(exit_rule::On::Event(on)) = &mut exit.on {
            normalise_selector(on);
        }
    }
    for goal in &mut definition.goals {
        goal.on.as_mut().map(normalise_selector);
    }
}

fn normalise_selector(selector: &mut EventSelector) {
    let mut names: Vec<String> = Vec::with_capacity(selector.events.len());
    for name in selector.events.drain(..) {
        let name = canonical_event(&name).map_or(name, str::to_owned);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    selector.events = names;
    selector.filter.as_mut().map(normalise_filter);
}

/// In filters, too, an alias means the event that it is an alias of.
fn normalise_filter(filter: &mut Filter) {
    match &mut filter.node {
        Some(filter::Node::All(list) | filter::Node::Any(list)) => list.filters.iter_mut().for_each(normalise_filter),
        Some(filter::Node::Not(inner)) => normalise_filter(inner),
        Some(filter::Node::Compare(comparison)) => normalise_comparison(comparison),
        None => {}
    }
}

fn normalise_comparison(comparison: &mut Comparison) {
    let of_name = matches!(
        comparison.field.as_ref().and_then(|field| field.field.as_ref()),
        Some(field::Field::Dimension(name)) if name == "event"
    );
    // What a name contains or begins with is about the name as it is stored.
    if !of_name || !matches!(comparison.operator(), Operator::In | Operator::NotIn) {
        return;
    }
    for compared in &mut comparison.values {
        if let Some(value::Kind::StringValue(name)) = &mut compared.kind
            && let Some(canonical) = canonical_event(name)
        {
            *name = canonical.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use segue_proto::campaign::v1::{
        BranchArm, BranchStep, Entry, EventArm, EventEntry, EventWait, ExitRule, ExperimentStep, Goal, Step, Variant, WaitStep,
    };
    use segue_proto::events::v1::Value;
    use segue_proto::query::v1::{Behavior, Condition, Field, FilterList, condition};

    use super::*;

    fn selector(names: &[&str]) -> EventSelector {
        EventSelector { events: names.iter().map(|name| (*name).to_owned()).collect(), filter: None }
    }

    fn compare(dimension: &str, operator: Operator, text: &str) -> Filter {
        let field = Some(Field { field: Some(field::Field::Dimension(dimension.to_owned())) });
        let values = vec![Value { kind: Some(value::Kind::StringValue(text.to_owned())) }];
        let comparison = Comparison { field, operator: operator.into(), values, ..Comparison::default() };
        Filter { node: Some(filter::Node::Compare(comparison)) }
    }

    fn wait(on: EventSelector) -> Step {
        let arms = vec![EventArm { on: Some(on), ..EventArm::default() }];
        let wait = wait_step::Wait::ForEvent(EventWait { arms, timeout: None });
        Step { id: "wait".to_owned(), kind: Some(step::Kind::Wait(WaitStep { wait: Some(wait) })), ..Step::default() }
    }

    /// A selector at every place where scenarios match events themselves.
    fn everywhere(on: &EventSelector) -> ScenarioDefinition {
        let event = EventEntry { on: Some(on.clone()), ..EventEntry::default() };
        ScenarioDefinition {
            entry: Some(Entry { on: Some(entry::On::Event(event)), only_if: None }),
            steps: vec![Step::default(), wait(on.clone())],
            exits: vec![ExitRule { on: Some(exit_rule::On::Event(on.clone())), ..ExitRule::default() }],
            goals: vec![Goal { on: Some(on.clone()), ..Goal::default() }],
            ..ScenarioDefinition::default()
        }
    }

    fn faults(definition: ScenarioDefinition) -> Vec<String> {
        let content = Content { name: "n".to_owned(), description: String::new(), definition };
        let mut faults = Vec::new();
        check(&mut faults, &content, &["name", "description", "definition"]);
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn aliases_of_events_become_canonical_everywhere_and_stand_once() {
        let mut definition = everywhere(&selector(&["Order Completed", "own event", "purchase", "df_login"]));
        normalise(&mut definition);
        assert_eq!(definition, everywhere(&selector(&["df_purchase", "own event", "df_login"])));
        let once = definition.clone();
        normalise(&mut definition);
        assert_eq!(definition, once, "what is canonical stays");
    }

    #[test]
    fn aliases_in_filters_on_the_name_of_the_event_become_canonical() {
        let list = |filters: Vec<Filter>| Filter { node: Some(filter::Node::All(FilterList { filters })) };
        let not = |inner: Filter| Filter { node: Some(filter::Node::Not(Box::new(inner))) };
        let with = |filter: Filter| everywhere(&EventSelector { events: Vec::new(), filter: Some(filter) });
        let mut definition = with(list(vec![
            compare("event", Operator::In, "purchase"),
            not(compare("event", Operator::NotIn, "Order Refunded")),
            compare("event", Operator::Contains, "purchase"),
            compare("platform", Operator::In, "purchase"),
        ]));
        normalise(&mut definition);
        let expected = with(list(vec![
            compare("event", Operator::In, "df_purchase"),
            not(compare("event", Operator::NotIn, "df_refund")),
            compare("event", Operator::Contains, "purchase"),
            compare("platform", Operator::In, "purchase"),
        ]));
        assert_eq!(definition, expected);
    }

    #[test]
    fn conditions_stay_as_they_were_written() {
        let behavior = Behavior { on: Some(selector(&["purchase"])), ..Behavior::default() };
        let condition = Condition { node: Some(condition::Node::Behavior(behavior)) };
        let arms = vec![BranchArm { condition: Some(condition.clone()), next: String::new() }];
        let branch = Step { kind: Some(step::Kind::Branch(BranchStep { arms })), ..Step::default() };
        let written = ScenarioDefinition {
            entry: Some(Entry { only_if: Some(condition), on: None }),
            steps: vec![branch],
            ..ScenarioDefinition::default()
        };
        let mut definition = written.clone();
        normalise(&mut definition);
        assert_eq!(definition, written);
    }

    #[test]
    fn a_draft_may_be_incomplete() {
        assert_eq!(faults(ScenarioDefinition::default()), Vec::<String>::new());
        let steps = vec![Step::default(), Step { id: "0-a_b".to_owned(), next: "nowhere".to_owned(), kind: None }];
        assert_eq!(faults(ScenarioDefinition { steps, time_zone: "Asia/Seoul".to_owned(), ..ScenarioDefinition::default() }).len(), 0);
    }

    #[test]
    fn a_draft_may_not_be_large_or_hold_what_cannot_be_shown() {
        let variants = vec![Variant { name: "B".to_owned(), ..Variant::default() }; 11];
        let experiment = step::Kind::Experiment(ExperimentStep { variants: variants.clone(), ..ExperimentStep::default() });
        let mut steps = vec![Step { id: "x".repeat(64), kind: Some(experiment), ..Step::default() }];
        steps.push(wait(EventSelector { events: vec!["a".to_owned(); 101], filter: None }));
        steps.push(wait(selector(&["", "홍"])));
        let definition = ScenarioDefinition {
            steps,
            exits: vec![ExitRule::default(); 21],
            goals: vec![Goal { name: "a b".to_owned(), ..Goal::default() }],
            holdout: 10_001,
            time_zone: "Mars".to_owned(),
            ..ScenarioDefinition::default()
        };
        let mut expected = vec!["exits", "steps[0].experiment.variants", "steps[0].id"].into_iter().map(str::to_owned).collect::<Vec<_>>();
        expected.extend((0..11).map(|at| format!("steps[0].experiment.variants[{at}].name")));
        let rest =
            ["goals[0].name", "steps[1].wait.for_event.arms[0].on.events", "steps[2].wait.for_event.arms[0].on.events[0]", "holdout"];
        expected.extend(rest.into_iter().chain(["time_zone"]).map(str::to_owned));
        let expected: Vec<String> = expected.into_iter().map(|field| format!("scenario.definition.{field}")).collect();
        assert_eq!(faults(definition), expected);
        let wide =
            ScenarioDefinition { steps: vec![Step { next: "x".repeat(3_000), ..Step::default() }; 90], ..ScenarioDefinition::default() };
        assert_eq!(faults(wide), ["scenario.definition"]);
        assert_eq!(
            faults(ScenarioDefinition { steps: vec![Step::default(); 101], ..ScenarioDefinition::default() }),
            ["scenario.definition.steps"]
        );
    }

    #[test]
    fn a_number_that_is_not_equal_to_itself_makes_no_new_version() {
        let filter = |number: f64| {
            let mut filter = compare("price", Operator::In, "");
            if let Some(filter::Node::Compare(comparison)) = &mut filter.node {
                comparison.values = vec![Value { kind: Some(value::Kind::DoubleValue(number)) }];
            }
            let definition = everywhere(&EventSelector { events: Vec::new(), filter: Some(filter) });
            Content { name: "n".to_owned(), description: String::new(), definition }
        };
        assert!(filter(f64::NAN).is_same(&filter(f64::NAN)));
        assert!(filter(1.0).is_other_version(&filter(2.0)));
    }
}
