use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::{Error, Kind, Result};
use crate::follower::Follower;

/// How many waiting writes share one commit at the most.
const GROUP_MAX: usize = 64;

/// One write that waits for its turn: first `run` inside the transaction, then `finish` when its fate is known.
pub(crate) trait Write: Send {
    /// Runs it; on an error its changes must be undone.
    fn run(&mut self, connection: &Connection) -> Result<()>;
    /// Tells the caller: its own error, or what became of the commit.
    fn finish(self: Box<Self>, committed: std::result::Result<(), &Error>);
    /// True when nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    /// True when it must survive a power cut.
    fn is_durable(&self) -> bool;
}

/// A write whose caller waits for a `T`.
pub(crate) struct Pending<F, T> {
    pub(crate) operation: &'static str,
    pub(crate) path: Arc<PathBuf>,
    pub(crate) durable: bool,
    pub(crate) work: Option<F>,
    pub(crate) outcome: Option<Result<T>>,
    pub(crate) reply: oneshot::Sender<Result<T>>,
}

impl<F, T> Write for Pending<F, T>
where
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) -> Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let outcome = guarded(self.operation, &self.path, || work(connection));
        let error = outcome.as_ref().err().cloned();
        self.outcome = Some(outcome);
        error.map_or(Ok(()), Err)
    }

    fn finish(self: Box<Self>, committed: std::result::Result<(), &Error>) {
        let result = match (self.outcome, committed) {
            (Some(Err(own)), _) => Err(own),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (_, Err(shared)) => Err(shared.clone()),
            (None, Ok(())) => Err(Error::plain(Kind::Unavailable, self.operation, &self.path, "it was not run")),
        };
        // A caller that stopped waiting does not need its answer.
        drop(self.reply.send(result));
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn is_durable(&self) -> bool {
        self.durable
    }
}

/// Runs a caller's work; a panic in it is that caller's error and not the end of the thread.
pub(crate) fn guarded<T>(
    operation: &'static str,
    path: &Path,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> Result<T> {
    // What `work` can leave half-done is in the database, and is undone.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| Error::new(operation, path, &error)),
        Err(panic) => Err(Error::plain(Kind::Rejected, operation, path, format!("it panicked: {}", text_of(&*panic)))),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// The thread that writes: takes what waits, commits it together, answers.
pub(crate) struct Writer {
    pub(crate) path: Arc<PathBuf>,
    pub(crate) file: Follower,
    pub(crate) queue: Receiver<Box<dyn Write>>,
    pub(crate) commits: Arc<AtomicU64>,
}

impl Writer {
    /// Runs until every [`Database`](crate::Database) handle is gone.
    pub(crate) fn run(mut self) {
        while let Ok(first) = self.queue.recv() {
            let mut group = vec![first];
            group.extend(self.queue.try_iter().take(GROUP_MAX - 1));
            group.retain(|write| !write.is_abandoned());
            if group.is_empty() {
                continue;
            }
            let committed = self.commit_together(&mut group);
            for write in group {
                write.finish(committed.as_ref().copied());
            }
        }
        // Best effort: leaves one tidy file behind. The next opener does it otherwise.
        drop(self.file.current().execute_batch("PRAGMA optimize"));
    }

    fn commit_together(&mut self, group: &mut [Box<dyn Write>]) -> Result<()> {
        let connection = self.file.connection("write")?;
        let result = transact(connection, &self.path, group);
        if !connection.is_autocommit() {
            // Whatever failed, the next group must find no transaction open.
            drop(connection.execute_batch("ROLLBACK"));
        } else if result.is_ok() {
            self.commits.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

/// Runs the group in one transaction. One that is alone and fails leaves it open, to be rolled back.
fn transact(connection: &Connection, path: &Path, group: &mut [Box<dyn Write>]) -> Result<()> {
    let execute = |sql| connection.execute_batch(sql).map_err(|error| Error::new("write", path, &error));
    // NORMAL survives the end of the process and is synced by the next commit that is FULL.
    let durable = group.iter().any(|write| write.is_durable());
    execute(if durable { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })?;
    execute("BEGIN IMMEDIATE")?;
    if let [only] = group {
        return if only.run(connection).is_ok() { execute("COMMIT") } else { Ok(()) };
    }
    for write in group {
        execute("SAVEPOINT one")?;
        if let Err(error) = write.run(connection) {
            if connection.is_autocommit() {
                // A full disk or an I/O error undoes the whole transaction, not only the statement.
                let message = format!("another write of the same commit failed and undid it ({error})");
                return Err(Error::plain(Kind::Unavailable, "write", path, message));
            }
            execute("ROLLBACK TO one")?;
        }
        execute("RELEASE one")?;
    }
    execute("COMMIT")
}
