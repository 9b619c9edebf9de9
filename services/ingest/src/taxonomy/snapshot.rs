//! A tenant's taxonomy at one moment: the standard catalogue with the tenant's own definitions laid over it.

use std::collections::{BTreeMap, HashMap};

use segue_model::catalogue::{self, ValueType};
use segue_proto::ingest::v1::{PropertyScope, PropertyType, TaxonomyMode};

use crate::accept::shape::TEXT_BYTES_MAX;

/// What happens with names that the taxonomy does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Registered at first sight.
    Open,
    /// Accepted with a warning.
    Warn,
    /// Quarantined.
    Strict,
}

/// Where a property stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// On an event.
    Event,
    /// On an item of an event.
    Item,
    /// On a person: a trait.
    Person,
}

impl Mode {
    /// As stored.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Open => "open",
            Mode::Warn => "warn",
            Mode::Strict => "strict",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Mode> {
        [Mode::Open, Mode::Warn, Mode::Strict].into_iter().find(|mode| mode.name() == name)
    }

    pub(crate) fn to_proto(self) -> TaxonomyMode {
        match self {
            Mode::Open => TaxonomyMode::Open,
            Mode::Warn => TaxonomyMode::Warn,
            Mode::Strict => TaxonomyMode::Strict,
        }
    }
}

impl Scope {
    /// All of them, in the order in which they are listed.
    pub(crate) const ALL: [Scope; 3] = [Scope::Event, Scope::Item, Scope::Person];

    /// As stored.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scope::Event => "event",
            Scope::Item => "item",
            Scope::Person => "person",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }

    pub(crate) fn to_proto(self) -> PropertyScope {
        match self {
            Scope::Event => PropertyScope::Event,
            Scope::Item => PropertyScope::Item,
            Scope::Person => PropertyScope::Person,
        }
    }
}

/// The type of a name as stored.
pub(crate) fn type_from_name(name: &str) -> Option<ValueType> {
    const ALL: [ValueType; 7] =
        [ValueType::String, ValueType::Int, ValueType::Double, ValueType::Bool, ValueType::Decimal, ValueType::Timestamp, ValueType::Json];
    ALL.into_iter().find(|value_type| value_type.name() == name)
}

pub(crate) fn type_to_proto(value_type: ValueType) -> PropertyType {
    match value_type {
        ValueType::String => PropertyType::String,
        ValueType::Int => PropertyType::Int,
        ValueType::Double => PropertyType::Double,
        ValueType::Bool => PropertyType::Bool,
        ValueType::Decimal => PropertyType::Decimal,
        ValueType::Timestamp => PropertyType::Timestamp,
        ValueType::Json => PropertyType::Json,
    }
}

/// None for unspecified or unknown.
pub(crate) fn type_from_proto(value_type: i32) -> Option<ValueType> {
    match PropertyType::try_from(value_type) {
        Ok(PropertyType::String) => Some(ValueType::String),
        Ok(PropertyType::Int) => Some(ValueType::Int),
        Ok(PropertyType::Double) => Some(ValueType::Double),
        Ok(PropertyType::Bool) => Some(ValueType::Bool),
        Ok(PropertyType::Decimal) => Some(ValueType::Decimal),
        Ok(PropertyType::Timestamp) => Some(ValueType::Timestamp),
        Ok(PropertyType::Json) => Some(ValueType::Json),
        Ok(PropertyType::Unspecified) | Err(_) => None,
    }
}

/// Standard properties of items. They have fields of their own in `Item`; in `Item.properties` they are moved there.
pub const ITEM_PROPERTIES: &[(&str, ValueType)] = &[
    ("df_item_id", ValueType::String),
    ("df_item_name", ValueType::String),
    ("df_price", ValueType::Decimal),
    ("df_quantity", ValueType::Int),
    ("df_discount", ValueType::Decimal),
    ("df_category1", ValueType::String),
    ("df_category2", ValueType::String),
    ("df_category3", ValueType::String),
    ("df_category4", ValueType::String),
    ("df_category5", ValueType::String),
    ("df_brand", ValueType::String),
    ("df_variant", ValueType::String),
    ("df_coupon", ValueType::String),
];

/// Mode and limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What happens with unknown names.
    pub mode: Mode,
    /// Most properties registered by inference.
    pub inferred_properties_max: u32,
    /// Most events registered by inference.
    pub inferred_events_max: u32,
    /// Grows with each change of the three above; the etag.
    pub version: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { mode: Mode::Open, inferred_properties_max: 1_000, inferred_events_max: 1_000, version: 0 }
    }
}

/// An event definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventEntry {
    /// Canonical name.
    pub name: String,
    /// For people.
    pub description: String,
    /// Names that become this one; those of the standard catalogue included.
    pub aliases: Vec<String>,
    /// Properties without which the event is quarantined.
    pub required_properties: Vec<String>,
    /// Part of the standard catalogue.
    pub standard: bool,
    /// Registered by inference.
    pub inferred: bool,
    /// Treated as unknown in modes warn and strict.
    pub archived: bool,
}

