//! Sums of floating-point numbers without rounding on the way: the sum is rounded once, when it is read, so that it does not
//! depend on the order of the numbers, nor on which thread added which.
//!
//! This is the "small superaccumulator" of R. M. Neal, *Fast exact summation using small and large superaccumulators*
//! (arXiv:1505.05571), with only as many digits kept as the numbers so far have needed.

/// Digits are 32 bits apart and 64 wide: so many numbers can be added before carries must move up.
const ADDITIONS_MAX: u32 = 1 << 30;
/// The least exponent: every finite double is a whole multiple of 2^LEAST.
const LEAST: i32 = -1074;
const DIGIT: i64 = 1 << 32;

/// An exact sum of doubles.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExactDouble {
    /// Signed digits in base 2^32, the lowest first.
    digits: Vec<i64>,
    /// Digits below the first one kept.
    lowest: u16,
    additions: u32,
    /// Infinite numbers: that a negative and a positive one were added.
    infinite: [bool; 2],
}

impl ExactDouble {
    /// Adds a number that is one (not NaN).
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as u16;
        let fraction = (bits & ((1 << 52) - 1)) as i64;
        if exponent == 0x7ff {
            self.infinite[usize::from(value > 0.0)] = true;
            return;
        }
        if exponent == 0 && fraction == 0 {
            return;
        }
        // value = ± mantissa × 2^(LEAST + above)
        let (mantissa, above) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let (digit, shift) = (above / 32, above % 32);
        let wide = i128::from(mantissa) << shift;
        let wide = if value < 0.0 { -wide } else { wide };
        let at = self.place(digit);
        let digits = &mut self.digits[at..at + 3];
        // Low digits are taken as they stand in two's complement; the highest has the sign.
        digits[0] += (wide as i64) & (DIGIT - 1);
        digits[1] += (wide >> 32) as i64 & (DIGIT - 1);
        digits[2] += (wide >> 64) as i64;
        self.additions += 1;
        if self.additions == ADDITIONS_MAX {
            self.carry();
        }
    }

    /// Adds another sum.
    pub(crate) fn merge(&mut self, other: &ExactDouble) {
        for (mine, theirs) in self.infinite.iter_mut().zip(other.infinite) {
            *mine |= theirs;
        }
        let mut other = other.clone();
        other.carry();
        if self.additions >= ADDITIONS_MAX - 1 {
            self.carry();
        }
        for (at, digit) in other.digits.iter().enumerate().filter(|(_, digit)| **digit != 0) {
            let place = self.place(other.lowest + at as u16);
            self.digits[place] += digit;
        }
        self.additions += 1;
    }

    /// Where the digit with this number stands, with two more above it.
    fn place(&mut self, digit: u16) -> usize {
        if self.digits.is_empty() {
            self.lowest = digit;
        }
        if digit < self.lowest {
            let more = usize::from(self.lowest - digit);
            self.digits.splice(0..0, std::iter::repeat_n(0, more));
            self.lowest = digit;
        }
        let at = usize::from(digit - self.lowest);
        if self.digits.len() < at + 3 {
            self.digits.resize(at + 3, 0);
        }
        at
    }

    /// Moves carries up: every digit but the highest is then within 0..2^32.
    fn carry(&mut self) {
        let mut carry = 0;
        let last = self.digits.len().saturating_sub(1);
        for digit in self.digits.iter_mut().take(last) {
            let sum = *digit + carry;
            carry = sum >> 32;
            *digit = sum & (DIGIT - 1);
        }
        if let Some(highest) = self.digits.last_mut() {
            let sum = *highest + carry;
            // Room above for what does not fit a digit.
            if !(-DIGIT..DIGIT).contains(&sum) {
                *highest = sum & (DIGIT - 1);
                self.digits.push(sum >> 32);
            } else {
                *highest = sum;
            }
        }
        self.additions = 0;
    }

    /// The sum, rounded to the nearest double, ties to even.
    pub(crate) fn value(&self) -> f64 {
        match self.infinite {
            [true, true] => return f64::NAN,
            [true, false] => return f64::NEG_INFINITY,
            [false, true] => return f64::INFINITY,
            [false, false] => {}
        }
        let mut sum = self.clone();
        sum.carry();
        let is_negative = sum.digits.last().is_some_and(|highest| *highest < 0);
        if is_negative {
            sum.digits.iter_mut().for_each(|digit| *digit = -*digit);
            sum.carry();
        }
        let Some(highest) = sum.digits.iter().rposition(|digit| *digit != 0) else { return 0.0 };
        // The four highest digits have at least 97 bits, and what is below them only decides ties.
        let digit = |below: usize| highest.checked_sub(below).map_or(0, |at| sum.digits[at] as u128);
        let mut mantissa = (0..4).fold(0_u128, |mantissa, below| mantissa << 32 | digit(below));
        let is_more = highest >= 4 && sum.digits[..highest - 3].iter().any(|digit| *digit != 0);
        mantissa |= u128::from(is_more);
        let exponent = LEAST + 32 * (i32::from(sum.lowest) + highest as i32 - 3);
        // In two steps, since 2^exponent may be below all doubles where the product is not. A product below the normal
        // numbers is a multiple of 2^LEAST, so that neither step rounds.
        let magnitude = mantissa as f64 * 2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2);
        if is_negative { -magnitude } else { magnitude }
    }

    /// Bytes beside the struct itself, for numbers that are within a factor of 2^64 or so of each other.
    pub(crate) const BYTES_USUAL: usize = 6 * size_of::<i64>();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactDouble::default();
        values.iter().for_each(|value| sum.add(*value));
        sum.value()
    }

    #[test]
    fn sums_are_those_of_exact_arithmetic() {
        let least = f64::from_bits(1);
        for (values, expected) in [
            (vec![], 0.0),
            (vec![0.0, -0.0], 0.0),
            (vec![1e100, 1.0, -1e100], 1.0),
            (vec![1e300, 1e-300, -1e300], 1e-300),
            (vec![0.1; 10], 1.0),
            (vec![1.0, 2_f64.powi(-53)], 1.0),
            (vec![1.0, 2_f64.powi(-53), least], 1.0 + f64::EPSILON),
            (vec![-1.0, -(2_f64.powi(-53)), -least], -1.0 - f64::EPSILON),
            (vec![least, least, -least], least),
            (vec![f64::MIN_POSITIVE, -least], f64::MIN_POSITIVE - least),
            (vec![f64::MAX, f64::MAX, -f64::MAX], f64::MAX),
            (vec![f64::MAX, f64::MAX], f64::INFINITY),
            (vec![-f64::MAX, -f64::MAX], f64::NEG_INFINITY),
            (vec![f64::INFINITY, 1.0], f64::INFINITY),
            (vec![-2.5, 1.0], -1.5),
        ] {
            assert_eq!(sum(&values).to_bits(), (expected + 0.0).to_bits(), "{values:?}: {}", sum(&values));
        }
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    proptest! {
        #[test]
        fn sums_do_not_depend_on_order_or_on_how_they_are_divided(
            values in prop::collection::vec(prop_oneof![any::<f64>().prop_filter("finite", |value| value.is_finite()), -1e6..1e6_f64], 0..40),
            at in any::<prop::sample::Index>(),
        ) {
            let whole = sum(&values);
            let mut reversed = values.clone();
            reversed.reverse();
            prop_assert_eq!(sum(&reversed).to_bits(), whole.to_bits());
            let (left, right) = values.split_at(at.index(values.len() + 1));
            let mut parts = ExactDouble::default();
            left.iter().for_each(|value| parts.add(*value));
            let mut other = ExactDouble::default();
            right.iter().for_each(|value| other.add(*value));
            parts.merge(&other);
            prop_assert_eq!(parts.value().to_bits(), whole.to_bits());
        }

        #[test]
        fn sums_of_whole_numbers_are_those_of_integers(values in prop::collection::vec(-(1_i64 << 53)..(1 << 53), 0..100)) {
            let doubles: Vec<f64> = values.iter().map(|value| *value as f64).collect();
            let exact: i128 = values.iter().map(|value| i128::from(*value)).sum();
            prop_assert_eq!(sum(&doubles), exact as f64);
        }
    }
}
