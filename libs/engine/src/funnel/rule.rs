//! [`FunnelRule`]: a funnel's question, checked.

use std::ops::Range;

/// Steps of one funnel.
pub const STEPS_MAX: usize = 20;
/// Exclusions of one funnel.
pub const EXCLUSIONS_MAX: usize = 12;
/// Selectors that a hit can tell apart.
const SELECTORS_MAX: u32 = u32::BITS;

/// A step of a funnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Number of the selector whose events do this step. Several steps may share one.
    pub selector: u32,
    /// Whether a unit may leave it out.
    pub optional: bool,
}

/// In which order steps are to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// One after another; other events may come between.
    #[default]
    Ordered,
    /// One after another without any other event of the unit between.
    Strict,
    /// In any order.
    Any,
}

/// What an exclusion removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// The attempt; the unit may try again.
    #[default]
    Attempt,
    /// The unit.
    Unit,
}

/// Events that must not happen between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exclusion {
    /// Number of its selector.
    pub selector: u32,
    /// From after this step, counted from 1 …
    pub from_step: usize,
    /// … to before this one.
    pub to_step: usize,
    /// What it removes.
    pub scope: Scope,
}

/// Which attempt of a unit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Entry {
    /// The deepest.
    #[default]
    Deepest,
    /// That which begins with the unit's first possible event.
    First,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counting {
    /// Units: one attempt each.
    #[default]
    Units,
    /// Sessions: one attempt each.
    Sessions {
        /// A gap longer than this, in microseconds, ends a session.
        gap_us: i64,
    },
    /// Attempts.
    Totals,
}

/// Which event of an attempt gives its breakdown value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakdown {
    /// The event of this step, counted from 1; an attempt that does not do the step has no value.
    AtStep(usize),
    /// The first event that has a value.
    FirstTouch,
    /// The last event that has a value.
    LastTouch,
}

impl Default for Breakdown {
    fn default() -> Self {
        Breakdown::AtStep(1)
    }
}

/// A funnel's question as asked; [`FunnelRule::new`] checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunnelSpec {
    /// The steps.
    pub steps: Vec<Step>,
    /// Their order.
    pub order: Order,
    /// The conversion window from the first step's event, inclusive, in microseconds.
    pub window_us: i64,
    /// What must not happen between steps.
    pub exclusions: Vec<Exclusion>,
    /// Which attempt counts.
    pub entry: Entry,
    /// What is counted.
    pub counting: Counting,
    /// Whether the steps of an attempt must carry the same held values ([`super::Touch::held`]).
    pub hold: bool,
    /// Which event gives the breakdown value.
    pub breakdown: Breakdown,
    /// Where an attempt's first event lies, microseconds UTC, half-open.
    pub range_us: Range<i64>,
    /// Until when events are known, microseconds UTC; attempts whose window reaches it are still open. Without it none is.
    pub watermark_us: Option<i64>,
}

impl FunnelSpec {
    /// A funnel with these selectors as its required steps and every option at its default.
    pub fn ordered(selectors: impl IntoIterator<Item = u32>, window_us: i64, range_us: Range<i64>) -> FunnelSpec {
        FunnelSpec {
            steps: selectors.into_iter().map(|selector| Step { selector, optional: false }).collect(),
            order: Order::default(),
            window_us,
            exclusions: Vec::new(),
            entry: Entry::default(),
            counting: Counting::default(),
            hold: false,
            breakdown: Breakdown::default(),
            range_us,
            watermark_us: None,
        }
    }
}

