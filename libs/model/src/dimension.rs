//! The built-in dimensions: what every event can be filtered and grouped by.
//!
//! Besides these, `event` (canonical name), `date` (a report's grain) and the item's fields are dimensions, which are columns of
//! their own. To add one: append it here with the next code (codes are stored, never reuse or renumber), and fill it in
//! ingest's enrichment.

/// One built-in dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimension {
    /// Stored number, from 1.
    pub code: u32,
    /// Name in requests, and of the column in files.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    /// Its value depends on the attribution model of a report.
    pub attribution_dependent: bool,
}

const fn dimension(code: u32, name: &'static str, description: &'static str) -> Dimension {
    Dimension { code, name, description, attribution_dependent: false }
}

const fn attributed(code: u32, name: &'static str, description: &'static str) -> Dimension {
    Dimension { code, name, description, attribution_dependent: true }
}

/// All, by code: the dimension with code n stands at n − 1.
pub const DIMENSIONS: &[Dimension] = &[
    dimension(1, "platform", "Platform"),
    dimension(2, "source_type", "How the event came in: app, web, server, file or ad_callback"),
    attributed(3, "ad_partner", "Ad partner"),
    attributed(4, "tracking_link", "Tracking link"),
    attributed(5, "ad_campaign", "Ad campaign"),
    attributed(6, "ad", "Ad"),
    attributed(7, "ad_group", "Ad group"),
    attributed(8, "ad_creative", "Ad creative"),
    attributed(9, "ad_keyword", "Ad keyword"),
    attributed(10, "ad_placement", "Ad placement"),
    attributed(11, "ad_cost_model", "Cost model of the ad"),
    attributed(12, "ad_agency", "Ad agency"),
    attributed(13, "channel_group", "Channel group"),
    dimension(14, "country", "Country by IP"),
    dimension(15, "region", "Region by IP"),
    dimension(16, "city", "City by IP"),
    dimension(17, "device_country", "Region of the device"),
    dimension(18, "device_language", "Language of the device"),
    dimension(19, "app_version", "App version"),
    dimension(20, "os_name", "Operating system"),
    dimension(21, "os_version", "Operating system version"),
    dimension(22, "device_model", "Device model"),
    dimension(23, "device_manufacturer", "Device manufacturer"),
    dimension(24, "device_category", "Device category"),
    dimension(25, "carrier", "Carrier"),
    dimension(26, "network_type", "Network type"),
    dimension(27, "sdk_version", "SDK version"),
    dimension(28, "app_open_type", "How the app was opened: first_install, re_install, deep_link or plain"),
    dimension(29, "first_or_returning", "first: the person's first event; returning: a later one"),
    dimension(30, "gender", "Gender, as of the event"),
    dimension(31, "age_band", "Age band, as of the event"),
    dimension(32, "membership", "Membership grade, as of the event"),
    dimension(33, "sign_up_channel", "Sign-up channel"),
    dimension(34, "sharing_channel", "Sharing channel"),
    dimension(35, "search_keyword", "Search keyword"),
    dimension(36, "payment_method", "Payment method"),
    dimension(37, "order_id", "Order id"),
    dimension(38, "currency", "Currency"),
    dimension(39, "store", "Store or POS terminal"),
    dimension(40, "utm_source", "UTM source"),
    dimension(41, "utm_medium", "UTM medium"),
    dimension(42, "utm_campaign", "UTM campaign"),
    dimension(43, "utm_term", "UTM term"),
    dimension(44, "utm_content", "UTM content"),
    dimension(45, "referrer_domain", "Domain of the referrer"),
    dimension(46, "page_path", "Path of the page"),
    dimension(47, "screen_name", "Screen"),
    dimension(48, "browser", "Browser"),
    dimension(49, "message_campaign", "Campaign of the message"),
    dimension(50, "message_variant", "Variant of the message"),
    dimension(51, "audience", "Audience at the event's time"),
];

/// The dimension with this name.
pub fn by_name(name: &str) -> Option<&'static Dimension> {
    DIMENSIONS.iter().find(|dimension| dimension.name == name)
}

/// The dimension with this code.
pub fn by_code(code: u32) -> Option<&'static Dimension> {
    DIMENSIONS.get((code as usize).checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_positions_and_names_are_unique() {
        for (at, dimension) in DIMENSIONS.iter().enumerate() {
            assert_eq!(dimension.code as usize, at + 1);
            assert_eq!(by_name(dimension.name), Some(dimension));
            assert_eq!(by_code(dimension.code), Some(dimension));
        }
        assert_eq!(by_code(0), None);
    }
}
