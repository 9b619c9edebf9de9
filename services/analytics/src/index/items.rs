//! The column of items: a list of structs, built field by field.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Builder, Int64Builder, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;

use segue_proto::events::v1::Item;

use super::property::MapColumn;
use super::text::TextColumn;
use crate::scan::{ItemField, decimal_type, item_element, item_fields};

/// Items being built. Rows that are never set have none.
pub(crate) struct ItemsColumn {
    ends: Vec<i32>,
    present: Vec<bool>,
    items: usize,
    /// By [`ItemField`]; those that are not text stay empty.
    texts: [TextColumn; 14],
    price: Decimal128Builder,
    quantity: Int64Builder,
    discount: Decimal128Builder,
    properties: MapColumn,
}

impl Default for ItemsColumn {
    fn default() -> Self {
        let decimals = || Decimal128Builder::new().with_data_type(decimal_type());
        Self {
            ends: vec![0],
            present: Vec::new(),
            items: 0,
            texts: std::array::from_fn(|_| TextColumn::default()),
            price: decimals(),
            quantity: Int64Builder::new(),
            discount: decimals(),
            properties: MapColumn::default(),
        }
    }
}

impl ItemsColumn {
    /// Sets the items of row `row`, which lies after all rows set before; returns by how many bytes the column grew.
    pub(crate) fn set(&mut self, row: usize, items: &[Item]) -> Result<usize, ArrowError> {
        self.pad(row);
        let mut bytes = 8;
        for item in items {
            let at = self.items;
            let texts: [(ItemField, &str); 5] = [
                (ItemField::ItemId, &item.item_id),
                (ItemField::Name, &item.name),
                (ItemField::Brand, &item.brand),
                (ItemField::Variant, &item.variant),
                (ItemField::Coupon, &item.coupon),
            ];
            let categories = [ItemField::Category1, ItemField::Category2, ItemField::Category3, ItemField::Category4, ItemField::Category5];
            // The contract cannot tell an item's missing text from an empty one: both are missing.
            for (field, text) in texts.into_iter().chain(categories.into_iter().zip(item.categories.iter().map(String::as_str))) {
                if !text.is_empty() {
                    bytes += self.texts[field.index()].set(at, text);
                }
            }
            self.price.append_option(item.price_e4.map(i128::from));
            self.quantity.append_option(item.quantity);
            self.discount.append_option(item.discount_e4.map(i128::from));
            if !item.properties.is_empty() {
                bytes += self.properties.set(at, item.properties.iter())?;
            }
            self.items += 1;
            bytes += 40;
        }
        self.ends.push(i32::try_from(self.items).map_err(|_| ArrowError::OffsetOverflowError(self.items))?);
        self.present.push(true);
        Ok(bytes)
    }

    fn pad(&mut self, rows: usize) {
        let end = self.items as i32;
        self.ends.resize(rows + 1, end);
        self.present.resize(rows, false);
    }

    /// The column with `rows` rows.
    pub(crate) fn finish(mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(rows);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(ItemField::ALL.len());
        let mut properties = Some(self.properties);
        for (field, text) in ItemField::ALL.into_iter().zip(self.texts) {
            columns.push(match field {
                ItemField::Price => Arc::new(self.price.finish()),
                ItemField::Quantity => Arc::new(self.quantity.finish()),
                ItemField::Discount => Arc::new(self.discount.finish()),
                ItemField::Properties => properties.take().unwrap_or_default().finish(self.items)?,
                _ => text.finish(self.items)?,
            });
        }
        let items = StructArray::try_new_with_length(item_fields(), columns, None, self.items)?;
        let nulls = self.present.contains(&false).then(|| NullBuffer::from(self.present));
        Ok(Arc::new(ListArray::try_new(item_element(), OffsetBuffer::new(ScalarBuffer::from(self.ends)), Arc::new(items), nulls)?))
    }
}

/// Σ price × quantity in ten-thousandths over the items that have both (`None` when none has), and how many have not.
pub(crate) fn value_of(items: &[Item]) -> (Option<i128>, u16) {
    let mut total: Option<i128> = None;
    let mut skipped: u16 = 0;
    for item in items {
        match (item.price_e4, item.quantity) {
            (Some(price), Some(quantity)) => {
                // Two 64-bit factors fit 127 bits; only a sum of the largest of them could leave the range.
                total = Some(total.unwrap_or(0).saturating_add(i128::from(price) * i128::from(quantity)));
            }
            (Some(_), None) | (None, Some(_)) | (None, None) => skipped = skipped.saturating_add(1),
        }
    }
    (total, skipped)
}
