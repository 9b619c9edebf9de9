//! Questions over the workers of DataFusion Distributed.

use std::cell::Cell;

use datafusion_distributed::DistributedExec;

use super::*;
use crate::cluster::over_workers;

/// Compares, and gives how many plans were spread over workers.
fn compare(cases: u32, strategy: &impl Strategy<Value = Case>) -> u32 {
    let distributed = Cell::new(0);
    let mut runner = TestRunner::new(Config::with_cases(cases));
    let checked = runner.run(strategy, |case| {
        let (snapshot, asked) = &case;
        let expected = alone(snapshot, asked).expect("an answer");
        let together = over_workers(&in_parts(snapshot, 2), &[snapshot.clone(), snapshot.clone(), snapshot.clone()]);
        let plan = RUNTIME.block_on(inquiry(&case).plan(&together)).expect("a plan");
        distributed.set(distributed.get() + u32::from(plan.is::<DistributedExec>()));
        let found = RUNTIME.block_on(answer(&together, inquiry(&case)));
        prop_assert_eq!(untimed(found.expect("an answer")), expected);
        Ok(())
    });
    checked.unwrap_or_else(|difference| panic!("{difference}"));
    distributed.get()
}

#[test]
fn questions_over_workers_are_answered_as_in_one_pass() {
    let distributed = [
        compare(12, &any_funnel()),
        compare(12, &any_retention()),
        compare(12, &any_path()),
        compare(12, &any_sessions()),
        compare(12, &any_persons()),
    ];
    assert!(distributed.iter().all(|plans| *plans >= 6), "{distributed:?}");
}

#[test]
fn many_partial_results_over_workers_are_put_together() {
    let snapshot = many();
    let together = over_workers(&in_parts(&snapshot, 2), &[snapshot.clone(), snapshot.clone(), snapshot.clone()]);
    for asked in many_questions() {
        let expected = alone(&snapshot, &asked).expect("an answer");
        let found = RUNTIME.block_on(answer(&together, inquiry(&(snapshot.clone(), asked))));
        assert_eq!(untimed(found.expect("an answer")), expected);
    }
}
