//! Filters, evaluated: a predicate and a batch give a mask of rows. Text is tested once per dictionary value.

use std::ops::RangeBounds;

use arrow::array::Array;
use arrow::buffer::BooleanBuffer;

use super::cells::{BatchCells, Cells, Items};
use super::fields::Place;
use super::predicate::{NumberTest, Predicate, Test, Which};

/// Which rows of the batch pass.
pub(crate) fn mask(predicate: &Predicate, batch: &BatchCells<'_>) -> BooleanBuffer {
    let len = batch.len;
    match predicate {
        Predicate::Always(truth) => constant(*truth, len),
        Predicate::All(operands) => {
            let mut all = BooleanBuffer::new_set(len);
            for operand in operands {
                all = &all & &mask(operand, batch);
                if all.count_set_bits() == 0 {
                    break;
                }
            }
            all
        }
        Predicate::Any(operands) => {
            let mut any = BooleanBuffer::new_unset(len);
            for operand in operands {
                any = &any | &mask(operand, batch);
            }
            any
        }
        Predicate::Not(inner) => !&mask(inner, batch),
        Predicate::Test { place, test, negate, items } => match place {
            Place::EventName => constant(text_passes(test, batch.event) != *negate, len),
            Place::Absent => constant(*negate, len),
            Place::Column(at) => turned(test_mask(test, &batch.columns[*at], len), *negate),
            Place::Item(at) => match &batch.items {
                Some(all) => {
                    let matched = turned(test_mask(test, &all.fields[*at], all.len), *negate);
                    of_events(&matched, all, *items)
                }
                None => constant(*items == Which::None, len),
            },
        },
    }
}

/// Which items of the batch pass, each tested by itself. The predicate names fields of items alone.
pub(crate) fn item_mask(predicate: &Predicate, items: &Items) -> BooleanBuffer {
    let len = items.len;
    match predicate {
        Predicate::Always(truth) => constant(*truth, len),
        Predicate::All(operands) => operands.iter().fold(BooleanBuffer::new_set(len), |all, operand| &all & &item_mask(operand, items)),
        Predicate::Any(operands) => operands.iter().fold(BooleanBuffer::new_unset(len), |any, operand| &any | &item_mask(operand, items)),
        Predicate::Not(inner) => !&item_mask(inner, items),
        Predicate::Test { place: Place::Item(at), test, negate, .. } => turned(test_mask(test, &items.fields[*at], len), *negate),
        Predicate::Test { negate, .. } => constant(*negate, len),
    }
}

fn constant(truth: bool, len: usize) -> BooleanBuffer {
    if truth { BooleanBuffer::new_set(len) } else { BooleanBuffer::new_unset(len) }
}

fn turned(mask: BooleanBuffer, negate: bool) -> BooleanBuffer {
    if negate { !&mask } else { mask }
}

/// From which items match to which events do.
fn of_events(matched: &BooleanBuffer, items: &Items, which: Which) -> BooleanBuffer {
    BooleanBuffer::collect_bool(items.starts.len(), |row| {
        let (start, end) = (items.starts[row] as usize, items.ends[row] as usize);
        match which {
            Which::Any => (start..end).any(|item| matched.value(item)),
            Which::All => start < end && (start..end).all(|item| matched.value(item)),
            Which::None => !(start..end).any(|item| matched.value(item)),
        }
    })
}

fn text_passes(test: &Test, text: &str) -> bool {
    match test {
        Test::Exists => true,
        // Comparing with a few takes less than hashing.
        Test::TextIn(wanted) if wanted.len() <= 4 => wanted.iter().any(|one| one == text),
        Test::TextIn(wanted) => wanted.contains(text),
        Test::Contains(parts) => parts.iter().any(|part| text.contains(part.as_str())),
        Test::StartsWith(parts) => parts.iter().any(|part| text.starts_with(part.as_str())),
        Test::EndsWith(parts) => parts.iter().any(|part| text.ends_with(part.as_str())),
        Test::Truth(_) | Test::Exact { .. } | Test::Double(_) => false,
    }
}

fn test_mask(test: &Test, cells: &Cells, len: usize) -> BooleanBuffer {
    match (test, cells) {
        (Test::Exists, cells) => cells.present(len),
        (Test::TextIn(_) | Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_), Cells::Text(text)) => {
            let values = &text.values;
            let missing = values.len();
            if missing > 2 * len {
                // A slice of a run with a large dictionary: fewer rows than values.
                return BooleanBuffer::collect_bool(len, |at| {
                    let code = text.codes[at] as usize;
                    code != missing && text_passes(test, values.value(code))
                });
            }
            let mut passes: Vec<bool> = (0..missing).map(|code| values.is_valid(code) && text_passes(test, values.value(code))).collect();
            passes.push(false);
            BooleanBuffer::collect_bool(len, |at| passes[text.codes[at] as usize])
        }
        (Test::Truth(wanted), Cells::Bool(array)) => {
            let values = array.values();
            with_nulls(BooleanBuffer::collect_bool(len, |at| wanted[usize::from(values.value(at))]), cells, len)
        }
        (Test::Exact { scale, test }, Cells::Int(array)) => {
            let values = array.values();
            with_nulls(BooleanBuffer::collect_bool(len, |at| exact_passes(test, i128::from(values[at]) * scale)), cells, len)
        }
        (Test::Exact { scale, test }, Cells::Time(array)) => {
            let values = array.values();
            with_nulls(BooleanBuffer::collect_bool(len, |at| exact_passes(test, i128::from(values[at]) * scale)), cells, len)
        }
        (Test::Exact { test, .. }, Cells::Decimal(array)) => {
            let values = array.values();
            with_nulls(BooleanBuffer::collect_bool(len, |at| exact_passes(test, values[at])), cells, len)
        }
        (Test::Double(test), Cells::Double(array)) => {
            let values = array.values();
            with_nulls(BooleanBuffer::collect_bool(len, |at| double_passes(test, values[at])), cells, len)
        }
        // A column of another form than the field's type holds nothing that the test could pass.
        (_, _) => BooleanBuffer::new_unset(len),
    }
}

/// Missing values never pass, whatever stands in their place.
fn with_nulls(mask: BooleanBuffer, cells: &Cells, len: usize) -> BooleanBuffer {
    &mask & &cells.present(len)
}

fn exact_passes(test: &NumberTest<i128>, value: i128) -> bool {
    match test {
        NumberTest::In(wanted) => wanted.binary_search(&value).is_ok(),
        NumberTest::Within(low, high) => (*low, *high).contains(&value),
    }
}

pub(crate) fn double_passes(test: &NumberTest<f64>, value: f64) -> bool {
    match test {
        NumberTest::In(wanted) => wanted.binary_search_by(|wanted| wanted.total_cmp(&(value + 0.0))).is_ok(),
        NumberTest::Within(low, high) => (*low, *high).contains(&value),
    }
}
