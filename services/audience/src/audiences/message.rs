//! Segments and audiences as messages.

use chrono_tz::Tz;
use prost::Message;
use segue_model::FieldViolation;
use segue_proto::audience::v1::{Audience, AudienceMode, DefinitionVersion, Segment};
use segue_proto::query::v1::Condition;
use segue_runtime::fields;

use super::Evaluated;
use crate::conditions;
use crate::definitions::Mode;
use crate::definitions::change::{Content, Stored, Version};
use crate::error::{AudienceError, Kind};
use crate::store::timestamp;

/// Of a condition, encoded.
const CONDITION_BYTES_MAX: usize = 64 << 10;
/// Hundredths of a percent.
const HOLDOUT_MAX: u32 = 10_000;

/// What a segment says.
pub(super) fn segment_of(segment: Segment, is_new: bool) -> Result<Content, AudienceError> {
    let Segment { name, description, condition, .. } = segment;
    let condition = required("segment.condition", condition, is_new)?;
    Ok(Content { name, description, condition, mode: Mode::Live, holdout: 0, time_zone: String::new() })
}

/// What an audience says.
pub(super) fn audience_of(audience: Audience, is_new: bool) -> Result<Content, AudienceError> {
    let Audience { name, description, condition, mode, holdout, time_zone, .. } = audience;
    let condition = required("audience.condition", condition, is_new)?;
    let mode = match AudienceMode::try_from(mode) {
        Ok(AudienceMode::Unspecified | AudienceMode::Live) => Mode::Live,
        Ok(AudienceMode::Snapshot) => Mode::Snapshot,
        Err(_) => return Err(AudienceError::field("audience.mode", "one of LIVE and SNAPSHOT")),
    };
    Ok(Content { name, description, condition, mode, holdout, time_zone })
}

/// A condition that is left out is one without a node: a fault where it counts.
fn required(field: &str, condition: Option<Condition>, is_new: bool) -> Result<Condition, AudienceError> {
    match condition {
        None if is_new => Err(AudienceError::field(field, "required")),
        condition => Ok(condition.unwrap_or_default()),
    }
}

/// Checks the named fields by themselves.
pub(super) fn check_content(faults: &mut Vec<FieldViolation>, kind: Kind, content: &Content, checked: &[&str]) {
    for field in checked {
        let path = format!("{kind}.{field}");
        match *field {
            "name" => fields::check_name(faults, &path, &content.name),
            "description" => fields::check_description(faults, &path, &content.description),
            "condition" if content.condition.encoded_len() > CONDITION_BYTES_MAX => {
                let fault = format!("takes more than {} KiB: put persons on a list, and parts into segments", CONDITION_BYTES_MAX >> 10);
                faults.push(FieldViolation::new(path, fault));
            }
            "holdout" if content.holdout > HOLDOUT_MAX => {
                faults.push(FieldViolation::new(path, format!("0 to {HOLDOUT_MAX} hundredths of a percent")));
            }
            "time_zone" if !content.time_zone.is_empty() && content.time_zone.parse::<Tz>().is_err() => {
                faults.push(FieldViolation::new(path, "not a zone of the IANA database, such as Asia/Seoul"));
            }
            _ => {}
        }
    }
}

impl Stored {
    /// About how much it takes in an answer.
    pub(super) fn bytes(&self) -> usize {
        self.content.name.len() + self.content.description.len() + self.content.condition.encoded_len()
    }
}

pub(super) fn segment_to_proto(stored: Stored) -> Segment {
    Segment {
        etag: stored.etag(),
        id: stored.id,
        text: conditions::text(&stored.content.condition),
        name: stored.content.name,
        description: stored.content.description,
        condition: Some(stored.content.condition),
        version: stored.version,
        archived: stored.archived,
        created_at: Some(timestamp(stored.created_us)),
        updated_at: Some(timestamp(stored.updated_us)),
    }
}

pub(super) fn audience_to_proto(stored: Stored, evaluated: Option<Evaluated>) -> Audience {
    let mode = match stored.content.mode {
        Mode::Live => AudienceMode::Live,
        Mode::Snapshot => AudienceMode::Snapshot,
    };
    Audience {
        etag: stored.etag(),
        id: stored.id,
        text: conditions::text(&stored.content.condition),
        name: stored.content.name,
        description: stored.content.description,
        condition: Some(stored.content.condition),
        mode: mode.into(),
        holdout: stored.content.holdout,
        time_zone: stored.content.time_zone,
        version: stored.version,
        archived: stored.archived,
        created_at: Some(timestamp(stored.created_us)),
        updated_at: Some(timestamp(stored.updated_us)),
        size: evaluated.as_ref().map(|evaluated| evaluated.size),
        held_out: evaluated.as_ref().map(|evaluated| evaluated.held_out),
        evaluated_version: evaluated.as_ref().map_or(0, |evaluated| evaluated.version),
        evaluated_at: evaluated.map(|evaluated| timestamp(evaluated.at_us)),
    }
}

pub(super) fn version_to_proto(version: Version) -> DefinitionVersion {
    DefinitionVersion {
        version: version.version,
        text: conditions::text(&version.condition),
        condition: Some(version.condition),
        created_at: Some(timestamp(version.created_us)),
        holdout: version.holdout,
        time_zone: version.time_zone,
    }
}
