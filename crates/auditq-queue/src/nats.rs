//! NATS JetStream: a stream for each queue, and a ledger that says who holds what.
//!
//! A stream that is a work queue has no fence: its server takes a stale acknowledgement for a good one. So the server's
//! consumer only hands each new message to one of the workers. Whoever takes it writes a record into the ledger, and each
//! change of that names the record it takes for the last (`Nats-Expected-Last-Subject-Sequence`): of two, one is refused.
//! A message without a record was never taken; a record says that it is held, is available from a time on, is done, or was
//! given up. Every worker follows the ledger, and so knows what has lapsed or is due without asking.
//!
//! No step spans two streams, so each comes in an order in which a crash leaves something that says what is to be done, and
//! doing it twice changes nothing; see docs/adr/0010. Times are the server's. Ids are known within a queue.

mod admin;
mod desk;
mod errors;
mod failed;
mod fetch;
mod link;
mod mirror;
mod names;
mod parts;
mod record;
mod settle;
mod streams;
mod time;
mod url;
mod waiting;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::message::RESERVED_BYTES_MAX;
use crate::{Error, ErrorKind, NewMessage, Queue, QueueName, Receipt, Remainder, Reserved, Result};
use desk::Desk;
use link::Link;
use names::{Names, token};
use settle::Fate;
use time::Time;

const DRIVER: &str = "nats";

/// How long a waiting caller goes without looking; what comes wakes it at once, unless that is lost on its way.
const LOOK_EVERY_MS: std::ops::Range<u64> = 4_000..5_000;

/// A queue's name where it is paused.
type QueueNote = Option<QueueName>;

/// How a queue in NATS works.
#[derive(Clone, Debug)]
pub struct NatsQueueOptions {
    /// How long a reservation lasts unless it is extended. Defaults to 90 seconds.
    pub retry_after: Duration,
    /// Where the time comes from, for tests. Defaults to `None`: the server's clock, one for all workers.
    pub clock: Option<Arc<dyn Clock>>,
}

impl Default for NatsQueueOptions {
    fn default() -> Self {
        Self { retry_after: Duration::from_secs(90), clock: None }
    }
}

/// A queue on a NATS server, or a cluster of them, with JetStream.
#[derive(Debug)]
pub struct NatsQueue {
    desk: Arc<Desk>,
    /// What follows the ledger and cleans up, once the queue is used.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// How many arrivals there had been when callers found their queues empty.
    empty: Mutex<HashMap<Vec<QueueName>, u64>>,
}

impl Drop for NatsQueue {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl NatsQueue {
    /// Uses the servers in `url`: `nats://USER:PASSWORD@HOST:4222`, `nats://TOKEN@HOST`, `tls://` with TLS.
    ///
    /// Several hosts (`nats://a,b,c`) are those of one cluster. `/PREFIX` is what the names of streams begin with, `auditq`
    /// without it. `?replicas=3` has each stream on three servers. `creds=FILE` logs in with a file, `ca=FILE` trusts a
    /// certificate, `cert=FILE&key=FILE` is the client's own. Connects later.
    ///
    /// # Errors
    /// `Misconfigured` when `retry_after` is zero or the URL cannot be read.
    pub fn open(url: &str, options: NatsQueueOptions) -> Result<Self> {
        if options.retry_after.is_zero() {
            let message =
                "cannot open the queue: `retry_after` is 0, so every message would be handed out again at once";
            return Err(Error::new(ErrorKind::Misconfigured, DRIVER, message));
        }
        let target = url::read(url)?;
        // Whoever else has chosen how TLS is done in this process has done it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let names = Names::new(&target.prefix);
        let desk = Desk::new(Link::new(target), names, Time::new(options.clock), options.retry_after);
        Ok(Self { desk: Arc::new(desk), tasks: Mutex::default(), empty: Mutex::default() })
    }

    /// The desk, once there is a connection and the ledger was read.
    async fn desk(&self) -> Result<&Desk> {
        self.desk.prepare().await?;
        {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            if tasks.is_empty() || tasks.iter().any(JoinHandle::is_finished) {
                tasks.iter().for_each(JoinHandle::abort);
                *tasks = vec![
                    tokio::spawn(watch::follow(Arc::clone(&self.desk))),
                    tokio::spawn(watch::clean_up(Arc::clone(&self.desk))),
                ];
            }
        }
        self.desk.read_once().await?;
        Ok(&self.desk)
    }

