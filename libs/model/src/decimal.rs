//! Exact decimals with four places, for money. Stored as an integer of ten-thousandths.

use std::fmt;
use std::str::FromStr;

/// Ten-thousandths in one.
pub const SCALE: i64 = 10_000;

/// An exact decimal: the value times 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal4(pub i64);

/// Why a text is not a [`Decimal4`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a number in plain decimal notation.
    #[error("not a decimal number; write it like 1234.50")]
    Malformed,
    /// More than four digits after the point that are not zero.
    #[error("more than four digits after the decimal point")]
    TooPrecise,
    /// Beyond ±922,337,203,685,477.5807.
    #[error("larger than 922337203685477.5807")]
    OutOfRange,
}

impl Decimal4 {
    /// A whole number.
    pub fn from_int(value: i64) -> Result<Self, DecimalError> {
        value.checked_mul(SCALE).map(Self).ok_or(DecimalError::OutOfRange)
    }

    /// The nearest double: the one that the same decimal text is read as.
    pub fn to_f64(self) -> f64 {
        let divided = self.0 as f64 / SCALE as f64;
        // Both are exact up to there, and a division rounds once; beyond it would be rounded twice.
        let is_exact = self.0.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS;
        if is_exact { divided } else { self.to_string().parse().unwrap_or(divided) }
    }
}

/// Writes `total` ten-thousandths (which may exceed 64 bits, as sums do) with four places.
pub fn format_e4(total: i128) -> String {
    let magnitude = total.unsigned_abs();
    let sign = if total < 0 { "-" } else { "" };
    format!("{sign}{}.{:04}", magnitude / SCALE as u128, magnitude % SCALE as u128)
}

impl fmt::Display for Decimal4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_e4(i128::from(self.0)))
    }
}

impl FromStr for Decimal4 {
    type Err = DecimalError;

    /// Reads plain and scientific notation (`12.5`, `1.25e1`), exactly.
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().map_err(|_| DecimalError::Malformed)?),
            None => (text, 0),
        };
        if exponent.abs() > 40 {
            return Err(if exponent > 0 { DecimalError::OutOfRange } else { DecimalError::TooPrecise });
        }
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() + fraction.len() > 40 {
            return Err(DecimalError::Malformed);
        }
        // The value is `number` × 10^(exponent − fraction digits); the result wants it in 10^−4.
        let mut number: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            if !digit.is_ascii_digit() {
                return Err(DecimalError::Malformed);
            }
            number = number.checked_mul(10).and_then(|n| n.checked_add(i128::from(digit - b'0'))).ok_or(DecimalError::OutOfRange)?;
        }
        let mut shift = exponent - fraction.len() as i32 + 4;
        while shift > 0 && number != 0 {
            number = number.checked_mul(10).ok_or(DecimalError::OutOfRange)?;
            shift -= 1;
        }
        while shift < 0 && number != 0 {
            if number % 10 != 0 {
                return Err(DecimalError::TooPrecise);
            }
            number /= 10;
            shift += 1;
        }
        let signed = if negative { -number } else { number };
        i64::try_from(signed).map(Self).map_err(|_| DecimalError::OutOfRange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_double_is_the_one_that_the_text_reads_as() {
        for e4 in [0, 1, -1, 125_000, 9_007_199_254_740_995, -9_007_199_254_740_995, i64::MAX, i64::MIN] {
            assert_eq!(Ok(Decimal4(e4).to_f64()), Decimal4(e4).to_string().parse(), "{e4}");
        }
        assert_ne!(Decimal4(9_007_199_254_740_995).to_f64(), 9_007_199_254_740_995_i64 as f64 / 10_000.0, "rounded once");
    }

    #[test]
    fn decimals_are_read_and_written_exactly() {
        for (text, e4) in
            [("12.5", 125_000), ("-0.0001", -1), ("1.25e1", 125_000), ("1000", 10_000_000), (".5", 5_000), ("1.50000", 15_000), ("0e39", 0)]
        {
            assert_eq!(text.parse::<Decimal4>(), Ok(Decimal4(e4)), "{text}");
        }
        assert_eq!(Decimal4(-1).to_string(), "-0.0001");
        assert_eq!(Decimal4(125_000).to_string(), "12.5000");
        assert_eq!(Decimal4(i64::MIN).to_string(), "-922337203685477.5808");
    }

    #[test]
    fn what_is_not_an_exact_decimal_says_why() {
        for (text, error) in [
            ("", DecimalError::Malformed),
            ("abc", DecimalError::Malformed),
            ("1.2.3", DecimalError::Malformed),
            ("1.00001", DecimalError::TooPrecise),
            ("1e30", DecimalError::OutOfRange),
            ("922337203685477.5808", DecimalError::OutOfRange),
        ] {
            assert_eq!(text.parse::<Decimal4>(), Err(error), "{text}");
        }
    }
}
