//! What each column of a file means: the contract's [`Mapping`], checked and ready to be applied to rows.

use segue_model::catalogue::ValueType;
use segue_model::{FieldViolation, dimension};
use segue_proto::events::v1::{Context, Event, EventKind, Identifier, Value, value::Kind};
use segue_proto::ingest::v1::{Mapping, PropertyType, Reason, ReasonCode};

use super::moment::TimeFormat;
use crate::accept::{Candidate, reason, shape, time::timestamp, who};
use crate::taxonomy::coerce;

/// Source of events whose mapping names none.
pub(super) const SOURCE: &str = "import";

/// A row: the values of the mapped columns, in the order of [`Plan::columns`]; None is missing.
pub type Cells = Vec<Option<Value>>;

/// A checked mapping.
#[derive(Debug, Clone)]
pub struct Plan {
    columns: Vec<String>,
    /// Where each column was named first, for messages.
    fields: Vec<String>,
    event: EventName,
    time: usize,
    time_format: TimeFormat,
    message_id: Option<usize>,
    identifiers: Vec<(usize, String)>,
    properties: Vec<Typed>,
    traits: Vec<Typed>,
    dimensions: Vec<(usize, String)>,
    source: String,
}

#[derive(Debug, Clone)]
enum EventName {
    Column(usize),
    Fixed(String),
}

#[derive(Debug, Clone)]
struct Typed {
    column: usize,
    name: String,
    value_type: Option<ValueType>,
}

/// Collects columns and faults.
#[derive(Default)]
struct Reader {
    columns: Vec<String>,
    fields: Vec<String>,
    faults: Vec<FieldViolation>,
}

impl Reader {
    fn column(&mut self, field: String, column: &str) -> usize {
        if column.is_empty() {
            self.faults.push(FieldViolation::new(&field, "names no column"));
        }
        if let Some(at) = self.columns.iter().position(|known| known == column) {
            return at;
        }
        self.columns.push(column.to_owned());
        self.fields.push(field);
        self.columns.len() - 1
    }

    fn fault(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.faults.push(FieldViolation::new(field, description));
    }

    fn identifiers(&mut self, mapping: &Mapping) -> Vec<(usize, String)> {
        if mapping.identifiers.is_empty() {
            self.fault("mapping.identifiers", "map at least one column to an identifier");
        }
        if mapping.identifiers.len() > shape::IDENTIFIERS_MAX {
            self.fault("mapping.identifiers", format!("map at most {} columns", shape::IDENTIFIERS_MAX));
        }
        let mut identifiers = Vec::new();
        for (at, identifier) in mapping.identifiers.iter().enumerate() {
            if !who::is_kind(&identifier.kind) {
                self.fault(
                    format!("mapping.identifiers[{at}].kind"),
                    "a kind is 1 to 64 characters of a-z, 0-9 and _, for example user_id",
                );
            }
            identifiers.push((self.column(format!("mapping.identifiers[{at}].column"), &identifier.column), identifier.kind.clone()));
        }
        identifiers
    }

    fn dimensions(&mut self, mapping: &Mapping) -> Vec<(usize, String)> {
        let mut dimensions = Vec::new();
        for (at, mapped) in mapping.dimensions.iter().enumerate() {
            let mut probe = Context::default();
            if !set_field(&mut probe, &mapped.dimension, String::new()) {
                self.fault(
                    format!("mapping.dimensions[{at}].dimension"),
                    format!(
                        "`{}` is neither a built-in dimension nor a field of the context; see ListDimensions, or map it as a property",
                        mapped.dimension
                    ),
                );
            }
            dimensions.push((self.column(format!("mapping.dimensions[{at}].column"), &mapped.column), mapped.dimension.clone()));
        }
        dimensions
    }

    fn typed(&mut self, field: String, column: &str, name: &str, value_type: i32) -> Typed {
        let at = self.column(format!("{field}.column"), column);
        let value_type = match PropertyType::try_from(value_type) {
            Ok(PropertyType::Unspecified) => None,
            Ok(PropertyType::String) => Some(ValueType::String),
            Ok(PropertyType::Int) => Some(ValueType::Int),
            Ok(PropertyType::Double) => Some(ValueType::Double),
            Ok(PropertyType::Bool) => Some(ValueType::Bool),
            Ok(PropertyType::Decimal) => Some(ValueType::Decimal),
            Ok(PropertyType::Timestamp) => Some(ValueType::Timestamp),
            Ok(PropertyType::Json) => Some(ValueType::Json),
            Err(_) => {
                self.fault(format!("{field}.type"), format!("there is no type {value_type}"));
                None
            }
        };
        let name = if name.is_empty() { column } else { name };
        if name.chars().count() > shape::NAME_CHARS_MAX {
            self.fault(field, format!("the name is longer than {} characters", shape::NAME_CHARS_MAX));
        }
        Typed { column: at, name: name.to_owned(), value_type }
    }
}

