//! Which touches an event is credited to: first, last, linear, position-based and time-decay attribution.
//!
//! A *touch* is an event that carries at least one value of an attribution-dependent dimension (an ad campaign, a tracking link,
//! a channel group …). The values of a touch are credited together: `value` stands for the tuple of them.
//!
//! # Rules
//!
//! - A touch is looked at when its time lies in the look-back window `(t − N, t]` of the event at time t, and when it does not come
//!   after the event: of touches at t itself, those whose sequence is at most the event's. So an event that carries
//!   values is its own touch.
//! - Without a touch in the window nothing is credited: the event's values are missing.
//! - The parts of one event always add up to [`WHOLE`]. Each touch's share is rounded down to whole parts, and what that leaves over
//!   goes to the last touch that has a share. Sums over groups therefore add up to the total exactly.
//! - A touch whose share is no part at all is not credited.
//!
//! To add a model: a variant of [`Model`], its arm in [`Attribution::credit`], and cases in `tests`.

mod model;
#[cfg(test)]
mod tests;

pub use model::{Model, Position, PositionError};

/// Parts of one event's credit.
///
/// Ten times the least common multiple of 1 to 22: equal shares of up to 22 touches, whole percentages, and equal
/// shares of the 20 % that position-based attribution leaves to the touches in between are all whole numbers of parts. Credits
/// of one event fit 32 bits, those of any number of events 128.
pub const WHOLE: u64 = 2_327_925_600;

/// The look-back window unless a question says otherwise: seven days.
pub const LOOK_BACK_US_DEFAULT: i64 = 7 * 86_400_000_000;

/// One touch of a person. The touches of a person are given sorted by (`ts`, `sequence`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Touch {
    /// Event time, microseconds UTC.
    pub ts: i64,
    /// Decides between events of equal time.
    pub sequence: u64,
    /// Code of the tuple of attribution-dependent values.
    pub value: u32,
}

/// What one touch is credited with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credit {
    /// The touch's value.
    pub value: u32,
    /// Of [`WHOLE`]; above zero.
    pub parts: u64,
}

/// How events are credited: a model and how far it looks back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attribution {
    /// Who gets how much.
    pub model: Model,
    /// Length N of the window `(t − N, t]`, in microseconds, above zero. [`Model::Event`] has no use for it.
    pub look_back_us: i64,
}

impl Default for Attribution {
    fn default() -> Self {
        Attribution { model: Model::LastTouch, look_back_us: LOOK_BACK_US_DEFAULT }
    }
}

impl Attribution {
    /// The touches that an event at (`ts`, `sequence`) may be credited to, in order.
    pub fn window<'t>(&self, touches: &'t [Touch], ts: i64, sequence: u64) -> &'t [Touch] {
        let until = touches.partition_point(|touch| (touch.ts, touch.sequence) <= (ts, sequence));
        let before = ts.saturating_sub(self.look_back_us);
        let from = match self.model {
            Model::Event => touches.partition_point(|touch| (touch.ts, touch.sequence) < (ts, sequence)),
            Model::FirstTouch | Model::LastTouch | Model::Linear | Model::Position(_) | Model::TimeDecay { .. } => {
                touches.partition_point(|touch| touch.ts <= before)
            }
        };
        touches.get(from..until).unwrap_or_default()
    }

    /// Appends to `credits` what the touches of a person are credited with for its event at (`ts`, `sequence`), in the touches' order.
    /// Nothing when no touch lies in the window.
    pub fn credit(&self, touches: &[Touch], ts: i64, sequence: u64, credits: &mut Vec<Credit>) {
        let window = self.window(touches, ts, sequence);
        let [first, .., last] = window else {
            credits.extend(window.first().map(|only| whole(*only)));
            return;
        };
        match self.model {
            Model::FirstTouch => credits.push(whole(*first)),
            Model::Event | Model::LastTouch => credits.push(whole(*last)),
            Model::Linear => {
                let each = WHOLE / window.len() as u64;
                share_out(window, credits, |_| each);
            }
            Model::Position(position) => {
                let shares = position.shares(window.len());
                let end = window.len() - 1;
                share_out(window, credits, |at| match at {
                    0 => shares.first,
                    at if at == end => shares.last,
                    _ => shares.between,
                });
            }
            Model::TimeDecay { half_life_us } => {
                // Ages are taken from the last touch, whose weight is then 1: the factor cancels out, and the sum is never zero.
                let weight = |touch: &Touch| (-(touch.ts.abs_diff(last.ts) as f64) / half_life_us.get() as f64).exp2();
                let sum: f64 = window.iter().map(weight).sum();
                // Rounded down, so that in whole numbers the parts do not exceed the whole either.
                share_out(window, credits, |at| (weight(&window[at]) / sum * WHOLE as f64) as u64);
            }
        }
    }
}

fn whole(touch: Touch) -> Credit {
    Credit { value: touch.value, parts: WHOLE }
}

/// Credits every touch with its share, and the last one that has any with what is left over.
fn share_out(window: &[Touch], credits: &mut Vec<Credit>, share: impl Fn(usize) -> u64) {
    let mut left = WHOLE;
    let before = credits.len();
    for (at, touch) in window.iter().enumerate() {
        let parts = share(at).min(left);
        left -= parts;
        if parts > 0 {
            credits.push(Credit { value: touch.value, parts });
        }
    }
    if let Some(last) = credits[before..].last_mut() {
        last.parts += left;
    }
}
