//! Showing what somebody would get, and sending it to an address to look at.

use std::collections::BTreeSet;

use segue_model::{FieldViolation, TenantId};
use segue_proto::campaign::v1::preview_template_request::What;
use segue_proto::campaign::v1::{
    ChannelKind, PreviewTemplateRequest, PreviewTemplateResponse, SendTestRequest, SendTestResponse, Template, TemplateFault,
};
use segue_runtime::Tenant;
use serde_json::{Map, Value as Json, json};

use super::change;
use super::definition::{Content, Fault, called};
use super::loaded::{Loaded, Rendered, Sources};
use super::values::{json_of_struct, person_values, put_over};
use crate::channels::{Message, Outcome};
use crate::error::{CampaignError, Kind};
use crate::persons;
use crate::service::Service;

const ADDRESS_BYTES_MAX: usize = 512;

/// What a preview gives.
struct Shown {
    kind: ChannelKind,
    rendered: Rendered,
    faults: Vec<TemplateFault>,
}

impl Service {
    pub(crate) async fn preview_template_of(
        &self,
        tenant: &Tenant,
        request: PreviewTemplateRequest,
    ) -> Result<PreviewTemplateResponse, CampaignError> {
        let Shown { rendered: Rendered { parts, locale }, faults, .. } = self.show(&tenant.id, request, "preview").await?;
        Ok(PreviewTemplateResponse { parts: parts.into_iter().collect(), locale, faults })
    }

    pub(crate) async fn send_test_of(&self, tenant: &Tenant, request: SendTestRequest) -> Result<SendTestResponse, CampaignError> {
        let SendTestRequest { preview, channel: id, address } = request;
        let preview = preview.ok_or_else(|| CampaignError::field("preview", "required"))?;
        let person = preview.person;
        let channel = self.channels.find(&tenant.id, &id).await?;
        let channel = channel.ok_or_else(|| CampaignError::not_found(Kind::Channel, id.as_str()))?;
        let Shown { kind, rendered, faults } = self.show(&tenant.id, preview, &id).await?;
        if !is_for(kind, channel.kind) {
            let description = format!("the channel is of the kind {}, and this is {}", channel.kind.as_str_name(), called(kind));
            return Err(CampaignError::field("channel", description));
        }
        if !faults.is_empty() {
            return Err(CampaignError::Invalid(faults.into_iter().map(violation).collect()));
        }
        let needs_address = channel.address_kind.is_some();
        if address.len() > ADDRESS_BYTES_MAX || address.chars().any(char::is_control) || address.trim().is_empty() == needs_address {
            let description =
                if needs_address { "the address to send to, on one line" } else { "leave it empty: the channel has no addresses" };
            return Err(CampaignError::field("address", description));
        }
        let message = Message {
            idempotency_key: test_key(),
            tenant: tenant.id.clone(),
            person,
            address,
            parts: rendered.parts,
            unsubscribe_url: None,
        };
        let why = match channel.outlet.send(&message).await {
            Outcome::Sent { provider_message_id } => return Ok(SendTestResponse { provider_message_id }),
            Outcome::Retry { error, .. } => format!("does not take messages now, try again later; its provider said: {error}"),
            Outcome::Refused { error } => format!("refused the message; its provider said: {error}"),
            Outcome::Unregistered { error } => format!("knows nobody by this address; its provider said: {error}"),
        };
        Err(CampaignError::NotNow { kind: Kind::Channel, id, why })
    }

    /// Fills a template in, strictly.
    async fn show(&self, tenant: &TenantId, request: PreviewTemplateRequest, channel: &str) -> Result<Shown, CampaignError> {
        let PreviewTemplateRequest { what, person, values, locale } = request;
        let sources = match what {
            None => return Err(CampaignError::field("what", "set one of `id` and `template`")),
            Some(What::Id(id)) => self.sources_of(tenant, &id).await?,
            Some(What::Template(template)) => match self.sources_of_new(tenant, template).await? {
                Ok(sources) => sources,
                Err((kind, faults)) => {
                    let rendered = Rendered { parts: [].into(), locale: String::new() };
                    return Ok(Shown { kind, rendered, faults });
                }
            },
        };
        let mut shown = sample_values(channel);
        let mut persons_locale = None;
        if person != 0 {
            let found = persons::get(&self.peers, tenant, &BTreeSet::from([person])).await?;
            let profile = found.get(&person).ok_or_else(|| CampaignError::not_found(Kind::Person, person.to_string()))?;
            persons_locale = profile.locale().map(str::to_owned);
            shown.insert("person".to_owned(), person_values(profile));
        }
        put_over(&mut shown, values.map(json_of_struct).unwrap_or_default());
        let locale = if locale.is_empty() { persons_locale } else { Some(locale) };
        let loaded = Loaded::new(&self.config.template, sources, true);
        let (rendered, faults) = loaded.render_what_can_be(&Json::from(shown), locale.as_deref());
        Ok(Shown { kind: loaded.kind, rendered, faults })
    }

    async fn sources_of(&self, tenant: &TenantId, id: &str) -> Result<Sources, CampaignError> {
        let mut tx = self.db.read().await?;
        let sources = match change::found(&mut tx, tenant, id).await {
            Ok(stored) => Sources::read(&mut tx, tenant, stored.id, stored.kind, stored.version, stored.content).await,
            Err(error) => Err(error),
        };
        tx.commit().await?;
        sources
    }

    /// Of a template that is not stored: what is wrong with its sources is an answer.
    async fn sources_of_new(
        &self,
        tenant: &TenantId,
        template: Template,
    ) -> Result<Result<Sources, (ChannelKind, Vec<TemplateFault>)>, CampaignError> {
        let kind = change::check_kind(&template)?;
        let content = Content::of(template);
        let mut violations = Vec::new();
        content.check(kind, self.config.template.source_bytes_max, &mut violations);
        segue_runtime::fields::refuse(violations)?;
        let answered = |faults: Vec<Fault>| (kind, faults.into_iter().map(Fault::answered).collect());
        let outline = match content.outline() {
            Ok(outline) => outline,
            Err(faults) => return Ok(Err(answered(faults))),
        };
        let mut tx = self.db.read().await?;
        let faults = change::include_faults(&mut tx, tenant, "", &outline).await;
        let sources = Sources::read(&mut tx, tenant, String::new(), kind, 0, content).await;
        tx.commit().await?;
        let faults = faults?;
        if faults.is_empty() { sources.map(Ok) } else { Ok(Err(answered(faults))) }
    }
}

/// What every message has; the rest is the person's, and what the request gives.
fn sample_values(channel: &str) -> Map<String, Json> {
    let values = json!({
        "entry_key": "",
        "scenario": { "id": "preview", "name": "Preview" },
        "step": "preview",
        "experiment": {},
        "channel": channel,
        "unsubscribe_url": "https://unsubscribe.invalid/preview",
    });
    values.as_object().cloned().unwrap_or_default()
}

/// Both push services take the same parts.
fn is_for(template: ChannelKind, channel: ChannelKind) -> bool {
    let is_push = |kind| matches!(kind, ChannelKind::Fcm | ChannelKind::Apns);
    template == channel || (is_push(template) && is_push(channel))
}

fn violation(fault: TemplateFault) -> FieldViolation {
    FieldViolation::new(format!("preview.{}", fault.part), format!("line {}: {}", fault.line, fault.message))
}

#[allow(clippy::disallowed_methods, reason = "every test is another message")]
fn test_key() -> String {
    format!("test-{}", uuid::Uuid::new_v4().simple())
}
