//! [`Among`]: the condition that limits a report to some persons.

use chrono_tz::Tz;
use roaring::RoaringBitmap;
use segue_model::FieldViolation;
use segue_proto::query::v1 as pb;

use super::{Plan, evaluate};
use crate::filter::fields::Vocabulary;
use crate::pass::{Within, persons_of};
use crate::question::{Context, QueryError};

/// A report's `among`, checked; it may be everybody.
pub(crate) struct Among(Option<Plan>);

impl Among {
    /// Reads the field `among` of a request.
    pub(crate) fn parse(condition: Option<&pb::Condition>, vocabulary: &Vocabulary, zone: Tz, faults: &mut Vec<FieldViolation>) -> Self {
        Among(condition.map(|condition| Plan::parse(condition, "among", vocabulary, zone, faults)))
    }

    /// Who of these persons meets it as of the watermark; `None` is everybody. Not to be called when parsing found faults.
    pub(crate) fn persons(&self, context: &Context<'_>, within: Within<'_>) -> Result<Option<RoaringBitmap>, QueryError> {
        let Some(plan) = &self.0 else { return Ok(None) };
        let within = within.map(persons_of);
        Ok(Some(evaluate(context, plan, context.known_until_us()?, within.as_ref())?.persons))
    }
}
