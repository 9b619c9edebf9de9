//! Who enters and leaves: bringing it from the store to the log ([`relay`]), and reading it from there ([`watch`]).
//!
//! A tenant's transitions are batches of one partition of [`TRANSITIONS`](crate::TRANSITIONS), among those of other tenants. A place in
//! them is a [`Place`](place::Place): a batch, and how many of its transitions are dealt with.

pub(crate) mod batch;
pub(crate) mod place;
pub(crate) mod reader;
mod relay;
mod watch;

use segue_log::Log;
use segue_model::{TenantId, partition};
use segue_proto::audience::v1::{WatchTransitionsRequest, WatchTransitionsResponse};
use segue_runtime::Tenant;
use segue_runtime::status::to_status;

use crate::error::AudienceError;
use crate::service::Service;

/// Where a tenant's transitions are.
pub(crate) fn partition_of(tenant: &TenantId, log: &Log) -> u16 {
    partition::of_identifier(tenant.as_str(), "tenant", "", log.partitions())
}

impl Service {
    /// Brings committed transitions to the log.
    pub(crate) fn spawn_relay(&self, tasks: &segue_runtime::Tasks) {
        tasks.spawn("transitions", relay::run(self.db.clone(), self.log.clone(), self.live.committed(), tasks.stopping()));
    }

    pub(crate) async fn watch_transitions_of(
        &self,
        tenant: &Tenant,
        request: WatchTransitionsRequest,
    ) -> Result<futures::stream::BoxStream<'static, Result<WatchTransitionsResponse, tonic::Status>>, AudienceError> {
        let begin = watch::parse(&request)?;
        let place = watch::begin(&self.log, &tenant.id, begin).await?;
        let watch = watch::Watch::new(self.log.clone(), &tenant.id, request.audiences, place, self.tenants.clone(), self.draining.clone());
        // Nothing is read ahead of the client: the next message is made when it is asked for.
        Ok(Box::pin(futures::stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(Some(message)) => Some((Ok(message), Some(watch))),
                Ok(None) => None,
                Err(error) => Some((Err(to_status(&error)), None)),
            }
        })))
    }
}
