//! Statistics of experiments: what two or more proportions say. Pure; every formula names its source.

use statrs::distribution::{Beta, ChiSquared, Continuous, ContinuousCDF, Normal};

/// Share of trials that is looked for when a sample is planned: two standard figures of the field.
const POWER: f64 = 0.8;
/// Relative lift that a planned sample is to show.
const LIFT_SOUGHT: f64 = 0.1;
/// Standard deviation of the mixture of the sequential test: differences of about two percentage points are found soonest. Fixed before
/// any data are seen, as the test asks.
const MIXTURE_SD: f64 = 0.02;
/// Below this p-value of the sample ratio something is wrong with the assignment (Fabijan et al., KDD 2019, use 0.0005 to 0.01).
const MISMATCH_BELOW: f64 = 0.001;
/// Steps of Simpson's rule for each piece of the integral over a posterior; a piece is nowhere wider than the twenty standard deviations of
/// whatever changes in it.
const INTEGRAL_STEPS: u32 = 300;

/// How many of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proportion {
    pub(super) successes: u64,
    pub(super) trials: u64,
}

impl Proportion {
    /// 0 of nothing is 0.
    pub(super) fn rate(self) -> f64 {
        if self.trials == 0 { 0.0 } else { self.successes as f64 / self.trials as f64 }
    }

    fn variance(self) -> f64 {
        if self.trials == 0 { f64::INFINITY } else { self.rate() * (1.0 - self.rate()) / self.trials as f64 }
    }
}

/// Lower and upper bound.
pub(super) type Interval = (f64, f64);

/// z of a two-sided interval with this confidence.
fn z_of(confidence: f64) -> f64 {
    normal_quantile(1.0 - (1.0 - confidence) / 2.0)
}

fn normal_quantile(probability: f64) -> f64 {
    Normal::standard().inverse_cdf(probability)
}

/// Wilson's score interval (1927): holds for small samples and rates near 0 and 1. Of nothing: everything.
pub(super) fn wilson(of: Proportion, confidence: f64) -> Interval {
    if of.trials == 0 {
        return (0.0, 1.0);
    }
    let (n, p, z) = (of.trials as f64, of.rate(), z_of(confidence));
    let middle = p + z * z / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    // At the ends the formula gives 0 and 1 but for rounding.
    let low = if of.successes == 0 { 0.0 } else { (middle - half) / scale };
    let high = if of.successes == of.trials { 1.0 } else { (middle + half) / scale };
    (low, high)
}

/// Interval of `a` − `b`: Newcombe (1998), method 10, from the two score intervals.
pub(super) fn difference(a: Proportion, b: Proportion, confidence: f64) -> Interval {
    let ((low_a, high_a), (low_b, high_b)) = (wilson(a, confidence), wilson(b, confidence));
    let (p, q) = (a.rate(), b.rate());
    let low = p - q - ((p - low_a).powi(2) + (high_b - q).powi(2)).sqrt();
    let high = p - q + ((high_a - p).powi(2) + (q - low_b).powi(2)).sqrt();
    (low, high)
}

/// Two-sided p-value that two proportions are one: z test with the pooled variance. Without anything to compare: 1.
pub(super) fn p_value(a: Proportion, b: Proportion) -> f64 {
    if a.trials == 0 || b.trials == 0 {
        return 1.0;
    }
    let pooled = Proportion { successes: a.successes + b.successes, trials: a.trials + b.trials }.rate();
    let variance = pooled * (1.0 - pooled) * (1.0 / a.trials as f64 + 1.0 / b.trials as f64);
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (a.rate() - b.rate()) / variance.sqrt();
    (2.0 * Normal::standard().sf(z.abs())).min(1.0)
}

