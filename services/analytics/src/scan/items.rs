//! Some fields of the items. A question reads few of the fourteen that each item has; the others are neither decoded nor kept for it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;

use super::{Column, ItemField};

/// What the name of a column of some fields begins with; no stored column's does.
const PREFIX: &str = "items of ";

/// At least one field of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ItemFields(u16);

impl ItemFields {
    /// These; all, if there are none.
    pub fn new(fields: impl IntoIterator<Item = ItemField>) -> Self {
        match fields.into_iter().fold(0, |bits, field| bits | 1 << field.index()) {
            0 => Self::new(ItemField::ALL),
            bits => Self(bits),
        }
    }

    /// In the order of the struct.
    pub fn iter(self) -> impl Iterator<Item = ItemField> {
        ItemField::ALL.into_iter().filter(move |field| self.0 & 1 << field.index() != 0)
    }

    /// Name of the column of these.
    pub(crate) fn column_name(self) -> String {
        let names: Vec<&str> = self.iter().map(ItemField::name).collect();
        format!("{PREFIX}{}", names.join(","))
    }

    /// The fields of a column of this name; `None`: it is another column.
    pub(crate) fn of_column_name(name: &str) -> Option<Self> {
        let names = name.strip_prefix(PREFIX)?;
        Some(Self::new(ItemField::ALL.into_iter().filter(|field| names.split(',').any(|name| name == field.name()))))
    }

    pub(crate) fn data_type(self) -> DataType {
        DataType::List(self.element())
    }

    fn fields(self) -> Fields {
        self.iter().map(|field| Field::new(field.name(), field.data_type(), true)).collect()
    }

    fn element(self) -> Arc<Field> {
        Arc::new(Field::new("item", DataType::Struct(self.fields()), true))
    }

    /// These of a list of items that has them.
    pub(crate) fn of(self, items: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let mismatch = || ArrowError::SchemaError(format!("items are {}", items.data_type()));
        let list = items.as_list_opt::<i32>().ok_or_else(mismatch)?;
        let all = list.values().as_struct_opt().ok_or_else(mismatch)?;
        let columns = self.iter().map(|field| all.column_by_name(field.name()).cloned().ok_or_else(mismatch));
        let some = StructArray::try_new(self.fields(), columns.collect::<Result<_, _>>()?, all.nulls().cloned())?;
        Ok(Arc::new(ListArray::try_new(self.element(), list.offsets().clone(), Arc::new(some), list.nulls().cloned())?))
    }
}

/// A column by its name among those that are stored; some fields of the items are taken from them.
pub(crate) fn column_of<'b>(name: &str, stored: impl Fn(&str) -> Option<&'b ArrayRef>) -> Result<Option<ArrayRef>, ArrowError> {
    match ItemFields::of_column_name(name) {
        Some(fields) => stored(&Column::ItemsList.name()).map(|items| fields.of(items)).transpose(),
        None => Ok(stored(name).cloned()),
    }
}
