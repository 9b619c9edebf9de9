//! The standard catalogue: event names with their aliases in other systems, standard properties and traits.
//!
//! Names and aliases are facts gathered from the public documentation of adbrix, Segment and Google Analytics 4. To add an
//! event: one line in [`EVENTS`]; a property: one in [`PROPERTIES`].

/// An event that every tenant knows from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandardEvent {
    /// Canonical name.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    /// Names elsewhere that mean this; applied at ingest, exactly as written.
    pub aliases: &'static [&'static str],
    /// What it usually carries, besides items.
    pub properties: &'static [&'static str],
}

/// Type of a property, fixed per tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// Text.
    String,
    /// 64-bit whole number.
    Int,
    /// Floating point.
    Double,
    /// True or false.
    Bool,
    /// Exact, four places.
    Decimal,
    /// A moment.
    Timestamp,
    /// Array or object, as text.
    Json,
}

impl ValueType {
    /// Lower-case name, as stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::String => "string",
            ValueType::Int => "int",
            ValueType::Double => "double",
            ValueType::Bool => "bool",
            ValueType::Decimal => "decimal",
            ValueType::Timestamp => "timestamp",
            ValueType::Json => "json",
        }
    }
}

/// A property that has the same type for every tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandardProperty {
    /// Name.
    pub name: &'static str,
    /// Its type.
    pub value_type: ValueType,
    /// The built-in dimension that it also fills.
    pub dimension: Option<&'static str>,
}

/// All standard events.
pub const EVENTS: &[StandardEvent] = &[
    StandardEvent { name: "df_login", description: "A person logged in", aliases: &["abx:login", "Signed In", "login"], properties: &[] },
    StandardEvent { name: "df_logout", description: "A person logged out", aliases: &["abx:logout", "Signed Out"], properties: &[] },
    StandardEvent {
        name: "df_sign_up",
        description: "A person signed up",
        aliases: &["abx:sign_up", "Signed Up", "sign_up"],
        properties: &["df_sign_channel"],
    },
    StandardEvent {
        name: "df_purchase",
        description: "An order was completed",
        aliases: &["abx:purchase", "Order Completed", "purchase"],
        properties: &["df_order_id", "df_payment_method", "df_total_purchase_amount", "df_delivery_charge", "df_discount", "df_currency"],
    },
    StandardEvent {
        name: "df_refund",
        description: "An order was refunded",
        aliases: &["abx:refund", "Order Refunded", "refund"],
        properties: &["df_order_id", "df_total_refund_amount"],
    },
    StandardEvent {
        name: "df_view_home",
        description: "A page, screen or the home view was seen",
        aliases: &["abx:view_home", "page_view"],
        properties: &[],
    },
    StandardEvent {
        name: "df_view_product_details",
        description: "A product was seen",
        aliases: &["abx:product_view", "Product Viewed", "view_item"],
        properties: &[],
    },
    StandardEvent {
        name: "df_view_search_result",
        description: "Search results were seen",
        aliases: &["abx:search", "Products Searched", "view_search_results"],
        properties: &["df_keyword"],
    },
    StandardEvent {
        name: "df_view_list",
        description: "A list of products was seen",
        aliases: &["abx:list_view", "abx:category_view", "Product List Viewed", "view_item_list"],
        properties: &[],
    },
    StandardEvent {
        name: "df_view_cart",
        description: "The cart was seen",
        aliases: &["abx:cart_view", "Cart Viewed", "view_cart"],
        properties: &[],
    },
    StandardEvent {
        name: "df_add_to_cart",
        description: "A product was put into the cart",
        aliases: &["abx:add_to_cart", "Product Added", "add_to_cart"],
        properties: &[],
    },
    StandardEvent {
        name: "df_remove_cart",
        description: "A product was taken out of the cart",
        aliases: &["Product Removed", "remove_from_cart"],
        properties: &[],
    },
    StandardEvent {
        name: "df_add_to_wishlist",
        description: "A product was put on the wishlist",
        aliases: &["abx:add_to_wishlist", "Product Added to Wishlist", "add_to_wishlist"],
        properties: &[],
    },
    StandardEvent {
        name: "df_share_product",
        description: "A product was shared",
        aliases: &["abx:share", "Product Shared", "share"],
        properties: &["df_sharing_channel"],
    },
    StandardEvent {
        name: "df_add_payment_info",
        description: "Payment details were entered",
        aliases: &["abx:paymentinfo_added", "Payment Info Entered", "add_payment_info"],
        properties: &[],
    },
    StandardEvent { name: "df_app_open", description: "The app was opened", aliases: &[], properties: &["df_open_type"] },
    StandardEvent { name: "df_ad_response", description: "An ad was responded to", aliases: &[], properties: &[] },
    StandardEvent {
        name: "df_begin_checkout",
        description: "Checkout was begun",
        aliases: &["Checkout Started", "begin_checkout"],
        properties: &[],
    },
    StandardEvent { name: "df_session_start", description: "A session began", aliases: &["session_start"], properties: &[] },
    StandardEvent { name: "df_session_end", description: "A session ended", aliases: &[], properties: &[] },
    StandardEvent {
        name: "df_message_sent",
        description: "A message was sent",
        aliases: &[],
        properties: &["df_message_campaign", "df_message_variant"],
    },
    StandardEvent {
        name: "df_message_delivered",
        description: "A message was delivered",
        aliases: &[],
        properties: &["df_message_campaign", "df_message_variant"],
    },
    StandardEvent {
        name: "df_message_opened",
        description: "A message was opened",
        aliases: &[],
        properties: &["df_message_campaign", "df_message_variant"],
    },
    StandardEvent {
        name: "df_message_clicked",
        description: "A message was clicked",
        aliases: &[],
        properties: &["df_message_campaign", "df_message_variant"],
    },
    StandardEvent {
        name: "df_message_converted",
        description: "A message led to its goal",
        aliases: &[],
        properties: &["df_message_campaign", "df_message_variant"],
    },
    StandardEvent {
        name: "df_message_failed",
        description: "A message was failed",
        aliases: &[],
        properties: &["df_message_campaign", "df_message_variant"],
    },
    StandardEvent {
        name: "df_message_suppressed",
        description: "A message was suppressed",
        aliases: &[],
        properties: &["df_message_campaign", "df_message_variant"],
    },
    StandardEvent {
        name: "df_message_unsubscribed",
        description: "A person unsubscribed by a message's link",
        aliases: &[],
        properties: &["df_message_campaign", "df_message_variant", "df_message_step"],
    },
    StandardEvent {
        name: "df_experiment_exposed",
        description: "A person got a variant of an experiment",
        aliases: &[],
        properties: &["df_message_campaign", "df_message_variant", "df_message_step"],
    },
];

