//! Queue and store in MySQL or MariaDB; in one database they settle in one transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auditq_config::EngineUrl;
use auditq_mysql::mysql_async::{self, Conn};
use auditq_mysql::{Database, Options, attempt};
use auditq_queue::mysql::{MysqlQueue, MysqlQueueOptions};
use auditq_queue::{Receipt, WallClock};
use auditq_store::mysql::MysqlStore;
use auditq_store::{Batch, ErrorKind};

use crate::settlement::{SettleError, Settled, Settlement};

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
pub(crate) fn one_transaction(store: MysqlStore) -> Arc<dyn Settlement> {
    Arc::new(OneTransaction { store })
}

/// Inserts rows and deletes their messages in one transaction: a crash leaves either all of it or nothing.
#[derive(Debug)]
struct OneTransaction {
    store: MysqlStore,
}

#[async_trait]
impl Settlement for OneTransaction {
    async fn settle(&self, batch: Arc<Batch>, done: &[Receipt]) -> Result<Settled, SettleError> {
        let packet = self.store.database().packet_bytes_max().await.map_err(in_store)?;
        let run = self.store.database().write("store audited statements");
        attempt!(run, connection => settle_in(&self.store, connection, &batch, done, packet).await).map_err(in_store)
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
