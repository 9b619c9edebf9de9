//! What the writer is asked to do, and where the answer goes.
//!
//! To add a kind of job: a variant here, a line in each `match`, and its work in `requests`.

use segue_model::TenantId;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::answer::Answer;
use crate::consent::Consent;
use crate::error::IdentityError;
use crate::identifier::Id;
use crate::rules::Subject;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, IdentityError>>;

/// Something to do, and where the answer goes.
#[derive(Debug)]
pub(crate) enum Job {
    Resolve { tenant: TenantId, batch: Batch, reply: Reply<Answer> },
    Merge { tenant: TenantId, merge: Merge, reply: Reply<u32> },
    SetConsents { tenant: TenantId, said: Vec<(Whom, Consent)>, reply: Reply<()> },
    Unlink { tenant: TenantId, unlink: Unlink, reply: Reply<()> },
}

/// A batch of a source.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) source: String,
    pub(crate) sequence: u64,
    pub(crate) subjects: Vec<Subject>,
}

/// A merge on request.
#[derive(Debug)]
pub(crate) struct Merge {
    pub(crate) from: u32,
    pub(crate) into: u32,
    pub(crate) force: bool,
    pub(crate) reason: String,
    pub(crate) request_id: String,
}

/// How a request names a person.
#[derive(Debug)]
pub(crate) enum Whom {
    Number(u32),
    Id(Uuid),
    Identifier(Id),
}

/// An identifier to be taken away.
#[derive(Debug)]
pub(crate) struct Unlink {
    pub(crate) id: Id,
    /// From this person only; 0: from whomever it names.
    pub(crate) person: u32,
    pub(crate) reason: String,
}

/// What came of a job, before it is told.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Answer(Answer),
    Survivor(u32),
    Done,
}

impl Job {
    pub(super) fn tenant(&self) -> &TenantId {
        match self {
            Job::Resolve { tenant, .. } | Job::Merge { tenant, .. } | Job::SetConsents { tenant, .. } | Job::Unlink { tenant, .. } => {
                tenant
            }
        }
    }

    /// How much work it is, in events.
    pub(super) fn events(&self) -> usize {
        match self {
            Job::Resolve { batch, .. } => batch.subjects.len(),
            Job::SetConsents { said, .. } => said.len(),
            Job::Merge { .. } | Job::Unlink { .. } => 1,
        }
    }

    pub(super) fn answer(self, outcome: Result<Outcome, IdentityError>) {
        match self {
            Job::Resolve { reply, .. } => tell(reply, outcome, |outcome| match outcome {
                Outcome::Answer(answer) => Some(answer),
                Outcome::Survivor(_) | Outcome::Done => None,
            }),
            Job::Merge { reply, .. } => tell(reply, outcome, |outcome| match outcome {
                Outcome::Survivor(person) => Some(person),
                Outcome::Answer(_) | Outcome::Done => None,
            }),
            Job::SetConsents { reply, .. } | Job::Unlink { reply, .. } => tell(reply, outcome, |_| Some(())),
        }
    }
}

/// Tells what came of a job; an outcome that is none of this kind of job drops the reply.
fn tell<T>(reply: Reply<T>, outcome: Result<Outcome, IdentityError>, read: fn(Outcome) -> Option<T>) {
    if let Some(outcome) = outcome.map(read).transpose() {
        // A caller that went away needs no answer.
        drop(reply.send(outcome));
    }
}
