//! What a run does on an input.

use segue_model::Decimal4;
use segue_model::bucket::{BUCKETS, Buckets};
use segue_model::decimal::SCALE;
use segue_proto::campaign::v1::step::Kind;
use segue_proto::campaign::v1::wait_step::Wait;
use segue_proto::campaign::v1::{
    AudienceEntry, BranchStep, EventWait, ExperimentStep, Goal, SplitStep, Step, UpdateTraitStep, WaitStep, exit_rule,
};
use segue_proto::events::v1::value::Kind as ValueKind;
use segue_proto::events::v1::{Item, ResolvedEvent};

use super::local::later_us;
use super::waits::{Until, Waiter};
use super::{Ask, Compiled, Effect, EndReason, Facts, Input, Next, Run, Visited};
use crate::sends;

/// Steps that a run remembers.
const HISTORY_MAX: usize = 50;

/// Lets a run go on until it rests, ends or needs to know something. Calling it again with the same run, input and facts does the same.
///
/// At most `steps_max` steps are done (a wait is one when it begins and one when its time has come); then the run is due now, to go on with
/// the next call. Taking note of an event or the end of a run is no step: with 0 that is all that happens.
///
/// What was done before something is asked for stays done, and its effects are given: the run goes on from there with [`Input::Go`].
pub(crate) fn advance(
    scenario: &Compiled,
    run: &mut Run,
    input: Input<'_>,
    facts: &Facts<'_>,
    now_us: i64,
    steps_max: u32,
    effects: &mut Vec<Effect>,
) -> Next {
    debug_assert_eq!(scenario.scenario, run.scenario, "a run goes through its own scenario");
    let mut walk = Walk { scenario, run, facts, now_us, effects };
    let goes_on = match input {
        Input::Go => walk.run.ended.is_none() && walk.run.due_us.is_none_or(|due_us| due_us <= now_us),
        Input::Event(event) => walk.meet(event),
        Input::Audience { audience, entered } => {
            if walk.leaves_with(audience, entered) {
                walk.end(EndReason::ExitRule);
            }
            false
        }
        Input::End(reason) => {
            walk.end(reason);
            false
        }
    };
    if goes_on { walk.go(steps_max) } else { Next::Rest }
}

/// A run on its way.
struct Walk<'w> {
    scenario: &'w Compiled,
    run: &'w mut Run,
    facts: &'w Facts<'w>,
    now_us: i64,
    effects: &'w mut Vec<Effect>,
}

/// What doing a step comes to.
enum Done<'d> {
    /// On to the step with this id.
    To { next: &'d str, decision: String },
    /// It stays until this moment.
    Waits(i64),
    /// It must know something first.
    Asks(Ask),
}

impl<'w> Walk<'w> {
    /// Takes note of an event; whether the run goes on by it.
    fn meet(&mut self, event: &ResolvedEvent) -> bool {
        let entered_by = &self.run.state.event.message_id;
        if event.time_us < self.run.entered_us || (!entered_by.is_empty() && *entered_by == event.message_id) {
            return false;
        }
        // Goals come before exits: buying is both.
        self.convert(event);
        if self.run.ended.is_some() {
            return false;
        }
        if self.leaves_on(event) {
            self.end(EndReason::ExitRule);
            return false;
        }
        let Some((arm, next)) = self.arm_taken(event) else { return false };
        self.pass(next, format!("arm {}", arm + 1));
        self.run.ended.is_none()
    }

    fn go(&mut self, steps_max: u32) -> Next {
        let mut left = steps_max;
        while self.run.ended.is_none() {
            let Some((at, step)) = self.here() else {
                self.end(EndReason::NoStep);
                break;
            };
            if left == 0 {
                self.run.due_us = Some(self.now_us);
                break;
            }
            left -= 1;
            match self.take(at, step) {
                Done::To { next, decision } => self.pass(next, decision),
                Done::Waits(due_us) => {
                    self.run.state.waiting = true;
                    self.run.due_us = Some(due_us);
                    break;
                }
                Done::Asks(ask) => {
                    // Were it stored so, it would be taken up again.
                    self.run.due_us.get_or_insert(self.now_us);
                    return Next::Ask(ask);
                }
            }
        }
        Next::Rest
    }

