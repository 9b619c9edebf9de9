//! What a question can filter by, group by and aggregate: names of requests resolved to columns of a scan.

use std::collections::BTreeMap;

use segue_model::{FieldViolation, catalogue, dimension};
use segue_proto::query::v1 as query;

use crate::scan::{Column, ItemField, ItemFields, PropertyScope, PropertyType, StoredProperty};

/// Built-in dimensions that are columns of their own, with their descriptions.
pub(crate) const OWN_DIMENSIONS: [(&str, &str); 2] = [("event", "Canonical name of the event"), ("source", "Who sent the event")];

/// The properties that the tenant's events have carried, with their types.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vocabulary {
    events: BTreeMap<String, PropertyType>,
    items: BTreeMap<String, PropertyType>,
    traits: BTreeMap<String, PropertyType>,
    /// The tenant has no events at all: then any name is let through, and the report is empty.
    no_events: bool,
}

impl Vocabulary {
    /// From what the index has seen.
    pub(crate) fn new(stored: impl IntoIterator<Item = StoredProperty>, no_events: bool) -> Vocabulary {
        let mut vocabulary = Vocabulary { no_events, ..Vocabulary::default() };
        for property in stored {
            match property.scope {
                PropertyScope::Event => {
                    vocabulary.events.insert(property.name, property.kind);
                }
                // A name that the taxonomy came to know later keeps the type it has there.
                PropertyScope::Unregistered => {
                    vocabulary.events.entry(property.name).or_insert(property.kind);
                }
                PropertyScope::Item => {
                    vocabulary.items.insert(property.name, property.kind);
                }
                // A field of persons, not of events.
                PropertyScope::Trait => {
                    vocabulary.traits.insert(property.name, property.kind);
                }
            }
        }
        vocabulary
    }

    /// Properties of events, by name.
    pub(crate) fn events(&self) -> &BTreeMap<String, PropertyType> {
        &self.events
    }

    /// Properties of items beyond the built-in ones, by name.
    pub(crate) fn items(&self) -> &BTreeMap<String, PropertyType> {
        &self.items
    }
}

/// Where a batch holds a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// The name of the batch's event.
    EventName,
    /// This column of the scan.
    Column(usize),
    /// This one of the report's item fields.
    Item(usize),
    /// Known by name, but no event has it: always missing.
    Absent,
}

/// A field of a request, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldRef {
    /// As the request says it.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) place: Place,
    /// Its type; none when nobody knows, which only happens without any events.
    pub(crate) kind: Option<PropertyType>,
}

/// A field of items that a report reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemColumn {
    /// A field of the items' struct.
    BuiltIn(ItemField),
    /// A further property: its name, and the type that its values are read as.
    Custom(String, PropertyType),
}

/// Resolves names and gathers the columns that a scan must bring.
#[derive(Debug)]
pub(crate) struct Resolver<'a> {
    vocabulary: &'a Vocabulary,
    /// Columns to ask for, in order.
    pub(crate) columns: Vec<Column>,
    /// Fields of items to read.
    pub(crate) items: Vec<ItemColumn>,
}

impl<'a> Resolver<'a> {
    /// Nothing asked for yet.
    pub(crate) fn new(vocabulary: &'a Vocabulary) -> Self {
        Resolver { vocabulary, columns: Vec::new(), items: Vec::new() }
    }

    /// The position of a column, asked for from now on.
    pub(crate) fn column(&mut self, column: Column) -> usize {
        match self.columns.iter().position(|known| *known == column) {
            Some(at) => at,
            None => {
                self.columns.push(column);
                self.columns.len() - 1
            }
        }
    }

    /// The columns to ask for, and the fields of items to read; of items, no other fields are asked for.
    pub(crate) fn finish(self) -> (Vec<Column>, Vec<ItemColumn>) {
        let fields = self.items.iter().map(|item| match item {
            ItemColumn::BuiltIn(field) => *field,
            ItemColumn::Custom(..) => ItemField::Properties,
        });
        let items = Column::Items(ItemFields::new(fields));
        let columns = self.columns.into_iter().map(|column| if column == Column::ItemsList { items.clone() } else { column });
        (columns.collect(), self.items)
    }

