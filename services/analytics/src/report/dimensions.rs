//! The list of everything that can be filtered by and grouped by.

use segue_model::{catalogue, dimension};
use segue_proto::analytics::v1 as pb;
use segue_proto::query::v1::{Field, field};

use crate::filter::fields::{OWN_DIMENSIONS, Vocabulary, item_field_type, item_names};
use crate::scan::ItemField;

/// Built-in dimensions, then properties of events, then properties of items; each by name except the built-in ones, which keep the
/// catalogue's order.
pub(super) fn list(vocabulary: &Vocabulary) -> Vec<pb::Dimension> {
    let own = OWN_DIMENSIONS.iter().map(|(name, description)| built_in(name, description, false));
    let catalogued =
        dimension::DIMENSIONS.iter().map(|dimension| built_in(dimension.name, dimension.description, dimension.attribution_dependent));
    let properties = vocabulary.events().iter().map(|(name, kind)| pb::Dimension {
        field: Some(Field { field: Some(field::Field::Property(name.clone())) }),
        kind: pb::DimensionKind::Property as i32,
        r#type: kind.name().to_owned(),
        description: describe_property(name),
        attribution_dependent: false,
    });
    let item = |name: &str, kind: &str, description: &str| pb::Dimension {
        field: Some(Field { field: Some(field::Field::ItemProperty(name.to_owned())) }),
        kind: pb::DimensionKind::ItemProperty as i32,
        r#type: kind.to_owned(),
        description: description.to_owned(),
        attribution_dependent: false,
    };
    let items = item_names().filter_map(ItemField::by_name).map(|field| item(field.name(), item_field_type(field).name(), "Of an item"));
    let custom_items = vocabulary.items().iter().map(|(name, kind)| item(name, kind.name(), "Custom property of an item"));
    own.chain(catalogued).chain(properties).chain(items).chain(custom_items).collect()
}

fn built_in(name: &str, description: &str, attribution_dependent: bool) -> pb::Dimension {
    pb::Dimension {
        field: Some(Field { field: Some(field::Field::Dimension(name.to_owned())) }),
        kind: pb::DimensionKind::BuiltIn as i32,
        r#type: "string".to_owned(),
        description: description.to_owned(),
        attribution_dependent,
    }
}

fn describe_property(name: &str) -> String {
    match catalogue::PROPERTIES.iter().find(|property| property.name == name) {
        Some(standard) => match standard.dimension {
            Some(dimension) => format!("Standard property; also the dimension `{dimension}`"),
            None => "Standard property".to_owned(),
        },
        None => "Property of events".to_owned(),
    }
}
