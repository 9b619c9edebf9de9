//! Adding sessions up by group and period.

use segue_engine::session::Tally;

use super::cut::{self, Filed, Groups, Sink};
use super::plan::Plan;
use crate::pass::Within;
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;

/// What a session keeps: its duration and whose it is.
pub(super) const SESSION_BYTES: usize = size_of::<u64>() + size_of::<u32>();

/// Adds sessions up.
struct Count<'c> {
    plan: &'c Plan,
    watermark_us: i64,
    /// Sessions kept by one thread.
    sessions_max: usize,
}

/// What some persons' sessions come to.
#[derive(Default)]
struct Counted {
    tally: Tally<u32>,
    sessions: usize,
    too_much: bool,
}

/// The sessions of these persons by group and period.
pub(super) fn count(
    context: &Context<'_>,
    plan: &Plan,
    groups: &Groups,
    within: Within<'_>,
) -> Result<(Tally<u32>, ScanStats), QueryError> {
    let bytes_max = context.limits.report.bytes_max;
    let sessions_max = bytes_max / SESSION_BYTES / context.limits.threads.max(1);
    let watermark_us = context.snapshot.watermark_us();
    let (counted, stats) = cut::run(context, plan, groups, &Count { plan, watermark_us, sessions_max }, within)?;
    if counted.too_much {
        return Err(QueryError::TooMuchMemory { what: "the lengths of its sessions", bytes_max });
    }
    Ok((counted.tally, stats))
}

impl Sink for Count<'_> {
    type Partial = Counted;

    fn partial(&self) -> Counted {
        Counted::default()
    }

    fn has_groups(&self) -> bool {
        true
    }

    fn person(&self, partial: &mut Counted, person: u32, sessions: impl Iterator<Item = Filed>) {
        for Filed { period, group, session } in sessions {
            partial.sessions += 1;
            if partial.sessions > self.sessions_max {
                partial.too_much = true;
                return;
            }
            let still_open = session.may_go_on(self.watermark_us, self.plan.gap_us);
            partial.tally.figures_mut(group, period).add(person, &session, still_open);
        }
    }

    fn merge(&self, into: &mut Counted, from: Counted) {
        into.tally.merge(from.tally, |group| group);
        into.sessions += from.sessions;
        into.too_much |= from.too_much;
    }
}
