//! Touches: the events that attribution-dependent dimensions are read from, and the credit that they get for a report's rows.
//!
//! For each band of persons the touches of its persons are gathered first, whatever events they are. Then each row of the band is
//! credited, and the columns of the dimensions hold the values of the credited touch. Where a model shares credit among several
//! touches, a row is repeated, once for each different tuple of values, with its share beside it.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array};
use arrow::datatypes::{ArrowPrimitiveType, Int64Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use segue_engine::attribution::{Credit, Touch, WHOLE};
use segue_model::dimension::DIMENSIONS;

use super::attribution::Attributed;
use super::grouping::{Interner, MISSING};
use crate::filter::cells::{At, Cells, TextCells};
use crate::index::run::take_rows;
use crate::question::time::RangeUs;
use crate::question::{Context, QueryError};
use crate::scan::{Column, ScanBatch, ScanError, ScanRequest, ScanStats};

/// The tuple of a row that no touch is credited for: all values are missing.
const NOTHING: u32 = 0;

/// The dimensions' values, as codes of one thread.
#[derive(Debug)]
pub(super) struct Tuples {
    /// One per dimension.
    interners: Vec<Interner>,
    /// With several dimensions: from their codes to the tuple.
    known: HashMap<Box<[u32]>, u32>,
    /// Per dimension, the code of each tuple. With one dimension tuples are its codes, and this is empty.
    codes: Vec<Vec<u32>>,
    scratch: Vec<Vec<u32>>,
}

impl Tuples {
    /// For the report's dimensions.
    pub(super) fn new(attributed: &Attributed) -> Tuples {
        let dimensions = attributed.columns.len();
        let interners = (0..dimensions).map(|_| Interner::default()).collect();
        let mut tuples = Tuples { interners, known: HashMap::new(), codes: Vec::new(), scratch: vec![Vec::new(); dimensions] };
        if dimensions > 1 {
            tuples.codes = vec![vec![MISSING]; dimensions];
            tuples.known.insert(vec![MISSING; dimensions].into(), NOTHING);
        }
        tuples
    }

    /// Writes the tuples of a batch's rows to `out`; `columns` are the dimensions'.
    fn of_rows(&mut self, columns: &[ArrayRef], rows: usize, out: &mut Vec<u32>) -> Result<(), QueryError> {
        for ((interner, column), codes) in self.interners.iter_mut().zip(columns).zip(&mut self.scratch) {
            match Cells::of(column, "an attribution-dependent dimension")? {
                Cells::Text(texts) => interner.codes(&texts, At::All(rows), codes),
                _ => {
                    codes.clear();
                    codes.resize(rows, MISSING);
                }
            }
        }
        out.clear();
        if let [only] = self.scratch.as_slice() {
            out.extend_from_slice(only);
            return Ok(());
        }
        let mut key = vec![MISSING; self.scratch.len()];
        for row in 0..rows {
            for (place, codes) in key.iter_mut().zip(&self.scratch) {
                *place = codes[row];
            }
            out.push(match self.known.get(key.as_slice()) {
                Some(tuple) => *tuple,
                None => {
                    let tuple = self.known.len() as u32;
                    self.known.insert(key.as_slice().into(), tuple);
                    self.codes.iter_mut().zip(&key).for_each(|(codes, code)| codes.push(*code));
                    tuple
                }
            });
        }
        Ok(())
    }

    /// The columns of the dimensions for rows with these tuples.
    fn columns(&self, values: &[StringArray], tuples: &[u32]) -> Vec<TextCells> {
        let of_dimension = |(dimension, values): (usize, &StringArray)| {
            // A dictionary's codes start with 0, and the one past its values is *missing*.
            let missing = values.len() as u32;
            let local = |code: u32| if code == MISSING { missing } else { code - 1 };
            let codes = match self.codes.get(dimension) {
                None => tuples.iter().map(|tuple| local(*tuple)).collect(),
                Some(codes) => tuples.iter().map(|tuple| local(codes[*tuple as usize])).collect(),
            };
            TextCells { codes, values: values.clone() }
        };
        values.iter().enumerate().map(of_dimension).collect()
    }

    /// Bytes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        let of_tuple = 64 + 2 * size_of::<u32>() * self.interners.len();
        self.interners.iter().map(Interner::bytes).sum::<usize>() + self.known.len() * of_tuple
    }
}

