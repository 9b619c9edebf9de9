//! Processes that end at any moment and are started again, and what is noted of what they send.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use segue_model::TenantId;
use tokio::sync::RwLock;

use crate::flow::FlowProcess;
use crate::sends::SendingProcess;
use crate::service::Service;

/// Sends that a process had taken up together.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) sends: Vec<String>,
    pub(super) begun: Instant,
    /// None: it is being worked on.
    pub(super) ended: Option<Instant>,
    /// Its process ended in the middle of it: what was on its way may arrive afterwards.
    pub(super) is_cut: bool,
}

/// What processes share beside the service.
#[derive(Clone, Default)]
pub(super) struct Watch {
    pub(super) batches: Arc<Mutex<Vec<Batch>>>,
    /// Open while a worker makes a round.
    pub(super) gate: Arc<RwLock<()>>,
    pub(super) ends: Arc<AtomicUsize>,
}

/// Ends its batch when dropped.
struct Begun {
    batches: Arc<Mutex<Vec<Batch>>>,
    at: usize,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.end(true);
    }
}

impl Begun {
    fn end(&self, is_cut: bool) {
        if let Some(batch) = self.batches.lock().get_mut(self.at).filter(|batch| batch.ended.is_none()) {
            batch.ended = Some(Instant::now());
            batch.is_cut = is_cut;
        }
    }
}

impl Watch {
    fn begins(&self, sends: Vec<String>) -> Begun {
        let mut batches = self.batches.lock();
        batches.push(Batch { sends, begun: Instant::now(), ended: None, is_cut: false });
        Begun { batches: self.batches.clone(), at: batches.len() - 1 }
    }

    /// Whether nobody is sending.
    pub(super) fn is_quiet(&self) -> bool {
        self.batches.lock().iter().all(|batch| batch.ended.is_some())
    }
}

/// A future that is dropped in the middle of what it does: at its last poll. None: it never is.
struct Fragile<F> {
    inner: Pin<Box<F>>,
    polls: Option<usize>,
}

impl<F: Future> Future for Fragile<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.polls {
            Some(0) => return Poll::Ready(()),
            Some(left) => *left -= 1,
            None => {}
        }
        self.inner.as_mut().poll(cx).map(drop)
    }
}

/// Lets a process live as often as it ends, each time under another name; after the last of `lives` for good.
pub(super) async fn run(service: Service, tenant: TenantId, number: usize, lives: Vec<usize>, watch: Watch) {
    for (life, polls) in lives.into_iter().map(Some).chain(std::iter::repeat(None)).enumerate() {
        let one = live(&service, &tenant, format!("{tenant}-{number}-{life}"), &watch);
        Fragile { inner: Box::pin(one), polls }.await;
        watch.ends.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn live(service: &Service, tenant: &TenantId, owner: String, watch: &Watch) {
    // The log can be read here.
    let Ok(flow) = FlowProcess::start(service, &owner).await else { return };
    let sending = SendingProcess::new(service);
    let send = async {
        loop {
            // What fails is tried again.
            let _ = sending.look(|sends| watch.begins(sends), |begun| begun.end(false)).await;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    tokio::join!(flow.run(tenant, &watch.gate), send);
}
