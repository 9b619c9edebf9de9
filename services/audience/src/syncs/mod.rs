//! Syncs: telling HTTP destinations who entered and left. See sync.proto for what is promised.
//!
//! A sync goes through three phases: it freezes the members as of a transition, sends them, and from there on sends the net differences
//! that the log has behind that transition. A batch is decided and stored before it is sent ([`decide`]), and sent as it is, under the same
//! id, until it is taken ([`deliver`]). One process works on a sync at a time: it holds a lease, and whatever it writes down is fenced by
//! it ([`store`]).

mod body;
mod changes;
mod decide;
mod definition;
mod deliver;
mod outlet;
mod schedule;
mod store;
mod worker;

use segue_model::TenantId;
use segue_proto::audience::v1::{
    CreateSyncRequest, DeleteSyncRequest, DeleteSyncResponse, GetSyncRequest, ListSyncsRequest, ListSyncsResponse, Sync, UpdateSyncRequest,
};
use segue_runtime::{Tasks, Tenant, outgoing, page};
use segue_store::Db;

use self::definition::{NewSync, Settings, etag, parse_change, parse_new, to_proto};
use self::store::Stored;
use crate::config::Config;
use crate::error::{AudienceError, Kind};
use crate::service::Service;

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1_000;

impl Service {
    pub(crate) async fn create_sync_of(&self, tenant: &Tenant, request: CreateSyncRequest) -> Result<Sync, AudienceError> {
        let sync = parse_new(request.sync, &self.config.sync)?;
        // It exists, and is not archived.
        self.definitions.kept_one(&tenant.id, &sync.audience).await?;
        create(&self.db, &self.config, &tenant.id, sync, self.clock.now_us()).await
    }

    pub(crate) async fn get_sync_of(&self, tenant: &Tenant, request: GetSyncRequest) -> Result<Sync, AudienceError> {
        Ok(to_proto(get(&self.db, &tenant.id, &request.id).await?))
    }

    pub(crate) async fn list_syncs_of(&self, tenant: &Tenant, request: ListSyncsRequest) -> Result<ListSyncsResponse, AudienceError> {
        let size = page::size(request.page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let mut found = store::list(&self.db, &tenant.id, &request.page_token, &request.audience, size + 1).await?;
        let next_page_token = page::cut(&mut found, size, |sync| sync.id.clone());
        Ok(ListSyncsResponse { syncs: found.into_iter().map(to_proto).collect(), next_page_token })
    }

    pub(crate) async fn update_sync_of(&self, tenant: &Tenant, request: UpdateSyncRequest) -> Result<Sync, AudienceError> {
        let sync = request.sync.ok_or_else(|| AudienceError::field("sync", "is missing"))?;
        update(&self.db, &self.config, &tenant.id, &sync).await
    }

    pub(crate) async fn delete_sync_of(&self, tenant: &Tenant, request: DeleteSyncRequest) -> Result<DeleteSyncResponse, AudienceError> {
        match store::delete(&self.db, &tenant.id, &request.id).await? {
            true => Ok(DeleteSyncResponse {}),
            false => Err(AudienceError::not_found(Kind::Sync, request.id)),
        }
    }

    /// Starts delivering to destinations.
    pub(crate) fn spawn_syncs(&self, tasks: &Tasks) {
        tasks.spawn("syncs", worker::run(worker::Worker::new(self, tasks), tasks.stopping()));
    }
}

async fn get(db: &Db, tenant: &TenantId, id: &str) -> Result<Stored, AudienceError> {
    store::find(db, tenant, id).await?.ok_or_else(|| AudienceError::not_found(Kind::Sync, id))
}

/// With its secret, also when it was created by the same request before.
async fn create(db: &Db, config: &Config, tenant: &TenantId, sync: NewSync, now_us: i64) -> Result<Sync, AudienceError> {
    let max = u64::from(config.syncs_max);
    if store::find(db, tenant, &sync.id).await?.is_none() {
        if store::count(db, tenant).await? >= max {
            return Err(AudienceError::TooMany { what: "syncs", max, setting: "audience.syncs_max" });
        }
        let secret = outgoing::new_secret(&mut rand::rng());
        store::insert(db, tenant, &sync, &secret, now_us).await?;
    }
    let stored = get(db, tenant, &sync.id).await?;
    let same = Settings { paused: stored.settings.paused, ..sync.settings } == stored.settings;
    if stored.audience != sync.audience || !same {
        return Err(AudienceError::AlreadyExists { kind: Kind::Sync, id: sync.id });
    }
    let secret = stored.secret.clone();
    Ok(Sync { secret, ..to_proto(stored) })
}

async fn update(db: &Db, config: &Config, tenant: &TenantId, sync: &Sync) -> Result<Sync, AudienceError> {
    let before = get(db, tenant, &sync.id).await?;
    let mismatch = || AudienceError::EtagMismatch { kind: Kind::Sync, id: sync.id.clone() };
    if !sync.etag.is_empty() && sync.etag != etag(&before) {
        return Err(mismatch());
    }
    let settings = parse_change(sync, &before.settings, &config.sync)?;
    let after = store::update(db, tenant, &sync.id, before.revision, &settings).await?;
    after.map(to_proto).ok_or_else(mismatch)
}

#[cfg(test)]
mod tests;
