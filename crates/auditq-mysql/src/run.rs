use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use crate::error::{Error, Kind, Result, is_broken, is_conflict};
use crate::pool::{Lease, Pool};

/// How often work that lost against another transaction is done again before the caller hears of it.
const CONFLICTS_MAX: u32 = 12;

/// Does some work on a connection, again when it lost against another transaction (a deadlock, or a lock that was not
/// free in time), and gives its result or the error.
///
/// ```ignore
/// attempt!(database.write("store events"), connection => insert(connection, &batch).await)
/// ```
///
/// The work gives a `mysql_async::Result`. When it is an error nothing is changed, unless the answer to the commit was
/// lost: then that is not known.
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
    pub async fn begin(&mut self) -> Result<&mut Conn> {
        let first = match self.mode {
            Mode::Write => "START TRANSACTION",
            Mode::Snapshot => "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            Mode::Single | Mode::Locked(_) => "DO 0",
        };
        let lease = self.lease.insert(self.pool.begin(self.operation, first).await?);
        let connection = lease.connection();
        match self.mode {
            Mode::Write | Mode::Single => {}
            Mode::Snapshot => {
                let begin = "START TRANSACTION READ ONLY";
                connection.query_drop(begin).await.map_err(|error| named(self.pool, self.operation, &error))?;
            }
            Mode::Locked(name) => {
                let lock = "SELECT GET_LOCK(CONCAT(?, sha1(database())), 30)";
                let got = connection.exec_first::<Option<i64>, _, _>(lock, (name,)).await;
                if got.map_err(|error| named(self.pool, self.operation, &error))?.flatten() != Some(1) {
                    let message = "another process has held the lock for it for 30 seconds";
                    return Err(Error::plain(Kind::Unavailable, self.operation, &self.pool.place, message));
                }
            }
        }
        Ok(connection)
    }

    /// Commits, or undoes; `None` when the work lost against another transaction and is to be done again.
    pub async fn end<T>(&mut self, worked: mysql_async::Result<T>) -> Option<Result<T>> {
        let error = match self.finish(worked).await {
            Ok(value) => return Some(Ok(value)),
            Err(error) => error,
        };
        self.conflicts += 1;
        if !is_conflict(&error) || self.conflicts >= CONFLICTS_MAX {
            return Some(Err(named(self.pool, self.operation, &error)));
        }
        tokio::time::sleep(jitter(self.conflicts)).await;
        None
    }

    async fn finish<T>(&mut self, worked: mysql_async::Result<T>) -> mysql_async::Result<T> {
        let Some(mut lease) = self.lease.take() else { return worked };
        if worked.as_ref().is_err_and(is_broken) {
            // The server undoes what it was in the middle of, and gives its locks back.
            return worked;
        }
        let connection = lease.connection();
        let ended = match (self.mode, &worked) {
            (Mode::Single, _) => Ok(()),
            (Mode::Locked(name), _) => {
                connection.exec_drop("DO RELEASE_LOCK(CONCAT(?, sha1(database())))", (name,)).await
            }
            (_, Ok(_)) => connection.query_drop("COMMIT").await,
            (_, Err(_)) => connection.query_drop("ROLLBACK").await,
        };
        if ended.is_ok() {
            lease.give_back();
        }
        let value = worked?;
        ended?;
        Ok(value)
    }
}

fn named(pool: &Pool, operation: &'static str, error: &mysql_async::Error) -> Error {
    Error::new(operation, &pool.place, error)
}

/// Some milliseconds, more with each conflict, and by chance, so that two do not meet again and again.
fn jitter(conflicts: u32) -> Duration {
    let most = 4_000_u64 << conflicts.min(6);
    Duration::from_micros(fastrand::u64(500..most))
}
