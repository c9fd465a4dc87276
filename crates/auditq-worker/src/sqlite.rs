//! Queue and store in SQLite files; in one file they settle in one transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auditq_config::EngineUrl;
use auditq_queue::Receipt;
use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions};
use auditq_sqlite::{Database, Options};
use auditq_store::sqlite::SqliteStore;
use auditq_store::{Batch, ErrorKind};

use crate::settlement::{SettleError, Settled, Settlement};

pub(crate) fn open_queue(url: &EngineUrl, retry_after: Duration) -> Result<SqliteQueue, SettleError> {
    let options = SqliteQueueOptions { retry_after, ..SqliteQueueOptions::default() };
    Ok(SqliteQueue::open(open(url)?, options)?)
}

pub(crate) fn open_store(url: &EngineUrl) -> Result<SqliteStore, SettleError> {
    Ok(SqliteStore::new(open(url)?))
}

fn open(url: &EngineUrl) -> Result<Database, SettleError> {
    Database::open(&url.file(), Options::default()).map_err(in_store)
}

/// Settles a queue and a store that are in the same file.
pub(crate) fn one_transaction(database: Database) -> Arc<dyn Settlement> {
    Arc::new(OneTransaction { database })
}

/// Inserts rows and deletes their messages in one transaction: a crash leaves either all of it or nothing.
#[derive(Debug)]
struct OneTransaction {
    database: Database,
}

#[async_trait]
impl Settlement for OneTransaction {
    async fn settle(&self, batch: Arc<Batch>, done: &[Receipt]) -> Result<Settled, SettleError> {
        let done = done.to_vec();
        let work = move |connection: &auditq_sqlite::rusqlite::Connection| {
            let inserted = auditq_store::sqlite::insert_in(connection, &batch)?;
            let stale = auditq_queue::sqlite::delete_in(connection, &done)?;
            Ok(Settled { inserted, stale })
        };
        self.database.write("store audited statements", work).await.map_err(in_store)
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
