//! The models' cases, and a comparison with a plain reference.

use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;

const DAY: i64 = 86_400_000_000;

fn touch(ts: i64, sequence: u64, value: u32) -> Touch {
    Touch { ts, sequence, value }
}

/// Touches on these days (times of midnight), numbered from 1, with sequences in their order.
fn on_days(days: &[i64]) -> Vec<Touch> {
    days.iter().enumerate().map(|(at, day)| touch(day * DAY, at as u64, at as u32 + 1)).collect()
}

fn within(model: Model, look_back_us: i64) -> Attribution {
    Attribution { model, look_back_us }
}

fn credits(attribution: Attribution, touches: &[Touch], ts: i64, sequence: u64) -> Vec<(u32, u64)> {
    let mut credits = Vec::new();
    attribution.credit(touches, ts, sequence, &mut credits);
    credits.into_iter().map(|credit| (credit.value, credit.parts)).collect()
}

fn position(first: u32, last: u32) -> Model {
    Model::Position(Position::new(first, last).expect("percentages"))
}

fn decay(half_life_us: i64) -> Model {
    Model::TimeDecay { half_life_us: NonZeroU64::new(half_life_us.unsigned_abs()).expect("above zero") }
}

/// A name, the model, the days of the touches, and the expected values and parts.
type Case = (&'static str, Model, &'static [i64], Vec<(u32, u64)>);

#[test]
fn each_model_shares_the_credit_as_it_says() {
    let percent = WHOLE / 100;
    let default_position = Model::Position(Position::default());
    let cases: Vec<Case> = vec![
        ("no touch at all", Model::LastTouch, &[], vec![]),
        ("one touch", Model::FirstTouch, &[3], vec![(1, WHOLE)]),
        ("one touch", Model::LastTouch, &[3], vec![(1, WHOLE)]),
        ("one touch", Model::Linear, &[3], vec![(1, WHOLE)]),
        ("one touch", default_position, &[3], vec![(1, WHOLE)]),
        ("one touch", decay(7 * DAY), &[3], vec![(1, WHOLE)]),
        ("the first of three", Model::FirstTouch, &[2, 3, 5], vec![(1, WHOLE)]),
        ("the last of three", Model::LastTouch, &[2, 3, 5], vec![(3, WHOLE)]),
        ("a third each", Model::Linear, &[2, 3, 5], vec![(1, WHOLE / 3), (2, WHOLE / 3), (3, WHOLE / 3)]),
        ("half each", default_position, &[2, 3], vec![(1, WHOLE / 2), (2, WHOLE / 2)]),
        ("40, 20, 40", default_position, &[2, 3, 5], vec![(1, 40 * percent), (2, 20 * percent), (3, 40 * percent)]),
        (
            "40, 10, 10, 40",
            default_position,
            &[2, 3, 4, 5],
            vec![(1, 40 * percent), (2, 10 * percent), (3, 10 * percent), (4, 40 * percent)],
        ),
        ("30 and 10 of two are three quarters and one", position(30, 10), &[2, 3], vec![(1, 75 * percent), (2, 25 * percent)]),
        ("nothing left for those between", position(60, 40), &[2, 3, 5], vec![(1, 60 * percent), (3, 40 * percent)]),
        ("nothing for the first", position(0, 40), &[2, 3, 5], vec![(2, 60 * percent), (3, 40 * percent)]),
        ("one half-life apart: 1 to 2", decay(DAY), &[4, 5], vec![(1, WHOLE / 3), (2, WHOLE / 3 * 2)]),
        ("weights 1, 2 and 8", decay(DAY), &[2, 3, 5], vec![(1, WHOLE / 11), (2, WHOLE / 11 * 2), (3, WHOLE / 11 * 8)]),
        ("weights that vanish beside the last", decay(1), &[2, 3, 5], vec![(3, WHOLE)]),
    ];
    for (name, model, days, expected) in cases {
        let found = credits(within(model, 7 * DAY), &on_days(days), 6 * DAY, 99);
        // Weights are floating point: a share may miss its exact value by one part, which the last touch then has.
        let exact = !matches!(model, Model::TimeDecay { .. });
        let near = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && a.1.abs_diff(b.1) <= if exact { 0 } else { 2 });
        assert!(near, "{name}, {model:?}: {found:?} instead of {expected:?}");
        assert!(found.is_empty() || found.iter().map(|(_, parts)| parts).sum::<u64>() == WHOLE, "{name}");
    }
}

#[test]
fn the_remainder_goes_to_the_last_touch() {
    let touches: Vec<Touch> = (0..23).map(|at| touch(at, 0, at as u32)).collect();
    let found = credits(within(Model::Linear, DAY), &touches, 100, 0);
    let each = WHOLE / 23;
    assert_eq!(found[..22], (0..22).map(|at| (at, each)).collect::<Vec<_>>());
    assert_eq!(found[22], (22, WHOLE - 22 * each));
    assert!(found[22].1 > each);
}

#[test]
fn the_window_is_open_at_its_start_and_closed_at_its_end() {
    let hour = DAY / 24;
    let last = |touches: &[Touch], ts, sequence| credits(within(Model::LastTouch, hour), touches, ts, sequence);
    let first = |touches: &[Touch], ts, sequence| credits(within(Model::FirstTouch, hour), touches, ts, sequence);
    // A touch exactly one window ago is out, one a microsecond later is in.
    assert_eq!(last(&[touch(0, 0, 7)], hour, 1), []);
    assert_eq!(last(&[touch(1, 0, 7)], hour, 1), [(7, WHOLE)]);
    assert_eq!(first(&[touch(0, 0, 7), touch(1, 1, 8)], hour, 2), [(8, WHOLE)]);
    // A touch at the event's own time counts if it came in before the event, or is the event.
    assert_eq!(last(&[touch(5, 3, 7)], 5, 4), [(7, WHOLE)]);
    assert_eq!(last(&[touch(5, 3, 7)], 5, 3), [(7, WHOLE)]);
    assert_eq!(last(&[touch(5, 3, 7)], 5, 2), []);
    // An event that carries values is its own last touch, whatever came before.
    assert_eq!(last(&[touch(4, 0, 6), touch(5, 3, 7), touch(5, 4, 8)], 5, 3), [(7, WHOLE)]);
    // Later touches never count.
    assert_eq!(last(&[touch(6, 0, 7)], 5, 9), []);
}