/// A property definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyEntry {
    /// Name.
    pub name: String,
    /// Its type, for good.
    pub value_type: ValueType,
    /// For people.
    pub description: String,
    /// Longest text.
    pub string_bytes_max: u32,
    /// Part of the standard catalogue.
    pub standard: bool,
    /// Registered by inference.
    pub inferred: bool,
    /// Treated as unknown in modes warn and strict.
    pub archived: bool,
}

/// A tenant's taxonomy at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    revision: i64,
    settings: Settings,
    events: HashMap<String, EventEntry>,
    aliases: HashMap<String, String>,
    properties: [HashMap<String, PropertyEntry>; 3],
    inferred_events: usize,
    inferred_properties: usize,
}

impl Snapshot {
    /// Lays the tenant's definitions over the standard catalogue. A tenant's definition wins: its types are in use.
    pub(crate) fn new(
        revision: i64,
        settings: Settings,
        events: Vec<EventEntry>,
        aliases: Vec<(String, String)>,
        properties: Vec<(Scope, PropertyEntry)>,
    ) -> Snapshot {
        let mut all_events: HashMap<String, EventEntry> = catalogue::EVENTS
            .iter()
            .map(|event| {
                let entry = EventEntry {
                    name: event.name.to_owned(),
                    description: event.description.to_owned(),
                    aliases: event.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
                    required_properties: Vec::new(),
                    standard: true,
                    inferred: false,
                    archived: false,
                };
                (entry.name.clone(), entry)
            })
            .collect();
        for mut event in events {
            if let Some(standard) = all_events.get(&event.name) {
                event.standard = true;
                event.aliases.clone_from(&standard.aliases);
            }
            all_events.insert(event.name.clone(), event);
        }
        for (alias, name) in &aliases {
            if let Some(event) = all_events.get_mut(name) {
                event.aliases.push(alias.clone());
            }
        }
        let mut all_properties = standard_properties();
        for (scope, mut property) in properties {
            let of_scope = &mut all_properties[scope as usize];
            property.standard = of_scope.get(&property.name).is_some_and(|standard| standard.value_type == property.value_type);
            of_scope.insert(property.name.clone(), property);
        }
        let inferred_events = all_events.values().filter(|event| event.inferred).count();
        let inferred_properties = all_properties.iter().flat_map(HashMap::values).filter(|property| property.inferred).count();
        Snapshot {
            revision,
            settings,
            events: all_events,
            aliases: aliases.into_iter().collect(),
            properties: all_properties,
            inferred_events,
            inferred_properties,
        }
    }

    /// The standard catalogue alone: the taxonomy of a tenant that has sent and defined nothing.
    pub fn standard() -> Snapshot {
        Snapshot::new(0, Settings::default(), Vec::new(), Vec::new(), Vec::new())
    }

    /// The canonical name of an event: the tenant's aliases first, then those of the standard catalogue; a name that is
    /// neither is its own. The check at the door and the pipeline both use this.
    pub fn canonical_event<'a>(&'a self, name: &'a str) -> &'a str {
        if let Some(canonical) = self.aliases.get(name) {
            return canonical;
        }
        catalogue::canonical_event(name).unwrap_or(name)
    }

    /// The definition of an event, by its name or an alias.
    pub fn event(&self, name: &str) -> Option<&EventEntry> {
        self.events.get(self.canonical_event(name))
    }

    /// The definition of a property.
    pub fn property(&self, scope: Scope, name: &str) -> Option<&PropertyEntry> {
        self.properties[scope as usize].get(name)
    }

    /// What happens with unknown names.
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Mode and limits.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether one more event may be registered by inference.
    pub fn may_infer_events(&self) -> bool {
        self.inferred_events < self.settings.inferred_events_max as usize
    }

    /// Whether one more property may be registered by inference.
    pub fn may_infer_properties(&self) -> bool {
        self.inferred_properties < self.settings.inferred_properties_max as usize
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Events by name.
    pub(crate) fn events_by_name(&self) -> BTreeMap<&str, &EventEntry> {
        self.events.iter().map(|(name, event)| (name.as_str(), event)).collect()
    }

    /// Properties by scope and name.
    pub(crate) fn properties_by_name(&self) -> BTreeMap<(Scope, &str), &PropertyEntry> {
        let of_scope = |scope: Scope| self.properties[scope as usize].iter().map(move |(name, entry)| ((scope, name.as_str()), entry));
        Scope::ALL.into_iter().flat_map(of_scope).collect()
    }
}

fn standard_properties() -> [HashMap<String, PropertyEntry>; 3] {
    let entry = |name: &str, value_type: ValueType| {
        let entry = PropertyEntry {
            name: name.to_owned(),
            value_type,
            description: String::new(),
            string_bytes_max: TEXT_BYTES_MAX as u32,
            standard: true,
            inferred: false,
            archived: false,
        };
        (name.to_owned(), entry)
    };
    let of = |list: &[catalogue::StandardProperty]| list.iter().map(|property| entry(property.name, property.value_type)).collect();
    [of(catalogue::PROPERTIES), ITEM_PROPERTIES.iter().map(|(name, value_type)| entry(name, *value_type)).collect(), of(catalogue::TRAITS)]
}
