use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::error::Result;
use crate::listener::Listener;
use crate::options::Target;
use crate::pool::Pool;
use crate::run::{Mode, Run};

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// At most so many connections at a time. Defaults to 8.
    pub connections: usize,
    /// How long connecting may take. Defaults to 10 seconds.
    pub connect_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections: 8, connect_within: Duration::from_secs(10) }
    }
}

/// A database on a PostgreSQL server, with a few connections to it.
///
/// Handles are cheap to clone. Opening the same URL again in the same process gives the same connections. Nothing is
/// connected before the first operation; what is lost is connected anew by the next one.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Arc<Pool>,
}

/// The databases that are open in this process.
static OPEN: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());

impl Database {
    /// Reads a URL: `postgres://user:password@host:5432/database?sslmode=verify-full`.
    ///
    /// # Errors
    /// `Misconfigured` when the URL cannot be read or names no database; the message has no password.
    pub fn open(url: &str, options: Options) -> Result<Self> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|pool| pool.strong_count() > 0);
        if let Some(pool) = open.iter().filter_map(Weak::upgrade).find(|pool| pool.target.url == url) {
            return Ok(Self { pool });
        }
        let pool = Arc::new(Pool::new(Target::parse(url)?, options.connections, options.connect_within));
        open.push(Arc::downgrade(&pool));
        Ok(Self { pool })
    }

    /// The server and the database, for people: `postgres host:5432/audit`.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.pool.target.place
    }

    /// True when both are the same database in this process, so that one transaction can change what each looks after.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pool, &other.pool)
    }

    /// A transaction that changes something; it is run with [`attempt!`](crate::attempt).
    ///
    /// `operation` is a verb phrase for error messages.
    #[must_use]
    pub fn write(&self, operation: &'static str) -> Run<'_> {
        Run::new(&self.pool, operation, Mode::Write)
    }

    /// A transaction that only reads, on one snapshot of the database.
    #[must_use]
    pub fn snapshot(&self, operation: &'static str) -> Run<'_> {
        Run::new(&self.pool, operation, Mode::Snapshot)
    }

    /// No transaction: each statement is one of its own.
    #[must_use]
    pub fn single(&self, operation: &'static str) -> Run<'_> {
        Run::new(&self.pool, operation, Mode::Single)
    }

    /// A transaction, while no other caller in any process holds the lock `name` of this database: to change tables.
    ///
    /// Fails as `Unavailable` when another one holds the lock for 30 seconds.
    #[must_use]
    pub fn locked(&self, operation: &'static str, name: &'static str) -> Run<'_> {
        Run::new(&self.pool, operation, Mode::Locked(name))
    }

    /// Hears of notifications on `channel`, over a connection of its own that is made anew when it is lost.
    ///
    /// Inside a tokio runtime only. `None` where the URL says `listen=off`, as it must behind pgbouncer in transaction
    /// mode.
    #[must_use]
    pub fn listen(&self, channel: &'static str) -> Option<Listener> {
        self.pool.target.listen.then(|| Listener::start(Arc::clone(&self.pool), channel))
    }
}
