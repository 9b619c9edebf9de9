//! The columns of an export, and the cells of a person.

use segue_model::{FieldViolation, identifier};
use segue_proto::events::v1::Value;
use segue_proto::identity::v1::Person;

use crate::error::AudienceError;

/// Columns that may be asked for.
const COLUMNS_MAX: usize = 100;
const TRAIT_PREFIX: &str = "trait:";
const TRAIT_BYTES_MAX: usize = 256;
/// Columns that are always there.
pub(super) const FIXED: [&str; 2] = ["person", "id"];

/// What stands in a column besides the fixed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Column {
    /// Identifiers of a kind.
    Identifiers(String),
    /// A trait.
    Trait(String),
}

/// The columns of an export behind the fixed ones, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns(pub(super) Vec<Column>);

/// One person.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) person: u32,
    pub(super) id: String,
    /// One per column.
    pub(super) cells: Vec<Cell>,
}

/// What stands in a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Identifiers(Vec<String>),
    Trait(Option<Value>),
}

impl Column {
    /// As in the request.
    pub(super) fn name(&self) -> String {
        match self {
            Column::Identifiers(kind) => kind.clone(),
            Column::Trait(name) => format!("{TRAIT_PREFIX}{name}"),
        }
    }
}

impl Columns {
    /// Reads the columns of a request.
    pub(super) fn parse(asked: &[String]) -> Result<Self, AudienceError> {
        if asked.is_empty() {
            return Ok(Columns(vec![Column::Identifiers("user_id".to_owned())]));
        }
        if asked.len() > COLUMNS_MAX {
            return Err(AudienceError::field("columns", format!("has more than {COLUMNS_MAX}")));
        }
        let (mut columns, mut faults) = (Vec::with_capacity(asked.len()), Vec::new());
        for (at, name) in asked.iter().enumerate() {
            let mut fault = |text: &str| faults.push(FieldViolation::new(format!("columns[{at}]"), text));
            let column = match name.strip_prefix(TRAIT_PREFIX) {
                Some(name) if (1..=TRAIT_BYTES_MAX).contains(&name.len()) => Column::Trait(name.to_owned()),
                Some(_) => {
                    fault("must have 1 to 256 bytes behind `trait:`");
                    continue;
                }
                None if FIXED.contains(&name.as_str()) => {
                    fault("is always there: leave it out");
                    continue;
                }
                None if identifier::is_kind(name) => Column::Identifiers(name.clone()),
                None => {
                    fault("is neither a kind of identifier (1 to 64 of a-z, 0-9, _) nor `trait:` and a name");
                    continue;
                }
            };
            if columns.contains(&column) {
                fault("is there already");
            } else {
                columns.push(column);
            }
        }
        if faults.is_empty() { Ok(Columns(columns)) } else { Err(AudienceError::Invalid(faults)) }
    }

    /// The names of all columns, the fixed ones first.
    pub(super) fn names(&self) -> Vec<String> {
        FIXED.into_iter().map(str::to_owned).chain(self.0.iter().map(Column::name)).collect()
    }

    /// The row of the member `number`, who is `person`: the survivor if merged, empty if never given out.
    pub(super) fn row(&self, number: u32, person: Person) -> Row {
        let cells = self.0.iter().map(|column| match column {
            Column::Identifiers(kind) => {
                let own = person.identifiers.iter().filter_map(|linked| linked.identifier.as_ref());
                Cell::Identifiers(own.filter(|identifier| identifier.kind == *kind).map(|identifier| identifier.value.clone()).collect())
            }
            Column::Trait(name) => {
                let found = person.traits.iter().find(|stated| stated.name == *name);
                Cell::Trait(found.and_then(|stated| stated.value.clone()).filter(|value| value.kind.is_some()))
            }
        });
        let cells = cells.collect();
        Row { person: if person.number == 0 { number } else { person.number }, id: person.id, cells }
    }
}

#[cfg(test)]
mod tests {
    use segue_proto::events::v1::Identifier;
    use segue_proto::events::v1::value::Kind;
    use segue_proto::identity::v1::{LinkedIdentifier, Trait};

    use super::*;

    fn parse(names: &[&str]) -> Result<Columns, AudienceError> {
        Columns::parse(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn columns_are_kinds_and_traits_and_every_fault_is_named() {
        assert_eq!(parse(&[]).expect("valid").names(), ["person", "id", "user_id"]);
        assert_eq!(parse(&["email", "trait:등급"]).expect("valid").names(), ["person", "id", "email", "trait:등급"]);
        let Err(AudienceError::Invalid(faults)) = parse(&["email", "E-mail", "trait:", "id", "email"]) else { panic!("it is faulty") };
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["columns[1]", "columns[2]", "columns[3]", "columns[4]"]);
        assert!(Columns::parse(&vec!["email".to_owned(); 101]).is_err());
    }

    #[test]
    fn a_row_has_the_persons_values_in_the_order_of_the_columns() {
        let linked = |kind: &str, value: &str| LinkedIdentifier {
            identifier: Some(Identifier { kind: kind.to_owned(), value: value.to_owned() }),
            ..LinkedIdentifier::default()
        };
        let value = Value { kind: Some(Kind::IntValue(3)) };
        let person = Person {
            number: 7,
            id: "u-u".to_owned(),
            identifiers: vec![linked("email", "a@x"), linked("phone", "1"), linked("email", "b@x")],
            traits: vec![Trait { name: "level".to_owned(), value: Some(value.clone()), ..Trait::default() }],
            ..Person::default()
        };
        let row = parse(&["trait:level", "email", "user_id", "trait:none"]).expect("valid").row(7, person);
        let emails = Cell::Identifiers(vec!["a@x".to_owned(), "b@x".to_owned()]);
        let cells = vec![Cell::Trait(Some(value)), emails, Cell::Identifiers(Vec::new()), Cell::Trait(None)];
        assert_eq!(row, Row { person: 7, id: "u-u".to_owned(), cells });
    }
}
