//! Syncs: a destination is told who enters and leaves, signed, in order, again and again until it takes it.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::extract::State;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use segue_proto::audience::v1::{
    CreateSyncRequest, DeleteSyncRequest, GetLiveStatusRequest, GetSyncRequest, ListSyncsRequest, Sync, SyncState, UpdateSyncRequest,
};
use segue_proto::query::v1::TimeUnit;
use segue_tests::events::event;
use segue_tests::installation::Installation;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::tenant::{Tenant, audience};
use crate::modules::eventually;
use crate::semantics::now_us;
use crate::semantics::words::{all, behavior, did, not, within};

const SECOND_US: i64 = 1_000_000;

/// A destination on loopback.
#[derive(Clone, Default)]
struct Destination {
    requests: Arc<Mutex<Vec<Told>>>,
    /// So many requests more are refused.
    refuses: Arc<Mutex<usize>>,
}

/// A request.
#[derive(Debug, Clone)]
struct Told {
    headers: HeaderMap,
    body: Bytes,
    taken: bool,
}

impl Destination {
    /// Listens on a free port. Gives the address, too.
    async fn listen() -> anyhow::Result<(Self, String)> {
        let destination = Self::default();
        let router = axum::Router::new().route("/told", post(take)).with_state(destination.clone());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/told", listener.local_addr()?);
        #[allow(clippy::disallowed_methods, reason = "ends with the test")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((destination, url))
    }

    fn refuse(&self, times: usize) {
        *self.refuses.lock() = times;
    }

    fn taken(&self) -> Vec<Told> {
        self.requests.lock().iter().filter(|told| told.taken).cloned().collect()
    }

    /// Who is in, by what was taken.
    fn members(&self) -> anyhow::Result<BTreeSet<u64>> {
        let mut members = BTreeSet::new();
        for told in self.taken() {
            let body = told.json()?;
            for (list, is_in) in [("entered", true), ("left", false)] {
                for person in body["data"][list].as_array().with_context(|| format!("{list} in {body}"))? {
                    let number = person["person"].as_u64().context("a number")?;
                    if is_in {
                        members.insert(number)
                    } else {
                        members.remove(&number)
                    };
                }
            }
        }
        Ok(members)
    }
}

async fn take(State(destination): State<Destination>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let taken = {
        let mut refuses = destination.refuses.lock();
        let taken = *refuses == 0;
        *refuses = refuses.saturating_sub(1);
        taken
    };
    destination.requests.lock().push(Told { headers, body, taken });
    if taken { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}

impl Told {
    fn json(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    fn header(&self, name: &str) -> anyhow::Result<&str> {
        Ok(self.headers.get(name).with_context(|| format!("no {name}"))?.to_str()?)
    }

    /// Signed as Standard Webhooks say.
    fn is_signed(&self, secret: &str) -> anyhow::Result<()> {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").context("a secret")?)?;
        let mut signed = format!("{}.{}.", self.header("webhook-id")?, self.header("webhook-timestamp")?).into_bytes();
        signed.extend(&self.body);
        let expected = format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &signed)));
        let found = self.header("webhook-signature")?;
        ensure!(found.split(' ').any(|signature| signature == expected), "{found} instead of {expected}");
        Ok(())
    }
}

/// RFC 2104 with SHA-256.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

