use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::error::{CONNECT, Error, Kind, Result};
use crate::options;
use crate::pool::Pool;
use crate::run::{Mode, Run};
use crate::server::Server;

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

/// A database on a MySQL or MariaDB server, with a few connections to it.
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
    /// Reads a URL: `mysql://user:password@host:3306/database?ssl-mode=verify_identity`.
    ///
    /// # Errors
    /// `Misconfigured` when the URL cannot be read or names no database; the message has no password.
    pub fn open(url: &str, options: Options) -> Result<Self> {
        let (opts, place) = options::parse(url)?;
        if opts.ssl_opts().is_some() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // An error says that another thread was faster.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|pool| pool.strong_count() > 0);
        if let Some(pool) = open.iter().filter_map(Weak::upgrade).find(|pool| *pool.opts() == opts) {
            return Ok(Self { pool });
        }
        let pool = Arc::new(Pool::new(opts, &place, options.connections, options.connect_within));
        open.push(Arc::downgrade(&pool));
        Ok(Self { pool })
    }

    /// The server and the database, for people: `mysql host:3306/audit`.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.pool.place
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

    /// No transaction, while no other caller in any process holds the lock `name` of this database: to change tables.
    ///
    /// Fails as `Unavailable` when another one holds the lock for 30 seconds.
    #[must_use]
    pub fn locked(&self, operation: &'static str, name: &'static str) -> Run<'_> {
        Run::new(&self.pool, operation, Mode::Locked(name))
    }

    /// The largest packet that the server takes, in bytes; a statement with its values must fit.
    ///
    /// # Errors
    /// As of connecting, when there was no connection yet.
    pub async fn packet_bytes_max(&self) -> Result<usize> {
        Ok(self.server().await?.packet_max)
    }

    /// The collation that compares exactly, trailing spaces included: the one name in which the two servers differ.
    ///
    /// # Errors
    /// As of connecting, when there was no connection yet.
    pub async fn collation(&self) -> Result<&'static str> {
        Ok(if self.server().await?.is_mariadb { "utf8mb4_nopad_bin" } else { "utf8mb4_0900_bin" })
    }

    async fn server(&self) -> Result<Server> {
        if let Some(server) = self.pool.server() {
            return Ok(server);
        }
        self.pool.begin(CONNECT, "DO 0").await?.give_back();
        let missing = || Error::plain(Kind::Unavailable, CONNECT, &self.pool.place, "the server says nothing");
        self.pool.server().ok_or_else(missing)
    }
}
