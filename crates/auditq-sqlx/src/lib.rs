//! Audits every statement that goes through a sqlx pool.
//!
//! [`AuditedPool`] stands where a pool of sqlx stood: `sqlx::query!`, `query_as`, `query_scalar`, streams and
//! transactions go on as they were.
//!
//! ```
//! use auditq::{Actor, ActorExt, Context, InContext, Recorder};
//! use auditq_sqlx::AuditedPool;
//! use sqlx::SqlitePool;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let mut config = auditq::Config::default();
//! # config.spool.dir = folder.path().to_owned();
//! # let audit = Recorder::open(&config)?;
//! let pool = AuditedPool::new(SqlitePool::connect("sqlite::memory:").await?, &audit);
//!
//! let work = async {
//!     let sum: i64 = sqlx::query_scalar("SELECT ? + ?").bind(2).bind(40).fetch_one(&pool).await?;
//!     let mut transaction = pool.begin().await?;
//!     sqlx::query("CREATE TABLE t (sum INTEGER)").execute(&mut transaction).await?;
//!     transaction.commit().await?;
//!     Ok::<_, sqlx::Error>(sum)
//! };
//! // In a web application `audit.layer(…)` does this for each request.
//! assert_eq!(work.audited(Context::of(Actor::user(1, "alice"))).await?, 42);
//! assert_eq!(audit.stats().recorded, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # What is recorded
//! The SQL, its typed bindings, how long it ran (not how long it waited for a connection), rows changed and read, the
//! error, whether the caller gave it up half-way, and what became of its transaction.
//!
//! # What is not
//! What runs on [`AuditedPool::inner`]: migrations, `COPY`, listeners, other crates that hold the pool. For those there
//! is `auditq::AuditqLayer`, which sees less. A statement that was prepared and never run. Of several statements in one
//! text, each by itself: the text is one event. `fetch_optional` and `fetch_one` read one row and no more, so the
//! driver does not say how many rows such a statement changed.
//!
//! Large blobs cost: in sqlx 0.9 their bytes can only be read from a `Debug` text, some milliseconds for a megabyte.

mod connection;
mod database;
mod generator;
mod pool;
mod run;
mod sqlite;
mod watch;

pub use connection::{AuditedConnection, AuditedTransaction};
pub use database::{AuditedDatabase, Ready, Step};
pub use pool::AuditedPool;
