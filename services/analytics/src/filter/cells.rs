//! Columns of a batch in the forms that the loops of questions read. Everything here shares the batch's memory; only text columns
//! with missing values, and further properties of items, are rewritten.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt16Array,
    UInt32Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt32Type};

use super::fields::ItemColumn;
use crate::index::property::PropertyColumn;
use crate::question::QueryError;
use crate::scan::{Column, ItemField, PropertyType, ScanBatch, ScanError, decode_value};

/// Which rows (or items) a loop reads, in their order. Their places in it are counted from 0.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At<'a> {
    /// So many, from the first.
    All(usize),
    /// These.
    These(&'a [u32]),
}

impl At<'_> {
    /// How many.
    pub(crate) fn len(self) -> usize {
        match self {
            At::All(len) => len,
            At::These(rows) => rows.len(),
        }
    }

    /// Calls `each(k, row)` for the k-th of the rows.
    #[inline]
    pub(crate) fn each(self, mut each: impl FnMut(usize, usize)) {
        match self {
            At::All(len) => (0..len).for_each(|row| each(row, row)),
            At::These(rows) => rows.iter().enumerate().for_each(|(k, row)| each(k, *row as usize)),
        }
    }
}

/// The values of one field, one per row (or per item).
#[derive(Debug, Clone)]
pub(crate) enum Cells {
    /// No row has one.
    Missing,
    /// Text by codes.
    Text(TextCells),
    /// Whole numbers.
    Int(Int64Array),
    /// Floating point.
    Double(Float64Array),
    /// True or false.
    Bool(BooleanArray),
    /// Ten-thousandths.
    Decimal(Decimal128Array),
    /// Microseconds.
    Time(TimestampMicrosecondArray),
    /// Whatever cannot be compared: only whether it is there.
    Opaque(Option<NullBuffer>),
    /// Person or device numbers.
    Number(UInt32Array),
    /// Small counts.
    Small(UInt16Array),
}

/// Text as codes into a list of values. Two codes may stand for one text; the code past the last value is *missing*.
#[derive(Debug, Clone)]
pub(crate) struct TextCells {
    /// One per row.
    pub(crate) codes: ScalarBuffer<u32>,
    /// What the codes stand for.
    pub(crate) values: StringArray,
}

impl TextCells {
    /// The code of missing values.
    pub(crate) fn missing(&self) -> u32 {
        self.values.len() as u32
    }
}

