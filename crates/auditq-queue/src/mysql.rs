//! MySQL and MariaDB: Laravel's `jobs` and `failed_jobs` tables.
//!
//! What Laravel has no column for lives in tables named `auditq_*`. A receipt is fenced by the row's id and its
//! attempts. Times are the server's, in whole seconds, as Laravel's are: a delay is rounded up, and a reservation lasts
//! up to two seconds longer than `retry_after`, never shorter.
//!
//! Messages are taken with SKIP LOCKED and settled by primary key in the order of their ids, under READ COMMITTED;
//! what still meets a deadlock is done again by itself. A search begins where the one before found nothing older,
//! because rows that are gone stay in the index until the server purges them. There is no trigger, which would take a
//! right that few users have: sizes are counted from an index up to 20,000 and said to be estimates beyond. The server
//! tells nobody that a message came: one that another process pushed is found within about a second.

mod among;
mod errors;
mod failed;
mod failed_jobs;
mod health;
mod schema;
mod sizes;
mod taking;
mod waiting;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use auditq_mysql::mysql_async::{self, Conn};
use auditq_mysql::{Database, attempt};
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::heads::Heads;
use crate::seconds::Time;
use crate::{
    Control, Error, ErrorKind, FailedFilter, FailedPage, MessageId, NewMessage, Queue, QueueAdmin, QueueName,
    QueueSizes, Receipt, Remainder, Reserved, Result, Selection, WallClock,
};

use errors::check;
pub use failed_jobs::MysqlFailedJobs;
pub use taking::Locked;
pub use waiting::delete_in;

const DRIVER: &str = "mysql";

/// How many messages one transaction moves or drops, so that others get their turn.
const CHUNK: usize = 500;

/// How long a waiting caller goes without looking, at the least; what this process pushes wakes it at once.
const LOOK_EVERY_MS: std::ops::Range<u64> = 1_000..1_250;

/// The last second that Laravel's unsigned columns hold.
const LAST_SECOND: i64 = u32::MAX as i64;

/// How often a push is done again that met another push of the same ids.
const SAME_PUSHES_MAX: u32 = 5;

/// How a queue in MySQL works.
#[derive(Clone, Debug)]
pub struct MysqlQueueOptions {
    /// How long a reservation lasts unless it is extended; rounded up to whole seconds. Defaults to 90 seconds.
    pub retry_after: Duration,
    /// Where the time comes from, for tests. Defaults to `None`: the server's clock, one for all workers.
    pub clock: Option<Arc<dyn Clock>>,
    /// What `failed_jobs.connection` says of messages that are buried here; failed jobs of another connection are
    /// someone else's and never touched. Defaults to `auditq`; a Laravel application calls it `mysql` or `database`.
    pub connection: String,
    /// The zone of the application, on whose wall `failed_jobs.failed_at` is read and written. Defaults to UTC.
    pub wall: WallClock,
}

impl Default for MysqlQueueOptions {
    fn default() -> Self {
        Self {
            retry_after: Duration::from_secs(90),
            clock: None,
            connection: "auditq".to_owned(),
            wall: WallClock::utc(),
        }
    }
}

/// A queue in a MySQL or MariaDB database.
#[derive(Debug)]
pub struct MysqlQueue {
    database: Database,
    options: MysqlQueueOptions,
    /// Counts what this process has made available.
    arrivals: watch::Sender<u64>,
    /// Where the next search of each queue begins.
    heads: Arc<Heads>,
    /// What callers knew when they found their queues empty.
    empty: Mutex<HashMap<Vec<QueueName>, Empty>>,
    attempts_max: OnceCell<u32>,
}

/// The state of things when some queues were found empty.
#[derive(Clone, Copy, Debug)]
struct Empty {
    arrivals: u64,
    /// When the next message becomes available by itself.
    due: Option<Instant>,
}

impl MysqlQueue {
    /// Uses the tables in `database`, which [`migrate`](QueueAdmin::migrate) makes.
    ///
    /// # Errors
    /// `Misconfigured` when `retry_after` is zero.
    pub fn open(database: Database, options: MysqlQueueOptions) -> Result<Self> {
        if options.retry_after.is_zero() {
            let message =
                "cannot open the queue: `retry_after` is 0, so every message would be handed out again at once";
            return Err(Error::new(ErrorKind::Misconfigured, DRIVER, message));
        }
        let (arrivals, _) = watch::channel(0);
        let heads = Arc::new(Heads::new(options.clock.as_ref()));
        Ok(Self { database, options, arrivals, heads, empty: Mutex::default(), attempts_max: OnceCell::new() })
    }

