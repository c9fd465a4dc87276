//! One writer thread per SQLite file, with group commit, shared by auditq's queue and store.
//!
//! SQLite has one writer at a time. Instead of several connections that meet in `SQLITE_BUSY`, each process has one
//! [`Database`] per file: writes queue up for its thread, and all that wait are committed together, so that a
//! durable commit is paid once for many callers. Queue and store that name the same file get the same [`Database`],
//! and with it the means to change both in one transaction.

mod closing;
mod connection;
mod database;
mod error;
mod follower;
mod writer;

pub use closing::wait_until_closed;
pub use database::{Database, FileState, Options};
pub use error::{Error, Kind, Result};
pub use rusqlite;
