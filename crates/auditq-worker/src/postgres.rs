//! Queue and store in PostgreSQL; in one database they settle in one transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auditq_config::{EngineUrl, Partitions};
use auditq_postgres::{Conn, Database, Options, Worked, attempt};
use auditq_queue::postgres::{PostgresQueue, PostgresQueueOptions};
use auditq_queue::{Receipt, WallClock};
use auditq_store::postgres::PostgresStore;
use auditq_store::{Batch, ErrorKind};

use crate::settlement::{SettleError, Settled, Settlement};

pub(crate) fn open_queue(section: &auditq_config::Queue, wall: WallClock) -> Result<PostgresQueue, SettleError> {
    let retry_after = Duration::from_secs(section.retry_after_seconds());
    let connection = section.connection.clone();
    let options = PostgresQueueOptions { retry_after, connection, wall, ..PostgresQueueOptions::default() };
    Ok(PostgresQueue::open(open(&section.url)?, options)?)
}

/// Where failed jobs are kept of a queue that is elsewhere.
#[cfg(feature = "redis")]
pub(crate) fn open_failed_jobs(
    url: &EngineUrl,
    options: auditq_queue::FailedJobsOptions,
) -> Result<auditq_queue::postgres::PostgresFailedJobs, SettleError> {
    Ok(auditq_queue::postgres::PostgresFailedJobs::new(open(url)?, options))
}

pub(crate) fn open_store(section: &auditq_config::Store) -> Result<PostgresStore, SettleError> {
    let store = PostgresStore::new(open(&section.url)?);
    Ok(if section.partitions == Partitions::Monthly { store.partitioned_by_month() } else { store })
}

pub(crate) fn open(url: &EngineUrl) -> Result<Database, SettleError> {
    Database::open(url.with_password(), Options::default()).map_err(in_store)
}

/// Settles a queue and a store that are in the same database.
pub(crate) fn one_transaction(store: PostgresStore) -> Arc<dyn Settlement> {
    Arc::new(OneTransaction { store })
}

/// Inserts rows and deletes their messages in one transaction: a crash leaves either all of it or nothing.
#[derive(Debug)]
struct OneTransaction {
    store: PostgresStore,
}

#[async_trait]
impl Settlement for OneTransaction {
    async fn settle(&self, batch: Arc<Batch>, done: &[Receipt]) -> Result<Settled, SettleError> {
        let run = self.store.database().write("store audited statements");
        attempt!(run, connection => settle_in(&self.store, connection, &batch, done).await).map_err(in_store)
    }
}

async fn settle_in(store: &PostgresStore, connection: &Conn, batch: &Batch, done: &[Receipt]) -> Worked<Settled> {
    let inserted = store.insert_in(connection, batch).await?;
    let stale = auditq_queue::postgres::delete_in(connection, done).await?;
    Ok(Settled { inserted, stale })
}

fn in_store(error: auditq_postgres::Error) -> SettleError {
    let kind = match error.kind() {
        auditq_postgres::Kind::Unavailable => ErrorKind::Unavailable,
        auditq_postgres::Kind::Rejected => ErrorKind::Rejected,
        auditq_postgres::Kind::Corrupt => ErrorKind::Corrupt,
        auditq_postgres::Kind::Misconfigured => ErrorKind::Misconfigured,
    };
    auditq_store::Error::new(kind, "postgres", error).into()
}
