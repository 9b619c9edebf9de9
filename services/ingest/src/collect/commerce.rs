//! Segment's and GA4's e-commerce properties as ours: products become items, orders get their standard properties.

use segue_model::catalogue;
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{Item, Value as Typed};
use segue_proto::ingest::v1::{Reason, ReasonCode};
use serde_json::{Map, Value};

use super::value::{decimal, text, typed, whole};
use crate::accept::reason;

/// Events (by canonical name) whose properties are those of an order or of products.
const COMMERCE: &[&str] = &[
    "df_purchase",
    "df_refund",
    "df_view_product_details",
    "df_view_search_result",
    "df_view_list",
    "df_view_cart",
    "df_add_to_cart",
    "df_remove_cart",
    "df_add_to_wishlist",
    "df_share_product",
    "df_add_payment_info",
    "df_begin_checkout",
];
/// Those of one product, whose fields stand among the event's properties.
const SINGLE: &[&str] = &["df_view_product_details", "df_add_to_cart", "df_remove_cart", "df_add_to_wishlist", "df_share_product"];
const IDS: &[&str] = &["product_id", "item_id", "id", "sku"];

/// Takes items and order properties out of `properties`, for the standard e-commerce events.
pub(super) fn map(name: &str, properties: &mut Map<String, Value>, faults: &mut Vec<Reason>) -> (Vec<Item>, Vec<(String, Typed)>) {
    let Some(event) = catalogue::canonical_event(name).filter(|event| COMMERCE.contains(event)) else {
        return (Vec::new(), Vec::new());
    };
    let mut items = Vec::new();
    for list in ["products", "items"] {
        if properties.get(list).is_some_and(Value::is_array)
            && let Some(Value::Array(products)) = properties.remove(list)
        {
            for product in products {
                items.push(item(product, items.len(), faults));
            }
        }
    }
    if items.is_empty() && SINGLE.contains(&event) && ["product_id", "item_id", "sku"].iter().any(|id| properties.contains_key(*id)) {
        items.push(single(properties, faults));
    }
    (items, order(event, properties))
}

fn order(event: &str, properties: &mut Map<String, Value>) -> Vec<(String, Typed)> {
    let mut found = Vec::new();
    let mut texts = vec![("df_currency", ["currency"].as_slice())];
    let mut amounts = Vec::new();
    match event {
        "df_purchase" => {
            texts.push(("df_order_id", &["order_id", "transaction_id"]));
            amounts.push(("df_total_purchase_amount", ["total", "revenue", "value"].as_slice()));
        }
        "df_refund" => {
            texts.push(("df_order_id", &["order_id", "transaction_id"]));
            amounts.push(("df_total_refund_amount", &["total", "revenue", "value"]));
        }
        _ => texts.push(("df_order_id", &["order_id"])),
    }
    if matches!(event, "df_purchase" | "df_refund" | "df_begin_checkout") {
        amounts.push(("df_delivery_charge", &["shipping"]));
        amounts.push(("df_discount", &["discount"]));
    }
    match event {
        "df_view_search_result" => texts.push(("df_keyword", &["query", "search_term"])),
        "df_share_product" => texts.push(("df_sharing_channel", &["share_via", "method"])),
        "df_purchase" | "df_add_payment_info" => texts.push(("df_payment_method", &["payment_method", "payment_type"])),
        _ => {}
    }
    for (name, sources) in texts {
        if properties.contains_key(name) {
            continue;
        }
        let source = sources.iter().find(|source| properties.get(**source).and_then(text).is_some());
        if let Some(text) = source.and_then(|source| properties.remove(*source)).as_ref().and_then(text) {
            found.push((name.to_owned(), Typed { kind: Some(Kind::StringValue(text)) }));
        }
    }
    for (name, sources) in amounts {
        let given = |source: &&&str| properties.get(**source).is_some_and(|value| !value.is_null());
        let Some(source) = sources.iter().find(given).filter(|_| !properties.contains_key(name)) else { continue };
        let Some(value) = properties.remove(*source) else { continue };
        // What is no exact amount keeps its value: the taxonomy then tells that it is of the wrong type.
        let typed = decimal(&value).map(|e4| Typed { kind: Some(Kind::DecimalE4Value(e4)) }).or_else(|| typed(value));
        found.extend(typed.map(|typed| (name.to_owned(), typed)));
    }
    found
}

/// The fields of the one product among the event's properties.
fn single(properties: &mut Map<String, Value>, faults: &mut Vec<Reason>) -> Item {
    const FIELDS: &[&str] = &[
        "product_id",
        "item_id",
        "sku",
        "name",
        "product_name",
        "item_name",
        "price",
        "quantity",
        "category",
        "item_category",
        "item_category2",
        "item_category3",
        "item_category4",
        "item_category5",
        "brand",
        "item_brand",
        "variant",
        "item_variant",
        "coupon",
    ];
    let product: Map<String, Value> =
        FIELDS.iter().filter_map(|field| properties.remove(*field).map(|value| ((*field).to_owned(), value))).collect();
    item(Value::Object(product), 0, faults)
}

fn item(product: Value, at: usize, faults: &mut Vec<Reason>) -> Item {
    let mut item = Item::default();
    let Value::Object(mut product) = product else {
        faults.push(reason(ReasonCode::Unreadable, format!("items[{at}]"), "a product is a JSON object"));
        if let Some(value) = typed(product) {
            item.properties.insert("unreadable".to_owned(), value);
        }
        return item;
    };
    for (sources, field) in [
        (IDS, &mut item.item_id),
        (["name", "item_name", "product_name"].as_slice(), &mut item.name),
        (&["brand", "item_brand"], &mut item.brand),
        (&["variant", "item_variant"], &mut item.variant),
        (&["coupon"], &mut item.coupon),
    ] {
        for source in sources {
            if field.is_empty()
                && let Some(text) = product.get(*source).and_then(text)
            {
                *field = text;
                product.remove(*source);
            }
        }
    }
    for source in ["category", "item_category", "item_category2", "item_category3", "item_category4", "item_category5"] {
        if item.categories.len() < 5
            && let Some(text) = product.get(source).and_then(text)
        {
            item.categories.push(text);
            product.remove(source);
        }
    }
    let mut number = |name: &str, read: fn(&Value) -> Option<i64>, what: &str| {
        let value = product.get(name).filter(|value| !value.is_null())?;
        match read(value) {
            Some(number) => {
                product.remove(name);
                Some(number)
            }
            None => {
                faults.push(reason(ReasonCode::TypeMismatch, format!("items[{at}].{name}"), what));
                None
            }
        }
    };
    item.price_e4 = number("price", decimal, "is not an exact amount with at most four places");
    item.quantity = number("quantity", whole, "is not a whole number");
    item.discount_e4 = number("discount", decimal, "is not an exact amount with at most four places");
    for (name, value) in product {
        if let Some(value) = typed(value) {
            item.properties.insert(name, value);
        }
    }
    item
}
