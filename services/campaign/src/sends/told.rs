//! What is told of a message, as events for ingest.

use segue_proto::campaign::v1::{ChannelKind, SendReason};
use segue_proto::events::v1::Value;
use segue_proto::events::v1::value::Kind;

use crate::outbox::Told;

/// A message, as events name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) send: &'a str,
    pub(super) person: u32,
    pub(super) scenario: &'a str,
    pub(super) step: &'a str,
    pub(super) variant: &'a str,
    pub(super) kind: ChannelKind,
}

impl About<'_> {
    /// `message_id` ends the id of the event after the one of the send.
    pub(super) fn tell(&self, name: &'static str, message_id: &str, time_us: i64, reason: &str) -> Told {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let mut properties = vec![("df_message_campaign", text(self.scenario)), ("df_message_step", text(self.step))];
        let optional = [("df_message_variant", self.variant), ("df_message_reason", reason), ("df_message_channel", &kind_name(self.kind))];
        properties.extend(optional.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, text(value))));
        properties.push(("df_message_id", text(self.send)));
        Told::Event { message_id: format!("{}:{message_id}", self.send), name, time_us, person: self.person, properties, items: Vec::new() }
    }
}

/// `in_app`; nothing for no kind.
fn kind_name(kind: ChannelKind) -> String {
    match kind {
        ChannelKind::Unspecified => String::new(),
        kind => kind.as_str_name().trim_start_matches("CHANNEL_KIND_").to_ascii_lowercase(),
    }
}

/// `no_consent`.
pub(super) fn reason_name(reason: SendReason) -> String {
    reason.as_str_name().trim_start_matches("SEND_REASON_").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_the_message_and_what_is_empty_is_left_out() {
        let about = About { send: "s", person: 7, scenario: "cart", step: "mail", variant: "", kind: ChannelKind::InApp };
        let Told::Event { message_id, properties, .. } = about.tell("df_message_sent", "sent", 5, "") else { panic!("an event") };
        assert_eq!(message_id, "s:sent");
        let names: Vec<_> = properties.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["df_message_campaign", "df_message_step", "df_message_channel", "df_message_id"]);
        assert_eq!(properties[2].1.kind, Some(Kind::StringValue("in_app".to_owned())));
        assert_eq!(reason_name(SendReason::NoConsent), "no_consent");
    }
}