/// One touch on its way to its person.
#[derive(Debug, Clone, Copy)]
struct Seen {
    person: u32,
    /// Decides between events of merged persons, whose sequences may be equal.
    origin: u32,
    touch: Touch,
}

/// The touches of a band of persons.
#[derive(Debug)]
pub(super) struct Touches {
    /// Ascending, with the place of the first touch.
    persons: Vec<(u32, u32)>,
    /// By person, time and sequence.
    touches: Vec<Touch>,
    /// Per dimension, the texts of the codes from 1.
    values: Vec<StringArray>,
}

/// Shares of credit: a batch's rows repeated.
#[derive(Debug)]
pub(super) struct Shares {
    /// Of [`WHOLE`], per repeated row.
    pub(super) parts: Vec<u32>,
    /// Per repeated row, the first of its event's: what is counted per event is counted there.
    pub(super) first: Vec<u32>,
}

/// A batch whose rows were credited.
#[derive(Debug)]
pub(super) struct Credited {
    /// The dimensions' columns, in the order of [`Attributed::columns`].
    pub(super) columns: Vec<TextCells>,
    /// With a model that shares credit: the batch with its rows repeated, and the shares.
    pub(super) shares: Option<(ScanBatch, Shares)>,
}

impl Touches {
    /// Gathers the touches that rows of this range may be credited to; none if they are more than `touches_max`.
    pub(super) fn gather(
        context: &Context<'_>,
        attributed: &Attributed,
        range: RangeUs,
        persons: Range<u32>,
        tuples: &mut Tuples,
        touches_max: usize,
        stats: &mut ScanStats,
    ) -> Result<Option<Touches>, QueryError> {
        let mut columns = vec![Column::Person, Column::Ts, Column::Sequence, Column::Origin];
        columns.extend(attributed.columns.iter().map(|(_, code)| Column::Dimension(*code)));
        let dependent = DIMENSIONS.iter().filter(|dimension| dimension.attribution_dependent);
        let request = ScanRequest {
            events: None,
            // The window is open at its start, so that its first moment is too early by one.
            range_us: (range.start.saturating_sub(attributed.rule.look_back_us).saturating_add(1), range.end),
            columns,
            persons: Some(persons),
        };
        let carries: Vec<Column> = dependent.map(|dimension| Column::Dimension(dimension.code)).collect();
        let mut seen: Vec<Seen> = Vec::new();
        let mut of_batch = Vec::new();
        let mut scan = context.snapshot.scan(request).having(&carries);
        for batch in scan.by_ref() {
            context.check()?;
            let batch = batch?.batch;
            let Some((keys, dimensions)) = batch.columns().split_at_checked(4) else { return Err(lacking()) };
            tuples.of_rows(dimensions, batch.num_rows(), &mut of_batch)?;
            let (person, ts) = (numbers::<UInt32Type>(keys, 0)?, numbers::<Int64Type>(keys, 1)?);
            let (sequence, origin) = (numbers::<UInt64Type>(keys, 2)?, numbers::<UInt32Type>(keys, 3)?);
            let keys = person.iter().zip(ts).zip(sequence.iter().zip(origin)).zip(&of_batch);
            seen.extend(keys.map(|(((person, ts), (sequence, origin)), tuple)| Seen {
                person: *person,
                origin: *origin,
                touch: Touch { ts: *ts, sequence: *sequence, value: *tuple },
            }));
            if seen.len() > touches_max {
                return Ok(None);
            }
        }
        let of_scan = scan.stats();
        stats.rows += of_scan.rows;
        stats.tail_rows += of_scan.tail_rows;
        // A stable sort takes the sorted runs as they are and merges them.
        seen.sort_by_key(|seen| (seen.person, seen.touch.ts, seen.touch.sequence, seen.origin));
        let mut by_person: Vec<(u32, u32)> = Vec::new();
        for (at, seen) in (0..).zip(&seen) {
            if by_person.last().is_none_or(|(person, _)| *person != seen.person) {
                by_person.push((seen.person, at));
            }
        }
        let texts = |interner: &Interner| interner.texts().iter().map(|text| Some(text.as_ref())).collect();
        Ok(Some(Touches {
            persons: by_person,
            touches: seen.into_iter().map(|seen| seen.touch).collect(),
            values: tuples.interners.iter().map(texts).collect(),
        }))
    }

