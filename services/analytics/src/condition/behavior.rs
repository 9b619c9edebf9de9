//! Parsing of what a person did and of what is known of one: leaves that are computed from one aggregate.

use segue_engine::condition::Window;
use segue_proto::query::v1 as pb;
use segue_proto::query::v1::{BehaviorAggregate as Aggregate, Operator};

use super::parse::{Parser, check_comparisons};
use super::plan::{Edge, Measure, Operand, Rows};
use super::verdict::Verdict;
use crate::filter::fields::{FieldRef, ItemColumn, Place, Resolver};
use crate::filter::predicate::{FilterParser, Predicate, Test, Which};
use crate::question::time::last_us;
use crate::scan::{Column, ItemField, PropertyType, TRAITS};

impl Parser<'_, '_> {
    pub(super) fn behavior(&mut self, behavior: &pb::Behavior, path: &str) -> Option<Rows> {
        let before = self.faults.len();
        let mut resolver = Resolver::new(self.vocabulary);
        let (on, _) = crate::question::parse::selector(behavior.on.as_ref(), &format!("{path}.on"), &mut resolver, self.faults);
        let items = behavior.items.as_ref().map(|filter| self.items(filter, &format!("{path}.items"), &mut resolver));
        let window = self.window(behavior.window.as_ref(), &format!("{path}.window"));
        let measure = self.measure(behavior, path, &mut resolver);
        let (columns, item_columns) = resolver.finish();
        let (window, measure) = (window?, measure?);
        (self.faults.len() == before).then_some(Rows {
            events: on.names,
            filter: on.filter,
            items,
            window,
            columns,
            having: Vec::new(),
            item_columns,
            measure,
        })
    }

