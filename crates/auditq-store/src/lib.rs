//! The audit table: idempotent inserts, search and statistics over `audit_sql_logs`.

mod backup;
mod batch;
mod error;
mod foreign;
#[cfg(any(feature = "sqlite", feature = "mysql", feature = "postgres"))]
mod laravel;
mod own;
mod query;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

pub use backup::{BackupHeader, BackupLine, BackupReader, own_event};
pub use batch::{Amendment, Batch, Inserted};
pub use error::{Error, ErrorKind, Result};
pub use foreign::{AboutTable, ForeignColumn, ForeignRow, ForeignTable, ImportLog, Value, table_name};
#[cfg(any(feature = "sqlite", feature = "mysql", feature = "postgres"))]
pub use laravel::LaravelLayout;
pub use query::{Filter, LogPage, LogRow, Pruned, StatementStats, Stats, StatsFilter, UserStats};

/// Where audited statements are kept.
///
/// # Contract
/// 1. [`insert`](Self::insert) writes all of a batch or nothing; an `event_id` that is there already is skipped and
///    counted, not an error. Amendments may come before, with or after the event they amend, in any order and any
///    number of times, with the same result.
/// 2. An error says what the caller may do: see [`ErrorKind`].
/// 3. Rows come back as they went in: microseconds, NULLs, invalid UTF-8, emoji, 64-bit extremes.
///
/// The conformance suite (`conformance`, behind the feature of that name) holds the tests of each.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Writes a batch, durably, and says how much of it was new.
    ///
    /// # Errors
    /// `Rejected` when the batch holds an event that cannot be stored; nothing of it was written. `Unavailable` when
    /// the store does not answer; inserting the same batch again is safe.
    async fn insert(&self, batch: Arc<Batch>) -> Result<Inserted>;

    /// Makes `audit_sql_logs` and brings an older one up to date; does nothing when it is.
    ///
    /// # Errors
    /// `Misconfigured` when a table of that name has another shape, or the right to make it is missing.
    async fn migrate(&self) -> Result<()>;
}

/// What people ask of the audit table.
#[async_trait]
pub trait StoreReader: ImportLog + fmt::Debug + Send + Sync + 'static {
    /// Says whether the table is one that [`migrate`](Store::migrate) makes or takes; changes nothing.
    ///
    /// # Errors
    /// `Misconfigured` when it is missing, of another release, or of a shape that `migrate` refuses.
    async fn check(&self) -> Result<()>;

    /// One page of the log.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    async fn search(&self, filter: &Filter) -> Result<LogPage>;

    /// Numbers over a span of time.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    async fn stats(&self, filter: &StatsFilter) -> Result<Stats>;

    /// How many rows there are; an estimate is never given.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    async fn count(&self) -> Result<u64>;

    /// Removes up to `limit` of the rows that occurred before `before` (Unix microseconds), oldest first.
    ///
    /// The caller repeats it until nothing is left; each call is short, so that inserts go on between.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    async fn prune(&self, before: i64, limit: usize) -> Result<Pruned>;

    /// Writes a consistent copy to a new file while others go on writing; says how many rows are in it.
    ///
    /// Of a SQLite file it is the whole database; of a server's the audit table as [`BackupReader`] reads it.
    ///
    /// # Errors
    /// `Misconfigured` when the file exists already or cannot be written.
    async fn backup(&self, to: &Path) -> Result<u64>;
}
