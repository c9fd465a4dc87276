//! PostgreSQL connections, set up and with named errors, shared by auditq's queue and store.
//!
//! A [`Database`] is a few connections to one database. A write is one READ COMMITTED transaction, run again by itself
//! when it meets a deadlock. Queue and store that name the same URL get the same [`Database`], and with it the means to
//! change both in one transaction.
//!
//! Everything here works behind pgbouncer in transaction mode, which gives each transaction another server connection:
//! settings are made for a transaction, locks are held for a transaction, and no statement is prepared under a name.
//! Only a [`Listener`] needs a connection that is its own.
//!
//! For PostgreSQL 12 or later.

mod connection;
mod database;
mod error;
mod listener;
mod options;
mod pool;
mod run;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;

pub use connection::Conn;
pub use database::{Database, Options};
pub use error::{Error, Fault, Kind, Result, Worked};
pub use listener::Listener;
pub use run::Run;
pub use tokio_postgres;
