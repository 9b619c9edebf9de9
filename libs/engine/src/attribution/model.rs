//! The models of attribution and their options.

use std::num::NonZeroU64;

use super::WHOLE;

/// Who gets how much of an event's credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Model {
    /// The event's own values; the look-back window does not matter.
    Event,
    /// The first touch in the window.
    FirstTouch,
    /// The last touch in the window.
    LastTouch,
    /// Every touch in the window alike.
    Linear,
    /// Most to the first and the last touch, the rest to those in between.
    Position(Position),
    /// A touch weighs 2^(−age ÷ half-life), its age being the time from it to the event.
    TimeDecay {
        /// In microseconds; [`HALF_LIFE_US_DEFAULT`](Model::HALF_LIFE_US_DEFAULT) unless a question says otherwise.
        half_life_us: NonZeroU64,
    },
}

impl Model {
    /// Seven days.
    pub const HALF_LIFE_US_DEFAULT: NonZeroU64 = match NonZeroU64::new(7 * 86_400_000_000) {
        Some(half_life) => half_life,
        None => NonZeroU64::MIN,
    };

    /// Whether an event's credit can be shared among several touches.
    pub fn is_fractional(self) -> bool {
        match self {
            Model::Event | Model::FirstTouch | Model::LastTouch => false,
            Model::Linear | Model::Position(_) | Model::TimeDecay { .. } => true,
        }
    }
}

/// Percentages of position-based attribution: 40 % to the first touch, 40 % to the last and 20 % to those in between, all alike,
/// unless a question says otherwise. Two touches share the whole in the proportion of first and last; one touch gets all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    first: u8,
    last: u8,
}

/// Percentages that make no position-based attribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// First and last together are over 100 %.
    #[error("the first touch's {first} % and the last touch's {last} % are over 100 % together: lower one of them")]
    Over100 {
        /// As asked for.
        first: u32,
        /// As asked for.
        last: u32,
    },
    /// Two touches would share nothing.
    #[error("neither the first nor the last touch gets anything: give at least one of them a percentage above 0")]
    Nothing,
}

impl Default for Position {
    fn default() -> Self {
        Position { first: 40, last: 40 }
    }
}

/// Parts of the first touch, the last, and each one in between, before the remainder goes to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) first: u64,
    pub(super) between: u64,
    pub(super) last: u64,
}

impl Position {
    /// Whole percentages of the first and the last touch.
    pub fn new(first: u32, last: u32) -> Result<Position, PositionError> {
        let over = PositionError::Over100 { first, last };
        match (u8::try_from(first), u8::try_from(last)) {
            (Ok(0), Ok(0)) => Err(PositionError::Nothing),
            (Ok(first), Ok(last)) if u32::from(first) + u32::from(last) <= 100 => Ok(Position { first, last }),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => Err(over),
        }
    }

    /// Percentage of the first touch.
    pub fn first(self) -> u32 {
        u32::from(self.first)
    }

    /// Percentage of the last touch.
    pub fn last(self) -> u32 {
        u32::from(self.last)
    }

    /// How `touches` (two or more) share.
    pub(super) fn shares(self, touches: usize) -> Shares {
        let (first, last) = (u64::from(self.first), u64::from(self.last));
        if touches <= 2 {
            let of_two = WHOLE * first / (first + last);
            return Shares { first: of_two, between: 0, last: WHOLE - of_two };
        }
        let percent = WHOLE / 100;
        let between = percent * (100 - first - last) / (touches as u64 - 2);
        Shares { first: percent * first, between, last: percent * last }
    }
}
