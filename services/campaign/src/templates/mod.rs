//! What messages say: templates with versions, partials and locales, rendered by MiniJinja within limits.
//!
//! `definition` is what a template says and which parts each kind has, `scan` looks at sources before they are compiled, `engine` runs them
//! within limits, `loaded` is a template with its partials, `values` what templates see, `change` creates and changes them, `preview` shows
//! and tests them, `store` has the statements.

mod change;
mod definition;
mod engine;
mod filters;
mod loaded;
mod preview;
mod scan;
mod store;
#[cfg(test)]
mod tests;
mod values;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use segue_model::TenantId;
use segue_proto::campaign::v1::{ChannelKind, MissingValue, TemplateFault};
use segue_runtime::fields;
use segue_store::{Db, Tx};

pub(crate) use loaded::Loaded;
pub(crate) use values::person_values;

use crate::config::Config;
use crate::error::CampaignError;
use definition::{Content, Localized};
use loaded::Sources;

/// Templates of all tenants that are kept compiled.
const KEPT_MAX: usize = 10_000;

/// A template as of so many changes of its tenant's.
type Known = (i64, Option<Arc<Loaded>>);

/// Templates of all tenants, with the newest versions compiled and kept. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Templates {
    config: Arc<Config>,
    db: Db,
    known: Arc<Mutex<HashMap<(TenantId, String), Known>>>,
}

impl Templates {
    pub(crate) fn new(config: Arc<Config>, db: Db) -> Self {
        Self { config, db, known: Arc::default() }
    }

    /// The newest version. None: there is none, or it is archived.
    pub(crate) async fn find(&self, tenant: &TenantId, id: &str) -> Result<Option<Arc<Loaded>>, CampaignError> {
        if !fields::is_id(id) {
            return Ok(None);
        }
        let key = (tenant.clone(), id.to_owned());
        let changes = store::changes(&self.db, tenant).await?;
        let known = self.known.lock().get(&key).cloned();
        let before = match known {
            Some((as_of, loaded)) if as_of == changes => return Ok(loaded),
            Some((_, loaded)) => loaded,
            None => None,
        };
        let mut tx = self.db.read().await?;
        let read = self.load(&mut tx, tenant, id, before).await;
        tx.commit().await?;
        let (changes, loaded) = read?;
        let mut known = self.known.lock();
        if known.len() >= KEPT_MAX && !known.contains_key(&key) {
            known.clear();
        }
        known.insert(key, (changes, loaded.clone()));
        Ok(loaded)
    }

    /// What has the versions of `before` need not be compiled again.
    async fn load(&self, tx: &mut Tx, tenant: &TenantId, id: &str, before: Option<Arc<Loaded>>) -> Result<Known, CampaignError> {
        let changes = store::changes_in(tx, tenant).await?;
        let Some(stored) = store::find(tx, tenant, id).await?.filter(|stored| !stored.archived) else { return Ok((changes, None)) };
        let sources = Sources::read(tx, tenant, stored.id, stored.kind, stored.version, stored.content).await?;
        let loaded = match before {
            Some(before) if before.versions == sources.versions() => before,
            Some(_) | None => Arc::new(Loaded::new(&self.config.template, sources, false)),
        };
        Ok((changes, Some(loaded)))
    }
}

/// Fills in one expression (of an UpdateTrait step).
pub(crate) fn render_text(config: &Config, source: &str, values: &serde_json::Value) -> Result<String, TemplateFault> {
    const PART: &str = "content";
    let parts = [(PART.to_owned(), source.to_owned())].into();
    let locales = vec![Localized { locale: String::new(), parts }];
    let content = Content { locales, default_locale: String::new(), missing: MissingValue::Default };
    if let Err(faults) = content.outline() {
        return Err(faults.into_iter().next().map(definition::Fault::answered).unwrap_or_default());
    }
    let partials = std::collections::BTreeMap::new();
    let sources = Sources { id: String::new(), kind: ChannelKind::Unspecified, version: 0, content, partials };
    let loaded = Loaded::new(&config.template, sources, false);
    let mut rendered = loaded.render(values, None).map_err(|faults| faults.into_iter().next().unwrap_or_default())?;
    Ok(rendered.parts.remove(PART).unwrap_or_default())
}
