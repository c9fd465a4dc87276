//! The audit table in a SQLite file.

mod amendments;
mod backup;
mod foreign;
mod imports;
mod insert;
mod laravel;
mod numbers;
mod rows;
mod schema;
mod search;

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use auditq_sqlite::{Database, Kind};
pub use foreign::SqliteTable;

use crate::laravel::Table;
use crate::{
    Batch, Error, ErrorKind, Filter, Inserted, LaravelLayout, LogPage, Pruned, Result, Stats, StatsFilter, Store,
    StoreReader,
};

const DRIVER: &str = "sqlite";

/// The audit table in a SQLite file.
///
/// A batch that was inserted is on the disk. Handles are cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    database: Database,
    /// The application's own table, where it is that.
    table: Option<Arc<Table>>,
}

impl SqliteStore {
    /// Looks after `audit_sql_logs` in `database`; [`migrate`](Store::migrate) makes it where it is not there yet.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, table: None }
    }

    /// Fills the table that a Laravel application made, which stays as it is.
    #[must_use]
    pub fn with_layout(self, layout: LaravelLayout) -> Self {
        Self { table: Some(Arc::new(Table::new(layout))), ..self }
    }

    /// Writes a batch inside the caller's transaction, so that other changes can be committed with it.
    ///
    /// # Errors
    /// What SQLite reports; a constraint that an event violates among it.
    pub fn insert_in(&self, connection: &rusqlite::Connection, batch: &Batch) -> rusqlite::Result<Inserted> {
        match &self.table {
            Some(table) => laravel::insert_in(connection, table, batch),
            None => insert::insert_in(connection, batch),
        }
    }

    /// The file, for [`insert_in`](Self::insert_in) inside a transaction that changes more than the log.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn insert(&self, batch: Arc<Batch>) -> Result<Inserted> {
        let store = self.clone();
        let work = move |connection: &rusqlite::Connection| store.insert_in(connection, &batch);
        self.database.write("store events", work).await.map_err(written)
    }

    async fn migrate(&self) -> Result<()> {
        if let Some(table) = self.table.clone() {
            let work = move |connection: &rusqlite::Connection| laravel::migrate(connection, &table);
            return told(self.database.write("look at the audit table", work).await.map_err(written)?);
        }
        let now = now_us();
        let migrated =
            self.database.write("migrate the audit table", move |connection| schema::migrate(connection, now));
        migrated.await.map_err(written)?.map_err(|obstacle| Error::new(ErrorKind::Misconfigured, DRIVER, obstacle))
    }
}

#[async_trait]
impl StoreReader for SqliteStore {
    async fn check(&self) -> Result<()> {
        if let Some(table) = self.table.clone() {
            let check = move |connection: &rusqlite::Connection| laravel::check(connection, &table);
            return told(self.database.read("check the audit table", check).await.map_err(read)?);
        }
        let checked = self.database.read("check the audit table", schema::check).await.map_err(read)?;
        checked.map_err(|obstacle| Error::new(ErrorKind::Misconfigured, DRIVER, obstacle))
    }

    async fn search(&self, filter: &Filter) -> Result<LogPage> {
        let filter = filter.clone();
        if let Some(table) = self.table.clone() {
            let work = move |connection: &rusqlite::Connection| laravel::search(connection, &table, &filter);
            return told(self.database.read("search the log", work).await.map_err(read)?);
        }
        self.database.read("search the log", move |connection| search::search(connection, &filter)).await.map_err(read)
    }

    async fn stats(&self, filter: &StatsFilter) -> Result<Stats> {
        let filter = filter.clone();
        if let Some(table) = self.table.clone() {
            let work = move |connection: &rusqlite::Connection| laravel::stats(connection, &table, &filter);
            return told(self.database.read("count the log", work).await.map_err(read)?);
        }
        self.database.read("count the log", move |connection| numbers::stats(connection, &filter)).await.map_err(read)
    }

    async fn count(&self) -> Result<u64> {
        self.database.read("count the log", numbers::count).await.map_err(read)
    }

    async fn prune(&self, before: i64, limit: usize) -> Result<Pruned> {
        if let Some(table) = self.table.clone() {
            let work = move |connection: &rusqlite::Connection| laravel::prune(connection, &table, before, limit);
            return told(self.database.write("prune the log", work).await.map_err(written)?);
        }
        let now = now_us();
        let work = move |connection: &rusqlite::Connection| {
            amendments::drop_old(connection, now.saturating_sub(amendments::KEPT_US))?;
            numbers::prune(connection, before, limit)
        };
        self.database.write("prune the log", work).await.map_err(written)
    }

    async fn backup(&self, to: &Path) -> Result<u64> {
        backup::run(self.database.path().to_owned(), to.to_owned()).await
    }
}

/// What a table of an application's own cannot do is a matter of settings.
fn told<T>(told: std::result::Result<T, String>) -> Result<T> {
    told.map_err(|refused| Error::new(ErrorKind::Misconfigured, DRIVER, refused))
}

/// Names an error of a write.
fn written(error: auditq_sqlite::Error) -> Error {
    let kind = match error.kind() {
        Kind::Unavailable => ErrorKind::Unavailable,
        Kind::Rejected => ErrorKind::Rejected,
        Kind::Corrupt => ErrorKind::Corrupt,
        Kind::Misconfigured => ErrorKind::Misconfigured,
    };
    Error::new(kind, DRIVER, error)
}

/// Names an error of a read, where a value that does not fit is one that somebody else put there.
fn read(error: auditq_sqlite::Error) -> Error {
    match error.kind() {
        Kind::Rejected => Error::new(ErrorKind::Corrupt, DRIVER, error),
        _ => written(error),
    }
}

/// Now, in microseconds since 1970; a clock before that counts as 1970.
fn now_us() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
}
