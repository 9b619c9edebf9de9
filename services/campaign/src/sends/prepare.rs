//! From claimed sends to messages: everything that takes time is done here, before the transaction that decides.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use segue_model::TenantId;
use segue_proto::campaign::v1::{ChannelKind, SendReason, SendState, SendingPolicy, TemplateFault};

use super::idempotency_key;
use super::judge::{self, Judged, Known};
use super::row::{Address, Claimed};
use super::worker::Sources;
use crate::channels::{Message, OpenChannel};
use crate::error::CampaignError;
use crate::links::LinkSet;
use crate::persons::Profile;
use crate::policies::Checked;
use crate::service::Service;
use crate::templates::{Loaded, person_values};

/// Sends after which others get a turn on this thread.
const AT_A_STRETCH: usize = 32;

/// Claimed sends of one channel, with what is known of whom and what they are about.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) tenant: TenantId,
    pub(super) sends: Vec<Claimed>,
    pub(super) channel: Option<Arc<OpenChannel>>,
    pub(super) policy: Arc<SendingPolicy>,
    templates: HashMap<String, Option<Arc<Loaded>>>,
    persons: HashMap<u32, Arc<Profile>>,
}

/// A send with its decision, as far as it can be made before the transaction: whether the person has unsubscribed and what the caps leave
/// is seen there.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) judged: Judged,
    pub(super) checked: Vec<Checked>,
    pub(super) addresses: Vec<Address>,
    /// With the number of its address.
    pub(super) messages: Vec<(usize, Message)>,
}

impl Batch {
    /// Asks for all that is needed, each once.
    pub(super) async fn load(
        service: &Service,
        sources: &dyn Sources,
        tenant: &TenantId,
        channel: &str,
        sends: Vec<Claimed>,
    ) -> Result<Self, CampaignError> {
        let numbers = sends.iter().map(Claimed::person).collect::<Result<BTreeSet<u32>, _>>()?;
        let persons = sources.persons(tenant, &numbers).await?;
        let mut templates = HashMap::new();
        for template in sends.iter().map(|send| &send.template).collect::<BTreeSet<_>>() {
            templates.insert(template.clone(), service.templates.find(tenant, template).await?);
        }
        let channel = sources.channel(tenant, channel).await?;
        Ok(Self { tenant: tenant.clone(), sends, channel, policy: service.policies.newest(tenant).await?, templates, persons })
    }

    pub(super) fn person(&self, send: &Claimed) -> Option<&Arc<Profile>> {
        u32::try_from(send.person).ok().and_then(|number| self.persons.get(&number))
    }

    /// The numbers of a send's person, the surviving one first: what is stored under merged ones may not have moved yet.
    pub(super) fn numbers(&self, send: &Claimed) -> Vec<u32> {
        let asked = u32::try_from(send.person).ok();
        let person = self.person(send);
        let known = person.into_iter().flat_map(|person| std::iter::once(person.number).chain(person.merged.iter().copied()));
        known.chain(asked).collect()
    }

