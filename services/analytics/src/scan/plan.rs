//! What a scan reads of every run: worked out once, for all runs and all ranges of persons.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use tokio_util::sync::CancellationToken;

use super::select::Rows;
use super::view::{Run, View};
use super::{Column, PropertyScope, PropertyType, ScanRequest, decode_value, text_type};
use crate::index::property::PropertyColumn;

/// A column of the batches.
#[derive(Debug)]
struct Planned {
    column: Column,
    data_type: DataType,
    /// Where it lies among the stored columns.
    place: usize,
    /// Set where rows may have its values among their unregistered properties.
    loose: Option<PropertyType>,
}

/// The columns that decide which rows match, in the order of their places.
const KEYS: [Column; 5] = [Column::Person, Column::Ts, Column::Sequence, Column::Origin, Column::ReceivedAt];

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) view: Arc<View>,
    pub(super) cancelled: CancellationToken,
    pub(super) range_us: (i64, i64),
    /// Ordered by event.
    pub(super) runs: Vec<Run>,
    /// Names of all stored columns that may be read: first [`KEYS`].
    pub(super) stored: Vec<Arc<str>>,
    /// Places of those that make the batches.
    pub(super) needed: Vec<usize>,
    columns: Vec<Planned>,
    /// Place of the unregistered properties, if they are needed.
    map: Option<usize>,
    schema: SchemaRef,
}

impl Plan {
    pub(super) fn new(view: Arc<View>, cancelled: CancellationToken, request: ScanRequest) -> Self {
        let mut stored: Vec<Arc<str>> = KEYS.iter().map(|column| column.name().into()).collect();
        let mut place_of = |name: String| match stored.iter().position(|known| **known == name) {
            Some(place) => place,
            None => {
                stored.push(name.into());
                stored.len() - 1
            }
        };
        let columns: Vec<Planned> = request
            .columns
            .into_iter()
            .map(|column| {
                let kind = |scope, name: &str| view.property_type(scope, name);
                let mut loose = None;
                let data_type = match &column {
                    Column::Property(name) => {
                        let (registered, unregistered) = (kind(PropertyScope::Event, name), kind(PropertyScope::Unregistered, name));
                        loose = unregistered.map(|unregistered| registered.unwrap_or(unregistered));
                        registered.or(unregistered).map_or_else(text_type, PropertyType::data_type)
                    }
                    Column::Trait(name) => kind(PropertyScope::Trait, name).map_or_else(text_type, PropertyType::data_type),
                    other => other.data_type().unwrap_or_else(text_type),
                };
                Planned { data_type, place: place_of(column.name()), loose, column }
            })
            .collect();
        let map = columns.iter().any(|planned| planned.loose.is_some()).then(|| place_of(Column::Unregistered.name()));
        let mut needed: Vec<usize> = columns.iter().map(|planned| planned.place).chain(map).collect();
        needed.sort_unstable();
        needed.dedup();
        let fields: Vec<Field> = columns
            .iter()
            .map(|planned| Field::new(&*stored[planned.place], planned.data_type.clone(), !planned.column.is_required()))
            .collect();
        let runs = view.runs(request.events.as_deref(), request.range_us);
        let schema = Arc::new(Schema::new(fields));
        Self { view, cancelled, range_us: request.range_us, runs, stored, needed, columns, map, schema }
    }

    /// Place of a column that decides which rows match.
    pub(super) fn key(column: &Column) -> Option<usize> {
        KEYS.iter().position(|key| key == column)
    }

    /// The batch of some rows of a run. `stored` has the run's columns in the order of `needed`; rows of merged persons come with
    /// the persons whose they are now.
    pub(super) fn batch(&self, stored: &[Option<ArrayRef>], rows: &Rows, persons: Option<&UInt32Array>) -> Result<RecordBatch, ArrowError> {
        let column = |place: usize| stored.get(self.needed.binary_search(&place).ok()?)?.as_ref();
        let mut map: Option<Option<ArrayRef>> = None;
        let mut arrays = Vec::with_capacity(self.columns.len());
        for Planned { column: asked, data_type, place, loose } in &self.columns {
            if let (Column::Person, Some(persons)) = (asked, persons) {
                arrays.push(Arc::new(persons.clone()) as ArrayRef);
                continue;
            }
            let mut array = match column(*place) {
                Some(stored) if stored.data_type() == data_type => Some(rows.of(stored)?),
                Some(stored) => Some(arrow::compute::cast(&rows.of(stored)?, data_type)?),
                None => None,
            };
            if let (Some(kind), Column::Property(name)) = (loose, asked) {
                let map = match &map {
                    Some(map) => map,
                    None => map.insert(self.map.and_then(column).map(|column| rows.of(column)).transpose()?),
                };
                if let Some(found) = map.as_ref().map(|map| extract(map, name, *kind)).transpose()?.filter(has_values) {
                    array = Some(match array {
                        Some(array) => coalesce(&array, &found)?,
                        None => found,
                    });
                }
            }
            arrays.push(array.unwrap_or_else(|| new_null_array(data_type, rows.len())));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
    }
}

fn has_values(column: &ArrayRef) -> bool {
    column.null_count() < column.len()
}

/// One name's values out of a map column, as a typed column.
fn extract(map: &ArrayRef, name: &str, kind: PropertyType) -> Result<ArrayRef, ArrowError> {
    let map = map.as_map_opt().ok_or_else(|| ArrowError::SchemaError(format!("unregistered properties are {}", map.data_type())))?;
    let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
    let mut column = PropertyColumn::new(kind);
    for row in (0..map.len()).filter(|row| map.is_valid(*row)) {
        let entries = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
        let Some(at) = entries.into_iter().find(|at| keys.value(*at) == name) else { continue };
        if let Some(value) = decode_value(values.value(at)).and_then(|value| value.kind) {
            // What does not fit the type is missing, as the column's documentation says.
            let _ = column.set(row, &value);
        }
    }
    column.finish(map.len())
}

/// The first column's values, and the second's where the first has none.
fn coalesce(first: &ArrayRef, second: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let indices: Vec<(usize, usize)> = (0..first.len()).map(|row| (usize::from(first.is_null(row)), row)).collect();
    arrow::compute::interleave(&[first.as_ref(), second.as_ref()], &indices)
}
