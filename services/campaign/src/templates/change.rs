//! Creating, reading and changing templates.
//!
//! Each change holds the lock of the tenant's templates, so that what is found right about the whole (partials that there are, no cycles,
//! nothing archived in use) is still right when it is committed.

use std::collections::{BTreeMap, BTreeSet};

use segue_model::TenantId;
use segue_proto::campaign::v1::{
    ArchiveTemplateRequest, ChannelKind, CreateTemplateRequest, GetTemplateRequest, ListTemplatesRequest, ListTemplatesResponse,
    MissingValue, Template, UpdateTemplateRequest,
};
use segue_runtime::{Tenant, fields, page};
use segue_store::{Db, Tx};

use super::definition::{Content, Fault, Outline, called};
use super::loaded::INCLUDE_DEPTH_MAX;
use super::scan::Refused;
use super::store::{self, Stored};
use crate::config::Config;
use crate::error::{CampaignError, Kind};
use crate::scenarios::{Used, users_of};
use crate::service::Service;

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1_000;
const FIELDS: &[&str] = &["name", "locales", "default_locale", "missing"];

/// What came of a change.
enum Outcome {
    Changed(Stored),
    Same(Stored),
}

impl Service {
    pub(crate) async fn create_template_of(&self, tenant: &Tenant, request: CreateTemplateRequest) -> Result<Template, CampaignError> {
        let wanted = request.template.ok_or_else(|| CampaignError::field("template", "required"))?;
        let stored = create(&self.db, &self.config, &tenant.id, wanted, self.clock.now_us()).await?;
        Ok(stored.to_proto())
    }

    pub(crate) async fn get_template_of(&self, tenant: &Tenant, request: GetTemplateRequest) -> Result<Template, CampaignError> {
        Ok(get(&self.db, &tenant.id, &request.id, request.version).await?.to_proto())
    }

    pub(crate) async fn list_templates_of(
        &self,
        tenant: &Tenant,
        request: ListTemplatesRequest,
    ) -> Result<ListTemplatesResponse, CampaignError> {
        let ListTemplatesRequest { page_size, page_token, with_archived } = request;
        let size = page::size(page_size, PAGE_DEFAULT, PAGE_MAX)?;
        if !page_token.is_empty() && !fields::is_id(&page_token) {
            return Err(page::bad_token().into());
        }
        let mut found = store::page(&self.db, &tenant.id, &page_token, with_archived, size + 1).await?;
        let next_page_token = page::cut_to_fit(&mut found, size, Stored::bytes, |stored| stored.id.clone());
        Ok(ListTemplatesResponse { templates: found.iter().map(Stored::to_proto).collect(), next_page_token })
    }

    pub(crate) async fn update_template_of(&self, tenant: &Tenant, request: UpdateTemplateRequest) -> Result<Template, CampaignError> {
        let wanted = request.template.ok_or_else(|| CampaignError::field("template", "required"))?;
        let masked = fields::masked(request.update_mask.as_ref(), FIELDS)?;
        let stored = update(&self.db, &self.config, &tenant.id, wanted, &masked, self.clock.now_us()).await?;
        Ok(stored.to_proto())
    }

    pub(crate) async fn archive_template_of(&self, tenant: &Tenant, request: ArchiveTemplateRequest) -> Result<Template, CampaignError> {
        let stored = archive(&self.db, &tenant.id, &request.id, &request.etag, self.clock.now_us()).await?;
        Ok(stored.to_proto())
    }
}

/// Checks what does not depend on other templates; answers with what it includes. Faults of syntax are told with their part.
pub(super) fn check(config: &Config, kind: ChannelKind, name: Option<&str>, content: &Content) -> Result<Outline, CampaignError> {
    let mut faults = Vec::new();
    if let Some(name) = name {
        fields::check_name(&mut faults, "template.name", name);
    }
    content.check(kind, config.template.source_bytes_max, &mut faults);
    fields::refuse(faults)?;
    content.outline().map_err(|faults| CampaignError::Invalid(faults.iter().map(Fault::violation).collect()))
}

/// What enumerations of a message may be.
pub(super) fn check_kind(template: &Template) -> Result<ChannelKind, CampaignError> {
    if MissingValue::try_from(template.missing).is_err() {
        return Err(CampaignError::field("template.missing", "one of DEFAULT and ABORT"));
    }
    ChannelKind::try_from(template.kind).map_err(|_| CampaignError::field("template.kind", "not a kind of channels"))
}

/// Creates a template; the one that there is, if it says the same.
pub(super) async fn create(db: &Db, config: &Config, tenant: &TenantId, wanted: Template, now_us: i64) -> Result<Stored, CampaignError> {
    let kind = check_kind(&wanted)?;
    let (id, name) = (wanted.id.clone(), wanted.name.clone());
    let mut faults = Vec::new();
    fields::check_id(&mut faults, "template.id", &id);
    fields::refuse(faults)?;
    let content = Content::of(wanted);
    let outline = check(config, kind, Some(&name), &content)?;
    let new = Stored { id, name, kind, version: 1, content, revision: 1, archived: false, created_us: now_us, updated_us: now_us };
    let mut tx = store::begin_change(db, tenant).await?;
    let outcome = create_in(&mut tx, config, tenant, new, &outline).await;
    end(tx, outcome).await
}

