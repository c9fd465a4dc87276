//! The audit table in a PostgreSQL database.
//!
//! The same columns and indexes as everywhere. One statement adds any number of rows, given as arrays, one for each
//! column: such a statement works behind pgbouncer, and skips what is there already, which COPY cannot.

mod amendments;
mod backup;
mod columns;
mod foreign;
mod imports;
mod insert;
mod laravel;
mod lock;
mod numbers;
mod partitions;
mod rows;
mod schema;
mod search;

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use auditq_postgres::{Conn, Database, Kind, Worked, attempt};

pub use foreign::PostgresTable;

use crate::laravel::Table;
use crate::{
    Batch, Error, ErrorKind, Filter, Inserted, LaravelLayout, LogPage, Pruned, Result, Stats, StatsFilter, Store,
    StoreReader,
};

const DRIVER: &str = "postgres";

/// How many rows one statement of a prune removes at the most, so that inserts get their turn.
const PRUNED_MAX: usize = 5_000;

/// The audit table in a PostgreSQL database.
///
/// A batch that was inserted is as durable as `synchronous_commit` makes it: on the disk with `on`, the server's
/// default. Handles are cheap to clone.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    database: Database,
    monthly: bool,
    /// The application's own table, where it is that.
    table: Option<Arc<Table>>,
}

impl PostgresStore {
    /// Looks after `audit_sql_logs` in `database`; [`migrate`](Store::migrate) makes it where it is not there yet.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, monthly: false, table: None }
    }

    /// Fills the table that a Laravel application made, which stays as it is.
    #[must_use]
    pub fn with_layout(self, layout: LaravelLayout) -> Self {
        Self { table: Some(Arc::new(Table::new(layout))), ..self }
    }

    /// Writes a batch inside the caller's transaction, so that other changes can be committed with it.
    ///
    /// All of it is written, or an error says that the transaction must be rolled back.
    ///
    /// # Errors
    /// What the server reports; a value that a column does not take among it.
    pub async fn insert_in(&self, connection: &Conn, batch: &Batch) -> Worked<Inserted> {
        match &self.table {
            Some(table) => laravel::insert_in(connection, table, batch).await,
            None => insert::insert_in(connection, batch).await,
        }
    }

    /// Makes a new table with a partition for each month. One that is there and not partitioned is refused by
    /// [`migrate`](Store::migrate); one that is partitioned is kept so, whatever is said here.
    #[must_use]
    pub fn partitioned_by_month(self) -> Self {
        Self { monthly: true, ..self }
    }

    /// The database, for [`insert_in`](Self::insert_in) inside a transaction that changes more than the log.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn insert(&self, batch: Arc<Batch>) -> Result<Inserted> {
        let run = self.database.write("store events");
        attempt!(run, connection => self.insert_in(connection, &batch).await).map_err(written)
    }

    async fn migrate(&self) -> Result<()> {
        if let Some(table) = &self.table {
            let run = self.database.locked("look at the audit table", schema::LOCK);
            return told(attempt!(run, connection => laravel::migrate(connection, table).await).map_err(written)?);
        }
        let (place, now) = (self.database.place(), now_us());
        let run = self.database.locked("migrate the audit table", schema::LOCK);
        let migrated = attempt!(run, connection => schema::migrate(connection, place, self.monthly, now).await);
        migrated.map_err(written)?.map_err(|obstacle| Error::new(ErrorKind::Misconfigured, DRIVER, obstacle))
    }
}

#[async_trait]
impl StoreReader for PostgresStore {
    async fn check(&self) -> Result<()> {
        let run = self.database.single("check the audit table");
        if let Some(table) = &self.table {
            return told(attempt!(run, connection => laravel::check(connection, table).await).map_err(read)?);
        }
        let place = self.database.place();
        let checked =
            attempt!(run, connection => schema::check(connection, place, self.monthly).await).map_err(read)?;
        checked.map_err(|obstacle| Error::new(ErrorKind::Misconfigured, DRIVER, obstacle))
    }

    async fn search(&self, filter: &Filter) -> Result<LogPage> {
        if let Some(table) = &self.table {
            let run = self.database.single("search the log");
            return told(attempt!(run, connection => laravel::search(connection, table, filter).await).map_err(read)?);
        }
        let until = if filter.stored_after.is_some() {
            let run = self.database.write("search the log");
            Some(attempt!(run, connection => search::settled(connection).await).map_err(read)?)
        } else {
            None
        };
        let run = self.database.single("search the log");
        attempt!(run, connection => search::search(connection, filter, until).await).map_err(read)
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
        // Whole months first: dropping one costs nothing.
        if attempt!(self.database.single("prune the log"), connection => partitions::is_partitioned(connection).await)
            .map_err(written)?
        {
            loop {
                let run = self.database.write("prune the log");
                let dropped = attempt!(run, connection => partitions::drop_oldest(connection, before).await);
                let Some(rows) = dropped.map_err(written)? else { break };
                pruned.rows += rows;
            }
            let run = self.database.locked("make partitions", schema::LOCK);
            attempt!(run, connection => partitions::create_ahead(connection).await).map_err(written)?;
        }
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
fn written(error: auditq_postgres::Error) -> Error {
    let kind = match error.kind() {
        Kind::Unavailable => ErrorKind::Unavailable,
        Kind::Rejected => ErrorKind::Rejected,
        Kind::Corrupt => ErrorKind::Corrupt,
        Kind::Misconfigured => ErrorKind::Misconfigured,
    };
    Error::new(kind, DRIVER, error)
}

/// Names an error of a read, where a value that does not fit is one that somebody else put there.
fn read(error: auditq_postgres::Error) -> Error {
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
