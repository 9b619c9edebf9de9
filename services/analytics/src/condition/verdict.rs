//! What is asked of an aggregate: a test, brought to the unit in which the aggregate is kept.

use std::ops::Bound;

use crate::filter::matching::double_passes;
use crate::filter::predicate::{NumberTest, Test};

/// A test of one person's aggregate. Of nothing, only a negative test is true.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    wanted: Wanted,
    negate: bool,
}

#[derive(Debug, Clone)]
enum Wanted {
    /// There is a value.
    Any,
    /// Between these, both inclusive.
    Within(i128, i128),
    /// One of these, ascending.
    In(Vec<i128>),
    Double(NumberTest<f64>),
    /// No value passes.
    Nothing,
}

impl Verdict {
    pub(super) fn new(test: Test, negate: bool) -> Self {
        let wanted = match test {
            Test::Exists => Wanted::Any,
            Test::Exact { scale, test: NumberTest::In(values) } => {
                // A value between two units is equal to no whole number of them.
                Wanted::In(values.into_iter().filter(|value| value.rem_euclid(scale) == 0).map(|value| value.div_euclid(scale)).collect())
            }
            Test::Exact { scale, test: NumberTest::Within(low, high) } => {
                let up = |value: i128| value.div_euclid(scale) + i128::from(value.rem_euclid(scale) != 0);
                let low = match low {
                    Bound::Included(value) => up(value),
                    Bound::Excluded(value) => value.div_euclid(scale) + 1,
                    Bound::Unbounded => i128::MIN,
                };
                let high = match high {
                    Bound::Included(value) => value.div_euclid(scale),
                    Bound::Excluded(value) => up(value) - 1,
                    Bound::Unbounded => i128::MAX,
                };
                Wanted::Within(low, high)
            }
            Test::Double(test) => Wanted::Double(test),
            // Aggregates are numbers; texts are tested row by row.
            Test::TextIn(_) | Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_) | Test::Truth(_) => Wanted::Nothing,
        };
        Self { wanted, negate }
    }

    /// At least so many.
    pub(super) fn at_least(least: i128) -> Self {
        Self { wanted: Wanted::Within(least, i128::MAX), negate: false }
    }

    #[inline]
    pub(super) fn of_exact(&self, value: i128) -> bool {
        let passes = match &self.wanted {
            Wanted::Within(low, high) => *low <= value && value <= *high,
            Wanted::In(values) => values.binary_search(&value).is_ok(),
            Wanted::Any => true,
            // The sum of a floating-point property that no event has.
            Wanted::Double(test) => double_passes(test, value as f64),
            Wanted::Nothing => false,
        };
        passes != self.negate
    }

    pub(super) fn of_double(&self, value: f64) -> bool {
        let passes = match &self.wanted {
            Wanted::Double(test) => double_passes(test, value),
            Wanted::Any => true,
            Wanted::Within(..) | Wanted::In(_) | Wanted::Nothing => false,
        };
        passes != self.negate
    }

    /// Of a person without a value.
    pub(super) fn of_nothing(&self) -> bool {
        self.negate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_between_two_units_are_kept() {
        let within = |low, high| Verdict::new(Test::Exact { scale: 10, test: NumberTest::Within(low, high) }, false);
        for (verdict, passing) in [
            (within(Bound::Included(20), Bound::Unbounded), vec![2, 3, 4]),
            (within(Bound::Included(21), Bound::Unbounded), vec![3, 4]),
            (within(Bound::Excluded(20), Bound::Unbounded), vec![3, 4]),
            (within(Bound::Excluded(19), Bound::Unbounded), vec![2, 3, 4]),
            (within(Bound::Unbounded, Bound::Included(29)), vec![0, 1, 2]),
            (within(Bound::Unbounded, Bound::Excluded(30)), vec![0, 1, 2]),
            (within(Bound::Unbounded, Bound::Excluded(31)), vec![0, 1, 2, 3]),
            (within(Bound::Included(-5), Bound::Excluded(1)), vec![0]),
        ] {
            assert_eq!((0..=4).filter(|value| verdict.of_exact(*value)).collect::<Vec<i128>>(), passing, "{verdict:?}");
        }
        let one_of = Verdict::new(Test::Exact { scale: 10, test: NumberTest::In(vec![-10, 5, 30]) }, true);
        assert_eq!((-2..=4).filter(|value| !one_of.of_exact(*value)).collect::<Vec<i128>>(), [-1, 3]);
        assert!(one_of.of_nothing());
    }
}
