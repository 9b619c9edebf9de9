//! A request, parsed: everything checked, defaults filled in, buckets laid out.

use std::ops::Range;

use roaring::RoaringBitmap;
use segue_engine::retention::{Alignment, BUCKETS_MAX, CohortEntry, Mode, Options, Retention, RetentionError};
use segue_model::FieldViolation;
use segue_model::calendar::Grain;
use segue_proto::analytics::v1 as pb;

use crate::condition::Among;
use crate::filter::fields::{ItemColumn, Place, Resolver};
use crate::filter::predicate::{FilterParser, Predicate};
use crate::pass::{Selector, Within};
use crate::question::time::RangeUs;
use crate::question::{Context, QueryError, parse};
use crate::scan::Column;

/// Brackets of one request.
const BRACKETS_MAX: usize = 50;
/// Cells of a cohort.
const CELLS_MAX: usize = 400;
/// Groups shown unless the request says otherwise.
const TOP_DEFAULT: u32 = 20;
/// Groups shown at most.
const TOP_MAX: u32 = 1_000;

/// What lets everything pass.
pub(super) static ALL: Predicate = Predicate::Always(true);

/// A question, ready to be counted.
pub(super) struct Plan {
    /// The buckets and the rules.
    pub(super) retention: Retention,
    /// In the order of the rules' numbers.
    pub(super) selectors: Vec<Selector>,
    pub(super) columns: Vec<Column>,
    pub(super) items: Vec<ItemColumn>,
    /// Where the values of the breakdown are, if there is one.
    pub(super) breakdown: Option<Place>,
    /// The column of the breakdown.
    pub(super) payload: Vec<usize>,
    /// Groups shown.
    pub(super) top: usize,
    /// Only these persons.
    pub(super) among: Option<RoaringBitmap>,
    /// The request with defaults filled in: it asks the same again.
    pub(super) resolved: pb::QueryRetentionRequest,
}

impl Plan {
    /// Checks and resolves a request, which will be asked about some persons. All faults are reported at once.
    pub(super) fn new(context: &Context<'_>, request: &pb::QueryRetentionRequest, within: Within<'_>) -> Result<Plan, QueryError> {
        let vocabulary = context.vocabulary();
        let mut resolver = Resolver::new(&vocabulary);
        let mut faults = Vec::new();
        let frame = Frame::parse(context, request, &mut faults);
        let (start, resolved_start) = parse::selector(request.start.as_ref(), "start", &mut resolver, &mut faults);
        // Unset, it is the start event; its faults are told once.
        let (returning, resolved_returning) = match &request.returning {
            Some(returning) => parse::selector(Some(returning), "returning", &mut resolver, &mut faults),
            None => (start.clone(), resolved_start.clone()),
        };
        let filter = FilterParser::parse(request.filter.as_ref(), "filter", &mut resolver, &mut faults);
        let (breakdown, resolved_breakdown) = parse_breakdown(request.breakdown.as_ref(), &mut resolver, &mut faults);
        let zone = parse::zone(&request.time_zone, context.zone, "time_zone", &mut Vec::new());
        let among = Among::parse(request.among.as_ref(), &vocabulary, zone, &mut faults);
        let Some(frame) = frame.filter(|_| faults.is_empty()) else { return Err(QueryError::Invalid(faults)) };

        let resolved = pb::QueryRetentionRequest {
            range: request.range,
            start: Some(resolved_start),
            returning: Some(resolved_returning),
            breakdown: resolved_breakdown,
            filter: request.filter.clone(),
            among: request.among.clone(),
            ..frame.resolved
        };
        let scan = frame.retention.scan_us();
        let both = |of_selector: Predicate| match filter {
            Predicate::Always(true) => of_selector,
            _ => Predicate::All(vec![filter.clone(), of_selector]),
        };
        let mut selectors = vec![
            Selector { events: start.names.clone(), filter: both(start.filter), range: frame.range },
            Selector { events: returning.names, filter: both(returning.filter), range: RangeUs { start: scan.start, end: scan.end } },
        ];
        if frame.entry == CohortEntry::FirstEver {
            let range = RangeUs { start: i64::MIN, end: frame.range.end };
            selectors.push(Selector { events: start.names, filter: ALL.clone(), range });
        }
        let Resolver { columns, items, .. } = resolver;
        let payload = match breakdown {
            Some(Place::Column(at)) => vec![at],
            Some(Place::EventName | Place::Absent | Place::Item(_)) | None => Vec::new(),
        };
        let top = resolved.breakdown.as_ref().map_or(0, |breakdown| breakdown.top as usize);
        Ok(Plan {
            retention: frame.retention,
            selectors,
            columns,
            items,
            breakdown,
            payload,
            top,
            among: among.persons(context, within)?,
            resolved,
        })
    }
}

