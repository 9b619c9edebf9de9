//! Groups: the values of the group-by fields as dense codes, and their combinations as dense group numbers.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, StringArray};
use segue_proto::analytics::v1 as pb;
use segue_proto::events::v1 as events;

use crate::filter::cells::{Cells, TextCells};
use crate::question::hashing::Fold;
use crate::question::time::timestamp;
use crate::scan::PropertyType;

/// The code of a missing value.
pub(super) const MISSING: u32 = 0;
const UNTRANSLATED: u32 = u32::MAX;

/// Gives every text a code, from 1.
#[derive(Debug, Default)]
pub(super) struct Interner {
    codes: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    /// From the codes of the dictionary at hand to ours, filled as they occur.
    table: Vec<u32>,
    dictionary: Option<StringArray>,
}

impl Interner {
    /// Prepares for the codes of `cells`. Batches of one run share their dictionary; then the translations stay.
    pub(super) fn begin(&mut self, cells: &TextCells) {
        let same = self.dictionary.as_ref().is_some_and(|known| {
            std::ptr::eq(known.value_offsets(), cells.values.value_offsets()) && std::ptr::eq(known.value_data(), cells.values.value_data())
        });
        if !same {
            self.table.clear();
            self.table.resize(cells.values.len() + 1, UNTRANSLATED);
            self.table[cells.values.len()] = MISSING;
            self.dictionary = Some(cells.values.clone());
        }
    }

    /// Our code for a code of the dictionary given to [`begin`](Self::begin).
    #[inline]
    pub(super) fn code(&mut self, local: u32) -> u32 {
        let known = self.table[local as usize];
        if known == UNTRANSLATED { self.translate(local) } else { known }
    }

    #[cold]
    fn translate(&mut self, local: u32) -> u32 {
        let Some(dictionary) = &self.dictionary else { return MISSING };
        let code = if dictionary.is_null(local as usize) {
            MISSING
        } else {
            let text = dictionary.value(local as usize);
            match self.codes.get(text) {
                Some(code) => *code,
                None => {
                    let text: Arc<str> = Arc::from(text);
                    self.texts.push(text.clone());
                    let code = self.texts.len() as u32;
                    self.codes.insert(text, code);
                    code
                }
            }
        };
        self.table[local as usize] = code;
        code
    }

    /// How many texts.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// A value of one group-by field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum GroupKey {
    /// Text.
    Text(Arc<str>),
    /// Whole number.
    Int(i64),
    /// Floating point.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// Ten-thousandths.
    Decimal(i128),
    /// Microseconds.
    Time(i64),
    /// No value.
    Missing,
}

impl GroupKey {
    /// Order within a field: by value, missing last.
    pub(super) fn order(&self, other: &GroupKey) -> Ordering {
        match (self, other) {
            (GroupKey::Text(a), GroupKey::Text(b)) => a.cmp(b),
            (GroupKey::Int(a), GroupKey::Int(b)) | (GroupKey::Time(a), GroupKey::Time(b)) => a.cmp(b),
            (GroupKey::Double(a), GroupKey::Double(b)) => a.total_cmp(b),
            (GroupKey::Bool(a), GroupKey::Bool(b)) => a.cmp(b),
            (GroupKey::Decimal(a), GroupKey::Decimal(b)) => a.cmp(b),
            (GroupKey::Missing, GroupKey::Missing) => Ordering::Equal,
            (GroupKey::Missing, _) => Ordering::Greater,
            (_, GroupKey::Missing) => Ordering::Less,
            // A field has one type, so that other pairs do not meet.
            (_, _) => Ordering::Equal,
        }
    }

    /// As the answer carries it.
    pub(super) fn to_value(&self) -> pb::GroupValue {
        use events::value::Kind;
        let kind = match self {
            GroupKey::Text(text) => Kind::StringValue(text.to_string()),
            GroupKey::Int(value) => Kind::IntValue(*value),
            GroupKey::Double(value) => Kind::DoubleValue(*value),
            GroupKey::Bool(value) => Kind::BoolValue(*value),
            // Stored decimals are 64-bit counts of ten-thousandths.
            GroupKey::Decimal(e4) => Kind::DecimalE4Value(i64::try_from(*e4).unwrap_or(if *e4 < 0 { i64::MIN } else { i64::MAX })),
            GroupKey::Time(us) => Kind::TimestampValue(timestamp(*us)),
            GroupKey::Missing => return pb::GroupValue { value: None },
        };
        pb::GroupValue { value: Some(events::Value { kind: Some(kind) }) }
    }
}

/// The values of one group-by field, as codes from 1; 0 is missing.
#[derive(Debug)]
struct GroupField {
    kind: Option<PropertyType>,
    texts: Interner,
    numbers: HashMap<u128, u32, Fold>,
    keys: Vec<u128>,
}

