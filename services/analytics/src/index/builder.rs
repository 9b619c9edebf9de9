//! Fresh events of one tenant, column by column, until they are frozen into sorted runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringBuilder, UInt8Array, UInt16Array, UInt32Array, UInt64Array};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use segue_model::dimension::DIMENSIONS;
use segue_proto::events::v1::{EventKind, ResolvedEvent, Value};

use super::items::{ItemsColumn, value_of};
use super::property::{MapColumn, Properties, PropertyColumn, kind_type};
use super::run::MemoryRun;
use super::text::TextColumn;
use crate::scan::{Column, PropertyScope, TRAITS, value_type};

/// Columns of one event.
#[derive(Default)]
struct EventBuilder {
    person: Vec<u32>,
    device: Vec<u32>,
    ts: Vec<i64>,
    received_at: Vec<i64>,
    sequence: Vec<u64>,
    kind: Vec<u8>,
    message_id: StringBuilder,
    session_id: TextColumn,
    account_id: TextColumn,
    original_name: TextColumn,
    source: TextColumn,
    /// By code − 1; `None` until the first event that carries it.
    dimensions: Vec<Option<TextColumn>>,
    properties: HashMap<String, PropertyColumn>,
    traits: HashMap<String, PropertyColumn>,
    unregistered: Option<MapColumn>,
    items: Option<ItemsColumn>,
    value: Vec<Option<i128>>,
    skipped_items: Vec<u16>,
    /// Which of session, account, original name occur.
    has: [bool; 4],
}

/// Fresh events of one tenant, by event.
#[derive(Default)]
pub(crate) struct Builder {
    events: HashMap<Arc<str>, EventBuilder>,
    traits: Option<EventBuilder>,
    rows: usize,
    event_rows: usize,
    bytes: usize,
}

/// What is fixed per row, with room for growth.
const ROW_BYTES: usize = 80;

impl Builder {
    /// Rows in it.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Those of them that are events.
    pub(crate) fn event_rows(&self) -> usize {
        self.event_rows
    }

    /// About so many bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an event. Only TRACK, PAGE and SCREEN are something that happened; what others say, and the traits of any, goes to
    /// [`TRAITS`]. The two rows of one event share their sequence, in runs of their own. False: it led to no row.
    pub(crate) fn append(&mut self, event: &ResolvedEvent, sequence: u64, known: &mut Properties) -> Result<bool, ArrowError> {
        let happened = match event.kind() {
            // Ingest does not let the reserved name through.
            EventKind::Unspecified | EventKind::Track | EventKind::Page | EventKind::Screen => {
                !event.name.is_empty() && event.name != TRAITS
            }
            EventKind::Identify | EventKind::Group | EventKind::Alias => false,
        };
        if happened {
            let columns = match self.events.get_mut(event.name.as_str()) {
                Some(columns) => columns,
                None => self.events.entry(event.name.as_str().into()).or_default(),
            };
            self.bytes += columns.append(event, sequence, known)?;
            self.rows += 1;
            self.event_rows += 1;
        }
        // A person of whom nothing else is said is known all the same.
        let tells = !event.traits.is_empty() || matches!(event.kind(), EventKind::Identify | EventKind::Group | EventKind::Alias);
        if tells {
            self.bytes += self.traits.get_or_insert_default().append_traits(event, sequence, known)?;
            self.rows += 1;
        }
        Ok(happened || tells)
    }

    /// Everything as sorted runs, ordered by event.
    pub(crate) fn finish(self) -> Result<Vec<MemoryRun>, ArrowError> {
        let traits = self.traits.map(|columns| (TRAITS.into(), columns));
        let sorted: BTreeMap<Arc<str>, EventBuilder> = self.events.into_iter().chain(traits).collect();
        sorted.into_iter().map(|(event, columns)| columns.finish(event)).collect()
    }
}

impl EventBuilder {
    /// Adds what every row has; returns by how many bytes the columns grew.
    fn append_fixed(&mut self, event: &ResolvedEvent, sequence: u64) -> usize {
        self.person.push(event.person);
        self.device.push(event.device);
        self.ts.push(event.time_us);
        self.received_at.push(event.received_at_us);
        self.sequence.push(sequence);
        self.kind.push(event.kind().max(EventKind::Track) as u8);
        self.message_id.append_value(&event.message_id);
        ROW_BYTES + event.message_id.len()
    }

    /// Adds the traits that an event states; returns by how many bytes the columns grew.
    fn append_traits(&mut self, event: &ResolvedEvent, sequence: u64, known: &mut Properties) -> Result<usize, ArrowError> {
        let row = self.person.len();
        let mut bytes = self.append_fixed(event, sequence);
        self.value.push(None);
        self.skipped_items.push(0);
        let mut misfits = Vec::new();
        bytes += append_typed(&mut self.traits, PropertyScope::Trait, row, &event.traits, known, &mut misfits);
        if !misfits.is_empty() {
            bytes += self.unregistered.get_or_insert_default().set(row, misfits.into_iter())?;
        }
        Ok(bytes)
    }

