//! The one task that changes a store: it takes the calls that wait, resolves them in order, and commits them together, so
//! that many callers share one sync to disk. It owns the cache, which therefore needs no locks.
//!
//! A transaction begins by locking the tenants that it touches (in order of their ids, so that two processes cannot
//! deadlock) and by reading their counters. Another version than the cache's means that another process wrote: that
//! tenant's cache is dropped. Answers without effects leave the version as it is: that one was given elsewhere shows when
//! the next is stored, and the transaction is run again. When a transaction fails, the caches of its tenants are dropped too, since the rules had
//! changed them already.

mod job;
mod requests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use segue_model::{Clock, Module, TenantId};
use segue_runtime::TenantDirectory;
use segue_store::{Db, Tx};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, profile_of};
use crate::effects::Effects;
use crate::error::IdentityError;
use crate::identifier::Id;
use crate::registry::Registry;
use crate::rules::Rules;
use crate::store::{load, write};

use job::Outcome;
pub(crate) use job::{Batch, Job, Merge, Unlink, Whom};

/// How often a transaction is run again after a failure that may pass.
const ATTEMPTS: usize = 3;
/// Sources remembered per tenant; more are looked up again.
const SOURCES_MAX: usize = 10_000;

/// What the writer needs.
#[derive(Debug, Clone)]
pub(crate) struct WriterDeps {
    pub(crate) db: Db,
    pub(crate) rules: Rules,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tenants: TenantDirectory,
    pub(crate) cache_bytes_max: u64,
    pub(crate) transaction_events_max: usize,
    /// Rung when something was put into the outbox.
    pub(crate) outbox: Arc<Notify>,
    /// Salts of new tenants.
    pub(crate) new_salt: fn() -> [u8; 16],
}

/// One tenant in this process.
#[derive(Debug, Default)]
struct Known {
    registry: Registry,
    /// Last sequence answered to each source through this process; another may have answered later ones.
    sources: HashMap<String, u64>,
}

/// The task.
#[derive(Debug)]
pub(crate) struct Writer {
    deps: WriterDeps,
    known: BTreeMap<TenantId, Known>,
}

/// One transaction in the making.
#[derive(Default)]
struct Group {
    effects: BTreeMap<TenantId, Effects>,
    answers: BTreeMap<(TenantId, String), (u64, Answer)>,
    requests: Vec<(TenantId, String, (u32, u32))>,
}

impl Writer {
    pub(crate) fn new(deps: WriterDeps) -> Self {
        Self { deps, known: BTreeMap::new() }
    }

