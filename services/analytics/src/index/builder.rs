//! Fresh events of one tenant, column by column, until they are frozen into sorted runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringBuilder, UInt8Array, UInt16Array, UInt32Array, UInt64Array};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use segue_model::dimension::DIMENSIONS;
use segue_proto::events::v1::{EventKind, ResolvedEvent};

use super::items::{ItemsColumn, value_of};
use super::property::{MapColumn, Properties, PropertyColumn, kind_type};
use super::run::MemoryRun;
use super::text::TextColumn;
use crate::scan::{Column, PropertyScope, value_type};

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
    rows: usize,
    bytes: usize,
}

/// What is fixed per row, with room for growth.
const ROW_BYTES: usize = 80;

impl Builder {
    /// Events in it.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// About so many bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an event. Only TRACK, PAGE and SCREEN are something that happened: false for others, which are left out.
    pub(crate) fn append(&mut self, event: &ResolvedEvent, sequence: u64, known: &mut Properties) -> Result<bool, ArrowError> {
        match event.kind() {
            EventKind::Unspecified | EventKind::Track | EventKind::Page | EventKind::Screen => {}
            EventKind::Identify | EventKind::Group | EventKind::Alias => return Ok(false),
        }
        if event.name.is_empty() {
            return Ok(false);
        }
        let columns = match self.events.get_mut(event.name.as_str()) {
            Some(columns) => columns,
            None => self.events.entry(event.name.as_str().into()).or_default(),
        };
        self.bytes += columns.append(event, sequence, known)?;
        self.rows += 1;
        Ok(true)
    }

    /// Everything as sorted runs, ordered by event.
    pub(crate) fn finish(self) -> Result<Vec<MemoryRun>, ArrowError> {
        let sorted: BTreeMap<Arc<str>, EventBuilder> = self.events.into_iter().collect();
        sorted.into_iter().map(|(event, columns)| columns.finish(event)).collect()
    }
}

impl EventBuilder {
    /// Adds a row; returns by how many bytes the columns grew.
    fn append(&mut self, event: &ResolvedEvent, sequence: u64, known: &mut Properties) -> Result<usize, ArrowError> {
        let row = self.person.len();
        let mut bytes = ROW_BYTES + event.message_id.len();
        self.person.push(event.person);
        self.device.push(event.device);
        self.ts.push(event.time_us);
        self.received_at.push(event.received_at_us);
        self.sequence.push(sequence);
        self.kind.push(event.kind().max(EventKind::Track) as u8);
        self.message_id.append_value(&event.message_id);
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
        let mut bytes = 0;
        let mut misfits = Vec::new();
        for (name, value) in &event.properties {
            let Some(kind) = &value.kind else { continue };
            let Some(stored) = known.type_of(PropertyScope::Event, name, kind_type(kind)) else {
                misfits.push((name, value));
                continue;
            };
            let column = match self.properties.get_mut(name.as_str()) {
                Some(column) => column,
                None => self.properties.entry(name.clone()).or_insert_with(|| PropertyColumn::new(stored)),
            };
            match column.set(row, kind) {
                Some(grown) => bytes += grown,
                // Kept where a value of any type fits.
                None => misfits.push((name, value)),
            }
        }
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
        let mut properties: Vec<_> = self.properties.into_iter().collect();
        properties.sort_by(|one, other| one.0.cmp(&other.0));
        for (name, column) in properties {
            columns.push((Column::Property(name), column.finish(rows)?));
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