    fn remember_empty(&self, queues: &[QueueName], arrivals: u64) {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        if empty.len() >= 64 && !empty.contains_key(queues) {
            // Callers ask for a handful of lists; forgetting one costs a look at the queue.
            empty.clear();
        }
        empty.insert(queues.to_vec(), arrivals);
    }

    /// In how long a message becomes available by itself.
    fn next_due(&self, queues: &[QueueName]) -> Option<Duration> {
        let (time, books) = (self.desk.lapse(), self.desk.books());
        let tokens = queues.iter().map(|queue| token(queue.as_str()));
        // What is held of a queue whose stream somebody removed is nothing to come for.
        let open = tokens.filter(|queue| self.desk.is_known(queue) && !books.current.is_paused(queue));
        let next = open.filter_map(|queue| books.current.next_due(&queue, time.retry_after)).min();
        next.map(|at| Duration::from_micros(at.saturating_sub(time.now)))
    }
}

fn whole(receipts: &[Receipt]) -> impl Iterator<Item = (&Receipt, Option<&bytes::Bytes>)> {
    receipts.iter().map(|receipt| (receipt, None))
}

fn parts(held: &[Remainder]) -> impl Iterator<Item = (&Receipt, Option<&bytes::Bytes>)> {
    held.iter().map(|remainder| (&remainder.receipt, remainder.payload.as_ref()))
}

#[async_trait]
impl Queue for NatsQueue {
    async fn push(&self, batch: &[NewMessage]) -> Result<()> {
        self.desk().await?.push(batch).await
    }

    async fn reserve(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Reserved>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let desk = self.desk().await?;
        let arrivals = *desk.arrivals.borrow();
        let (mut reserved, mut bytes) = (Vec::new(), 0);
        for queue in queues {
            if reserved.len() >= limit || bytes >= RESERVED_BYTES_MAX {
                break;
            }
            if desk.books().current.is_paused(&token(queue.as_str())) {
                continue;
            }
            let taken = desk.reserve(queue, limit - reserved.len(), RESERVED_BYTES_MAX - bytes).await?;
            bytes += taken.iter().map(|message| message.payload.len()).sum::<usize>();
            reserved.extend(taken);
        }
        if reserved.is_empty() {
            self.remember_empty(queues, arrivals);
        }
        Ok(reserved)
    }

    async fn extend(&self, held: &[Receipt]) -> Result<Vec<Receipt>> {
        self.desk().await?.settle(whole(held), Fate::Extend).await
    }

    async fn delete(&self, done: &[Receipt]) -> Result<Vec<Receipt>> {
        self.desk().await?.settle(whole(done), Fate::Done).await
    }

    async fn release(&self, held: &[Remainder], delay: Duration) -> Result<Vec<Receipt>> {
        settle::check(held)?;
        let desk = self.desk().await?;
        let stale = desk.settle(parts(held), Fate::Free(delay, 0)).await?;
        desk.wake().await?;
        Ok(stale)
    }

    async fn decline(&self, held: &[Receipt], delay: Duration) -> Result<Vec<Receipt>> {
        let desk = self.desk().await?;
        let stale = desk.settle(whole(held), Fate::Free(delay, 1)).await?;
        desk.wake().await?;
        Ok(stale)
    }

    async fn bury(&self, held: &[Remainder], reason: &str) -> Result<Vec<Receipt>> {
        settle::check(held)?;
        self.desk().await?.settle(parts(held), Fate::Buried(reason)).await
    }

    async fn wait(&self, queues: &[QueueName], at_most: Duration) {
        let mut arrivals = self.desk.arrivals.subscribe();
        let known = self.empty.lock().unwrap_or_else(PoisonError::into_inner).get(queues).copied();
        let known = known.unwrap_or_else(|| *arrivals.borrow());
        let look = Duration::from_millis(fastrand::u64(LOOK_EVERY_MS));
        let due = self.next_due(queues).unwrap_or(look);
        let changed = arrivals.wait_for(|count| *count != known);
        // Running out of time is one of the ways to return.
        drop(tokio::time::timeout(at_most.min(look).min(due), changed).await);
    }

    fn retry_after(&self) -> Duration {
        self.desk.retry_after
    }
}