    /// Works until told to stop; what waits then is told to retry.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>, stopping: CancellationToken) -> anyhow::Result<()> {
        let mut changes = self.deps.tenants.changes();
        let mut watching = true;
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(()),
                changed = changes.changed(), if watching => {
                    // The directory is gone when the process ends.
                    watching = changed.is_ok();
                    self.forget_switched_off();
                }
                job = jobs.recv() => match job {
                    Some(job) => {
                        let group = self.collect(job, &mut jobs);
                        self.process(group).await;
                        // A call may have been on its way when its tenant was switched off.
                        self.forget_switched_off();
                        self.bound_cache();
                    }
                    None => return Ok(()), // the service is gone, so the process ends
                },
            }
        }
    }

    /// The job and those that wait behind it, up to a transaction's size.
    fn collect(&self, first: Job, jobs: &mut mpsc::Receiver<Job>) -> Vec<Job> {
        let mut events = first.events();
        let mut group = vec![first];
        while events < self.deps.transaction_events_max
            && let Ok(job) = jobs.try_recv()
        {
            events += job.events();
            group.push(job);
        }
        group
    }

    async fn process(&mut self, group: Vec<Job>) {
        let error = match self.attempt(&group).await {
            Ok(outcomes) => {
                for (job, outcome) in group.into_iter().zip(outcomes) {
                    job.answer(outcome);
                }
                return;
            }
            Err(error) => error,
        };
        if group.len() == 1 || error.is_retryable() {
            for job in group {
                job.answer(Err(error.clone()));
            }
            return;
        }
        // One of them cannot be done: do each alone, so that the others are.
        for job in group {
            let outcome = match self.attempt(std::slice::from_ref(&job)).await {
                Ok(mut outcomes) => outcomes.pop().unwrap_or(Err(IdentityError::Stopping)),
                Err(error) => Err(error),
            };
            job.answer(outcome);
        }
    }

    /// Runs the transaction, again if its failure may pass. The inner results are those of single jobs.
    async fn attempt(&mut self, group: &[Job]) -> Result<Vec<Result<Outcome, IdentityError>>, IdentityError> {
        let mut attempt = 1;
        loop {
            match self.transact(group).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(error) => {
                    for job in group {
                        self.known.remove(job.tenant());
                    }
                    if attempt == ATTEMPTS || !error.is_retryable() {
                        return Err(error);
                    }
                    attempt += 1;
                }
            }
        }
    }

    async fn transact(&mut self, jobs: &[Job]) -> Result<Vec<Result<Outcome, IdentityError>>, IdentityError> {
        let mut tx = self.deps.db.begin().await?;
        let tenants: BTreeSet<&TenantId> = jobs.iter().map(Job::tenant).collect();
        for tenant in &tenants {
            let (counters, salt) = load::lock_tenant(&mut tx, tenant, &(self.deps.new_salt)()).await?;
            let known = self.known.entry((*tenant).clone()).or_default();
            if known.registry.counters.version != counters.version {
                known.registry.clear();
                known.sources.clear();
            }
            known.registry.counters = counters;
            known.registry.salt = salt;
        }
        self.load(&mut tx, jobs).await?;

        let mut group = Group::default();
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            outcomes.push(match job {
                Job::Resolve { tenant, batch, .. } => self.resolve(&mut tx, &mut group, tenant, batch).await?,
                Job::Merge { tenant, merge, .. } => self.merge(&mut tx, &mut group, tenant, merge).await?,
                Job::SetConsents { tenant, said, .. } => self.set_consents(&mut group, tenant, said)?,
                Job::Unlink { tenant, unlink, .. } => self.unlink(&mut group, tenant, unlink)?,
            });
            // A batch of many events should not keep other tasks of this thread waiting.
            tokio::task::yield_now().await;
        }
        self.commit(tx, group).await?;
        Ok(outcomes)
    }

    /// Loads what the group names, in one go per tenant.
    async fn load(&mut self, tx: &mut Tx, jobs: &[Job]) -> Result<(), IdentityError> {
        let mut named: BTreeMap<&TenantId, (Vec<&Id>, Vec<u32>)> = BTreeMap::new();
        for job in jobs {
            let registry = &self.known.entry(job.tenant().clone()).or_default().registry;
            let (ids, numbers) = named.entry(job.tenant()).or_default();
            match job {
                Job::Resolve { batch, .. } => {
                    for subject in &batch.subjects {
                        ids.extend(&subject.ids);
                        numbers.extend(subject.named.iter().filter_map(|id| registry.number_of(id)));
                        if let Some(previous) = &subject.previous {
                            ids.extend([&previous.user, &previous.anonymous]);
                        }
                    }
                }
                Job::Merge { merge, .. } => numbers.extend([merge.from, merge.into]),
                Job::SetConsents { said, .. } => {
                    for (whom, _) in said {
                        match whom {
                            Whom::Number(number) => numbers.push(*number),
                            Whom::Id(id) => numbers.extend(registry.number_of(id)),
                            Whom::Identifier(id) => ids.push(id),
                        }
                    }
                }
                Job::Unlink { unlink, .. } => {
                    ids.push(&unlink.id);
                    numbers.extend(Some(unlink.person).filter(|person| *person != 0));
                }
            }
        }
        for (tenant, (mut ids, numbers)) in named {
            // Each once: a list that names an identifier twice would look it up twice.
            ids.sort_unstable_by_key(|id| id.key);
            ids.dedup_by_key(|id| id.key);
            let known = self.known.entry(tenant.clone()).or_default();
            load::load_persons(tx, tenant, &mut known.registry, &numbers).await?;
            load::load_identifiers(tx, tenant, &mut known.registry, &ids).await?;
        }
        Ok(())
    }

    async fn resolve(
        &mut self,
        tx: &mut Tx,
        group: &mut Group,
        tenant: &TenantId,
        batch: &Batch,
    ) -> Result<Result<Outcome, IdentityError>, IdentityError> {
        let known = self.known.entry(tenant.clone()).or_default();
        let key = (tenant.clone(), batch.source.clone());
        let last = match (group.answers.get(&key), known.sources.get(&batch.source)) {
            (Some((last, _)), _) => Some(*last),
            (None, Some(last)) if *last < batch.sequence => Some(*last),
            // Not known, or a repetition, which another process may have overtaken.
            (None, _) => load::last_sequence(tx, tenant, &batch.source).await?,
        };
        if let Some(last) = last.filter(|last| *last >= batch.sequence) {
            if last > batch.sequence {
                let (source_name, sequence) = (batch.source.clone(), batch.sequence);
                return Ok(Err(IdentityError::StaleSequence { source_name, sequence, last }));
            }
            let answer = match group.answers.get(&key) {
                Some((_, answer)) => answer.clone(),
                None => load::last_answer(tx, tenant, &batch.source).await?,
            };
            return Ok(Ok(Outcome::Answer(answer)));
        }

        let registry = &mut known.registry;
        let more = u32::try_from(batch.subjects.len()).unwrap_or(u32::MAX);
        for (what, used) in [("person", registry.counters.persons), ("device", registry.counters.devices)] {
            if used.checked_add(more).is_none() {
                return Ok(Err(IdentityError::NumbersExhausted { what }));
            }
        }
        let effects = group.effects.entry(tenant.clone()).or_default();
        let mut answer = Answer { resolutions: Vec::with_capacity(batch.subjects.len()), profiles: Vec::new() };
        for subject in &batch.subjects {
            answer.resolutions.push(self.deps.rules.resolve(registry, effects, subject)?);
        }
        let mut seen = crate::cache::KeyMap::<u32, ()>::default();
        for resolution in &answer.resolutions {
            if resolution.person != 0 && seen.insert(resolution.person, ()).is_none() {
                let root = registry.root(resolution.person)?;
                if let Some(profile) = &registry.person(root)?.profile {
                    answer.profiles.push(profile_of(resolution.person, profile));
                }
            }
        }
        group.answers.insert(key, (batch.sequence, answer.clone()));
        Ok(Ok(Outcome::Answer(answer)))
    }

    async fn commit(&mut self, mut tx: Tx, group: Group) -> Result<(), IdentityError> {
        let mut merged = false;
        for (tenant, effects) in group.effects {
            let registry = &mut self.known.entry(tenant.clone()).or_default().registry;
            if effects.is_empty() {
                continue;
            }
            merged |= !effects.merges.is_empty();
            registry.counters.version += 1;
            write::write(&mut tx, &tenant, effects, &registry.counters).await?;
        }
        for (tenant, request_id, pair) in &group.requests {
            write::add_merge_request(&mut tx, tenant, request_id, *pair, self.deps.clock.now_us()).await?;
        }
        for ((tenant, source), (sequence, answer)) in &group.answers {
            if !write::put_answer(&mut tx, tenant, source, *sequence, &answer.encode()?).await? {
                // Another process has answered this source, without effects, so the version did not tell. Run again, with
                // the memory of this tenant dropped, the transaction finds that answer: a repetition gets it.
                return Err(IdentityError::Overtaken { source_name: source.clone() });
            }
        }
        tx.commit().await?;
        for ((tenant, source), (sequence, _)) in group.answers {
            let sources = &mut self.known.entry(tenant).or_default().sources;
            if sources.len() >= SOURCES_MAX {
                sources.clear();
            }
            sources.insert(source, sequence);
        }
        if merged {
            self.deps.outbox.notify_one();
        }
        Ok(())
    }

    /// A tenant that is switched off takes no memory.
    fn forget_switched_off(&mut self) {
        let tenants = &self.deps.tenants;
        self.known.retain(|tenant, _| tenants.is_on(tenant, Module::Identity));
    }

    /// Lets go of what was not used lately when half of the memory is taken by what was.
    fn bound_cache(&mut self) {
        let young: u64 = self.known.values().map(|known| known.registry.young_bytes()).sum();
        if young > self.deps.cache_bytes_max / 2 {
            for known in self.known.values_mut() {
                known.registry.age();
            }
        }
    }
}
