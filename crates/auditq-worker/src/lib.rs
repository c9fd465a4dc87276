//! Moves audited statements from spool to queue to store; runs inside an application or on its own.
//!
//! [`Forwarder`] reads the spools of this host into the queue, [`Worker`] turns messages into rows, and [`Runner`]
//! runs both as the configuration says.

mod at_once;
mod cache;
mod delivery;
mod engines;
mod forwarder;
mod halving;
mod inbox;
mod laravel;
mod limits;
#[cfg(feature = "mysql")]
mod mysql;
mod observer;
mod parcel;
mod patience;
#[cfg(feature = "postgres")]
mod postgres;
mod retry;
mod runner;
mod settlement;
mod shutdown;
mod signs;
#[cfg(feature = "sqlite")]
mod sqlite;
mod worker;

pub use delivery::stored_of_queries;
pub use engines::{Engines, laravel_layout};
pub use forwarder::Forwarder;
pub use inbox::InboxStatus;
pub use laravel::{LaravelError, LaravelJobs, laravel_decoder};
pub use limits::{Budget, Limits, resident_bytes};
pub use observer::{Observer, StopReason, WorkEvent};
pub use retry::{Decision, Failure, RetryPolicy};
pub use runner::{RunError, Runner, Running};
pub use settlement::{Next, Rows, SettleError, SettleNext, Settled, Settlement, StoreThenDelete};
pub use shutdown::Shutdown;
pub use signs::Closed;
pub use worker::{Worker, WorkerOptions};
