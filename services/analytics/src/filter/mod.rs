//! Filters on events, for every question: names resolved to columns (`fields`), filters parsed (`predicate`), columns in the forms
//! that loops read (`cells`), filters evaluated on them (`matching`).

pub(crate) mod cells;
pub(crate) mod fields;
pub(crate) mod matching;
pub(crate) mod predicate;
