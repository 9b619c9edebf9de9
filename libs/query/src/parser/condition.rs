//! Trees of conditions, and the leaves that are not about events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Acquisition, Attribute, Condition, ConditionList, HasIdentifier, Membership, PersonSet, RandomBucket, Touch, membership,
};

use super::Parser;
use super::tests_of_events::Scope;
use crate::error::ParseError;

/// What people write in place of a condition.
const HINT: &str = "tests of one event that belong together stand in parentheses behind `where`, several events are `one of (a, b)`, \
                    and a test of a person's trait begins with `trait`";

impl Parser<'_> {
    pub(super) fn condition(&mut self) -> Result<Condition, ParseError> {
        let first = self.conjunction()?;
        if !self.peek("or") {
            return Ok(first);
        }
        let mut conditions = vec![first];
        while self.eat("or") {
            conditions.push(self.conjunction()?);
        }
        Ok(of(Node::Any(ConditionList { conditions })))
    }

    fn conjunction(&mut self) -> Result<Condition, ParseError> {
        let first = self.operand()?;
        if !self.peek("and") {
            return Ok(first);
        }
        let mut conditions = vec![first];
        while self.eat("and") {
            conditions.push(self.operand()?);
        }
        Ok(of(Node::All(ConditionList { conditions })))
    }

    fn operand(&mut self) -> Result<Condition, ParseError> {
        if self.eat("not") {
            // With its parentheses it is one level.
            let operand = if self.peek("(") { self.operand()? } else { self.nested(Self::operand)? };
            return Ok(of(Node::Not(Box::new(operand))));
        }
        if self.eat("(") {
            let inner = self.nested(Self::condition)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let node = if self.eat("all of") {
            Node::All(self.conditions()?)
        } else if self.eat("any of") {
            Node::Any(self.conditions()?)
        } else if self.eat("everyone") {
            Node::All(ConditionList::default())
        } else if self.eat("nobody") {
            Node::Any(ConditionList::default())
        } else if self.eat("did") {
            self.did()?
        } else if self.eat("never did") {
            Node::Behavior(self.never_did()?)
        } else {
            self.leaf()?
        };
        Ok(of(node))
    }

    fn conditions(&mut self) -> Result<ConditionList, ParseError> {
        self.expect("(")?;
        let mut conditions = Vec::new();
        if self.eat(")") {
            return Ok(ConditionList { conditions });
        }
        loop {
            conditions.push(self.nested(Self::condition)?);
            if self.eat(")") {
                return Ok(ConditionList { conditions });
            }
            self.expect(",")?;
        }
    }

    fn leaf(&mut self) -> Result<Node, ParseError> {
        if self.eat("first touch") {
            return self.acquisition(Touch::First);
        }
        if self.eat("last touch") {
            return self.acquisition(Touch::Last);
        }
        if self.eat("trait") {
            return self.attribute();
        }
        if self.eat("bucket") {
            return self.bucket();
        }
        if self.eat("persons") {
            return self.persons();
        }
        if self.eat("has") {
            return Ok(Node::HasIdentifier(HasIdentifier { kind: self.name("a kind of identifier, like email")? }));
        }
        let group = if self.eat("in segment") {
            membership::Of::Segment(self.name("the id of a segment")?)
        } else if self.eat("in audience") {
            membership::Of::Audience(self.name("the id of an audience")?)
        } else if self.eat("on list") {
            membership::Of::List(self.name("the id of a list")?)
        } else {
            return self.fail_with(HINT);
        };
        Ok(Node::MemberOf(Membership { of: Some(group) }))
    }

    fn acquisition(&mut self, touch: Touch) -> Result<Node, ParseError> {
        let mut acquisition = Acquisition { touch: touch.into(), ..Acquisition::default() };
        let (mut has_window, mut has_filter) = (false, false);
        loop {
            self.eat_comma_before_clause();
            let start = self.at;
            if let Some(window) = self.window(true)? {
                self.once(&mut has_window, start)?;
                acquisition.window = window;
            } else if self.eat("where") {
                self.once(&mut has_filter, start)?;
                acquisition.filter = Some(self.test(Scope::Events)?);
            } else {
                return Ok(Node::Acquisition(acquisition));
            }
        }
    }

    fn attribute(&mut self) -> Result<Node, ParseError> {
        let name = self.name("the name of a trait")?;
        let (operator, values) = self.compared()?;
        let as_of = if self.eat("as of") { Some(self.time()?) } else { None };
        Ok(Node::Attribute(Attribute { r#trait: name, operator: operator.into(), values, as_of }))
    }

    fn bucket(&mut self) -> Result<Node, ParseError> {
        let salt = self.name("the salt of the draw, like \"spring\"")?;
        self.expect("from")?;
        let from = self.count()?;
        self.expect("to")?;
        self.eat("below");
        Ok(Node::RandomBucket(RandomBucket { salt, from, to: self.count()? }))
    }

    fn persons(&mut self) -> Result<Node, ParseError> {
        self.expect("base64")?;
        let at = self.at;
        let text = self.quoted("the set in quotes")?;
        let Ok(numbers) = BASE64.decode(text) else { return self.fail_at(at, "not base64 with its padding") };
        let label = if self.eat("labelled") { self.quoted("the label in quotes")? } else { String::new() };
        Ok(Node::Persons(PersonSet { numbers, label }))
    }
}

fn of(node: Node) -> Condition {
    Condition { node: Some(node) }
}
