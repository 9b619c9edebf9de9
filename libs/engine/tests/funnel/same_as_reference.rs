//! Random small streams, with equal times and events that match several steps, under every option: the same as the plain reference.

use proptest::prelude::*;
use segue_engine::Hit;
use segue_engine::funnel::{
    Attempt, Breakdown, Counting, Entry, Exclusion, FunnelRule, FunnelSpec, Order, PlainFunnel, Scope, Since, Step, Tally, TimeLists,
    Touch, pack,
};

use crate::reference::{Choice, Reference, sessions, streams};

fn hits() -> impl Strategy<Value = Vec<Hit<Touch>>> {
    let event = (0i64..14, 0u32..64, 0u32..3, 0u32..3).prop_map(|(ts, matches, held, value)| (ts, matches, Touch { held, value }));
    prop::collection::vec(event, 0..8).prop_map(|events| {
        let mut hits: Vec<Hit<Touch>> = events
            .into_iter()
            .enumerate()
            .map(|(sequence, (ts, matches, payload))| Hit { ts, sequence: sequence as u64, matches, payload })
            .collect();
        hits.sort_by_key(|hit| (hit.ts, hit.sequence));
        hits
    })
}

/// Fewer matches per event, so that order matters more often than not.
fn sparse(hits: Vec<Hit<Touch>>) -> Vec<Hit<Touch>> {
    hits.into_iter().map(|hit| Hit { matches: (1 << (hit.matches % 4)) | (hit.matches & 0b110000), ..hit }).collect()
}

fn exclusions(steps: usize, order: Order) -> BoxedStrategy<Vec<Exclusion>> {
    if steps < 2 {
        return Just(Vec::new()).boxed();
    }
    let range = if order == Order::Any {
        Just((1, steps)).boxed()
    } else {
        (1..steps).prop_flat_map(move |from| (Just(from), from + 1..=steps)).boxed()
    };
    let scope = prop_oneof![3 => Just(Scope::Attempt), 1 => Just(Scope::Unit)];
    let exclusion =
        (4u32..6, range, scope).prop_map(|(selector, (from_step, to_step), scope)| Exclusion { selector, from_step, to_step, scope });
    prop::collection::vec(exclusion, 0..3).boxed()
}

fn spec() -> impl Strategy<Value = FunnelSpec> {
    let order = prop_oneof![Just(Order::Ordered), Just(Order::Strict), Just(Order::Any)];
    let counting = prop_oneof![Just(Counting::Units), (0i64..5).prop_map(|gap_us| Counting::Sessions { gap_us }), Just(Counting::Totals)];
    let steps = prop::collection::vec((0u32..4, any::<bool>()), 1..5);
    (order, steps, any::<bool>()).prop_flat_map(move |(order, steps, with_optional)| {
        let count = steps.len();
        let steps: Vec<Step> = steps
            .into_iter()
            .enumerate()
            .map(|(at, (selector, optional))| Step { selector, optional: optional && with_optional && at > 0 && order != Order::Any })
            .collect();
        let breakdown = prop_oneof![(1..=count).prop_map(Breakdown::AtStep), Just(Breakdown::FirstTouch), Just(Breakdown::LastTouch)];
        let rest = (0i64..12, exclusions(count, order), any::<bool>(), counting.clone(), any::<bool>(), breakdown);
        (Just(steps), Just(order), rest, 0i64..5, 1i64..14, prop::option::of(0i64..30)).prop_map(
            |(steps, order, (window_us, exclusions, first, counting, hold, breakdown), start, length, watermark_us)| FunnelSpec {
                steps,
                order,
                window_us,
                exclusions,
                entry: if first { Entry::First } else { Entry::Deepest },
                counting,
                hold,
                breakdown,
                range_us: start..start + length,
                watermark_us,
            },
        )
    })
}

/// Times of steps in two parts each, which overlap.
struct Lists(Vec<Vec<i64>>);

