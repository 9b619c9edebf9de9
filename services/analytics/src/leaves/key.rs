//! What a row counts, as bytes that are the same in every process: values instead of codes, names instead of numbers of nodes.
//!
//! Keys live as long as a query, and replicas of two versions may answer one together: numbers of fields are never reused.

use prost::Message;

use crate::pass::KeyValue;

/// The key of a row.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Key {
    #[prost(oneof = "Cell", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) cell: Option<Cell>,
}

/// What is counted.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Cell {
    /// Not of the question, but of what was read for it.
    #[prost(enumeration = "Frame", tag = "1")]
    Frame(i32),
    #[prost(message, tag = "2")]
    Funnel(FunnelCell),
    #[prost(message, tag = "3")]
    Retention(RetentionCell),
    #[prost(message, tag = "4")]
    Path(PathCell),
    #[prost(message, tag = "5")]
    Sessions(SessionCell),
    #[prost(message, tag = "6")]
    Condition(ConditionCell),
}

impl Cell {
    /// As bytes.
    pub(crate) fn key(self) -> Vec<u8> {
        Key { cell: Some(self) }.encode_to_vec()
    }
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Frame {
    Unspecified = 0,
    /// `us` is the watermark that some persons were judged by.
    Watermark = 1,
    /// `amount` rows.
    Rows = 2,
    /// `amount` rows that were in no file yet.
    TailRows = 3,
    /// `us` is a number of files.
    Files = 4,
}

/// A number of a funnel.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FunnelCell {
    /// Value of the breakdown; also *missing*, and that without a breakdown.
    #[prost(message, optional, tag = "1")]
    pub(crate) value: Option<ValueProto>,
    #[prost(enumeration = "FunnelFigure", tag = "2")]
    pub(crate) figure: i32,
    /// From 1.
    #[prost(uint32, tag = "3")]
    pub(crate) step: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum FunnelFigure {
    Unspecified = 0,
    /// Attempts that did the step.
    Reached = 1,
    /// Attempts that got to the step and may get further.
    StillOpen = 2,
    /// Attempts that took `us` from the step before.
    SincePrevious = 3,
    /// Attempts that took `us` from the first step.
    SinceFirst = 4,
}

/// A number of a retention table.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RetentionCell {
    /// Value of the breakdown; absent without one.
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<ValueProto>,
    /// Sizes by cohort, then cells by cohort, as the buckets of the request lay them out.
    #[prost(uint32, tag = "2")]
    pub(crate) place: u32,
}

/// A number of paths.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PathCell {
    #[prost(enumeration = "PathFigure", tag = "1")]
    pub(crate) figure: i32,
    /// The step that is entered, from 1.
    #[prost(uint32, tag = "2")]
    pub(crate) step: u32,
    #[prost(message, optional, tag = "3")]
    pub(crate) from: Option<NodeProto>,
    #[prost(message, optional, tag = "4")]
    pub(crate) to: Option<NodeProto>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum PathFigure {
    Unspecified = 0,
    /// Sessions that took an edge.
    Sessions = 1,
    /// Their time in microseconds, the lower 32 bits of each sum: so that no sum overflows.
    TimeLow = 2,
    /// Their time, the bits above.
    TimeHigh = 3,
    /// Persons that took an edge.
    Persons = 4,
    /// Persons that entered a node.
    Entrants = 5,
    /// Persons with a path.
    Total = 6,
}

/// What stands at a step of a path.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct NodeProto {
    #[prost(oneof = "NodeKind", tags = "1, 2, 3, 4")]
    pub(crate) kind: Option<NodeKind>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(crate) enum NodeKind {
    #[prost(string, tag = "1")]
    Name(String),
    #[prost(bool, tag = "2")]
    Cut(bool),
    #[prost(bool, tag = "3")]
    Other(bool),
    #[prost(bool, tag = "4")]
    Exit(bool),
}

/// A number of sessions.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionCell {
    /// Values of the group-bys.
    #[prost(message, repeated, tag = "1")]
    pub(crate) group: Vec<ValueProto>,
    /// Position of the period.
    #[prost(uint32, tag = "2")]
    pub(crate) period: u32,
    #[prost(enumeration = "SessionFigure", tag = "3")]
    pub(crate) figure: i32,
    /// Persons of one chunk, as a portable Roaring bitmap.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) persons: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum SessionFigure {
    Unspecified = 0,
    Sessions = 1,
    Events = 2,
    Bounces = 3,
    StillOpen = 4,
    /// Sessions that took `us` and are no bounces.
    Durations = 5,
    /// `amount` persons, who are listed.
    Persons = 6,
}

