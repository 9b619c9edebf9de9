//! Which send comes next: tenants in turn, of each its channels in turn, of each channel what is due the longest.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use segue_model::{Module, TenantId};
use segue_proto::events::v1::Identifier;
use segue_proto::identity::v1::UnlinkIdentifierRequest;
use segue_runtime::Tasks;
use segue_runtime::peers::{PeerError, request};
use segue_runtime::status::chain;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::claim::{self, Due, Wanted};
use super::commit;
use super::lane::Lane;
use super::prepare::Batch;
use super::row::Claimed;
use crate::channels::OpenChannel;
use crate::error::CampaignError;
use crate::persons::{self, Profile};
use crate::service::Service;

/// Batches that this process works on at once.
const BATCHES_MAX: usize = 8;
/// Between two looks at what other processes may have planned.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at the clock, which may jump.
const CLOCK_INTERVAL: Duration = Duration::from_millis(50);
/// Sends that could not be decided (a peer is away) are left alone for so long.
const TROUBLE_PAUSE_US: i64 = 2_000_000;
/// How long identity may take to unlink.
const UNLINK_TIMEOUT: Duration = Duration::from_secs(10);

/// What senders need of others.
pub(super) trait Sources: Send + Sync {
    /// A channel as it is now.
    fn channel<'a>(&'a self, tenant: &'a TenantId, id: &'a str) -> BoxFuture<'a, Result<Option<Arc<OpenChannel>>, CampaignError>>;

    /// These persons, by the number asked for.
    fn persons<'a>(
        &'a self,
        tenant: &'a TenantId,
        numbers: &'a BTreeSet<u32>,
    ) -> BoxFuture<'a, Result<HashMap<u32, Arc<Profile>>, CampaignError>>;

    /// Takes an identifier from a person.
    fn unlink<'a>(&'a self, tenant: &'a TenantId, kind: &'a str, value: &'a str, person: u32) -> BoxFuture<'a, Result<(), CampaignError>>;
}

impl Sources for Service {
    fn channel<'a>(&'a self, tenant: &'a TenantId, id: &'a str) -> BoxFuture<'a, Result<Option<Arc<OpenChannel>>, CampaignError>> {
        Box::pin(self.channels.find(tenant, id))
    }

    fn persons<'a>(
        &'a self,
        tenant: &'a TenantId,
        numbers: &'a BTreeSet<u32>,
    ) -> BoxFuture<'a, Result<HashMap<u32, Arc<Profile>>, CampaignError>> {
        Box::pin(persons::get(&self.peers, tenant, numbers))
    }

    fn unlink<'a>(&'a self, tenant: &'a TenantId, kind: &'a str, value: &'a str, person: u32) -> BoxFuture<'a, Result<(), CampaignError>> {
        Box::pin(async move {
            let identifier = Some(Identifier { kind: kind.to_owned(), value: value.to_owned() });
            let message = UnlinkIdentifierRequest { identifier, person, reason: "its provider does not know it any more".to_owned() };
            match self.peers.identity().unlink_identifier(request(tenant, message, UNLINK_TIMEOUT)).await {
                Ok(_) => Ok(()),
                // Somebody was faster.
                Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
                Err(status) => Err(PeerError::identity(status).into()),
            }
        })
    }
}

/// Gives messages to providers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) service: Service,
    pub(super) sources: Arc<dyn Sources>,
    pub(super) stopping: CancellationToken,
    /// Requests to providers at once.
    pub(super) concurrency: Arc<Semaphore>,
    owner: Arc<str>,
    batches: Arc<Semaphore>,
    /// Rung when a batch is done.
    freed: Arc<Notify>,
    served: Arc<Mutex<Served>>,
}

/// Who was served when, so that the one who waited longest is next.
#[derive(Default)]
struct Served {
    turn: u64,
    tenants: HashMap<TenantId, u64>,
    lanes: HashMap<(TenantId, String), Arc<Lane>>,
}

/// Sends that this process holds.
pub(super) struct Work {
    pub(super) tenant: TenantId,
    pub(super) channel: String,
    pub(super) sends: Vec<Claimed>,
    lane: Arc<Lane>,
    _slot: OwnedSemaphorePermit,
}