/// For each variant the probability that its rate is the highest, with Beta(1, 1) before: ∫ f_i(x) Π_{j≠i} F_j(x) dx.
pub(super) fn probabilities_best(of: &[Proportion]) -> Vec<f64> {
    let posteriors: Vec<(f64, f64)> =
        of.iter().map(|of| (of.successes as f64 + 1.0, of.trials.saturating_sub(of.successes) as f64 + 1.0)).collect();
    let betas: Vec<Option<Beta>> = posteriors.iter().map(|(a, b)| Beta::new(*a, *b).ok()).collect();
    // Where the density, or the chance that another rate is lower, goes from nothing to all.
    let spans: Vec<Interval> = posteriors.iter().map(|(a, b)| span_of(*a, *b)).collect();
    let best = |at: usize| {
        let (Some((from, to)), Some(Some(own))) = (spans.get(at).copied(), betas.get(at)) else { return 0.0 };
        let mut edges: Vec<f64> = spans.iter().flat_map(|(low, high)| [low.clamp(from, to), high.clamp(from, to)]).collect();
        edges.sort_unstable_by(f64::total_cmp);
        let others = |x: f64| -> f64 {
            let others = betas.iter().enumerate().filter(|(other, _)| *other != at);
            others.map(|(_, beta)| beta.map_or(1.0, |beta| beta.cdf(x))).product()
        };
        edges.windows(2).filter(|edge| edge[0] < edge[1]).map(|edge| simpson(edge[0], edge[1], |x| own.pdf(x) * others(x))).sum()
    };
    (0..of.len()).map(best).collect()
}

/// Ten standard deviations to either side of the mean of Beta(a, b).
fn span_of(a: f64, b: f64) -> Interval {
    let (mean, sd) = (a / (a + b), (a * b / ((a + b).powi(2) * (a + b + 1.0))).sqrt());
    ((mean - 10.0 * sd).max(0.0), (mean + 10.0 * sd).min(1.0))
}

fn simpson(from: f64, to: f64, f: impl Fn(f64) -> f64) -> f64 {
    let width = (to - from) / f64::from(INTEGRAL_STEPS);
    let at = |step: u32| {
        // A density may be infinite at the very ends.
        let value = f(from + width * f64::from(step));
        if value.is_finite() { value } else { 0.0 }
    };
    let inner: f64 = (1..INTEGRAL_STEPS).map(|step| at(step) * if step % 2 == 1 { 4.0 } else { 2.0 }).sum();
    (at(0) + inner + at(INTEGRAL_STEPS)) * width / 3.0
}

/// p-value that units were assigned by these weights: Pearson's χ² test. And whether that is to be doubted.
pub(super) fn sample_ratio(assigned: &[u64], weights: &[u64]) -> (f64, bool) {
    let (total, weight) = (assigned.iter().sum::<u64>() as f64, weights.iter().sum::<u64>() as f64);
    if total == 0.0 || weight == 0.0 || assigned.len() < 2 {
        return (1.0, false);
    }
    let statistic: f64 = assigned
        .iter()
        .zip(weights)
        .map(|(assigned, share)| {
            let expected = total * *share as f64 / weight;
            if expected > 0.0 { (*assigned as f64 - expected).powi(2) / expected } else { 0.0 }
        })
        .sum();
    let p = ChiSquared::new((assigned.len() - 1) as f64).map_or(1.0, |chi| chi.sf(statistic));
    (p, p < MISMATCH_BELOW)
}

/// Units per variant to see a relative lift of 10 % over this rate with 80 % power: two proportions, two-sided (Fleiss, Levin and Paik,
/// *Statistical Methods for Rates and Proportions*, without continuity correction). None: there is no rate yet.
pub(super) fn minimum_sample(rate: f64, confidence: f64) -> Option<u64> {
    let other = rate * (1.0 + LIFT_SOUGHT);
    if rate <= 0.0 || other >= 1.0 {
        return None;
    }
    let mean = (rate + other) / 2.0;
    let (z, z_power) = (z_of(confidence), normal_quantile(POWER));
    let root = z * (2.0 * mean * (1.0 - mean)).sqrt() + z_power * (rate * (1.0 - rate) + other * (1.0 - other)).sqrt();
    Some((root.powi(2) / (other - rate).powi(2)).ceil() as u64)
}

