//! Dictionary-encoded text columns: building them without an allocation per value, and putting several together.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, StringArray, UInt32Array};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::UInt32Type;
use arrow::error::ArrowError;
use xxhash_rust::xxh3::xxh3_64;

/// Code of a missing value while building.
const MISSING: u32 = u32::MAX;

/// Takes the hash that was computed already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Distinct texts, each with a code from 0; the bytes lie in one buffer.
#[derive(Debug)]
pub(crate) struct Dictionary {
    text: String,
    ends: Vec<i32>,
    codes: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
}

impl Default for Dictionary {
    fn default() -> Self {
        Self { text: String::new(), ends: vec![0], codes: HashMap::default() }
    }
}

impl std::fmt::Debug for Hashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashed")
    }
}

impl Dictionary {
    fn get(&self, code: u32) -> &str {
        let at = code as usize;
        &self.text[self.ends[at] as usize..self.ends[at + 1] as usize]
    }

    /// The code of a text, and how many bytes the dictionary grew.
    pub(crate) fn intern(&mut self, text: &str) -> (u32, usize) {
        let mut hash = xxh3_64(text.as_bytes());
        // Texts whose hashes collide take the next free hash.
        while let Some(&code) = self.codes.get(&hash) {
            if self.get(code) == text {
                return (code, 0);
            }
            hash = hash.wrapping_add(1);
        }
        let code = (self.ends.len() - 1) as u32;
        self.text.push_str(text);
        self.ends.push(self.text.len() as i32);
        self.codes.insert(hash, code);
        (code, text.len() + 24)
    }

    fn finish(self) -> Result<StringArray, ArrowError> {
        StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(self.ends)), Buffer::from(self.text.into_bytes()), None)
    }
}

/// A text column being built. Rows that are never pushed are missing.
#[derive(Debug, Default)]
pub(crate) struct TextColumn {
    keys: Vec<u32>,
    values: Dictionary,
}

impl TextColumn {
    /// Sets the value of row `row`, which lies after all rows set before; returns by how many bytes the column grew.
    pub(crate) fn set(&mut self, row: usize, text: &str) -> usize {
        let before = self.keys.len();
        self.keys.resize(row, MISSING);
        // Neighbours are often equal.
        let (code, grown) = match self.keys.last() {
            Some(&last) if last != MISSING && self.values.get(last) == text => (last, 0),
            _ => self.values.intern(text),
        };
        self.keys.push(code);
        grown + (self.keys.len() - before) * 4
    }

    /// The column with `rows` rows.
    pub(crate) fn finish(mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.keys.resize(rows, MISSING);
        let nulls = if self.keys.contains(&MISSING) {
            let nulls = NullBuffer::from_iter(self.keys.iter().map(|key| *key != MISSING));
            self.keys.iter_mut().filter(|key| **key == MISSING).for_each(|key| *key = 0);
            Some(nulls)
        } else {
            None
        };
        let keys = UInt32Array::try_new(ScalarBuffer::from(self.keys), nulls)?;
        Ok(Arc::new(DictionaryArray::<UInt32Type>::try_new(keys, Arc::new(self.values.finish()?))?))
    }
}

/// Puts dictionary columns one after another, with one dictionary in which each text that is in use occurs once.
pub(crate) fn concat_text(columns: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
    let rows = columns.iter().map(|column| column.len()).sum();
    let mut keys: Vec<u32> = Vec::with_capacity(rows);
    let mut values = Dictionary::default();
    let mut map = Vec::new();
    for column in columns {
        let dictionary = column
            .as_dictionary_opt::<UInt32Type>()
            .ok_or_else(|| ArrowError::SchemaError(format!("a text column is {}", column.data_type())))?;
        let texts = dictionary
            .values()
            .as_string_opt::<i32>()
            .ok_or_else(|| ArrowError::SchemaError(format!("a dictionary of text holds {}", dictionary.values().data_type())))?;
        map.clear();
        map.resize(texts.len(), MISSING);
        for key in dictionary.keys() {
            let key = match key {
                Some(key) if texts.is_valid(key as usize) => {
                    let slot = &mut map[key as usize];
                    if *slot == MISSING {
                        *slot = values.intern(texts.value(key as usize)).0;
                    }
                    *slot
                }
                Some(_) | None => MISSING,
            };
            keys.push(key);
        }
        if i32::try_from(values.text.len()).is_err() {
            return Err(ArrowError::OffsetOverflowError(values.text.len()));
        }
    }
    TextColumn { keys, values }.finish(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(column: &ArrayRef) -> Vec<Option<String>> {
        let typed = column.as_dictionary::<UInt32Type>().downcast_dict::<StringArray>().expect("text");
        typed.into_iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn gaps_are_missing_and_differ_from_the_empty_text() {
        let mut column = TextColumn::default();
        column.set(1, "a");
        column.set(2, "");
        column.set(4, "a");
        let column = column.finish(6).expect("a column");
        assert_eq!(texts(&column), [None, Some("a".into()), Some("".into()), None, Some("a".into()), None]);
        let twice = concat_text(&[column.clone(), column.slice(1, 2)]).expect("a column");
        assert_eq!(texts(&twice)[6..], [Some("a".into()), Some("".into())]);
        assert_eq!(twice.as_dictionary::<UInt32Type>().values().len(), 2);
    }
}