/// What a look at the ledger gave.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) work: Vec<Work>,
    /// When more is due.
    pub(super) next_us: Option<i64>,
}

/// A channel that has something to do.
struct Candidate {
    due: Due,
    lane: Arc<Lane>,
    rate_per_second: u32,
    only_expired: bool,
}

impl Service {
    /// Starts giving messages to providers.
    pub(crate) fn spawn_senders(&self, tasks: &Tasks) {
        let sender = Sender::new(self.clone(), Arc::new(self.clone()), tasks.stopping());
        tasks.spawn("messages", run(sender, tasks.clone()));
    }
}

/// Works until told to stop. What fails is logged and tried again.
pub(super) async fn run(sender: Sender, tasks: Tasks) -> anyhow::Result<()> {
    tokio::select! {
        () = sender.service.tenants.ready() => {}
        () = sender.stopping.cancelled() => return Ok(()),
    }
    while !sender.stopping.is_cancelled() {
        let mut next_us = None;
        match sender.take().await {
            Ok(taken) => {
                next_us = taken.next_us;
                for work in taken.work {
                    let sender = sender.clone();
                    tasks.spawn_finite("messages of a channel", async move {
                        sender.work(work).await;
                        Ok(())
                    });
                }
            }
            Err(error) => tracing::warn!(error = chain(&error), "messages cannot be looked for; trying again"),
        }
        sender.rest(next_us).await;
    }
    Ok(())
}

impl Sender {
    #[allow(clippy::disallowed_methods, reason = "names this process; nothing is computed from it")]
    pub(super) fn new(service: Service, sources: Arc<dyn Sources>, stopping: CancellationToken) -> Self {
        let concurrency = Arc::new(Semaphore::new(service.config.send.concurrency_max));
        Self {
            service,
            sources,
            stopping,
            concurrency,
            owner: uuid::Uuid::new_v4().to_string().into(),
            batches: Arc::new(Semaphore::new(BATCHES_MAX)),
            freed: Arc::default(),
            served: Arc::default(),
        }
    }