/// May be looked at any number of times: the mixture sequential probability ratio test of a difference (Johari, Koomen, Pekelis and Walsh,
/// *Always Valid Inference*, Operations Research 2022), with a normal mixture. p-value and interval of `a` − `b`.
pub(super) fn sequential(a: Proportion, b: Proportion, confidence: f64) -> (f64, Interval) {
    let variance = a.variance() + b.variance();
    if !variance.is_finite() || variance <= 0.0 {
        return (1.0, (-1.0, 1.0));
    }
    let (difference, mixture) = (a.rate() - b.rate(), MIXTURE_SD * MIXTURE_SD);
    let both = variance + mixture;
    let ln_ratio = 0.5 * (variance / both).ln() + mixture * difference.powi(2) / (2.0 * variance * both);
    let half = (variance * both / mixture * (2.0 * (1.0 / (1.0 - confidence)).ln() + (both / variance).ln())).sqrt();
    ((-ln_ratio).exp().min(1.0), ((difference - half).max(-1.0), (difference + half).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(successes: u64, trials: u64) -> Proportion {
        Proportion { successes, trials }
    }

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9_f64.max(expected.abs() * 1e-7), "{found} is not {expected}");
    }

    #[track_caller]
    fn both_near(found: Interval, low: f64, high: f64) {
        near(found.0, low);
        near(found.1, high);
    }

    /// Newcombe, Statistics in Medicine 17 (1998), 857–872, table I, method 3; to all digits by statsmodels 0.15
    /// (`proportion_confint(…, method="wilson")`).
    #[test]
    fn score_intervals_are_those_that_were_published() {
        both_near(wilson(of(81, 263), 0.95), 0.255_288_519_878_274_2, 0.366_209_576_982_800_04);
        both_near(wilson(of(15, 148), 0.95), 0.062_386_399_530_736_28, 0.160_487_241_723_308_03);
        both_near(wilson(of(0, 20), 0.95), 0.0, 0.161_125_158_052_819_38);
        both_near(wilson(of(1, 29), 0.95), 0.006_113_214_292_762_667, 0.171_755_218_793_203_24);
        assert_eq!(wilson(of(0, 0), 0.95), (0.0, 1.0));
    }

    /// The same volume, 873–890, table II, method 10; digits by statsmodels (`confint_proportions_2indep(…, method="newcomb")`).
    #[test]
    fn intervals_of_differences_are_those_that_were_published() {
        both_near(difference(of(56, 70), of(48, 80), 0.95), 0.052_431_472_402_364_98, 0.333_872_654_036_906_14);
        both_near(difference(of(9, 10), of(3, 10), 0.95), 0.170_522_723_934_502_9, 0.809_017_973_535_488);
        both_near(difference(of(6, 7), of(2, 7), 0.95), 0.058_227_927_482_312_09, 0.806_249_637_524_227_8);
        both_near(difference(of(5, 56), of(0, 29), 0.95), -0.038_137_147_903_536_936, 0.192_560_013_855_111_65);
        both_near(difference(of(0, 10), of(0, 20), 0.95), -0.161_125_158_052_819_1, 0.277_532_799_862_889_26);
        both_near(difference(of(10, 10), of(0, 10), 0.95), 0.607_509_350_430_524_1, 1.0);
    }

    /// By statsmodels 0.15 (`proportions_ztest`) and SciPy 1.17 (`chisquare`).
    #[test]
    fn tests_have_the_p_values_of_statistics_libraries() {
        near(p_value(of(250, 1_000), of(200, 1_000)), 0.007_419_649_261_025_687);
        near(p_value(of(1_205, 10_000), of(1_100, 10_000)), 0.020_066_066_322_912_496);
        near(p_value(of(5, 50), of(5, 50)), 1.0);
        near(p_value(of(0, 50), of(0, 50)), 1.0);
        near(sample_ratio(&[5_100, 4_900], &[1, 1]).0, 0.045_500_263_896_358_57);
        near(sample_ratio(&[3_400, 3_300, 3_300], &[1, 1, 1]).0, 0.367_879_441_171_442_45);
        near(sample_ratio(&[7_000, 2_900], &[7, 3]).0, 0.124_729_644_577_452_89);
        assert!(!sample_ratio(&[5_100, 4_900], &[1, 1]).1);
        assert!(sample_ratio(&[5_300, 4_700], &[1, 1]).1);
    }

    /// By numerical integration with SciPy 1.17 (`integrate.quad` over `stats.beta`).
    #[test]
    fn the_probability_to_be_best_is_that_of_the_posteriors() {
        let two = probabilities_best(&[of(200, 1_000), of(250, 1_000)]);
        near(two[0], 0.003_716_670_869_559_781);
        near(two[1], 0.996_283_329_130_441);
        let same = probabilities_best(&[of(5, 50), of(5, 50)]);
        assert!((same[0] - 0.5).abs() < 1e-9 && (same[1] - 0.5).abs() < 1e-9, "{same:?}");
        let three = probabilities_best(&[of(0, 10), of(3, 12), of(2, 9)]);
        for (found, expected) in three.iter().zip([0.027_366_016_259_183_6, 0.521_412_100_551_142_4, 0.451_221_882_317_604_7]) {
            assert!((found - expected).abs() < 1e-7, "{found} is not {expected}");
        }
        assert!((probabilities_best(&[of(0, 0), of(0, 0)])[0] - 0.5).abs() < 1e-9);
        assert!((probabilities_best(&[of(1_000_000, 2_000_000), of(1, 2)]).iter().sum::<f64>() - 1.0).abs() < 1e-6);
    }

    /// By the formula in Python with SciPy's quantiles.
    #[test]
    fn planned_samples_grow_as_rates_fall_and_confidence_rises() {
        assert_eq!(minimum_sample(0.2, 0.95), Some(6_510));
        assert_eq!(minimum_sample(0.05, 0.95), Some(31_234));
        assert_eq!(minimum_sample(0.1, 0.99), Some(21_950));
        assert_eq!(minimum_sample(0.0, 0.95), None);
    }

    /// By the formula in Python with NumPy.
    #[test]
    fn sequential_readings_are_wider_than_those_at_a_fixed_time() {
        let (p, interval) = sequential(of(250, 1_000), of(200, 1_000), 0.95);
        near(p, 0.213_974_874_581_109_98);
        both_near(interval, -0.016_243_599_014_027_47, 0.116_243_599_014_027_45);
        let (p, interval) = sequential(of(1_205, 10_000), of(1_100, 10_000), 0.95);
        near(p, 0.346_610_221_208_331_5);
        both_near(interval, -0.003_400_487_125_317_809, 0.024_400_487_125_317_8);
        assert_eq!(sequential(of(0, 0), of(1, 2), 0.95), (1.0, (-1.0, 1.0)));
    }

    #[test]
    fn reading_again_and_again_finds_a_difference_where_there_is_none_no_more_often_than_said() {
        // Two arms of one rate, looked at after every 100 units of each: the sequential p-value falls below 0.05 in at most about 5 % of
        // the experiments, the one for a fixed time in far more.
        let (mut sequentially, mut naively, experiments) = (0, 0, 400);
        let mut buckets = segue_model::bucket::Buckets::new("a/a");
        let mut unit = 0;
        let mut draw = || {
            unit += 1;
            u64::from(buckets.bucket(unit) < 2_000)
        };
        for _ in 0..experiments {
            let (mut a, mut b) = (of(0, 0), of(0, 0));
            let (mut found, mut found_naively) = (false, false);
            for _ in 0..50 {
                for _ in 0..100 {
                    a = of(a.successes + draw(), a.trials + 1);
                    b = of(b.successes + draw(), b.trials + 1);
                }
                found |= sequential(a, b, 0.95).0 < 0.05;
                found_naively |= p_value(a, b) < 0.05;
            }
            sequentially += i32::from(found);
            naively += i32::from(found_naively);
        }
        assert!(sequentially * 100 <= experiments * 6, "{sequentially} of {experiments}");
        assert!(naively * 100 >= experiments * 15, "{naively} of {experiments}");
    }
}