/// What is wrong with a funnel's question. Positions in lists count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FunnelFault {
    /// None, or too many.
    #[error("1 to {STEPS_MAX} steps")]
    StepCount,
    /// There are only so many selectors.
    #[error("step {step} names selector {selector}; selectors are 0 to 31")]
    StepSelector {
        /// Position of the step.
        step: usize,
        /// What it names.
        selector: u32,
    },
    /// The window starts at step 1.
    #[error("the first step must be required, since the conversion window starts there")]
    FirstStepOptional,
    /// In any order every step may be left out as it is.
    #[error("step {step} is optional; in any order all steps may be left out, so make it required")]
    OptionalInAnyOrder {
        /// Position of the step.
        step: usize,
    },
    /// Time does not run backwards.
    #[error("the conversion window must not be negative")]
    NegativeWindow,
    /// Too many.
    #[error("at most {EXCLUSIONS_MAX} exclusions")]
    ExclusionCount,
    /// There are only so many selectors.
    #[error("exclusion {exclusion} names selector {selector}; selectors are 0 to 31")]
    ExclusionSelector {
        /// Position of the exclusion.
        exclusion: usize,
        /// What it names.
        selector: u32,
    },
    /// Steps are counted from 1, and there must be something between.
    #[error("exclusion {exclusion} must reach from a step to a later one of the funnel's steps, which count from 1")]
    ExclusionRange {
        /// Position of the exclusion.
        exclusion: usize,
    },
    /// Without an order there is no between of two single steps.
    #[error("in any order exclusion {exclusion} must reach from the first step to the last")]
    PartialExclusionInAnyOrder {
        /// Position of the exclusion.
        exclusion: usize,
    },
    /// A session must be able to hold two events.
    #[error("the gap that ends a session must not be negative")]
    NegativeSessionGap,
    /// No such step.
    #[error("the breakdown must name one of the funnel's steps, which count from 1")]
    BreakdownStep,
    /// Nothing can start in it.
    #[error("the range must end after its start; it is half-open")]
    EmptyRange,
}

/// A funnel's question, checked.
#[derive(Debug, Clone)]
pub struct FunnelRule {
    spec: FunnelSpec,
    /// Bit i is set if step i + 1 may be left out.
    optional: u32,
}