    /// The database it is in, so that a store in the same one can change both in one transaction.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The time, and the queues that are paused.
    async fn look(&self, connection: &mut Conn) -> mysql_async::Result<(Time, Vec<QueueName>)> {
        let (server, paused) = waiting::time_and_paused(connection).await?;
        let now = self.options.clock.as_ref().map_or(server, |clock| clock.now());
        Ok((Time::new(now, self.options.retry_after), paused))
    }

    async fn time(&self, connection: &mut Conn) -> mysql_async::Result<Time> {
        Ok(self.look(connection).await?.0)
    }

    /// Locks up to `limit` messages in the caller's transaction, those that [`reserve`](Queue::reserve) would take. The
    /// caller reserves or deletes them in it, and gives them to [`taken`](Self::taken) once it is committed.
    ///
    /// A store in the same database takes messages so, stores what they say and deletes them: all or nothing of it.
    ///
    /// # Errors
    /// As the server's; the caller must then undo its transaction.
    pub async fn lock_in(
        &self,
        connection: &mut Conn,
        queues: &[QueueName],
        limit: usize,
    ) -> mysql_async::Result<Locked> {
        let arrivals = *self.arrivals.borrow();
        let (time, paused) = self.look(connection).await?;
        let attempts_max = *self.attempts_max.get_or_try_init(|| schema::attempts_max(connection)).await?;
        // Each once: a transaction's own locks do not keep a second look from the same rows.
        let mut open: Vec<&QueueName> = Vec::with_capacity(queues.len());
        for queue in queues {
            if !paused.contains(queue) && !open.contains(&queue) {
                open.push(queue);
            }
        }
        let search = self.heads.begin(queues);
        taking::lock_next(connection, &open, (limit, attempts_max), search, (time, arrivals)).await
    }

    /// The messages, once the transaction that locked them is committed.
    pub fn taken(&self, queues: &[QueueName], locked: Locked) -> Vec<Reserved> {
        locked.search.end();
        if locked.messages.is_empty() {
            let due = locked.due.and_then(|due| Instant::now().checked_add(due));
            self.remember_empty(queues, Empty { arrivals: locked.arrivals, due });
        }
        locked.messages
    }

    async fn reserve_in(
        &self,
        connection: &mut Conn,
        queues: &[QueueName],
        limit: usize,
    ) -> mysql_async::Result<Locked> {
        let locked = self.lock_in(connection, queues, limit).await?;
        locked.reserve_in(connection).await?;
        Ok(locked)
    }

    async fn push_once(&self, batch: &[NewMessage], packet: usize) -> auditq_mysql::Result<()> {
        let target = (self.options.connection.as_str(), packet);
        attempt!(self.database.write("push messages"), connection => {
            match self.time(connection).await {
                Ok(time) => waiting::add(connection, batch, target, time).await,
                Err(error) => Err(error),
            }
        })
    }

