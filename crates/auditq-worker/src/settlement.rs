use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use auditq_queue::{Queue, QueueName, Receipt, Reserved};
use auditq_store::{Batch, Inserted, Store};

use crate::retry::Failure;

/// Rows that are in the audit table, and receipts whose messages had gone to someone else meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What was written.
    pub inserted: Inserted,
    /// Reservations that had lapsed: harmless, because their events are stored once all the same.
    pub stale: Vec<Receipt>,
}

/// The rows of some messages, when all of them can be stored as they are and need no look again.
pub type Rows<'r> = dyn Fn(&[Reserved]) -> Option<Batch> + Send + Sync + 'r;

/// What became of the next messages of a queue.
#[derive(Debug)]
pub enum Next {
    /// They are stored and deleted: so many.
    Stored(usize, Inserted),
    /// They are reserved; none when there was nothing to take.
    Reserved(Vec<Reserved>),
}

/// Writes rows and deletes the messages that they came from.
///
/// After an error it may be called again with the same arguments, whatever had been done by then.
#[async_trait]
pub trait Settlement: fmt::Debug + Send + Sync + 'static {
    /// Settles a batch.
    ///
    /// # Errors
    /// As the store's insert and the queue's delete; nothing is lost in either case.
    async fn settle(&self, batch: Arc<Batch>, done: &[Receipt]) -> Result<Settled, SettleError>;

    /// How messages are stored without being reserved before, where queue and store can do that.
    fn at_once(&self) -> Option<&dyn SettleNext> {
        None
    }
}

/// Takes messages, stores their rows and deletes them, all in one transaction.
#[async_trait]
pub trait SettleNext: Send + Sync {
    /// Settles the next messages of these queues, up to `limit`, when `rows` has rows for them; it may be asked several
    /// times. Otherwise they are reserved.
    ///
    /// Nobody else can take them meanwhile. Whatever stops it before its end leaves them as they were: no attempt is counted.
    ///
    /// # Errors
    /// As the store's insert and the queue's reservation; nothing has changed then, unless the answer to the commit was lost.
    async fn settle_next(&self, queues: &[QueueName], limit: usize, rows: &Rows<'_>) -> Result<Next, SettleError>;
}

/// Why a batch is not settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The store did not take the rows, and the messages are still there.
    #[error(transparent)]
    Store(#[from] auditq_store::Error),
    /// The rows are stored; the messages are still there and will be found to be duplicates.
    #[error(transparent)]
    Queue(#[from] auditq_queue::Error),
    /// It took longer than a batch may; it may still come to pass.
    #[error("storing the batch took longer than it may, {0} s: worker.timeout, or what a job says itself")]
    TimedOut(u64),
}

impl SettleError {
    /// What kind of failure it is; `exceptions` counts this rejection.
    #[must_use]
    pub fn failure(&self, exceptions: u32) -> Failure {
        use auditq_queue::ErrorKind as QueueKind;
        use auditq_store::ErrorKind as StoreKind;
        match self {
            Self::Store(error) => match error.kind() {
                StoreKind::Unavailable => Failure::Unavailable,
                StoreKind::Rejected => Failure::Rejected { exceptions },
                StoreKind::Corrupt | StoreKind::Misconfigured => Failure::Hopeless,
            },
            Self::Queue(error) => match error.kind() {
                QueueKind::Unavailable | QueueKind::Rejected => Failure::Unavailable,
                QueueKind::Corrupt | QueueKind::Misconfigured => Failure::Hopeless,
            },
            Self::TimedOut(_) => Failure::Unavailable,
        }
    }
}

/// Any queue with any store: the rows first, then the messages. A crash between leaves duplicates, which the store skips.
#[derive(Debug)]
pub struct StoreThenDelete {
    /// Where the messages are.
    pub queue: Arc<dyn Queue>,
    /// Where the rows go.
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl Settlement for StoreThenDelete {
    async fn settle(&self, batch: Arc<Batch>, done: &[Receipt]) -> Result<Settled, SettleError> {
        let inserted = self.store.insert(batch).await?;
        let stale = self.queue.delete(done).await?;
        Ok(Settled { inserted, stale })
    }
}