impl FunnelRule {
    /// Checks a question; all faults are reported.
    pub fn new(spec: FunnelSpec) -> Result<FunnelRule, Vec<FunnelFault>> {
        let mut faults = Vec::new();
        let steps = spec.steps.len();
        if steps == 0 || steps > STEPS_MAX {
            faults.push(FunnelFault::StepCount);
        }
        for (at, step) in spec.steps.iter().enumerate() {
            if step.selector >= SELECTORS_MAX {
                faults.push(FunnelFault::StepSelector { step: at, selector: step.selector });
            }
            match (step.optional, at, spec.order) {
                (false, _, _) => {}
                (true, _, Order::Any) => faults.push(FunnelFault::OptionalInAnyOrder { step: at }),
                (true, 0, Order::Ordered | Order::Strict) => faults.push(FunnelFault::FirstStepOptional),
                (true, _, Order::Ordered | Order::Strict) => {}
            }
        }
        if spec.window_us < 0 {
            faults.push(FunnelFault::NegativeWindow);
        }
        if spec.exclusions.len() > EXCLUSIONS_MAX {
            faults.push(FunnelFault::ExclusionCount);
        }
        for (at, exclusion) in spec.exclusions.iter().enumerate() {
            let Exclusion { selector, from_step, to_step, scope: _ } = *exclusion;
            if selector >= SELECTORS_MAX {
                faults.push(FunnelFault::ExclusionSelector { exclusion: at, selector });
            }
            if from_step == 0 || from_step >= to_step || to_step > steps {
                faults.push(FunnelFault::ExclusionRange { exclusion: at });
            } else if spec.order == Order::Any && (from_step, to_step) != (1, steps) {
                faults.push(FunnelFault::PartialExclusionInAnyOrder { exclusion: at });
            }
        }
        if matches!(spec.counting, Counting::Sessions { gap_us } if gap_us < 0) {
            faults.push(FunnelFault::NegativeSessionGap);
        }
        if matches!(spec.breakdown, Breakdown::AtStep(step) if step == 0 || step > steps) {
            faults.push(FunnelFault::BreakdownStep);
        }
        if spec.range_us.start >= spec.range_us.end {
            faults.push(FunnelFault::EmptyRange);
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let optional = spec.steps.iter().enumerate().fold(0, |bits, (at, step)| bits | (u32::from(step.optional) << at));
        Ok(FunnelRule { spec, optional })
    }

    /// What was asked.
    pub fn spec(&self) -> &FunnelSpec {
        &self.spec
    }

    /// How many steps.
    pub fn steps(&self) -> usize {
        self.spec.steps.len()
    }

    /// Whether all events of a unit must be given, not only those that match a selector.
    pub fn needs_all_events(&self) -> bool {
        self.spec.order == Order::Strict || matches!(self.spec.counting, Counting::Sessions { .. })
    }

    /// Bit i is set if step i + 1 may be left out.
    pub(super) fn optional(&self) -> u32 {
        self.optional
    }

    /// Whether an attempt at depth `from` may get to depth `to` when the exclusions of the set `active` lie strictly after
    /// step `from`'s event and not after that of step `to`, and go on from there.
    pub(super) fn passes(&self, active: u32, from: usize, to: usize) -> bool {
        active == 0
            || !self
                .spec
                .exclusions
                .iter()
                .enumerate()
                .any(|(number, exclusion)| active & (1 << number) != 0 && exclusion.from_step <= from && to < exclusion.to_step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abc() -> FunnelSpec {
        FunnelSpec::ordered([0, 1, 2], 10, 0..100)
    }

    fn exclusion(from_step: usize, to_step: usize) -> Exclusion {
        Exclusion { selector: 3, from_step, to_step, scope: Scope::Attempt }
    }

    #[test]
    fn every_fault_of_a_question_is_reported() {
        let optional = |at: usize| {
            let mut steps = abc().steps;
            steps[at].optional = true;
            steps
        };
        for (spec, expected) in [
            (abc(), vec![]),
            (FunnelSpec { steps: vec![], ..abc() }, vec![FunnelFault::StepCount, FunnelFault::BreakdownStep]),
            (FunnelSpec::ordered(0..21, 10, 0..100), vec![FunnelFault::StepCount]),
            (FunnelSpec::ordered(0..20, 10, 0..100), vec![]),
            (FunnelSpec::ordered([0, 32], 10, 0..100), vec![FunnelFault::StepSelector { step: 1, selector: 32 }]),
            (FunnelSpec { steps: optional(0), ..abc() }, vec![FunnelFault::FirstStepOptional]),
            (FunnelSpec { steps: optional(1), ..abc() }, vec![]),
            (FunnelSpec { steps: optional(2), ..abc() }, vec![]),
            (FunnelSpec { steps: optional(1), order: Order::Any, ..abc() }, vec![FunnelFault::OptionalInAnyOrder { step: 1 }]),
            (FunnelSpec { window_us: -1, range_us: 5..5, ..abc() }, vec![FunnelFault::NegativeWindow, FunnelFault::EmptyRange]),
            (FunnelSpec { window_us: 0, ..abc() }, vec![]),
            (FunnelSpec { exclusions: vec![exclusion(1, 2), exclusion(1, 3), exclusion(2, 3)], ..abc() }, vec![]),
            (
                FunnelSpec { exclusions: vec![exclusion(1, 1), exclusion(2, 1), exclusion(0, 2), exclusion(2, 4)], ..abc() },
                (0..4).map(|exclusion| FunnelFault::ExclusionRange { exclusion }).collect(),
            ),
            (FunnelSpec { exclusions: vec![exclusion(1, 2); EXCLUSIONS_MAX + 1], ..abc() }, vec![FunnelFault::ExclusionCount]),
            (
                FunnelSpec { exclusions: vec![Exclusion { selector: 99, ..exclusion(1, 2) }], ..abc() },
                vec![FunnelFault::ExclusionSelector { exclusion: 0, selector: 99 }],
            ),
            (
                FunnelSpec { order: Order::Any, exclusions: vec![exclusion(1, 3), exclusion(1, 2)], ..abc() },
                vec![FunnelFault::PartialExclusionInAnyOrder { exclusion: 1 }],
            ),
            (FunnelSpec { counting: Counting::Sessions { gap_us: -1 }, ..abc() }, vec![FunnelFault::NegativeSessionGap]),
            (FunnelSpec { breakdown: Breakdown::AtStep(4), ..abc() }, vec![FunnelFault::BreakdownStep]),
            (FunnelSpec { breakdown: Breakdown::AtStep(0), ..abc() }, vec![FunnelFault::BreakdownStep]),
        ] {
            assert_eq!(FunnelRule::new(spec.clone()).err().unwrap_or_default(), expected, "{spec:?}");
        }
    }
}