#[test]
fn the_event_model_knows_the_event_itself_alone() {
    let touches = [touch(4, 0, 6), touch(5, 3, 7), touch(5, 4, 8)];
    let event = |ts, sequence| credits(within(Model::Event, DAY), &touches, ts, sequence);
    assert_eq!(event(5, 3), [(7, WHOLE)]);
    assert_eq!(event(5, 5), []);
    assert_eq!(event(6, 0), []);
}

#[test]
fn times_at_the_ends_of_the_calendar_do_not_overflow() {
    let touches = [touch(i64::MIN, 0, 1), touch(i64::MAX, 0, 2)];
    for model in [Model::LastTouch, decay(1), decay(i64::MAX), Model::Linear] {
        assert_eq!(credits(within(model, i64::MAX), &touches, i64::MIN, 0), []);
        assert_eq!(credits(within(model, i64::MAX), &touches, i64::MAX, 0), [(2, WHOLE)]);
    }
}

#[test]
fn percentages_over_a_hundred_and_none_at_all_are_refused() {
    assert_eq!(Position::new(60, 41), Err(PositionError::Over100 { first: 60, last: 41 }));
    assert_eq!(Position::new(300, 0), Err(PositionError::Over100 { first: 300, last: 0 }));
    assert_eq!(Position::new(0, 0), Err(PositionError::Nothing));
    assert_eq!(Position::new(100, 0).map(|position| (position.first(), position.last())), Ok((100, 0)));
}

/// The rules, said once more without regard to cost: every touch looked at, weights as fractions of their sum.
fn reference(attribution: Attribution, touches: &[Touch], ts: i64, sequence: u64) -> Vec<(u32, f64)> {
    let is_before = |touch: &&Touch| touch.ts < ts || touch.ts == ts && touch.sequence <= sequence;
    let seen: Vec<&Touch> = match attribution.model {
        Model::Event => touches.iter().filter(|touch| touch.ts == ts && touch.sequence == sequence).collect(),
        _ => touches.iter().filter(is_before).filter(|touch| ts - touch.ts < attribution.look_back_us).collect(),
    };
    let count = seen.len();
    let weight = |at: usize| match attribution.model {
        Model::Event | Model::Linear => 1.0,
        Model::FirstTouch => f64::from(u8::from(at == 0)),
        Model::LastTouch => f64::from(u8::from(at + 1 == count)),
        Model::Position(_) if count == 1 => 1.0,
        Model::Position(position) => match at {
            0 => f64::from(position.first()),
            at if at + 1 == count => f64::from(position.last()),
            _ => f64::from(100 - position.first() - position.last()) / (count - 2) as f64,
        },
        Model::TimeDecay { half_life_us } => 2_f64.powf(-((ts - seen[at].ts) as f64) / half_life_us.get() as f64),
    };
    let sum: f64 = (0..count).map(weight).sum();
    seen.iter().enumerate().map(|(at, touch)| (touch.value, weight(at) / sum)).filter(|(_, share)| *share * WHOLE as f64 >= 1.0).collect()
}

fn models() -> impl Strategy<Value = Model> {
    let percentages = (0_u32..=100, 0_u32..=100).prop_filter_map("percentages", |(first, last)| Position::new(first, last).ok());
    prop_oneof![
        Just(Model::Event),
        Just(Model::FirstTouch),
        Just(Model::LastTouch),
        Just(Model::Linear),
        percentages.prop_map(Model::Position),
        (5_i64..100).prop_map(decay),
    ]
}

proptest! {
    #[test]
    fn credits_are_those_of_the_plain_reference_and_add_up(
        model in models(),
        look_back in 1_i64..60,
        steps in prop::collection::vec((0_i64..6, 0_u32..5), 0..40),
        ts in 0_i64..120,
        sequence in 0_u64..40,
    ) {
        let mut at = 0;
        let touches: Vec<Touch> = steps
            .iter()
            .zip(0..)
            .map(|((step, value), sequence)| {
                at += step;
                touch(at, sequence, *value)
            })
            .collect();
        let attribution = within(model, look_back);
        let found = credits(attribution, &touches, ts, sequence);
        let expected = reference(attribution, &touches, ts, sequence);
        prop_assert_eq!(
            found.iter().map(|(value, _)| *value).collect::<Vec<_>>(),
            expected.iter().map(|(value, _)| *value).collect::<Vec<_>>()
        );
        for ((_, parts), (_, share)) in found.iter().zip(&expected) {
            // Rounded down by less than one part; the last has all that was cut off.
            prop_assert!((*parts as f64 - share * WHOLE as f64).abs() <= touches.len() as f64 + 1.0);
        }
        if !found.is_empty() {
            prop_assert_eq!(found.iter().map(|(_, parts)| parts).sum::<u64>(), WHOLE);
        }
        // Touches outside the window change nothing.
        let window = attribution.window(&touches, ts, sequence);
        prop_assert_eq!(credits(attribution, window, ts, sequence), found);
    }
}