/// Range, buckets and modes.
struct Frame {
    range: RangeUs,
    entry: CohortEntry,
    retention: Retention,
    /// The request's part in this, with defaults filled in.
    resolved: pb::QueryRetentionRequest,
}

impl Frame {
    fn parse(context: &Context<'_>, request: &pb::QueryRetentionRequest, faults: &mut Vec<FieldViolation>) -> Option<Frame> {
        let before = faults.len();
        let zone = parse::zone(&request.time_zone, context.zone, "time_zone", faults);
        let grain = parse::grain(request.grain, "grain", faults).unwrap_or(Grain::Day);
        let alignment = parse_alignment(request.alignment, faults);
        let entry = parse_entry(request.entry, faults);
        let mode = parse_mode(request, faults);
        if request.cells as usize > CELLS_MAX {
            faults.push(FieldViolation::new("cells", format!("at most {CELLS_MAX}")));
        }
        let range = parse::range(request.range.as_ref(), "range", faults);
        let (range, mode) = range.zip(mode).filter(|_| faults.len() == before)?;
        let cells_max = if request.cells == 0 { CELLS_MAX } else { request.cells as usize };
        let brackets = match &mode {
            Mode::Brackets(_) => request.brackets.clone(),
            Mode::On | Mode::OnOrAfter => Vec::new(),
        };
        let options = Options {
            range_us: range.start..range.end,
            grain,
            zone,
            alignment,
            entry,
            returns_min: request.returns_min.max(1),
            cells_max,
            mode,
        };
        let retention = Retention::new(options.clone()).map_err(|error| faults.push(fault_of(error))).ok()?;
        let resolved = pb::QueryRetentionRequest {
            time_zone: zone.name().to_owned(),
            grain: match grain {
                Grain::Hour => pb::Grain::Hour,
                Grain::Day => pb::Grain::Day,
                Grain::Week => pb::Grain::Week,
                Grain::Month => pb::Grain::Month,
            } as i32,
            alignment: match alignment {
                Alignment::Calendar => pb::RetentionAlignment::Calendar,
                Alignment::Rolling => pb::RetentionAlignment::Rolling,
            } as i32,
            entry: match entry {
                CohortEntry::Recurring => pb::CohortEntry::Recurring,
                CohortEntry::FirstMatching => pb::CohortEntry::FirstMatching,
                CohortEntry::FirstEver => pb::CohortEntry::FirstEver,
            } as i32,
            mode: match options.mode {
                Mode::On => pb::RetentionMode::On,
                Mode::OnOrAfter => pb::RetentionMode::OnOrAfter,
                Mode::Brackets(_) => pb::RetentionMode::Bracket,
            } as i32,
            cells: if brackets.is_empty() { retention.cells_of(0) as u32 } else { 0 },
            brackets,
            returns_min: options.returns_min,
            ..pb::QueryRetentionRequest::default()
        };
        Some(Frame { range, entry, retention, resolved })
    }
}

fn fault_of(error: RetentionError) -> FieldViolation {
    match error {
        RetentionError::EmptyRange => FieldViolation::new("range.end", "must be after the start; the range is half-open"),
        RetentionError::TooManyBuckets => {
            FieldViolation::new("grain", format!("the range has more than {BUCKETS_MAX} buckets of this length"))
        }
        RetentionError::OutsideCalendar => FieldViolation::new("range", "leaves the years that the calendar knows"),
        RetentionError::Brackets { index } => {
            FieldViolation::new(format!("brackets[{index}]"), "brackets must be start < end, ascend and not overlap")
        }
    }
}

