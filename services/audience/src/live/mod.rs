//! Live membership: who is in each audience at every moment.
//!
//! One worker per tenant goes from round to round. A round takes what the log has brought, finds who may have changed because of it or
//! because a moment has come, asks analytics about them, and commits who entered and who left.
//!
//! | part | does |
//! |---|---|
//! | `feed` | reads the log for all tenants |
//! | `interest`, `whom` | which events matter to a condition; whom to look at |
//! | `timers` | the moments at which time alone may change something |
//! | `round`, `causes`, `changes` | what an answer means: who moved, when and why; numbered batches |
//! | `steps`, `commit` | a round from end to end |
//! | `adopt` | loading, and following definitions |
//! | `worker` | the loop; checkpoints |
//! | `view` | membership in memory |
//! | `store` | statements |
//!
//! # Why it is right at every moment
//!
//! A round is of a moment *now*, before which everything on the log was handed out. Somebody's answer can differ from that of the round
//! before only if an event of theirs came in between (`whom`), an event entered or left a window (`timers`, complete up to *now*), they
//! were merged, their events were removed, or a list was changed. All of these are asked about, over one snapshot that holds everything
//! handed out. Audits compare with full evaluations to see that this is so.

mod adopt;
mod audience;
mod causes;
pub(crate) mod changes;
mod commit;
mod feed;
mod interest;
mod round;
mod steps;
mod store;
mod supervisor;
mod timers;
mod view;
mod whom;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use roaring::RoaringBitmap;
use segue_log::Log;
use segue_model::{Clock, TenantId};
use segue_proto::audience::v1::{EvaluateAudienceRequest, EvaluateAudienceResponse, GetLiveStatusRequest, GetLiveStatusResponse};
use segue_runtime::{Tasks, Tenant, TenantDirectory};
use segue_store::Db;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::config::Config;
use crate::definitions::Definitions;
use crate::error::AudienceError;
use crate::peers::Peers;
use crate::service::Service;
use crate::store::timestamp;
use view::{Dirty, Holdout, View};
use worker::Command;

/// How long a status waits for membership to be brought up to date.
const POKE_MAX: Duration = Duration::from_secs(5);
/// How long a full evaluation may take.
const EVALUATE_MAX: Duration = Duration::from_secs(300);

/// What live membership works with.
pub(crate) struct LiveDeps {
    pub(crate) config: Arc<Config>,
    pub(crate) db: Db,
    pub(crate) log: Log,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tenants: TenantDirectory,
    pub(crate) tasks: Tasks,
    pub(crate) peers: Peers,
    pub(crate) definitions: Definitions,
}

/// Live membership of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Live {
    deps: Arc<LiveDeps>,
    running: Arc<RwLock<HashMap<TenantId, Running>>>,
    committed: Arc<Notify>,
}

/// A tenant that this process works on.
#[derive(Clone)]
struct Running {
    view: Arc<RwLock<View>>,
    commands: mpsc::Sender<Command>,
    wake: Arc<Notify>,
}

/// Who meets the condition of an audience.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    /// Members and those held out.
    pub(crate) matched: Arc<RoaringBitmap>,
    /// Those of them who are held out.
    pub(crate) held_out: Arc<RoaringBitmap>,
    /// True as of this moment.
    pub(crate) as_of_us: i64,
    /// Transitions up to this one are in it.
    pub(crate) sequence: u64,
}

impl Live {
    pub(crate) fn start(deps: LiveDeps) -> Self {
        let live = Self { deps: Arc::new(deps), running: Arc::default(), committed: Arc::default() };
        let stopping = live.deps.tasks.stopping();
        live.deps.tasks.spawn("audiences", supervisor::run(live.clone(), stopping));
        live
    }

    /// Who is in an audience; NOT_EVALUATED before the first evaluation. Where another process works on the tenant, what that has written
    /// down counts.
    pub(crate) async fn membership(&self, tenant: &TenantId, audience: &str) -> Result<Membership, AudienceError> {
        let running = self.running.read().get(tenant).map(|running| running.view.clone());
        if let Some(view) = running {
            let (members, as_of_us, sequence) = {
                let view = view.read();
                (view.members.get(audience).cloned(), view.as_of_us, view.sequence)
            };
            let Some(members) = members else { return Err(self.not_evaluated(tenant, audience).await) };
            let held_out = Arc::new(members.holdout.of(&members.matched));
            return Ok(Membership { matched: members.matched, held_out, as_of_us, sequence });
        }
        let Some(written) = store::written(&self.deps.db, tenant, audience).await? else {
            return Err(self.not_evaluated(tenant, audience).await);
        };
        let store::Written { tenant: row, audience: of, mut members, batches } = written;
        for payload in batches {
            worker::replay(&payload, &mut members, &mut Dirty::new())?;
        }
        let matched = Arc::new(members.remove(audience).unwrap_or_default());
        let held_out = Arc::new(Holdout::new(audience, of.holdout).of(&matched));
        Ok(Membership { matched, held_out, as_of_us: row.as_of_us, sequence: row.sequence })
    }