    fn announce(&self) {
        self.arrivals.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn remember_empty(&self, queues: &[QueueName], found: Empty) {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        if empty.len() >= 64 && !empty.contains_key(queues) {
            // Callers ask for a handful of lists; forgetting one costs a look at the queue.
            empty.clear();
        }
        empty.insert(queues.to_vec(), found);
    }

    /// The largest payload that fits into a packet beside what stands around it.
    async fn packet(&self) -> Result<usize> {
        Ok(self.database.packet_bytes_max().await?.saturating_sub(1 << 16))
    }

    async fn check_remainders(&self, held: &[Remainder]) -> Result<()> {
        let packet = self.packet().await?;
        held.iter().try_for_each(|remainder| {
            let Some(payload) = &remainder.payload else { return Ok(()) };
            check(&remainder.receipt.id, payload, packet)
        })
    }

    /// One chunk of what was selected, put back or dropped.
    async fn settle_failed(
        &self,
        connection: &mut Conn,
        which: &Selection,
        newest: u64,
        back: bool,
    ) -> mysql_async::Result<usize> {
        let (time, name) = (self.time(connection).await?, self.options.connection.as_str());
        let rows = match which {
            Selection::Ids(ids) => failed::rows_of(connection, ids, name).await?,
            Selection::Matching { queue, older_than } => {
                let by = (self.options.wall.at(time.before(*older_than)), newest);
                failed::rows_matching(connection, queue.as_ref(), by, name, CHUNK).await?
            }
        };
        if back { failed::put_back(connection, &rows, time.now).await } else { failed::remove(connection, &rows).await }
    }

    async fn settle_all_failed(&self, operation: &'static str, which: &Selection, back: bool) -> Result<u64> {
        let newest = attempt!(self.database.single(operation), connection => failed::newest_row(connection).await)?;
        let mut total = 0;
        loop {
            let run = self.database.write(operation);
            let changed = attempt!(run, connection => self.settle_failed(connection, which, newest, back).await)?;
            total += changed as u64;
            if changed < CHUNK || matches!(which, Selection::Ids(_)) {
                return Ok(total);
            }
        }
    }
}

#[async_trait]
impl Queue for MysqlQueue {
    async fn push(&self, batch: &[NewMessage]) -> Result<()> {
        let packet = self.packet().await?;
        batch.iter().try_for_each(|message| check(&message.id, &message.payload, packet))?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.push_once(batch, packet).await {
                // Someone else pushed one of these ids at the same time: the next look finds it.
                Err(error) if error.code() == Some(1062) && tries < SAME_PUSHES_MAX => {}
                Err(error) => return Err(error.into()),
                Ok(()) => break,
            }
        }
        self.announce();
        Ok(())
    }

    async fn reserve(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Reserved>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let run = self.database.write("reserve messages");
        let locked = attempt!(run, connection => self.reserve_in(connection, queues, limit).await)?;
        Ok(self.taken(queues, locked))
    }

    async fn extend(&self, held: &[Receipt]) -> Result<Vec<Receipt>> {
        Ok(attempt!(self.database.write("extend reservations"), connection => {
            match self.time(connection).await {
                Ok(time) => waiting::hold_on(connection, held, time).await,
                Err(error) => Err(error),
            }
        })?)
    }

    async fn delete(&self, done: &[Receipt]) -> Result<Vec<Receipt>> {
        Ok(attempt!(self.database.write("delete messages"), connection => delete_in(connection, done).await)?)
    }

    async fn release(&self, held: &[Remainder], delay: Duration) -> Result<Vec<Receipt>> {
        self.check_remainders(held).await?;
        let stale = attempt!(self.database.write("release messages"), connection => {
            match self.time(connection).await {
                Ok(time) => waiting::give_back(connection, held, time.after(delay, LAST_SECOND)).await,
                Err(error) => Err(error),
            }
        })?;
        self.announce();
        Ok(stale)
    }

    async fn decline(&self, held: &[Receipt], delay: Duration) -> Result<Vec<Receipt>> {
        let stale = attempt!(self.database.write("decline messages"), connection => {
            match self.time(connection).await {
                Ok(time) => waiting::decline(connection, held, time.after(delay, LAST_SECOND)).await,
                Err(error) => Err(error),
            }
        })?;
        self.announce();
        Ok(stale)
    }

    async fn bury(&self, held: &[Remainder], reason: &str) -> Result<Vec<Receipt>> {
        self.check_remainders(held).await?;
        let name = self.options.connection.as_str();
        Ok(attempt!(self.database.write("bury messages"), connection => {
            match self.time(connection).await {
                Ok(time) => failed::bury(connection, held, reason, name, self.options.wall.at(time.now)).await,
                Err(error) => Err(error),
            }
        })?)
    }

    async fn wait(&self, queues: &[QueueName], at_most: Duration) {
        let mut arrivals = self.arrivals.subscribe();
        let known = self.empty.lock().unwrap_or_else(PoisonError::into_inner).get(queues).copied();
        let known = known.unwrap_or_else(|| Empty { arrivals: *self.arrivals.borrow(), due: None });
        // Another process may have pushed by then, and nobody tells.
        let look = Duration::from_millis(fastrand::u64(LOOK_EVERY_MS));
        let due = known.due.map_or(look, |due| due.saturating_duration_since(Instant::now()));
        let changed = arrivals.wait_for(|count| *count != known.arrivals);
        // Running out of time is one of the ways to return.
        drop(tokio::time::timeout(at_most.min(look).min(due), changed).await);
    }

