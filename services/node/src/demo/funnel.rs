//! The demonstration's funnel: from a product seen to an order.

use segue_proto::analytics::v1::{FunnelStep, QueryFunnelRequest, QueryFunnelResponse};
use segue_proto::query::v1::{EventSelector, TimeRange};

use crate::client::Gateway;

const STEPS: [&str; 3] = ["df_view_product_details", "df_add_to_cart", "df_purchase"];

/// Asks for it.
pub(super) async fn ask(gateway: &Gateway, range: TimeRange) -> anyhow::Result<QueryFunnelResponse> {
    let step = |name: &str| FunnelStep {
        name: name.to_owned(),
        on: Some(EventSelector { events: vec![name.to_owned()], filter: None }),
        optional: false,
    };
    let request = QueryFunnelRequest {
        range: Some(range),
        steps: STEPS.iter().map(|name| step(name)).collect(),
        window: Some(prost_types::Duration { seconds: 7 * 86_400, nanos: 0 }),
        ..QueryFunnelRequest::default()
    };
    Ok(gateway.analytics().query_funnel(request).await?.into_inner())
}

/// How many persons got to each step.
pub(super) fn counts(answer: &QueryFunnelResponse) -> Vec<(String, u64)> {
    let steps = answer.total.as_ref().map_or(&[][..], |total| &total.steps);
    steps.iter().map(|step| (step.name.clone(), step.count)).collect()
}
