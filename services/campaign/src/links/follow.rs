//! Answering requests to links, as the gateway passes them on.

use segue_model::TenantId;
use segue_proto::campaign::v1::{FollowRequest, FollowResponse, GetSendRequest};
use segue_runtime::Tenant;
use segue_runtime::status::chain;
use serde_json::json;

use super::token::{Place, Token};
use super::{CALLBACK_PATH, LINK_PATH, page};
use crate::error::CampaignError;
use crate::outbox::{self, Told};
use crate::policies::consent_channel;
use crate::sends::{Report, ReportKind};
use crate::service::Service;

/// Consents say so when a person unsubscribed by a link.
const BY_LINK: &str = "unsubscribe_link";

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

impl Service {
    pub(crate) async fn follow_of(&self, tenant: &Tenant, request: FollowRequest) -> Result<FollowResponse, CampaignError> {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if let Some(token) = path.strip_prefix(LINK_PATH) {
            return self.follow_link(tenant, &request.method, token).await;
        }
        if let Some(token) = path.strip_prefix(CALLBACK_PATH) {
            return self.follow_callback(tenant, token, &request).await;
        }
        if let Some(rest) = path.strip_prefix("/v1/inbox") {
            return self.follow_inbox(&tenant.id, rest, query, &request).await;
        }
        Ok(not_found())
    }

    async fn follow_link(&self, tenant: &Tenant, method: &str, token: &str) -> Result<FollowResponse, CampaignError> {
        let Some(token) = self.links.read(&tenant.id, token).await? else { return Ok(not_found()) };
        let is_get = method == "GET";
        match (method, token) {
            ("GET" | "HEAD", Token::Open(place)) => {
                if is_get {
                    self.note(&tenant.id, &place, ReportKind::Opened, "").await;
                }
                Ok(answer(200, "image/gif", page::GIF))
            }
            ("GET" | "HEAD", Token::Click(place, url)) => {
                if is_get {
                    self.note(&tenant.id, &place, ReportKind::Clicked, &url).await;
                }
                let mut found = answer(302, HTML, "");
                found.headers.insert("location".to_owned(), url);
                Ok(found)
            }
            ("GET" | "HEAD", Token::Unsubscribe(_)) => Ok(answer(200, HTML, page::ask_to_unsubscribe())),
            ("POST", Token::Unsubscribe(place)) => {
                let time_us = self.clock.now_us();
                let (send, address, kind, detail) = (place.send(), place.address.into(), ReportKind::Unsubscribed, BY_LINK.to_owned());
                match self.unsubscribe(tenant, &Report { send, address, kind, time_us, detail }, None, BY_LINK).await? {
                    Some(_) => Ok(answer(200, HTML, page::unsubscribed())),
                    None => Ok(not_found()),
                }
            }
            (_, Token::Open(_) | Token::Click(..) | Token::Unsubscribe(_)) => Ok(answer(405, HTML, page::not_found())),
            (_, Token::Callback { .. } | Token::Inbox { .. }) => Ok(not_found()),
        }
    }

    /// Notes an open or a click. Whoever clicked gets where they want to go also when it cannot be noted.
    async fn note(&self, tenant: &TenantId, place: &Place, kind: ReportKind, detail: &str) {
        let report =
            Report { send: place.send(), address: place.address.into(), kind, time_us: self.clock.now_us(), detail: detail.to_owned() };
        match self.report(tenant, &report).await {
            Ok(is_new) => {
                if is_new {
                    self.bells.outbox.notify_one();
                }
            }
            Err(error) => tracing::warn!(%tenant, send = report.send, error = chain(&error), "an open or a click is not counted"),
        }
    }

    /// Durable when this returns; whether it was not known before. None: there is no such message, or none of the channel that says so.
    pub(super) async fn unsubscribe(
        &self,
        tenant: &Tenant,
        report: &Report,
        by: Option<&str>,
        source: &'static str,
    ) -> Result<Option<bool>, CampaignError> {
        let message = match self.get_send_of(tenant, GetSendRequest { id: report.send.clone() }).await {
            Ok(message) if by.is_some_and(|by| by != message.channel) => return Ok(None),
            Ok(message) => message,
            Err(CampaignError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        // First, so that a repetition after a failure finds both undone or does both again.
        if let Some(channel) = consent_channel(message.kind()) {
            let told = Told::Consent { person: message.person, channel, time_us: report.time_us, source, proof: message.id };
            let mut tx = self.db.begin().await?;
            outbox::put(&mut tx, &tenant.id, &[told]).await?;
            tx.commit().await?;
        }
        let is_new = self.report(&tenant.id, report).await?;
        self.bells.outbox.notify_one();
        Ok(Some(is_new))
    }
}

/// An answer that nobody keeps.
pub(super) fn answer(status: u32, content_type: &str, body: impl Into<bytes::Bytes>) -> FollowResponse {
    let headers = [("content-type", content_type), ("cache-control", "no-store")];
    FollowResponse {
        status,
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: body.into().into(),
    }
}

pub(super) fn answer_json(status: u32, body: &serde_json::Value) -> FollowResponse {
    answer(status, JSON, body.to_string())
}

/// A refusal, for programs (`code`) and people (`message`), as the gateway words its own.
pub(super) fn fault(status: u32, code: &str, message: &str) -> FollowResponse {
    answer_json(status, &json!({ "success": false, "code": code, "message": message }))
}

fn not_found() -> FollowResponse {
    answer(404, HTML, page::not_found())
}
