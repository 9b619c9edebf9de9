//! The part of a process that sends, for tests of the whole service: dropped at any moment, the process has ended there.

use super::*;

/// Gives messages to providers as `worker::run` does, one look after the other.
pub(crate) struct SendingProcess(Sender);

impl SendingProcess {
    pub(crate) fn new(service: &Service) -> Self {
        Self(Sender::new(service.clone(), Arc::new(service.clone()), Tasks::new().stopping()))
    }

    /// Takes up what is due and sends it. `begins` is told of each batch before anything is looked up for it; what it answers is given to
    /// `ends` when the batch is done, and dropped when it is given up.
    pub(crate) async fn look<G>(&self, begins: impl Fn(Vec<String>) -> G, ends: impl Fn(G)) -> Result<(), CampaignError> {
        let taken = self.0.take().await?;
        let works = taken.work.into_iter().map(|work| {
            let begun = begins(work.sends.iter().map(|send| send.id.clone()).collect());
            let ends = &ends;
            async move {
                self.0.work(work).await;
                ends(begun);
            }
        });
        futures::future::join_all(works).await;
        Ok(())
    }
}
