//! Adding values to tallies: one loop per kind of tally, column at a time.

use super::{Entries, EntryShares, Kind, Tally, extreme};
use crate::filter::cells::{At, Cells, TextCells};
use crate::report::tally::Finish;
use segue_engine::attribution::WHOLE;

impl Tally {
    /// Counts an entry in each cell.
    pub(in crate::report) fn add_rows(&mut self, cells: &[u32], shares: Option<EntryShares<'_>>) {
        match (&mut self.kind, shares) {
            (Kind::Count(all), _) => match all.as_mut_slice() {
                [only] => *only += cells.len() as u64,
                all => cells.iter().for_each(|cell| all[*cell as usize] += 1),
            },
            (Kind::Parts(all), Some(shares)) => {
                for (cell, parts) in cells.iter().zip(shares.parts) {
                    all[*cell as usize] += u128::from(*parts);
                }
            }
            (_, _) => {}
        }
    }

    /// Counts the entries that have a value.
    pub(in crate::report) fn add_present(&mut self, values: &Cells, entries: Entries<'_>) {
        let mut len = 0;
        entries.at.each(|_, row| len = len.max(row + 1));
        let present = values.present(len);
        match (&mut self.kind, entries.shares) {
            (Kind::Count(all), _) => {
                entries.at.each(|k, row| all[entries.cells[k] as usize] += u64::from(present.value(row)));
            }
            (Kind::Parts(all), Some(shares)) => entries.at.each(|k, row| {
                all[entries.cells[k] as usize] += u128::from(shares.parts[k]) * u128::from(present.value(row));
            }),
            (_, _) => {}
        }
    }

    /// Numbers in cells: of persons or devices; zero is none. Calls `none` with the places where there is none.
    pub(in crate::report) fn add_numbers(&mut self, numbers: &[u32], at: At<'_>, cells: &[u32], mut none: impl FnMut(usize)) {
        match &mut self.kind {
            Kind::Persons(banded) => at.each(|k, row| match numbers[row] {
                0 => none(row),
                number => banded.insert(cells[k], number),
            }),
            Kind::Numbers(kept) => at.each(|k, row| match numbers[row] {
                0 => none(row),
                number => kept.insert(cells[k], number),
            }),
            _ => {}
        }
    }

    /// A session in a cell.
    pub(in crate::report) fn add_session(&mut self, cell: u32, person: u32, session: &str) {
        if let Kind::Sessions(sessions) = &mut self.kind {
            sessions.insert(cell, person, session);
        }
    }

    /// Distinct texts.
    pub(in crate::report) fn add_texts(&mut self, texts: &TextCells, at: At<'_>, cells: &[u32]) {
        if let Kind::Texts(known) = &mut self.kind {
            known.insert(cells, at, texts);
        }
    }

    /// Distinct values that are not texts.
    pub(in crate::report) fn add_keys(&mut self, values: &Cells, at: At<'_>, cells: &[u32]) {
        if let Kind::Keys(keys) = &mut self.kind {
            values.each_key(at, |k, key| keys.insert(cells[k], key));
        }
    }

    /// Values to be summed up, compared or kept.
    pub(in crate::report) fn add_values(&mut self, values: &Cells, entries: Entries<'_>) {
        let is_max = matches!(self.finish, Finish::Max(_));
        let Entries { at, cells, shares } = entries;
        let mut overflow = false;
        match &mut self.kind {
            Kind::Sum(all) => match shares {
                None => values.each_exact(at, |k, value| overflow |= add_to(&mut all[cells[k] as usize], value)),
                Some(shares) => values.each_exact(at, |k, value| {
                    let (value, over) = value.overflowing_mul(i128::from(shares.parts[k]));
                    overflow |= add_to(&mut all[cells[k] as usize], value) | over;
                }),
            },
            Kind::Average(all) => values.each_exact(at, |k, value| {
                let parts = shares.map_or(1, |shares| shares.parts[k]);
                let (value, over) = value.overflowing_mul(i128::from(parts));
                let cell = &mut all[cells[k] as usize];
                cell.count += u128::from(parts);
                overflow |= add_to(&mut cell.sum, value) | over;
            }),
            Kind::ExactExtreme(all) => values.each_exact(at, |k, value| {
                let cell = &mut all[cells[k] as usize];
                *cell = extreme(*cell, Some(value), is_max, i128::cmp);
            }),
            Kind::Double(all) => each_number(values, at, |k, value| {
                let cell = &mut all[cells[k] as usize];
                match shares.map(|shares| shares.parts[k]) {
                    None => {
                        cell.sum.add(value);
                        cell.count += 1;
                    }
                    Some(parts) => {
                        cell.sum.add(value * (f64::from(parts) / WHOLE as f64));
                        cell.count += u128::from(parts);
                    }
                }
            }),
            Kind::DoubleExtreme(all) => each_number(values, at, |k, value| {
                let cell = &mut all[cells[k] as usize];
                *cell = extreme(*cell, Some(value), is_max, f64::total_cmp);
            }),
            Kind::Percentile(kept) => each_number(values, at, |k, value| kept.insert(cells[k], value, shares.map(|shares| shares.of[k]))),
            Kind::Count(_) | Kind::Parts(_) | Kind::Persons(_) | Kind::Sessions(_) | Kind::Numbers(_) | Kind::Texts(_) | Kind::Keys(_) => {}
        }
        self.has_overflown |= overflow;
    }

    /// One exact number to be summed up, where the numbers are no column.
    #[inline]
    pub(in crate::report) fn add_exact(&mut self, cell: u32, value: i128, parts: Option<u32>) {
        if let Kind::Sum(all) = &mut self.kind {
            let (value, over) = value.overflowing_mul(i128::from(parts.unwrap_or(1)));
            self.has_overflown |= add_to(&mut all[cell as usize], value) | over;
        }
    }
}

/// Whether 128 bits do not hold the sum.
#[inline]
fn add_to(sum: &mut i128, value: i128) -> bool {
    let (total, over) = sum.overflowing_add(value);
    *sum = total;
    over
}

/// Numbers as floating point: what is not a number counts as none, and there is one zero only, since the smaller of two
/// equal numbers must not depend on their order.
fn each_number(values: &Cells, at: At<'_>, mut each: impl FnMut(usize, f64)) {
    values.each_double(at, |k, value| {
        if !value.is_nan() {
            each(k, value + 0.0);
        }
    });
}
