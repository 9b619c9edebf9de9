//! The in-app feed: messages that the app fetches, over HTTP with a token of the person, or by RPC.
//!
//! Over HTTP the feed is `{ "messages": [{ "id", "title", "body", "url", "data", "sent_at", "read_at" }], "next_page_token", "unread" }`,
//! times as RFC 3339, `data` and `read_at` null when there are none.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat};
use prost_types::{ListValue, Struct, Value, value::Kind as ValueKind};
use segue_model::TenantId;
use segue_proto::campaign::v1::create_inbox_token_request::Who;
use segue_proto::campaign::v1::{
    CreateInboxTokenRequest, CreateInboxTokenResponse, FollowRequest, FollowResponse, InboxMessage, ListInboxRequest, ListInboxResponse,
};
use segue_proto::identity::v1::LookupIdentifiersRequest;
use segue_runtime::peers::{PeerError, request};
use segue_runtime::{Tenant, page};
use segue_store::{Db, Run, on_db, on_writer};
use serde_json::json;

use super::callback::split_key;
use super::follow::{answer_json, fault};
use super::token::Token;
use crate::channels::Message;
use crate::error::{CampaignError, Kind};
use crate::persons;
use crate::sends::{Report, ReportKind};
use crate::service::Service;
use crate::store::{counter, json, timestamp};

const PAGE_SIZE: usize = 20;
const PAGE_SIZE_MAX: usize = 100;
const VALID_S: u32 = 86_400;
const VALID_S_MIN: u32 = 60;
const VALID_S_MAX: u32 = 2_592_000;
/// Old messages that are deleted together.
const SWEPT_AT_ONCE: i64 = 10_000;
/// How long identity may take.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

const PUT: &str = "INSERT INTO inbox (tenant, id, person, title, body, url, data, sent_us, keep_until_us, read_us, dismissed)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, FALSE) ON CONFLICT (tenant, id) DO NOTHING";
const LIST_SQLITE: &str = "SELECT id, title, body, url, data, sent_us, read_us FROM inbox
    WHERE tenant = $1 AND person IN (SELECT value FROM json_each($2)) AND keep_until_us > $3 AND NOT dismissed
    AND (sent_us < $4 OR (sent_us = $4 AND id < $5)) ORDER BY sent_us DESC, id DESC LIMIT $6";
const LIST_POSTGRES: &str = "SELECT id, title, body, url, data, sent_us, read_us FROM inbox
    WHERE tenant = $1 AND person IN (SELECT value::bigint FROM json_array_elements_text($2::json)) AND keep_until_us > $3
    AND NOT dismissed AND (sent_us < $4 OR (sent_us = $4 AND id < $5)) ORDER BY sent_us DESC, id DESC LIMIT $6";
const UNREAD_SQLITE: &str = "SELECT count(*) FROM inbox
    WHERE tenant = $1 AND person IN (SELECT value FROM json_each($2)) AND keep_until_us > $3 AND NOT dismissed AND read_us = 0";
const UNREAD_POSTGRES: &str = "SELECT count(*) FROM inbox
    WHERE tenant = $1 AND person IN (SELECT value::bigint FROM json_array_elements_text($2::json)) AND keep_until_us > $3
    AND NOT dismissed AND read_us = 0";
const READ_SQLITE: &str = "UPDATE inbox SET read_us = CASE WHEN read_us = 0 THEN $3 ELSE read_us END
    WHERE tenant = $1 AND id = $2 AND keep_until_us > $3 AND NOT dismissed AND person IN (SELECT value FROM json_each($4)) RETURNING url";
const READ_POSTGRES: &str = "UPDATE inbox SET read_us = CASE WHEN read_us = 0 THEN $3 ELSE read_us END
    WHERE tenant = $1 AND id = $2 AND keep_until_us > $3 AND NOT dismissed
    AND person IN (SELECT value::bigint FROM json_array_elements_text($4::json)) RETURNING url";
const DISMISS_SQLITE: &str = "UPDATE inbox SET dismissed = TRUE
    WHERE tenant = $1 AND id = $2 AND keep_until_us > $3 AND person IN (SELECT value FROM json_each($4))";
const DISMISS_POSTGRES: &str = "UPDATE inbox SET dismissed = TRUE
    WHERE tenant = $1 AND id = $2 AND keep_until_us > $3
    AND person IN (SELECT value::bigint FROM json_array_elements_text($4::json))";
