//! Rows of a run that have a value in at least one of some columns.
//!
//! Where few rows have one, as touches among all events, a question that is about them alone reads their columns as if the run had no
//! other rows: what stays in memory of a run is then the part that such questions look at.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::error::ArrowError;

use crate::scan::Column;

/// Rows are few when there is at most one in so many.
const FEW: usize = 8;

/// Columns of which a row must have at least one. They are not properties.
#[derive(Debug, Clone)]
pub(crate) struct Having {
    pub(crate) names: Vec<Arc<str>>,
    /// Tells it from others, and from a column's name.
    pub(crate) key: Arc<str>,
}

/// The rows of a run that have one.
#[derive(Debug, Clone)]
pub(crate) enum Holders {
    All,
    Many(BooleanBuffer),
    Few(Few),
    None,
}

/// Some rows of a run, ascending.
#[derive(Debug, Clone)]
pub(crate) struct Few {
    rows: UInt32Array,
    key: Arc<str>,
}

impl Having {
    pub(crate) fn new(columns: &[Column]) -> Self {
        let names: Vec<Arc<str>> = columns.iter().map(|column| column.name().into()).collect();
        Self { key: format!("having {}", names.join(",")).into(), names }
    }

    /// The rows of these columns, which are [`Having::names`] of a run as far as it stores them.
    pub(crate) fn holders<'c>(&self, columns: impl Iterator<Item = &'c ArrayRef>) -> Holders {
        let mut holding: Option<BooleanBuffer> = None;
        for column in columns {
            match column.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
                None => return Holders::All,
                Some(nulls) if nulls.null_count() == nulls.len() => {}
                Some(nulls) => holding = Some(holding.map_or_else(|| nulls.inner().clone(), |rows| &rows | nulls.inner())),
            }
        }
        match holding {
            None => Holders::None,
            Some(rows) if rows.count_set_bits() * FEW > rows.len() => Holders::Many(rows),
            Some(rows) => Holders::Few(Few { rows: rows.set_indices_u32().collect::<Vec<u32>>().into(), key: self.key.clone() }),
        }
    }
}

impl Holders {
    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Holders::All | Holders::None => 0,
            Holders::Many(rows) => rows.len() / 8,
            Holders::Few(few) => few.rows.get_array_memory_size(),
        }
    }
}

impl Few {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// That of the columns that the rows have.
    pub(crate) fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// These rows of a column of the run.
    pub(crate) fn of(&self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        take(column, &self.rows, None)
    }
}
