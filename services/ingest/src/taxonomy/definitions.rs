//! Operations on a tenant's taxonomy: reading, registering and changing definitions.

use segue_model::{FieldViolation, TenantId};
use segue_proto::ingest::v1::{
    CreateEventDefinitionRequest, CreatePropertyDefinitionRequest, EventDefinition, ListEventDefinitionsRequest,
    ListEventDefinitionsResponse, ListPropertyDefinitionsRequest, ListPropertyDefinitionsResponse, PropertyDefinition, PropertyScope,
    Taxonomy, TaxonomyMode, UpdateEventDefinitionRequest, UpdatePropertyDefinitionRequest, UpdateTaxonomyRequest,
};
use segue_runtime::page;
use segue_store::Tx;

use super::{EventEntry, Mode, PropertyEntry, Scope, Settings, Snapshot, Taxonomies, type_from_proto, type_to_proto};
use crate::IngestError;
use crate::accept::EVENT_BYTES_MAX;
use crate::accept::shape::{NAME_CHARS_MAX, PROPERTIES_MAX, TEXT_BYTES_MAX};
use crate::store::taxonomy as store;

/// Aliases of one event.
const ALIASES_MAX: usize = 50;
/// Highest limit on inferred names: the taxonomy is held in memory.
const INFERRED_MAX: u32 = 100_000;
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

impl Taxonomies {
    /// Mode and limits.
    pub(crate) async fn get(&self, tenant: &TenantId) -> Result<Taxonomy, IngestError> {
        Ok(settings_to_proto(self.reload(tenant).await?.settings()))
    }

    /// Changes mode or limits.
    pub(crate) async fn update(&self, tenant: &TenantId, request: UpdateTaxonomyRequest) -> Result<Taxonomy, IngestError> {
        let wanted = request.taxonomy.ok_or_else(|| IngestError::invalid("taxonomy", "is missing"))?;
        let unspecified = i32::from(TaxonomyMode::Unspecified);
        let paths = mask(request.update_mask, &["mode", "inferred_properties_max", "inferred_events_max"], |path| match path {
            "mode" => wanted.mode != unspecified,
            "inferred_properties_max" => wanted.inferred_properties_max != 0,
            _ => wanted.inferred_events_max != 0,
        })?;
        let (mut tx, snapshot) = self.begin_change(tenant).await?;
        let mut settings = snapshot.settings().clone();
        if !wanted.etag.is_empty() && wanted.etag != etag(&settings) {
            return Err(IngestError::EtagMismatch { resource: "taxonomy".to_owned() });
        }
        for path in paths {
            match path.as_str() {
                "mode" => {
                    settings.mode = match TaxonomyMode::try_from(wanted.mode) {
                        Ok(TaxonomyMode::Open) => Mode::Open,
                        Ok(TaxonomyMode::Warn) => Mode::Warn,
                        Ok(TaxonomyMode::Strict) => Mode::Strict,
                        Ok(TaxonomyMode::Unspecified) | Err(_) => {
                            return Err(IngestError::invalid("taxonomy.mode", "use OPEN, WARN or STRICT"));
                        }
                    };
                }
                "inferred_properties_max" => {
                    settings.inferred_properties_max = limit("taxonomy.inferred_properties_max", wanted.inferred_properties_max)?;
                }
                _ => settings.inferred_events_max = limit("taxonomy.inferred_events_max", wanted.inferred_events_max)?,
            }
        }
        store::update_settings(&mut tx, tenant, &settings).await?;
        tx.commit().await?;
        self.get(tenant).await
    }

