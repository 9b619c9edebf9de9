//! One number of a report on its way into the answer, and its order.

use std::cmp::Ordering;

use segue_model::decimal::format_e4;
use segue_proto::analytics::v1 as pb;

use crate::question::time::timestamp;

/// One number of a report. Exact kinds stay exact until they are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Figure {
    /// No value: the average of nothing, a division by zero.
    None,
    /// How many.
    Count(u64),
    /// A whole number.
    Int(i128),
    /// An exact decimal, in ten-thousandths.
    Decimal(i128),
    /// Floating point.
    Double(f64),
    /// A moment, in microseconds.
    Time(i64),
}

impl Figure {
    /// As the answer carries it. A whole number beyond 64 bits is written as a decimal text.
    pub(super) fn to_number(self) -> pb::Number {
        use pb::number::Kind;
        let kind = match self {
            Figure::None => None,
            Figure::Count(count) => Some(Kind::Count(count)),
            Figure::Int(value) => Some(match i64::try_from(value) {
                Ok(value) => Kind::Int(value),
                Err(_) => Kind::Decimal(format!("{value}.0000")),
            }),
            Figure::Decimal(e4) => Some(Kind::Decimal(format_e4(e4))),
            Figure::Double(value) => Some(Kind::Double(value)),
            Figure::Time(us) => Some(Kind::Time(timestamp(us))),
        };
        pb::Number { kind }
    }

    /// As floating point, for formulas. A time has none.
    pub(super) fn to_f64(self) -> Option<f64> {
        match self {
            Figure::None | Figure::Time(_) => None,
            Figure::Count(count) => Some(count as f64),
            Figure::Int(value) => Some(value as f64),
            Figure::Decimal(e4) => Some(e4 as f64 / 10_000.0),
            Figure::Double(value) => Some(value),
        }
    }

    /// Order by which groups are ranked: larger figures first, no value last.
    pub(super) fn rank(self, other: Figure) -> Ordering {
        match (self, other) {
            (Figure::None, Figure::None) => Ordering::Equal,
            (Figure::None, _) => Ordering::Greater,
            (_, Figure::None) => Ordering::Less,
            (Figure::Count(a), Figure::Count(b)) => b.cmp(&a),
            (Figure::Int(a), Figure::Int(b)) | (Figure::Decimal(a), Figure::Decimal(b)) => b.cmp(&a),
            (Figure::Time(a), Figure::Time(b)) => b.cmp(&a),
            (Figure::Double(a), Figure::Double(b)) => b.total_cmp(&a),
            // One metric has one kind, so that mixed kinds do not meet here; the order is total all the same.
            (a, b) => b.to_f64().unwrap_or(f64::NEG_INFINITY).total_cmp(&a.to_f64().unwrap_or(f64::NEG_INFINITY)),
        }
    }
}