/// A number of a condition.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ConditionCell {
    #[prost(enumeration = "ConditionFigure", tag = "1")]
    pub(crate) figure: i32,
    /// Its place in a walk from the root.
    #[prost(uint32, tag = "2")]
    pub(crate) node: u32,
    /// Persons of one chunk, as a portable Roaring bitmap.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) persons: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum ConditionFigure {
    Unspecified = 0,
    /// Persons who meet the condition.
    Met = 1,
    /// Persons who are known.
    Known = 2,
    /// Persons who meet a node by itself.
    Node = 3,
    /// `amount` persons who meet the condition, who are listed.
    Persons = 4,
}

/// A value that is grouped by.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueProto {
    /// Absent: *missing*.
    #[prost(oneof = "ValueKind", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) kind: Option<ValueKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum ValueKind {
    #[prost(bool, tag = "1")]
    Bool(bool),
    #[prost(sint64, tag = "2")]
    Int(i64),
    #[prost(message, tag = "3")]
    Decimal(DecimalProto),
    #[prost(sint64, tag = "4")]
    Time(i64),
    /// The bits of a double.
    #[prost(fixed64, tag = "5")]
    Double(u64),
    #[prost(string, tag = "6")]
    Text(String),
}

/// Ten-thousandths in 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct DecimalProto {
    #[prost(sint64, tag = "1")]
    high: i64,
    #[prost(uint64, tag = "2")]
    low: u64,
}

impl ValueProto {
    pub(crate) fn of(value: &KeyValue) -> Self {
        let kind = match value {
            KeyValue::Missing => return Self { kind: None },
            KeyValue::Bool(value) => ValueKind::Bool(*value),
            KeyValue::Int(value) => ValueKind::Int(*value),
            KeyValue::Decimal(e4) => ValueKind::Decimal(DecimalProto { high: (e4 >> 64) as i64, low: *e4 as u64 }),
            KeyValue::Time(us) => ValueKind::Time(*us),
            KeyValue::Double(bits) => ValueKind::Double(*bits),
            KeyValue::Text(text) => ValueKind::Text(text.to_string()),
        };
        Self { kind: Some(kind) }
    }

    pub(crate) fn value(self) -> KeyValue {
        match self.kind {
            None => KeyValue::Missing,
            Some(ValueKind::Bool(value)) => KeyValue::Bool(value),
            Some(ValueKind::Int(value)) => KeyValue::Int(value),
            Some(ValueKind::Decimal(DecimalProto { high, low })) => KeyValue::Decimal(i128::from(high) << 64 | i128::from(low)),
            Some(ValueKind::Time(us)) => KeyValue::Time(us),
            Some(ValueKind::Double(bits)) => KeyValue::Double(bits),
            Some(ValueKind::Text(text)) => KeyValue::Text(text.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were_and_none_is_taken_for_another() {
        let values = [
            KeyValue::Missing,
            KeyValue::Bool(false),
            KeyValue::Bool(true),
            KeyValue::Int(0),
            KeyValue::Int(i64::MIN),
            KeyValue::Decimal(0),
            KeyValue::Decimal(-1),
            KeyValue::Decimal(i128::MIN + 7),
            KeyValue::Decimal(i128::MAX),
            KeyValue::Time(0),
            KeyValue::Time(-1),
            KeyValue::Double(0),
            KeyValue::Double(f64::NAN.to_bits()),
            KeyValue::Text("".into()),
            KeyValue::Text("ü".into()),
        ];
        let bytes: Vec<Vec<u8>> = values.iter().map(|value| ValueProto::of(value).encode_to_vec()).collect();
        for (value, encoded) in values.iter().zip(&bytes) {
            assert_eq!(ValueProto::decode(encoded.as_slice()).expect("a value").value(), *value);
            assert_eq!(bytes.iter().filter(|other| *other == encoded).count(), 1, "{value:?}");
        }
    }
}