const SWEEP: &str = "DELETE FROM inbox WHERE (tenant, id) IN
    (SELECT tenant, id FROM inbox WHERE keep_until_us <= $1 ORDER BY keep_until_us LIMIT $2)";

/// A message of the feed, as written down: id, title, body, address, data, when it was sent, when it was read.
type Row = (String, String, String, String, String, i64, i64);

/// A page of a feed.
struct Feed {
    messages: Vec<Row>,
    next_page_token: String,
    unread: u64,
}

/// Puts a message into the in-app feed, once by its key.
pub(crate) async fn put_into_inbox(db: &Db, message: &Message, now_us: i64, keep_until_us: i64) -> Result<(), CampaignError> {
    // PostgreSQL cannot store the NUL character.
    let part = |name: &str| message.parts.get(name).map(|part| part.replace('\0', "")).unwrap_or_default();
    on_writer!(db, pool => sqlx::query(PUT).bind(message.tenant.as_str()).bind(&message.idempotency_key).bind(i64::from(message.person))
        .bind(part("title")).bind(part("body")).bind(part("url")).bind(part("data")).bind(now_us).bind(keep_until_us).run(pool).await)?;
    Ok(())
}

/// Deletes messages that are too old to be shown.
pub(crate) async fn sweep_inbox(db: &Db, now_us: i64) -> Result<(), CampaignError> {
    loop {
        let swept = on_writer!(db, pool => sqlx::query(SWEEP).bind(now_us).bind(SWEPT_AT_ONCE).run(pool).await)?;
        if swept < SWEPT_AT_ONCE.unsigned_abs() {
            return Ok(());
        }
    }
}

async fn read_feed(
    db: &Db,
    tenant: &TenantId,
    persons: &BTreeSet<u32>,
    now_us: i64,
    (page_size, page_token): (i32, &str),
) -> Result<Feed, CampaignError> {
    let size = page::size(page_size, PAGE_SIZE, PAGE_SIZE_MAX)?;
    let (before_us, before_id) = match page_token {
        "" => (i64::MAX, ""),
        token => {
            let (at_us, id) = token.split_once('.').ok_or_else(page::bad_token)?;
            (at_us.parse().map_err(|_| page::bad_token())?, id)
        }
    };
    if before_id.contains('\0') {
        return Err(page::bad_token().into());
    }
    let (persons, one_more) = (json(persons)?, i64::try_from(size + 1).unwrap_or(i64::MAX));
    let list = db.sql(LIST_SQLITE, LIST_POSTGRES);
    let mut messages: Vec<Row> = on_db!(db, pool => sqlx::query_as(list).bind(tenant.as_str()).bind(&persons).bind(now_us)
        .bind(before_us).bind(before_id).bind(one_more).fetch_all(pool).await)?;
    let bytes = |row: &Row| row.1.len() + row.2.len() + row.3.len() + row.4.len();
    let next_page_token = page::cut_to_fit(&mut messages, size, bytes, |row| format!("{}.{}", row.5, row.0));
    let unread = db.sql(UNREAD_SQLITE, UNREAD_POSTGRES);
    let unread: i64 = on_db!(db, pool => sqlx::query_scalar(unread).bind(tenant.as_str()).bind(&persons).bind(now_us)
        .fetch_one(pool).await)?;
    Ok(Feed { messages, next_page_token, unread: counter(unread)? })
}

/// Notes that a message was read; its address. None: there is no such message.
async fn read(db: &Db, tenant: &TenantId, persons: &BTreeSet<u32>, id: &str, now_us: i64) -> Result<Option<String>, CampaignError> {
    let (persons, sql) = (json(persons)?, db.sql(READ_SQLITE, READ_POSTGRES));
    Ok(on_writer!(db, pool => sqlx::query_scalar(sql).bind(tenant.as_str()).bind(id).bind(now_us).bind(persons)
        .fetch_optional(pool).await)?)
}

/// Takes a message out of the feed; whether there is such a message.
async fn dismiss(db: &Db, tenant: &TenantId, persons: &BTreeSet<u32>, id: &str, now_us: i64) -> Result<bool, CampaignError> {
    let (persons, sql) = (json(persons)?, db.sql(DISMISS_SQLITE, DISMISS_POSTGRES));
    let changed = on_writer!(db, pool => sqlx::query(sql).bind(tenant.as_str()).bind(id).bind(now_us).bind(persons).run(pool).await)?;
    Ok(changed > 0)
}

