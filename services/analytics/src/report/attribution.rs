//! The request's attribution: from which touches attribution-dependent dimensions are read.

use std::num::NonZeroU64;

use segue_engine::attribution::{Attribution, LOOK_BACK_US_DEFAULT, Model, Position};
use segue_model::{FieldViolation, dimension};
use segue_proto::analytics::v1 as pb;

use crate::question::parse::{duration, duration_us};
use crate::scan::Column;

/// The longest look-back, and the longest half-life: 180 days.
const DAYS_180_US: i64 = 180 * 86_400_000_000;

/// Attribution of a report that names an attribution-dependent dimension.
#[derive(Debug, Clone)]
pub(super) struct Attributed {
    /// The rule.
    pub(super) rule: Attribution,
    /// The columns that are read from touches instead of the row: the place among the plan's columns, and the dimension's code.
    pub(super) columns: Vec<(usize, u32)>,
}

/// An attribution as asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    rule: Attribution,
    /// With defaults filled in.
    pub(super) resolved: pb::Attribution,
}

impl Asked {
    /// Reads the request's attribution; what is left out is the default.
    pub(super) fn parse(attribution: Option<&pb::Attribution>, faults: &mut Vec<FieldViolation>) -> Asked {
        let asked = attribution.copied().unwrap_or_default();
        let model = match pb::AttributionModel::try_from(asked.model) {
            Ok(pb::AttributionModel::Unspecified) => pb::AttributionModel::LastTouch,
            Ok(model) => model,
            Err(_) => {
                faults.push(FieldViolation::new("attribution.model", "not a model of this version"));
                pb::AttributionModel::LastTouch
            }
        };
        let mut length = |given: Option<&prost_types::Duration>, default_us: i64, path: &str, is_used: bool, only: &str| {
            if !is_used && given.is_some() {
                faults.push(FieldViolation::new(path, only));
            }
            if is_used { duration_us(given, default_us, (1, DAYS_180_US), path, faults) } else { default_us }
        };
        let looks_back = model != pb::AttributionModel::Event;
        let decays = model == pb::AttributionModel::TimeDecay;
        let look_back_us =
            length(asked.look_back.as_ref(), LOOK_BACK_US_DEFAULT, "attribution.look_back", looks_back, "EVENT does not look back");
        let half_life_default = Model::HALF_LIFE_US_DEFAULT.get().cast_signed();
        let half_life_us = length(asked.half_life.as_ref(), half_life_default, "attribution.half_life", decays, "only for TIME_DECAY");
        let rule = Attribution {
            model: match model {
                pb::AttributionModel::Unspecified | pb::AttributionModel::LastTouch => Model::LastTouch,
                pb::AttributionModel::FirstTouch => Model::FirstTouch,
                pb::AttributionModel::Linear => Model::Linear,
                pb::AttributionModel::Position => Model::Position(Position::default()),
                pb::AttributionModel::TimeDecay => {
                    let half_life_us = NonZeroU64::new(half_life_us.unsigned_abs()).unwrap_or(Model::HALF_LIFE_US_DEFAULT);
                    Model::TimeDecay { half_life_us }
                }
                pb::AttributionModel::Event => Model::Event,
            },
            look_back_us,
        };
        let resolved = pb::Attribution {
            model: model as i32,
            look_back: looks_back.then(|| duration(look_back_us)),
            half_life: decays.then(|| duration(half_life_us)),
        };
        Asked { rule, resolved }
    }

    /// What it means for a report that reads these columns: nothing (twice) where it names no attribution-dependent dimension; a
    /// rule unless the event's own values are wanted, and what the answer says.
    pub(super) fn of_columns(self, columns: &[Column]) -> (Option<Attributed>, Option<pb::Attribution>) {
        let dependent = |(place, column): (usize, &Column)| match column {
            Column::Dimension(code) if dimension::by_code(*code)?.attribution_dependent => Some((place, *code)),
            _ => None,
        };
        let columns: Vec<(usize, u32)> = columns.iter().enumerate().filter_map(dependent).collect();
        if columns.is_empty() {
            return (None, None);
        }
        let attributed = (self.rule.model != Model::Event).then_some(Attributed { rule: self.rule, columns });
        (attributed, Some(self.resolved))
    }
}