    fn known(&self, send: &Claimed, unsubscribed_us: Option<i64>) -> Known<'_> {
        Known {
            policy: &self.policy,
            channel: self.channel.as_ref(),
            template: self.templates.get(&send.template).and_then(Option::as_ref),
            person: self.person(send),
            unsubscribed_us,
        }
    }

    pub(super) fn judge(&self, send: &Claimed, unsubscribed_us: Option<i64>, now_us: i64, checked: &mut Vec<Checked>) -> Judged {
        judge::judge(send, &self.known(send, unsubscribed_us), now_us, checked)
    }

    /// When a rule of times begins to keep back what is sent now, before the hold ends.
    pub(super) fn quiet_from(&self, send: &Claimed, now_us: i64) -> Option<i64> {
        judge::quiet_from(send, &self.known(send, None), now_us, send.due_us)
    }

    /// Decides on every send, in order, and makes the messages of those that are to be sent.
    pub(super) async fn prepare(&self, service: &Service, now_us: i64) -> Result<Vec<Prepared>, CampaignError> {
        let mut prepared = Vec::with_capacity(self.sends.len());
        for (at, send) in self.sends.iter().enumerate() {
            if at % AT_A_STRETCH == AT_A_STRETCH - 1 {
                tokio::task::yield_now().await;
            }
            let mut checked = Vec::new();
            let judged = self.judge(send, None, now_us, &mut checked);
            let mut one = Prepared { judged, checked, addresses: send.addresses()?, messages: Vec::new() };
            if matches!(one.judged, Judged::Send { .. }) {
                self.make(service, send, &mut one).await?;
            }
            prepared.push(one);
        }
        Ok(prepared)
    }

    /// Addresses and messages; without them the send is suppressed.
    async fn make(&self, service: &Service, send: &Claimed, one: &mut Prepared) -> Result<(), CampaignError> {
        let template = self.templates.get(&send.template).and_then(Option::as_ref);
        let (Some(channel), Some(person), Some(template)) = (&self.channel, self.person(send), template) else { return Ok(()) };
        one.addresses = judge::addresses(channel, person, std::mem::take(&mut one.addresses));
        let sending = i32::from(SendState::Sending);
        if !one.addresses.iter().any(|address| address.state == sending) {
            let kind = channel.address_kind.unwrap_or_default();
            one.suppress("address", SendReason::NoAddress, format!("the person has no identifier `{kind}`"));
            return Ok(());
        }
        let values = Values::of(send, person)?;
        let count = one.addresses.len();
        let mut made = Vec::new();
        for (n, address) in one.addresses.iter().enumerate().filter(|(_, address)| address.state == sending) {
            let links = service.links.of_send(&self.tenant, &send.id, n).await?;
            match values.fill(template, person, channel.kind, links.as_ref()) {
                Ok(parts) => {
                    let one_click = links.filter(|_| channel.kind == ChannelKind::Email && judge::is_advertising(send));
                    let message = Message {
                        idempotency_key: idempotency_key(&send.id, n, count),
                        tenant: self.tenant.clone(),
                        person: person.number,
                        address: address.value.clone(),
                        parts,
                        unsubscribe_url: one_click.map(|links| links.unsubscribe_url),
                    };
                    made.push((n, message));
                }
                Err(faults) => {
                    one.suppress("template", SendReason::TemplateAborted, told(&send.template, &faults));
                    return Ok(());
                }
            }
        }
        one.checked.push(Checked { check: "address", outcome: "passed", detail: reached(channel, count) });
        one.checked.push(Checked {
            check: "template",
            outcome: "passed",
            detail: format!("version {} of `{}`", template.version, send.template),
        });
        one.messages = made;
        Ok(())
    }
}

impl Prepared {
    fn suppress(&mut self, check: &'static str, reason: SendReason, detail: String) {
        self.checked.push(Checked { check, outcome: "suppressed", detail: detail.clone() });
        self.judged = Judged::Suppress { reason, detail };
    }
}

fn reached(channel: &OpenChannel, count: usize) -> String {
    match channel.address_kind {
        Some(kind) => format!("{count} of the kind `{kind}`"),
        None => "none is needed".to_owned(),
    }
}

fn told(template: &str, faults: &[TemplateFault]) -> String {
    let one = |fault: &TemplateFault| format!("part `{}`, line {}: {}", fault.part, fault.line, fault.message);
    format!("template `{template}`, {}", faults.iter().map(one).collect::<Vec<_>>().join("; "))
}

/// What a template sees of a send.
struct Values(serde_json::Value);

impl Values {
    fn of(send: &Claimed, person: &Profile) -> Result<Self, CampaignError> {
        let content = serde_json::from_str(&send.content).map_err(|_| CampaignError::Corrupt { what: "values of a send" })?;
        let mut values = match content {
            serde_json::Value::Object(values) => values,
            _ => serde_json::Map::new(),
        };
        values.insert("person".to_owned(), person_values(person));
        values.insert("channel".to_owned(), send.channel.clone().into());
        Ok(Self(values.into()))
    }

    /// The parts of the message to one address, with its links led through those that count.
    fn fill(
        &self,
        template: &Loaded,
        person: &Profile,
        kind: ChannelKind,
        links: Option<&LinkSet>,
    ) -> Result<BTreeMap<String, String>, Vec<TemplateFault>> {
        let Some(links) = links else { return Ok(template.render(&self.0, person.locale())?.parts) };
        let mut values = self.0.clone();
        if let Some(values) = values.as_object_mut() {
            values.insert("unsubscribe_url".to_owned(), links.unsubscribe_url.clone().into());
        }
        let mut parts = template.render(&values, person.locale())?.parts;
        let led: (&str, fn(&LinkSet, &str) -> String) =
            if kind == ChannelKind::Email { ("html", LinkSet::rewrite_html) } else { ("url", LinkSet::wrap) };
        if let Some(text) = parts.get_mut(led.0).filter(|text| !text.is_empty()) {
            *text = led.1(links, text);
        }
        Ok(parts)
    }
}
