//! Groups: the values of the group-by fields as dense codes, and their combinations as dense group numbers.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, StringArray};

use crate::filter::cells::{At, Cells, TextCells};
use crate::pass::KeyValue;
use crate::question::hashing::Fold;
use crate::scan::PropertyType;

/// The code of a missing value.
pub(super) const MISSING: u32 = 0;
const UNTRANSLATED: u32 = u32::MAX;

/// Gives every text a code, from 1.
#[derive(Debug, Default)]
pub(super) struct Interner {
    codes: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    bytes: usize,
    /// From the codes of the dictionary at hand to ours, filled as they occur.
    table: Vec<u32>,
    dictionary: Option<StringArray>,
}

impl Interner {
    /// Prepares for the codes of `cells`. Batches of one run share their dictionary; then the translations stay.
    fn begin(&mut self, cells: &TextCells) {
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

    /// Writes our codes of the texts at `at` to `out`.
    pub(super) fn codes(&mut self, texts: &TextCells, at: At<'_>, out: &mut Vec<u32>) {
        self.begin(texts);
        out.clear();
        let table = &self.table;
        match at {
            At::All(len) => out.extend(texts.codes.iter().take(len).map(|local| table[*local as usize])),
            At::These(rows) => out.extend(rows.iter().map(|row| table[texts.codes[*row as usize] as usize])),
        }
        // Texts that occur for the first time: few, so that the loop above had better not ask for each.
        if out.iter().fold(false, |any, code| any | (*code == UNTRANSLATED)) {
            at.each(|k, row| {
                if out[k] == UNTRANSLATED {
                    out[k] = self.translate(texts.codes[row]);
                }
            });
        }
    }

    /// Gives every text of the dictionary a code.
    fn translate_all(&mut self, texts: &TextCells) {
        self.begin(texts);
        for local in 0..texts.values.len() {
            self.translate(local as u32);
        }
    }

    /// Our code for a code of the dictionary at hand.
    fn translate(&mut self, local: u32) -> u32 {
        let known = self.table[local as usize];
        if known != UNTRANSLATED {
            return known;
        }
        let Some(dictionary) = self.dictionary.clone() else { return MISSING };
        let code = if dictionary.is_null(local as usize) { MISSING } else { self.code(dictionary.value(local as usize)) };
        self.table[local as usize] = code;
        code
    }

    /// The code of a text.
    pub(super) fn code(&mut self, text: &str) -> u32 {
        if let Some(code) = self.codes.get(text) {
            return *code;
        }
        let text: Arc<str> = Arc::from(text);
        self.bytes += text.len() + 96;
        self.texts.push(text.clone());
        let code = self.texts.len() as u32;
        self.codes.insert(text, code);
        code
    }

    /// All texts; the one with code n stands at n − 1.
    pub(super) fn texts(&self) -> &[Arc<str>] {
        &self.texts
    }

    /// Takes in another's texts; gives our codes by the other's.
    pub(super) fn merge(&mut self, other: &Interner) -> Vec<u32> {
        std::iter::once(MISSING).chain(other.texts.iter().map(|text| self.code(text))).collect()
    }

    /// Bytes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.table.len() * size_of::<u32>()
    }
}

