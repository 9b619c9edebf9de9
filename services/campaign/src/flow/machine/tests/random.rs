//! Random scenarios, random happenings: the machine does as the plain reference does, and keeps its word.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use segue_proto::campaign::v1::update_trait_step::To;
use segue_proto::campaign::v1::{
    BranchArm, BranchStep, ExperimentStep, ListStep, LocalTime, SplitArm, SplitStep, TraitDate, UpdateTraitStep, Variant, WebhookStep,
};

use super::model::{DAYS, Happening, NAMES, happenings, model, truth};
use super::reference::Plain;
use super::*;

/// A run on its way, with everything that came of it.
struct Journey<'j> {
    scenario: &'j Compiled,
    person: Profile,
    run: Run,
    effects: Vec<Effect>,
    /// All steps that were done.
    done: Vec<(String, i64)>,
    assigned: BTreeMap<String, String>,
    steps_max: u32,
}

impl<'j> Journey<'j> {
    fn new(scenario: &'j Compiled, run: Run, steps_max: u32) -> Self {
        let day = |day: u32| text(&format!("1970-01-{:02}", day + 1));
        let person = profile("", &[("d1", day(DAYS[0])), ("d2", day(DAYS[1]))]);
        Self { scenario, person, run, effects: Vec::new(), done: Vec::new(), assigned: BTreeMap::new(), steps_max }
    }

    /// One call, checked: the same when repeated, no more steps than allowed, nothing after the end but conversions.
    fn call(&mut self, input: Input<'_>, facts: &Facts<'_>, now_us: i64) -> Next {
        let stored = serde_json::to_string(&self.run.state).expect("JSON");
        self.run.state = serde_json::from_str(&stored).expect("the same state");
        let before = self.run.clone();
        let mut again = self.run.clone();
        let (mut effects, mut repeated) = (Vec::new(), Vec::new());
        let next = advance(self.scenario, &mut self.run, input, facts, now_us, self.steps_max, &mut effects);
        let repeated_next = advance(self.scenario, &mut again, input, facts, now_us, self.steps_max, &mut repeated);
        assert_eq!((&next, &effects, &self.run), (&repeated_next, &repeated, &again));
        let steps = self.run.state.visits - before.state.visits;
        let by_event = u32::from(matches!(input, Input::Event(_)));
        assert!(steps <= self.steps_max + by_event, "{steps} steps");
        if before.ended.is_some() {
            assert!(effects.iter().all(|effect| matches!(effect, Effect::Converted { .. })), "{effects:?}");
            assert_eq!((next.clone(), self.run.ended, self.run.state.visits), (Next::Rest, before.ended, before.state.visits));
        }
        if self.run.ended.is_some() {
            assert_eq!((self.run.due_us, self.run.state.waiting), (None, false));
        }
        assert!(self.run.state.history.len() <= 50);
        let new = &self.run.state.history[self.run.state.history.len() - steps as usize..];
        self.done.extend(new.iter().map(|visited| (visited.step.clone(), visited.time_us)));
        for effect in &effects {
            if let Effect::Assign { step, variant } = effect {
                assert_eq!(self.assigned.insert(step.clone(), variant.clone()), None, "assigned twice");
            }
        }
        self.effects.append(&mut effects);
        next
    }

    /// Calls until it rests and is not due, and answers what it asks.
    fn settle(&mut self, input: Input<'_>, now_us: i64) {
        let (mut input, mut facts) = (input, Facts::default());
        let person = self.person.clone();
        for _ in 0..1_000 {
            match self.call(input, &facts, now_us) {
                Next::Ask(Ask::Person) => {
                    assert!(facts.person.replace(&person).is_none(), "it asks for what it knows");
                }
                Next::Ask(Ask::Assignments) => {
                    assert!(!facts.assignments_known, "it asks for what it knows");
                    facts.assignments_known = true;
                }
                Next::Ask(Ask::Conditions { step }) => {
                    assert!(!facts.conditions.contains_key(&(step, 0)), "it asks for what it knows");
                    facts.conditions.extend((0..10).map(|arm| ((step, arm), truth(step, arm, now_us / SECOND))));
                }
                Next::Rest => {
                    let is_due = self.run.due_us.is_some_and(|due| due <= now_us) && self.run.ended.is_none();
                    // A wait whose time has come while something else was put in is gone on with by the next Go.
                    if !is_due || (self.run.state.waiting && !matches!(input, Input::Go)) {
                        return;
                    }
                }
            }
            facts.assigned.clone_from(&self.assigned);
            input = Input::Go;
        }
        panic!("it never rests");
    }

