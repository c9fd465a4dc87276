//! The embedded driver: Laravel's `jobs` and `failed_jobs` tables in a SQLite file.
//!
//! What Laravel has no column for lives in tables named `auditq_*`. A receipt is fenced by the row's id and its
//! attempts. Times are whole seconds, as Laravel's are: a delay is rounded up, and a reservation lasts up to two
//! seconds longer than `retry_after`, never shorter.

mod failed;
mod failed_jobs;
mod schema;
mod waiting;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use auditq_sqlite::{Database, FileState, Kind};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::clock::{Clock, SystemClock};
use crate::message::check_text;
use crate::seconds::Time;
use crate::{
    Control, Error, ErrorKind, FailedFilter, FailedPage, MessageId, NewMessage, Queue, QueueAdmin, QueueName,
    QueueSizes, Receipt, Remainder, Reserved, Result, Selection, WallClock,
};

pub use failed_jobs::SqliteFailedJobs;
pub use waiting::delete_in;

const DRIVER: &str = "sqlite";

/// How often a waiting caller looks whether another process has committed: two file look-ups, no query.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How many failed messages one transaction moves or drops, so that other writers get their turn.
const CHUNK: usize = 500;

/// How a queue in SQLite works.
#[derive(Clone, Debug)]
pub struct SqliteQueueOptions {
    /// How long a reservation lasts unless it is extended; rounded up to whole seconds. Defaults to 90 seconds.
    pub retry_after: Duration,
    /// Where the time comes from. Defaults to the machine's clock.
    pub clock: Arc<dyn Clock>,
    /// What `failed_jobs.connection` says of messages that are buried here; failed jobs of another connection are
    /// someone else's and never touched. Defaults to `auditq`; a Laravel application calls it `database`.
    pub connection: String,
    /// The zone of the application, on whose wall `failed_jobs.failed_at` is read and written. Defaults to UTC.
    pub wall: WallClock,
}

impl Default for SqliteQueueOptions {
    fn default() -> Self {
        Self {
            retry_after: Duration::from_secs(90),
            clock: Arc::new(SystemClock),
            connection: "auditq".to_owned(),
            wall: WallClock::utc(),
        }
    }
}

/// A queue in a SQLite file.
#[derive(Debug)]
pub struct SqliteQueue {
    database: Database,
    options: SqliteQueueOptions,
    /// Counts what this process has made available.
    arrivals: watch::Sender<u64>,
    /// What callers knew when they found their queues empty.
    empty: Mutex<HashMap<Vec<QueueName>, Empty>>,
}

/// The state of things just before some queues were found empty.
#[derive(Clone, Debug)]
struct Empty {
    file: (Option<FileState>, Option<FileState>),
    arrivals: u64,
    /// When the next message becomes available by itself, in Unix seconds.
    due: Option<i64>,
}

impl SqliteQueue {
    /// Uses the tables in `database`, which [`migrate`](QueueAdmin::migrate) makes.
    ///
    /// # Errors
    /// `Misconfigured` when `retry_after` is zero.
    pub fn open(database: Database, options: SqliteQueueOptions) -> Result<Self> {
        if options.retry_after.is_zero() {
            let message =
                "cannot open the queue: `retry_after` is 0, so every message would be handed out again at once";
            return Err(Error::new(ErrorKind::Misconfigured, DRIVER, message));
        }
        let (arrivals, _) = watch::channel(0);
        Ok(Self { database, options, arrivals, empty: Mutex::default() })
    }