fn parse_alignment(alignment: i32, faults: &mut Vec<FieldViolation>) -> Alignment {
    match pb::RetentionAlignment::try_from(alignment) {
        Ok(pb::RetentionAlignment::Unspecified | pb::RetentionAlignment::Calendar) => Alignment::Calendar,
        Ok(pb::RetentionAlignment::Rolling) => Alignment::Rolling,
        Err(_) => {
            faults.push(FieldViolation::new("alignment", "not an alignment of this version"));
            Alignment::Calendar
        }
    }
}

fn parse_entry(entry: i32, faults: &mut Vec<FieldViolation>) -> CohortEntry {
    match pb::CohortEntry::try_from(entry) {
        Ok(pb::CohortEntry::Unspecified | pb::CohortEntry::Recurring) => CohortEntry::Recurring,
        Ok(pb::CohortEntry::FirstMatching) => CohortEntry::FirstMatching,
        Ok(pb::CohortEntry::FirstEver) => CohortEntry::FirstEver,
        Err(_) => {
            faults.push(FieldViolation::new("entry", "not a cohort entry of this version"));
            CohortEntry::Recurring
        }
    }
}

fn parse_mode(request: &pb::QueryRetentionRequest, faults: &mut Vec<FieldViolation>) -> Option<Mode> {
    let mode = match pb::RetentionMode::try_from(request.mode) {
        Ok(pb::RetentionMode::Unspecified | pb::RetentionMode::On) => Mode::On,
        Ok(pb::RetentionMode::OnOrAfter) => Mode::OnOrAfter,
        Ok(pb::RetentionMode::Bracket) => return parse_brackets(request, faults),
        Err(_) => {
            faults.push(FieldViolation::new("mode", "not a mode of this version"));
            return None;
        }
    };
    if !request.brackets.is_empty() {
        faults.push(FieldViolation::new("brackets", "only for BRACKET"));
        return None;
    }
    Some(mode)
}

fn parse_brackets(request: &pb::QueryRetentionRequest, faults: &mut Vec<FieldViolation>) -> Option<Mode> {
    let before = faults.len();
    if !(1..=BRACKETS_MAX).contains(&request.brackets.len()) {
        faults.push(FieldViolation::new("brackets", format!("1 to {BRACKETS_MAX} of them")));
    }
    if request.cells != 0 {
        faults.push(FieldViolation::new("cells", "not for BRACKET: the cells are the brackets"));
    }
    let mut free = 0;
    let mut brackets: Vec<Range<u32>> = Vec::with_capacity(request.brackets.len().min(BRACKETS_MAX));
    for (at, bracket) in request.brackets.iter().enumerate().take(BRACKETS_MAX) {
        if bracket.start >= bracket.end {
            faults.push(FieldViolation::new(format!("brackets[{at}].end"), "must be after the start; brackets are half-open"));
        } else if bracket.start < free {
            let field = format!("brackets[{at}].start");
            faults.push(FieldViolation::new(field, format!("must be {free} or more: brackets ascend and do not overlap")));
        }
        free = free.max(bracket.end);
        brackets.push(bracket.start..bracket.end);
    }
    (faults.len() == before).then_some(Mode::Brackets(brackets))
}

/// The place of the breakdown's values, and the breakdown with defaults filled in.
fn parse_breakdown(
    breakdown: Option<&pb::RetentionBreakdown>,
    resolver: &mut Resolver<'_>,
    faults: &mut Vec<FieldViolation>,
) -> (Option<Place>, Option<pb::RetentionBreakdown>) {
    let Some(breakdown) = breakdown else { return (None, None) };
    let top = if breakdown.top == 0 { TOP_DEFAULT } else { breakdown.top };
    if top > TOP_MAX {
        faults.push(FieldViolation::new("breakdown.top", format!("at most {TOP_MAX}")));
    }
    let place = parse::event_field(breakdown.field.as_ref(), "breakdown.field", resolver, faults).map(|field| field.place);
    (place, Some(pb::RetentionBreakdown { top, ..breakdown.clone() }))
}
