//! What a person did: events, their clauses in any order, and sequences.

use segue_proto::events::v1::{Value, value};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Behavior, BehaviorAggregate as Aggregate, EventSelector, EventSequence, Field, Operator, TimeRange, Window, field, window,
};

use super::tests_of_events::Scope;
use super::{Parser, Wanted};
use crate::error::ParseError;
use crate::names::{AMOUNTS, bare_field};

/// What is computed and how it is compared.
struct Measure {
    aggregate: Aggregate,
    field: Option<Field>,
    operator: Operator,
    values: Vec<Value>,
}

/// The clauses of a behavior, each said or not.
#[derive(Default)]
struct Clauses {
    behavior: Behavior,
    has_filter: bool,
    has_items: bool,
    has_window: bool,
    has_measure: bool,
}

impl Parser<'_> {
    /// Behind `did`.
    pub(super) fn did(&mut self) -> Result<Node, ParseError> {
        let events = self.events()?;
        let mut clauses = self.clauses(true)?;
        let on = EventSelector { events, filter: clauses.behavior.on.take().and_then(|on| on.filter) };
        let then = self.at;
        if self.eat("then") {
            if clauses.has_items || clauses.has_window || clauses.has_measure {
                return self.fail_at(then, "`then` stands directly behind an event and its `where`; the rest behind the last step");
            }
            return Ok(Node::Sequence(self.sequence(on)?));
        }
        let behavior = Behavior { on: Some(on), ..clauses.behavior };
        let is_said = clauses.has_measure;
        Ok(Node::Behavior(if is_said { behavior } else { measured(behavior, count(Operator::GreaterOrEqual, whole(1))) }))
    }

    /// Behind `never did`.
    pub(super) fn never_did(&mut self) -> Result<Behavior, ParseError> {
        let events = self.events()?;
        let clauses = self.clauses(false)?;
        let filter = clauses.behavior.on.and_then(|on| on.filter);
        let behavior = Behavior { on: Some(EventSelector { events, filter }), ..clauses.behavior };
        Ok(measured(behavior, count(Operator::Less, whole(1))))
    }

    /// The events of a selector: one, one of several, or `anything`.
    fn events(&mut self) -> Result<Vec<String>, ParseError> {
        if self.eat("anything") {
            return Ok(Vec::new());
        }
        if !self.eat("one of") && !self.eat("any of") {
            return Ok(vec![self.name("the name of an event")?]);
        }
        self.expect("(")?;
        let mut events = Vec::new();
        loop {
            events.push(self.name("the name of an event")?);
            if self.eat(")") {
                return Ok(events);
            }
            self.expect(",")?;
        }
    }

    /// The clauses behind the events. The filter of events comes in `on`.
    fn clauses(&mut self, may_measure: bool) -> Result<Clauses, ParseError> {
        let mut clauses = Clauses::default();
        loop {
            self.eat_comma_before_clause();
            let start = self.at;
            if self.eat("of items where") || self.eat("where item") || self.eat("where items") {
                self.once(&mut clauses.has_items, start)?;
                clauses.behavior.items = Some(self.test(Scope::Items)?);
            } else if self.eat("where") {
                self.once(&mut clauses.has_filter, start)?;
                clauses.behavior.on = Some(EventSelector { filter: Some(self.test(Scope::Events)?), ..EventSelector::default() });
            } else if let Some(window) = self.window(true)? {
                self.once(&mut clauses.has_window, start)?;
                clauses.behavior.window = window;
            } else if let Some(measure) = self.measure()? {
                if !may_measure {
                    return self.fail_at(start, "`never did` says how often already; write `not (did …)`, or `did` with a number");
                }
                self.once(&mut clauses.has_measure, start)?;
                clauses.behavior = measured(clauses.behavior, measure);
            } else {
                return Ok(clauses);
            }
        }
    }

    /// A clause is said once.
    pub(super) fn once(&self, said: &mut bool, start: usize) -> Result<(), ParseError> {
        if std::mem::replace(said, true) {
            return self.fail_at(start, "is said already; tests that belong together are joined by `and` in parentheses");
        }
        Ok(())
    }

    /// A comma may stand before a clause; before anything else, it separates what is listed.
    pub(super) fn eat_comma_before_clause(&mut self) {
        const CLAUSES: [&str; 8] = ["within", "in the last", "from", "ever", "without", "where", "with", "of items"];
        // Not remembered as wanted: each is asked for again where it stands.
        let (furthest, wanted) = (self.furthest, self.wanted.clone());
        let is_clause = self.is_ahead(0, ",").is_some() && CLAUSES.iter().any(|clause| self.is_ahead(1, clause).is_some());
        (self.furthest, self.wanted) = (furthest, wanted);
        if is_clause {
            self.at += 1;
        }
    }

    /// The window, if one stands here: none inside is ever. Of a sequence, `within` says how far its steps lie apart.
    pub(super) fn window(&mut self, by_within: bool) -> Result<Option<Option<Window>>, ParseError> {
        if self.eat("in the last") || by_within && self.eat("within") {
            let last = window::Window::Last(self.span()?);
            return Ok(Some(Some(Window { window: Some(last) })));
        }
        if self.eat("from") {
            let start = Some(self.time()?);
            self.expect("to")?;
            self.eat("before");
            let absolute = window::Window::Absolute(TimeRange { start, end: Some(self.time()?) });
            return Ok(Some(Some(Window { window: Some(absolute) })));
        }
        Ok(self.eat("ever").then_some(None))
    }

    /// How often, on how many days, or a computed value: if it stands here.
    fn measure(&mut self) -> Result<Option<Measure>, ParseError> {
        if let Some(operator) = self.amount() {
            return Ok(Some(count(operator, self.how_often()?)));
        }
        if self.eat("on") {
            let Some(operator) = self.amount() else { return self.fail() };
            let values = vec![self.whole_number("a number of days")?];
            self.eat("different");
            if !self.eat("days") && !self.eat("day") {
                return self.fail();
            }
            return Ok(Some(Measure { aggregate: Aggregate::DistinctDays, field: None, operator, values }));
        }
        if !self.eat("with") {
            return Ok(None);
        }
        let (aggregate, field) = self.aggregate()?;
        let (operator, values) = self.compared()?;
        Ok(Some(Measure { aggregate, field, operator, values }))
    }

    fn amount(&mut self) -> Option<Operator> {
        let is_here = |(_, phrases): &&(Operator, &[&'static str])| phrases.iter().any(|phrase| self.eat(phrase));
        AMOUNTS.iter().find(is_here).map(|(operator, _)| *operator)
    }

    fn how_often(&mut self) -> Result<Value, ParseError> {
        if self.eat("once") {
            return Ok(whole(1));
        }
        if self.eat("twice") {
            return Ok(whole(2));
        }
        let times = self.whole_number("how often, like `3 times`")?;
        if self.eat("times") || self.eat("time") { Ok(times) } else { self.fail() }
    }

    fn aggregate(&mut self) -> Result<(Aggregate, Option<Field>), ParseError> {
        let plain = [
            ("number of times", Aggregate::Count),
            ("number of days", Aggregate::DistinctDays),
            ("first time", Aggregate::FirstTime),
            ("last time", Aggregate::LastTime),
        ];
        for (phrase, aggregate) in plain {
            if self.eat(phrase) {
                return Ok((aggregate, None));
            }
        }
        let of_field = [
            ("number of different", Aggregate::DistinctCount),
            ("first value of", Aggregate::FirstValue),
            ("last value of", Aggregate::LastValue),
        ];
        for (phrase, aggregate) in of_field {
            if self.eat(phrase) {
                return Ok((aggregate, Some(self.measured_field()?)));
            }
        }
        for (phrase, aggregate) in [("sum of", Aggregate::Sum), ("smallest", Aggregate::Min), ("largest", Aggregate::Max)] {
            if self.eat(phrase) {
                let is_product = ["price ×", "price x", "price *"].into_iter().any(|product| self.eat(product));
                if is_product {
                    self.expect("quantity")?;
                    return Ok((aggregate, None));
                }
                return Ok((aggregate, Some(self.measured_field()?)));
            }
        }
        self.fail()
    }

    /// A field that an aggregate is of.
    fn measured_field(&mut self) -> Result<Field, ParseError> {
        if self.eat("item") {
            let name = self.name("the name of an item property")?;
            return Ok(Field { field: Some(field::Field::ItemProperty(name)) });
        }
        self.field_of_event()
    }

    /// A dimension or property.
    pub(super) fn field_of_event(&mut self) -> Result<Field, ParseError> {
        let field = if self.eat("property") {
            field::Field::Property(self.name("the name of a property")?)
        } else if self.eat("dimension") {
            field::Field::Dimension(self.name("the name of a dimension")?)
        } else {
            return Ok(bare_field(self.name("the name of a property or dimension")?));
        };
        Ok(Field { field: Some(field) })
    }

    /// Behind the first `then`.
    fn sequence(&mut self, first: EventSelector) -> Result<EventSequence, ParseError> {
        let mut sequence = EventSequence { steps: vec![first], ..EventSequence::default() };
        loop {
            sequence.steps.push(self.selector()?);
            if !self.eat("then") {
                break;
            }
        }
        let mut has_window = false;
        loop {
            self.eat_comma_before_clause();
            let start = self.at;
            if self.eat("within") {
                self.once(&mut sequence.within.is_some(), start)?;
                sequence.within = Some(self.span()?);
            } else if self.eat("without") {
                self.once(&mut sequence.not_between.is_some(), start)?;
                sequence.not_between = Some(self.selector()?);
                self.expect("between")?;
            } else if let Some(window) = self.window(false)? {
                self.once(&mut has_window, start)?;
                sequence.window = window;
            } else if sequence.within.is_none() {
                self.want(self.at, Wanted::Words("within"));
                return self.fail_with("a sequence says how long after its first step the last may come, like `within 2 hours`");
            } else {
                return Ok(sequence);
            }
        }
    }

    fn selector(&mut self) -> Result<EventSelector, ParseError> {
        let events = self.events()?;
        let filter = if self.eat("where") { Some(self.test(Scope::Events)?) } else { None };
        Ok(EventSelector { events, filter })
    }
}

fn count(operator: Operator, times: Value) -> Measure {
    Measure { aggregate: Aggregate::Count, field: None, operator, values: vec![times] }
}

fn measured(behavior: Behavior, measure: Measure) -> Behavior {
    let Measure { aggregate, field, operator, values } = measure;
    Behavior { aggregate: aggregate.into(), field, operator: operator.into(), values, ..behavior }
}

fn whole(number: i64) -> Value {
    Value { kind: Some(value::Kind::IntValue(number)) }
}