impl Service {
    pub(crate) async fn create_inbox_token_of(
        &self,
        tenant: &Tenant,
        request: CreateInboxTokenRequest,
    ) -> Result<CreateInboxTokenResponse, CampaignError> {
        let valid_s = if request.valid_s == 0 { VALID_S } else { request.valid_s };
        if !(VALID_S_MIN..=VALID_S_MAX).contains(&valid_s) {
            return Err(CampaignError::field("valid_s", format!("must be {VALID_S_MIN} to {VALID_S_MAX} seconds, or 0 for {VALID_S}")));
        }
        let person = match request.who {
            None => return Err(CampaignError::field("who", "is missing: name a person or an identifier")),
            Some(Who::Person(number)) => {
                let numbers = BTreeSet::from([number]);
                let found = persons::get(&self.peers, &tenant.id, &numbers).await?;
                found.get(&number).map(|person| person.number).ok_or_else(|| CampaignError::not_found(Kind::Person, number.to_string()))?
            }
            Some(Who::Identifier(identifier)) => {
                let named = format!("{}:{}", identifier.kind, identifier.value);
                let lookup = request_of(&tenant.id, LookupIdentifiersRequest { identifiers: vec![identifier] });
                let answer = self.peers.identity().lookup_identifiers(lookup).await;
                let found = answer.map_err(PeerError::identity)?.into_inner().persons;
                match found.first() {
                    Some(person) if *person != 0 => *person,
                    Some(_) | None => return Err(CampaignError::not_found(Kind::Person, named)),
                }
            }
        };
        let expires_s = self.clock.now_us().div_euclid(1_000_000).saturating_add(valid_s.into());
        let token = self.links.sign(&tenant.id, &Token::Inbox { person, expires_s }).await?;
        Ok(CreateInboxTokenResponse { token, expires_at: Some(timestamp(expires_s.saturating_mul(1_000_000))) })
    }

    pub(crate) async fn list_inbox_of(&self, tenant: &Tenant, request: ListInboxRequest) -> Result<ListInboxResponse, CampaignError> {
        if request.person == 0 {
            return Err(CampaignError::field("person", "is missing"));
        }
        let persons = self.all_numbers(&tenant.id, request.person).await?;
        let persons = persons.ok_or_else(|| CampaignError::not_found(Kind::Person, request.person.to_string()))?;
        let asked = (request.page_size, request.page_token.as_str());
        let feed = read_feed(&self.db, &tenant.id, &persons, self.clock.now_us(), asked).await?;
        Ok(ListInboxResponse {
            messages: feed.messages.into_iter().map(to_proto).collect(),
            next_page_token: feed.next_page_token,
            unread: feed.unread,
        })
    }