    /// The touches of a person, whose place is looked for from `from` on: rows come in the order of persons.
    fn of_person(&self, person: u32, from: &mut usize) -> &[Touch] {
        let later = self.persons.get(*from..).unwrap_or_default();
        // Most often the next one or two; a jump is found in steps that double.
        let mut reach = 1;
        while later.get(reach).is_some_and(|(known, _)| *known < person) {
            reach *= 2;
        }
        let near = later.get(reach / 2..(reach + 1).min(later.len())).unwrap_or_default();
        *from += reach / 2 + near.partition_point(|(known, _)| *known < person);
        match self.persons.get(*from) {
            Some((known, start)) if *known == person => {
                let end = self.persons.get(*from + 1).map_or(self.touches.len(), |(_, end)| *end as usize);
                self.touches.get(*start as usize..end).unwrap_or_default()
            }
            Some(_) | None => &[],
        }
    }

    /// Credits the rows of a batch, whose last three columns are person, ts and sequence.
    pub(super) fn credit(
        &self,
        context: &Context<'_>,
        attributed: &Attributed,
        tuples: &Tuples,
        batch: &ScanBatch,
    ) -> Result<Credited, QueryError> {
        let keys = batch.batch.num_columns().checked_sub(3).and_then(|first| batch.batch.columns().get(first..)).ok_or_else(lacking)?;
        let (person, ts, sequence) = (numbers::<UInt32Type>(keys, 0)?, numbers::<Int64Type>(keys, 1)?, numbers::<UInt64Type>(keys, 2)?);
        let is_shared = attributed.rule.model.is_fractional();
        let mut of_rows: Vec<u32> = Vec::with_capacity(person.len());
        let (mut source, mut shares) = (Vec::new(), Shares { parts: Vec::new(), first: Vec::new() });
        let mut credits: Vec<Credit> = Vec::new();
        let mut from = 0;
        for (row, ((person, ts), sequence)) in (0..).zip(person.iter().zip(ts).zip(sequence)) {
            let touches = self.of_person(*person, &mut from);
            credits.clear();
            attributed.rule.credit(touches, *ts, *sequence, &mut credits);
            if !is_shared {
                of_rows.push(credits.first().map_or(NOTHING, |credit| credit.value));
                continue;
            }
            // One event may look back on very many touches, and the next one again.
            if credits.len() > 1_000 {
                context.check()?;
            }
            let first = of_rows.len() as u32;
            if credits.is_empty() {
                credits.push(Credit { value: NOTHING, parts: WHOLE });
            }
            credits.sort_unstable_by_key(|credit| credit.value);
            for of_tuple in credits.chunk_by(|a, b| a.value == b.value) {
                let parts: u64 = of_tuple.iter().map(|credit| credit.parts).sum();
                of_rows.extend(of_tuple.first().map(|credit| credit.value));
                // The whole fits 32 bits.
                shares.parts.push(u32::try_from(parts).unwrap_or(u32::MAX));
                shares.first.push(first);
                source.push(row);
            }
        }
        let columns = tuples.columns(&self.values, &of_rows);
        let shares = match is_shared {
            true => {
                let repeated = take_rows(&batch.batch, &UInt32Array::from(source)).map_err(ScanError::from)?;
                Some((ScanBatch { event: batch.event.clone(), span_us: batch.span_us, batch: repeated }, shares))
            }
            false => None,
        };
        Ok(Credited { columns, shares })
    }

    /// Bytes of one touch while it is gathered.
    pub(super) const BYTES_EACH: usize = 2 * size_of::<Seen>();

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.touches.capacity() * size_of::<Touch>() + self.persons.capacity() * size_of::<(u32, u32)>()
    }
}

fn numbers<T: ArrowPrimitiveType>(columns: &[ArrayRef], at: usize) -> Result<&[T::Native], QueryError> {
    let column = columns.get(at).and_then(|column| column.as_primitive_opt::<T>()).ok_or_else(lacking)?;
    Ok(column.values())
}

fn lacking() -> QueryError {
    QueryError::Scan(ScanError::Arrow(ArrowError::SchemaError("a run lacks person, ts, sequence or origin".to_owned())))
}