    /// Registers an event.
    pub(crate) async fn create_event(
        &self,
        tenant: &TenantId,
        request: CreateEventDefinitionRequest,
    ) -> Result<EventDefinition, IngestError> {
        let wanted = request.event_definition.ok_or_else(|| IngestError::invalid("event_definition", "is missing"))?;
        let mut faults = Vec::new();
        name(&mut faults, "event_definition.name", &wanted.name);
        description(&mut faults, "event_definition.description", &wanted.description);
        if wanted.aliases.len() > ALIASES_MAX {
            faults.push(FieldViolation::new("event_definition.aliases", format!("use at most {ALIASES_MAX}")));
        }
        for (at, alias) in wanted.aliases.iter().enumerate() {
            name(&mut faults, &format!("event_definition.aliases[{at}]"), alias);
            if *alias == wanted.name || wanted.aliases[..at].contains(alias) {
                faults.push(FieldViolation::new(format!("event_definition.aliases[{at}]"), "stands twice"));
            }
        }
        required_properties(&mut faults, &wanted.required_properties);
        refuse(faults)?;

        let (mut tx, snapshot) = self.begin_change(tenant).await?;
        for taken in [&wanted.name].into_iter().chain(&wanted.aliases) {
            if let Some(event) = snapshot.event(taken) {
                return Err(IngestError::AlreadyExists { resource: format!("the event `{}`", event.name) });
            }
        }
        let entry = EventEntry {
            name: wanted.name.clone(),
            description: wanted.description,
            aliases: Vec::new(),
            required_properties: wanted.required_properties,
            standard: false,
            inferred: false,
            archived: wanted.archived,
        };
        store::put_event(&mut tx, tenant, &entry, self.now_us()).await?;
        store::insert_aliases(&mut tx, tenant, &entry.name, &wanted.aliases).await?;
        tx.commit().await?;
        self.find_event(tenant, &wanted.name).await
    }

