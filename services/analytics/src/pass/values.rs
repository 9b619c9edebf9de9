//! Values of breakdowns as codes: the same value has the same code in every batch and thread of a question.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::Array;
use parking_lot::Mutex;
use segue_proto::analytics::v1::GroupValue;
use segue_proto::events::v1::{Value, value::Kind};

use crate::filter::cells::{BatchCells, Cells, double_bits};
use crate::filter::fields::Place;
use crate::question::time::timestamp;

/// A value that events are grouped by or held constant by. Two that are equal are the same value of the same type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum KeyValue {
    /// There is none.
    Missing,
    Bool(bool),
    Int(i64),
    /// Ten-thousandths.
    Decimal(i128),
    /// Microseconds.
    Time(i64),
    /// Bits of a double, one pattern for both zeros.
    Double(u64),
    Text(Arc<str>),
}

impl KeyValue {
    /// As answers have it.
    pub(crate) fn group_value(&self) -> GroupValue {
        let kind = match self {
            KeyValue::Missing => return GroupValue { value: None },
            KeyValue::Bool(value) => Kind::BoolValue(*value),
            KeyValue::Int(value) => Kind::IntValue(*value),
            KeyValue::Decimal(e4) => Kind::DecimalE4Value(i64::try_from(*e4).unwrap_or(if *e4 < 0 { i64::MIN } else { i64::MAX })),
            KeyValue::Time(us) => Kind::TimestampValue(timestamp(*us)),
            KeyValue::Double(bits) => Kind::DoubleValue(f64::from_bits(*bits)),
            KeyValue::Text(text) => Kind::StringValue(text.to_string()),
        };
        GroupValue { value: Some(Value { kind: Some(kind) }) }
    }

    /// From an answer's cell; JSON has no groups.
    pub(crate) fn of_group_value(value: &GroupValue) -> Option<KeyValue> {
        Some(match value.value.as_ref().and_then(|value| value.kind.as_ref()) {
            None => KeyValue::Missing,
            Some(Kind::BoolValue(value)) => KeyValue::Bool(*value),
            Some(Kind::IntValue(value)) => KeyValue::Int(*value),
            Some(Kind::DecimalE4Value(e4)) => KeyValue::Decimal(i128::from(*e4)),
            Some(Kind::TimestampValue(time)) => KeyValue::Time(crate::question::time::bound_us(time)?),
            Some(Kind::DoubleValue(value)) => KeyValue::Double(double_bits(*value)),
            Some(Kind::StringValue(text)) => KeyValue::Text(text.as_str().into()),
            Some(Kind::JsonValue(_)) => return None,
        })
    }
}

/// Gives out codes, from 1; 0 is *missing*.
#[derive(Debug, Default)]
pub(crate) struct Values(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    codes: HashMap<KeyValue, u32>,
    values: Vec<KeyValue>,
}

impl Known {
    fn code(&mut self, value: KeyValue) -> u32 {
        if value == KeyValue::Missing {
            return 0;
        }
        if let Some(code) = self.codes.get(&value) {
            return *code;
        }
        self.values.push(value.clone());
        let code = self.values.len() as u32;
        self.codes.insert(value, code);
        code
    }
}

impl Values {
    /// The value of a code.
    pub(crate) fn value(&self, code: u32) -> KeyValue {
        let at = (code as usize).checked_sub(1);
        at.and_then(|at| self.0.lock().values.get(at).cloned()).unwrap_or(KeyValue::Missing)
    }

    /// How many codes were given out.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().values.len()
    }

    /// The code of one value.
    pub(crate) fn code(&self, value: KeyValue) -> u32 {
        self.0.lock().code(value)
    }

    /// The codes of a field's values in these rows of a batch. Fields of items have none: events carry several.
    pub(crate) fn codes(&self, place: Place, batch: &BatchCells<'_>, rows: &[u32], out: &mut Vec<u32>) {
        let column = match place {
            Place::EventName => {
                let code = self.code(KeyValue::Text(batch.event.into()));
                out.resize(out.len() + rows.len(), code);
                return;
            }
            Place::Column(at) => &batch.columns[at],
            Place::Item(_) | Place::Absent => &Cells::Missing,
        };
        self.cell_codes(column, rows, out);
    }

    /// The codes of these values of a column.
    pub(crate) fn cell_codes(&self, column: &Cells, rows: &[u32], out: &mut Vec<u32>) {
        let mut known = self.0.lock();
        let each = |valid: bool, value: KeyValue| if valid { value } else { KeyValue::Missing };
        match column {
            Cells::Text(text) => {
                // Dictionaries may be much larger than the rows at hand: only codes that occur are looked up.
                let mut of_code: Vec<u32> = vec![u32::MAX; text.values.len() + 1];
                if let Some(missing) = of_code.last_mut() {
                    *missing = 0;
                }
                out.extend(rows.iter().map(|row| {
                    let code = text.codes[*row as usize] as usize;
                    if of_code[code] == u32::MAX {
                        let valid = text.values.is_valid(code);
                        of_code[code] = if valid { known.code(KeyValue::Text(text.values.value(code).into())) } else { 0 };
                    }
                    of_code[code]
                }));
            }
            Cells::Int(array) => {
                out.extend(
                    rows.iter().map(|row| *row as usize).map(|row| known.code(each(array.is_valid(row), KeyValue::Int(array.value(row))))),
                );
            }
            Cells::Bool(array) => {
                out.extend(
                    rows.iter().map(|row| *row as usize).map(|row| known.code(each(array.is_valid(row), KeyValue::Bool(array.value(row))))),
                );
            }
            Cells::Decimal(array) => {
                out.extend(
                    rows.iter()
                        .map(|row| *row as usize)
                        .map(|row| known.code(each(array.is_valid(row), KeyValue::Decimal(array.value(row))))),
                );
            }
            Cells::Time(array) => {
                out.extend(
                    rows.iter().map(|row| *row as usize).map(|row| known.code(each(array.is_valid(row), KeyValue::Time(array.value(row))))),
                );
            }
            Cells::Double(array) => {
                out.extend(
                    rows.iter()
                        .map(|row| *row as usize)
                        .map(|row| known.code(each(array.is_valid(row), KeyValue::Double(double_bits(array.value(row)))))),
                );
            }
            Cells::Missing | Cells::Opaque(_) | Cells::Number(_) | Cells::Small(_) => out.resize(out.len() + rows.len(), 0),
        }
    }
}
