//! Events in full, read back from the columns that they were taken apart into.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type};
use segue_model::dimension::DIMENSIONS;
use segue_proto::analytics::v1::TimelineEvent;
use segue_proto::events::v1::{Item, Value, value::Kind};

use super::keys::{KEY_COLUMNS, Key, Keyed, Keys};
use crate::question::time::timestamp;
use crate::question::{Context, QueryError};
use crate::scan::{Column, ItemField, PropertyScope, ScanRequest, Snapshot, decode_value};

/// A person's events of these keys, in their order.
pub(crate) fn read(context: &Context<'_>, person: u32, keys: &[Keyed]) -> Result<Vec<TimelineEvent>, QueryError> {
    let times = || keys.iter().map(|keyed| keyed.key.ts);
    let (Some(oldest), Some(newest)) = (times().min(), times().max()) else { return Ok(Vec::new()) };
    let columns = columns(context.snapshot);
    let names: BTreeSet<&str> = keys.iter().map(|keyed| &*keyed.event).collect();
    let request = ScanRequest {
        events: Some(names.into_iter().map(str::to_owned).collect()),
        range_us: (oldest, newest.saturating_add(1)),
        columns: KEY_COLUMNS.into_iter().chain(columns.iter().cloned()).collect(),
        persons: Some(person..person.saturating_add(1)),
    };
    let places: HashMap<Key, usize> = keys.iter().zip(0..).map(|(keyed, place)| (keyed.key, place)).collect();
    let mut events = vec![TimelineEvent::default(); keys.len()];
    for batch in context.snapshot.scan(request) {
        context.check()?;
        let batch = batch?;
        let of_batch = Keys::new(&batch, 0)?;
        let arrays = batch.batch.columns().get(KEY_COLUMNS.len()..).unwrap_or_default();
        for row in 0..batch.batch.num_rows() {
            let Some((key, place)) = of_batch.key(row).and_then(|key| Some((key, *places.get(&key)?))) else { continue };
            let Some(event) = events.get_mut(place) else { continue };
            event.name = batch.event.to_string();
            event.time = Some(timestamp(key.ts));
            event.origin = key.origin;
            for (column, array) in columns.iter().zip(arrays).filter(|(_, array)| array.is_valid(row)) {
                put(event, column, array, row);
            }
        }
    }
    Ok(events)
}

/// Everything that an event can carry. What did not fit its property's type is in the map, so that comes first.
fn columns(snapshot: &Snapshot) -> Vec<Column> {
    let mut columns = vec![
        Column::Device,
        Column::ReceivedAt,
        Column::MessageId,
        Column::SessionId,
        Column::AccountId,
        Column::OriginalName,
        Column::Source,
        Column::ItemsList,
        Column::Unregistered,
    ];
    columns.extend(DIMENSIONS.iter().map(|dimension| Column::Dimension(dimension.code)));
    let properties = snapshot.properties().iter().filter(|property| property.scope == PropertyScope::Event);
    columns.extend(properties.map(|property| Column::Property(property.name.clone())));
    columns
}

/// Puts one value, which is there, into the event.
fn put(event: &mut TimelineEvent, column: &Column, array: &ArrayRef, row: usize) {
    let text = || text(array, row).unwrap_or_default();
    match column {
        Column::Device => event.device = array.as_primitive_opt::<UInt32Type>().map_or(0, |array| array.value(row)),
        Column::ReceivedAt => event.received_at = array.as_primitive_opt::<Int64Type>().map(|array| timestamp(array.value(row))),
        Column::MessageId => event.message_id = text(),
        Column::SessionId => event.session_id = text(),
        Column::AccountId => event.account_id = text(),
        Column::OriginalName => event.original_name = text(),
        Column::Source => event.source = text(),
        Column::ItemsList => event.items = items(array, row),
        Column::Unregistered => event.properties.extend(map(array, row)),
        Column::Dimension(code) => {
            if let Some(dimension) = segue_model::dimension::by_code(*code) {
                event.dimensions.insert(dimension.name.to_owned(), text());
            }
        }
        Column::Property(name) => {
            if let Some(value) = value(array, row) {
                event.properties.insert(name.clone(), value);
            }
        }
        // What traits an event states is no part of it.
        Column::Trait(_) => {}
        Column::Person
        | Column::Origin
        | Column::Ts
        | Column::Sequence
        | Column::Kind
        | Column::Items(_)
        | Column::Value
        | Column::SkippedItems => {}
    }
}

