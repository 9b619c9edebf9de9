//! A request, parsed: everything checked, defaults filled in, names resolved. All faults are reported at once.

use roaring::RoaringBitmap;
use segue_engine::funnel::{Breakdown, Counting, Entry, Exclusion, FunnelFault, FunnelRule, FunnelSpec, Order, STEPS_MAX, Scope, Step};
use segue_model::FieldViolation;
use segue_proto::analytics::v1 as pb;
use segue_proto::query::v1 as query;

use crate::condition::Among;
use crate::filter::fields::{FieldRef, ItemColumn, Place, Resolver, Vocabulary};
use crate::filter::predicate::{FilterParser, Predicate};
use crate::pass::{Selector, Within};
use crate::question::parse::{self, NAME_CHARACTERS_MAX};
use crate::question::time::RangeUs;
use crate::question::{Context, QueryError};
use crate::scan::{Column, PropertyType};

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;
const WINDOW_DEFAULT_US: i64 = 7 * DAY_US;
const WINDOW_MAX_US: i64 = 366 * DAY_US;
const SESSION_GAP_DEFAULT_US: i64 = 30 * 60 * SECOND_US;
const SESSION_GAP_MAX_US: i64 = DAY_US;
const EXCLUSIONS_MAX: usize = 10;
const HELD_MAX: usize = 3;
const TOP_DEFAULT: u32 = 20;
const TOP_MAX: u32 = 1_000;

/// A funnel, ready to be computed.
#[derive(Debug)]
pub(super) struct Plan {
    /// The rules.
    pub(super) rule: FunnelRule,
    /// What steps and exclusions select; those of plain funnels stand in the order of the steps.
    pub(super) selectors: Vec<Selector>,
    /// Whether an event may match two selectors.
    pub(super) overlapping: bool,
    /// Tested on every event besides.
    pub(super) filter: Predicate,
    /// Where all events are needed.
    pub(super) others: Option<RangeUs>,
    /// Columns that places mean.
    pub(super) columns: Vec<Column>,
    /// Fields of items that places mean.
    pub(super) items: Vec<ItemColumn>,
    /// Fields that all steps have the same values of.
    pub(super) held: Vec<Place>,
    /// The breakdown.
    pub(super) breakdown: Option<BreakdownPlan>,
    /// Shown per step.
    pub(super) names: Vec<String>,
    /// What is read: from the start of the range to the end of the last window.
    pub(super) reach: RangeUs,
    /// Only these persons.
    pub(super) among: Option<RoaringBitmap>,
    /// The request with defaults and canonical names.
    pub(super) resolved: pb::QueryFunnelRequest,
}

/// How attempts are grouped.
#[derive(Debug, Clone, Copy)]
pub(super) struct BreakdownPlan {
    /// Where the value is.
    pub(super) place: Place,
    /// Groups shown.
    pub(super) top: usize,
}

impl Plan {
    /// Checks and resolves a request, which will be asked about some persons.
    pub(super) fn new(context: &Context<'_>, request: &pb::QueryFunnelRequest, within: Within<'_>) -> Result<Plan, QueryError> {
        let vocabulary = context.vocabulary();
        let mut parser = Parser::new(&vocabulary, request.clone());
        let range = parse::range(request.range.as_ref(), "range", &mut parser.faults);
        let window_us = parser.window();
        let range = range.unwrap_or(RangeUs { start: 0, end: 1 });
        let reach = RangeUs { start: range.start, end: range.end.saturating_add(window_us) };
        let (order, entry, counting) = parser.modes();
        let (steps, names) = parser.steps(order, range, reach);
        let exclusions = parser.exclusions(reach);
        let held = parser.held();
        let (breakdown, touch) = parser.breakdown();
        let filter = FilterParser::parse(request.filter.as_ref(), "filter", &mut parser.resolver, &mut parser.faults);
        let among = Among::parse(request.among.as_ref(), &vocabulary, context.zone, &mut parser.faults);
        let spec = FunnelSpec {
            steps,
            order,
            window_us,
            exclusions,
            entry,
            counting,
            hold: !held.is_empty(),
            breakdown: touch,
            range_us: range.start..range.end,
            watermark_us: Some(context.snapshot.watermark_us()),
        };
        let rule = match FunnelRule::new(spec) {
            Ok(rule) if parser.faults.is_empty() => rule,
            Ok(_) => return Err(QueryError::Invalid(parser.faults)),
            Err(found) => return Err(QueryError::Invalid(parser.with_rule_faults(found))),
        };
        let among = among.persons(context, within)?;
        Ok(Plan { among, ..parser.plan(rule, filter, held, breakdown, names, reach) })
    }
}

