//! The service as a whole, under everything at once: random scenarios and happenings; several processes that run them and send, each of
//! which ends at random moments without giving anything back; clocks that jump and differ; events that come again and late; persons who are
//! merged; consents that are withdrawn; a provider behind HTTP that has troubles of its own. Identity is the real one.
//!
//! | module | what |
//! |---|---|
//! | [`script`] | what a case is made of |
//! | [`world`] | what cases run in |
//! | [`process`] | processes that end |
//! | [`provider`] | where messages go |
//! | [`definition`] | scenarios as the service gets them |
//! | [`case`] | carrying a script out |
//! | [`steps`] | whether runs did what they had to, by the script alone |
//! | [`messages`] | whether messages did |
//!
//! `PROPTEST_CASES` sets how many cases there are. What fails is made smaller and shown as it then is.

mod case;
mod definition;
mod messages;
mod process;
mod provider;
mod script;
mod steps;
mod world;

use anyhow::Result;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use segue_testkit::TempStore;

use case::Case;
use script::script;
use world::World;

/// 2025-05-28 10:00 UTC.
const NOW_US: i64 = 1_748_426_400_000_000;
const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;

/// What proptest makes of no `PROPTEST_CASES`.
const CASES_UNSET: u32 = 256;

fn hold_to_it(place: TempStore, cases: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let world = runtime.block_on(World::new(place))?;
    let cases = Some(Config::default().cases).filter(|asked| *asked != CASES_UNSET).unwrap_or(cases);
    let config = Config { cases, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let number = std::cell::Cell::new(0);
    let held = TestRunner::new(config).run(&script(), |script| {
        number.set(number.get() + 1);
        let done = runtime.block_on(Case::run(&world, &format!("case-{}", number.get()), &script));
        done.map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    let stopped = runtime.block_on(world.stop());
    held.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    stopped
}

#[test]
fn whatever_happens_steps_are_done_once_caps_hold_and_nobody_is_messaged_against_their_will_on_sqlite() -> Result<()> {
    hold_to_it(TempStore::sqlite(), 6)
}

#[test]
fn whatever_happens_steps_are_done_once_caps_hold_and_nobody_is_messaged_against_their_will_on_postgres() -> Result<()> {
    TempStore::postgres().map_or(Ok(()), |place| hold_to_it(place, 24))
}
