//! A request, parsed: everything checked, defaults filled in.

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use segue_engine::session::GAP_DEFAULT_US;
use segue_model::FieldViolation;
use segue_proto::analytics::v1 as pb;

use super::cut::Groups;
use crate::condition::Among;
use crate::filter::fields::{ItemColumn, Place, Resolver};
use crate::pass::{Values, Within};
use crate::question::parse::{self, Events};
use crate::question::time::{PERIODS_MAX, Periods, PeriodsError, RangeUs};
use crate::question::{Context, QueryError};
use crate::scan::Column;

/// Group-bys of one request.
pub(super) const GROUP_BY_MAX: usize = 3;
/// Groups shown unless the request says otherwise.
const TOP_DEFAULT: u32 = 20;
/// Groups shown at most.
const TOP_MAX: u32 = 1_000;
const GAP_MAX_US: i64 = 24 * 3_600_000_000;

/// A question, ready to be counted.
pub(super) struct Plan {
    pub(super) range: RangeUs,
    pub(super) periods: Periods,
    /// Whether the answer has periods.
    pub(super) has_grain: bool,
    pub(super) gap_us: i64,
    /// Which events make up sessions.
    pub(super) events: Events,
    pub(super) columns: Vec<Column>,
    pub(super) items: Vec<ItemColumn>,
    pub(super) group_by: Vec<Place>,
    /// The columns of the group-bys.
    pub(super) payload: Vec<usize>,
    /// Groups shown.
    pub(super) top: usize,
    /// Only these persons.
    pub(super) among: Option<RoaringBitmap>,
    /// The request with defaults filled in: it asks the same again.
    pub(super) resolved: pb::QuerySessionsRequest,
}

impl Plan {
    /// Checks and resolves a request, which will be asked about some persons. All faults are reported at once.
    pub(super) fn new(context: &Context<'_>, request: &pb::QuerySessionsRequest, within: Within<'_>) -> Result<Plan, QueryError> {
        let vocabulary = context.vocabulary();
        let mut resolver = Resolver::new(&vocabulary);
        let mut faults = Vec::new();
        let range = parse::range(request.range.as_ref(), "range", &mut faults);
        let before = faults.len();
        let grain = parse::grain(request.grain, "grain", &mut faults);
        let zone = parse::zone(&request.time_zone, context.zone, "time_zone", &mut faults);
        let periods = range.filter(|_| faults.len() == before).and_then(|range| {
            let periods = Periods::new(range, grain, zone);
            periods.map_err(|error| faults.push(fault_of(error))).ok()
        });
        let (events, on) = parse::selector(request.on.as_ref(), "on", &mut resolver, &mut faults);
        // At least the resolution of time: of a gap of nothing, only events of the same moment would be one session.
        let gap_us = parse::duration_us(request.gap.as_ref(), GAP_DEFAULT_US, (1, GAP_MAX_US), "gap", &mut faults);
        let group_by = parse_group_by(request, &mut resolver, &mut faults);
        let top = if request.top == 0 { TOP_DEFAULT } else { request.top };
        if top > TOP_MAX {
            faults.push(FieldViolation::new("top", format!("at most {TOP_MAX}")));
        }
        let among = Among::parse(request.among.as_ref(), &vocabulary, zone, &mut faults);
        let Some((range, periods)) = range.zip(periods).filter(|_| faults.is_empty()) else { return Err(QueryError::Invalid(faults)) };
        let resolved = pb::QuerySessionsRequest {
            range: request.range,
            grain: request.grain,
            time_zone: zone.name().to_owned(),
            on: Some(on),
            gap: Some(parse::duration(gap_us)),
            group_by: request.group_by.clone(),
            top,
            among: request.among.clone(),
        };
        let Resolver { columns, items, .. } = resolver;
        let mut payload: Vec<usize> =
            group_by.iter().filter_map(|place| if let Place::Column(at) = place { Some(*at) } else { None }).collect();
        payload.sort_unstable();
        payload.dedup();
        let has_grain = grain.is_some();
        let top = top as usize;
        Ok(Plan {
            range,
            periods,
            has_grain,
            gap_us,
            events,
            columns,
            items,
            group_by,
            payload,
            top,
            among: among.persons(context, within)?,
            resolved,
        })
    }

    /// Numbers for the groups of one run of this question.
    pub(super) fn groups(&self, context: &Context<'_>) -> Groups {
        Groups { values: Values::default(), known: Mutex::default(), groups_max: context.limits.report.cells_max }
    }
}

fn fault_of(error: PeriodsError) -> FieldViolation {
    match error {
        PeriodsError::TooMany => {
            let description = format!("the range has more than {PERIODS_MAX} periods; take a coarser grain or a shorter range");
            FieldViolation::new("grain", description)
        }
        PeriodsError::OutsideCalendar => FieldViolation::new("range", "leaves the years that the calendar knows"),
    }
}

fn parse_group_by(request: &pb::QuerySessionsRequest, resolver: &mut Resolver<'_>, faults: &mut Vec<FieldViolation>) -> Vec<Place> {
    if request.group_by.len() > GROUP_BY_MAX {
        faults.push(FieldViolation::new("group_by", format!("at most {GROUP_BY_MAX} fields")));
        return Vec::new();
    }
    let mut places = Vec::new();
    for (at, field) in request.group_by.iter().enumerate() {
        let path = format!("group_by[{at}]");
        if request.group_by.iter().take(at).any(|before| before == field) {
            faults.push(FieldViolation::new(path, "grouped by before"));
            continue;
        }
        places.extend(parse::event_field(Some(field), &path, resolver, faults).map(|field| field.place));
    }
    places
}
