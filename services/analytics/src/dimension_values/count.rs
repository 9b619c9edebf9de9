//! Counting values, batch by batch: texts by the codes of their dictionary, so that each is looked at once per batch.

use std::cmp::Ordering;
use std::collections::HashMap;

use arrow::array::Array;

use super::request::Asked;
use crate::filter::cells::{At, BatchCells, Cells, TextCells};
use crate::filter::fields::Place;
use crate::pass::KeyValue;
use crate::question::QueryError;
use crate::scan::ScanBatch;

/// How often each value occurs.
#[derive(Debug)]
pub(super) struct Counts {
    counts: HashMap<KeyValue, u64>,
    cells_max: usize,
}

impl Counts {
    /// Of at most so many values.
    pub(super) fn new(cells_max: usize) -> Counts {
        Counts { counts: HashMap::new(), cells_max }
    }

    /// Adds the values of a batch.
    pub(super) fn add(&mut self, asked: &Asked, batch: &ScanBatch) -> Result<(), QueryError> {
        let cells = BatchCells::new(batch, &asked.columns, &asked.items)?;
        match asked.place {
            Place::EventName => self.put(asked, KeyValue::Text(cells.event.into()), cells.len as u64),
            Place::Absent => self.put(asked, KeyValue::Missing, cells.len as u64),
            Place::Column(at) => self.add_cells(asked, cells.columns.get(at).unwrap_or(&Cells::Missing), cells.len),
            Place::Item(at) => {
                let Some(items) = &cells.items else { return Ok(()) };
                self.add_cells(asked, items.fields.get(at).unwrap_or(&Cells::Missing), items.len)
            }
        }
        let groups = self.counts.len();
        if groups > self.cells_max {
            return Err(QueryError::TooManyGroups { groups, periods: 1, cells_max: self.cells_max });
        }
        Ok(())
    }

    fn add_cells(&mut self, asked: &Asked, cells: &Cells, rows: usize) {
        if let Cells::Text(text) = cells {
            return self.add_texts(asked, text);
        }
        let key_of: fn(u128) -> KeyValue = match cells {
            Cells::Int(_) => |key| KeyValue::Int(key.cast_signed() as i64),
            Cells::Time(_) => |key| KeyValue::Time(key.cast_signed() as i64),
            Cells::Decimal(_) => |key| KeyValue::Decimal(key.cast_signed()),
            Cells::Double(_) => |key| KeyValue::Double(key as u64),
            Cells::Bool(_) => |key| KeyValue::Bool(key != 0),
            Cells::Text(_) | Cells::Missing | Cells::Opaque(_) | Cells::Number(_) | Cells::Small(_) => |_| KeyValue::Missing,
        };
        let mut counts: HashMap<u128, u64> = HashMap::new();
        cells.each_key(At::All(rows), |_, key| *counts.entry(key).or_default() += 1);
        let missing = rows as u64 - counts.values().sum::<u64>();
        for (key, count) in counts {
            self.put(asked, key_of(key), count);
        }
        self.put(asked, KeyValue::Missing, missing);
    }

    fn add_texts(&mut self, asked: &Asked, text: &TextCells) {
        let mut counts = vec![0_u64; text.values.len() + 1];
        for code in text.codes.iter() {
            if let Some(count) = counts.get_mut(*code as usize) {
                *count += 1;
            }
        }
        for (code, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let is_there = code < text.values.len() && text.values.is_valid(code);
            let value = if is_there { KeyValue::Text(text.values.value(code).into()) } else { KeyValue::Missing };
            self.put(asked, value, count);
        }
    }

    fn put(&mut self, asked: &Asked, value: KeyValue, count: u64) {
        let is_wanted = asked.search.is_empty() || matches!(&value, KeyValue::Text(text) if text.to_lowercase().contains(&asked.search));
        if count > 0 && is_wanted {
            *self.counts.entry(value).or_default() += count;
        }
    }

    /// So many values with their counts, the most frequent first; and how many values there are.
    pub(super) fn most_frequent(self, limit: usize) -> (Vec<(KeyValue, u64)>, u64) {
        let total = self.counts.len() as u64;
        let mut values: Vec<(KeyValue, u64)> = self.counts.into_iter().collect();
        let order = |(a, count): &(KeyValue, u64), (b, other): &(KeyValue, u64)| other.cmp(count).then_with(|| by_value(a, b));
        if values.len() > limit {
            values.select_nth_unstable_by(limit, order);
            values.truncate(limit);
        }
        values.sort_unstable_by(order);
        (values, total)
    }
}

/// By value; missing last.
fn by_value(a: &KeyValue, b: &KeyValue) -> Ordering {
    match (a, b) {
        (KeyValue::Missing, KeyValue::Missing) => Ordering::Equal,
        (KeyValue::Missing, _) => Ordering::Greater,
        (_, KeyValue::Missing) => Ordering::Less,
        (KeyValue::Double(a), KeyValue::Double(b)) => f64::from_bits(*a).total_cmp(&f64::from_bits(*b)),
        (a, b) => a.cmp(b),
    }
}
