//! How long it took: the same as sorting says.

use proptest::prelude::*;
use segue_engine::funnel::Conversion;

fn durations() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        prop::collection::vec(0u64..20, 1..40),
        prop::collection::vec(0u64..10_000_000, 1..400),
        prop::collection::vec(any::<u64>(), 1..60),
        // Most in one place, some far away.
        prop::collection::vec(prop_oneof![9 => 0u64..3, 1 => any::<u64>()], 1..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn figures_are_those_of_the_sorted_durations(durations in durations(), cuts in prop::collection::vec(0usize..400, 0..4)) {
        let mut parts: Vec<&[u64]> = Vec::new();
        let mut rest = durations.as_slice();
        for cut in cuts {
            let (one, other) = rest.split_at(cut.min(rest.len()));
            parts.push(one);
            rest = other;
        }
        parts.push(rest);
        let found = Conversion::of(&parts).expect("there are durations");
        let mut sorted = durations.clone();
        sorted.sort_unstable();
        let count = sorted.len();
        prop_assert_eq!(found.count, count as u64);
        prop_assert_eq!(found.sum_us, sorted.iter().map(|duration| u128::from(*duration)).sum::<u128>());
        prop_assert_eq!(found.middle_us, (sorted[(count - 1) / 2], sorted[count / 2]));
        prop_assert_eq!((found.min_us, found.max_us), (sorted[0], sorted[count - 1]));
        let buckets = &found.distribution;
        prop_assert_eq!(buckets[0].start_us, sorted[0]);
        prop_assert_eq!(buckets[buckets.len() - 1].end_us, sorted[count - 1]);
        prop_assert!(buckets.windows(2).all(|pair| pair[0].end_us == pair[1].start_us && pair[0].start_us < pair[0].end_us));
        for (at, bucket) in buckets.iter().enumerate() {
            let last = at + 1 == buckets.len();
            let inside = |duration: &&u64| {
                **duration >= bucket.start_us && (**duration < bucket.end_us || last && **duration == bucket.end_us)
            };
            prop_assert_eq!(bucket.count, sorted.iter().filter(inside).count() as u64);
        }
    }
}

#[test]
fn means_and_medians_are_exact() {
    for (durations, mean, median) in [
        (&[7_000_000][..], 7.0, 7.0),
        (&[1_000_000, 2_000_000], 1.5, 1.5),
        (&[3_000_000, 1_000_000, 2_000_000], 2.0, 2.0),
        (&[10_000_000, 0, 0, 2_000_000], 3.0, 1.0),
        (&[1, 2], 0.000_001_5, 0.000_001_5),
    ] {
        let found = Conversion::of(&[durations]).expect("there are durations");
        assert_eq!((found.mean_seconds(), found.median_seconds()), (mean, median), "{durations:?}");
    }
    assert_eq!(Conversion::of(&[]), None);
    assert_eq!(Conversion::of(&[&[], &[]]), None);
}