    /// The step where the run is.
    fn here(&mut self) -> Option<(usize, &'w Step)> {
        let (scenario, state) = (self.scenario, &mut self.run.state);
        if state.step.is_empty() {
            state.step.clone_from(&scenario.definition.steps.first()?.id);
        }
        let at = *scenario.steps.get(&state.step)?;
        Some((at, scenario.definition.steps.get(at)?))
    }

    /// Leaves the step where it is.
    fn pass(&mut self, next: &str, decision: String) {
        let (run, now_us) = (&mut *self.run, self.now_us);
        run.state.visits = run.state.visits.saturating_add(1);
        run.state.waiting = false;
        run.due_us = None;
        run.state.history.push(Visited { step: run.state.step.clone(), time_us: now_us, decision });
        let too_many = run.state.history.len().saturating_sub(HISTORY_MAX);
        run.state.history.drain(..too_many);
        if next.is_empty() {
            self.end(EndReason::Completed);
        } else {
            next.clone_into(&mut run.state.step);
        }
    }

    fn end(&mut self, reason: EndReason) {
        if self.run.ended.is_none() {
            self.run.ended = Some((self.now_us, reason));
            self.run.state.waiting = false;
            self.run.due_us = None;
        }
    }

    /// The number of the visit that is going on.
    fn visit(&self) -> u32 {
        self.run.state.visits.saturating_add(1)
    }

    fn take(&mut self, at: usize, step: &'w Step) -> Done<'w> {
        let visit = self.visit();
        let to = |decision: String| Done::To { next: &step.next, decision };
        match &step.kind {
            Some(Kind::Message(_) | Kind::Webhook(_)) => {
                self.effects.push(Effect::Send { step: at, visit });
                let attempt_group = format!("{}.{visit}", self.run.entry);
                to(format!("send {}", sends::id(&self.run.scenario, &step.id, self.run.id, &attempt_group)))
            }
            Some(Kind::Wait(WaitStep { wait: Some(wait) })) => self.wait(step, wait),
            Some(Kind::Branch(branch)) => self.branch(at, step, branch),
            Some(Kind::Split(split)) => self.split(step, split),
            Some(Kind::Experiment(experiment)) => self.experiment(step, experiment),
            Some(Kind::UpdateTrait(UpdateTraitStep { r#trait, .. })) => {
                self.effects.push(Effect::UpdateTrait { step: at, visit });
                to(format!("set {trait}"))
            }
            Some(Kind::List(list)) => {
                self.effects.push(Effect::List { step: at });
                to(format!("{} {}", if list.remove { "removed from" } else { "added to" }, list.list))
            }
            Some(Kind::End(_)) => Done::To { next: "", decision: "ended".to_owned() },
            // No definition that compiles has such a step.
            Some(Kind::Wait(WaitStep { wait: None })) | None => to(String::new()),
        }
    }

    fn wait(&mut self, step: &'w Step, wait: &'w Wait) -> Done<'w> {
        let over = |decision: &str| Done::To { next: &step.next, decision: decision.to_owned() };
        if self.run.state.waiting && self.run.due_us.is_some() {
            return over(if matches!(wait, Wait::ForEvent(_)) { "timed out" } else { "waited" });
        }
        let visits = self.run.state.history.iter().rev();
        let before_us = visits.filter(|visited| visited.step == step.id).map(|visited| visited.time_us).max();
        let waiter = Waiter { person: self.facts.person, zone: self.scenario.time_zone, now_us: self.now_us, before_us };
        match (waiter.until(wait), wait) {
            (Until::Moment(due_us), _) => Done::Waits(due_us),
            (Until::Now, _) => over("waited"),
            (Until::Person, _) => Done::Asks(Ask::Person),
            (Until::Otherwise, Wait::UntilTraitDate(date)) if !date.otherwise.is_empty() => {
                Done::To { next: &date.otherwise, decision: "otherwise".to_owned() }
            }
            (Until::Otherwise, _) => over("otherwise"),
        }
    }

    fn branch(&self, at: usize, step: &'w Step, branch: &'w BranchStep) -> Done<'w> {
        let mut taken = None;
        for (arm, way) in branch.arms.iter().enumerate() {
            match self.facts.conditions.get(&(at, arm)) {
                None => return Done::Asks(Ask::Conditions { step: at }),
                Some(true) if taken.is_none() => taken = Some((arm, way)),
                Some(_) => {}
            }
        }
        match taken {
            Some((arm, way)) => Done::To { next: &way.next, decision: format!("arm {}", arm + 1) },
            None => Done::To { next: &step.next, decision: "no arm".to_owned() },
        }
    }

    fn split(&self, step: &'w Step, split: &'w SplitStep) -> Done<'w> {
        let salt = format!("split:{}:{}:{}:{}", self.run.scenario, step.id, self.run.id, self.visit());
        let arm = draw(&salt, self.run.person, split.arms.iter().map(|arm| arm.weight));
        let next = split.arms.get(arm).map_or("", |arm| &arm.next);
        Done::To { next, decision: format!("arm {}", arm + 1) }
    }

