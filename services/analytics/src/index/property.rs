//! Columns of properties and traits: typed by the first value that the tenant ever stored under the name.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Decimal128Builder, Float64Builder, Int64Builder, MapBuilder, MapFieldNames, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::Field;
use arrow::error::ArrowError;

use segue_model::Decimal4;
use segue_proto::events::v1::{Value, value::Kind};

use super::text::TextColumn;
use crate::scan::{PropertyScope, PropertyType, StoredProperty, encode_value};
use crate::scan::{decimal_type, timestamp_us};

/// So many names of each scope are remembered per tenant; events keep the rest too, only unlisted.
const NAMES_MAX: usize = 10_000;

/// Which properties the tenant's events have carried, with their types.
#[derive(Debug, Default, Clone)]
pub(crate) struct Properties {
    types: [HashMap<String, PropertyType>; PropertyScope::ALL.len()],
    /// Those that are not in the store yet.
    unsaved: Vec<StoredProperty>,
    listed: Option<Arc<[StoredProperty]>>,
}

impl Properties {
    /// As stored.
    pub(crate) fn load(stored: Vec<StoredProperty>) -> Self {
        let mut properties = Properties::default();
        for property in stored {
            properties.types[property.scope.code() as usize].insert(property.name, property.kind);
        }
        properties
    }

    /// The type under which a value of this name is stored; remembers the name if it is new. `None`: too many names.
    pub(crate) fn type_of(&mut self, scope: PropertyScope, name: &str, kind: PropertyType) -> Option<PropertyType> {
        let types = &mut self.types[scope.code() as usize];
        if let Some(known) = types.get(name) {
            return Some(*known);
        }
        if types.len() >= NAMES_MAX {
            return None;
        }
        types.insert(name.to_owned(), kind);
        self.unsaved.push(StoredProperty { scope, name: name.to_owned(), kind });
        self.listed = None;
        Some(kind)
    }

    /// All, sorted.
    pub(crate) fn list(&mut self) -> Arc<[StoredProperty]> {
        let types = &self.types;
        self.listed
            .get_or_insert_with(|| {
                let mut all: Vec<StoredProperty> = PropertyScope::ALL
                    .into_iter()
                    .flat_map(|scope| types[scope.code() as usize].iter().map(move |(name, kind)| (scope, name, kind)))
                    .map(|(scope, name, kind)| StoredProperty { scope, name: name.clone(), kind: *kind })
                    .collect();
                all.sort_unstable();
                all.into()
            })
            .clone()
    }

    /// Takes what is to be stored; give it back with [`Properties::unsave`] when storing fails.
    pub(crate) fn take_unsaved(&mut self) -> Vec<StoredProperty> {
        std::mem::take(&mut self.unsaved)
    }

    /// See [`Properties::take_unsaved`].
    pub(crate) fn unsave(&mut self, mut properties: Vec<StoredProperty>) {
        self.unsaved.append(&mut properties);
    }
}

/// Type of a value.
pub(crate) fn kind_type(kind: &Kind) -> PropertyType {
    match kind {
        Kind::StringValue(_) => PropertyType::String,
        Kind::IntValue(_) => PropertyType::Int,
        Kind::DoubleValue(_) => PropertyType::Double,
        Kind::BoolValue(_) => PropertyType::Bool,
        Kind::DecimalE4Value(_) => PropertyType::Decimal,
        Kind::TimestampValue(_) => PropertyType::Timestamp,
        Kind::JsonValue(_) => PropertyType::Json,
    }
}

/// Largest whole number below which every double is exact.
const EXACT_DOUBLE_MAX: i64 = 1 << 53;

/// The value as another type, where that loses nothing.
pub(crate) fn convert(kind: &Kind, to: PropertyType) -> Option<Kind> {
    if kind_type(kind) == to {
        return Some(kind.clone());
    }
    Some(match (kind, to) {
        (Kind::IntValue(number), PropertyType::Decimal) => Kind::DecimalE4Value(Decimal4::from_int(*number).ok()?.0),
        (Kind::IntValue(number), PropertyType::Double) if number.abs() <= EXACT_DOUBLE_MAX => Kind::DoubleValue(*number as f64),
        (Kind::DecimalE4Value(e4), PropertyType::Int) if e4 % segue_model::decimal::SCALE == 0 => {
            Kind::IntValue(e4 / segue_model::decimal::SCALE)
        }
        // A text property holds anything that can be written down; JSON stays as it came.
        (Kind::JsonValue(json), PropertyType::String) => Kind::StringValue(json.clone()),
        (Kind::IntValue(_) | Kind::DoubleValue(_) | Kind::BoolValue(_) | Kind::DecimalE4Value(_), PropertyType::String) => {
            let mut text = String::new();
            match kind {
                Kind::DoubleValue(number) => text = number.to_string(),
                other => encode_value(&Value { kind: Some(other.clone()) }, &mut text),
            }
            Kind::StringValue(text)
        }
        _ => return None,
    })
}