/// A request on its way to a plan.
struct Parser<'v> {
    resolver: Resolver<'v>,
    faults: Vec<FieldViolation>,
    /// Selectors with what they were made from, so that equal ones are read once.
    selectors: Vec<(query::EventSelector, Selector)>,
    resolved: pb::QueryFunnelRequest,
}

impl<'v> Parser<'v> {
    fn new(vocabulary: &'v Vocabulary, request: pb::QueryFunnelRequest) -> Parser<'v> {
        Parser { resolver: Resolver::new(vocabulary), faults: Vec::new(), selectors: Vec::new(), resolved: request }
    }

    fn fault(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.faults.push(FieldViolation::new(path, description));
    }

    fn window(&mut self) -> i64 {
        let window = self.resolved.window;
        let us = parse::duration_us(window.as_ref(), WINDOW_DEFAULT_US, (0, WINDOW_MAX_US), "window", &mut self.faults);
        self.resolved.window = Some(parse::duration(us));
        us
    }

    fn modes(&mut self) -> (Order, Entry, Counting) {
        let order = match pb::FunnelOrder::try_from(self.resolved.order) {
            Ok(pb::FunnelOrder::Unspecified | pb::FunnelOrder::Ordered) => (Order::Ordered, pb::FunnelOrder::Ordered),
            Ok(pb::FunnelOrder::Strict) => (Order::Strict, pb::FunnelOrder::Strict),
            Ok(pb::FunnelOrder::Any) => (Order::Any, pb::FunnelOrder::Any),
            Err(_) => {
                self.fault("order", "not an order of this version");
                (Order::Ordered, pb::FunnelOrder::Ordered)
            }
        };
        let entry = match pb::FunnelEntry::try_from(self.resolved.entry) {
            Ok(pb::FunnelEntry::Unspecified | pb::FunnelEntry::Deepest) => (Entry::Deepest, pb::FunnelEntry::Deepest),
            Ok(pb::FunnelEntry::First) => (Entry::First, pb::FunnelEntry::First),
            Err(_) => {
                self.fault("entry", "not an entry of this version");
                (Entry::Deepest, pb::FunnelEntry::Deepest)
            }
        };
        let by_sessions = self.resolved.counting == pb::FunnelCounting::Sessions as i32;
        if self.resolved.session_gap.is_some() && !by_sessions {
            self.fault("session_gap", "only with counting SESSIONS");
        }
        let counting = match pb::FunnelCounting::try_from(self.resolved.counting) {
            Ok(pb::FunnelCounting::Unspecified | pb::FunnelCounting::Persons) => (Counting::Units, pb::FunnelCounting::Persons),
            Ok(pb::FunnelCounting::Sessions) => {
                let (gap, bounds) = (self.resolved.session_gap, (0, SESSION_GAP_MAX_US));
                let gap_us = parse::duration_us(gap.as_ref(), SESSION_GAP_DEFAULT_US, bounds, "session_gap", &mut self.faults);
                self.resolved.session_gap = Some(parse::duration(gap_us));
                (Counting::Sessions { gap_us }, pb::FunnelCounting::Sessions)
            }
            Ok(pb::FunnelCounting::Totals) => (Counting::Totals, pb::FunnelCounting::Totals),
            Err(_) => {
                self.fault("counting", "not a counting of this version");
                (Counting::Units, pb::FunnelCounting::Persons)
            }
        };
        self.resolved.order = order.1 as i32;
        self.resolved.entry = entry.1 as i32;
        self.resolved.counting = counting.1 as i32;
        (order.0, entry.0, counting.0)
    }

    /// The number of a selector, with its canonical form for the answer.
    fn selector(&mut self, on: Option<&query::EventSelector>, path: &str, range: RangeUs) -> (u32, query::EventSelector) {
        let (events, canonical) = parse::selector(on, path, &mut self.resolver, &mut self.faults);
        let known = self.selectors.iter_mut().enumerate().find(|(_, (known, _))| *known == canonical);
        if let Some((number, (_, selector))) = known {
            let wider = RangeUs { start: selector.range.start.min(range.start), end: selector.range.end.max(range.end) };
            selector.range = wider;
            return (number as u32, canonical);
        }
        let selector = Selector { events: events.names, filter: events.filter, range };
        self.selectors.push((canonical.clone(), selector));
        (self.selectors.len() as u32 - 1, canonical)
    }

    fn steps(&mut self, order: Order, range: RangeUs, reach: RangeUs) -> (Vec<Step>, Vec<String>) {
        if self.resolved.steps.len() > STEPS_MAX {
            // Said by the rules; more would be of no use.
            self.resolved.steps.truncate(STEPS_MAX + 1);
        }
        let mut asked = std::mem::take(&mut self.resolved.steps);
        let count = asked.len();
        let (mut steps, mut names) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (at, step) in asked.iter_mut().enumerate() {
            let path = format!("steps[{at}]");
            // An attempt that begins after the range is none.
            let where_to = if at == 0 && order != Order::Any { range } else { reach };
            let (selector, canonical) = self.selector(step.on.as_ref(), &format!("{path}.on"), where_to);
            if step.name.chars().count() > NAME_CHARACTERS_MAX {
                self.fault(format!("{path}.name"), format!("at most {NAME_CHARACTERS_MAX} characters"));
            }
            if step.name.is_empty() {
                step.name = default_name(&canonical);
            }
            step.on = Some(canonical);
            steps.push(Step { selector, optional: step.optional });
            names.push(match order {
                Order::Ordered | Order::Strict => step.name.clone(),
                // The k-th event in time may do any of the steps.
                Order::Any => format!("any {} of {count}", at + 1),
            });
        }
        self.resolved.steps = asked;
        (steps, names)
    }

    fn exclusions(&mut self, reach: RangeUs) -> Vec<Exclusion> {
        if self.resolved.exclusions.len() > EXCLUSIONS_MAX {
            self.fault("exclusions", format!("at most {EXCLUSIONS_MAX} exclusions"));
            return Vec::new();
        }
        let mut asked = std::mem::take(&mut self.resolved.exclusions);
        let mut exclusions = Vec::with_capacity(asked.len());
        for (at, exclusion) in asked.iter_mut().enumerate() {
            let path = format!("exclusions[{at}]");
            let (selector, canonical) = self.selector(exclusion.on.as_ref(), &format!("{path}.on"), reach);
            exclusion.on = Some(canonical);
            let (scope, named) = match pb::ExclusionScope::try_from(exclusion.scope) {
                Ok(pb::ExclusionScope::Unspecified | pb::ExclusionScope::Attempt) => (Scope::Attempt, pb::ExclusionScope::Attempt),
                Ok(pb::ExclusionScope::Person) => (Scope::Unit, pb::ExclusionScope::Person),
                Err(_) => {
                    self.fault(format!("{path}.scope"), "not a scope of this version");
                    (Scope::Attempt, pb::ExclusionScope::Attempt)
                }
            };
            exclusion.scope = named as i32;
            let (from_step, to_step) = (exclusion.from_step as usize, exclusion.to_step as usize);
            exclusions.push(Exclusion { selector, from_step, to_step, scope });
        }
        self.resolved.exclusions = asked;
        exclusions
    }

    /// A field of the event that values are taken from.
    fn field(&mut self, field: Option<&query::Field>, path: &str) -> Option<FieldRef> {
        if matches!(field.and_then(|field| field.field.as_ref()), Some(query::field::Field::ItemProperty(_))) {
            self.fault(format!("{path}.item_property"), "an event has several items; take a dimension or a property of the event");
            return None;
        }
        let found = self.resolver.resolve(field, path, &mut self.faults)?;
        if found.kind == Some(PropertyType::Json) {
            self.fault(path, format!("`{}` holds arrays or objects, which cannot be told apart", found.name));
            return None;
        }
        Some(found)
    }

    fn held(&mut self) -> Vec<Place> {
        let fields = self.resolved.hold_constant.clone();
        if fields.len() > HELD_MAX {
            self.fault("hold_constant", format!("at most {HELD_MAX} fields"));
            return Vec::new();
        }
        let mut places = Vec::with_capacity(fields.len());
        for (at, field) in fields.iter().enumerate() {
            let path = format!("hold_constant[{at}]");
            if fields[..at].contains(field) {
                self.fault(path, "held constant already");
                continue;
            }
            places.extend(self.field(Some(field), &path).map(|found| found.place));
        }
        places
    }

    fn breakdown(&mut self) -> (Option<BreakdownPlan>, Breakdown) {
        let Some(mut asked) = self.resolved.breakdown.take() else { return (None, Breakdown::default()) };
        let field = self.field(asked.field.as_ref(), "breakdown.field");
        let touch = match pb::BreakdownTouch::try_from(asked.touch) {
            Ok(pb::BreakdownTouch::Unspecified | pb::BreakdownTouch::Step) => {
                asked.touch = pb::BreakdownTouch::Step as i32;
                asked.step = asked.step.max(1);
                Breakdown::AtStep(asked.step as usize)
            }
            Ok(pb::BreakdownTouch::First | pb::BreakdownTouch::Last) if asked.step != 0 => {
                self.fault("breakdown.step", "only with touch STEP");
                Breakdown::default()
            }
            Ok(pb::BreakdownTouch::First) => Breakdown::FirstTouch,
            Ok(pb::BreakdownTouch::Last) => Breakdown::LastTouch,
            Err(_) => {
                self.fault("breakdown.touch", "not a touch of this version");
                Breakdown::default()
            }
        };
        if asked.top == 0 {
            asked.top = TOP_DEFAULT;
        }
        if asked.top > TOP_MAX {
            self.fault("breakdown.top", format!("at most {TOP_MAX}"));
        }
        let top = asked.top as usize;
        self.resolved.breakdown = Some(asked);
        (field.map(|field| BreakdownPlan { place: field.place, top }), touch)
    }

    /// Faults of the request and of the rules, which know nothing of paths.
    fn with_rule_faults(mut self, found: Vec<FunnelFault>) -> Vec<FieldViolation> {
        for fault in found {
            let path = match fault {
                FunnelFault::StepCount => "steps".to_owned(),
                FunnelFault::StepSelector { step, .. } => format!("steps[{step}].on"),
                FunnelFault::FirstStepOptional => "steps[0].optional".to_owned(),
                FunnelFault::OptionalInAnyOrder { step } => format!("steps[{step}].optional"),
                FunnelFault::NegativeWindow => "window".to_owned(),
                FunnelFault::ExclusionCount => "exclusions".to_owned(),
                FunnelFault::ExclusionSelector { exclusion, .. } => format!("exclusions[{exclusion}].on"),
                FunnelFault::ExclusionRange { exclusion } | FunnelFault::PartialExclusionInAnyOrder { exclusion } => {
                    let at = self.resolved.exclusions.get(exclusion);
                    let wrong_start = at.is_some_and(|at| at.from_step == 0 || at.to_step as usize <= self.resolved.steps.len());
                    format!("exclusions[{exclusion}].{}", if wrong_start { "from_step" } else { "to_step" })
                }
                FunnelFault::NegativeSessionGap => "session_gap".to_owned(),
                FunnelFault::BreakdownStep => "breakdown.step".to_owned(),
                FunnelFault::EmptyRange => "range.end".to_owned(),
            };
            // Without steps there is no step to break down by either, and that is no second fault.
            if fault != FunnelFault::BreakdownStep || self.resolved.breakdown.is_some() {
                self.fault(path, fault.to_string());
            }
        }
        self.faults
    }

    fn plan(
        self,
        rule: FunnelRule,
        filter: Predicate,
        held: Vec<Place>,
        breakdown: Option<BreakdownPlan>,
        names: Vec<String>,
        reach: RangeUs,
    ) -> Plan {
        let mut selectors: Vec<Selector> = self.selectors.into_iter().map(|(_, selector)| selector).collect();
        let mut filter = filter;
        if rule.needs_all_events() && rule.spec().order != Order::Strict && !matches!(filter, Predicate::Always(true)) {
            // Sessions are cut over all events: the filter then is one of steps and exclusions only.
            for selector in &mut selectors {
                let own = std::mem::replace(&mut selector.filter, Predicate::Always(true));
                selector.filter = Predicate::All(vec![filter.clone(), own]);
            }
            filter = Predicate::Always(true);
        }
        let Resolver { columns, items, .. } = self.resolver;
        Plan {
            overlapping: overlapping(&selectors),
            others: rule.needs_all_events().then_some(reach),
            selectors,
            rule,
            filter,
            columns,
            items,
            held,
            breakdown,
            names,
            reach,
            among: None,
            resolved: self.resolved,
        }
    }
}

/// Whether two selectors name the same event.
fn overlapping(selectors: &[Selector]) -> bool {
    selectors.iter().enumerate().any(|(at, one)| {
        selectors[..at].iter().any(|other| match (&one.events, &other.events) {
            (Some(one), Some(other)) => one.iter().any(|name| other.contains(name)),
            (None, _) | (_, None) => true,
        })
    })
}

/// What a step is called if nobody says.
fn default_name(on: &query::EventSelector) -> String {
    let name = if on.events.is_empty() { "any event".to_owned() } else { on.events.join(" or ") };
    // An answer's options can be asked again, so that this is as long as a name may be.
    name.chars().take(NAME_CHARACTERS_MAX).collect()
}