    fn experiment(&mut self, step: &'w Step, experiment: &'w ExperimentStep) -> Done<'w> {
        if !self.facts.assignments_known {
            return Done::Asks(Ask::Assignments);
        }
        let variants = &experiment.variants;
        let named = |name: &String| variants.iter().find(|variant| variant.name == *name);
        // The run's own may not be among the facts yet.
        let before = self.facts.assigned.get(&step.id).and_then(named);
        let before = before.or_else(|| self.run.state.variants.get(&step.id).and_then(named));
        let salt = || format!("experiment:{}:{}", self.run.scenario, step.id);
        let drawn = || variants.get(draw(&salt(), self.run.person, variants.iter().map(|variant| variant.weight)));
        let Some(variant) = before.or_else(drawn) else { return Done::To { next: "", decision: String::new() } };
        if before.is_none() {
            self.effects.push(Effect::Assign { step: step.id.clone(), variant: variant.name.clone() });
        }
        self.effects.push(Effect::Exposed { step: step.id.clone(), variant: variant.name.clone(), visit: self.visit() });
        let state = &mut self.run.state;
        state.variants.insert(step.id.clone(), variant.name.clone());
        state.last_variant = format!("{}={}", step.id, variant.name);
        Done::To { next: &variant.next, decision: format!("variant {}", variant.name) }
    }

    /// The arm of the wait where the run is that the event takes: if it is in time, by its own time or by the clock.
    fn arm_taken(&mut self, event: &ResolvedEvent) -> Option<(usize, &'w str)> {
        if !self.run.state.waiting {
            return None;
        }
        let (_, step) = self.here()?;
        let Some(Kind::Wait(WaitStep { wait: Some(Wait::ForEvent(EventWait { arms, .. })) })) = &step.kind else { return None };
        if self.run.due_us.is_some_and(|due_us| due_us <= self.now_us && due_us < event.time_us) {
            return None;
        }
        let is_taken =
            |on: Option<&_>, property: &str| on.is_some_and(|on| segue_query::matches(on, event)) && self.is_of_key(event, property);
        let arm = arms.iter().position(|arm| is_taken(arm.on.as_ref(), &arm.entry_key_property))?;
        Some((arm, &arms.get(arm)?.next))
    }

    /// Whether a property of the event has the run's entry key; where none is named, any event will do.
    fn is_of_key(&self, event: &ResolvedEvent, property: &str) -> bool {
        property.is_empty() || segue_query::property_text(event, property).is_some_and(|key| key == self.run.entry_key)
    }

    fn leaves_on(&self, event: &ResolvedEvent) -> bool {
        self.scenario.definition.exits.iter().any(|exit| match &exit.on {
            Some(exit_rule::On::Event(on)) => segue_query::matches(on, event) && self.is_of_key(event, &exit.entry_key_property),
            Some(exit_rule::On::Audience(_)) | None => false,
        })
    }

    fn leaves_with(&self, audience: &str, entered: bool) -> bool {
        self.scenario.definition.exits.iter().any(|exit| match &exit.on {
            Some(exit_rule::On::Audience(AudienceEntry { audience: named, on_leaving })) => named == audience && *on_leaving != entered,
            Some(exit_rule::On::Event(_)) | None => false,
        })
    }

    /// Goals that the event reaches.
    fn convert(&mut self, event: &ResolvedEvent) {
        let scenario = self.scenario;
        for goal in &scenario.definition.goals {
            if self.run.state.converted.contains(&goal.name) || !self.reaches(goal, event) {
                continue;
            }
            self.run.state.converted.push(goal.name.clone());
            self.effects.push(Effect::Converted {
                goal: goal.name.clone(),
                event: event.message_id.clone(),
                time_us: event.time_us,
                value_e4: value_e4(goal, event),
                items: event.items.clone(),
            });
        }
    }

    fn reaches(&self, goal: &Goal, event: &ResolvedEvent) -> bool {
        let (Some(on), Some(window)) = (&goal.on, &goal.window) else { return false };
        let entered_us = self.run.entered_us;
        event.time_us > entered_us
            && event.time_us <= later_us(entered_us, window, self.scenario.time_zone)
            && segue_query::matches(on, event)
            && self.is_of_key(event, &goal.entry_key_property)
    }
}