impl Cells {
    /// Reads a column.
    pub(crate) fn of(array: &ArrayRef, name: &str) -> Result<Cells, QueryError> {
        let mismatch = |wanted: &'static str| QueryError::Column { column: name.to_owned(), found: array.data_type().to_string(), wanted };
        Ok(match array.data_type() {
            DataType::Null => Cells::Missing,
            DataType::Dictionary(key, _) if **key == DataType::UInt32 => {
                let dictionary = array.as_dictionary::<UInt32Type>();
                let values = dictionary.values().as_string_opt::<i32>().ok_or_else(|| mismatch("text"))?.clone();
                let keys = dictionary.keys();
                let missing = values.len() as u32;
                let codes = match keys.nulls() {
                    Some(nulls) if nulls.null_count() > 0 => {
                        keys.values().iter().zip(nulls.iter()).map(|(code, valid)| if valid { *code } else { missing }).collect()
                    }
                    Some(_) | None => keys.values().clone(),
                };
                Cells::Text(TextCells { codes, values })
            }
            DataType::Int64 => Cells::Int(array.as_primitive::<Int64Type>().clone()),
            DataType::Float64 => Cells::Double(array.as_primitive::<Float64Type>().clone()),
            DataType::Boolean => Cells::Bool(array.as_boolean().clone()),
            DataType::Decimal128(_, 4) => Cells::Decimal(array.as_primitive::<Decimal128Type>().clone()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Cells::Time(array.as_primitive::<TimestampMicrosecondType>().clone()),
            DataType::UInt32 => Cells::Number(array.as_primitive::<UInt32Type>().clone()),
            DataType::UInt16 => Cells::Small(array.as_primitive().clone()),
            DataType::Utf8 => Cells::Opaque(array.nulls().cloned()),
            _ => return Err(mismatch("a value of a report")),
        })
    }

    /// Which rows have a value.
    pub(crate) fn present(&self, len: usize) -> BooleanBuffer {
        match self {
            Cells::Missing => BooleanBuffer::new_unset(len),
            Cells::Text(text) => {
                let missing = text.missing();
                BooleanBuffer::collect_bool(len, |at| text.codes[at] != missing)
            }
            Cells::Int(array) => valid(array.nulls(), len),
            Cells::Double(array) => valid(array.nulls(), len),
            Cells::Bool(array) => valid(array.nulls(), len),
            Cells::Decimal(array) => valid(array.nulls(), len),
            Cells::Time(array) => valid(array.nulls(), len),
            Cells::Opaque(nulls) => valid(nulls.as_ref(), len),
            Cells::Number(array) => valid(array.nulls(), len),
            Cells::Small(array) => valid(array.nulls(), len),
        }
    }

    /// Calls `each(k, value)` for the k-th of the rows `at`, where there is an exact number: a whole number, a decimal in
    /// ten-thousandths or a time in microseconds.
    pub(crate) fn each_exact(&self, at: At<'_>, each: impl FnMut(usize, i128)) {
        match self {
            Cells::Int(array) => each_value(array.values(), array.nulls(), at, |value| i128::from(*value), each),
            Cells::Time(array) => each_value(array.values(), array.nulls(), at, |value| i128::from(*value), each),
            Cells::Decimal(array) => each_value(array.values(), array.nulls(), at, |value| *value, each),
            Cells::Small(array) => each_value(array.values(), array.nulls(), at, |value| i128::from(*value), each),
            Cells::Missing | Cells::Text(_) | Cells::Double(_) | Cells::Bool(_) | Cells::Opaque(_) | Cells::Number(_) => {}
        }
    }

    /// The same as floating point.
    pub(crate) fn each_double(&self, at: At<'_>, each: impl FnMut(usize, f64)) {
        match self {
            Cells::Double(array) => each_value(array.values(), array.nulls(), at, |value| *value, each),
            Cells::Int(array) => each_value(array.values(), array.nulls(), at, |value| *value as f64, each),
            Cells::Decimal(array) => each_value(array.values(), array.nulls(), at, |value| *value as f64 / 10_000.0, each),
            Cells::Missing | Cells::Text(_) | Cells::Bool(_) | Cells::Time(_) | Cells::Opaque(_) | Cells::Number(_) | Cells::Small(_) => {}
        }
    }

    /// The same for any value that is not text, as a number that is equal for equal values of the column and differs for others.
    pub(crate) fn each_key(&self, at: At<'_>, mut each: impl FnMut(usize, u128)) {
        match self {
            Cells::Double(array) => {
                each_value(array.values(), array.nulls(), at, |value| u128::from(double_bits(*value)), each);
            }
            Cells::Bool(array) => {
                let values = array.values();
                at.each(|k, row| {
                    if array.nulls().is_none_or(|nulls| nulls.is_valid(row)) {
                        each(k, u128::from(values.value(row)));
                    }
                });
            }
            Cells::Int(_) | Cells::Decimal(_) | Cells::Time(_) | Cells::Small(_) => {
                self.each_exact(at, |k, value| each(k, value.cast_unsigned()));
            }
            Cells::Missing | Cells::Text(_) | Cells::Opaque(_) | Cells::Number(_) => {}
        }
    }
}

/// Bits of a number: one pattern for both zeros, one for all that are not numbers.
pub(crate) fn double_bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

fn valid(nulls: Option<&NullBuffer>, len: usize) -> BooleanBuffer {
    match nulls {
        Some(nulls) => nulls.inner().clone(),
        None => BooleanBuffer::new_set(len),
    }
}

#[inline]
fn each_value<T, U>(values: &[T], nulls: Option<&NullBuffer>, at: At<'_>, read: impl Fn(&T) -> U, mut each: impl FnMut(usize, U)) {
    match (nulls.filter(|nulls| nulls.null_count() > 0), at) {
        (None, At::All(len)) => values.iter().take(len).enumerate().for_each(|(row, value)| each(row, read(value))),
        (None, At::These(rows)) => {
            for (k, row) in rows.iter().enumerate() {
                each(k, read(&values[*row as usize]));
            }
        }
        (Some(nulls), at) => at.each(|k, row| {
            if nulls.is_valid(row) {
                each(k, read(&values[row]));
            }
        }),
    }
}

/// The items of a batch, one after the other.
#[derive(Debug)]
pub(crate) struct Items {
    /// Per row, its first item.
    pub(crate) starts: Vec<u32>,
    /// Per row, the item after its last.
    pub(crate) ends: Vec<u32>,
    /// The fields that the question reads.
    pub(crate) fields: Vec<Cells>,
    /// How many items the batch has.
    pub(crate) len: usize,
}

/// A batch as a question reads it.
#[derive(Debug)]
pub(crate) struct BatchCells<'a> {
    /// The event's canonical name.
    pub(crate) event: &'a str,
    /// Rows.
    pub(crate) len: usize,
    /// The question's columns.
    pub(crate) columns: Vec<Cells>,
    /// The items, when the question reads any.
    pub(crate) items: Option<Items>,
}