impl GroupField {
    /// Writes the codes of the rows `at` to `out`.
    fn codes(&mut self, cells: &Cells, at: &[u32], out: &mut Vec<u32>) {
        out.clear();
        if let Cells::Text(text) = cells {
            self.texts.begin(text);
            out.extend(at.iter().map(|row| self.texts.code(text.codes[*row as usize])));
            return;
        }
        out.resize(at.len(), MISSING);
        let (numbers, keys) = (&mut self.numbers, &mut self.keys);
        let mut last = None;
        cells.each_key(at, |k, key| {
            out[k] = match last {
                Some((known, code)) if known == key => code,
                Some(_) | None => *numbers.entry(key).or_insert_with(|| {
                    keys.push(key);
                    keys.len() as u32
                }),
            };
            last = Some((key, out[k]));
        });
    }

    /// How many codes, missing included.
    fn len(&self) -> usize {
        self.texts.len().max(self.keys.len()) + 1
    }

    fn key(&self, code: u32) -> GroupKey {
        let Some(at) = (code as usize).checked_sub(1) else { return GroupKey::Missing };
        if let Some(text) = self.texts.texts.get(at) {
            return GroupKey::Text(text.clone());
        }
        let Some(key) = self.keys.get(at).copied() else { return GroupKey::Missing };
        let number = key.cast_signed();
        match self.kind {
            Some(PropertyType::Int) => GroupKey::Int(number as i64),
            Some(PropertyType::Double) => GroupKey::Double(f64::from_bits(key as u64)),
            Some(PropertyType::Bool) => GroupKey::Bool(key != 0),
            Some(PropertyType::Decimal) => GroupKey::Decimal(number),
            Some(PropertyType::Timestamp) => GroupKey::Time(number as i64),
            Some(PropertyType::String | PropertyType::Json) | None => GroupKey::Missing,
        }
    }
}

/// Gives every combination of values a group number, from 0.
#[derive(Debug)]
pub(super) struct Grouper {
    fields: Vec<GroupField>,
    /// With two or three fields: from packed codes to group number, and back.
    groups: HashMap<u128, u32, Fold>,
    packed: Vec<u128>,
    scratch: Vec<u32>,
}

impl Grouper {
    /// For fields of these types.
    pub(super) fn new(kinds: impl IntoIterator<Item = Option<PropertyType>>) -> Grouper {
        let field = |kind| GroupField { kind, texts: Interner::default(), numbers: HashMap::default(), keys: Vec::new() };
        Grouper { fields: kinds.into_iter().map(field).collect(), groups: HashMap::default(), packed: Vec::new(), scratch: Vec::new() }
    }

    /// Writes the group of each row to `out`. `fields` gives each field's values and the rows (or items) to read them at.
    pub(super) fn assign(&mut self, fields: &[(&Cells, &[u32])], rows: usize, out: &mut Vec<u32>) {
        if fields.is_empty() {
            out.clear();
            out.resize(rows, 0);
            return;
        }
        if let ([field], [(cells, at)]) = (self.fields.as_mut_slice(), fields) {
            // One field: its codes are the groups.
            field.codes(cells, at, out);
            return;
        }
        let mut packed = vec![0_u128; rows];
        for (place, (field, (cells, at))) in self.fields.iter_mut().zip(fields).enumerate() {
            field.codes(cells, at, &mut self.scratch);
            for (key, code) in packed.iter_mut().zip(&self.scratch) {
                *key |= u128::from(*code) << (32 * place);
            }
        }
        out.clear();
        let (groups, known) = (&mut self.groups, &mut self.packed);
        let mut last = None;
        out.extend(packed.into_iter().map(|key| match last {
            Some((last_key, group)) if last_key == key => group,
            Some(_) | None => {
                let group = *groups.entry(key).or_insert_with(|| {
                    known.push(key);
                    (known.len() - 1) as u32
                });
                last = Some((key, group));
                group
            }
        }));
    }

    /// One more than the largest group number so far.
    pub(super) fn len(&self) -> usize {
        match self.fields.as_slice() {
            [] => 1,
            [field] => field.len(),
            _ => self.packed.len(),
        }
    }

    /// The values of a group, one per field.
    pub(super) fn keys(&self, group: u32) -> Vec<GroupKey> {
        match self.fields.as_slice() {
            [] => Vec::new(),
            [field] => vec![field.key(group)],
            fields => {
                let packed = self.packed.get(group as usize).copied().unwrap_or(0);
                fields.iter().enumerate().map(|(place, field)| field.key((packed >> (32 * place)) as u32)).collect()
            }
        }
    }
}