    /// The file it is in, so that a store in the same file can change both in one transaction.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    fn time(&self) -> Time {
        Time::new(self.options.clock.now(), self.options.retry_after)
    }

    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        Ok(self.database.write(operation, work).await?)
    }

    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        Ok(self.database.read(operation, work).await?)
    }

    fn announce(&self) {
        self.arrivals.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn look(&self) -> Empty {
        Empty { file: self.database.state(), arrivals: *self.arrivals.borrow(), due: None }
    }

    fn was_empty(&self, queues: &[QueueName]) -> bool {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner).contains_key(queues)
    }

    fn forget_empty(&self, queues: &[QueueName]) {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner).remove(queues);
    }

    fn remember_empty(&self, queues: &[QueueName], found: Empty) {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        if empty.len() >= 64 && !empty.contains_key(queues) {
            // Callers ask for a handful of lists; forgetting one costs a look at the queue.
            empty.clear();
        }
        empty.insert(queues.to_vec(), found);
    }

    /// Repeats `step`, each time in a transaction of its own, until it finds less than a full chunk.
    async fn in_chunks<F>(&self, operation: &'static str, step: F) -> Result<u64>
    where
        F: Fn(&Connection) -> rusqlite::Result<usize> + Clone + Send + Sync + 'static,
    {
        let mut total = 0;
        loop {
            let step = step.clone();
            let changed = self.write(operation, move |connection| step(connection)).await?;
            total += changed as u64;
            if changed < CHUNK {
                return Ok(total);
            }
        }
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn push(&self, batch: &[NewMessage]) -> Result<()> {
        for message in batch {
            check_text(DRIVER, &message.id, &message.payload)?;
        }
        let (batch, time, connection_name) = (batch.to_vec(), self.time(), self.options.connection.clone());
        self.write("push messages", move |connection| waiting::add(connection, &batch, &connection_name, time)).await?;
        self.announce();
        Ok(())
    }

    async fn reserve(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Reserved>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let before = self.look();
        let (wanted, time) = (queues.to_vec(), self.time());
        if self.was_empty(queues) {
            // One query and no lock: that is all that an idle worker costs.
            let wanted = wanted.clone();
            let due = self.read("look for messages", move |c| waiting::first_due(c, &wanted, time)).await?;
            if due.is_none_or(|due| due > time.now) {
                self.remember_empty(queues, Empty { due, ..before });
                return Ok(Vec::new());
            }
        }
        // A power cut may undo it, and then nobody holds them: no loss, and one wait for the disk less for each batch.
        let (reserved, due) = self
            .database
            .write_relaxed("reserve messages", move |connection| {
                let reserved = waiting::take(connection, &wanted, limit, time)?;
                let due = if reserved.is_empty() { waiting::first_due(connection, &wanted, time)? } else { None };
                Ok((reserved, due))
            })
            .await?;
        if reserved.is_empty() {
            self.remember_empty(queues, Empty { due: due.filter(|due| *due > time.now), ..before });
        } else {
            self.forget_empty(queues);
        }
        Ok(reserved)
    }

    async fn extend(&self, held: &[Receipt]) -> Result<Vec<Receipt>> {
        let (held, time) = (held.to_vec(), self.time());
        Ok(self
            .database
            .write_relaxed("extend reservations", move |connection| waiting::hold_on(connection, &held, time))
            .await?)
    }

    async fn delete(&self, done: &[Receipt]) -> Result<Vec<Receipt>> {
        let done = done.to_vec();
        self.write("delete messages", move |connection| delete_in(connection, &done)).await
    }

    async fn release(&self, held: &[Remainder], delay: Duration) -> Result<Vec<Receipt>> {
        check_remainders(held)?;
        let (held, due) = (held.to_vec(), self.time().after(delay, i64::MAX));
        let stale =
            self.write("release messages", move |connection| waiting::give_back(connection, &held, due)).await?;
        self.announce();
        Ok(stale)
    }

    async fn decline(&self, held: &[Receipt], delay: Duration) -> Result<Vec<Receipt>> {
        let (held, due) = (held.to_vec(), self.time().after(delay, i64::MAX));
        let stale = self.write("decline messages", move |connection| waiting::decline(connection, &held, due)).await?;
        self.announce();
        Ok(stale)
    }

    async fn bury(&self, held: &[Remainder], reason: &str) -> Result<Vec<Receipt>> {
        check_remainders(held)?;
        let (held, time) = (held.to_vec(), self.time());
        let (reason, connection_name) = (reason.to_owned(), self.options.connection.clone());
        let failed_at = self.options.wall.at(time.now);
        self.write("bury messages", move |connection| {
            failed::bury(connection, &held, &reason, &connection_name, failed_at)
        })
        .await
    }

    async fn wait(&self, queues: &[QueueName], at_most: Duration) {
        let mut arrivals = self.arrivals.subscribe();
        let known = self.empty.lock().unwrap_or_else(PoisonError::into_inner).get(queues).cloned();
        let known = known.unwrap_or_else(|| self.look());
        let due = known.due.and_then(|due| u64::try_from(due).ok()).map(Duration::from_secs);
        let until = due.map_or(at_most, |due| at_most.min(due.saturating_sub(self.options.clock.now())));
        let changed = async {
            while *arrivals.borrow_and_update() == known.arrivals && self.database.state() == known.file {
                // Time passing is as good a reason to look again as an arrival.
                drop(tokio::time::timeout(LOOK_EVERY, arrivals.changed()).await);
            }
        };
        // Running out of time is one of the ways to return.
        drop(tokio::time::timeout(until, changed).await);
    }

    fn retry_after(&self) -> Duration {
        self.options.retry_after
    }
}

#[async_trait]
impl QueueAdmin for SqliteQueue {
    async fn migrate(&self) -> Result<()> {
        let now = self.time().now;
        let mismatch =
            self.write("migrate the queue's tables", move |connection| schema::migrate(connection, now)).await?;
        mismatch.map_or(Ok(()), |mismatch| Err(Error::new(ErrorKind::Misconfigured, DRIVER, mismatch)))
    }

    async fn check(&self) -> Result<()> {
        let obstacle = self.read("check the queue's tables", schema::check).await?;
        obstacle.map_or(Ok(()), |obstacle| Err(Error::new(ErrorKind::Misconfigured, DRIVER, obstacle)))
    }

    async fn sizes(&self, queue: &QueueName) -> Result<QueueSizes> {
        let (name, time, connection_name) = (queue.clone(), self.time(), self.options.connection.clone());
        let counted = self
            .read("count messages", move |connection| {
                if !schema::counts_are_kept(connection)? {
                    return Ok(None);
                }
                let (sizes, ripened) = waiting::count(connection, &name, time)?;
                Ok(Some((QueueSizes { failed: failed::count(connection, &name, &connection_name)?, ..sizes }, ripened)))
            })
            .await?;
        let Some((sizes, ripened)) = counted else {
            return Err(Error::new(ErrorKind::Misconfigured, DRIVER, schema::COUNTS_MISSING));
        };
        if ripened > waiting::RIPENED_MAX && !self.database.is_read_only() {
            // Counted once, not at each look.
            let name = queue.clone();
            self.write("count messages", move |connection| waiting::note_ripened(connection, &name, time.now)).await?;
        }
        Ok(sizes)
    }

    async fn queues(&self) -> Result<Vec<QueueName>> {
        let connection_name = self.options.connection.clone();
        self.read("list queues", move |connection| failed::queues(connection, &connection_name)).await
    }

    async fn failed(&self, filter: &FailedFilter) -> Result<FailedPage> {
        let before = match &filter.after {
            Some(after) => after.parse().map_err(|_| {
                let message = format!("cannot list failed messages after {after:?}: it is not the `next` of a page");
                Error::new(ErrorKind::Rejected, DRIVER, message)
            })?,
            None => i64::MAX,
        };
        let (filter, connection_name) = (filter.clone(), self.options.connection.clone());
        let page = move |connection: &Connection| failed::page(connection, &filter, before, &connection_name);
        Ok(self.options.wall.page_in_utc(self.read("list failed messages", page).await?))
    }

    async fn failed_payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        let (id, connection_name) = (id.clone(), self.options.connection.clone());
        self.read("read a failed message", move |connection| failed::payload(connection, &id, &connection_name)).await
    }

    async fn retry(&self, which: &Selection) -> Result<u64> {
        let (time, connection_name) = (self.time(), self.options.connection.clone());
        let retried = match which.clone() {
            Selection::Ids(ids) => {
                let retry = move |connection: &Connection| {
                    let rows = failed::rows_of(connection, &ids, &connection_name)?;
                    failed::put_back(connection, &rows, time.now)
                };
                self.write("retry failed messages", retry).await? as u64
            }
            Selection::Matching { queue, older_than } => {
                let until = self.options.wall.at(time.before(older_than));
                let newest = self.read("find failed messages", failed::newest_row).await?;
                let retry = move |connection: &Connection| {
                    let by = (until, newest);
                    let rows = failed::rows_matching(connection, queue.as_ref(), by, &connection_name, CHUNK)?;
                    failed::put_back(connection, &rows, time.now)
                };
                self.in_chunks("retry failed messages", retry).await?
            }
        };
        self.announce();
        Ok(retried)
    }

    async fn forget(&self, which: &Selection) -> Result<u64> {
        let connection_name = self.options.connection.clone();
        match which.clone() {
            Selection::Ids(ids) => {
                let forget = move |connection: &Connection| {
                    let rows = failed::rows_of(connection, &ids, &connection_name)?;
                    failed::remove(connection, &rows)
                };
                Ok(self.write("forget failed messages", forget).await? as u64)
            }
            Selection::Matching { queue, older_than } => {
                let until = self.options.wall.at(self.time().before(older_than));
                let newest = self.read("find failed messages", failed::newest_row).await?;
                let forget = move |connection: &Connection| {
                    let by = (until, newest);
                    let rows = failed::rows_matching(connection, queue.as_ref(), by, &connection_name, CHUNK)?;
                    failed::remove(connection, &rows)
                };
                self.in_chunks("forget failed messages", forget).await
            }
        }
    }

    async fn clear(&self, queue: &QueueName) -> Result<u64> {
        let queue = queue.clone();
        self.in_chunks("clear a queue", move |connection| waiting::drop_some(connection, &queue, CHUNK)).await
    }

    async fn pause(&self, queue: &QueueName) -> Result<()> {
        let queue = queue.clone();
        self.write("pause a queue", move |connection| waiting::pause(connection, &queue)).await
    }

    async fn resume(&self, queue: &QueueName) -> Result<()> {
        let queue = queue.clone();
        self.write("resume a queue", move |connection| waiting::resume(connection, &queue)).await?;
        self.announce();
        Ok(())
    }

    async fn restart(&self) -> Result<()> {
        self.write("ask for a restart", waiting::ask_for_restart).await?;
        self.announce();
        Ok(())
    }

    async fn control(&self) -> Result<Control> {
        self.read("read what is asked of workers", waiting::control).await
    }
}

fn check_remainders(held: &[Remainder]) -> Result<()> {
    held.iter().try_for_each(|remainder| {
        let Some(payload) = &remainder.payload else { return Ok(()) };
        check_text(DRIVER, &remainder.receipt.id, payload).map(|_| ())
    })
}

impl From<auditq_sqlite::Error> for Error {
    fn from(error: auditq_sqlite::Error) -> Self {
        let kind = match error.kind() {
            Kind::Unavailable => ErrorKind::Unavailable,
            Kind::Rejected => ErrorKind::Rejected,
            Kind::Corrupt => ErrorKind::Corrupt,
            Kind::Misconfigured => ErrorKind::Misconfigured,
        };
        Self::new(kind, DRIVER, error)
    }
}