impl Lists {
    /// Bit i of `split` says into which part the i-th event goes.
    fn of(hits: &[Hit<Touch>], steps: u32, range: std::ops::Range<i64>, split: u64) -> Lists {
        let mut parts = vec![Vec::new(); 2 * steps as usize];
        for (at, hit) in hits.iter().enumerate() {
            let step = hit.matches.trailing_zeros();
            if step < steps && hit.ts >= range.start && (step > 0 || hit.ts < range.end) {
                parts[2 * step as usize + (split >> at & 1) as usize].push(hit.ts);
            }
        }
        Lists(parts)
    }
}

impl TimeLists for Lists {
    fn parts(&self, list: usize) -> std::ops::Range<usize> {
        2 * list..2 * list + 2
    }

    fn part(&self, number: usize) -> &[i64] {
        &self.0[number]
    }
}

/// Whether an event can begin an attempt.
fn begins(spec: &FunnelSpec, hit: &Hit<Touch>) -> bool {
    let able = match spec.order {
        Order::Ordered | Order::Strict => hit.is(spec.steps[0].selector as usize),
        Order::Any => spec.steps.iter().any(|step| hit.is(step.selector as usize)),
    };
    able && spec.range_us.contains(&hit.ts)
}

/// The best choices that an attempt may be: several, where events of equal time can be exchanged.
fn best(spec: &FunnelSpec, choices: &[Choice], attempt: &Attempt) -> Vec<Choice> {
    let Some(rank) = choices.iter().map(Choice::rank).min() else { return Vec::new() };
    let ranked = || choices.iter().filter(|choice| choice.rank() == rank);
    // With every step required there is no doubt about the times.
    let certain = spec.steps.iter().all(|step| !step.optional);
    let earliest = ranked().map(Choice::times).min();
    let times: Vec<Option<i64>> = (1..=attempt.depth).map(|number| attempt.time(number)).collect();
    let same = |choice: &&Choice| choice.times() == times && choice.value(spec.breakdown) == attempt.value;
    ranked().filter(same).filter(|choice| !certain || Some(choice.times()) == earliest).cloned().collect()
}

/// One attempt per unit or session.
fn check_one(spec: &FunnelSpec, hits: &[Hit<Touch>], until: i64, given: &mut std::slice::Iter<'_, Attempt>) -> Result<bool, TestCaseError> {
    let streams = streams(spec, hits);
    let mut starts = (spec.range_us.start, spec.range_us.end - 1);
    if spec.entry == Entry::First {
        let Some(first) = streams.iter().flatten().filter(|hit| begins(spec, hit)).map(|hit| hit.ts).min() else { return Ok(false) };
        starts = (first, first);
    }
    let mut choices = Vec::new();
    let (mut removed, mut still_open) = (false, false);
    for stream in &streams {
        let reference = Reference { spec, stream, starts };
        let found = reference.choices();
        removed |= reference.removed(&found);
        still_open |= reference.still_open(&found);
        choices.extend(found);
    }
    if removed || choices.is_empty() {
        return Ok(removed);
    }
    let Some(attempt) = given.next() else { return Err(TestCaseError::fail("an attempt is missing")) };
    prop_assert!(!best(spec, &choices, attempt).is_empty(), "not the best attempt: {attempt:?} of {choices:?}");
    let open = still_open && attempt.depth < spec.steps.len() && spec.watermark_us.is_some_and(|watermark| until >= watermark);
    prop_assert_eq!(attempt.still_open, open);
    Ok(false)
}

