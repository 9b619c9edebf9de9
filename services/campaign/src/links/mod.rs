//! What comes back from messages: signed links for opens, clicks and unsubscribing, providers' call-backs, and the in-app feed.
//!
//! | module | what |
//! |---|---|
//! | [`token`] | what a link means, signed with its tenant's secret |
//! | [`html`] | finding the links of an HTML part |
//! | [`follow`] | answering requests to links |
//! | [`callback`] | what providers report |
//! | [`inbox`] | the in-app feed |
//! | [`page`] | what people see |

mod callback;
mod follow;
mod html;
mod inbox;
#[cfg(test)]
mod on_stores;
mod page;
#[cfg(test)]
mod tests;
mod token;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rand::RngCore;
use segue_model::TenantId;
use segue_store::{Db, Run, on_db, on_writer};
use url::Url;

use crate::config::Config;
use crate::error::CampaignError;
pub(crate) use inbox::{put_into_inbox, sweep_inbox};
use token::{Place, SECRET_BYTES, Signer, Token, URL_BYTES_MAX};

const PUT_SECRET: &str = "INSERT INTO link_secret (tenant, secret) VALUES ($1, $2) ON CONFLICT (tenant) DO NOTHING";
const FIND_SECRET: &str = "SELECT secret FROM link_secret WHERE tenant = $1";

/// Path of links of messages.
const LINK_PATH: &str = "/l/";
/// Path of providers' reports.
const CALLBACK_PATH: &str = "/v1/callbacks/";

/// Makes and reads links. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    db: Db,
    /// Without a slash at its end; empty: there are no links.
    base: Arc<str>,
    /// Secrets never change, so they are read once.
    signers: Arc<RwLock<HashMap<TenantId, Arc<Signer>>>>,
}

/// The links of one message to one address.
#[derive(Debug, Clone)]
pub(crate) struct LinkSet {
    /// Where a person unsubscribes; also with one click (RFC 8058).
    pub(crate) unsubscribe_url: String,
    base: Arc<str>,
    signer: Arc<Signer>,
    place: Place,
}

impl Links {
    pub(crate) fn new(config: Arc<Config>, db: Db) -> Self {
        Self { db, base: config.public_url.trim_end_matches('/').into(), signers: Arc::default() }
    }

    /// None: `campaign.public_url` is not set.
    pub(crate) async fn of_send(&self, tenant: &TenantId, send: &str, address: usize) -> Result<Option<LinkSet>, CampaignError> {
        if self.base.is_empty() {
            return Ok(None);
        }
        let place = Place::new(send, address).ok_or(CampaignError::Corrupt { what: "id of a send" })?;
        let signer = self.signer(tenant).await?;
        let unsubscribe_url = format!("{}{LINK_PATH}{}", self.base, signer.sign(&Token::Unsubscribe(place)));
        Ok(Some(LinkSet { unsubscribe_url, base: self.base.clone(), signer, place }))
    }

    /// Where the provider of a channel reports to; empty: `campaign.public_url` is not set.
    pub(crate) async fn callback_url(&self, tenant: &TenantId, channel: &str) -> Result<String, CampaignError> {
        if self.base.is_empty() {
            return Ok(String::new());
        }
        let token = self.signer(tenant).await?.sign(&Token::Callback { channel: channel.to_owned() });
        Ok(format!("{}{CALLBACK_PATH}{token}", self.base))
    }

    /// A token as text.
    async fn sign(&self, tenant: &TenantId, token: &Token) -> Result<String, CampaignError> {
        Ok(self.signer(tenant).await?.sign(token))
    }

    /// What a token says. None: it is not genuine.
    async fn read(&self, tenant: &TenantId, token: &str) -> Result<Option<Token>, CampaignError> {
        // Whoever has no secret has given out no token.
        Ok(self.find_signer(tenant).await?.and_then(|signer| signer.read(token)))
    }

    async fn signer(&self, tenant: &TenantId) -> Result<Arc<Signer>, CampaignError> {
        if let Some(signer) = self.find_signer(tenant).await? {
            return Ok(signer);
        }
        let mut secret = vec![0; SECRET_BYTES];
        rand::rng().fill_bytes(&mut secret);
        on_writer!(self.db, pool => sqlx::query(PUT_SECRET).bind(tenant.as_str()).bind(secret).run(pool).await)?;
        // Another process may have been first.
        self.find_signer(tenant).await?.ok_or(CampaignError::Corrupt { what: "secret of links" })
    }

    async fn find_signer(&self, tenant: &TenantId) -> Result<Option<Arc<Signer>>, CampaignError> {
        if let Some(signer) = self.signers.read().get(tenant) {
            return Ok(Some(signer.clone()));
        }
        let secret: Option<Vec<u8>> =
            on_db!(self.db, pool => sqlx::query_scalar(FIND_SECRET).bind(tenant.as_str()).fetch_optional(pool).await)?;
        let Some(secret) = secret else { return Ok(None) };
        if secret.len() != SECRET_BYTES {
            return Err(CampaignError::Corrupt { what: "secret of links" });
        }
        let signer = Arc::new(Signer::new(tenant.clone(), &secret));
        self.signers.write().insert(tenant.clone(), signer.clone());
        Ok(Some(signer))
    }
}

impl LinkSet {
    /// Leads the links of an HTML part through a signed one that counts clicks, and appends an image that counts opens. Links that are not
    /// `http…`, our own, and those in comments stay as they are, and so does everything else.
    pub(crate) fn rewrite_html(&self, html: &str) -> String {
        let found = html::scan(html);
        let mut changes: Vec<(std::ops::Range<usize>, String)> = Vec::with_capacity(found.links.len() + 1);
        for link in found.links {
            let value = html.get(link.value.clone()).and_then(html::decoded);
            if let Some(url) = value.and_then(|value| self.tracked(&value)) {
                let url = html::escaped(&url);
                changes.push((link.value, if link.quoted { url } else { format!("\"{url}\"") }));
            }
        }
        let open = self.url(&Token::Open(self.place));
        let pixel = format!(
            r#"<img src="{}" width="1" height="1" alt="" style="display:block;width:1px;height:1px;border:0">"#,
            html::escaped(&open)
        );
        let end = found.body_end.unwrap_or(html.len());
        let before = changes.iter().filter(|(range, _)| range.start < end).count();
        changes.insert(before, (end..end, pixel));
        let mut rewritten = String::with_capacity(html.len() + changes.iter().map(|(_, new)| new.len()).sum::<usize>());
        let mut at = 0;
        for (range, new) in changes {
            rewritten.push_str(html.get(at..range.start).unwrap_or_default());
            rewritten.push_str(&new);
            at = range.end;
        }
        rewritten.push_str(html.get(at..).unwrap_or_default());
        rewritten
    }

    /// Leads one link through a signed one that counts clicks; as it is when it is not `http…` or is our own.
    pub(crate) fn wrap(&self, url: &str) -> String {
        self.tracked(url).unwrap_or_else(|| url.to_owned())
    }

    fn tracked(&self, url: &str) -> Option<String> {
        let given = url.trim();
        let own = given.strip_prefix(&*self.base).is_some_and(|path| path.starts_with(LINK_PATH));
        // As browsers read it, so that the redirection leads where the link would have.
        let target = Url::parse(given).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        if own || target.as_str().len() > URL_BYTES_MAX {
            return None;
        }
        Some(self.url(&Token::Click(self.place, target.into())))
    }

    fn url(&self, token: &Token) -> String {
        format!("{}{LINK_PATH}{}", self.base, self.signer.sign(token))
    }
}
