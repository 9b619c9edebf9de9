//! Checking API keys, with a short memory so that the store is asked once per key and few seconds.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use segue_runtime::caller::Role;
use segue_store::StoreError;

use crate::config::Config;
use crate::error::AccessError;
use crate::record::KeyRecord;
use crate::secret::{self, KeyHash, KeyKind};
use crate::store::Store;

/// Keeps revoked keys out while a look-up that began before the revocation may still put the old answer into the cache.
const REVOKED_FOR: Duration = Duration::from_secs(60);

/// Checks keys. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    store: Store,
    known: Cache<KeyHash, Arc<KeyRecord>>,
    /// A cache of their own, so that a flood of wrong keys cannot push out the right ones.
    unknown: Cache<KeyHash, ()>,
    revoked_here: Cache<KeyHash, ()>,
    configured: Option<(KeyHash, Arc<KeyRecord>)>,
    lookup_timeout: Duration,
}

/// Why a look-up gave no key; shared by all who waited for it.
#[derive(Debug)]
enum Miss {
    Unknown,
    Store(StoreError),
    Timeout,
}

impl Keys {
    pub(crate) fn new(store: Store, config: &Config) -> Self {
        let hold = Duration::from_millis(config.key_cache_ms);
        let configured = (!config.operator_key.is_empty()).then(|| (secret::hash(&config.operator_key), Arc::new(configured_operator())));
        Self {
            store,
            known: Cache::builder().max_capacity(config.key_cache_entries_max).time_to_live(hold).build(),
            unknown: Cache::builder().max_capacity(config.unknown_key_cache_entries_max).time_to_live(hold).build(),
            revoked_here: Cache::builder().max_capacity(config.key_cache_entries_max).time_to_live(REVOKED_FOR).build(),
            configured,
            lookup_timeout: Duration::from_millis(config.key_lookup_timeout_ms),
        }
    }

    /// The key with this text. Fails with [`AccessError::UnknownKey`] only when the store said so.
    pub(crate) async fn check(&self, text: &str) -> Result<Arc<KeyRecord>, AccessError> {
        let hash = secret::hash(text);
        if let Some((configured, key)) = &self.configured
            && secret::same_hash(configured, &hash)
        {
            return Ok(key.clone());
        }
        if !secret::is_key(text) || self.revoked_here.contains_key(&hash) || self.unknown.contains_key(&hash) {
            return Err(AccessError::UnknownKey);
        }
        // Calls that ask for the same key at once wait for one look-up.
        let found = self.known.try_get_with(hash, self.look_up(hash)).await;
        match found {
            // Revoked while the look-up was under way.
            Ok(_) if self.revoked_here.contains_key(&hash) => Err(AccessError::UnknownKey),
            Ok(key) => Ok(key),
            Err(miss) => match &*miss {
                Miss::Unknown => {
                    self.unknown.insert(hash, ()).await;
                    Err(AccessError::UnknownKey)
                }
                Miss::Store(error) => {
                    tracing::warn!(error = segue_runtime::status::chain(error), "a key cannot be looked up");
                    Err(AccessError::KeyStoreDown)
                }
                Miss::Timeout => {
                    tracing::warn!(limit = ?self.lookup_timeout, "looking up a key took too long");
                    Err(AccessError::KeyStoreDown)
                }
            },
        }
    }

    async fn look_up(&self, hash: KeyHash) -> Result<Arc<KeyRecord>, Miss> {
        match tokio::time::timeout(self.lookup_timeout, self.store.find_key(&hash)).await {
            Ok(Ok(Some(key))) => Ok(Arc::new(key)),
            Ok(Ok(None)) => Err(Miss::Unknown),
            Ok(Err(error)) => Err(Miss::Store(error)),
            Err(_) => Err(Miss::Timeout),
        }
    }

    /// Refuses the key from now on in this process.
    pub(crate) async fn revoked(&self, hash: KeyHash) {
        self.revoked_here.insert(hash, ()).await;
        self.known.invalidate(&hash).await;
    }
}

fn configured_operator() -> KeyRecord {
    KeyRecord {
        id: "configured-operator".to_owned(),
        tenant: None,
        kind: KeyKind::Operator,
        role: Role::Operator,
        display_name: "operator key of the configuration".to_owned(),
        source: String::new(),
        created_at_us: 0,
        revoked_at_us: None,
    }
}
