//! Numbers of any type, to be compared by value.

use segue_model::decimal::SCALE;
use segue_proto::events::v1::value::Kind;

/// A number in ten-thousandths. Doubles are what the shortest decimal text that reads back as them says, which is what their sender wrote.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exact {
    /// Rounded down.
    floor: i128,
    /// The double itself, where that leaves something over.
    rest: Option<f64>,
}

impl Exact {
    pub(crate) fn of_int(number: i64) -> Self {
        Self { floor: i128::from(number) * i128::from(SCALE), rest: None }
    }

    pub(crate) fn of_e4(e4: i64) -> Self {
        Self { floor: i128::from(e4), rest: None }
    }

    /// None: no number.
    pub(crate) fn of(kind: &Kind) -> Option<Self> {
        match kind {
            Kind::IntValue(number) => Some(Self::of_int(*number)),
            Kind::DecimalE4Value(e4) => Some(Self::of_e4(*e4)),
            Kind::DoubleValue(number) => Self::of_double(*number),
            Kind::StringValue(_) | Kind::BoolValue(_) | Kind::TimestampValue(_) | Kind::JsonValue(_) => None,
        }
    }

    fn of_double(number: f64) -> Option<Self> {
        if number.is_nan() {
            return None;
        }
        let beyond = if number > 0.0 { i128::MAX } else { i128::MIN };
        if number.is_infinite() {
            return Some(Self { floor: beyond, rest: Some(number) });
        }
        // Plain notation: no exponent.
        let text = number.abs().to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let (kept, lost) = fraction.split_at(fraction.len().min(4));
        let Ok(magnitude) = format!("{whole}{kept:0<4}").parse::<i128>() else {
            // Larger than any number of another type; among doubles their own order holds.
            return Some(Self { floor: beyond, rest: Some(number) });
        };
        let is_rest = lost.bytes().any(|digit| digit != b'0');
        let floor = match (number < 0.0, is_rest) {
            (false, _) => magnitude,
            (true, false) => -magnitude,
            (true, true) => -magnitude - 1,
        };
        Some(Self { floor, rest: is_rest.then_some(number) })
    }

    /// Total: there is no NaN among them.
    pub(crate) fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rests = match (self.rest, other.rest) {
            (None, None) => std::cmp::Ordering::Equal,
            // What is left over is above what is exact.
            (None, Some(_)) => std::cmp::Ordering::Less,
            (Some(_), None) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.total_cmp(&b),
        };
        self.floor.cmp(&other.floor).then(rests)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    #[test]
    fn numbers_of_different_types_compare_by_value() {
        let (int, e4, double) = (Kind::IntValue, Kind::DecimalE4Value, Kind::DoubleValue);
        for (a, b, order) in [
            (int(5), e4(50_000), Ordering::Equal),
            (int(5), double(5.0), Ordering::Equal),
            (e4(1_000), double(0.1), Ordering::Equal),
            (double(-0.0), int(0), Ordering::Equal),
            (double(0.00001), e4(0), Ordering::Greater),
            (double(-0.00001), e4(0), Ordering::Less),
            (double(-0.00001), e4(-1), Ordering::Greater),
            (double(0.00001), double(0.00002), Ordering::Less),
            (double(0.00001), double(0.00001), Ordering::Equal),
            (double(-1.00002), double(-1.00001), Ordering::Less),
            (int(9_007_199_254_740_993), double(9_007_199_254_740_992.0), Ordering::Greater),
            (int(i64::MAX), double(1e300), Ordering::Less),
            (int(i64::MIN), double(-1e300), Ordering::Greater),
            (double(1e300), double(2e300), Ordering::Less),
            (double(f64::INFINITY), double(1e300), Ordering::Greater),
            (double(f64::NEG_INFINITY), double(-1e300), Ordering::Less),
            (double(f64::INFINITY), double(f64::INFINITY), Ordering::Equal),
        ] {
            let (left, right) = (Exact::of(&a).expect("a number"), Exact::of(&b).expect("a number"));
            assert_eq!((left.cmp(&right), right.cmp(&left)), (order, order.reverse()), "{a:?} {b:?}");
        }
        assert!(Exact::of(&double(f64::NAN)).is_none());
    }
}
