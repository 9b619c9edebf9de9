//! From tallies to figures.

use super::{ExactSum, Finish, Form, Kind, Tally, Which, extreme};
use crate::report::figure::Figure;
use segue_engine::attribution::WHOLE;

const WHOLE_PARTS: i128 = WHOLE as i128;
const E4: i128 = 10_000;

impl Tally {
    /// The figure of these cells together. None where only the count of each band was kept, and these groups were not counted
    /// together.
    pub(in crate::report) fn figure(&self, which: Which<'_>) -> Figure {
        let each = |add: &mut dyn FnMut(usize)| which.each_cell(self.periods, self.cells, add);
        match &self.kind {
            Kind::Count(all) => {
                let mut count = 0;
                each(&mut |cell| count += all[cell]);
                Figure::Count(count)
            }
            Kind::Parts(all) => {
                let mut parts = 0;
                each(&mut |cell| parts += all[cell]);
                i128::try_from(parts).ok().and_then(whole_e4).map_or(Figure::None, Figure::Decimal)
            }
            Kind::Persons(banded) => banded.count(which).map_or(Figure::None, Figure::Count),
            Kind::Sessions(sessions) => sessions.count(which).map_or(Figure::None, Figure::Count),
            Kind::Numbers(kept) => Figure::Count(kept.count(which)),
            Kind::Texts(texts) => Figure::Count(texts.count(which)),
            Kind::Keys(keys) => Figure::Count(keys.count(which, self.periods)),
            Kind::Sum(all) => {
                let mut sum = Some(0_i128);
                each(&mut |cell| sum = sum.and_then(|sum| sum.checked_add(all[cell])));
                // Beyond 128 bits there is no number to show.
                sum.map_or(Figure::None, |sum| self.sum(sum))
            }
            Kind::Average(all) => {
                let mut total = Some(ExactSum::default());
                each(&mut |cell| {
                    total = total.and_then(|total| {
                        Some(ExactSum { sum: total.sum.checked_add(all[cell].sum)?, count: total.count + all[cell].count })
                    });
                });
                total.map_or(Figure::None, |total| self.average(total))
            }
            Kind::Double(all) => {
                let mut total = super::DoubleSum::default();
                each(&mut |cell| {
                    total.sum.merge(&all[cell].sum);
                    total.count += all[cell].count;
                });
                let count = total.count as f64 / if self.is_shared { WHOLE as f64 } else { 1.0 };
                match self.finish {
                    Finish::Average(_) if total.count == 0 => Figure::None,
                    Finish::Average(_) => Figure::Double(total.sum.value() / count),
                    _ => Figure::Double(total.sum.value()),
                }
            }
            Kind::ExactExtreme(all) => {
                let mut found = None;
                each(&mut |cell| found = extreme(found, all[cell], matches!(self.finish, Finish::Max(_)), i128::cmp));
                found.map_or(Figure::None, |value| exact_value(value, self.finish))
            }
            Kind::DoubleExtreme(all) => {
                let mut found = None;
                each(&mut |cell| found = extreme(found, all[cell], matches!(self.finish, Finish::Max(_)), f64::total_cmp));
                found.map_or(Figure::None, Figure::Double)
            }
            Kind::Percentile(values) => match self.finish {
                Finish::Percentile(percentile) => values.figure(which, self.periods, percentile).map_or(Figure::None, Figure::Double),
                _ => Figure::None,
            },
        }
    }

    fn sum(&self, sum: i128) -> Figure {
        match (self.is_shared, self.finish) {
            (false, finish) => exact_value(sum, finish),
            (true, Finish::Sum(Form::Decimal)) => Figure::Decimal(rounded(sum, WHOLE_PARTS)),
            (true, _) => whole_e4(sum).map_or(Figure::None, Figure::Decimal),
        }
    }

    fn average(&self, total: ExactSum) -> Figure {
        if total.count == 0 {
            return Figure::None;
        }
        // Where credit is shared, both the sum and the count are in parts, which cancel out.
        let quotient = total.sum as f64 / total.count as f64;
        match self.finish {
            // An average is a quotient, so it is floating point even of decimals.
            Finish::Average(Form::Decimal) => Figure::Double(total.sum as f64 / E4 as f64 / total.count as f64),
            _ => Figure::Double(quotient),
        }
    }
}

fn exact_value(value: i128, finish: Finish) -> Figure {
    let form = match finish {
        Finish::Sum(form) | Finish::Average(form) | Finish::Min(form) | Finish::Max(form) => form,
        Finish::Count | Finish::Persons | Finish::Sessions | Finish::Numbers | Finish::Texts | Finish::Keys | Finish::Percentile(_) => {
            Form::Int
        }
    };
    match form {
        Form::Int => Figure::Int(value),
        Form::Decimal => Figure::Decimal(value),
        Form::Double => Figure::Double(value as f64),
        // Every value came from 64 bits.
        Form::Time => i64::try_from(value).map_or(Figure::None, Figure::Time),
    }
}

/// So many parts of whole things, in ten-thousandths; none when that leaves 128 bits.
fn whole_e4(parts: i128) -> Option<i128> {
    let whole = parts.div_euclid(WHOLE_PARTS).checked_mul(E4)?;
    whole.checked_add(rounded(parts.rem_euclid(WHOLE_PARTS) * E4, WHOLE_PARTS))
}

/// The quotient, rounded half to even.
fn rounded(dividend: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (dividend.div_euclid(divisor), dividend.rem_euclid(divisor));
    match (2 * rest).cmp(&divisor) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + (quotient & 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_rounded_half_to_even() {
        for (dividend, divisor, expected) in
            [(5, 2, 2), (7, 2, 4), (-5, 2, -2), (-7, 2, -4), (6, 4, 2), (2, 4, 0), (1, 4, 0), (3, 4, 1), (-3, 4, -1)]
        {
            assert_eq!(rounded(dividend, divisor), expected, "{dividend} / {divisor}");
        }
    }

    #[test]
    fn parts_of_wholes_are_decimals_with_four_places() {
        for (parts, e4) in [
            (WHOLE_PARTS, 10_000),
            (WHOLE_PARTS / 3, 3_333),
            (WHOLE_PARTS / 3 * 2, 6_667),
            (WHOLE_PARTS / 20_000, 0),
            (WHOLE_PARTS / 20_000 * 3, 1),
            (WHOLE_PARTS / 20_000 * 3 + 1, 2),
            (WHOLE_PARTS * 7 + WHOLE_PARTS / 4, 72_500),
            (-(WHOLE_PARTS / 3), -3_333),
        ] {
            assert_eq!(whole_e4(parts), Some(e4), "{parts}");
        }
    }
}