/// Text, plain or by a dictionary.
fn text(array: &ArrayRef, row: usize) -> Option<String> {
    if !array.is_valid(row) {
        return None;
    }
    match array.as_dictionary_opt::<UInt32Type>() {
        Some(dictionary) => {
            let key = dictionary.key(row)?;
            Some(dictionary.values().as_string_opt::<i32>()?.value(key).to_owned())
        }
        None => Some(array.as_string_opt::<i32>()?.value(row).to_owned()),
    }
}

/// The value of a property's column, if the row has one.
pub(crate) fn property(array: &ArrayRef, row: usize) -> Option<Value> {
    if array.is_valid(row) { value(array, row) } else { None }
}

/// The value of a property's column, which is there.
fn value(array: &ArrayRef, row: usize) -> Option<Value> {
    let kind = match array.data_type() {
        DataType::Dictionary(_, _) => Kind::StringValue(text(array, row)?),
        DataType::Int64 => Kind::IntValue(array.as_primitive_opt::<Int64Type>()?.value(row)),
        DataType::Float64 => Kind::DoubleValue(array.as_primitive_opt::<Float64Type>()?.value(row)),
        DataType::Boolean => Kind::BoolValue(array.as_boolean_opt()?.value(row)),
        DataType::Decimal128(_, _) => Kind::DecimalE4Value(decimal(array, row)?),
        DataType::Timestamp(_, _) => Kind::TimestampValue(timestamp(array.as_primitive_opt::<TimestampMicrosecondType>()?.value(row))),
        DataType::Utf8 => Kind::JsonValue(text(array, row)?),
        _ => return None,
    };
    Some(Value { kind: Some(kind) })
}

fn decimal(array: &ArrayRef, row: usize) -> Option<i64> {
    let array = array.as_primitive_opt::<Decimal128Type>()?;
    array.is_valid(row).then(|| i64::try_from(array.value(row)).ok()).flatten()
}

/// The entries of a map of JSON texts.
fn map(array: &ArrayRef, row: usize) -> HashMap<String, Value> {
    let Some(map) = array.as_map_opt().filter(|map| map.is_valid(row)) else { return HashMap::new() };
    let entries = map.value(row);
    let (Some(names), Some(texts)) = (entries.column(0).as_string_opt::<i32>(), entries.column(1).as_string_opt::<i32>()) else {
        return HashMap::new();
    };
    let each = (0..entries.len()).filter(|at| texts.is_valid(*at));
    each.filter_map(|at| Some((names.value(at).to_owned(), decode_value(texts.value(at))?))).collect()
}

fn items(array: &ArrayRef, row: usize) -> Vec<Item> {
    let Some(items) = array.as_list_opt::<i32>().map(|list| list.value(row)) else { return Vec::new() };
    let Some(items) = items.as_struct_opt() else { return Vec::new() };
    (0..items.len()).map(|at| item(items, at)).collect()
}

fn item(items: &StructArray, at: usize) -> Item {
    let field = |field: ItemField| items.columns().get(field.index());
    let text_of = |name: ItemField| field(name).and_then(|array| text(array, at)).unwrap_or_default();
    let categories = [ItemField::Category1, ItemField::Category2, ItemField::Category3, ItemField::Category4, ItemField::Category5];
    let mut categories: Vec<String> = categories.map(text_of).into();
    // Levels are places: only what is empty at the end can be left out.
    categories.truncate(categories.iter().rposition(|category| !category.is_empty()).map_or(0, |last| last + 1));
    let quantity = field(ItemField::Quantity).and_then(|array| array.as_primitive_opt::<Int64Type>()).filter(|array| array.is_valid(at));
    Item {
        item_id: text_of(ItemField::ItemId),
        name: text_of(ItemField::Name),
        price_e4: field(ItemField::Price).and_then(|array| decimal(array, at)),
        quantity: quantity.map(|array| array.value(at)),
        discount_e4: field(ItemField::Discount).and_then(|array| decimal(array, at)),
        categories,
        brand: text_of(ItemField::Brand),
        variant: text_of(ItemField::Variant),
        coupon: text_of(ItemField::Coupon),
        properties: field(ItemField::Properties).map(|array| map(array, at)).unwrap_or_default(),
    }
}