    /// Why nobody is in an audience: there is none, it is archived, or it was not evaluated yet.
    async fn not_evaluated(&self, tenant: &TenantId, audience: &str) -> AudienceError {
        let hint = "it will be in a moment; a snapshot needs EvaluateAudience";
        let not_evaluated = AudienceError::NotEvaluated { id: audience.to_owned(), hint };
        self.deps.definitions.kept_one(tenant, audience).await.err().unwrap_or(not_evaluated)
    }

    /// Rung whenever transitions were committed by this process.
    pub(crate) fn committed(&self) -> Arc<Notify> {
        self.committed.clone()
    }

    fn running(&self, tenant: &TenantId) -> Option<Running> {
        self.running.read().get(tenant).cloned()
    }

    /// Has the worker of a tenant make a round over everything that is on the log now, and look at its definitions first.
    async fn poke(&self, running: &Running) -> bool {
        running.wake.notify_one();
        let (done, waiting) = oneshot::channel();
        let told = running.commands.send(Command::Poke(done)).await.is_ok();
        told && tokio::time::timeout(POKE_MAX, waiting).await.is_ok_and(|done| done.is_ok())
    }
}

impl Service {
    pub(crate) async fn get_live_status_of(
        &self,
        tenant: &Tenant,
        _request: GetLiveStatusRequest,
    ) -> Result<GetLiveStatusResponse, AudienceError> {
        if let Some(running) = self.live.running(&tenant.id) {
            let is_done = self.live.poke(&running).await;
            let view = running.view.read();
            let status = &view.status;
            let waiting = if is_done || !status.problem.is_empty() { String::new() } else { "a round is under way".to_owned() };
            return Ok(GetLiveStatusResponse {
                as_of: Some(timestamp(view.as_of_us)),
                sequence: view.sequence,
                audiences: u32::try_from(view.members.len()).unwrap_or(u32::MAX),
                rounds: status.rounds,
                persons_evaluated: status.persons_evaluated,
                round_seconds: status.round_seconds,
                bytes: view.bytes() + status.timer_bytes,
                audits: status.audits,
                repaired: status.repaired,
                problem: if status.problem.is_empty() { waiting } else { status.problem.clone() },
            });
        }
        let row = store::find(&self.db, &tenant.id).await?;
        let audiences = store::audiences(&self.db, &tenant.id).await?.len();
        let Some(row) = row else {
            let problem = "no audience has been evaluated yet".to_owned();
            return Ok(GetLiveStatusResponse { problem, ..GetLiveStatusResponse::default() });
        };
        Ok(GetLiveStatusResponse {
            as_of: Some(timestamp(row.as_of_us)),
            sequence: row.sequence,
            audiences: u32::try_from(audiences).unwrap_or(u32::MAX),
            audits: row.audits,
            repaired: row.repaired,
            problem: "another process works on the tenant: this is what it has written down".to_owned(),
            ..GetLiveStatusResponse::default()
        })
    }

    pub(crate) async fn evaluate_audience_of(
        &self,
        tenant: &Tenant,
        request: EvaluateAudienceRequest,
    ) -> Result<EvaluateAudienceResponse, AudienceError> {
        // Says what is wrong with the name, or that it is archived.
        self.definitions.kept_one(&tenant.id, &request.audience).await?;
        let not_here = || AudienceError::NotReady { why: "no worker has taken the tenant up yet".to_owned() };
        let running = self.live.running(&tenant.id).ok_or_else(not_here)?;
        // Definitions may have changed a moment ago.
        self.live.poke(&running).await;
        let (reply, waiting) = oneshot::channel();
        let command = Command::Evaluate { audience: request.audience, reply };
        running.commands.send(command).await.map_err(|_| not_here())?;
        match tokio::time::timeout(EVALUATE_MAX, waiting).await {
            Ok(Ok(evaluated)) => evaluated,
            Ok(Err(_)) => Err(not_here()),
            Err(_) => Err(AudienceError::NotReady { why: "the evaluation takes long; it goes on".to_owned() }),
        }
    }
}