    /// `/v1/inbox…`, without that.
    pub(super) async fn follow_inbox(
        &self,
        tenant: &TenantId,
        path: &str,
        query: &str,
        request: &FollowRequest,
    ) -> Result<FollowResponse, CampaignError> {
        let bearer = request.headers.get("authorization").and_then(|value| value.split_once(' '));
        let token = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let now_us = self.clock.now_us();
        let person = match self.links.read(tenant, token.unwrap_or_default()).await? {
            Some(Token::Inbox { person, expires_s }) if now_us.div_euclid(1_000_000) < expires_s => person,
            _ => return Ok(fault(401, "BAD_TOKEN", "the token is not valid, or not any more: have your backend make a new one")),
        };
        // Messages of who was merged with the person are the person's.
        let persons = self.all_numbers(tenant, person).await?.unwrap_or_else(|| [person].into());
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET" | "HEAD", []) => self.show_inbox(tenant, &persons, query, now_us).await,
            ("POST", [id, action]) => self.act_on_inbox(tenant, &persons, id, action, now_us).await,
            (_, [] | [_, _]) => Ok(fault(405, "METHOD_NOT_ALLOWED", "GET shows the feed, POST to /v1/inbox/{id}/{read|click|dismiss}")),
            _ => Ok(no_route()),
        }
    }

    async fn show_inbox(
        &self,
        tenant: &TenantId,
        persons: &BTreeSet<u32>,
        query: &str,
        now_us: i64,
    ) -> Result<FollowResponse, CampaignError> {
        let (mut page_size, mut page_token) = (0, String::new());
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "page_size" => match value.parse() {
                    Ok(size) => page_size = size,
                    Err(_) => return Ok(fault(400, "INVALID_REQUEST", "page_size is not a number")),
                },
                "page_token" => page_token = value.into_owned(),
                _ => {}
            }
        }
        match read_feed(&self.db, tenant, persons, now_us, (page_size, &page_token)).await {
            Ok(feed) => Ok(answer_json(200, &to_json(feed))),
            Err(error @ CampaignError::Invalid(_)) => Ok(fault(400, "INVALID_REQUEST", &error.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn act_on_inbox(
        &self,
        tenant: &TenantId,
        persons: &BTreeSet<u32>,
        id: &str,
        action: &str,
        now_us: i64,
    ) -> Result<FollowResponse, CampaignError> {
        let kinds: &[ReportKind] = match action {
            "read" => &[ReportKind::Opened],
            "click" => &[ReportKind::Opened, ReportKind::Clicked],
            "dismiss" => &[],
            _ => return Ok(no_route()),
        };
        let url = if action == "dismiss" {
            dismiss(&self.db, tenant, persons, id, now_us).await?.then(String::new)
        } else {
            read(&self.db, tenant, persons, id, now_us).await?
        };
        let Some(url) = url else { return Ok(fault(404, "NO_SUCH_MESSAGE", "there is no such message in the feed")) };
        let (send, address) = split_key(id);
        for kind in kinds {
            let detail = if *kind == ReportKind::Clicked { url.clone() } else { String::new() };
            let report = Report { send: send.to_owned(), address, kind: *kind, time_us: now_us, detail };
            if self.report(tenant, &report).await? {
                self.bells.outbox.notify_one();
            }
        }
        Ok(answer_json(200, &json!({ "success": true })))
    }

    /// A person's number and those that were merged into it.
    async fn all_numbers(&self, tenant: &TenantId, person: u32) -> Result<Option<BTreeSet<u32>>, CampaignError> {
        let found = persons::get(&self.peers, tenant, &[person].into()).await?;
        Ok(found.get(&person).map(|found| found.merged.iter().copied().chain([person, found.number]).collect()))
    }
}

fn request_of<T>(tenant: &TenantId, message: T) -> tonic::Request<T> {
    request(tenant, message, TIMEOUT)
}

fn no_route() -> FollowResponse {
    fault(404, "NO_SUCH_ROUTE", "there is GET /v1/inbox and POST /v1/inbox/{id}/{read|click|dismiss}")
}

/// What a template wrote as data; none when it is no JSON object.
fn data_of(text: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    serde_json::from_str(text).ok()
}

fn to_proto((id, title, body, url, data, sent_us, read_us): Row) -> InboxMessage {
    InboxMessage {
        id,
        title,
        body,
        url,
        data: data_of(&data).map(struct_of),
        sent_at: Some(timestamp(sent_us)),
        read_at: (read_us != 0).then(|| timestamp(read_us)),
    }
}

fn to_json(feed: Feed) -> serde_json::Value {
    let time = |us: i64| DateTime::from_timestamp_micros(us).map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true));
    let messages: Vec<_> = feed
        .messages
        .into_iter()
        .map(|(id, title, body, url, data, sent_us, read_us)| {
            let read_at = (read_us != 0).then(|| time(read_us)).flatten();
            json!({ "id": id, "title": title, "body": body, "url": url, "data": data_of(&data), "sent_at": time(sent_us), "read_at": read_at })
        })
        .collect();
    json!({ "messages": messages, "next_page_token": feed.next_page_token, "unread": feed.unread })
}

fn struct_of(map: serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: map.into_iter().map(|(name, value)| (name, value_of(value))).collect() }
}

/// Not deeper than the JSON reader goes.
fn value_of(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => ValueKind::NullValue(0),
        serde_json::Value::Bool(value) => ValueKind::BoolValue(value),
        serde_json::Value::Number(number) => ValueKind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => ValueKind::StringValue(text),
        serde_json::Value::Array(values) => ValueKind::ListValue(ListValue { values: values.into_iter().map(value_of).collect() }),
        serde_json::Value::Object(map) => ValueKind::StructValue(struct_of(map)),
    };
    Value { kind: Some(kind) }
}
