//! The columns of both tables: their names, their types, and what a scan reads for them.
//!
//! Text is `Utf8View` rather than the scan's dictionaries: DataFusion groups, joins and compares it without a detour, and what leaves
//! the server is plain text anyway. To add a built-in column: a line in `BUILT_IN`.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use segue_model::dimension;

use crate::scan::{Column, Snapshot};

/// What a column of `events` is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The event's name.
    Event,
    /// A column of the scan.
    Scanned(Column),
}

/// In front of the names of properties.
const PROPERTY_PREFIX: &str = "p_";

/// The columns that every tenant has, before the dimensions.
const BUILT_IN: [(&str, Source); 16] = [
    ("event", Source::Event),
    ("person", Source::Scanned(Column::Person)),
    ("ts", Source::Scanned(Column::Ts)),
    ("device", Source::Scanned(Column::Device)),
    ("session_id", Source::Scanned(Column::SessionId)),
    ("account_id", Source::Scanned(Column::AccountId)),
    ("value", Source::Scanned(Column::Value)),
    ("items", Source::Scanned(Column::ItemsList)),
    ("skipped_items", Source::Scanned(Column::SkippedItems)),
    ("kind", Source::Scanned(Column::Kind)),
    ("source", Source::Scanned(Column::Source)),
    ("original_name", Source::Scanned(Column::OriginalName)),
    ("received_at", Source::Scanned(Column::ReceivedAt)),
    ("message_id", Source::Scanned(Column::MessageId)),
    ("origin", Source::Scanned(Column::Origin)),
    // Orders events of one person that have the same time.
    ("sequence", Source::Scanned(Column::Sequence)),
];

/// Moments.
pub(super) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type in SQL of what a scan gives.
fn sql_type(source: &Source, scanned: &DataType) -> DataType {
    match (source, scanned) {
        (Source::Event | Source::Scanned(Column::Kind), _) => DataType::Utf8View,
        (Source::Scanned(Column::Ts | Column::ReceivedAt), _) => time_type(),
        (_, other) => plain_type(other),
    }
}

/// Text as views, dictionaries resolved, also within lists of structs.
pub(super) fn plain_type(scanned: &DataType) -> DataType {
    let plain = |field: &FieldRef| Arc::new(Field::new(field.name(), plain_type(field.data_type()), field.is_nullable()));
    match scanned {
        DataType::Dictionary(_, _) | DataType::Utf8 => DataType::Utf8View,
        DataType::List(element) => DataType::List(plain(element)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain).collect()),
        other => other.clone(),
    }
}

/// What the column with this name is made of; properties whether or not there is one.
pub(super) fn source_of(name: &str) -> Option<Source> {
    if let Some((_, source)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Some(source.clone());
    }
    if let Some(dimension) = dimension::by_name(name) {
        return Some(Source::Scanned(Column::Dimension(dimension.code)));
    }
    name.strip_prefix(PROPERTY_PREFIX).map(|property| Source::Scanned(Column::Property(property.to_owned())))
}

/// The columns of `events` in a snapshot.
pub(super) fn events_schema(snapshot: &Snapshot) -> SchemaRef {
    let mut fields: Vec<Field> = Vec::new();
    let mut add = |name: &str, source: &Source, scanned: &DataType| {
        let nullable = match source {
            Source::Event => false,
            // 0 stands for none.
            Source::Scanned(Column::Device) => true,
            Source::Scanned(column) => !column.is_required(),
        };
        fields.push(Field::new(name, sql_type(source, scanned), nullable));
    };
    for (name, source) in &BUILT_IN {
        let scanned = match source {
            Source::Event => DataType::Utf8,
            Source::Scanned(column) => column.data_type().unwrap_or(DataType::Utf8),
        };
        add(name, source, &scanned);
    }
    for dimension in dimension::DIMENSIONS {
        let column = Column::Dimension(dimension.code);
        let scanned = column.data_type().unwrap_or(DataType::Utf8);
        add(dimension.name, &Source::Scanned(column), &scanned);
    }
    // A name may occur in several scopes; an item's properties are in the items.
    let names: BTreeSet<&str> = snapshot.properties().iter().map(|property| property.name.as_str()).collect();
    for name in names {
        let Some(kind) = snapshot.property_type(name) else { continue };
        add(&format!("{PROPERTY_PREFIX}{name}"), &Source::Scanned(Column::Property(name.to_owned())), &kind.data_type());
    }
    Arc::new(Schema::new(fields))
}

/// The columns of `persons`.
pub(super) fn persons_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("person", DataType::UInt32, false),
        Field::new("first_seen", time_type(), false),
        Field::new("last_seen", time_type(), false),
        Field::new("events", DataType::Int64, false),
        Field::new("devices", DataType::Int64, false),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_built_in_columns_are_unique_and_never_those_of_properties() {
        let mut names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        names.extend(dimension::DIMENSIONS.iter().map(|dimension| dimension.name));
        assert!(names.iter().all(|name| !name.starts_with(PROPERTY_PREFIX)));
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len());
        for name in names {
            assert!(source_of(name).is_some(), "{name}");
        }
        assert_eq!(source_of("p_plan"), Some(Source::Scanned(Column::Property("plan".to_owned()))));
        assert_eq!(source_of("plan"), None);
    }
}