impl Plan {
    /// Checks a mapping; all faults at once. Its columns are held against a file by [`Plan::check_columns`].
    pub fn of(mapping: &Mapping) -> Result<Plan, Vec<FieldViolation>> {
        let mut reader = Reader::default();
        let event = match (mapping.event_column.as_str(), mapping.event_name.as_str()) {
            ("", "") => {
                reader.fault(
                    "mapping.event_column",
                    "set event_column (the column with the event's name) or event_name (one name for all rows)",
                );
                EventName::Fixed(String::new())
            }
            ("", name) => EventName::Fixed(name.to_owned()),
            (column, "") => EventName::Column(reader.column("mapping.event_column".to_owned(), column)),
            (_, _) => {
                reader.fault("mapping.event_name", "set either event_column or event_name");
                EventName::Fixed(String::new())
            }
        };
        let time = reader.column("mapping.time_column".to_owned(), &mapping.time_column);
        let time_format = TimeFormat::of(&mapping.time_format, &mapping.time_zone).unwrap_or_else(|fault| {
            reader.faults.push(fault);
            TimeFormat::default()
        });
        let message_id = (!mapping.message_id_column.is_empty())
            .then(|| reader.column("mapping.message_id_column".to_owned(), &mapping.message_id_column));
        let identifiers = reader.identifiers(mapping);
        let dimensions = reader.dimensions(mapping);
        for (field, count) in [("properties", mapping.properties.len()), ("traits", mapping.traits.len())] {
            if count > shape::PROPERTIES_MAX {
                reader.fault(format!("mapping.{field}"), format!("map at most {} columns", shape::PROPERTIES_MAX));
            }
        }
        let typed = |reader: &mut Reader, at: usize, family: &str, column: &str, name: &str, value_type: i32| {
            reader.typed(format!("mapping.{family}[{at}]"), column, name, value_type)
        };
        let properties = (mapping.properties.iter().enumerate())
            .map(|(at, p)| typed(&mut reader, at, "properties", &p.column, &p.property, p.r#type))
            .collect();
        let traits =
            (mapping.traits.iter().enumerate()).map(|(at, t)| typed(&mut reader, at, "traits", &t.column, &t.r#trait, t.r#type)).collect();
        delimiter(mapping, &mut reader);
        if mapping.source.len() > shape::ID_BYTES_MAX {
            reader.fault("mapping.source", format!("use at most {} bytes", shape::ID_BYTES_MAX));
        }
        let source = if mapping.source.is_empty() { SOURCE.to_owned() } else { mapping.source.clone() };
        let Reader { columns, fields, faults } = reader;
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Plan { columns, fields, event, time, time_format, message_id, identifiers, properties, traits, dimensions, source })
    }

    /// The columns that are needed.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The source of the events.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The zone of times that carry none.
    pub fn zone(&self) -> chrono_tz::Tz {
        self.time_format.zone()
    }

    /// Which needed columns a file does not have.
    pub fn check_columns(&self, present: &[String]) -> Vec<FieldViolation> {
        let missing = self.columns.iter().zip(&self.fields).filter(|(column, _)| !present.contains(column));
        missing
            .map(|(column, field)| {
                let some: Vec<&str> = present.iter().take(100).map(String::as_str).collect();
                FieldViolation::new(field, format!("there is no column `{column}`; the file has {}", some.join(", ")))
            })
            .collect()
    }

    /// The event of a row. `id` makes the message id where no column gives one.
    pub fn candidate(&self, cells: Cells, id: impl FnOnce() -> String) -> Candidate {
        let mut faults: Vec<Reason> = Vec::new();
        let text = |at: usize| cells.get(at).and_then(Option::as_ref).and_then(as_text);
        let mut context = Context { source_type: "file".to_owned(), ..Context::default() };
        for (column, field) in &self.dimensions {
            if let Some(value) = text(*column) {
                set_field(&mut context, field, value);
            }
        }
        let time = match cells[self.time].as_ref().map(|value| self.time_format.read(value)) {
            Some(Ok(us)) => Some(timestamp(us)),
            Some(Err(why)) => {
                faults.push(reason(ReasonCode::Unreadable, "time", why));
                None
            }
            None => None,
        };
        let event = Event {
            message_id: self.message_id.and_then(text).unwrap_or_else(id),
            kind: EventKind::Track.into(),
            name: match &self.event {
                EventName::Column(column) => text(*column).unwrap_or_default(),
                EventName::Fixed(name) => name.clone(),
            },
            time,
            identifiers: self
                .identifiers
                .iter()
                .filter_map(|(column, kind)| text(*column).map(|value| Identifier { kind: kind.clone(), value }))
                .collect(),
            properties: typed_values(&self.properties, &cells, "properties", &mut faults),
            traits: typed_values(&self.traits, &cells, "traits", &mut faults),
            context: Some(context),
            source: self.source.clone(),
            ..Event::default()
        };
        Candidate { event, faults, unreadable: false }
    }
}

fn delimiter(mapping: &Mapping, reader: &mut Reader) {
    let one_byte = mapping.delimiter.len() <= 1 || mapping.delimiter == "\\t";
    if !one_byte || matches!(mapping.delimiter.as_str(), "\"" | "\n" | "\r") {
        reader.fault("mapping.delimiter", "use one ASCII character that is neither a quote nor a line break");
    }
}

/// The delimiter of a CSV file.
pub fn delimiter_of(mapping: &Mapping) -> u8 {
    match mapping.delimiter.as_bytes() {
        [] => b',',
        b"\\t" => b'\t',
        [byte, ..] => *byte,
    }
}

fn typed_values(typed: &[Typed], cells: &Cells, family: &str, faults: &mut Vec<Reason>) -> std::collections::HashMap<String, Value> {
    let mut values = std::collections::HashMap::with_capacity(typed.len());
    for Typed { column, name, value_type } in typed {
        let Some(mut value) = cells[*column].clone() else { continue };
        if let Some(value_type) = value_type {
            coerce::cast(&mut value, *value_type);
            if coerce::infer(&value) != *value_type {
                let shown: String = as_text(&value).unwrap_or_default().chars().take(40).collect();
                let message = format!("`{shown}` cannot be read as {}", value_type.name());
                faults.push(reason(ReasonCode::TypeMismatch, format!("{family}.{name}"), message));
            }
        }
        values.insert(name.clone(), value);
    }
    values
}

/// A value as text, for names and identifiers; None for nested ones.
fn as_text(value: &Value) -> Option<String> {
    match value.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        Kind::IntValue(number) => Some(number.to_string()),
        Kind::DoubleValue(number) => Some(number.to_string()),
        Kind::BoolValue(truth) => Some(truth.to_string()),
        Kind::DecimalE4Value(e4) => Some(segue_model::Decimal4(*e4).to_string()),
        Kind::TimestampValue(time) => {
            let time = chrono::DateTime::from_timestamp(time.seconds, time.nanos.try_into().ok()?)?;
            Some(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        }
        Kind::JsonValue(text) => Some(text.clone()),
    }
}

/// Sets a field of the context, or a dimension, by name. False: there is none of that name.
fn set_field(context: &mut Context, name: &str, value: String) -> bool {
    let field = match name {
        "platform" => &mut context.platform,
        "source_type" => &mut context.source_type,
        "app_version" => &mut context.app_version,
        "os_name" => &mut context.os_name,
        "os_version" => &mut context.os_version,
        "device_model" => &mut context.device_model,
        "device_manufacturer" => &mut context.device_manufacturer,
        "device_category" => &mut context.device_category,
        "carrier" => &mut context.carrier,
        "network_type" => &mut context.network_type,
        "sdk_version" => &mut context.sdk_version,
        "device_language" => &mut context.device_language,
        "device_country" => &mut context.device_country,
        "browser" => &mut context.browser,
        "user_agent" => &mut context.user_agent,
        "ip" => &mut context.ip,
        "page_url" => &mut context.page_url,
        "page_path" => &mut context.page_path,
        "page_title" => &mut context.page_title,
        "referrer" => &mut context.referrer,
        "screen_name" => &mut context.screen_name,
        "utm_source" => &mut context.utm_source,
        "utm_medium" => &mut context.utm_medium,
        "utm_campaign" => &mut context.utm_campaign,
        "utm_term" => &mut context.utm_term,
        "utm_content" => &mut context.utm_content,
        "session_id" => &mut context.session_id,
        "account_id" => &mut context.account_id,
        "time_zone" => &mut context.time_zone,
        other if dimension::by_name(other).is_some() => {
            context.dimensions.insert(other.to_owned(), value);
            return true;
        }
        _ => return false,
    };
    *field = value;
    true
}