    /// Until something is due, a batch is done, somebody rings, or it is time to look anyway.
    async fn rest(&self, next_us: Option<i64>) {
        let poll = Instant::now() + POLL_INTERVAL;
        let due = async {
            while Instant::now() < poll && next_us.is_none_or(|next_us| self.service.clock.now_us() < next_us) {
                tokio::time::sleep(CLOCK_INTERVAL).await;
            }
        };
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = self.service.bells.sends.notified() => {}
            () = self.freed.notified() => {}
            () = due => {}
        }
    }

    /// Takes up what is due, as far as there is room.
    pub(super) async fn take(&self) -> Result<Taken, CampaignError> {
        let mut taken = Taken::default();
        let mut candidates = self.candidates(&mut taken.next_us).await?;
        let send = &self.service.config.send;
        let lease_us = i64::try_from(send.lease_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        while let Some((at, limit)) = self.next(&candidates) {
            let Ok(slot) = self.batches.clone().try_acquire_owned() else { break };
            let Some(Candidate { due, lane, only_expired, .. }) = candidates.get(at) else { break };
            let now_us = self.service.clock.now_us();
            let (tenant, channel, only_expired, owner) = (&due.tenant, due.channel.as_str(), *only_expired, &*self.owner);
            let until_us = now_us.saturating_add(lease_us);
            let wanted = Wanted { tenant, channel, limit, only_expired, now_us, until_us, owner };
            let sends = match claim::claim(&self.service.db, &wanted).await {
                Ok(sends) => sends,
                Err(error) if taken.work.is_empty() => return Err(error),
                // What is held already must not wait for the end of its hold.
                Err(error) => {
                    tracing::warn!(%tenant, channel, error = chain(&error), "messages cannot be taken up; trying again");
                    break;
                }
            };
            let is_all = sends.len() < limit;
            if !sends.is_empty() {
                lane.begin(sends.len(), self.turn_of(tenant));
                let (tenant, channel, lane) = (tenant.clone(), channel.to_owned(), lane.clone());
                taken.work.push(Work { tenant, channel, sends, lane, _slot: slot });
            }
            if is_all {
                candidates.swap_remove(at);
            }
        }
        Ok(taken)
    }

    /// Channels with something due whose provider may be asked now; of others, what is too late.
    async fn candidates(&self, next_us: &mut Option<i64>) -> Result<Vec<Candidate>, CampaignError> {
        let now_us = self.service.clock.now_us();
        let mut candidates = Vec::new();
        let mut later = |at_us: i64| *next_us = Some(next_us.map_or(at_us, |next_us| next_us.min(at_us)));
        for due in claim::due(&self.service.db).await? {
            if !self.service.tenants.is_on(&due.tenant, Module::Campaign) {
                continue;
            }
            if due.due_us > now_us {
                later(due.due_us);
                continue;
            }
            let channel = match self.sources.channel(&due.tenant, &due.channel).await {
                Ok(channel) => channel,
                Err(error) => {
                    tracing::warn!(tenant = %due.tenant, channel = due.channel, error = chain(&error), "a channel cannot be opened; its messages wait");
                    continue;
                }
            };
            let lane = self.lane(&due);
            let is_paused = channel.as_ref().is_some_and(|channel| channel.paused);
            let rest_until_us = lane.rest_until_us();
            let only_expired = is_paused || rest_until_us > now_us;
            if rest_until_us > now_us {
                later(rest_until_us);
            }
            if only_expired && !lane.looks_for_expired(now_us) {
                continue;
            }
            let rate_per_second = channel.map_or(0, |channel| channel.rate_per_second);
            candidates.push(Candidate { due, lane, rate_per_second, only_expired });
        }
        Ok(candidates)
    }

    fn lane(&self, due: &Due) -> Arc<Lane> {
        let mut served = self.served.lock();
        let lane = served.lanes.entry((due.tenant.clone(), due.channel.clone()));
        lane.or_insert_with(|| Arc::new(Lane::new(self.service.config.send.concurrency_max))).clone()
    }

    /// The tenant that waited longest, of it the channel that waited longest; and how many sends it may have.
    fn next(&self, candidates: &[Candidate]) -> Option<(usize, usize)> {
        let served = self.served.lock();
        let claim_max = self.service.config.send.claim_max;
        let open = candidates.iter().enumerate().filter_map(|(at, candidate)| {
            let allowance = candidate.lane.allowance(claim_max, candidate.rate_per_second);
            let limit = if candidate.only_expired { claim_max } else { allowance };
            let turns = (served.tenants.get(&candidate.due.tenant).copied().unwrap_or_default(), candidate.lane.turn());
            (limit > 0).then_some((turns, at, limit))
        });
        open.min().map(|(_, at, limit)| (at, limit))
    }

    fn turn_of(&self, tenant: &TenantId) -> u64 {
        let mut served = self.served.lock();
        served.turn += 1;
        let turn = served.turn;
        served.tenants.insert(tenant.clone(), turn);
        turn
    }

    /// Decides on claimed sends and gives them to their provider. What fails is let go.
    pub(super) async fn work(&self, work: Work) {
        let Work { tenant, channel, sends, lane, _slot } = work;
        let keys: Vec<(String, i64)> = sends.iter().map(|send| (send.id.clone(), send.claim)).collect();
        if let Err(error) = self.send(&tenant, &channel, sends, &lane).await {
            tracing::warn!(%tenant, channel, error = chain(&error), "messages could not be decided on or recorded; trying again");
            let due_us = self.service.clock.now_us().saturating_add(TROUBLE_PAUSE_US);
            if let Err(error) = commit::release(&self.service, &tenant, &keys, due_us).await {
                tracing::warn!(%tenant, channel, error = chain(&error), "messages are held until their lease ends");
            }
        }
        lane.end(keys.len());
        drop(_slot);
        self.freed.notify_one();
    }

    async fn send(&self, tenant: &TenantId, channel: &str, sends: Vec<Claimed>, lane: &Lane) -> Result<(), CampaignError> {
        let batch = Batch::load(&self.service, &*self.sources, tenant, channel, sends).await?;
        let now_us = self.service.clock.now_us();
        let prepared = batch.prepare(&self.service, now_us).await?;
        let ready = commit::decide(&self.service, &batch, prepared, now_us).await?;
        self.deliver(&batch, lane, ready).await
    }
}
