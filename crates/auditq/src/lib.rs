//! Records who read or changed what in the database, at about a microsecond a statement.
//!
//! An adapter (`auditq-sqlx` for sqlx) shows the [`Recorder`] every statement that the application runs. The recorder
//! asks the [`Context`] who it runs for, takes out secrets, counts repeats, and appends an event to a local log, the
//! spool, in memory-mapped files. From there `auditq work` brings it to the audit table. No database, network or async
//! runtime is involved in recording, and nothing that fails there reaches the application.
//!
//! ```
//! use auditq::{Actor, ActorOfRequest, Identify, Recorder};
//!
//! # #[derive(Clone)] struct Session { user: Option<(u64, String)> }
//! // What authentication leaves in a request's extensions says who is signed in.
//! impl Identify for Session {
//!     fn actor(&self) -> Option<Actor> {
//!         use auditq::ActorExt;
//!         self.user.as_ref().map(|(id, name)| Actor::user(id, name))
//!     }
//! }
//!
//! # fn main() -> Result<(), auditq::OpenError> {
//! # let folder = tempfile::tempdir().unwrap();
//! # std::env::set_current_dir(folder.path()).unwrap();
//! let audit = Recorder::from_env()?; // spool in ./auditq-spool unless told otherwise
//! let layer = audit.layer(Actor::from_extension::<Session>); // for axum's Router::layer
//! # let _: auditq::AuditLayer<_, ()> = layer;
//! # Ok(())
//! # }
//! ```
//!
//! Without an adapter, an event can be made by hand:
//!
//! ```
//! use std::time::Duration;
//!
//! use auditq::{Actor, ActorExt, Config, Context, Event, Recorder, StatementText};
//!
//! # fn main() -> Result<(), auditq::OpenError> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let mut config = Config::default();
//! # config.spool.dir = folder.path().to_owned();
//! # let audit = Recorder::open(&config)?;
//! Context::of(Actor::job("nightly clean-up")).run(|| {
//!     let sql = "DELETE FROM carts WHERE updated_at < '2026-01-01'".to_owned();
//!     let event = Event { statement: StatementText { sql, ..Default::default() }, ..Event::default() };
//!     audit.dispatch(event).delay(Duration::from_secs(60)).on_queue("high-priority");
//! });
//! assert_eq!(audit.stats().recorded, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What is recorded
//! Statements for which somebody is signed in: a user, a job or the application itself. Others are skipped and
//! counted, unless `track_anonymous` is set.
//!
//! The same statement asked again in one context, with the same bindings, result and transaction, adds to the count of
//! the first (`collapse`), is left out (`drop`) or is recorded again (`off`). What failed, or gave another number of
//! rows, is never taken for a repeat.
//!
//! # What survives
//! When [`Recorder::record`] returns, the event survives the death of the process; with `durability = "fsync"` also a
//! power cut. A spool whose disk fails is replaced by another as soon as one can be opened, and what was lost meanwhile
//! is counted and said in the log.

mod actor;
mod context;
mod dispatch;
mod duplicates;
mod error;
mod journal;
mod key;
mod observed;
mod recorder;
mod rules;
mod scratch;
mod seen;
mod settings;
mod statements;
mod stats;
#[cfg(feature = "tower")]
mod tower;
#[cfg(feature = "tracing")]
mod tracing_layer;
mod transaction;

pub use auditq_config::Config;
pub use auditq_event::{
    Actor, ActorType, Binding, Database, Event, Operation, Origin, OriginKind, Outcome, StatementText, Status, System,
    TransactionOutcome, Value,
};

pub use actor::{ActorExt, Identify};
pub use context::{Audited, Context, Entered, InContext, suppress};
pub use dispatch::Dispatch;
pub use error::OpenError;
pub use journal::now_us;
pub use observed::{Bindings, Observed, Source};
pub use recorder::Recorder;
pub use rules::Rules;
pub use seen::{Marked, SeenByAdapter};
pub use stats::Stats;
#[cfg(feature = "tower")]
pub use tower::{ActorOfRequest, AuditLayer, AuditService};
#[cfg(feature = "tracing")]
pub use tracing_layer::AuditqLayer;
pub use transaction::TransactionScope;