/// Order within a field: by value, missing last.
pub(super) fn order(a: &KeyValue, b: &KeyValue) -> Ordering {
    match (a, b) {
        (KeyValue::Missing, KeyValue::Missing) => Ordering::Equal,
        (KeyValue::Missing, _) => Ordering::Greater,
        (_, KeyValue::Missing) => Ordering::Less,
        (KeyValue::Double(a), KeyValue::Double(b)) => f64::from_bits(*a).total_cmp(&f64::from_bits(*b)),
        // A field has one type, and the others are ordered by what they are.
        (a, b) => a.cmp(b),
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
    fn codes(&mut self, cells: &Cells, at: At<'_>, out: &mut Vec<u32>) {
        if let Cells::Text(text) = cells {
            self.texts.codes(text, at, out);
            return;
        }
        out.clear();
        out.resize(at.len(), MISSING);
        let mut last = None;
        cells.each_key(at, |k, key| {
            out[k] = match last {
                Some((known, code)) if known == key => code,
                Some(_) | None => code_of(&mut self.numbers, &mut self.keys, key),
            };
            last = Some((key, out[k]));
        });
    }

    /// How many codes, missing included.
    fn len(&self) -> usize {
        self.texts.texts.len().max(self.keys.len()) + 1
    }

    fn key(&self, code: u32) -> KeyValue {
        let Some(at) = (code as usize).checked_sub(1) else { return KeyValue::Missing };
        if let Some(text) = self.texts.texts.get(at) {
            return KeyValue::Text(text.clone());
        }
        let Some(key) = self.keys.get(at).copied() else { return KeyValue::Missing };
        let number = key.cast_signed();
        match self.kind {
            Some(PropertyType::Int) => KeyValue::Int(number as i64),
            Some(PropertyType::Double) => KeyValue::Double(key as u64),
            Some(PropertyType::Bool) => KeyValue::Bool(key != 0),
            Some(PropertyType::Decimal) => KeyValue::Decimal(number),
            Some(PropertyType::Timestamp) => KeyValue::Time(number as i64),
            Some(PropertyType::String | PropertyType::Json) | None => KeyValue::Missing,
        }
    }

    /// Takes in another's values; gives our codes by the other's.
    fn merge(&mut self, other: &GroupField) -> Vec<u32> {
        if other.keys.is_empty() {
            return self.texts.merge(&other.texts);
        }
        let keys = other.keys.iter().map(|key| code_of(&mut self.numbers, &mut self.keys, *key));
        std::iter::once(MISSING).chain(keys).collect()
    }

    fn bytes(&self) -> usize {
        self.texts.bytes() + self.keys.len() * 64
    }
}

fn code_of(numbers: &mut HashMap<u128, u32, Fold>, keys: &mut Vec<u128>, key: u128) -> u32 {
    *numbers.entry(key).or_insert_with(|| {
        keys.push(key);
        keys.len() as u32
    })
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

    /// Writes the group of each of `rows` rows to `out`. `fields` gives each field's values and the rows (or items) to read them at.
    pub(super) fn assign(&mut self, fields: &[(&Cells, At<'_>)], rows: usize, out: &mut Vec<u32>) {
        if fields.is_empty() {
            out.clear();
            out.resize(rows, 0);
            return;
        }
        if let ([field], [(cells, at)]) = (self.fields.as_mut_slice(), fields) {
            // One field: its codes are the groups.
            field.codes(cells, *at, out);
            return;
        }
        let mut packed = vec![0_u128; rows];
        for (place, (field, (cells, at))) in self.fields.iter_mut().zip(fields).enumerate() {
            field.codes(cells, *at, &mut self.scratch);
            for (key, code) in packed.iter_mut().zip(&self.scratch) {
                *key |= u128::from(*code) << (32 * place);
            }
        }
        out.clear();
        let mut last = None;
        out.extend(packed.into_iter().map(|key| match last {
            Some((last_key, group)) if last_key == key => group,
            Some(_) | None => {
                let group = group_of(&mut self.groups, &mut self.packed, key);
                last = Some((key, group));
                group
            }
        }));
    }

    /// With one field, which is of texts: gives every text of the dictionary a group.
    pub(super) fn translate_all(&mut self, texts: &TextCells) -> bool {
        match self.fields.as_mut_slice() {
            [field] => {
                field.texts.translate_all(texts);
                true
            }
            _ => false,
        }
    }

    /// The groups of the codes of the dictionary that was last translated.
    pub(super) fn translated(&self) -> &[u32] {
        self.fields.first().map_or(&[], |field| &field.texts.table)
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
    pub(super) fn keys(&self, group: u32) -> Vec<KeyValue> {
        match self.fields.as_slice() {
            [] => Vec::new(),
            [field] => vec![field.key(group)],
            fields => {
                let packed = self.packed.get(group as usize).copied().unwrap_or(0);
                fields.iter().enumerate().map(|(place, field)| field.key((packed >> (32 * place)) as u32)).collect()
            }
        }
    }

    /// Takes in another's groups; gives our groups by the other's.
    pub(super) fn merge(&mut self, other: &Grouper) -> Vec<u32> {
        let mut codes: Vec<Vec<u32>> = self.fields.iter_mut().zip(&other.fields).map(|(mine, theirs)| mine.merge(theirs)).collect();
        match codes.as_mut_slice() {
            [] => vec![0],
            [only] => std::mem::take(only),
            codes => {
                let translate = |key: &u128| {
                    let code =
                        |(place, codes): (usize, &Vec<u32>)| u128::from(codes[(key >> (32 * place)) as u32 as usize]) << (32 * place);
                    codes.iter().enumerate().map(code).fold(0, |all, code| all | code)
                };
                let (groups, known) = (&mut self.groups, &mut self.packed);
                other.packed.iter().map(|key| group_of(groups, known, translate(key))).collect()
            }
        }
    }

    /// Bytes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.fields.iter().map(GroupField::bytes).sum::<usize>() + self.packed.len() * 64
    }
}

fn group_of(groups: &mut HashMap<u128, u32, Fold>, known: &mut Vec<u128>, key: u128) -> u32 {
    *groups.entry(key).or_insert_with(|| {
        known.push(key);
        (known.len() - 1) as u32
    })
}