/// A property column being built. Rows that are never set are missing.
pub(crate) enum PropertyColumn {
    Text(TextColumn),
    Int(Int64Builder),
    Double(Float64Builder),
    Bool(BooleanBuilder),
    Decimal(Decimal128Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Json(StringBuilder),
}

macro_rules! pad {
    ($builder:expr, $rows:expr) => {{
        let missing = $rows - $builder.len();
        if missing > 0 {
            $builder.append_nulls(missing);
        }
    }};
}

impl PropertyColumn {
    pub(crate) fn new(kind: PropertyType) -> Self {
        match kind {
            PropertyType::String => Self::Text(TextColumn::default()),
            PropertyType::Int => Self::Int(Int64Builder::new()),
            PropertyType::Double => Self::Double(Float64Builder::new()),
            PropertyType::Bool => Self::Bool(BooleanBuilder::new()),
            PropertyType::Decimal => Self::Decimal(Decimal128Builder::new().with_data_type(decimal_type())),
            PropertyType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            PropertyType::Json => Self::Json(StringBuilder::new()),
        }
    }

    fn kind(&self) -> PropertyType {
        match self {
            Self::Text(_) => PropertyType::String,
            Self::Int(_) => PropertyType::Int,
            Self::Double(_) => PropertyType::Double,
            Self::Bool(_) => PropertyType::Bool,
            Self::Decimal(_) => PropertyType::Decimal,
            Self::Timestamp(_) => PropertyType::Timestamp,
            Self::Json(_) => PropertyType::Json,
        }
    }

    /// Sets the value of row `row`, which lies after all rows set before. Returns by how many bytes the column grew; `None` if
    /// the value does not fit the column's type.
    pub(crate) fn set(&mut self, row: usize, kind: &Kind) -> Option<usize> {
        match (&mut *self, kind) {
            (Self::Text(column), Kind::StringValue(text)) => return Some(column.set(row, text)),
            (Self::Int(column), Kind::IntValue(number)) => {
                pad!(column, row);
                column.append_value(*number);
            }
            (Self::Double(column), Kind::DoubleValue(number)) => {
                pad!(column, row);
                column.append_value(*number);
            }
            (Self::Bool(column), Kind::BoolValue(truth)) => {
                pad!(column, row);
                column.append_value(*truth);
            }
            (Self::Decimal(column), Kind::DecimalE4Value(e4)) => {
                pad!(column, row);
                column.append_value(i128::from(*e4));
            }
            (Self::Timestamp(column), Kind::TimestampValue(time)) => {
                pad!(column, row);
                column.append_value(timestamp_us(time));
            }
            (Self::Json(column), Kind::JsonValue(json)) => {
                pad!(column, row);
                column.append_value(json);
                return Some(json.len() + 8);
            }
            (_, other) => {
                let converted = convert(other, self.kind())?;
                return self.set(row, &converted);
            }
        }
        Some(16)
    }

    /// The column with `rows` rows.
    pub(crate) fn finish(self, rows: usize) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Text(column) => column.finish(rows)?,
            Self::Int(mut column) => {
                pad!(column, rows);
                Arc::new(column.finish())
            }
            Self::Double(mut column) => {
                pad!(column, rows);
                Arc::new(column.finish())
            }
            Self::Bool(mut column) => {
                pad!(column, rows);
                Arc::new(column.finish())
            }
            Self::Decimal(mut column) => {
                pad!(column, rows);
                Arc::new(column.finish())
            }
            Self::Timestamp(mut column) => {
                pad!(column, rows);
                Arc::new(column.finish())
            }
            Self::Json(mut column) => {
                for _ in column.len()..rows {
                    column.append_null();
                }
                Arc::new(column.finish())
            }
        })
    }
}

/// Name-to-JSON-text maps being built. Rows that are never set are missing.
pub(crate) struct MapColumn {
    builder: MapBuilder<StringBuilder, StringBuilder>,
    scratch: String,
}

impl Default for MapColumn {
    fn default() -> Self {
        let names = MapFieldNames { entry: "entries".to_owned(), key: "keys".to_owned(), value: "values".to_owned() };
        let builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
            .with_keys_field(Field::new("keys", arrow::datatypes::DataType::Utf8, false))
            .with_values_field(Field::new("values", arrow::datatypes::DataType::Utf8, true));
        Self { builder, scratch: String::new() }
    }
}

impl MapColumn {
    /// Sets the map of row `row`; returns by how many bytes the column grew.
    pub(crate) fn set<'a>(&mut self, row: usize, entries: impl Iterator<Item = (&'a String, &'a Value)>) -> Result<usize, ArrowError> {
        self.pad(row)?;
        let mut bytes = 8;
        for (name, value) in entries {
            self.scratch.clear();
            encode_value(value, &mut self.scratch);
            self.builder.keys().append_value(name);
            self.builder.values().append_value(&self.scratch);
            bytes += name.len() + self.scratch.len() + 8;
        }
        self.builder.append(true)?;
        Ok(bytes)
    }

    fn pad(&mut self, rows: usize) -> Result<(), ArrowError> {
        for _ in self.builder.len()..rows {
            self.builder.append(false)?;
        }
        Ok(())
    }

    /// The column with `rows` rows.
    pub(crate) fn finish(mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(rows)?;
        Ok(Arc::new(self.builder.finish()))
    }
}
