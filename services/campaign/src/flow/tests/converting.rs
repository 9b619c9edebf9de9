//! What counts as a conversion, and of which run.

use segue_proto::campaign::v1::{EventEntry, Goal, MessageStep};
use segue_proto::events::v1::Event;
use segue_store::on_db;

use super::*;

/// An event of person 1 about a cart.
async fn about(shop: &Shop, name: &str, id: &str, cart: i64, time_us: i64) -> Result<()> {
    let event = ResolvedEvent {
        person: 1,
        time_us,
        name: name.to_owned(),
        message_id: id.to_owned(),
        properties: [("cart".to_owned(), Value { kind: Some(ValueKind::IntValue(cart)) })].into(),
        ..ResolvedEvent::default()
    };
    let batch = ResolvedBatch { groups: vec![ResolvedGroup { tenant: shop.tenant.to_string(), events: vec![event] }] };
    shop.append("resolved", batch.encode_to_vec()).await
}

#[tokio::test]
async fn whoever_is_messaged_by_two_runs_converts_once_by_the_message_of_the_one_entered_last() -> Result<()> {
    for store in segue_testkit::stores() {
        let log = TempLog::embedded();
        let shop = Shop::open(&store, &log).await?;
        let message = MessageStep { channel: "push".to_owned(), template: "push".to_owned(), ..MessageStep::default() };
        let entry = EventEntry { on: on("cart"), entry_key_property: "cart".to_owned() };
        let goal = Goal { name: "bought".to_owned(), on: on("buy"), window: hours(1), ..Goal::default() };
        let definition = ScenarioDefinition {
            entry: Some(Entry { on: Some(entry::On::Event(entry)), only_if: None }),
            steps: vec![step("m", "w", Kind::Message(message)), step("w", "", wait_hours(2))],
            goals: vec![goal],
            ..ScenarioDefinition::default()
        };
        let mut worker = shop.worker("p", vec![started("s", definition, NOW_US)]).await?;
        about(&shop, "cart", "c1", 1, NOW_US).await?;
        about(&shop, "cart", "c2", 2, NOW_US + SECOND_US).await?;
        about(&shop, "buy", "b1", 1, NOW_US + 2 * SECOND_US).await?;
        // The same again, and another one: the goal was reached.
        about(&shop, "buy", "b1", 1, NOW_US + 2 * SECOND_US).await?;
        about(&shop, "buy", "b2", 2, NOW_US + 3 * SECOND_US).await?;
        shop.clock.advance_us(5 * SECOND_US);
        settle(&mut worker).await?;
        let runs = shop.runs("s").await?;
        assert_eq!(runs.iter().map(|run| run.entry_key.as_str()).collect::<Vec<_>>(), ["1", "2"]);
        let rows: Vec<Vec<u8>> =
            on_db!(&shop.db, pool => sqlx::query_scalar("SELECT payload FROM outbox ORDER BY id").fetch_all(pool).await)?;
        let told: Vec<Event> = rows.iter().map(|row| Event::decode(row.as_slice())).collect::<Result<_, _>>()?;
        let names: Vec<&str> = told.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["df_message_converted"]);
        let last = runs[1].state.history[0].decision.trim_start_matches("send ").to_owned();
        assert_eq!(told[0].properties["df_message_id"].kind, Some(ValueKind::StringValue(last)));
        shop.close().await?;
    }
    Ok(())
}