    /// The position of an item's field, read from now on.
    pub(crate) fn item(&mut self, item: ItemColumn) -> usize {
        self.column(Column::ItemsList);
        match self.items.iter().position(|known| *known == item) {
            Some(at) => at,
            None => {
                self.items.push(item);
                self.items.len() - 1
            }
        }
    }

    /// Resolves `field`, or says at `path` what is wrong with it.
    pub(crate) fn resolve(&mut self, field: Option<&query::Field>, path: &str, faults: &mut Vec<FieldViolation>) -> Option<FieldRef> {
        use query::field::Field;
        let found = match field.and_then(|field| field.field.as_ref()) {
            None => Err((path.to_owned(), "set one of dimension, property and item_property".to_owned())),
            Some(Field::Dimension(name)) => self.dimension(name).ok_or_else(|| (format!("{path}.dimension"), self.unknown_dimension(name))),
            Some(Field::Property(name)) => self.property(name).ok_or_else(|| (format!("{path}.property"), self.unknown_property(name))),
            Some(Field::ItemProperty(name)) => {
                self.item_property(name).ok_or_else(|| (format!("{path}.item_property"), self.unknown_item_property(name)))
            }
        };
        match found {
            Ok(found) => Some(found),
            Err((path, description)) => {
                faults.push(FieldViolation::new(path, description));
                None
            }
        }
    }

    /// Resolves a trait of persons to the column of the rows that state it, or says at `path` what is wrong with it.
    pub(crate) fn resolve_trait(&mut self, name: &str, path: &str, faults: &mut Vec<FieldViolation>) -> Option<FieldRef> {
        let traits = &self.vocabulary.traits;
        let standard = catalogue::TRAITS.iter().find(|standard| standard.name == name);
        let (place, kind) = match (traits.get(name), standard) {
            (Some(kind), _) => (Place::Column(self.column(Column::Trait(name.to_owned()))), Some(*kind)),
            (None, Some(standard)) => (Place::Absent, Some(type_of(standard.value_type))),
            // Nothing was stated of anybody yet: any name may come to be one.
            (None, None) if traits.is_empty() && !name.is_empty() => (Place::Absent, None),
            (None, None) => {
                let known = traits.keys().map(String::as_str).chain(catalogue::TRAITS.iter().map(|standard| standard.name));
                faults.push(FieldViolation::new(path, format!("nobody has a trait `{name}`{}", near(name, known))));
                return None;
            }
        };
        Some(FieldRef { name: name.to_owned(), place, kind })
    }

    fn dimension(&mut self, name: &str) -> Option<FieldRef> {
        let place = match name {
            "event" => Place::EventName,
            "source" => Place::Column(self.column(Column::Source)),
            _ => Place::Column(self.column(Column::Dimension(dimension::by_name(name)?.code))),
        };
        Some(FieldRef { name: name.to_owned(), place, kind: Some(PropertyType::String) })
    }

    fn property(&mut self, name: &str) -> Option<FieldRef> {
        let (place, kind) = if let Some(kind) = self.vocabulary.events.get(name) {
            (Place::Column(self.column(Column::Property(name.to_owned()))), Some(*kind))
        } else if let Some(standard) = catalogue::PROPERTIES.iter().find(|property| property.name == name) {
            (Place::Absent, Some(type_of(standard.value_type)))
        } else if self.vocabulary.no_events && !name.is_empty() {
            (Place::Absent, None)
        } else {
            return None;
        };
        Some(FieldRef { name: name.to_owned(), place, kind })
    }

    fn item_property(&mut self, name: &str) -> Option<FieldRef> {
        let (item, kind) = if let Some(field) = ItemField::by_name(name) {
            (Some(ItemColumn::BuiltIn(field)), Some(item_field_type(field)))
        } else if let Some(kind) = self.vocabulary.items.get(name) {
            (Some(ItemColumn::Custom(name.to_owned(), *kind)), Some(*kind))
        } else if self.vocabulary.no_events && !name.is_empty() {
            (None, None)
        } else {
            return None;
        };
        let place = match item {
            Some(item) => Place::Item(self.item(item)),
            None => Place::Absent,
        };
        Some(FieldRef { name: name.to_owned(), place, kind })
    }

