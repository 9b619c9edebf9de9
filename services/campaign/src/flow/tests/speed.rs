//! How fast runs go, to be looked at by hand.

use std::time::Instant;

use segue_proto::campaign::v1::MessageStep;

use super::*;

const PERSONS: u32 = 60_000;

#[tokio::test]
#[ignore = "takes a while: `cargo test --release -p segue-campaign -- --ignored --nocapture speed`"]
async fn speed_of_a_scenario_of_five_steps() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let shop = Shop::open(&store, &log).await?;
        let message = || Kind::Message(MessageStep { channel: "mail".to_owned(), template: "hello".to_owned(), ..MessageStep::default() });
        let definition = ScenarioDefinition {
            entry: by_audience("a"),
            steps: vec![
                step("m1", "w1", message()),
                step("w1", "m2", wait_hours(1)),
                step("m2", "w2", message()),
                step("w2", "end", wait_hours(1)),
                step("end", "", Kind::End(EndStep {})),
            ],
            ..ScenarioDefinition::default()
        };
        let mut worker = shop.worker("p", vec![started("s", definition, NOW_US)]).await?;
        let begun = Instant::now();
        shop.entered("a", NOW_US, &(1..=PERSONS).collect()).await?;
        for hour in 0..3 {
            let part = Instant::now();
            settle(&mut worker).await?;
            println!("{:?}: hour {hour}: {:.1} s", store.kind(), part.elapsed().as_secs_f64());
            shop.clock.advance_us(HOUR_US);
        }
        let (seconds, steps) = (begun.elapsed().as_secs_f64(), worker.row.steps_done);
        println!("{:?}: {steps} steps of {PERSONS} persons in {seconds:.1} s: {:.0} steps/s", store.kind(), steps as f64 / seconds);
        assert_eq!(steps, u64::from(PERSONS) * 5);
        shop.close().await?;
    }
    Ok(())
}
