//! Recording and reading what persons agreed to or refused.

use segue_model::identifier::PERSON_ID;
use segue_model::{FieldViolation, TenantId};
use segue_proto::events::v1::Identifier;
use segue_proto::identity::v1::person_consent::Who;
use segue_proto::identity::v1::{
    Consent as ConsentProto, ConsentState, ListConsentsRequest, ListConsentsResponse, SetConsentsRequest, SetConsentsResponse,
};
use segue_runtime::page;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Identity;
use super::persons::page_size;
use crate::consent::{Consent, is_name};
use crate::error::IdentityError;
use crate::store::consents::{self, Place};
use crate::writer::{Job, Whom};

/// Statements of one request.
const CONSENTS_MAX: usize = 1_000;
const SOURCE_BYTES_MAX: usize = 64;
const PROOF_BYTES_MAX: usize = 1_024;
/// How far the clock of who says something may be ahead.
const AHEAD_US_MAX: i64 = 300_000_000;
/// Of times that the API can say: the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

impl Identity {
    pub(super) async fn set_consents_of(
        &self,
        tenant: TenantId,
        request: SetConsentsRequest,
    ) -> Result<SetConsentsResponse, IdentityError> {
        if !(1..=CONSENTS_MAX).contains(&request.consents.len()) {
            return Err(IdentityError::field("consents", format!("1 to {CONSENTS_MAX} of them")));
        }
        let now_us = self.clock.now_us();
        let mut faults = Vec::new();
        let mut said = Vec::with_capacity(request.consents.len());
        let mut nobody = None;
        for (at, consent) in request.consents.into_iter().enumerate() {
            let path = format!("consents[{at}]");
            let checked = checked(&mut faults, &path, consent.consent.unwrap_or_default(), now_us);
            let whom = match consent.who {
                Some(Who::Person(number)) => Some(Whom::Number(number)),
                Some(Who::Identifier(identifier)) => self.whom(identifier),
                None => {
                    faults.push(FieldViolation::new(path, "is about nobody; set `person` or `identifier`"));
                    continue;
                }
            };
            match whom {
                Some(whom) => said.push((whom, checked)),
                None => nobody = nobody.or(Some(path)),
            }
        }
        if !faults.is_empty() {
            return Err(IdentityError::Invalid(faults));
        }
        if let Some(field) = nobody {
            return Err(IdentityError::NamesNobody { field });
        }
        let (reply, outcome) = oneshot::channel();
        self.submit(Job::SetConsents { tenant, said, reply }, outcome).await?;
        Ok(SetConsentsResponse {})
    }

    fn whom(&self, identifier: Identifier) -> Option<Whom> {
        if identifier.kind == PERSON_ID {
            return Uuid::try_parse(&identifier.value).ok().map(Whom::Id);
        }
        self.identifiers.linkable(identifier).map(Whom::Identifier)
    }

    pub(super) async fn consents(&self, tenant: &TenantId, request: ListConsentsRequest) -> Result<ListConsentsResponse, IdentityError> {
        let size = page_size(request.page_size)?;
        let after = read_token(&request.page_token)?;
        let found = consents::history(&self.db, tenant, request.person, after, size as i64 + 1).await?;
        let mut found = found.ok_or(IdentityError::PersonNotFound)?;
        let next_page_token = page::cut(&mut found, size, |(Place(time_us, digest, person), _)| format!("{time_us}.{digest}.{person}"));
        Ok(ListConsentsResponse { consents: found.into_iter().map(|(_, consent)| consent.into_proto()).collect(), next_page_token })
    }
}

fn read_token(token: &str) -> Result<Place, IdentityError> {
    if token.is_empty() {
        return Ok(Place::BEGIN);
    }
    let parts: Vec<i64> = token.split('.').map_while(|part| part.parse().ok()).collect();
    match parts[..] {
        [time_us, digest, person] => Ok(Place(time_us, digest, person)),
        _ => Err(page::bad_token().into()),
    }
}

/// The statement; what is wrong with it is added to the faults.
fn checked(faults: &mut Vec<FieldViolation>, path: &str, consent: ConsentProto, now_us: i64) -> Consent {
    let granted = match consent.state() {
        ConsentState::Granted => true,
        ConsentState::Refused => false,
        ConsentState::Unspecified => {
            faults.push(FieldViolation::new(format!("{path}.consent.state"), "is missing; set GRANTED or REFUSED"));
            false
        }
    };
    for (field, name) in [("channel", &consent.channel), ("purpose", &consent.purpose)] {
        if !is_name(name) {
            faults.push(FieldViolation::new(format!("{path}.consent.{field}"), "1 to 64 characters of a-z, 0-9 and '_'"));
        }
    }
    for (field, text, bytes_max) in [("source", &consent.source, SOURCE_BYTES_MAX), ("proof", &consent.proof, PROOF_BYTES_MAX)] {
        // PostgreSQL cannot store the NUL character.
        if text.len() > bytes_max || text.contains('\0') {
            faults.push(FieldViolation::new(format!("{path}.consent.{field}"), format!("must be text of at most {bytes_max} bytes")));
        }
    }
    let time_us = match consent.time {
        None => now_us,
        Some(time) if SECONDS.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos) => {
            let time_us = time.seconds * 1_000_000 + i64::from(time.nanos / 1_000);
            // Clocks differ by a little. What is dated to the future beyond that is said now: else nothing that is said until then would count.
            if time_us > now_us.saturating_add(AHEAD_US_MAX) { now_us } else { time_us }
        }
        Some(_) => {
            faults.push(FieldViolation::new(format!("{path}.consent.time"), "must be a time of the years 1 to 9999"));
            now_us
        }
    };
    Consent { channel: consent.channel, purpose: consent.purpose, granted, time_us, source: consent.source, proof: consent.proof }
}
