//! The answer of a batch, and its stored form: what a caller that asks again is told again.

use prost::Message;
use segue_proto::identity::v1::{PersonProfile, Resolution as ResolutionProto, ResolveBatchResponse};

use crate::error::IdentityError;
use crate::registry::{PROFILE_TRAITS, Profile};
use crate::rules::Resolution;

/// First byte of the stored form.
const FORMAT: u8 = 1;
/// No stored answer is larger once unpacked; far above what the limits of a batch allow.
const BODY_BYTES_MAX: usize = 256 << 20;

/// What a batch was resolved to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// One per subject.
    pub resolutions: Vec<Resolution>,
    /// Of each person of the batch that has any traits for reports, in order of appearance.
    pub profiles: Vec<PersonProfile>,
}

impl Answer {
    /// As stored: three to seven bytes per event, before packing.
    pub fn encode(&self) -> Result<Vec<u8>, IdentityError> {
        let mut plain = Vec::with_capacity(self.resolutions.len() * 6 + 16);
        write_varint(&mut plain, self.resolutions.len() as u64);
        for resolution in &self.resolutions {
            write_varint(&mut plain, u64::from(resolution.person) << 1 | u64::from(resolution.first));
            write_varint(&mut plain, u64::from(resolution.device));
        }
        for profile in &self.profiles {
            // Profiles hold text of bounded size: writing to a vector cannot fail.
            plain.extend_from_slice(&profile.encode_length_delimited_to_vec());
        }
        let mut body = vec![FORMAT];
        zstd::stream::copy_encode(plain.as_slice(), &mut body, 1).map_err(|_| IdentityError::Corrupt { what: "answer" })?;
        Ok(body)
    }

    /// From the stored form.
    pub fn decode(body: &[u8]) -> Result<Self, IdentityError> {
        Self::read(body).ok_or(IdentityError::Corrupt { what: "answer" })
    }

    fn read(body: &[u8]) -> Option<Self> {
        let (format, packed) = body.split_first()?;
        if *format != FORMAT {
            return None;
        }
        let mut plain = Vec::new();
        let mut reader = std::io::Read::take(zstd::stream::read::Decoder::new(packed).ok()?, BODY_BYTES_MAX as u64);
        std::io::Read::read_to_end(&mut reader, &mut plain).ok()?;
        let mut rest = plain.as_slice();
        let count = usize::try_from(read_varint(&mut rest)?).ok()?;
        let mut resolutions = Vec::with_capacity(count.min(1 << 20));
        for _ in 0..count {
            let person = read_varint(&mut rest)?;
            let device = u32::try_from(read_varint(&mut rest)?).ok()?;
            resolutions.push(Resolution { person: u32::try_from(person >> 1).ok()?, device, first: person & 1 == 1 });
        }
        let mut profiles = Vec::new();
        while !rest.is_empty() {
            profiles.push(PersonProfile::decode_length_delimited(&mut rest).ok()?);
        }
        Some(Self { resolutions, profiles })
    }

    /// As the contract says it.
    pub fn into_proto(self) -> ResolveBatchResponse {
        let resolutions = self
            .resolutions
            .into_iter()
            .map(|resolution| ResolutionProto { person: resolution.person, device: resolution.device, first: resolution.first })
            .collect();
        ResolveBatchResponse { resolutions, profiles: self.profiles }
    }
}

/// The traits for reports of `person`.
pub fn profile_of(person: u32, profile: &Profile) -> PersonProfile {
    let traits = PROFILE_TRAITS
        .iter()
        .zip(profile)
        .filter_map(|(name, value)| value.as_ref().map(|value| ((*name).to_owned(), value.value.clone())))
        .collect();
    PersonProfile { person, traits }
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::TraitValue;
    use proptest::prelude::*;
    use segue_proto::events::v1::{Value, value::Kind};

    proptest! {
        #[test]
        fn an_answer_reads_back_as_it_was(numbers in prop::collection::vec((any::<u32>(), any::<u32>(), any::<bool>()), 0..200)) {
            let resolutions: Vec<Resolution> =
                numbers.into_iter().map(|(person, device, first)| Resolution { person, device, first }).collect();
            let value = Value { kind: Some(Kind::StringValue("gold".into())) };
            let mut profile = Profile::default();
            profile[2] = Some(TraitValue { value, time_us: 1, ordinal: 1 });
            let answer = Answer { resolutions, profiles: vec![profile_of(7, &profile)] };
            prop_assert_eq!(Answer::decode(&answer.encode().unwrap()).unwrap(), answer);
        }

        #[test]
        fn damaged_answers_are_errors_not_panics(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Answer::decode(&body);
        }
    }
}