/// Which of so many ways a person takes: its share of the buckets is weight ÷ Σ weights, in the order of the ways.
fn draw(salt: &str, person: u32, weights: impl Iterator<Item = u32> + Clone) -> usize {
    let bucket = u64::from(Buckets::new(salt).bucket(person));
    let total: u64 = weights.clone().map(u64::from).sum();
    let mut below = 0;
    weights
        .take_while(|weight| {
            below += u64::from(*weight);
            bucket * total >= below * u64::from(BUCKETS)
        })
        .count()
}

/// What a conversion is worth, in ten-thousandths: the goal's property, or Σ price × quantity over the items that have both. What is no
/// number is worth nothing; what is beyond 64 bits, as much as they hold.
fn value_e4(goal: &Goal, event: &ResolvedEvent) -> i64 {
    let total: i128 = if goal.value_property.is_empty() {
        event.items.iter().filter_map(value_of_item).fold(0, i128::saturating_add)
    } else {
        match segue_query::property_of(event, &goal.value_property) {
            Some(ValueKind::DecimalE4Value(e4)) => i128::from(*e4),
            Some(ValueKind::IntValue(number)) => i128::from(*number) * i128::from(SCALE),
            // What its sender wrote, if that has at most four places; else the nearest.
            Some(ValueKind::DoubleValue(number)) => match number.to_string().parse::<Decimal4>() {
                Ok(decimal) => i128::from(decimal.0),
                Err(_) => (number * SCALE as f64).round() as i128,
            },
            Some(ValueKind::StringValue(_) | ValueKind::BoolValue(_) | ValueKind::TimestampValue(_) | ValueKind::JsonValue(_)) | None => 0,
        }
    };
    i64::try_from(total).unwrap_or(if total > 0 { i64::MAX } else { i64::MIN })
}

fn value_of_item(item: &Item) -> Option<i128> {
    Some(i128::from(item.price_e4?) * i128::from(item.quantity?))
}
