//! A request, parsed.

use segue_model::FieldViolation;
use segue_proto::analytics::v1::ListDimensionValuesRequest;

use crate::filter::fields::{ItemColumn, Place, Resolver};
use crate::question::parse;
use crate::question::time::RangeUs;
use crate::question::{Context, QueryError};
use crate::scan::{Column, PropertyType, ScanRequest};

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;
const SEARCH_CHARACTERS_MAX: usize = 1_024;
const RANGE_DEFAULT_US: i64 = 30 * 86_400_000_000;

/// Which values are asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) place: Place,
    pub(super) columns: Vec<Column>,
    pub(super) items: Vec<ItemColumn>,
    /// In lower case; empty: all.
    pub(super) search: String,
    /// Values listed at most.
    pub(super) limit: usize,
    events: Option<Vec<String>>,
    range: RangeUs,
}

impl Asked {
    /// Checks a request. All faults are reported at once.
    pub(super) fn new(context: &Context<'_>, request: &ListDimensionValuesRequest) -> Result<Asked, QueryError> {
        let mut faults = Vec::new();
        let vocabulary = context.vocabulary();
        let mut resolver = Resolver::new(&vocabulary);
        let field = resolver.resolve(request.field.as_ref(), "field", &mut faults);
        if let Some(field) = field.as_ref().filter(|field| field.kind == Some(PropertyType::Json)) {
            let description = format!("`{}` holds arrays or objects, which have no values to choose from", field.name);
            faults.push(FieldViolation::new("field", description));
        }
        let is_text = |kind: Option<PropertyType>| kind.is_none_or(|kind| kind == PropertyType::String);
        if let Some(field) = field.as_ref().filter(|field| !request.search.is_empty() && !is_text(field.kind)) {
            let kind = field.kind.map_or("", PropertyType::name);
            faults.push(FieldViolation::new("search", format!("`{}` is of type {kind}, and only texts can be searched", field.name)));
        }
        if request.search.chars().count() > SEARCH_CHARACTERS_MAX {
            faults.push(FieldViolation::new("search", format!("at most {SEARCH_CHARACTERS_MAX} characters")));
        }
        let events = canonical_events(&request.events, &mut faults);
        let range = match &request.range {
            None => Some(range_default(context.snapshot.watermark_us())),
            Some(range) => parse::range(Some(range), "range", &mut faults),
        };
        let limit = if request.limit == 0 { LIMIT_DEFAULT } else { request.limit };
        if limit > LIMIT_MAX {
            faults.push(FieldViolation::new("limit", format!("at most {LIMIT_MAX}")));
        }
        let (Some(field), Some(range), true) = (field, range, faults.is_empty()) else { return Err(QueryError::Invalid(faults)) };
        let Resolver { columns, items, .. } = resolver;
        Ok(Asked {
            place: field.place,
            columns,
            items,
            search: request.search.to_lowercase(),
            limit: limit as usize,
            events: (!events.is_empty()).then_some(events),
            range,
        })
    }

    /// What to read.
    pub(super) fn scan(&self) -> ScanRequest {
        ScanRequest {
            events: self.events.clone(),
            range_us: (self.range.start, self.range.end),
            columns: self.columns.clone(),
            persons: None,
        }
    }
}

/// The list stands at the top of the request.
fn canonical_events(events: &[String], faults: &mut Vec<FieldViolation>) -> Vec<String> {
    let mut own = Vec::new();
    let canonical = parse::canonical_events(events, "", &mut own);
    faults.extend(own.into_iter().map(|fault| FieldViolation::new(fault.field.trim_start_matches('.'), fault.description)));
    canonical
}

fn range_default(watermark_us: i64) -> RangeUs {
    if watermark_us == 0 {
        return RangeUs { start: i64::MIN, end: i64::MAX };
    }
    let end = watermark_us.saturating_add(1);
    RangeUs { start: end.saturating_sub(RANGE_DEFAULT_US), end }
}