    /// A page of event definitions, by name.
    pub(crate) async fn list_events(
        &self,
        tenant: &TenantId,
        request: ListEventDefinitionsRequest,
    ) -> Result<ListEventDefinitionsResponse, IngestError> {
        let size = page::size(request.page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let snapshot = self.reload(tenant).await?;
        let all = snapshot.events_by_name();
        let after = all.into_iter().filter(|(name, _)| *name > request.page_token.as_str());
        let mut found: Vec<EventDefinition> = after.take(size + 1).map(|(_, event)| event_to_proto(event)).collect();
        let next_page_token = page::cut(&mut found, size, |event| event.name.clone());
        Ok(ListEventDefinitionsResponse { event_definitions: found, next_page_token })
    }

    /// Changes description, required properties or archived.
    pub(crate) async fn update_event(
        &self,
        tenant: &TenantId,
        request: UpdateEventDefinitionRequest,
    ) -> Result<EventDefinition, IngestError> {
        let wanted = request.event_definition.ok_or_else(|| IngestError::invalid("event_definition", "is missing"))?;
        let paths = mask(request.update_mask, &["description", "required_properties", "archived"], |path| match path {
            "description" => !wanted.description.is_empty(),
            "required_properties" => !wanted.required_properties.is_empty(),
            _ => wanted.archived,
        })?;
        let mut faults = Vec::new();
        description(&mut faults, "event_definition.description", &wanted.description);
        required_properties(&mut faults, &wanted.required_properties);
        refuse(faults)?;

        let (mut tx, snapshot) = self.begin_change(tenant).await?;
        let Some(mut entry) = snapshot.event(&wanted.name).cloned() else {
            return Err(IngestError::NotFound { resource: format!("the event `{}`", wanted.name) });
        };
        for path in paths {
            match path.as_str() {
                "description" => entry.description.clone_from(&wanted.description),
                "required_properties" => entry.required_properties.clone_from(&wanted.required_properties),
                _ => entry.archived = wanted.archived,
            }
        }
        store::put_event(&mut tx, tenant, &entry, self.now_us()).await?;
        tx.commit().await?;
        self.find_event(tenant, &entry.name).await
    }

    /// Registers a property.
    pub(crate) async fn create_property(
        &self,
        tenant: &TenantId,
        request: CreatePropertyDefinitionRequest,
    ) -> Result<PropertyDefinition, IngestError> {
        let wanted = request.property_definition.ok_or_else(|| IngestError::invalid("property_definition", "is missing"))?;
        let mut faults = Vec::new();
        name(&mut faults, "property_definition.name", &wanted.name);
        description(&mut faults, "property_definition.description", &wanted.description);
        let scope = scope(&mut faults, wanted.scope);
        let value_type = type_from_proto(wanted.r#type);
        if value_type.is_none() {
            faults.push(FieldViolation::new("property_definition.type", "say which type it has"));
        }
        string_bytes(&mut faults, wanted.string_bytes_max);
        refuse(faults)?;
        let (Some(scope), Some(value_type)) = (scope, value_type) else {
            return Err(IngestError::invalid("property_definition", "is incomplete"));
        };

        let (mut tx, snapshot) = self.begin_change(tenant).await?;
        if let Some(known) = snapshot.property(scope, &wanted.name) {
            if known.value_type != value_type {
                return Err(IngestError::PropertyTypeFixed { property: known.name.clone(), registered: known.value_type.name() });
            }
            return Err(IngestError::AlreadyExists { resource: format!("the property `{}`", known.name) });
        }
        let entry = PropertyEntry {
            name: wanted.name,
            value_type,
            description: wanted.description,
            string_bytes_max: if wanted.string_bytes_max == 0 { TEXT_BYTES_MAX as u32 } else { wanted.string_bytes_max },
            standard: false,
            inferred: false,
            archived: wanted.archived,
        };
        store::put_property(&mut tx, tenant, scope, &entry, self.now_us()).await?;
        tx.commit().await?;
        self.find_property(tenant, scope, &entry.name).await
    }

    /// A page of property definitions, by scope and name.
    pub(crate) async fn list_properties(
        &self,
        tenant: &TenantId,
        request: ListPropertyDefinitionsRequest,
    ) -> Result<ListPropertyDefinitionsResponse, IngestError> {
        let size = page::size(request.page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let after = match request.page_token.split_once('/') {
            Some((scope, name)) => Some((Scope::from_name(scope).ok_or_else(page::bad_token)?, name)),
            None if request.page_token.is_empty() => None,
            None => return Err(page::bad_token().into()),
        };
        let snapshot = self.reload(tenant).await?;
        let all = snapshot.properties_by_name();
        let rest = all.into_iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
        let mut found: Vec<(Scope, PropertyDefinition)> =
            rest.take(size + 1).map(|((scope, _), property)| (scope, property_to_proto(scope, property))).collect();
        let next_page_token = page::cut(&mut found, size, |(scope, property)| format!("{}/{}", scope.name(), property.name));
        Ok(ListPropertyDefinitionsResponse {
            property_definitions: found.into_iter().map(|(_, property)| property).collect(),
            next_page_token,
        })
    }

    /// Changes description, maximal length or archived.
    pub(crate) async fn update_property(
        &self,
        tenant: &TenantId,
        request: UpdatePropertyDefinitionRequest,
    ) -> Result<PropertyDefinition, IngestError> {
        let wanted = request.property_definition.ok_or_else(|| IngestError::invalid("property_definition", "is missing"))?;
        let paths = mask(request.update_mask, &["description", "string_bytes_max", "archived", "type"], |path| match path {
            "description" => !wanted.description.is_empty(),
            "string_bytes_max" => wanted.string_bytes_max != 0,
            "type" => wanted.r#type != 0,
            _ => wanted.archived,
        })?;
        let mut faults = Vec::new();
        description(&mut faults, "property_definition.description", &wanted.description);
        let scope = scope(&mut faults, wanted.scope);
        string_bytes(&mut faults, wanted.string_bytes_max);
        refuse(faults)?;
        let scope = scope.unwrap_or(Scope::Event);

        let (mut tx, snapshot) = self.begin_change(tenant).await?;
        let Some(mut entry) = snapshot.property(scope, &wanted.name).cloned() else {
            return Err(IngestError::NotFound { resource: format!("the property `{}`", wanted.name) });
        };
        for path in paths {
            match path.as_str() {
                "description" => entry.description.clone_from(&wanted.description),
                "string_bytes_max" if wanted.string_bytes_max == 0 => entry.string_bytes_max = TEXT_BYTES_MAX as u32,
                "string_bytes_max" => entry.string_bytes_max = wanted.string_bytes_max,
                "type" if type_from_proto(wanted.r#type) == Some(entry.value_type) => {}
                "type" => {
                    return Err(IngestError::PropertyTypeFixed { property: entry.name, registered: entry.value_type.name() });
                }
                _ => entry.archived = wanted.archived,
            }
        }
        store::put_property(&mut tx, tenant, scope, &entry, self.now_us()).await?;
        tx.commit().await?;
        self.find_property(tenant, scope, &entry.name).await
    }

    /// Begins a change: nobody else changes this tenant's taxonomy until the transaction ends, so what is read here holds.
    async fn begin_change(&self, tenant: &TenantId) -> Result<(Tx, Snapshot), IngestError> {
        let mut tx = self.db().begin().await?;
        store::bump(&mut tx, tenant).await?;
        let snapshot = store::read(&mut tx, tenant).await?;
        Ok((tx, snapshot))
    }

    async fn find_event(&self, tenant: &TenantId, name: &str) -> Result<EventDefinition, IngestError> {
        let snapshot = self.reload(tenant).await?;
        snapshot.event(name).map(event_to_proto).ok_or_else(|| IngestError::NotFound { resource: format!("the event `{name}`") })
    }

    async fn find_property(&self, tenant: &TenantId, scope: Scope, name: &str) -> Result<PropertyDefinition, IngestError> {
        let snapshot = self.reload(tenant).await?;
        let found = snapshot.property(scope, name).map(|property| property_to_proto(scope, property));
        found.ok_or_else(|| IngestError::NotFound { resource: format!("the property `{name}`") })
    }
}

/// The fields to change: those of the mask, or without one those that are set.
fn mask(mask: Option<prost_types::FieldMask>, allowed: &[&str], is_set: impl Fn(&str) -> bool) -> Result<Vec<String>, IngestError> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        return Ok(allowed.iter().filter(|path| is_set(path)).map(|path| (*path).to_owned()).collect());
    }
    if paths == ["*"] {
        return Ok(allowed.iter().filter(|path| **path != "type").map(|path| (*path).to_owned()).collect());
    }
    match paths.iter().find(|path| !allowed.contains(&path.as_str())) {
        None => Ok(paths),
        Some(other) => Err(IngestError::invalid("update_mask", format!("`{other}` cannot be changed: use {}", allowed.join(", ")))),
    }
}

fn refuse(faults: Vec<FieldViolation>) -> Result<(), IngestError> {
    if faults.is_empty() { Ok(()) } else { Err(IngestError::Invalid(faults)) }
}

fn limit(field: &str, wanted: u32) -> Result<u32, IngestError> {
    if wanted > INFERRED_MAX {
        return Err(IngestError::invalid(field, format!("use at most {INFERRED_MAX}")));
    }
    Ok(wanted)
}

fn name(faults: &mut Vec<FieldViolation>, field: &str, name: &str) {
    if name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        faults.push(FieldViolation::new(field, format!("use 1 to {NAME_CHARS_MAX} characters, without control characters")));
    }
}

fn description(faults: &mut Vec<FieldViolation>, field: &str, text: &str) {
    if text.len() > TEXT_BYTES_MAX || text.contains('\0') {
        faults.push(FieldViolation::new(field, format!("use at most {TEXT_BYTES_MAX} bytes of text")));
    }
}

fn required_properties(faults: &mut Vec<FieldViolation>, names: &[String]) {
    if names.len() > PROPERTIES_MAX {
        faults.push(FieldViolation::new("event_definition.required_properties", format!("use at most {PROPERTIES_MAX}")));
    }
    for (at, required) in names.iter().enumerate() {
        name(faults, &format!("event_definition.required_properties[{at}]"), required);
    }
}

fn scope(faults: &mut Vec<FieldViolation>, scope: i32) -> Option<Scope> {
    match PropertyScope::try_from(scope) {
        Ok(PropertyScope::Unspecified | PropertyScope::Event) => Some(Scope::Event),
        Ok(PropertyScope::Item) => Some(Scope::Item),
        Ok(PropertyScope::Person) => Some(Scope::Person),
        Err(_) => {
            faults.push(FieldViolation::new("property_definition.scope", "use EVENT, ITEM or PERSON"));
            None
        }
    }
}

fn string_bytes(faults: &mut Vec<FieldViolation>, bytes_max: u32) {
    if bytes_max as usize > EVENT_BYTES_MAX {
        faults.push(FieldViolation::new("property_definition.string_bytes_max", format!("use at most {EVENT_BYTES_MAX}")));
    }
}

fn etag(settings: &Settings) -> String {
    format!("v{}", settings.version)
}

fn settings_to_proto(settings: &Settings) -> Taxonomy {
    Taxonomy {
        mode: settings.mode.to_proto().into(),
        inferred_properties_max: settings.inferred_properties_max,
        inferred_events_max: settings.inferred_events_max,
        etag: etag(settings),
    }
}

fn event_to_proto(event: &EventEntry) -> EventDefinition {
    EventDefinition {
        name: event.name.clone(),
        description: event.description.clone(),
        aliases: event.aliases.clone(),
        required_properties: event.required_properties.clone(),
        standard: event.standard,
        inferred: event.inferred,
        archived: event.archived,
    }
}

fn property_to_proto(scope: Scope, property: &PropertyEntry) -> PropertyDefinition {
    PropertyDefinition {
        name: property.name.clone(),
        scope: scope.to_proto().into(),
        r#type: type_to_proto(property.value_type).into(),
        description: property.description.clone(),
        string_bytes_max: property.string_bytes_max,
        standard: property.standard,
        inferred: property.inferred,
        archived: property.archived,
    }
}
