//! Tests of one event or item, as they stand behind `where`.

use segue_proto::query::v1::{Comparison, Field, Filter, FilterList, ItemMatch, field, filter};

use super::Parser;
use crate::error::ParseError;

/// What is tested.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Scope {
    /// Events: properties, dimensions, and items by any, every or no.
    Events,
    /// Each item by itself: its properties.
    Items,
}

impl Parser<'_> {
    /// One test. Several stand in parentheses, since `and` behind it goes on with the condition.
    pub(super) fn test(&mut self, scope: Scope) -> Result<Filter, ParseError> {
        if self.eat("not") {
            // With its parentheses it is one level.
            let operand = if self.peek("(") { self.test(scope)? } else { self.nested(|parser| parser.test(scope))? };
            return Ok(of(filter::Node::Not(Box::new(operand))));
        }
        if self.eat("(") {
            let inner = self.nested(|parser| parser.tests(scope))?;
            self.expect(")")?;
            return Ok(inner);
        }
        let node = if self.eat("all of") {
            filter::Node::All(self.test_list(scope)?)
        } else if self.eat("any of") {
            filter::Node::Any(self.test_list(scope)?)
        } else {
            filter::Node::Compare(self.comparison(scope)?)
        };
        Ok(of(node))
    }

    /// Tests in parentheses, joined by `and` and `or`.
    fn tests(&mut self, scope: Scope) -> Result<Filter, ParseError> {
        let first = self.joined(scope)?;
        if !self.peek("or") {
            return Ok(first);
        }
        let mut filters = vec![first];
        while self.eat("or") {
            filters.push(self.joined(scope)?);
        }
        Ok(of(filter::Node::Any(FilterList { filters })))
    }

    fn joined(&mut self, scope: Scope) -> Result<Filter, ParseError> {
        let first = self.test(scope)?;
        if !self.peek("and") {
            return Ok(first);
        }
        let mut filters = vec![first];
        while self.eat("and") {
            filters.push(self.test(scope)?);
        }
        Ok(of(filter::Node::All(FilterList { filters })))
    }

    fn test_list(&mut self, scope: Scope) -> Result<FilterList, ParseError> {
        self.expect("(")?;
        let mut filters = Vec::new();
        if self.eat(")") {
            return Ok(FilterList { filters });
        }
        loop {
            filters.push(self.nested(|parser| parser.tests(scope))?);
            if self.eat(")") {
                return Ok(FilterList { filters });
            }
            self.expect(",")?;
        }
    }

    fn comparison(&mut self, scope: Scope) -> Result<Comparison, ParseError> {
        let (field, item_match) = match scope {
            Scope::Events => self.tested_field()?,
            Scope::Items => {
                self.eat("item");
                (of_item(self.name("the name of an item property")?), ItemMatch::Unspecified)
            }
        };
        let (operator, values) = self.compared()?;
        Ok(Comparison { field: Some(field), operator: operator.into(), values, item_match: item_match.into() })
    }

    fn tested_field(&mut self) -> Result<(Field, ItemMatch), ParseError> {
        for (phrase, which) in [("any item", ItemMatch::Any), ("every item", ItemMatch::All), ("no item", ItemMatch::None)] {
            if self.eat(phrase) {
                return Ok((of_item(self.name("the name of an item property")?), which));
            }
        }
        let at = self.at;
        if self.eat("item") || self.eat("items") {
            return self.fail_at(
                at,
                "say which items: `any item`, `every item` or `no item`; or, so that only the items that pass count, `of items where …`",
            );
        }
        Ok((self.field_of_event()?, ItemMatch::Unspecified))
    }
}

fn of(node: filter::Node) -> Filter {
    Filter { node: Some(node) }
}

fn of_item(name: String) -> Field {
    Field { field: Some(field::Field::ItemProperty(name)) }
}
