//! Rows that take part, and the cell that each counts in.

use arrow::buffer::BooleanBuffer;

use super::tally::EntryShares;
use super::touches::Shares;
use crate::filter::cells::{At, BatchCells, Items};

/// A batch in hand.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) cells: BatchCells<'a>,
    /// With shared credit: its rows are repeated.
    pub(super) shares: Option<Shares>,
    /// What values of this batch are numbered from, so that those of all batches differ.
    pub(super) number: u64,
}

/// Which rows of a batch, in its order.
#[derive(Debug)]
pub(super) enum Picked {
    /// All, which are so many.
    All(usize),
    /// These.
    These(Vec<u32>),
}

impl Default for Picked {
    fn default() -> Self {
        Picked::These(Vec::new())
    }
}

/// Rows (or items) that take part.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Row of the batch, per entry.
    pub(super) rows: Picked,
    /// Item of the batch, per entry; empty unless the row is the item.
    pub(super) items: Vec<u32>,
    /// Cell, per entry.
    pub(super) cells: Vec<u32>,
}

impl Rows {
    /// Forgets all, for rows that are picked one by one.
    pub(super) fn clear(&mut self) -> &mut Vec<u32> {
        self.items.clear();
        self.cells.clear();
        if let Picked::All(_) = self.rows {
            self.rows = Picked::default();
        }
        match &mut self.rows {
            Picked::These(rows) => {
                rows.clear();
                rows
            }
            // Replaced above.
            Picked::All(_) => &mut self.items,
        }
    }

    /// The rows that pass.
    pub(super) fn pick(&mut self, len: usize, passing: Option<&BooleanBuffer>) {
        match passing {
            None => {
                self.clear();
                self.rows = Picked::All(len);
            }
            Some(passing) => self.clear().extend(passing.set_indices_u32()),
        }
    }

    /// The items of the rows that pass.
    pub(super) fn pick_items(&mut self, len: usize, items: &Items, passing: Option<&BooleanBuffer>) {
        self.clear();
        let mut rows = Vec::new();
        let mut take = |row: u32| {
            let of_row = items.starts[row as usize]..items.ends[row as usize];
            rows.resize(rows.len() + of_row.len(), row);
            self.items.extend(of_row);
        };
        match passing {
            None => (0..len as u32).for_each(&mut take),
            Some(passing) => passing.set_indices_u32().for_each(&mut take),
        }
        self.rows = Picked::These(rows);
    }

    /// Those of `all` for which `keep(entry, row)` is true.
    pub(super) fn pick_from(&mut self, all: &Rows, mut keep: impl FnMut(usize, usize) -> bool) {
        let mut rows = std::mem::take(self.clear());
        all.at().each(|k, row| {
            if keep(k, row) {
                rows.push(row as u32);
                self.cells.extend(all.cells.get(k));
                self.items.extend(all.items.get(k));
            }
        });
        self.rows = Picked::These(rows);
    }

    /// The rows, per entry.
    pub(super) fn at(&self) -> At<'_> {
        match &self.rows {
            Picked::All(len) => At::All(*len),
            Picked::These(rows) => At::These(rows),
        }
    }

    /// The items, per entry.
    pub(super) fn items(&self) -> At<'_> {
        At::These(&self.items)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.at().len()
    }
}

/// Shares per entry, kept for their memory.
#[derive(Debug, Default)]
pub(super) struct SharesAt {
    parts: Vec<u32>,
    of: Vec<u64>,
}

impl SharesAt {
    /// The shares of entries at these rows; with items, each of them is a value of its own.
    pub(super) fn of<'s>(&'s mut self, batch: &Batch<'_>, rows: At<'_>, items: Option<At<'_>>) -> Option<EntryShares<'s>> {
        let shares = batch.shares.as_ref()?;
        self.parts.clear();
        self.of.clear();
        rows.each(|_, row| {
            self.parts.push(shares.parts[row]);
            self.of.push(batch.number + u64::from(shares.first[row]));
        });
        if let (Some(At::These(items)), Some(all)) = (items, &batch.cells.items) {
            rows.each(|k, row| self.of[k] = batch.number + u64::from(first_share_of_item(all, shares, row, items[k])));
        }
        Some(EntryShares { parts: &self.parts, of: &self.of })
    }
}

/// An item of a repeated row, as it stands at the first of its event's rows.
pub(super) fn first_share_of_item(items: &Items, shares: &Shares, row: usize, item: u32) -> u32 {
    items.starts[shares.first[row] as usize] + (item - items.starts[row])
}
