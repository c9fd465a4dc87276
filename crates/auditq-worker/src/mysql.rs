//! Queue and store in MySQL or MariaDB; in one database they settle in one transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auditq_config::EngineUrl;
use auditq_mysql::mysql_async::{self, Conn};
use auditq_mysql::{Database, Options, attempt, end_when_silent};
use auditq_queue::mysql::{Locked, MysqlQueue, MysqlQueueOptions};
use auditq_queue::{Queue, QueueName, Receipt, WallClock};
use auditq_store::mysql::MysqlStore;
use auditq_store::{Batch, ErrorKind, Inserted};

use crate::settlement::{Next, Rows, SettleError, SettleNext, Settled, Settlement};

pub(crate) fn open_queue(section: &auditq_config::Queue, wall: WallClock) -> Result<MysqlQueue, SettleError> {
    let retry_after = Duration::from_secs(section.retry_after_seconds());
    let connection = section.connection.clone();
    let options = MysqlQueueOptions { retry_after, connection, wall, ..MysqlQueueOptions::default() };
    Ok(MysqlQueue::open(open(&section.url)?, options)?)
}

/// Where failed jobs are kept of a queue that is elsewhere.
#[cfg(feature = "redis")]
pub(crate) fn open_failed_jobs(
    url: &EngineUrl,
    options: auditq_queue::FailedJobsOptions,
) -> Result<auditq_queue::mysql::MysqlFailedJobs, SettleError> {
    Ok(auditq_queue::mysql::MysqlFailedJobs::new(open(url)?, options))
}

pub(crate) fn open_store(section: &auditq_config::Store) -> Result<MysqlStore, SettleError> {
    Ok(MysqlStore::new(open(&section.url)?))
}

pub(crate) fn open(url: &EngineUrl) -> Result<Database, SettleError> {
    Database::open(url.with_password(), Options::default()).map_err(in_store)
}

/// Settles a queue and a store that are in the same database.
pub(crate) fn one_transaction(queue: Arc<MysqlQueue>, store: MysqlStore) -> Arc<dyn Settlement> {
    Arc::new(OneTransaction { queue, store })
}

/// Inserts rows and deletes their messages in one transaction: a crash leaves either all of it or nothing.
#[derive(Debug)]
struct OneTransaction {
    queue: Arc<MysqlQueue>,
    store: MysqlStore,
}

impl OneTransaction {
    async fn settle_next_in(
        &self,
        connection: &mut Conn,
        (queues, limit): (&[QueueName], usize),
        rows: &Rows<'_>,
        packet: usize,
    ) -> mysql_async::Result<(Locked, Option<Inserted>)> {
        // Locks of a worker that hangs must end no later than its reservations would.
        end_when_silent(connection, Some(self.queue.retry_after())).await?;
        let locked = self.queue.lock_in(connection, queues, limit).await?;
        let batch = if locked.messages.is_empty() { None } else { rows(&locked.messages) };
        let inserted = match batch {
            Some(batch) => {
                let inserted = self.store.insert_in(connection, &batch, packet).await?;
                locked.delete_in(connection).await?;
                Some(inserted)
            }
            None => {
                locked.reserve_in(connection).await?;
                None
            }
        };
        end_when_silent(connection, None).await?;
        Ok((locked, inserted))
    }
}

#[async_trait]
impl Settlement for OneTransaction {
    async fn settle(&self, batch: Arc<Batch>, done: &[Receipt]) -> Result<Settled, SettleError> {
        let packet = self.store.database().packet_bytes_max().await.map_err(in_store)?;
        let run = self.store.database().write("store audited statements");
        attempt!(run, connection => settle_in(&self.store, connection, &batch, done, packet).await).map_err(in_store)
    }

    fn at_once(&self) -> Option<&dyn SettleNext> {
        Some(self)
    }
}

#[async_trait]
impl SettleNext for OneTransaction {
    async fn settle_next(&self, queues: &[QueueName], limit: usize, rows: &Rows<'_>) -> Result<Next, SettleError> {
        let packet = self.store.database().packet_bytes_max().await.map_err(in_store)?;
        let run = self.store.database().write("take and store audited statements");
        let next = (queues, limit);
        let done = attempt!(run, connection => self.settle_next_in(connection, next, rows, packet).await);
        let (locked, inserted) = done.map_err(in_store)?;
        let messages = self.queue.taken(queues, locked);
        Ok(match inserted {
            Some(inserted) => Next::Stored(messages.len(), inserted),
            None => Next::Reserved(messages),
        })
    }
}

async fn settle_in(
    store: &MysqlStore,
    connection: &mut Conn,
    batch: &Batch,
    done: &[Receipt],
    packet: usize,
) -> mysql_async::Result<Settled> {
    let inserted = store.insert_in(connection, batch, packet).await?;
    let stale = auditq_queue::mysql::delete_in(connection, done).await?;
    Ok(Settled { inserted, stale })
}

fn in_store(error: auditq_mysql::Error) -> SettleError {
    let kind = match error.kind() {
        auditq_mysql::Kind::Unavailable => ErrorKind::Unavailable,
        auditq_mysql::Kind::Rejected => ErrorKind::Rejected,
        auditq_mysql::Kind::Corrupt => ErrorKind::Corrupt,
        auditq_mysql::Kind::Misconfigured => ErrorKind::Misconfigured,
    };
    auditq_store::Error::new(kind, "mysql", error).into()
}
