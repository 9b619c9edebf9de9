//! A template with the partials that it includes, compiled and ready to be filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minijinja::Value;
use segue_model::TenantId;
use segue_proto::campaign::v1::{ChannelKind, MissingValue, TemplateFault};
use segue_store::Tx;

use super::definition::{Content, form};
use super::engine::{Partials, Parts, Program};
use super::scan::scan;
use super::store::{self, Stored};
use super::values::value_of;
use crate::config::TemplateConfig;
use crate::error::CampaignError;

/// Partials within partials.
pub(super) const INCLUDE_DEPTH_MAX: usize = 5;

/// The part of a partial.
const CONTENT: &str = "content";

/// The newest version of a template with the partials that it includes.
pub(crate) struct Loaded {
    pub(crate) kind: ChannelKind,
    pub(crate) version: u32,
    /// With those of the partials: what was compiled.
    pub(super) versions: BTreeMap<String, u32>,
    content: Arc<Content>,
    program: Program,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("kind", &self.kind).field("versions", &self.versions).finish_non_exhaustive()
    }
}

/// A message's parts, filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) parts: BTreeMap<String, String>,
    pub(crate) locale: String,
}

/// What a template is made of.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) id: String,
    pub(super) kind: ChannelKind,
    pub(super) version: u32,
    pub(super) content: Content,
    /// By id; those that there are.
    pub(super) partials: BTreeMap<String, (u32, Content)>,
}

impl Sources {
    /// Reads the newest versions of all partials that a template includes.
    pub(super) async fn read(
        tx: &mut Tx,
        tenant: &TenantId,
        id: String,
        kind: ChannelKind,
        version: u32,
        content: Content,
    ) -> Result<Self, CampaignError> {
        let mut partials = BTreeMap::new();
        let mut wanted = included(&content);
        // Deeper ones were refused when they were written.
        for _ in 0..INCLUDE_DEPTH_MAX {
            let missing: Vec<&str> = wanted.iter().map(String::as_str).filter(|id| !partials.contains_key(*id)).collect();
            let found = store::find_many(tx, tenant, &missing).await?;
            wanted = BTreeSet::new();
            for Stored { id, kind, version, content, archived, .. } in found {
                if kind == ChannelKind::Unspecified && !archived {
                    wanted.extend(included(&content));
                    partials.insert(id, (version, content));
                }
            }
        }
        Ok(Self { id, kind, version, content, partials })
    }

    pub(super) fn versions(&self) -> BTreeMap<String, u32> {
        let own = (self.id.clone(), self.version);
        self.partials.iter().map(|(id, (version, _))| (id.clone(), *version)).chain([own]).collect()
    }
}

/// Which partials a content includes; one that cannot be read includes none.
fn included(content: &Content) -> BTreeSet<String> {
    let texts = content.locales.iter().flat_map(|localized| localized.parts.values());
    texts.filter_map(|text| scan(text).ok()).flat_map(|found| found.includes).map(|(id, _)| id).collect()
}

fn keeps_values(content: &Content) -> bool {
    let mut texts = content.locales.iter().flat_map(|localized| localized.parts.values());
    texts.any(|text| scan(text).is_ok_and(|found| found.keeps_values))
}

impl Loaded {
    /// `is_strict`: missing values are faults, whatever the template says of them.
    pub(super) fn new(config: &TemplateConfig, sources: Sources, is_strict: bool) -> Self {
        let versions = sources.versions();
        let Sources { kind, version, content, partials, .. } = sources;
        let is_deep = keeps_values(&content) || partials.values().any(|(_, content)| keeps_values(content));
        let is_strict = is_strict || content.missing == MissingValue::Abort;
        let content = Arc::new(content);
        let own = content.clone();
        let parts: Arc<Parts> = Arc::new(move |locale, part| own.locales.get(locale)?.parts.get(part).cloned());
        let whose = content.clone();
        // A partial goes by the locale that was chosen for the whole.
        let partials: Arc<Partials> = Arc::new(move |locale, id| {
            let (_, content) = partials.get(id)?;
            let locale = whose.locales.get(locale).map(|localized| localized.locale.as_str());
            content.locales.get(content.choose(locale))?.parts.get(CONTENT).cloned()
        });
        let program = Program::new(config, is_strict, is_deep, parts, partials);
        Self { kind, version, versions, content, program }
    }

    /// Fills in the parts for a locale. Faults: why a message must not be sent.
    pub(crate) fn render(&self, values: &serde_json::Value, locale: Option<&str>) -> Result<Rendered, Vec<TemplateFault>> {
        let (rendered, faults) = self.render_what_can_be(values, locale);
        if faults.is_empty() { Ok(rendered) } else { Err(faults) }
    }

    /// The parts that can be filled in, and why others cannot.
    pub(super) fn render_what_can_be(&self, values: &serde_json::Value, locale: Option<&str>) -> (Rendered, Vec<TemplateFault>) {
        let chosen = self.content.choose(locale);
        let values: Value = value_of(values);
        let mut rendered = Rendered { parts: BTreeMap::new(), locale: String::new() };
        let mut faults = Vec::new();
        let Some(localized) = self.content.locales.get(chosen) else { return (rendered, faults) };
        rendered.locale.clone_from(&localized.locale);
        for part in localized.parts.keys() {
            let Some(form) = form(self.kind, part) else { continue };
            let finished = self
                .program
                .fill(chosen, part, form.escape(), &values)
                .and_then(|filled| form.finish(filled).map_err(|message| TemplateFault { part: part.clone(), line: 0, message }));
            match finished {
                Ok(Some(text)) => drop(rendered.parts.insert(part.clone(), text)),
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
        (rendered, faults)
    }
}
