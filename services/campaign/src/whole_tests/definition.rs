//! Scenarios of a script as the service gets them.

use segue_proto::campaign::v1::exit_rule::On as ExitOn;
use segue_proto::campaign::v1::reentry::Rule;
use segue_proto::campaign::v1::step::Kind;
use segue_proto::campaign::v1::update_trait_step::To;
use segue_proto::campaign::v1::wait_step::Wait;
use segue_proto::campaign::v1::{
    CallEntry, Entry, EventArm, EventEntry, EventWait, ExitRule, ListStep, MessageStep, Purpose, Reentry, ScenarioDefinition, Step,
    UpdateTraitStep, WaitStep, WebhookStep, entry,
};
use segue_proto::events::v1::Value;
use segue_proto::events::v1::value::Kind as ValueKind;
use segue_proto::query::v1::{EventSelector, Span, TimeUnit};

use super::script::{Node, Plan};

fn on(name: &str) -> Option<EventSelector> {
    Some(EventSelector { events: vec![name.to_owned()], filter: None })
}

fn span(count: u32, unit: TimeUnit) -> Option<Span> {
    Some(Span { count, unit: unit.into() })
}

impl Plan {
    pub(super) fn step_id(at: usize) -> String {
        format!("n{at}")
    }

    fn key_property(&self) -> String {
        if self.is_keyed { "cart".to_owned() } else { String::new() }
    }

    /// Empty behind the last: the end.
    fn next(&self, at: usize) -> String {
        if at < self.nodes.len() { Self::step_id(at) } else { String::new() }
    }

    pub(super) fn definition(&self) -> ScenarioDefinition {
        let entry = match self.by_call {
            true => entry::On::Call(CallEntry {}),
            false => entry::On::Event(EventEntry { on: on("cart"), entry_key_property: self.key_property() }),
        };
        let exit = || ExitRule { on: on("buy").map(ExitOn::Event), entry_key_property: self.key_property() };
        let rule = if self.again { Rule::AfterEnd } else { Rule::Never };
        let step = |at: usize| Step { id: Self::step_id(at), next: self.next(at + 1), kind: Some(self.kind(at)) };
        ScenarioDefinition {
            entry: Some(Entry { on: Some(entry), only_if: None }),
            steps: (0..self.nodes.len()).map(step).collect(),
            exits: if self.leaves { vec![exit()] } else { Vec::new() },
            reentry: Some(Reentry { rule: rule.into(), pause: None }),
            purpose: Purpose::Advertising.into(),
            time_zone: "UTC".to_owned(),
            ..ScenarioDefinition::default()
        }
    }

    fn kind(&self, at: usize) -> Kind {
        match self.nodes[at] {
            Node::Message { by, is_transactional, expires_h } => Kind::Message(MessageStep {
                channel: by.name().to_owned(),
                template: by.name().to_owned(),
                purpose: if is_transactional { Purpose::Transactional } else { Purpose::Unspecified }.into(),
                expires: expires_h.and_then(|hours| span(hours, TimeUnit::Hour)),
            }),
            Node::Webhook => Kind::Webhook(WebhookStep { channel: "hook".to_owned(), template: "hook".to_owned(), expires: None }),
            Node::Trait { is_template } => Kind::UpdateTrait(UpdateTraitStep {
                r#trait: format!("t{at}"),
                to: Some(match is_template {
                    true => To::Template("{{ step }}".to_owned()),
                    false => To::Value(Value { kind: Some(ValueKind::BoolValue(true)) }),
                }),
            }),
            Node::List => Kind::List(ListStep { list: "l".to_owned(), remove: false }),
            Node::Wait { minutes } => Kind::Wait(WaitStep { wait: span(minutes, TimeUnit::Minute).map(Wait::Duration) }),
            Node::Event { minutes, to } => {
                let arm = EventArm { on: on("buy"), entry_key_property: self.key_property(), next: self.next(to) };
                Kind::Wait(WaitStep { wait: Some(Wait::ForEvent(EventWait { arms: vec![arm], timeout: span(minutes, TimeUnit::Minute) })) })
            }
        }
    }
}