    fn retry_after(&self) -> Duration {
        self.options.retry_after
    }
}

#[async_trait]
impl QueueAdmin for MysqlQueue {
    async fn migrate(&self) -> Result<()> {
        let collation = self.database.collation().await?;
        let run = self.database.locked("migrate the queue's tables", schema::LOCK);
        let mismatch = attempt!(run, connection => schema::migrate(connection, collation).await)?;
        mismatch.map_or(Ok(()), |mismatch| Err(Error::new(ErrorKind::Misconfigured, DRIVER, mismatch)))
    }

    async fn warnings(&self) -> Result<Vec<String>> {
        let run = self.database.single("read how durable messages are");
        Ok(attempt!(run, connection => health::warnings(connection).await)?)
    }

    async fn check(&self) -> Result<()> {
        let run = self.database.single("check the queue's tables");
        let obstacle = attempt!(run, connection => schema::check(connection, "").await)?;
        obstacle.map_or(Ok(()), |obstacle| Err(Error::new(ErrorKind::Misconfigured, DRIVER, obstacle)))
    }

    async fn sizes(&self, queue: &QueueName) -> Result<QueueSizes> {
        let name = self.options.connection.as_str();
        let run = self.database.snapshot("count messages");
        Ok(attempt!(run, connection => match self.time(connection).await {
            Ok(time) => sizes::count(connection, queue, name, time).await,
            Err(error) => Err(error),
        })?)
    }

    async fn queues(&self) -> Result<Vec<QueueName>> {
        let name = self.options.connection.as_str();
        Ok(attempt!(self.database.snapshot("list queues"), connection => failed::queues(connection, name).await)?)
    }

    async fn failed(&self, filter: &FailedFilter) -> Result<FailedPage> {
        let before = match &filter.after {
            Some(after) => after.parse().map_err(|_| {
                let message = format!("cannot list failed messages after {after:?}: it is not the `next` of a page");
                Error::new(ErrorKind::Rejected, DRIVER, message)
            })?,
            None => u64::MAX,
        };
        let (run, name) = (self.database.single("list failed messages"), self.options.connection.as_str());
        let page = attempt!(run, connection => failed::page(connection, filter, before, name).await)?;
        Ok(self.options.wall.page_in_utc(page))
    }

    async fn failed_payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        let (run, name) = (self.database.single("read a failed message"), self.options.connection.as_str());
        Ok(attempt!(run, connection => failed::payload(connection, id, name).await)?)
    }

    async fn retry(&self, which: &Selection) -> Result<u64> {
        let retried = self.settle_all_failed("retry failed messages", which, true).await?;
        self.announce();
        Ok(retried)
    }

    async fn forget(&self, which: &Selection) -> Result<u64> {
        self.settle_all_failed("forget failed messages", which, false).await
    }

    async fn clear(&self, queue: &QueueName) -> Result<u64> {
        let mut total = 0;
        loop {
            let run = self.database.write("clear a queue");
            let dropped = attempt!(run, connection => waiting::drop_some(connection, queue, CHUNK).await)?;
            total += dropped as u64;
            if dropped < CHUNK {
                return Ok(total);
            }
        }
    }

    async fn pause(&self, queue: &QueueName) -> Result<()> {
        let run = self.database.write("pause a queue");
        Ok(attempt!(run, connection => waiting::pause(connection, queue).await)?)
    }

    async fn resume(&self, queue: &QueueName) -> Result<()> {
        let run = self.database.write("resume a queue");
        attempt!(run, connection => waiting::resume(connection, queue).await)?;
        self.announce();
        Ok(())
    }

    async fn restart(&self) -> Result<()> {
        let run = self.database.write("ask for a restart");
        attempt!(run, connection => waiting::ask_for_restart(connection).await)?;
        self.announce();
        Ok(())
    }

    async fn control(&self) -> Result<Control> {
        let run = self.database.snapshot("read what is asked of workers");
        Ok(attempt!(run, connection => waiting::control(connection).await)?)
    }
}
