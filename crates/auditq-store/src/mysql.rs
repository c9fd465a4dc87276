//! The audit table in a MySQL or MariaDB database.
//!
//! The same columns and indexes as everywhere. Texts have a collation that compares exactly, trailing spaces included;
//! its name is the only thing in which the two servers differ here ([`Database::collation`]).

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
use auditq_mysql::mysql_async::{self, Conn};
use auditq_mysql::{Database, Kind, attempt};

pub use foreign::MysqlTable;

use crate::laravel::Table;
use crate::{
    Batch, Error, ErrorKind, Filter, Inserted, LaravelLayout, LogPage, Pruned, Result, Stats, StatsFilter, Store,
    StoreReader,
};

const DRIVER: &str = "mysql";

/// How many rows one statement of a prune removes at the most, so that inserts get their turn.
const PRUNED_MAX: usize = 5_000;

/// The audit table in a MySQL or MariaDB database.
///
/// A batch that was inserted is as durable as `innodb_flush_log_at_trx_commit` makes it: on the disk with 1, the
/// server's default. Handles are cheap to clone.
#[derive(Clone, Debug)]
pub struct MysqlStore {
    database: Database,
    /// The application's own table, where it is that.
    table: Option<Arc<Table>>,
}

impl MysqlStore {
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
    /// `packet_bytes_max` is the server's `max_allowed_packet`.
    ///
    /// # Errors
    /// What the server reports; a value that a column does not take among it.
    pub async fn insert_in(
        &self,
        connection: &mut Conn,
        batch: &Batch,
        packet_bytes_max: usize,
    ) -> mysql_async::Result<Inserted> {
        match &self.table {
            Some(table) => laravel::insert_in(connection, table, batch, packet_bytes_max).await,
            None => insert::insert_in(connection, batch, packet_bytes_max).await,
        }
    }

    /// The database, for [`insert_in`](Self::insert_in) inside a transaction that changes more than the log.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }
}

#[async_trait]
impl Store for MysqlStore {
    async fn insert(&self, batch: Arc<Batch>) -> Result<Inserted> {
        let packet = self.database.packet_bytes_max().await.map_err(written)?;
        let run = self.database.write("store events");
        attempt!(run, connection => self.insert_in(connection, &batch, packet).await).map_err(written)
    }

    async fn migrate(&self) -> Result<()> {
        if let Some(table) = &self.table {
            let run = self.database.locked("look at the audit table", schema::LOCK);
            return told(attempt!(run, connection => laravel::migrate(connection, table).await).map_err(written)?);
        }
        let collation = self.database.collation().await.map_err(written)?;
        let (place, now) = (self.database.place(), now_us());
        let run = self.database.locked("migrate the audit table", schema::LOCK);
        let migrated = attempt!(run, connection => schema::migrate(connection, place, collation, now).await);
        migrated.map_err(written)?.map_err(|obstacle| Error::new(ErrorKind::Misconfigured, DRIVER, obstacle))
    }
}

#[async_trait]
impl StoreReader for MysqlStore {
    async fn check(&self) -> Result<()> {
        let run = self.database.single("check the audit table");
        if let Some(table) = &self.table {
            return told(attempt!(run, connection => laravel::check(connection, table).await).map_err(read)?);
        }
        let place = self.database.place();
        let checked = attempt!(run, connection => schema::check(connection, place).await).map_err(read)?;
        checked.map_err(|obstacle| Error::new(ErrorKind::Misconfigured, DRIVER, obstacle))
    }

    async fn search(&self, filter: &Filter) -> Result<LogPage> {
        if let Some(table) = &self.table {
            let run = self.database.single("search the log");
            return told(attempt!(run, connection => laravel::search(connection, table, filter).await).map_err(read)?);
        }
        let run = self.database.single("search the log");
        attempt!(run, connection => search::search(connection, filter).await).map_err(read)
    }

    async fn stats(&self, filter: &StatsFilter) -> Result<Stats> {
        if let Some(table) = &self.table {
            let run = self.database.snapshot("count the log");
            return told(attempt!(run, connection => laravel::stats(connection, table, filter).await).map_err(read)?);
        }
        let run = self.database.snapshot("count the log");
        attempt!(run, connection => numbers::stats(connection, filter).await).map_err(read)
    }

    async fn count(&self) -> Result<u64> {
        attempt!(self.database.single("count the log"), connection => numbers::count(connection).await).map_err(read)
    }

    async fn prune(&self, before: i64, limit: usize) -> Result<Pruned> {
        if let Some(table) = &self.table {
            let (run, some) = (self.database.write("prune the log"), limit.min(PRUNED_MAX));
            let step = attempt!(run, connection => laravel::prune(connection, table, before, some).await);
            return told(step.map_err(written)?);
        }
        let old = now_us().saturating_sub(amendments::KEPT_US);
        let run = self.database.write("prune the log");
        attempt!(run, connection => amendments::drop_old(connection, old).await).map_err(written)?;
        let mut pruned = Pruned::default();
        loop {
            let left = limit.saturating_sub(usize::try_from(pruned.rows).unwrap_or(usize::MAX));
            let (run, some) = (self.database.write("prune the log"), left.min(PRUNED_MAX));
            let step = attempt!(run, connection => numbers::prune(connection, before, some).await).map_err(written)?;
            pruned = Pruned { rows: pruned.rows + step.rows, finished: step.finished };
            if step.finished || step.rows == 0 || pruned.rows >= limit as u64 {
                return Ok(pruned);
            }
        }
    }

    async fn backup(&self, to: &Path) -> Result<u64> {
        backup::run(self, to).await
    }
}

/// What a table of an application's own cannot do is a matter of settings.
fn told<T>(told: std::result::Result<T, String>) -> Result<T> {
    told.map_err(|refused| Error::new(ErrorKind::Misconfigured, DRIVER, refused))
}

/// Names an error of a write.
fn written(error: auditq_mysql::Error) -> Error {
    let kind = match error.kind() {
        Kind::Unavailable => ErrorKind::Unavailable,
        Kind::Rejected => ErrorKind::Rejected,
        Kind::Corrupt => ErrorKind::Corrupt,
        Kind::Misconfigured => ErrorKind::Misconfigured,
    };
    Error::new(kind, DRIVER, error)
}

/// Names an error of a read, where a value that does not fit is one that somebody else put there.
fn read(error: auditq_mysql::Error) -> Error {
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
