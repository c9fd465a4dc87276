//! MySQL and MariaDB connections, set up and with named errors, shared by auditq's queue and store.
//!
//! A [`Database`] is a few connections to one database. Each is set up alike: READ COMMITTED, strict mode, UTC,
//! utf8mb4. A write is one transaction, run again by itself when it meets a deadlock. Queue and store that name the
//! same URL get the same [`Database`], and with it the means to change both in one transaction.
//!
//! Everything here is for MySQL 8.0.17 and MariaDB 10.6 or later, and the SQL of queue and store is what both take.
//! Where they differ: MariaDB calls the exact collation `utf8mb4_nopad_bin`, MySQL `utf8mb4_0900_bin`
//! ([`Database::collation`]).

mod database;
mod error;
mod options;
mod parts;
mod pool;
mod run;
mod server;
#[cfg(feature = "testing")]
pub mod testing;

pub use database::{Database, Options};
pub use error::{Error, Kind, Result};
pub use mysql_async;
pub use parts::parts;
pub use run::Run;
pub use server::end_when_silent;