async fn create_in(tx: &mut Tx, config: &Config, tenant: &TenantId, new: Stored, outline: &Outline) -> Result<Outcome, CampaignError> {
    let Stored { id, .. } = &new;
    if let Some(there) = store::find(tx, tenant, id).await? {
        let says_the_same = (&there.name, there.kind, &there.content) == (&new.name, new.kind, &new.content);
        return match there.archived {
            _ if !says_the_same => Err(CampaignError::AlreadyExists { kind: Kind::Template, id: there.id }),
            true => Err(CampaignError::Archived { kind: Kind::Template, id: there.id }),
            false => Ok(Outcome::Same(there)),
        };
    }
    let max = u64::from(config.templates_max);
    if store::count(tx, tenant).await? >= max {
        return Err(CampaignError::TooMany { what: "templates", max, setting: "campaign.templates_max" });
    }
    put_version(tx, tenant, &new, outline).await?;
    Ok(Outcome::Changed(new))
}

/// Changes what a template says.
pub(super) async fn update(
    db: &Db,
    config: &Config,
    tenant: &TenantId,
    wanted: Template,
    masked: &[&str],
    now_us: i64,
) -> Result<Stored, CampaignError> {
    check_kind(&wanted)?;
    let (id, etag, name) = (wanted.id.clone(), wanted.etag.clone(), wanted.name.clone());
    let wanted = Content::of(wanted);
    let mut tx = store::begin_change(db, tenant).await?;
    let outcome = match found(&mut tx, tenant, &id).await {
        Ok(before) => {
            let mut after = before.clone();
            for field in masked {
                match *field {
                    "name" => after.name.clone_from(&name),
                    "locales" => after.content.locales.clone_from(&wanted.locales),
                    "default_locale" => after.content.default_locale.clone_from(&wanted.default_locale),
                    "missing" => after.content.missing = wanted.missing,
                    _ => {}
                }
            }
            let with_name = masked.contains(&"name");
            update_in(&mut tx, config, tenant, &etag, before, after, with_name, now_us).await
        }
        Err(error) => Err(error),
    };
    end(tx, outcome).await
}

#[allow(clippy::too_many_arguments, reason = "one caller")]
async fn update_in(
    tx: &mut Tx,
    config: &Config,
    tenant: &TenantId,
    etag: &str,
    before: Stored,
    mut after: Stored,
    with_name: bool,
    now_us: i64,
) -> Result<Outcome, CampaignError> {
    before.check_etag(etag)?;
    if before.archived {
        return Err(CampaignError::Archived { kind: Kind::Template, id: before.id });
    }
    if after == before {
        return Ok(Outcome::Same(before));
    }
    let outline = check(config, after.kind, with_name.then_some(after.name.as_str()), &after.content)?;
    after.revision += 1;
    after.updated_us = now_us;
    if after.content == before.content {
        store::put(tx, tenant, &after).await?;
    } else {
        after.version += 1;
        put_version(tx, tenant, &after, &outline).await?;
    }
    Ok(Outcome::Changed(after))
}

/// Writes a new version, if what it includes may be included.
async fn put_version(tx: &mut Tx, tenant: &TenantId, stored: &Stored, outline: &Outline) -> Result<(), CampaignError> {
    let faults = include_faults(tx, tenant, &stored.id, outline).await?;
    if !faults.is_empty() {
        return Err(CampaignError::Invalid(faults.iter().map(Fault::violation).collect()));
    }
    store::put(tx, tenant, stored).await?;
    store::add_version(tx, tenant, stored).await?;
    let included: Vec<&str> = outline.includes.keys().map(String::as_str).collect();
    store::put_includes(tx, tenant, &stored.id, &included).await
}

/// What is wrong with what a template includes. `id` may be empty: the template is not stored.
pub(super) async fn include_faults(tx: &mut Tx, tenant: &TenantId, id: &str, outline: &Outline) -> Result<Vec<Fault>, CampaignError> {
    if outline.includes.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = outline.includes.keys().map(String::as_str).collect();
    let partials = store::find_many(tx, tenant, &ids).await?;
    let mut includes = store::includes(tx, tenant).await?;
    includes.insert(id.to_owned(), outline.includes.keys().cloned().collect());
    let above = above(&includes, id);
    let mut faults = Vec::new();
    for (included, (locale, part, line)) in &outline.includes {
        let there = partials.iter().find(|partial| partial.id == *included);
        let message = match there {
            _ if included == id => format!("`{included}` includes itself"),
            None => format!("there is no partial `{included}`"),
            Some(partial) if partial.archived => format!("the partial `{included}` is archived"),
            Some(partial) if partial.kind != ChannelKind::Unspecified => {
                format!("`{included}` is {}: only partials can be included", called(partial.kind))
            }
            Some(_) => match below(&includes, included, INCLUDE_DEPTH_MAX) {
                Some(below) if above + below <= INCLUDE_DEPTH_MAX => continue,
                Some(_) => format!("partials lie more than {INCLUDE_DEPTH_MAX} deep within each other with `{included}`"),
                None => format!("`{included}` includes `{id}` in turn, or partials lie more than {INCLUDE_DEPTH_MAX} deep within it"),
            },
        };
        let refused = Refused { line: *line, message };
        faults.push(Fault { locale: *locale, part: part.clone(), refused });
    }
    Ok(faults)
}