    fn unknown_dimension(&self, name: &str) -> String {
        if name == "date" {
            return "`date` is not grouped or filtered by: set `grain` for periods and `range` for bounds".to_owned();
        }
        let known: Vec<&str> = dimension_names().collect();
        let elsewhere = if self.vocabulary.events.contains_key(name) {
            "; there is a property of this name: set `property` instead"
        } else if ItemField::by_name(name).is_some() || self.vocabulary.items.contains_key(name) {
            "; there is an item property of this name: set `item_property` instead"
        } else {
            ""
        };
        format!("`{name}` is not a dimension{}{elsewhere}; ListDimensions lists all", near(name, known))
    }

    fn unknown_property(&self, name: &str) -> String {
        let known = self.vocabulary.events.keys().map(String::as_str).chain(catalogue::PROPERTIES.iter().map(|property| property.name));
        let elsewhere = if dimension_names().any(|dimension| dimension == name) {
            "; there is a dimension of this name: set `dimension` instead"
        } else if ItemField::by_name(name).is_some() || self.vocabulary.items.contains_key(name) {
            "; there is an item property of this name: set `item_property` instead"
        } else {
            ""
        };
        format!("no event has carried a property `{name}`{}{elsewhere}; ListDimensions lists all", near(name, known))
    }

    fn unknown_item_property(&self, name: &str) -> String {
        let mut known: Vec<&str> = item_names().collect();
        known.extend(self.vocabulary.items.keys().map(String::as_str));
        format!("no item has carried a property `{name}`{}; ListDimensions lists all", near(name, known))
    }
}

fn dimension_names() -> impl Iterator<Item = &'static str> {
    OWN_DIMENSIONS.iter().map(|(name, _)| *name).chain(dimension::DIMENSIONS.iter().map(|dimension| dimension.name))
}

/// Names of the built-in item properties.
pub(crate) fn item_names() -> impl Iterator<Item = &'static str> {
    ItemField::ALL.into_iter().filter(|field| *field != ItemField::Properties).map(ItemField::name)
}

/// Type of a built-in item property.
pub(crate) fn item_field_type(field: ItemField) -> PropertyType {
    match field {
        ItemField::Price | ItemField::Discount => PropertyType::Decimal,
        ItemField::Quantity => PropertyType::Int,
        ItemField::Properties => PropertyType::Json,
        ItemField::ItemId
        | ItemField::Name
        | ItemField::Category1
        | ItemField::Category2
        | ItemField::Category3
        | ItemField::Category4
        | ItemField::Category5
        | ItemField::Brand
        | ItemField::Variant
        | ItemField::Coupon => PropertyType::String,
    }
}

fn type_of(value_type: catalogue::ValueType) -> PropertyType {
    use catalogue::ValueType;
    match value_type {
        ValueType::String => PropertyType::String,
        ValueType::Int => PropertyType::Int,
        ValueType::Double => PropertyType::Double,
        ValueType::Bool => PropertyType::Bool,
        ValueType::Decimal => PropertyType::Decimal,
        ValueType::Timestamp => PropertyType::Timestamp,
        ValueType::Json => PropertyType::Json,
    }
}

/// `; did you mean …?` with at most three known names close to `name`, or nothing.
fn near<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let most = (name.chars().count() / 3).clamp(1, 4);
    let mut close: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|candidate| {
            let contained = name.len() >= 3 && (candidate.contains(name) || name.contains(candidate) && candidate.len() >= 3);
            let distance = if contained { 1 } else { edits(name, candidate) };
            (distance <= most).then_some((distance, candidate))
        })
        .collect();
    close.sort_unstable();
    close.dedup();
    close.truncate(3);
    if close.is_empty() {
        return String::new();
    }
    let names: Vec<String> = close.iter().map(|(_, candidate)| format!("`{candidate}`")).collect();
    format!("; did you mean {}?", names.join(", "))
}

/// Levenshtein distance: insertions, deletions and replacements of characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, distance) in [("", "", 0), ("kitten", "sitting", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("같다", "같은", 1)] {
            assert_eq!(edits(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn near_names_are_offered() {
        assert_eq!(near("utm_sorce", ["utm_source", "utm_term", "platform"]), "; did you mean `utm_source`?");
        assert_eq!(near("zzz", ["utm_source"]), "");
    }
}