/// With `allow_http` and `allow_private_addresses`.
pub async fn told(installation: Installation) -> anyhow::Result<()> {
    let tenant = Tenant::new(&installation, "synced", "").await?;
    let (destination, url) = Destination::listen().await?;
    let mut client = tenant.client();
    tenant.create(audience("opened", all([did(within(behavior("open"), 7, TimeUnit::Day)), not(did(behavior("left")))]))).await?;
    let opens = |user: &str| event(&format!("open/{user}"), "open", now_us() - SECOND_US, &[("user_id", user)]);
    tenant.send(&[opens("one"), opens("two"), opens("three")]).await?;
    tenant.settled().await?;

    destination.refuse(2);
    let sync = Sync { id: "ads".to_owned(), audience: "opened".to_owned(), url: url.clone(), ..Default::default() };
    let made = client.create_sync(CreateSyncRequest { sync: Some(sync) }).await?.into_inner();
    ensure!(made.state() == SyncState::Active && made.identifier_kinds == ["user_id"], "{made:?}");
    let read = client.get_sync(GetSyncRequest { id: "ads".to_owned() }).await?.into_inner();
    ensure!(made.secret.starts_with("whsec_") && read.secret.is_empty(), "the secret is shown once: {read:?}");
    delivered(&tenant, &destination).await?;
    let first = destination.requests.lock().clone();
    ensure!(first.len() == 3 && first[2].taken, "refused twice, then taken: {} requests", first.len());
    for told in &first {
        ensure!(told.header("webhook-id")? == first[0].header("webhook-id")? && told.body == first[0].body, "sent again as it was");
        told.is_signed(&made.secret)?;
    }
    let body = first[2].json()?;
    ensure!(body["type"] == "audience.changed" && body["data"]["audience"] == "opened" && body["data"]["first"] == true, "{body}");
    let entered = body["data"]["entered"].as_array().context("who entered")?;
    let users: BTreeSet<&str> = entered.iter().filter_map(|person| person["identifiers"]["user_id"][0].as_str()).collect();
    ensure!(users == BTreeSet::from(["one", "two", "three"]) && body["data"]["left"].as_array().is_some_and(Vec::is_empty), "{body}");

    // One comes, one goes.
    let leaves = event("left/two", "left", now_us() - SECOND_US, &[("user_id", "two")]);
    tenant.send(&[opens("four"), leaves]).await?;
    tenant.settled().await?;
    delivered(&tenant, &destination).await?;
    for told in destination.taken().iter().skip(1) {
        told.is_signed(&made.secret)?;
        ensure!(told.json()?["data"]["first"] == false, "{}", told.json()?);
    }

    // Nothing is sent while it is paused, and nothing is missed afterwards.
    let pause = |state: SyncState| UpdateSyncRequest {
        sync: Some(Sync { id: "ads".to_owned(), url: url.clone(), state: state.into(), ..Default::default() }),
    };
    client.update_sync(pause(SyncState::Paused)).await?;
    let before = destination.taken().len();
    tenant.send(&[opens("five"), event("left/one", "left", now_us() - SECOND_US, &[("user_id", "one")])]).await?;
    tenant.settled().await?;
    ensure!(destination.taken().len() == before, "it is paused");
    client.update_sync(pause(SyncState::Active)).await?;
    delivered(&tenant, &destination).await?;

    client.delete_sync(DeleteSyncRequest { id: "ads".to_owned() }).await?;
    ensure!(client.list_syncs(ListSyncsRequest::default()).await?.into_inner().syncs.is_empty(), "it is deleted");
    Ok(())
}

/// Waits until the destination has taken everything; then it knows who is in.
async fn delivered(tenant: &Tenant, destination: &Destination) -> anyhow::Result<()> {
    let sequence = tenant.client().get_live_status(GetLiveStatusRequest {}).await?.into_inner().sequence;
    let reached = async || {
        let sync = tenant.client().get_sync(GetSyncRequest { id: "ads".to_owned() }).await?.into_inner();
        Ok((sync.delivered_sequence, sync.failures, sync.problem))
    };
    eventually((sequence, 0, String::new()), reached).await?;
    let members: BTreeSet<u64> = tenant.members("opened").await?.into_iter().map(u64::from).collect();
    ensure!(destination.members()? == members, "{:?} instead of {members:?}", destination.members()?);
    Ok(())
}

#[test]
fn signatures_are_those_of_the_standards_example() {
    // RFC 4231, test case 2.
    let signed = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
    let hex: String = signed.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
