//! Every kind of step.

use segue_model::bucket::Buckets;
use segue_proto::campaign::v1::update_trait_step::To;
use segue_proto::campaign::v1::{
    BranchArm, BranchStep, ExperimentStep, ListStep, SplitArm, SplitStep, UpdateTraitStep, Variant, WebhookStep,
};

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn split(weights: &[(u32, &str)]) -> Kind {
    Kind::Split(SplitStep { arms: weights.iter().map(|(weight, next)| SplitArm { weight: *weight, next: (*next).to_owned() }).collect() })
}

fn experiment(variants: &[(&str, u32, &str)]) -> Kind {
    let variant = |(name, weight, next): &(&str, u32, &str)| Variant {
        name: (*name).to_owned(),
        weight: *weight,
        next: (*next).to_owned(),
        control: false,
    };
    Kind::Experiment(ExperimentStep { variants: variants.iter().map(variant).collect(), goal: String::new() })
}

#[test]
fn steps_without_waits_are_done_one_after_the_other() {
    let webhook = WebhookStep { channel: "hook".to_owned(), template: "body".to_owned(), expires: None };
    let update = UpdateTraitStep { r#trait: "stage".to_owned(), to: Some(To::Value(text("new"))) };
    let list = |remove| Kind::List(ListStep { list: "seen".to_owned(), remove });
    let scenario = compiled(&by_call(vec![
        message("m", "h"),
        step("h", Kind::Webhook(webhook), "u"),
        step("u", Kind::UpdateTrait(update), "l"),
        step("l", list(false), "r"),
        step("r", list(true), "e"),
        end("e"),
    ]));
    let mut run = run_at(0);
    let effects = go(&scenario, &mut run, 5);
    let expected = [
        Effect::Send { step: 0, visit: 1 },
        Effect::Send { step: 1, visit: 2 },
        Effect::UpdateTrait { step: 2, visit: 3 },
        Effect::List { step: 3 },
        Effect::List { step: 4 },
    ];
    assert_eq!(effects, expected);
    let decisions = [("m", "send"), ("h", "send"), ("u", "set stage"), ("l", "added to seen"), ("r", "removed from seen"), ("e", "ended")];
    assert_eq!(visited(&run), pairs(&decisions));
    assert_eq!((run.ended, run.state.visits, run.state.step.as_str()), (Some((5, EndReason::Completed)), 6, "e"));
    assert_eq!(run.state.history[0].decision, format!("send {}", crate::sends::id("spring", "m", 7, "1.1")));
}

#[test]
fn a_wait_lasts_its_time_and_not_a_moment_less() {
    let scenario = compiled(&by_call(vec![wait("w", Wait::Duration(seconds(60)), "m"), message("m", "")]));
    let mut run = run_at(0);
    assert_eq!(go(&scenario, &mut run, 100), []);
    let due = 60 * SECOND + 100;
    assert_eq!((run.due_us, run.state.waiting, run.state.step.as_str()), (Some(due), true, "w"));
    let waiting = run.clone();
    for early in [-DAY, 0, due - 1] {
        assert_eq!(go(&scenario, &mut run, early), []);
        assert_eq!(run, waiting);
    }
    assert_eq!(go(&scenario, &mut run, due), [Effect::Send { step: 1, visit: 2 }]);
    assert_eq!(visited(&run), pairs(&[("w", "waited"), ("m", "send")]));
}

#[test]
fn a_wait_for_events_takes_the_first_arm_that_matches_or_times_out() {
    let arms = [("a", "cart", "x"), ("b", "", "y"), ("b", "", "z")];
    let steps =
        vec![event_wait("w", &arms, seconds(60), "late"), message("x", ""), message("y", ""), message("z", ""), message("late", "")];
    let mut definition = by_event("in", "cart", steps);
    // The third arm is reached by nobody: the second takes all of its events.
    definition.goals = vec![goal("g", "c", seconds(9))];
    let scenario = compiled(&definition);
    let due = 60 * SECOND;
    for (name, cart, time, now, done) in [
        ("a", "c1", 1, 1, Some("x")),
        ("a", "c2", 1, 1, None),
        ("b", "c2", 1, 1, Some("y")),
        ("c", "c1", 1, 1, None),
        // In time by the clock, or by its own time.
        ("b", "", due + 1, due - 1, Some("y")),
        ("b", "", due, due + DAY, Some("y")),
        ("b", "", due + 1, due, None),
    ] {
        let mut run = Run { entry_key: "c1".to_owned(), ..run_at(0) };
        go(&scenario, &mut run, 0);
        assert_eq!(run.due_us, Some(due));
        let effects = meet(&scenario, &mut run, &event(name, "m2", time, &[("cart", text(cart))]), now);
        assert_eq!(steps_of(&run).last().copied(), done, "{name} {cart} {time} {now}");
        assert_eq!(run.ended.is_some(), done.is_some());
        let reached_or_sent = effects.len();
        assert_eq!(reached_or_sent, usize::from(done.is_some() || name == "c"), "{effects:?}");
    }
    let mut run = run_at(0);
    go(&scenario, &mut run, 0);
    go(&scenario, &mut run, due);
    assert_eq!(visited(&run), pairs(&[("w", "timed out"), ("late", "send")]));
}

#[test]
fn an_event_before_the_wait_began_its_turn_is_not_waited_for() {
    let scenario = compiled(&by_call(vec![event_wait("w", &[("a", "", "m")], seconds(60), ""), message("m", "")]));
    let mut run = run_at(0);
    // It has been entered, and has not begun its first step.
    assert_eq!(meet(&scenario, &mut run, &event("a", "m2", 5, &[]), 5), []);
    assert_eq!((run.state.visits, run.due_us), (0, None));
}

#[test]
fn a_branch_asks_for_all_its_arms_and_takes_the_first_that_holds() {
    let arm = |next: &str| BranchArm { condition: Some(condition()), next: next.to_owned() };
    let branch = Kind::Branch(BranchStep { arms: vec![arm("x"), arm("y")] });
    let scenario = compiled(&by_call(vec![message("m", "b"), step("b", branch, "z"), end("x"), end("y"), end("z")]));
    for (truths, took, decision) in
        [([true, true], "x", "arm 1"), ([true, false], "x", "arm 1"), ([false, true], "y", "arm 2"), ([false, false], "z", "no arm")]
    {
        let mut run = run_at(0);
        let (next, effects) = put(&scenario, &mut run, Input::Go, &Facts::default(), 5);
        assert_eq!(next, Next::Ask(Ask::Conditions { step: 1 }));
        assert_eq!(effects, [Effect::Send { step: 0, visit: 1 }]);
        assert_eq!((run.state.step.as_str(), run.due_us, run.state.waiting), ("b", Some(5), false));
        let mut facts = Facts { conditions: BTreeMap::from([((1, 0), truths[0])]), ..Facts::default() };
        assert_eq!(put(&scenario, &mut run, Input::Go, &facts, 5), (Next::Ask(Ask::Conditions { step: 1 }), vec![]));
        facts.conditions.insert((1, 1), truths[1]);
        assert_eq!(put(&scenario, &mut run, Input::Go, &facts, 5), (Next::Rest, vec![]));
        assert_eq!(visited(&run), pairs(&[("m", "send"), ("b", decision), (took, "ended")]));
    }
}

#[test]
fn a_split_draws_by_its_weights_anew_for_every_run_and_the_same_when_repeated() {
    let scenario = compiled(&by_call(vec![step("s", split(&[(1, "x"), (3, "y")]), ""), end("x"), end("y")]));
    let mut took_first = 0;
    for id in 0..4_000 {
        let mut run = Run { id, ..run_at(0) };
        let mut again = run.clone();
        go(&scenario, &mut run, 0);
        go(&scenario, &mut again, DAY);
        assert_eq!(steps_of(&run), steps_of(&again));
        let bucket = Buckets::new(&format!("split:spring:s:{id}:1")).bucket(42);
        assert_eq!(steps_of(&run)[1], if bucket < 2_500 { "x" } else { "y" });
        took_first += usize::from(bucket < 2_500);
    }
    assert!((900..1_100).contains(&took_first), "{took_first}");
}

#[test]
fn an_experiment_gives_each_person_a_variant_for_good() {
    let steps = |variants: &[(&str, u32, &str)]| vec![step("e", experiment(variants), ""), end("x"), end("y")];
    let scenario = compiled(&by_call(steps(&[("a", 1, "x"), ("b", 1, "y")])));
    let known = Facts { assignments_known: true, ..Facts::default() };
    for person in 1..500 {
        let mut run = Run { person, ..run_at(0) };
        assert_eq!(put(&scenario, &mut run, Input::Go, &Facts::default(), 0).0, Next::Ask(Ask::Assignments));
        let (_, effects) = put(&scenario, &mut run, Input::Go, &known, 0);
        let (variant, next) = if Buckets::new("experiment:spring:e").bucket(person) < 5_000 { ("a", "x") } else { ("b", "y") };
        let (step, variant) = ("e".to_owned(), variant.to_owned());
        let exposed = Effect::Exposed { step: step.clone(), variant: variant.clone(), visit: 1 };
        assert_eq!(effects, [Effect::Assign { step, variant: variant.clone() }, exposed]);
        assert_eq!(visited(&run), pairs(&[("e", &format!("variant {variant}")), (next, "ended")]));
        assert_eq!(run.state.variants, BTreeMap::from([("e".to_owned(), variant.clone())]));
        assert_eq!(run.state.last_variant, format!("e={variant}"));
        // What was assigned once stays, whatever the weights are now.
        let changed = compiled(&by_call(steps(&[("c", 9_999, "x"), ("a", 1, "x"), ("b", 1, "y")])));
        let mut later = Run { person, ..run_at(0) };
        let (_, effects) = put(&changed, &mut later, Input::Go, &assigned("e", &variant), 0);
        assert_eq!(effects, [Effect::Exposed { step: "e".to_owned(), variant, visit: 1 }]);
    }
    // One that is no more is replaced.
    let mut run = run_at(0);
    let (_, effects) = put(&scenario, &mut run, Input::Go, &assigned("e", "gone"), 0);
    assert!(matches!(&effects[..], [Effect::Assign { .. }, Effect::Exposed { .. }]), "{effects:?}");
}

#[test]
fn a_loop_through_an_experiment_assigns_once() {
    let steps = vec![step("e", experiment(&[("a", 1, "w"), ("b", 1, "w")]), ""), wait("w", Wait::Duration(seconds(1)), "e")];
    let scenario = compiled(&by_call(steps));
    let known = Facts { assignments_known: true, ..Facts::default() };
    let mut run = run_at(0);
    let first = put(&scenario, &mut run, Input::Go, &known, 0).1;
    let second = put(&scenario, &mut run, Input::Go, &known, DAY).1;
    assert_eq!((first.len(), second.len()), (2, 1));
    assert!(matches!(&second[..], [Effect::Exposed { visit: 3, .. }]), "{second:?}");
}

#[test]
fn a_step_that_is_no_more_ends_the_run_there() {
    let scenario = compiled(&by_call(vec![message("m", "")]));
    let mut run = run_at(0);
    run.state.step = "gone".to_owned();
    assert_eq!(go(&scenario, &mut run, 5), []);
    assert_eq!(run.ended, Some((5, EndReason::NoStep)));
}

#[test]
fn after_so_many_steps_the_run_is_due_at_once() {
    let steps: Vec<Step> = (0..60).map(|at| message(&format!("m{at}"), &format!("m{}", at + 1))).chain([end("m60")]).collect();
    let scenario = compiled(&by_call(steps));
    let mut run = run_at(0);
    let mut effects = Vec::new();
    for (calls, done) in [(1, 0), (1, 0)].into_iter().chain((1..=15).map(|call| (1, call * 4))) {
        let steps_max = if done == 0 { 0 } else { 4 };
        for _ in 0..calls {
            assert_eq!(advance(&scenario, &mut run, Input::Go, &Facts::default(), 9, steps_max, &mut effects), Next::Rest);
        }
        assert_eq!((run.state.visits, run.due_us, run.ended), (done, Some(9), None));
    }
    assert_eq!(advance(&scenario, &mut run, Input::Go, &Facts::default(), 9, 4, &mut effects), Next::Rest);
    assert_eq!((run.state.visits, run.ended, effects.len()), (61, Some((9, EndReason::Completed)), 60));
    assert_eq!(run.state.history.len(), 50);
    assert_eq!(steps_of(&run)[0], "m11");
}

#[test]
fn with_no_steps_to_do_an_event_is_taken_note_of_all_the_same() {
    let scenario = compiled(&by_call(vec![event_wait("w", &[("a", "", "m")], seconds(60), ""), message("m", "")]));
    let mut run = run_at(0);
    go(&scenario, &mut run, 0);
    let mut effects = Vec::new();
    advance(&scenario, &mut run, Input::Event(&event("a", "m2", 5, &[])), &Facts::default(), 5, 0, &mut effects);
    assert_eq!((effects.len(), run.state.step.as_str(), run.due_us, run.state.waiting), (0, "m", Some(5), false));
    assert_eq!(go(&scenario, &mut run, 6).len(), 1);
}