/// One attempt after another in the first stream, then in the others. Which of equal events an attempt used is not said, so that every
/// possibility is tried.
fn check_totals(spec: &FunnelSpec, rest: &[Hit<Touch>], others: &[Vec<Hit<Touch>>], given: &[Attempt]) -> Result<(), String> {
    let Some(first) = rest.iter().filter(|hit| begins(spec, hit)).map(|hit| hit.ts).min() else {
        return match others {
            [] if given.is_empty() => Ok(()),
            [] => Err(format!("more attempts than there are: {given:?}")),
            [next, others @ ..] => check_totals(spec, next, others, given),
        };
    };
    let rest: Vec<Hit<Touch>> = rest.iter().filter(|hit| hit.ts >= first).copied().collect();
    let last = if spec.entry == Entry::First { first } else { (first + spec.window_us).min(spec.range_us.end - 1) };
    let reference = Reference { spec, stream: &rest, starts: (first, last) };
    let mut choices = reference.choices();
    let ended = reference.ended(&choices);
    // What begins when everything before has ended is the next attempt; what is done after that, too.
    choices.retain(|choice| ended.is_none_or(|ended| reference.first_moment(choice) < ended && reference.last_moment(choice) <= ended));
    if reference.removed(&choices) {
        return Err("the unit should have been removed".to_owned());
    }
    let [attempt, given @ ..] = given else { return Err("an attempt is missing".to_owned()) };
    let complete = attempt.depth == spec.steps.len();
    if attempt.still_open != (!complete && ended.is_none() && reference.still_open(&choices)) {
        return Err(format!("not as open as it should be: {attempt:?}"));
    }
    let mut failure = format!("not the best attempt: {attempt:?} of {choices:?}");
    for choice in best(spec, &choices, attempt) {
        let expires = choice.start() + spec.window_us;
        let over = if complete { Some(reference.last_moment(&choice)) } else { ended.filter(|ended| ended.0 <= expires) };
        let left = |hit: &&Hit<Touch>| match over {
            Some(over) => reference.moment(hit) >= over && !choice.events.contains(&Some(**hit)),
            None => hit.ts > expires,
        };
        match check_totals(spec, &rest.iter().filter(left).copied().collect::<Vec<_>>(), others, given) {
            Ok(()) => return Ok(()),
            Err(found) => failure = found,
        }
    }
    Err(failure)
}