    /// No step has the same effect twice at one visit.
    fn check_effects(&self) {
        let mut seen = BTreeSet::new();
        for effect in &self.effects {
            let what = match effect {
                Effect::Send { step, visit } => format!("send {step} {visit}"),
                Effect::UpdateTrait { step, visit } => format!("update {step} {visit}"),
                Effect::Exposed { step, visit, .. } => format!("exposed {step} {visit}"),
                Effect::Converted { goal, .. } => format!("converted {goal}"),
                Effect::Assign { .. } | Effect::List { .. } => continue,
            };
            assert!(seen.insert(what.clone()), "{what} twice");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_run_does_what_the_plain_reference_does(
        model in model(), happenings in happenings(), run in 0..1_000_u64, person in 1..1_000_u32, steps_max in 1..20_u32,
    ) {
        let scenario = match compile("spring", 1, &model.definition(), Tz::UTC) {
            Ok(scenario) => scenario,
            Err(faults) => return Err(TestCaseError::fail(format!("{faults:?}"))),
        };
        let start_s = 100_000;
        let mut now_s = start_s;
        let new = Run { id: run, person, entry_key: "c1".to_owned(), ..run_at(start_s * SECOND) };
        let mut journey = Journey::new(&scenario, new, steps_max);
        let mut plain = Plain::new(&model, start_s, run, person);
        journey.settle(Input::Go, now_s * SECOND);
        plain.happens(&Happening::Go, now_s);
        for (count, then) in happenings.iter().enumerate() {
            now_s += then.after_s;
            let mut met = None;
            if let Happening::Event { name, is_of_key, ago } = then.what {
                let cart = text(if is_of_key { "c1" } else { "c2" });
                met = Some(event(NAMES[name], &format!("e{count}"), (now_s - ago) * SECOND, &[("cart", cart)]));
            }
            for _ in 0..then.times {
                let input = match &then.what {
                    Happening::Go => Input::Go,
                    Happening::Audience { entered } => Input::Audience { audience: "lapsed", entered: *entered },
                    Happening::End => Input::End(EndReason::ExitCall),
                    Happening::Event { .. } => Input::Event(met.as_ref().expect("an event")),
                };
                journey.settle(input, now_s * SECOND);
                plain.happens(&then.what, now_s);
                let expected: Vec<(String, i64)> = plain.done.iter().map(|(at, when)| (format!("s{at}"), when * SECOND)).collect();
                prop_assert_eq!(&journey.done, &expected, "after {:?}", then);
                let ended = journey.run.ended.map(|(_, reason)| match reason {
                    EndReason::Completed => "completed",
                    EndReason::ExitRule => "rule",
                    EndReason::ExitCall => "call",
                    EndReason::ScenarioEnded | EndReason::Merged | EndReason::NoStep => "wrongly",
                });
                prop_assert_eq!(ended, plain.ended);
                prop_assert_eq!(journey.run.state.converted.len(), plain.converted);
            }
        }
        journey.check_effects();
    }

    #[test]
    fn broken_definitions_never_panic_and_what_compiles_goes_on_from_every_step(
        definition in definition(), jumps in vec(0..200_000_000_i64, 1..6),
    ) {
        let scenario = match compile("spring", 1, &definition, Tz::UTC) {
            Ok(scenario) => scenario,
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                prop_assert!(faults.iter().all(|fault| fault.field.starts_with("definition") && !fault.message.is_empty()));
                return Ok(());
            }
        };
        for step in &definition.steps {
            let mut run = run_at(0);
            run.state.step.clone_from(&step.id);
            let mut journey = Journey::new(&scenario, run, 100);
            let mut now_s = 0;
            for jump in &jumps {
                journey.settle(Input::Go, now_s * SECOND);
                now_s += jump;
            }
            let is_lost = journey.run.ended.is_some_and(|(_, reason)| reason == EndReason::NoStep);
            prop_assert!(!is_lost, "{:?}", journey.run);
        }
    }
}

fn broken_step() -> impl Strategy<Value = Step> {
    let id = || proptest::sample::select(vec!["s0", "s1", "s2", "s3", "s4", "s5"]).prop_map(str::to_owned);
    let to = || prop_oneof![8 => id(), 3 => Just(String::new()), 1 => Just("gone".to_owned()), 1 => any::<String>()];
    let word = || prop_oneof![12 => Just("word".to_owned()), 1 => any::<String>()];
    let length = || {
        (prop_oneof![9 => 1..5_u32, 1 => any::<u32>()], prop_oneof![9 => 1..7_i32, 1 => any::<i32>()])
            .prop_map(|(count, unit)| Span { count, unit })
    };
    let time = || prop_oneof![5 => Just("09:30".to_owned()), 1 => any::<String>()];
    let weight = || prop_oneof![9 => 1..5_u32, 1 => any::<u32>()];
    let condition = || prop_oneof![9 => Just(Some(condition())), 1 => Just(Some(Condition::default())), 1 => Just(None)];
    let select = || prop_oneof![9 => Just(Some(on(&["a"]))), 1 => Just(None)];
    let wait = prop_oneof![
        2 => length().prop_map(Wait::Duration),
        2 => (time(), vec(0..9_u32, 0..2)).prop_map(|(time, days_of_week)| Wait::UntilLocalTime(LocalTime { time, days_of_week })),
        2 => (word(), any::<i32>(), to(), any::<bool>()).prop_map(|(r#trait, offset_days, otherwise, every_year)| {
            Wait::UntilTraitDate(TraitDate { r#trait, offset_days, otherwise, every_year, time: String::new() })
        }),
        2 => (vec((select(), to()), 0..4), option::weighted(0.9, length())).prop_map(|(arms, timeout)| {
            let arms = arms.into_iter().map(|(on, next)| EventArm { on, next, entry_key_property: String::new() });
            Wait::ForEvent(EventWait { arms: arms.collect(), timeout })
        }),
    ];
    let kind = prop_oneof![
        2 => (word(), word()).prop_map(|(channel, template)| Kind::Message(MessageStep { channel, template, ..MessageStep::default() })),
        1 => (word(), word()).prop_map(|(channel, template)| Kind::Webhook(WebhookStep { channel, template, expires: None })),
        8 => option::weighted(0.95, wait).prop_map(|wait| Kind::Wait(WaitStep { wait })),
        1 => vec((condition(), to()), 0..4).prop_map(|arms| {
            Kind::Branch(BranchStep { arms: arms.into_iter().map(|(condition, next)| BranchArm { condition, next }).collect() })
        }),
        1 => vec((weight(), to()), 0..4).prop_map(|arms| {
            Kind::Split(SplitStep { arms: arms.into_iter().map(|(weight, next)| SplitArm { weight, next }).collect() })
        }),
        1 => vec((word(), weight(), to()), 0..4).prop_map(|variants| {
            let variants = variants.into_iter().enumerate().map(|(at, (name, weight, next))| Variant {
                name: if name == "word" { format!("v{at}") } else { name },
                weight,
                next,
                control: false,
            });
            Kind::Experiment(ExperimentStep { variants: variants.collect(), goal: String::new() })
        }),
        1 => word().prop_map(|r#trait| Kind::UpdateTrait(UpdateTraitStep { r#trait, to: Some(To::Value(text("x"))) })),
        1 => word().prop_map(|list| Kind::List(ListStep { list, remove: true })),
        1 => Just(Kind::End(EndStep {})),
    ];
    (id(), option::weighted(0.95, kind), to()).prop_map(|(id, kind, next)| {
        let next = if matches!(kind, Some(Kind::End(_))) { String::new() } else { next };
        Step { id, next, kind }
    })
}

/// Many are good: steps are numbered as their ids say.
fn definition() -> impl Strategy<Value = ScenarioDefinition> {
    let steps = vec(broken_step(), 0..5);
    (steps, proptest::bool::weighted(0.9), proptest::bool::weighted(0.9)).prop_map(|(mut steps, numbered, entered)| {
        if numbered {
            steps.iter_mut().enumerate().for_each(|(at, step)| step.id = format!("s{at}"));
        }
        let mut definition = by_call(steps);
        if !entered {
            definition.entry = None;
        }
        definition
    })
}