/// How many partials lie within each other from this one on, itself counted. None: more than `left`, which a cycle is too.
fn below(includes: &BTreeMap<String, Vec<String>>, id: &str, left: usize) -> Option<usize> {
    // Level by level, so that a wide graph is gone through once per level rather than once per path.
    let mut level = BTreeSet::from([id]);
    for depth in 1..=left {
        level = level.iter().filter_map(|id| includes.get(*id)).flatten().map(String::as_str).collect();
        if level.is_empty() {
            return Some(depth);
        }
    }
    None
}

/// In how many templates within each other this one lies: 0 if nobody includes it. Cycles, which [`below`] finds, end it.
fn above(includes: &BTreeMap<String, Vec<String>>, id: &str) -> usize {
    let mut level = BTreeSet::from([id]);
    for depth in 0..=INCLUDE_DEPTH_MAX {
        level = includes
            .iter()
            .filter(|(_, included)| included.iter().any(|included| level.contains(included.as_str())))
            .map(|(includer, _)| includer.as_str())
            .collect();
        if level.is_empty() {
            return depth;
        }
    }
    INCLUDE_DEPTH_MAX
}

/// A template, or what an older version of it said.
pub(super) async fn get(db: &Db, tenant: &TenantId, id: &str, version: u32) -> Result<Stored, CampaignError> {
    let mut tx = db.read().await?;
    let outcome = get_in(&mut tx, tenant, id, version).await;
    tx.commit().await?;
    outcome
}

async fn get_in(tx: &mut Tx, tenant: &TenantId, id: &str, version: u32) -> Result<Stored, CampaignError> {
    let stored = found(tx, tenant, id).await?;
    if version == 0 || version == stored.version {
        return Ok(stored);
    }
    match store::version(tx, tenant, id, version).await? {
        Some(content) => Ok(Stored { version, content, ..stored }),
        None => Err(CampaignError::not_found(Kind::Template, format!("{id} version {version}"))),
    }
}

/// Takes a template out of use; one that is archived already stays so.
pub(super) async fn archive(db: &Db, tenant: &TenantId, id: &str, etag: &str, now_us: i64) -> Result<Stored, CampaignError> {
    let mut tx = store::begin_change(db, tenant).await?;
    let outcome = archive_in(&mut tx, db, tenant, id, etag, now_us).await;
    end(tx, outcome).await
}

async fn archive_in(tx: &mut Tx, db: &Db, tenant: &TenantId, id: &str, etag: &str, now_us: i64) -> Result<Outcome, CampaignError> {
    let mut stored = found(tx, tenant, id).await?;
    if stored.archived {
        return Ok(Outcome::Same(stored));
    }
    stored.check_etag(etag)?;
    let mut by = users_of(db, tenant, Used::Template(id)).await?;
    by.extend(store::includers(tx, tenant, id).await?.into_iter().map(|id| format!("template {id}")));
    if !by.is_empty() {
        return Err(CampaignError::InUse { kind: Kind::Template, id: stored.id, by });
    }
    stored.archived = true;
    stored.revision += 1;
    stored.updated_us = now_us;
    store::put(tx, tenant, &stored).await?;
    store::put_includes(tx, tenant, id, &[]).await?;
    Ok(Outcome::Changed(stored))
}

/// A template that there has to be.
pub(super) async fn found(tx: &mut Tx, tenant: &TenantId, id: &str) -> Result<Stored, CampaignError> {
    let found = if fields::is_id(id) { store::find(tx, tenant, id).await? } else { None };
    found.ok_or_else(|| CampaignError::not_found(Kind::Template, id))
}

/// Ends a change: commits it, or undoes it. It waits for the undoing too, so that who is answered holds no lock any more.
async fn end(tx: Tx, outcome: Result<Outcome, CampaignError>) -> Result<Stored, CampaignError> {
    match outcome {
        Ok(Outcome::Changed(after)) => {
            tx.commit().await?;
            Ok(after)
        }
        Ok(Outcome::Same(before)) => {
            tx.rollback().await?;
            Ok(before)
        }
        Err(error) => {
            // What went wrong first is what the caller has to know.
            let _ = tx.rollback().await;
            Err(error)
        }
    }
}

/// For tests of what depends on several faults at once.
#[cfg(test)]
pub(super) fn violations(error: &CampaignError) -> Vec<(String, String)> {
    match error {
        CampaignError::Invalid(faults) => faults.iter().map(|fault| (fault.field.clone(), fault.description.clone())).collect(),
        other => panic!("not invalid: {other}"),
    }
}
