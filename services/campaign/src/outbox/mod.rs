//! What happened here, on its way to the other services: events for ingest, changes of static lists for audiences, consents for identity.
//! Written in the transaction in which it happens, told afterwards, at least once, in order per tenant and destination; receivers take it
//! once (events by message id, the others by their nature).
//!
//! Rows are numbered as they are written and deleted by number after they were told. No position is remembered: a row may get its number
//! before another and be committed after it, so a position would skip it.

mod store;
mod tell;
mod worker;
#[cfg(test)]
pub(crate) mod world;

use prost::Message;
use segue_model::TenantId;
use segue_proto::events::v1::{Event, EventKind, Item, Value};
use segue_proto::identity::v1::{Consent, ConsentState};
use segue_runtime::Tasks;
use segue_store::Tx;

use crate::error::CampaignError;
use crate::service::Service;
use crate::store::timestamp;
use store::Destination;

/// The source of events that come from here.
pub const SOURCE: &str = "segue.campaign";

/// Things that one statement writes down.
const PUT_AT_ONCE: usize = 5_000;

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    /// An event of a person. Names and properties: `df_message_{sent,delivered,opened,clicked,converted,failed,suppressed,unsubscribed}`,
    /// `df_experiment_exposed`, with `df_message_campaign` (scenario), `df_message_variant` (`<experiment step>=<variant>`),
    /// `df_message_step`, `df_message_channel`, `df_message_id`, `df_message_reason`, `df_message_goal`, `df_message_value` (decimal).
    Event {
        /// Unique: what is told twice counts once.
        message_id: String,
        name: &'static str,
        time_us: i64,
        person: u32,
        properties: Vec<(&'static str, Value)>,
        items: Vec<Item>,
    },
    /// A trait of a person.
    Trait { message_id: String, time_us: i64, person: u32, name: String, value: Value },
    /// Membership of a static list of the audience service.
    List { person: u32, list: String, remove: bool },
    /// A person does not want to be messaged with advertising by this channel (as consents name it) any more.
    Consent {
        person: u32,
        channel: &'static str,
        time_us: i64,
        /// How it is known: `unsubscribe_link`, `callback`.
        source: &'static str,
        /// The send by which the person said so.
        proof: String,
    },
}

impl Told {
    fn row(&self) -> store::NewRow<'_> {
        match self {
            Told::Event { message_id, name, time_us, person, properties, items } => {
                let event = Event {
                    message_id: message_id.clone(),
                    kind: EventKind::Track.into(),
                    name: (*name).to_owned(),
                    time: Some(timestamp(*time_us)),
                    properties: properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
                    items: items.clone(),
                    ..Event::default()
                };
                store::NewRow(Destination::Ingest.name(), *person, "", false, hex::encode(event.encode_to_vec()))
            }
            Told::Trait { message_id, time_us, person, name, value } => {
                let event = Event {
                    message_id: message_id.clone(),
                    kind: EventKind::Identify.into(),
                    time: Some(timestamp(*time_us)),
                    traits: [(name.clone(), value.clone())].into(),
                    ..Event::default()
                };
                store::NewRow(Destination::Ingest.name(), *person, "", false, hex::encode(event.encode_to_vec()))
            }
            Told::List { person, list, remove } => store::NewRow(Destination::Audience.name(), *person, list, *remove, String::new()),
            Told::Consent { person, channel, time_us, source, proof } => {
                let consent = Consent {
                    channel: (*channel).to_owned(),
                    purpose: "advertising".to_owned(),
                    state: ConsentState::Refused.into(),
                    time: Some(timestamp(*time_us)),
                    source: (*source).to_owned(),
                    proof: proof.clone(),
                };
                store::NewRow(Destination::Identity.name(), *person, "", false, hex::encode(consent.encode_to_vec()))
            }
        }
    }
}

/// Writes down what is to be told. Whoever commits rings `Bells::outbox` afterwards.
pub(crate) async fn put(tx: &mut Tx, tenant: &TenantId, told: &[Told]) -> Result<(), CampaignError> {
    for some in told.chunks(PUT_AT_ONCE) {
        let rows: Vec<store::NewRow<'_>> = some.iter().map(Told::row).collect();
        store::insert(tx, tenant, &rows).await?;
    }
    Ok(())
}

impl Service {
    /// Starts telling.
    pub(crate) fn spawn_outbox(&self, tasks: &Tasks) {
        let teller = worker::Teller::new(self, tasks);
        tasks.spawn("outbox", worker::run(teller, tasks.stopping()));
    }
}

/// What has not been told yet.
pub(crate) async fn waiting(db: &segue_store::Db, tenant: &TenantId) -> Result<u64, CampaignError> {
    store::waiting(db, tenant).await
}
