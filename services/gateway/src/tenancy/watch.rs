//! Services following the tenants: everything at first, then what changed.

use futures::Stream;
use segue_proto::tenancy::v1 as proto;
use tonic::Status;

use super::Tenancy;

impl Tenancy {
    pub(super) fn do_watch_tenants(&self) -> impl Stream<Item = Result<proto::WatchTenantsResponse, Status>> + Send + use<> {
        let (directory, draining) = (self.directory.clone(), self.draining.clone());
        let versions = directory.versions();
        futures::stream::unfold((versions, None), move |(mut versions, sent): (_, Option<i64>)| {
            let (directory, draining) = (directory.clone(), draining.clone());
            async move {
                if sent.is_some() {
                    // Ends the stream when the process stops, so that draining does not wait for it.
                    tokio::select! {
                        changed = versions.changed() => changed.ok()?,
                        () = draining.cancelled() => return None,
                    }
                }
                // Read before the tenants: what changes in between is sent twice rather than never.
                let version = *versions.borrow_and_update();
                let changed = directory.changed_after(sent.unwrap_or(-1));
                let tenants = changed.iter().map(|tenant| tenant.to_proto()).collect();
                let response = proto::WatchTenantsResponse { snapshot: sent.is_none(), tenants };
                Some((Ok(response), (versions, Some(version))))
            }
        })
    }
}
