//! Queue and store in SQLite files; in one file they settle in one transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auditq_config::EngineUrl;
use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions};
use auditq_queue::{Receipt, WallClock};
use auditq_sqlite::{Database, Options};
use auditq_store::sqlite::SqliteStore;
use auditq_store::{Batch, ErrorKind};

use crate::settlement::{SettleError, Settled, Settlement};

pub(crate) fn open_queue(section: &auditq_config::Queue, wall: WallClock) -> Result<SqliteQueue, SettleError> {
    let retry_after = Duration::from_secs(section.retry_after_seconds());
    let connection = section.connection.clone();
    let options = SqliteQueueOptions { retry_after, connection, wall, ..SqliteQueueOptions::default() };
    Ok(SqliteQueue::open(open(&section.url)?, options)?)
}

/// Where failed jobs are kept of a queue that is elsewhere.
#[cfg(feature = "redis")]
pub(crate) fn open_failed_jobs(
    url: &EngineUrl,
    options: auditq_queue::FailedJobsOptions,
) -> Result<auditq_queue::sqlite::SqliteFailedJobs, SettleError> {
    Ok(auditq_queue::sqlite::SqliteFailedJobs::new(open(url)?, options))
}

pub(crate) fn open_store(section: &auditq_config::Store) -> Result<SqliteStore, SettleError> {
    Ok(SqliteStore::new(open(&section.url)?))
}

pub(crate) fn open(url: &EngineUrl) -> Result<Database, SettleError> {
    Database::open(&url.file(), Options::default()).map_err(in_store)
}

/// Settles a queue and a store that are in the same file.
pub(crate) fn one_transaction(store: SqliteStore) -> Arc<dyn Settlement> {
    Arc::new(OneTransaction { store })
}

/// Inserts rows and deletes their messages in one transaction: a crash leaves either all of it or nothing.
#[derive(Debug)]
struct OneTransaction {
    store: SqliteStore,
}

#[async_trait]
impl Settlement for OneTransaction {
    async fn settle(&self, batch: Arc<Batch>, done: &[Receipt]) -> Result<Settled, SettleError> {
        let (done, store) = (done.to_vec(), self.store.clone());
        let work = move |connection: &auditq_sqlite::rusqlite::Connection| {
            let inserted = store.insert_in(connection, &batch)?;
            let stale = auditq_queue::sqlite::delete_in(connection, &done)?;
            Ok(Settled { inserted, stale })
        };
        self.store.database().write("store audited statements", work).await.map_err(in_store)
    }
}

fn in_store(error: auditq_sqlite::Error) -> SettleError {
    let kind = match error.kind() {
        auditq_sqlite::Kind::Unavailable => ErrorKind::Unavailable,
        auditq_sqlite::Kind::Rejected => ErrorKind::Rejected,
        auditq_sqlite::Kind::Corrupt => ErrorKind::Corrupt,
        auditq_sqlite::Kind::Misconfigured => ErrorKind::Misconfigured,
    };
    auditq_store::Error::new(kind, "sqlite", error).into()
}
