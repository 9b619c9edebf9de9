//! The columns that can be asked for, and their types. To add one: a variant here, its stored name and type below, a line in
//! `index::builder` that fills it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use segue_model::dimension;

use super::ItemFields;

/// A column of a scan. The Arrow type is the same in every batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Column {
    /// `UInt32`, never null: the surviving person number.
    Person,
    /// `UInt32`, never null: the person number that the row was first resolved to.
    Origin,
    /// `UInt32`, never null: 0 when the event names no device.
    Device,
    /// `Int64`, never null: event time, microseconds UTC.
    Ts,
    /// `Int64`, never null: when Segue received it, microseconds UTC.
    ReceivedAt,
    /// `UInt64`, never null: position on the log × 2^24 + place in that batch. Orders the events of one partition, so of one
    /// person (of persons merged later: arbitrary, but always the same).
    Sequence,
    /// `UInt8`, never null: `segue.events.v1.EventKind`.
    Kind,
    /// `Utf8`.
    MessageId,
    /// `Dictionary(UInt32, Utf8)`: null when the sender assigned no session.
    SessionId,
    /// `Dictionary(UInt32, Utf8)`.
    AccountId,
    /// `Dictionary(UInt32, Utf8)`: the name that was sent, when it differs from the canonical one.
    OriginalName,
    /// `Dictionary(UInt32, Utf8)`: who sent it.
    Source,
    /// `Dictionary(UInt32, Utf8)`: a built-in dimension by its code.
    Dimension(u32),
    /// A property of the event, registered or not, with the type that [`Snapshot::properties`](super::Snapshot::properties)
    /// names (see [`PropertyType::data_type`]); `Dictionary(UInt32, Utf8)` of nulls when no event ever had it. A stored value
    /// of another type is converted where that loses nothing, else null.
    Property(String),
    /// A trait that a row of [`TRAITS`](super::TRAITS) states of its person, with the type that
    /// [`Snapshot::traits`](super::Snapshot::traits) names; null in rows that do not state it, and in all rows of events.
    Trait(String),
    /// `List<Struct>` of the items, see [`ItemField`]; null when the event has none.
    ItemsList,
    /// The same with these fields alone.
    Items(ItemFields),
    /// `Decimal128(38, 4)`: Σ price × quantity over the items that have both; null when no item has.
    Value,
    /// `UInt16`, never null: items left out of `Value` for want of a price or quantity.
    SkippedItems,
    /// `Map<Utf8, Utf8>`: unregistered properties, name to JSON text ([`decode_value`](super::decode_value)); null when none.
    Unregistered,
}

/// The fields of an item's struct, in their order. Nullable all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemField {
    /// `Dictionary(UInt32, Utf8)`, as are all the texts.
    ItemId,
    /// Name.
    Name,
    /// `Decimal128(19, 4)`.
    Price,
    /// `Int64`.
    Quantity,
    /// `Decimal128(19, 4)`.
    Discount,
    /// The widest category.
    Category1,
    /// Second.
    Category2,
    /// Third.
    Category3,
    /// Fourth.
    Category4,
    /// Fifth.
    Category5,
    /// Brand.
    Brand,
    /// Variant.
    Variant,
    /// Coupon.
    Coupon,
    /// `Map<Utf8, Utf8>`: further properties, name to JSON text ([`decode_value`](super::decode_value)).
    Properties,
}

impl ItemField {
    /// All, in the order of the struct.
    pub const ALL: [ItemField; 14] = [
        ItemField::ItemId,
        ItemField::Name,
        ItemField::Price,
        ItemField::Quantity,
        ItemField::Discount,
        ItemField::Category1,
        ItemField::Category2,
        ItemField::Category3,
        ItemField::Category4,
        ItemField::Category5,
        ItemField::Brand,
        ItemField::Variant,
        ItemField::Coupon,
        ItemField::Properties,
    ];

    /// Place in the struct.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Name in requests (`segue.query.v1.Field.item_property`) and in the struct.
    pub fn name(self) -> &'static str {
        match self {
            ItemField::ItemId => "item_id",
            ItemField::Name => "item_name",
            ItemField::Price => "price",
            ItemField::Quantity => "quantity",
            ItemField::Discount => "discount",
            ItemField::Category1 => "category1",
            ItemField::Category2 => "category2",
            ItemField::Category3 => "category3",
            ItemField::Category4 => "category4",
            ItemField::Category5 => "category5",
            ItemField::Brand => "brand",
            ItemField::Variant => "variant",
            ItemField::Coupon => "coupon",
            ItemField::Properties => "properties",
        }
    }

    /// The built-in field with this name; `properties` is not one.
    pub fn by_name(name: &str) -> Option<ItemField> {
        ItemField::ALL.into_iter().filter(|field| *field != ItemField::Properties).find(|field| field.name() == name)
    }

    /// Arrow type.
    pub fn data_type(self) -> DataType {
        match self {
            ItemField::Price | ItemField::Discount => decimal_type(),
            ItemField::Quantity => DataType::Int64,
            ItemField::Properties => map_type(),
            ItemField::ItemId
            | ItemField::Name
            | ItemField::Category1
            | ItemField::Category2
            | ItemField::Category3
            | ItemField::Category4
            | ItemField::Category5
            | ItemField::Brand
            | ItemField::Variant
            | ItemField::Coupon => text_type(),
        }
    }
}

/// Where a property was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PropertyScope {
    /// A property of events that the taxonomy knows.
    Event,
    /// A property of events that the taxonomy did not know.
    Unregistered,
    /// A property of items beyond the built-in fields.
    Item,
    /// A trait of persons.
    Trait,
}

impl PropertyScope {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [PropertyScope; 4] = [Self::Event, Self::Unregistered, Self::Item, Self::Trait];