    /// Adds a row; returns by how many bytes the columns grew.
    fn append(&mut self, event: &ResolvedEvent, sequence: u64, known: &mut Properties) -> Result<usize, ArrowError> {
        let row = self.person.len();
        let mut bytes = self.append_fixed(event, sequence);
        let texts = [
            (&mut self.session_id, &event.session_id),
            (&mut self.account_id, &event.account_id),
            (&mut self.original_name, &event.original_name),
            (&mut self.source, &event.source),
        ];
        for ((column, text), has) in texts.into_iter().zip(&mut self.has) {
            if !text.is_empty() {
                bytes += column.set(row, text);
                *has = true;
            }
        }
        for dimension in &event.dimensions {
            // A code that this version does not know is a dimension of a later one.
            let Some(at) = (dimension.code as usize).checked_sub(1).filter(|at| *at < DIMENSIONS.len()) else { continue };
            if self.dimensions.len() <= at {
                self.dimensions.resize_with(at + 1, || None);
            }
            bytes += self.dimensions[at].get_or_insert_default().set(row, &dimension.value);
        }
        bytes += self.append_properties(row, event, known)?;
        let (value, skipped) = value_of(&event.items);
        self.value.push(value);
        self.skipped_items.push(skipped);
        if !event.items.is_empty() {
            for (name, value) in event.items.iter().flat_map(|item| &item.properties) {
                if let Some(kind) = &value.kind {
                    known.type_of(PropertyScope::Item, name, kind_type(kind));
                }
            }
            bytes += self.items.get_or_insert_default().set(row, &event.items)?;
        }
        Ok(bytes)
    }

    fn append_properties(&mut self, row: usize, event: &ResolvedEvent, known: &mut Properties) -> Result<usize, ArrowError> {
        let mut misfits = Vec::new();
        let mut bytes = append_typed(&mut self.properties, PropertyScope::Event, row, &event.properties, known, &mut misfits);
        let rest = || event.unregistered.iter().chain(misfits.iter().copied()).filter(|(_, value)| value.kind.is_some());
        if rest().next().is_some() {
            for (name, value) in rest() {
                if let Some(kind) = &value.kind {
                    known.type_of(PropertyScope::Unregistered, name, kind_type(kind));
                }
            }
            bytes += self.unregistered.get_or_insert_default().set(row, rest())?;
        }
        Ok(bytes)
    }

    fn finish(mut self, event: Arc<str>) -> Result<MemoryRun, ArrowError> {
        let rows = self.person.len();
        let person: ArrayRef = Arc::new(UInt32Array::from(self.person));
        let mut columns: Vec<(Column, ArrayRef)> = vec![
            (Column::Person, person.clone()),
            (Column::Origin, person),
            (Column::Device, Arc::new(UInt32Array::from(self.device))),
            (Column::Ts, Arc::new(Int64Array::from(self.ts))),
            (Column::ReceivedAt, Arc::new(Int64Array::from(self.received_at))),
            (Column::Sequence, Arc::new(UInt64Array::from(self.sequence))),
            (Column::Kind, Arc::new(UInt8Array::from(self.kind))),
            (Column::MessageId, Arc::new(self.message_id.finish())),
            (Column::SkippedItems, Arc::new(UInt16Array::from(self.skipped_items))),
        ];
        let texts = [
            (Column::SessionId, self.session_id),
            (Column::AccountId, self.account_id),
            (Column::OriginalName, self.original_name),
            (Column::Source, self.source),
        ];
        for ((column, texts), has) in texts.into_iter().zip(self.has) {
            if has {
                columns.push((column, texts.finish(rows)?));
            }
        }
        for (code, texts) in (1..).zip(self.dimensions) {
            if let Some(texts) = texts {
                columns.push((Column::Dimension(code), texts.finish(rows)?));
            }
        }
        let of_columns = |(name, column)| (Column::Property(name), column);
        let mut typed: Vec<(Column, PropertyColumn)> = self.properties.into_iter().map(of_columns).collect();
        typed.extend(self.traits.into_iter().map(|(name, column)| (Column::Trait(name), column)));
        typed.sort_by_cached_key(|(column, _)| column.name());
        for (column, values) in typed {
            columns.push((column, values.finish(rows)?));
        }
        if let Some(items) = self.items {
            let values: Decimal128Array = self.value.into_iter().collect();
            columns.push((Column::ItemsList, items.finish(rows)?));
            columns.push((Column::Value, Arc::new(values.with_data_type(value_type()))));
        }
        if let Some(map) = self.unregistered {
            columns.push((Column::Unregistered, map.finish(rows)?));
        }
        let fields: Vec<Field> =
            columns.iter().map(|(column, array)| Field::new(column.name(), array.data_type().clone(), !column.is_required())).collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        MemoryRun::sorted(event, RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
    }
}

/// Puts the values of a row into typed columns; what does not fit its column's type goes to `misfits`, to be kept where a value of
/// any type fits. Returns by how many bytes the columns grew.
fn append_typed<'a>(
    columns: &mut HashMap<String, PropertyColumn>,
    scope: PropertyScope,
    row: usize,
    values: &'a HashMap<String, Value>,
    known: &mut Properties,
    misfits: &mut Vec<(&'a String, &'a Value)>,
) -> usize {
    let mut bytes = 0;
    for (name, value) in values {
        let Some(kind) = &value.kind else { continue };
        let Some(stored) = known.type_of(scope, name, kind_type(kind)) else {
            misfits.push((name, value));
            continue;
        };
        let column = match columns.get_mut(name.as_str()) {
            Some(column) => column,
            None => columns.entry(name.clone()).or_insert_with(|| PropertyColumn::new(stored)),
        };
        match column.set(row, kind) {
            Some(grown) => bytes += grown,
            None => misfits.push((name, value)),
        }
    }
    bytes
}
