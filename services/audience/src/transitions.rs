//! Who enters and leaves, as a stream; and bringing it to the log.

use segue_proto::audience::v1::{WatchTransitionsRequest, WatchTransitionsResponse};
use segue_runtime::Tenant;

use crate::error::AudienceError;
use crate::service::Service;

impl Service {
    pub(crate) async fn watch_transitions_of(
        &self,
        _tenant: &Tenant,
        _request: WatchTransitionsRequest,
    ) -> Result<futures::stream::BoxStream<'static, Result<WatchTransitionsResponse, tonic::Status>>, AudienceError> {
        Err(AudienceError::Stopping)
    }
}

impl Service {
    /// Brings committed transitions to the log.
    pub(crate) fn spawn_relay(&self, _tasks: &segue_runtime::Tasks) {}
}