    /// A trait: the last value stated of the person.
    pub(super) fn attribute(&mut self, attribute: &pb::Attribute, path: &str) -> Option<Rows> {
        let before = self.faults.len();
        let mut resolver = Resolver::new(self.vocabulary);
        let field = resolver.resolve_trait(&attribute.r#trait, &format!("{path}.trait"), self.faults);
        let window = match attribute.as_of.as_ref().map(last_us) {
            None => Window::Ever,
            Some(Some(as_of)) => Window::Absolute(i64::MIN, as_of.saturating_add(1)),
            Some(None) => {
                self.fault(format!("{path}.as_of"), "not a timestamp between the years 1 and 9999");
                Window::Ever
            }
        };
        let operator = match Operator::try_from(attribute.operator) {
            Ok(Operator::Unspecified) | Err(_) => {
                self.fault(format!("{path}.operator"), "set the operator");
                return None;
            }
            Ok(operator) => operator,
        };
        let edge = self.edge_of(&field?, operator, &attribute.values, path, true, &mut resolver)?;
        (self.faults.len() == before).then_some(Rows {
            events: Some(vec![TRAITS.to_owned()]),
            filter: Predicate::Always(true),
            items: None,
            window,
            having: resolver.columns.clone(),
            columns: resolver.columns,
            item_columns: resolver.items,
            measure: Measure::Edge(edge),
        })
    }

    /// A filter on items, each tested by itself.
    fn items(&mut self, filter: &pb::Filter, path: &str, resolver: &mut Resolver<'_>) -> Predicate {
        let is_of_item = |comparison: &pb::Comparison| match comparison.field.as_ref().and_then(|field| field.field.as_ref()) {
            Some(pb::field::Field::Dimension(_) | pb::field::Field::Property(_)) => {
                Err((".field", "items are tested one by one here: set `item_property`, and put tests of the event into `on`"))
            }
            None | Some(pb::field::Field::ItemProperty(_)) => match pb::ItemMatch::try_from(comparison.item_match) {
                Ok(pb::ItemMatch::All | pb::ItemMatch::None) => {
                    Err((".item_match", "leave it out: each item is tested by itself here; ALL and NONE go into `on`"))
                }
                Ok(pb::ItemMatch::Unspecified | pb::ItemMatch::Any) | Err(_) => Ok(()),
            },
        };
        check_comparisons(filter, path, &is_of_item, self.faults);
        resolver.column(Column::ItemsList);
        FilterParser::parse(Some(filter), path, resolver, self.faults)
    }

    fn measure(&mut self, behavior: &pb::Behavior, path: &str, resolver: &mut Resolver<'_>) -> Option<Measure> {
        let Ok(aggregate) = Aggregate::try_from(behavior.aggregate) else {
            self.fault(format!("{path}.aggregate"), "not an aggregate of this version");
            return None;
        };
        let takes_field = !matches!(
            aggregate,
            Aggregate::Unspecified | Aggregate::Count | Aggregate::DistinctDays | Aggregate::FirstTime | Aggregate::LastTime
        );
        if !takes_field && behavior.field.is_some() {
            self.fault(format!("{path}.field"), "leave it out: this aggregate is of events, not of a value that they carry");
            return None;
        }
        let asked = Asked { behavior, path };
        match aggregate {
            Aggregate::Unspecified | Aggregate::Count => {
                if behavior.operator == Operator::Unspecified as i32 && behavior.values.is_empty() {
                    return Some(Measure::Count(Verdict::at_least(1)));
                }
                self.number(&asked, "count", PropertyType::Int, resolver).map(Measure::Count)
            }
            Aggregate::DistinctDays => {
                let times = resolver.column(Column::Ts);
                self.number(&asked, "distinct_days", PropertyType::Int, resolver).map(|verdict| Measure::Days(times, verdict))
            }
            Aggregate::FirstTime | Aggregate::LastTime => {
                let times = Operand::Exact(resolver.column(Column::Ts));
                let verdict = self.verdict(&asked, "time", PropertyType::Timestamp, resolver)?;
                Some(if aggregate == Aggregate::FirstTime { Measure::Least(times, verdict) } else { Measure::Most(times, verdict) })
            }
            Aggregate::Sum | Aggregate::Min | Aggregate::Max => self.of_numbers(&asked, aggregate, resolver),
            Aggregate::DistinctCount => {
                let field = self.field(&asked, resolver)?;
                if field.kind == Some(PropertyType::Json) {
                    self.fault(format!("{path}.field"), format!("`{}` holds arrays or objects, which are not told apart", field.name));
                    return None;
                }
                self.number(&asked, "distinct_count", PropertyType::Int, resolver).map(|verdict| Measure::Distinct(field.place, verdict))
            }
            Aggregate::FirstValue | Aggregate::LastValue => {
                let field = self.field(&asked, resolver)?;
                let last = aggregate == Aggregate::LastValue;
                self.edge(&field, &asked, last, resolver).map(Measure::Edge)
            }
        }
    }

    fn field(&mut self, asked: &Asked<'_>, resolver: &mut Resolver<'_>) -> Option<FieldRef> {
        resolver.resolve(asked.behavior.field.as_ref(), &format!("{}.field", asked.path), self.faults)
    }

    /// A sum, or an extreme.
    fn of_numbers(&mut self, asked: &Asked<'_>, aggregate: Aggregate, resolver: &mut Resolver<'_>) -> Option<Measure> {
        let (name, kind, operand) = if asked.behavior.field.is_some() {
            let field = self.field(asked, resolver)?;
            // Of what nobody knows the type of, nobody has any.
            let kind = field.kind.unwrap_or(PropertyType::Decimal);
            let is_number = matches!(kind, PropertyType::Int | PropertyType::Decimal | PropertyType::Double);
            if !is_number && (aggregate == Aggregate::Sum || kind != PropertyType::Timestamp) {
                let wanted = if aggregate == Aggregate::Sum { "numbers" } else { "numbers and times" };
                self.fault(
                    format!("{}.field", asked.path),
                    format!("`{}` is of type {}: only {wanted} work here", field.name, kind.name()),
                );
                return None;
            }
            let is_double = kind == PropertyType::Double;
            let operand = match field.place {
                Place::Column(at) if is_double => Operand::Double(at),
                Place::Column(at) => Operand::Exact(at),
                Place::Item(at) if is_double => Operand::ItemDouble(at),
                Place::Item(at) => Operand::ItemExact(at),
                Place::EventName | Place::Absent => Operand::Absent,
            };
            (field.name, kind, operand)
        } else if asked.behavior.items.is_some() {
            let price = resolver.item(ItemColumn::BuiltIn(ItemField::Price));
            let quantity = resolver.item(ItemColumn::BuiltIn(ItemField::Quantity));
            ("price × quantity".to_owned(), PropertyType::Decimal, Operand::ItemsValue { price, quantity })
        } else {
            ("price × quantity".to_owned(), PropertyType::Decimal, Operand::Exact(resolver.column(Column::Value)))
        };
        match aggregate {
            Aggregate::Sum => self.number(asked, &name, kind, resolver).map(|verdict| Measure::Sum(operand, verdict)),
            Aggregate::Min => self.verdict(asked, &name, kind, resolver).map(|verdict| Measure::Least(operand, verdict)),
            _ => self.verdict(asked, &name, kind, resolver).map(|verdict| Measure::Most(operand, verdict)),
        }
    }

    /// A test of a number that is always there.
    fn number(&mut self, asked: &Asked<'_>, name: &str, kind: PropertyType, resolver: &mut Resolver<'_>) -> Option<Verdict> {
        if matches!(asked.operator(), Ok(Operator::Exists | Operator::NotExists)) {
            self.fault(format!("{}.operator", asked.path), format!("`{name}` is always there, 0 when there is nothing: compare it"));
            return None;
        }
        self.verdict(asked, name, kind, resolver)
    }

    fn verdict(&mut self, asked: &Asked<'_>, name: &str, kind: PropertyType, resolver: &mut Resolver<'_>) -> Option<Verdict> {
        let of = FieldRef { name: name.to_owned(), place: Place::Absent, kind: Some(kind) };
        let operator = match asked.operator() {
            Ok(Operator::Unspecified) | Err(()) => {
                self.fault(format!("{}.operator", asked.path), "set the operator");
                return None;
            }
            Ok(operator) => operator,
        };
        let (test, negate) = FilterParser::parse_test(&of, operator, &asked.behavior.values, asked.path, resolver, self.faults)?;
        Some(Verdict::new(test, negate))
    }

    /// A test of the first or last value of a field.
    fn edge(&mut self, field: &FieldRef, asked: &Asked<'_>, last: bool, resolver: &mut Resolver<'_>) -> Option<Edge> {
        let operator = match asked.operator() {
            Ok(Operator::Unspecified) => Operator::Exists,
            Ok(operator) => operator,
            Err(()) => {
                self.fault(format!("{}.operator", asked.path), "not an operator of this version");
                return None;
            }
        };
        self.edge_of(field, operator, &asked.behavior.values, asked.path, last, resolver)
    }

    pub(super) fn edge_of(
        &mut self,
        field: &FieldRef,
        operator: Operator,
        values: &[segue_proto::events::v1::Value],
        path: &str,
        last: bool,
        resolver: &mut Resolver<'_>,
    ) -> Option<Edge> {
        // Where nobody knows the type, nobody has a value: any comparison that can be read will do.
        let kind = field.kind.or_else(|| values.iter().find_map(type_of)).unwrap_or(PropertyType::String);
        let typed = FieldRef { kind: Some(kind), ..field.clone() };
        let (test, negate) = FilterParser::parse_test(&typed, operator, values, path, resolver, self.faults)?;
        let of_field = |test: Test, negate: bool| Predicate::Test { place: field.place, test, negate, items: Which::Any };
        Some(Edge {
            last,
            of_items: matches!(field.place, Place::Item(_)),
            present: of_field(Test::Exists, false),
            passes: of_field(test, negate),
            otherwise: negate,
        })
    }
}

/// A behavior, and where it stands.
struct Asked<'b> {
    behavior: &'b pb::Behavior,
    path: &'b str,
}

impl Asked<'_> {
    fn operator(&self) -> Result<Operator, ()> {
        Operator::try_from(self.behavior.operator).map_err(|_| ())
    }
}

fn type_of(value: &segue_proto::events::v1::Value) -> Option<PropertyType> {
    use segue_proto::events::v1::value::Kind;
    Some(match value.kind.as_ref()? {
        Kind::StringValue(_) => PropertyType::String,
        Kind::IntValue(_) => PropertyType::Int,
        Kind::DoubleValue(_) => PropertyType::Double,
        Kind::BoolValue(_) => PropertyType::Bool,
        Kind::DecimalE4Value(_) => PropertyType::Decimal,
        Kind::TimestampValue(_) => PropertyType::Timestamp,
        Kind::JsonValue(_) => PropertyType::Json,
    })
}