    /// Stored number.
    pub(crate) fn code(self) -> i64 {
        match self {
            PropertyScope::Event => 0,
            PropertyScope::Unregistered => 1,
            PropertyScope::Item => 2,
            PropertyScope::Trait => 3,
        }
    }

    /// From the stored number.
    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.code() == code)
    }
}

/// Type of a property: that of the first value ever stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PropertyType {
    /// Text.
    String,
    /// Whole number.
    Int,
    /// Number with a fraction that is not money.
    Double,
    /// True or false.
    Bool,
    /// Exact decimal with four places.
    Decimal,
    /// A moment.
    Timestamp,
    /// Array or object as JSON text.
    Json,
}

impl PropertyType {
    const ALL: [PropertyType; 7] = [Self::String, Self::Int, Self::Double, Self::Bool, Self::Decimal, Self::Timestamp, Self::Json];

    /// Name in answers.
    pub fn name(self) -> &'static str {
        match self {
            PropertyType::String => "string",
            PropertyType::Int => "int",
            PropertyType::Double => "double",
            PropertyType::Bool => "bool",
            PropertyType::Decimal => "decimal",
            PropertyType::Timestamp => "timestamp",
            PropertyType::Json => "json",
        }
    }

    /// The type with this name.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Arrow type: `Dictionary(UInt32, Utf8)`, `Int64`, `Float64`, `Boolean`, `Decimal128(19, 4)`,
    /// `Timestamp(µs, "UTC")`, `Utf8` (JSON).
    pub fn data_type(self) -> DataType {
        match self {
            PropertyType::String => text_type(),
            PropertyType::Int => DataType::Int64,
            PropertyType::Double => DataType::Float64,
            PropertyType::Bool => DataType::Boolean,
            PropertyType::Decimal => decimal_type(),
            PropertyType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            PropertyType::Json => DataType::Utf8,
        }
    }
}

/// A property or trait that events of the tenant have carried.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredProperty {
    /// Where.
    pub scope: PropertyScope,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: PropertyType,
}

/// `Dictionary(UInt32, Utf8)`.
pub(crate) fn text_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8))
}

/// Money: `Decimal128(19, 4)` holds every 64-bit count of ten-thousandths.
pub(crate) fn decimal_type() -> DataType {
    DataType::Decimal128(19, 4)
}

/// Σ price × quantity may exceed 64 bits.
pub(crate) fn value_type() -> DataType {
    DataType::Decimal128(38, 4)
}

/// Name to JSON text.
pub(crate) fn map_type() -> DataType {
    let entries = DataType::Struct(map_entry_fields());
    DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
}

/// Key and value of [`map_type`].
pub(crate) fn map_entry_fields() -> Fields {
    Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Utf8, true)])
}

/// Fields of an item.
pub(crate) fn item_fields() -> Fields {
    ItemField::ALL.into_iter().map(|field| Field::new(field.name(), field.data_type(), true)).collect()
}

/// List of items.
pub(crate) fn items_type() -> DataType {
    DataType::List(item_element())
}

/// Element field of [`items_type`].
pub(crate) fn item_element() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(item_fields()), true))
}

impl Column {
    /// Name in files and in batches.
    pub fn name(&self) -> String {
        match self {
            Column::Person => "person".to_owned(),
            Column::Origin => "origin".to_owned(),
            Column::Device => "device".to_owned(),
            Column::Ts => "ts".to_owned(),
            Column::ReceivedAt => "received_at".to_owned(),
            Column::Sequence => "sequence".to_owned(),
            Column::Kind => "kind".to_owned(),
            Column::MessageId => "message_id".to_owned(),
            Column::SessionId => "session_id".to_owned(),
            Column::AccountId => "account_id".to_owned(),
            Column::OriginalName => "original_name".to_owned(),
            Column::Source => "source".to_owned(),
            Column::Dimension(code) => match dimension::by_code(*code) {
                Some(dimension) => format!("d.{}", dimension.name),
                None => format!("d.{code}"),
            },
            Column::Property(name) => format!("p.{name}"),
            Column::Trait(name) => format!("t.{name}"),
            Column::ItemsList => "items".to_owned(),
            Column::Items(fields) => fields.column_name(),
            Column::Value => "value".to_owned(),
            Column::SkippedItems => "skipped_items".to_owned(),
            Column::Unregistered => "unregistered".to_owned(),
        }
    }

    /// Arrow type; of a property or trait, the type is the tenant's (`None` here).
    pub fn data_type(&self) -> Option<DataType> {
        Some(match self {
            Column::Person | Column::Origin | Column::Device => DataType::UInt32,
            Column::Ts | Column::ReceivedAt => DataType::Int64,
            Column::Sequence => DataType::UInt64,
            Column::Kind => DataType::UInt8,
            Column::MessageId => DataType::Utf8,
            Column::SessionId | Column::AccountId | Column::OriginalName | Column::Source | Column::Dimension(_) => text_type(),
            Column::Property(_) | Column::Trait(_) => return None,
            Column::ItemsList => items_type(),
            Column::Items(fields) => fields.data_type(),
            Column::Value => value_type(),
            Column::SkippedItems => DataType::UInt16,
            Column::Unregistered => map_type(),
        })
    }

    /// Whether it is a list of items.
    pub(crate) fn is_of_items(&self) -> bool {
        matches!(self, Column::ItemsList | Column::Items(_))
    }

    /// Whether every stored row has it.
    pub fn is_required(&self) -> bool {
        matches!(
            self,
            Column::Person
                | Column::Origin
                | Column::Device
                | Column::Ts
                | Column::ReceivedAt
                | Column::Sequence
                | Column::Kind
                | Column::SkippedItems
        )
    }
}
