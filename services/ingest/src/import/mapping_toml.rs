//! The mapping as a TOML file, for the command line: the contract's field names, in tables.

use segue_proto::ingest::v1::{DimensionColumn, IdentifierColumn, ImportFormat, Mapping, PropertyColumn, PropertyType, TraitColumn};
use serde::Deserialize;

/// The text is not a mapping.
#[derive(Debug, thiserror::Error)]
#[error("the mapping file cannot be read:\n{0}")]
pub struct MappingTomlError(#[from] toml::de::Error);

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct MappingToml {
    format: Format,
    delimiter: String,
    event_column: String,
    event_name: String,
    time_column: String,
    time_format: String,
    time_zone: String,
    message_id_column: String,
    source: String,
    identifiers: Vec<IdentifierToml>,
    properties: Vec<PropertyToml>,
    dimensions: Vec<DimensionToml>,
    traits: Vec<TraitToml>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Auto,
    Csv,
    Ndjson,
    Parquet,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Type {
    #[default]
    Unspecified,
    String,
    Int,
    Double,
    Bool,
    Decimal,
    Timestamp,
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentifierToml {
    column: String,
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PropertyToml {
    column: String,
    #[serde(default)]
    property: String,
    #[serde(default)]
    r#type: Type,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DimensionToml {
    column: String,
    dimension: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TraitToml {
    column: String,
    #[serde(default)]
    r#trait: String,
    #[serde(default)]
    r#type: Type,
}

/// Reads a mapping file. Keys are the contract's field names; `format` is `csv`, `ndjson` or `parquet` (default: from the file),
/// types are `string`, `int`, `double`, `bool`, `decimal`, `timestamp`, `json`. Unknown keys are errors, with their line.
pub fn mapping_from_toml(text: &str) -> Result<Mapping, MappingTomlError> {
    let read: MappingToml = toml::from_str(text)?;
    let of_type = |read: Type| match read {
        Type::Unspecified => PropertyType::Unspecified as i32,
        Type::String => PropertyType::String as i32,
        Type::Int => PropertyType::Int as i32,
        Type::Double => PropertyType::Double as i32,
        Type::Bool => PropertyType::Bool as i32,
        Type::Decimal => PropertyType::Decimal as i32,
        Type::Timestamp => PropertyType::Timestamp as i32,
        Type::Json => PropertyType::Json as i32,
    };
    let format = match read.format {
        Format::Auto => ImportFormat::Unspecified,
        Format::Csv => ImportFormat::Csv,
        Format::Ndjson => ImportFormat::Ndjson,
        Format::Parquet => ImportFormat::Parquet,
    };
    Ok(Mapping {
        format: format.into(),
        delimiter: read.delimiter,
        event_column: read.event_column,
        event_name: read.event_name,
        time_column: read.time_column,
        time_format: read.time_format,
        time_zone: read.time_zone,
        message_id_column: read.message_id_column,
        source: read.source,
        identifiers: read.identifiers.into_iter().map(|i| IdentifierColumn { column: i.column, kind: i.kind }).collect(),
        properties: (read.properties.into_iter())
            .map(|p| PropertyColumn { column: p.column, property: p.property, r#type: of_type(p.r#type) })
            .collect(),
        dimensions: read.dimensions.into_iter().map(|d| DimensionColumn { column: d.column, dimension: d.dimension }).collect(),
        traits: (read.traits.into_iter())
            .map(|t| TraitColumn { column: t.column, r#trait: t.r#trait, r#type: of_type(t.r#type) })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_mapping_and_an_unknown_key_is_told_with_its_line() {
        let example = include_str!("../../../../tests/data/ecom.mapping.toml");
        let mapping = mapping_from_toml(example).expect("the example is valid");
        assert_eq!(mapping.time_format, "%Y-%m-%d %H:%M:%S");
        assert!(crate::import::mapping::Plan::of(&mapping).is_ok());

        let error = mapping_from_toml("event_column = 'e'\ntime_colum = 't'\n").expect_err("refused").to_string();
        assert!(error.contains("line 2") && error.contains("time_colum"), "{error}");
    }
}
