//! The demonstration's audience: who put something into the cart and never bought. It is made before the shop sends its events, so that
//! persons enter and leave while they come in.

use std::time::{Duration, Instant};

use segue_proto::audience::v1::preview_audience_request::What;
use segue_proto::audience::v1::{
    Audience, ChannelReach, CreateAudienceRequest, GetAudienceRequest, ListSizesRequest, ParseConditionRequest, PreviewAudienceRequest,
};
use tonic::Code;

use crate::client::Gateway;

/// Its id.
pub(super) const ID: &str = "left-in-cart";
/// Who is meant.
pub(super) const WHERE: &str = "did df_add_to_cart within 7 days and never did df_purchase";
/// How long services may take to hear that audiences were switched on.
const SWITCH_LIMIT: Duration = Duration::from_secs(10);

/// What became of it.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) members: u64,
    pub(super) entered: u64,
    pub(super) left: u64,
    pub(super) persons: u64,
    pub(super) reach: Vec<ChannelReach>,
}

/// Makes the audience (or finds the one of an earlier run).
pub(super) async fn create(gateway: &Gateway) -> anyhow::Result<()> {
    let mut client = gateway.audience();
    let started = Instant::now();
    let parsed = loop {
        match client.parse_condition(ParseConditionRequest { text: WHERE.to_owned() }).await {
            Ok(parsed) => break parsed.into_inner(),
            // The switch was turned a moment ago.
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::Unavailable) && started.elapsed() < SWITCH_LIMIT => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(status) => return Err(status.into()),
        }
    };
    let audience = Audience { id: ID.to_owned(), name: "Left in the cart".to_owned(), condition: parsed.condition, ..Default::default() };
    client.create_audience(CreateAudienceRequest { audience: Some(audience) }).await?;
    Ok(())
}

/// Looks at it when everything that was sent shows in it.
pub(super) async fn look(gateway: &Gateway) -> anyhow::Result<Look> {
    gateway.wait_until_in_audiences().await?;
    let mut client = gateway.audience();
    let audience = client.get_audience(GetAudienceRequest { id: ID.to_owned() }).await?.into_inner();
    let sizes = client.list_sizes(ListSizesRequest { audience: ID.to_owned(), ..Default::default() }).await?.into_inner().sizes;
    let preview = PreviewAudienceRequest { what: Some(What::Audience(ID.to_owned())), ..Default::default() };
    let preview = client.preview_audience(preview).await?.into_inner();
    Ok(Look {
        members: audience.size.unwrap_or_default(),
        entered: sizes.iter().map(|hour| hour.entered).sum(),
        left: sizes.iter().map(|hour| hour.left).sum(),
        persons: preview.persons_total,
        reach: preview.reach,
    })
}

impl Look {
    /// In a few lines.
    pub(super) fn text(&self) -> String {
        let reach: Vec<String> = self.reach.iter().map(|channel| format!("{} by {}", channel.addressable, channel.channel)).collect();
        format!(
            "Audience `{ID}`: {WHERE}\n{} members of {} persons; {} entered and {} left while the events came in; can be reached: {}\n",
            self.members,
            self.persons,
            self.entered,
            self.left,
            reach.join(", ")
        )
    }
}