impl<'a> BatchCells<'a> {
    /// Reads a batch that holds these columns, and these fields of its items.
    pub(crate) fn new(batch: &'a ScanBatch, columns: &[Column], items: &[ItemColumn]) -> Result<Self, QueryError> {
        let places: Vec<usize> = (0..columns.len()).collect();
        Self::sparse(batch, columns, &places, items)
    }

    /// Reads a batch that holds only the columns at `places` of the question's; the others are missing and must not be asked for.
    pub(crate) fn sparse(batch: &'a ScanBatch, columns: &[Column], places: &[usize], fields: &[ItemColumn]) -> Result<Self, QueryError> {
        let mut cells = vec![Cells::Missing; columns.len()];
        let mut items = None;
        for (place, array) in places.iter().zip(batch.batch.columns()) {
            if matches!(array.data_type(), DataType::List(_)) {
                items = Some(Items::new(array, fields)?);
            } else {
                cells[*place] = Cells::of(array, &columns[*place].name())?;
            }
        }
        Ok(BatchCells { event: &batch.event, len: batch.batch.num_rows(), columns: cells, items })
    }
}

impl Items {
    fn new(array: &ArrayRef, fields: &[ItemColumn]) -> Result<Items, QueryError> {
        let list = array.as_list::<i32>();
        let offsets = list.value_offsets();
        let first = offsets.first().copied().unwrap_or(0);
        let last = offsets.last().copied().unwrap_or(0);
        let len = (last - first) as usize;
        let mut starts = Vec::with_capacity(list.len());
        let mut ends = Vec::with_capacity(list.len());
        for (row, bounds) in offsets.windows(2).enumerate() {
            starts.push((bounds[0] - first) as u32);
            ends.push(if list.is_valid(row) { (bounds[1] - first) as u32 } else { (bounds[0] - first) as u32 });
        }
        let mismatch =
            || QueryError::Column { column: "items".to_owned(), found: array.data_type().to_string(), wanted: "a list of items" };
        let values = list.values().as_struct_opt().ok_or_else(mismatch)?;
        // The batch may be a slice of a run: only its own items are read.
        let child = |field: ItemField| {
            let column = values.column_by_name(field.name()).ok_or_else(mismatch)?;
            Ok::<ArrayRef, QueryError>(column.slice(first as usize, len))
        };
        let fields = fields.iter().map(|field| match field {
            ItemColumn::BuiltIn(field) => Cells::of(&child(*field)?, field.name()),
            ItemColumn::Custom(name, kind) => {
                let maps = child(ItemField::Properties)?;
                custom_cells(&maps, name, *kind)?.ok_or_else(mismatch)
            }
        });
        Ok(Items { fields: fields.collect::<Result<_, _>>()?, starts, ends, len })
    }
}

/// Reads one further property of all items out of their maps of JSON texts; what does not fit the property's type is missing.
/// None when the maps are not maps of text.
fn custom_cells(array: &ArrayRef, name: &str, kind: PropertyType) -> Result<Option<Cells>, QueryError> {
    let Some(maps) = array.as_map_opt() else { return Ok(None) };
    let (Some(keys), Some(texts)) = (maps.keys().as_string_opt::<i32>(), maps.values().as_string_opt::<i32>()) else { return Ok(None) };
    let offsets = maps.value_offsets();
    let mut column = PropertyColumn::new(kind);
    for item in (0..maps.len()).filter(|item| maps.is_valid(*item)) {
        let mut entries = offsets[item] as usize..offsets[item + 1] as usize;
        let Some(entry) = entries.find(|entry| keys.value(*entry) == name) else { continue };
        if let Some(value) = decode_value(texts.value(entry)).and_then(|value| value.kind) {
            let _ = column.set(item, &value);
        }
    }
    let column = column.finish(maps.len()).map_err(ScanError::Arrow)?;
    Cells::of(&column, name).map(Some)
}