/// All standard event properties.
pub const PROPERTIES: &[StandardProperty] = &[
    StandardProperty { name: "df_sign_channel", value_type: ValueType::String, dimension: Some("sign_up_channel") },
    StandardProperty { name: "df_order_id", value_type: ValueType::String, dimension: Some("order_id") },
    StandardProperty { name: "df_payment_method", value_type: ValueType::String, dimension: Some("payment_method") },
    StandardProperty { name: "df_total_purchase_amount", value_type: ValueType::Decimal, dimension: None },
    StandardProperty { name: "df_delivery_charge", value_type: ValueType::Decimal, dimension: None },
    StandardProperty { name: "df_discount", value_type: ValueType::Decimal, dimension: None },
    StandardProperty { name: "df_currency", value_type: ValueType::String, dimension: Some("currency") },
    StandardProperty { name: "df_total_refund_amount", value_type: ValueType::Decimal, dimension: None },
    StandardProperty { name: "df_keyword", value_type: ValueType::String, dimension: Some("search_keyword") },
    StandardProperty { name: "df_sharing_channel", value_type: ValueType::String, dimension: Some("sharing_channel") },
    StandardProperty { name: "df_open_type", value_type: ValueType::String, dimension: Some("app_open_type") },
    StandardProperty { name: "df_message_campaign", value_type: ValueType::String, dimension: Some("message_campaign") },
    StandardProperty { name: "df_message_variant", value_type: ValueType::String, dimension: Some("message_variant") },
    StandardProperty { name: "df_message_step", value_type: ValueType::String, dimension: None },
    StandardProperty { name: "df_message_channel", value_type: ValueType::String, dimension: None },
    StandardProperty { name: "df_message_id", value_type: ValueType::String, dimension: None },
    StandardProperty { name: "df_message_reason", value_type: ValueType::String, dimension: None },
    StandardProperty { name: "df_message_goal", value_type: ValueType::String, dimension: None },
    StandardProperty { name: "df_message_value", value_type: ValueType::Decimal, dimension: None },
    StandardProperty { name: "df_store", value_type: ValueType::String, dimension: Some("store") },
];

/// All standard traits of a person.
pub const TRAITS: &[StandardProperty] = &[
    StandardProperty { name: "df_name", value_type: ValueType::String, dimension: None },
    StandardProperty { name: "df_gender", value_type: ValueType::String, dimension: None },
    StandardProperty { name: "df_birth", value_type: ValueType::String, dimension: None },
    StandardProperty { name: "df_membership", value_type: ValueType::String, dimension: None },
    StandardProperty { name: "df_push_optin", value_type: ValueType::Bool, dimension: None },
    StandardProperty { name: "df_push_ads_optin", value_type: ValueType::Bool, dimension: None },
    StandardProperty { name: "df_push_night_ads_optin", value_type: ValueType::Bool, dimension: None },
    StandardProperty { name: "df_email_ads_optin", value_type: ValueType::Bool, dimension: None },
    StandardProperty { name: "df_sms_ads_optin", value_type: ValueType::Bool, dimension: None },
    StandardProperty { name: "df_kakao_ads_optin", value_type: ValueType::Bool, dimension: None },
];

/// The canonical name of `name`, if it is a standard event or an alias of one.
pub fn canonical_event(name: &str) -> Option<&'static str> {
    static NAMES: std::sync::LazyLock<std::collections::HashMap<&'static str, &'static str>> = std::sync::LazyLock::new(|| {
        EVENTS.iter().flat_map(|event| event.aliases.iter().chain([&event.name]).map(|alias| (*alias, event.name))).collect()
    });
    NAMES.get(name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_lead_to_one_event_each() {
        let mut seen = std::collections::HashMap::new();
        for event in EVENTS {
            for name in event.aliases.iter().chain([&event.name]) {
                assert_eq!(seen.insert(*name, event.name), None, "{name} stands twice");
            }
        }
        assert_eq!(canonical_event("Order Completed"), Some("df_purchase"));
        assert_eq!(canonical_event("abx:category_view"), Some("df_view_list"));
        assert_eq!(canonical_event("order completed"), None);
    }

    #[test]
    fn properties_name_dimensions_that_exist() {
        for property in PROPERTIES {
            assert!(property.dimension.is_none_or(|name| crate::dimension::by_name(name).is_some()), "{}", property.name);
        }
    }
}
