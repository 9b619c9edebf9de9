//! Range, zone and periods of a request.

use chrono_tz::Tz;
use segue_model::FieldViolation;
use segue_proto::analytics::v1 as pb;

use crate::question::parse;
use crate::question::time::{PERIODS_MAX, Periods, PeriodsError, RangeUs, bound_us};

/// Range, zone and periods of a request.
pub(super) struct Frame {
    pub(super) zone: Tz,
    pub(super) has_grain: bool,
    pub(super) periods: Periods,
    pub(super) comparison: Option<Periods>,
}

impl Frame {
    /// Reads them; none when they make no sense, which `faults` then says.
    pub(super) fn parse(request: &pb::QueryEventsRequest, default: Tz, faults: &mut Vec<FieldViolation>) -> Option<Frame> {
        let before = faults.len();
        let zone = parse::zone(&request.time_zone, default, "time_zone", faults);
        let grain = parse::grain(request.grain, "grain", faults);
        let range = parse::range(request.range.as_ref(), "range", faults);
        let compare_start = request.compare_start.as_ref().map(bound_us);
        if compare_start == Some(None) {
            faults.push(FieldViolation::new("compare_start", "not a timestamp between the years 1 and 9999"));
        }
        let range = range.filter(|_| faults.len() == before)?;
        let mut periods = |field: &str, range: RangeUs| match Periods::new(range, grain, zone) {
            Ok(periods) => Some(periods),
            Err(PeriodsError::TooMany) => {
                let fault = format!("the range has more than {PERIODS_MAX} periods; take a coarser grain or a shorter range");
                faults.push(FieldViolation::new("grain", fault));
                None
            }
            Err(PeriodsError::OutsideCalendar) => {
                faults.push(FieldViolation::new(field, "outside the years that the calendar knows"));
                None
            }
        };
        let main = periods("range", range)?;
        let comparison = match compare_start.flatten() {
            // Both lie within the years 1 to 9999, so the sum stays in 64 bits.
            Some(start) => Some(periods("compare_start", RangeUs { start, end: start + (range.end - range.start) })?),
            None => None,
        };
        Some(Frame { zone, has_grain: grain.is_some(), periods: main, comparison })
    }
}
