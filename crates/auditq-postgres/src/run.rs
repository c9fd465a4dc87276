use std::time::Duration;

use crate::connection::Conn;
use crate::error::{Error, Fault, Kind, Result, Worked};
use crate::pool::{Lease, Pool};

/// How often work that lost against another transaction is done again before the caller hears of it.
const CONFLICTS_MAX: u32 = 12;

/// A lock that is not free soon is asked for again; a client that hangs must not hold its locks for ever.
const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '5s'; \
                     SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Does some work on a connection, again when it lost against another transaction (a deadlock, or a lock that was not
/// free in time), and gives its result or the error.
///
/// ```ignore
/// attempt!(database.write("store events"), connection => insert(connection, &batch).await)
/// ```
///
/// The work gives a [`Worked`]. When it is an error nothing is changed, unless the answer to the commit was lost: then
/// that is not known.
#[macro_export]
macro_rules! attempt {
    ($run:expr, $connection:ident => $work:expr) => {{
        let mut run = $run;
        loop {
            let worked = match run.begin().await {
                Ok($connection) => $work,
                Err(error) => break Err(error),
            };
            if let Some(done) = run.end(worked).await {
                break done;
            }
        }
    }};
}

/// What stands around some work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    Write,
    Snapshot,
    Single,
    Locked(&'static str),
}

/// Some work to be done on a connection, and what stands around it. Dropped in the middle, it is undone.
#[derive(Debug)]
pub struct Run<'d> {
    pool: &'d Pool,
    operation: &'static str,
    mode: Mode,
    lease: Option<Lease<'d>>,
    conflicts: u32,
}

impl<'d> Run<'d> {
    pub(crate) fn new(pool: &'d Pool, operation: &'static str, mode: Mode) -> Self {
        Self { pool, operation, mode, lease: None, conflicts: 0 }
    }

    /// Takes a connection and begins.
    ///
    /// # Errors
    /// `Unavailable` when the server does not answer, `Misconfigured` when it does not let us in.
    pub async fn begin(&mut self) -> Result<&Conn> {
        let locked;
        let first = match self.mode {
            Mode::Write => WRITE,
            Mode::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            // Empty: says whether the connection is alive.
            Mode::Single => "",
            Mode::Locked(name) => {
                locked = format!(
                    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '30s'; \
                     SELECT pg_advisory_xact_lock(hashtext('{name}'))"
                );
                &locked
            }
        };
        match self.pool.begin(self.operation, first).await {
            Ok(lease) => Ok(&self.lease.insert(lease).connection),
            Err(error) if error.code() == Some("55P03") => {
                let message = "another process has held the lock for it for 30 seconds";
                Err(Error::plain(Kind::Unavailable, self.operation, &self.pool.target.place, message))
            }
            Err(error) => Err(error),
        }
    }

    /// Commits, or undoes; `None` when the work lost against another transaction and is to be done again.
    pub async fn end<T>(&mut self, worked: Worked<T>) -> Option<Result<T>> {
        let fault = match self.finish(worked).await {
            Ok(value) => return Some(Ok(value)),
            Err(fault) => fault,
        };
        self.conflicts += 1;
        let again = fault.is_conflict() && !matches!(self.mode, Mode::Locked(_)) && self.conflicts < CONFLICTS_MAX;
        if !again {
            return Some(Err(Error::new(self.operation, &self.pool.target.place, &fault)));
        }
        tokio::time::sleep(jitter(self.conflicts)).await;
        None
    }

    async fn finish<T>(&mut self, worked: Worked<T>) -> Worked<T> {
        let Some(lease) = self.lease.take() else { return worked };
        if worked.as_ref().is_err_and(|fault| fault.is_broken(&lease.connection)) {
            // The server undoes what it was in the middle of, and gives its locks back.
            return worked;
        }
        let last = match (self.mode, &worked) {
            (Mode::Single, _) => None,
            (_, Ok(_)) => Some("COMMIT"),
            (_, Err(_)) => Some("ROLLBACK"),
        };
        let ended = match last {
            Some(sql) => lease.connection.batch_execute(sql).await.map_err(Fault::from),
            None => Ok(()),
        };
        if ended.is_ok() {
            lease.give_back();
        }
        let value = worked?;
        ended?;
        Ok(value)
    }
}

/// Some milliseconds, more with each conflict, and by chance, so that two do not meet again and again.
fn jitter(conflicts: u32) -> Duration {
    let most = 4_000_u64 << conflicts.min(6);
    Duration::from_micros(fastrand::u64(500..most))
}