fn check(spec: &FunnelSpec, hits: &[Hit<Touch>]) -> Result<(), TestCaseError> {
    // What has happened is known.
    let known = hits.last().map_or(i64::MIN, |last| last.ts);
    let spec = &FunnelSpec { watermark_us: spec.watermark_us.map(|watermark| watermark.max(known)), ..spec.clone() };
    let outcome = crate::ask(spec, hits);
    let mut given = outcome.attempts.iter();
    let mut removed = false;
    if outcome.removed {
        // Then there are no attempts to go by; which are taken matters only where times are equal.
        prop_assert!(outcome.attempts.is_empty());
        prop_assert!(spec.exclusions.iter().any(|exclusion| exclusion.scope == Scope::Unit));
        if spec.counting == Counting::Totals {
            return Ok(());
        }
    }
    match spec.counting {
        Counting::Units => removed |= check_one(spec, hits, i64::MAX, &mut given)?,
        Counting::Sessions { gap_us } => {
            let all = sessions(hits, gap_us);
            for session in &all {
                let until = session.last().expect("never empty").ts + gap_us;
                // A removal takes all sessions, whatever the others hold.
                let before = given.clone();
                if outcome.removed {
                    removed |= matches!(check_one(spec, session, until, &mut given), Ok(true));
                    given = before;
                } else {
                    removed |= check_one(spec, session, until, &mut given)?;
                }
            }
        }
        Counting::Totals => {
            check_totals(spec, &[], &streams(spec, hits), given.as_slice()).map_err(TestCaseError::fail)?;
            given = [].iter();
        }
    }
    prop_assert_eq!(outcome.removed, removed);
    prop_assert!(given.next().is_none(), "more attempts than there are: {:?}", outcome);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6_000, ..ProptestConfig::default() })]

    #[test]
    fn attempts_are_those_of_the_reference(spec in spec(), hits in hits()) {
        check(&spec, &hits)?;
        check(&spec, &sparse(hits))?;
    }

    #[test]
    fn an_optional_step_changes_no_count_of_the_others(spec in spec(), hits in hits(), at in 1usize..4) {
        let spec = FunnelSpec { order: Order::Ordered, counting: Counting::Units, exclusions: Vec::new(), ..spec };
        let mut with = spec.clone();
        let at = at.min(with.steps.len());
        with.steps.insert(at, Step { selector: 3, optional: true });
        with.breakdown = Breakdown::AtStep(1);
        let (plain, with) = (crate::ask(&spec, &hits), crate::ask(&with, &hits));
        prop_assert_eq!(plain.attempts.len(), with.attempts.len());
        for (plain, with) in plain.attempts.iter().zip(&with.attempts) {
            let furthest = (1..=spec.steps.len()).filter(|number| plain.time(*number).is_some() && !spec.steps[number - 1].optional).max();
            let shifted = |number: usize| if number > at { number + 1 } else { number };
            let others = (1..=spec.steps.len())
                .filter(|number| with.time(shifted(*number)).is_some() && !spec.steps[number - 1].optional)
                .max();
            prop_assert_eq!(furthest, others);
        }
    }

    #[test]
    fn the_fast_ways_are_the_general_one(
        hits in hits(),
        steps in 1u32..5,
        (window, start, length) in (0i64..12, 0i64..5, 1i64..14),
        watermark_us in prop::option::of(0i64..30),
        split in any::<u64>(),
    ) {
        let spec = FunnelSpec { watermark_us, ..FunnelSpec::ordered(0..steps, window, start..start + length) };
        let rule = FunnelRule::new(spec.clone()).expect("a valid rule");
        let plain = PlainFunnel::of(&rule).expect("a plain funnel");
        let hits: Vec<Hit<Touch>> = hits.into_iter().map(|hit| Hit { matches: 1 << (hit.matches % 5), ..hit }).collect();
        let mut keys: Vec<u64> = hits
            .iter()
            .filter(|hit| hit.ts >= start && hit.matches.trailing_zeros() < steps)
            .map(|hit| pack((hit.ts - start) as u64, hit.matches.trailing_zeros()))
            .collect();
        keys.sort_unstable();
        let found = plain.run(&keys);
        let general = crate::ask(&spec, &hits).attempts;
        prop_assert_eq!(found.depth as usize, general.first().map_or(0, |attempt| attempt.depth));
        let lists = Lists::of(&hits, steps, start..start + length, split);
        let searched = plain.search(&lists);
        prop_assert_eq!(searched.depth, found.depth);
        if let Some(general) = general.first() {
            for (found, traced) in [(found, plain.trace(&keys, &found)), (searched, plain.trace_lists(&lists, &searched))] {
                prop_assert_eq!(traced.times().collect::<Vec<_>>(), general.times().collect::<Vec<_>>());
                prop_assert_eq!((traced.depth, traced.done, traced.still_open), (general.depth, general.done, general.still_open));
                prop_assert_eq!(found.still_open, general.still_open);
                prop_assert_eq!(Some(found.first), general.time(1));
                prop_assert_eq!(Some(found.last), general.time(general.depth));
            }
        }
    }

    #[test]
    fn tallies_of_parts_merge_into_that_of_all(units in prop::collection::vec(hits(), 0..8), spec in spec(), cut in 0usize..8) {
        let attempts: Vec<Attempt> = units.iter().flat_map(|hits| crate::ask(&spec, hits).attempts).collect();
        let tally = |attempts: &[Attempt]| {
            let mut tally = Tally::new(spec.steps.len());
            attempts.iter().for_each(|attempt| tally.add(attempt));
            tally
        };
        let (one, other) = attempts.split_at(cut.min(attempts.len()));
        let mut merged = tally(other);
        merged.merge(tally(one));
        let all = tally(&attempts);
        for number in 1..=spec.steps.len() {
            prop_assert_eq!(merged.reached(number), all.reached(number));
            prop_assert_eq!(merged.still_open(number), all.still_open(number));
            for since in [Since::Previous, Since::First] {
                prop_assert_eq!(Tally::conversion([&merged], number, since), Tally::conversion([&all], number, since));
                prop_assert_eq!(Tally::conversion([&tally(one), &tally(other)], number, since), Tally::conversion([&all], number, since));
            }
        }
    }
}
